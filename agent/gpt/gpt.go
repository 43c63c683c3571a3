// Package gpt fits the partition table of a disk image to a disk that is larger: the backup of a GPT goes to the disk's
// end, the protective MBR covers the disk, and the last partition may grow. It is a package of its own because it reads
// and writes no disk: the first bytes of an image go in, what has to be written comes out, and the agent does so last.
//
// A library that writes whole tables would lose what it does not know of the image's (names, attributes, the code in the
// MBR); here only the numbers that the disk's size decides are changed. UEFI 2.10 sections 5.2 and 5.3.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	signature   = "EFI PART"
	leastHeader = 92
	mbrTable    = 446 // four entries of 16 bytes, then 55 AA
	protective  = 0xee
	align       = 1 << 20 // where partitions end, as partitioning programs do it
	// MostEntries bounds the table of partitions; all programs make 128.
	MostEntries = 1024
)

// Kinds of tables.
const (
	None = ""
	GPT  = "gpt"
	MBR  = "dos"
)

// A Table is the partition table in the first bytes of an image.
type Table struct {
	Kind   string
	Sector int64 // bytes; 512 for an MBR

	head    []byte // of the image
	header  []byte // GPT: its header, as long as it says
	entries []byte // GPT: its table of partitions
	size    int    // GPT: bytes of an entry
}

// SectorSize is where the header of a GPT stands: after one sector of the disk that it was made for. 0 is no GPT.
func SectorSize(head []byte) int64 {
	for _, sector := range []int64{512, 4096} {
		if int64(len(head)) >= sector+leastHeader && string(head[sector:sector+8]) == signature {
			return sector
		}
	}
	return 0
}

// Read reads the table of an image, whose first bytes these are. A GPT that its own sums do not fit is an error.
func Read(head []byte) (*Table, error) {
	t := &Table{Sector: 512, head: bytes.Clone(head)}
	if sector := SectorSize(head); sector > 0 {
		t.Kind, t.Sector = GPT, sector
		return t, t.readGPT()
	}
	if len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa && t.anyMBR() {
		t.Kind = MBR
	}
	return t, nil
}

// anyMBR tells a table from the boot sector of a file system, which has the same last bytes: every entry is empty, or has
// a type, a first sector and a length, and one is there.
func (t *Table) anyMBR() bool {
	found := false
	for i := range 4 {
		e := t.mbrEntry(i)
		if bytes.Equal(e, make([]byte, 16)) {
			continue
		}
		if e[0]&0x7f != 0 || e[4] == 0 || le32(e[8:]) == 0 || le32(e[12:]) == 0 {
			return false
		}
		found = true
	}
	return found
}

func (t *Table) mbrEntry(i int) []byte { return t.head[mbrTable+16*i : mbrTable+16*(i+1)] }

// readGPT takes the header and the entries out of the head, and compares their sums (section 5.3.2).
func (t *Table) readGPT() error {
	h := t.head[t.Sector:min(2*t.Sector, int64(len(t.head)))]
	length := int64(le32(h[12:]))
	if length < leastHeader || length > int64(len(h)) {
		return fmt.Errorf("a GPT header of %d bytes", length)
	}
	t.header = bytes.Clone(h[:length])
	if sum := le32(t.header[16:]); sum != headerSum(t.header) {
		return errors.New("the GPT header does not fit its sum")
	}
	first, count, size := le64(t.header[72:]), le32(t.header[80:]), le32(t.header[84:])
	if size < 128 || size > 4096 || size&(size-1) != 0 || count == 0 || count > MostEntries {
		return fmt.Errorf("a GPT of %d entries of %d bytes: at most %d are read", count, size, MostEntries)
	}
	from := int64(first) * t.Sector
	if first < 2 || first > uint64(len(t.head)) || from+int64(count)*int64(size) > int64(len(t.head)) {
		return fmt.Errorf("the GPT's entries begin at sector %d and do not end within the first %d bytes", first, len(t.head))
	}
	t.size = int(size)
	t.entries = bytes.Clone(t.head[from : from+int64(count)*int64(size)])
	if le32(t.header[88:]) != crc32.ChecksumIEEE(t.entries) {
		return errors.New("the GPT's entries do not fit their sum")
	}
	return nil
}

// headerSum is the CRC-32 of a header whose own sum counts as zero.
func headerSum(h []byte) uint32 {
	h = bytes.Clone(h)
	clear(h[16:20])
	return crc32.ChecksumIEEE(h)
}

// A Fitted table is what to write: the first bytes in place of the image's, and the end of the disk, empty for an MBR.
type Fitted struct {
	Head   []byte
	Backup []byte
	At     int64 // where Backup begins
	Old    int64 // where the image's own backup header stands, one sector, in no partition; 0: at the end of the disk
	Grown  int   // number of the partition that has grown; 0: none
}

