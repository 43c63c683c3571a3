package probe

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"

	"muster/agent/facts"
)

// A partitionTable is a GPT (UEFI 2.10, section 5.3) or an MBR.
type partitionTable struct {
	kind    string // gpt, dos; "" when there is none
	uuid    string
	entries map[int]partitionEntry // by number
}

type partitionEntry struct {
	kind      string // GPT type GUID, or 0x83
	uuid      string
	name      string
	container bool // an extended partition, which only holds others
}

// readTable reads the partition table of a disk of size bytes. plain says that no signature was found on the whole
// disk: the boot sector of a file system ends like an MBR.
func readTable(r io.ReaderAt, size, blockBytes int64, plain bool) partitionTable {
	mbr := make([]byte, 512)
	if n, _ := r.ReadAt(mbr, 0); n < len(mbr) {
		return partitionTable{}
	}
	for _, lba := range blockSizes(blockBytes) {
		if t, ok := readGPT(r, size, lba); ok {
			return t
		}
	}
	if !plain || binary.LittleEndian.Uint16(mbr[510:]) != 0xaa55 {
		return partitionTable{}
	}
	return readMBR(r, size, mbr)
}

// blockSizes are the sizes a table can be written in, that of the disk first: an image may have been copied from a
// disk with another one.
func blockSizes(own int64) []int64 {
	switch own {
	case 4096:
		return []int64{4096, 512}
	default:
		return []int64{512, 4096}
	}
}

// readGPT reads the table at the front or, when that is damaged, at the end. A header whose table is damaged in both
// places still says that the disk is not empty.
func readGPT(r io.ReaderAt, size, lba int64) (partitionTable, bool) {
	front, frontOK := gptHeader(r, lba, lba)
	if frontOK {
		if t, ok := gptEntries(r, front, lba); ok {
			return t, true
		}
	}
	if back, ok := gptHeader(r, size-lba, lba); ok {
		if t, ok := gptEntries(r, back, lba); ok {
			return t, true
		}
	}
	if front != nil {
		return partitionTable{kind: "gpt"}, true
	}
	return partitionTable{}, false
}

// gptHeader reads the header at an offset. It is nil without the signature; ok says that its checksum is right too.
func gptHeader(r io.ReaderAt, at, lba int64) (header []byte, ok bool) {
	if at < 0 {
		return nil, false
	}
	block := make([]byte, lba)
	if n, _ := r.ReadAt(block, at); n < len(block) || string(block[:8]) != "EFI PART" {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(block[12:])
	if n < 92 || int64(n) > lba {
		return block, false
	}
	want := binary.LittleEndian.Uint32(block[16:])
	plain := append([]byte(nil), block[:n]...)
	clear(plain[16:20])
	return block, crc32.ChecksumIEEE(plain) == want
}

// gptEntries reads the array that a header points to.
func gptEntries(r io.ReaderAt, header []byte, lba int64) (partitionTable, bool) {
	start := binary.LittleEndian.Uint64(header[72:])
	count, each := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if each < 128 || each > 4096 || count > 1024 || start > 1<<50 {
		return partitionTable{}, false
	}
	array := make([]byte, int(count)*int(each))
	if n, _ := r.ReadAt(array, int64(start)*lba); n < len(array) {
		return partitionTable{}, false
	}
	if crc32.ChecksumIEEE(array) != binary.LittleEndian.Uint32(header[88:]) {
		return partitionTable{}, false
	}
	t := partitionTable{kind: "gpt", uuid: guid(header[56:72]), entries: map[int]partitionEntry{}}
	for i := range int(count) {
		entry := array[i*int(each):][:128]
		if kind := guid(entry[:16]); kind != "" {
			t.entries[i+1] = partitionEntry{kind: kind, uuid: guid(entry[16:32]), name: facts.Clean(utf16Text(entry[56:128]))}
		}
	}
	return t, true
}

// guid is the text of a GUID, whose first three groups are little-endian; "" when it is all zero.
func guid(b []byte) string {
	if [16]byte(b) == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// utf16Text reads little-endian UTF-16 up to a NUL.
func utf16Text(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// mbrSlot is one of the four entries of a boot record.
type mbrSlot struct {
	status, kind byte
	start, count int64 // sectors of 512 bytes
}

func mbrSlots(sector []byte) [4]mbrSlot {
	var slots [4]mbrSlot
	for i := range slots {
		e := sector[446+16*i:]
		slots[i] = mbrSlot{e[0], e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))}
	}
	return slots
}

// extended is true for the types of partitions that hold a chain of logical ones.
func (s mbrSlot) extended() bool { return s.kind == 0x05 || s.kind == 0x0f || s.kind == 0x85 }

// readMBR reads the four entries and the chain of logical partitions. A sector whose entries no tool would write, or
// with none at all, is a boot sector and no table.
func readMBR(r io.ReaderAt, size int64, sector []byte) partitionTable {
	t := partitionTable{kind: "dos", entries: map[int]partitionEntry{}}
	id := binary.LittleEndian.Uint32(sector[440:])
	if id != 0 {
		t.uuid = fmt.Sprintf("%08x", id)
	}
	for i, slot := range mbrSlots(sector) {
		if slot.status&0x7f != 0 {
			return partitionTable{}
		}
		if slot.kind == 0 {
			continue
		}
		t.entries[i+1] = mbrEntry(id, i+1, slot)
		if slot.extended() {
			t.readLogical(r, size, id, slot.start)
		}
	}
	if len(t.entries) == 0 && id == 0 {
		return partitionTable{}
	}
	return t
}

func mbrEntry(id uint32, number int, slot mbrSlot) partitionEntry {
	e := partitionEntry{kind: fmt.Sprintf("0x%02x", slot.kind), container: slot.extended()}
	if id != 0 {
		e.uuid = fmt.Sprintf("%08x-%02x", id, number)
	}
	return e
}

// readLogical follows the chain that begins at sector first. Each link holds one logical partition and points to the
// next link, counted from the first; a chain that turns back or is too long ends.
func (t partitionTable) readLogical(r io.ReaderAt, size int64, id uint32, first int64) {
	sector := make([]byte, 512)
	for at, number := first, 5; number < 5+maxPartitions; number++ {
		if n, _ := r.ReadAt(sector, at*512); at*512 >= size || n < len(sector) || binary.LittleEndian.Uint16(sector[510:]) != 0xaa55 {
			return
		}
		slots := mbrSlots(sector)
		if slots[0].kind != 0 {
			t.entries[number] = mbrEntry(id, number, slots[0])
		}
		next := first + slots[1].start
		if !slots[1].extended() || next <= at {
			return
		}
		at = next
	}
}