// Fit fits the table to a disk of that many bytes. With grow the partition that ends last is made as large as it can be.
// Partitions that the disk has no room for are an error.
func (t *Table) Fit(disk int64, grow bool) (*Fitted, error) {
	switch t.Kind {
	case GPT:
		return t.fitGPT(disk, grow)
	case MBR:
		return t.fitMBR(disk, grow)
	}
	return &Fitted{Head: t.head}, nil
}

func (t *Table) fitGPT(disk int64, grow bool) (*Fitted, error) {
	sectors := (int64(len(t.entries)) + t.Sector - 1) / t.Sector // of the entries
	last := disk/t.Sector - 1
	usable := last - sectors - 1
	if usable <= int64(le64(t.header[40:])) {
		return nil, fmt.Errorf("a disk of %d bytes has no room for a GPT", disk)
	}
	number, end, err := t.lastGPT(usable)
	if err != nil {
		return nil, err
	}
	f := &Fitted{Head: bytes.Clone(t.head), At: (last - sectors) * t.Sector}
	if old := int64(le64(t.header[32:])); old != last && old > max(end, 1) && old < disk/t.Sector {
		f.Old = old * t.Sector
	}
	entries := bytes.Clone(t.entries)
	if to := alignedEnd(usable, end, t.Sector); grow && number > 0 && to > end {
		put64(entries[(number-1)*t.size+40:], uint64(to))
		f.Grown = number
	}
	header := bytes.Clone(t.header)
	put64(header[48:], uint64(usable))
	put32(header[88:], crc32.ChecksumIEEE(entries))
	first := int64(le64(t.header[72:]))
	copy(f.Head[t.Sector:], finished(header, 1, last, first))
	copy(f.Head[first*t.Sector:], entries)
	f.Backup = make([]byte, (sectors+1)*t.Sector)
	copy(f.Backup, entries)
	copy(f.Backup[sectors*t.Sector:], finished(header, last, 1, last-sectors))
	t.protect(f.Head, last)
	return f, nil
}

// finished is a header for one of its two places.
func finished(header []byte, own, other, entries int64) []byte {
	h := bytes.Clone(header)
	put64(h[24:], uint64(own))
	put64(h[32:], uint64(other))
	put64(h[72:], uint64(entries))
	put32(h[16:], headerSum(h))
	return h
}

// lastGPT is the partition that ends last, by number, and its last sector.
func (t *Table) lastGPT(usable int64) (number int, end int64, err error) {
	for i := 0; (i+1)*t.size <= len(t.entries); i++ {
		e := t.entries[i*t.size : (i+1)*t.size]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		from, to := le64(e[32:]), le64(e[40:])
		if from > to || to > uint64(usable) {
			return 0, 0, fmt.Errorf("partition %d lies in sectors %d to %d; the disk's last for partitions is %d", i+1, from, to, usable)
		}
		if int64(to) >= end {
			number, end = i+1, int64(to)
		}
	}
	return number, end, nil
}

// alignedEnd is the last sector before a boundary of a MiB, unless that would take from the partition.
func alignedEnd(usable, end, sector int64) int64 {
	return max(end, (usable+1)/(align/sector)*(align/sector)-1)
}

// protect makes the protective entry of the MBR cover the disk (section 5.2.3).
func (t *Table) protect(head []byte, last int64) {
	for i := range 4 {
		if e := head[mbrTable+16*i : mbrTable+16*(i+1)]; e[4] == protective {
			first := int64(le32(e[8:]))
			put32(e[12:], uint32(min(last-first+1, 1<<32-1)))
		}
	}
}

// fitMBR has nothing to move; a last partition inside an extended one is left alone.
func (t *Table) fitMBR(disk int64, grow bool) (*Fitted, error) {
	f := &Fitted{Head: bytes.Clone(t.head)}
	sectors, number, end := disk/t.Sector, 0, int64(0)
	for i := range 4 {
		e := t.mbrEntry(i)
		to := int64(le32(e[8:])) + int64(le32(e[12:]))
		if to > sectors {
			return nil, fmt.Errorf("partition %d ends at sector %d; the disk has %d", i+1, to, sectors)
		}
		if e[4] != 0 && to > end {
			number, end = i+1, to
		}
	}
	if !grow || number == 0 || extended[t.mbrEntry(number - 1)[4]] {
		return f, nil
	}
	e := f.Head[mbrTable+16*(number-1):]
	from := int64(le32(e[8:]))
	if to := alignedEnd(min(sectors, 1<<32)-1, end-1, t.Sector) + 1; to > end {
		put32(e[12:], uint32(to-from))
		f.Grown = number
	}
	return f, nil
}

// extended are the types of partitions that hold others.
var extended = map[byte]bool{0x05: true, 0x0f: true, 0x85: true}

func le32(b []byte) uint32     { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64     { return binary.LittleEndian.Uint64(b) }
func put32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }
func put64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
