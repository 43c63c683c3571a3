package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"muster/agent/facts"
)

const (
	headBytes = 264 << 10 // up to the last ZFS uberblock of the first label
	tailBytes = 192 << 10 // md 0.90 stands up to 128 KiB before the end
)

// A volume is what signatures are looked for in: the bytes at both ends of a disk or partition.
type volume struct {
	size int64
	head []byte
	far  []byte // at 1 MiB, for VMFS
	tail []byte
}

// at gives n bytes from an offset; nil when they were not read.
func (v volume) at(offset int64, n int) []byte {
	for _, part := range []struct {
		start int64
		b     []byte
	}{{0, v.head}, {vmfsOffset, v.far}, {v.size - int64(len(v.tail)), v.tail}} {
		if from := offset - part.start; from >= 0 && from+int64(n) <= int64(len(part.b)) {
			return part.b[from : from+int64(n)]
		}
	}
	return nil
}

func (v volume) has(offset int64, magic string) bool {
	return string(v.at(offset, len(magic))) == magic
}

// readContent says what is on a disk or partition of size bytes; nil when no signature matches.
func readContent(r io.ReaderAt, size int64) (*facts.Content, error) {
	if size < 512 {
		return nil, nil
	}
	v := volume{size: size}
	var err error
	if v.head, err = readPart(r, 0, min(size, headBytes)); err != nil {
		return nil, err
	}
	if size > headBytes {
		n := min(size-headBytes, tailBytes)
		if v.tail, err = readPart(r, size-n, n); err != nil {
			return nil, err
		}
	}
	if size >= vmfsOffset+512 {
		if v.far, err = readPart(r, vmfsOffset, 512); err != nil {
			return nil, err
		}
	}
	return v.content(), nil
}

// readPart reads n bytes; fewer when the device is shorter than sysfs said.
func readPart(r io.ReaderAt, offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:got], nil
}

// content is the first signature that matches, its strings cleaned.
func (v volume) content() *facts.Content {
	for _, find := range signatures {
		c, ok := find(v)
		if !ok {
			continue
		}
		c.UUID, c.Label = facts.Line(c.UUID, 64), facts.Line(c.Label, facts.MaxRunes)
		return &c
	}
	return nil
}

// signatures in the order in which they are tried: what lies around others comes before what may lie inside. A RAID
// member of old metadata begins with the file system of the array.
var signatures = []func(volume) (facts.Content, bool){
	mdArray,
	atEnd("ddf", 512, "\xde\x11\xde\x11"),
	atEnd("isw", 1024, "Intel Raid ISM Cfg Sig. "),
	physicalVolume,
	luks,
	fixed{kind: "bcache", offset: 4096 + 24, magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", uuid: 4096 + 40, label: 4096 + 72, labelBytes: 32}.find,
	zfs,
	fixed{kind: "vmfs", offset: vmfsOffset, magic: "\x0d\xd0\x01\xc0"}.find,
	fixed{kind: "gfs2", offset: 64 << 10, magic: "\x01\x16\x19\x70"}.find, // fs/gfs2, include/uapi/linux/gfs2_ondisk.h
	ocfs2,
	fixed{kind: "btrfs", offset: 65600, magic: "_BHRfS_M", uuid: 65568, label: 65835, labelBytes: 256}.find,
	fixed{kind: "xfs", offset: 0, magic: "XFSB", uuid: 32, label: 108, labelBytes: 12}.find,
	ext,
	fixed{kind: "swap", offset: 4086, magic: "SWAPSPACE2", uuid: 1036, label: 1052, labelBytes: 16}.find,
	fixed{kind: "iso9660", offset: 32769, magic: "CD001", label: 32808, labelBytes: 32}.find,
	fixed{kind: "squashfs", offset: 0, magic: "hsqs"}.find,
	serialled{kind: "exfat", offset: 3, magic: "EXFAT   ", serial: 100}.find,
	ntfs,
	serialled{kind: "vfat", offset: 82, magic: "FAT32   ", serial: 67, label: 71}.find,
	serialled{kind: "vfat", offset: 54, magic: "FAT16   ", serial: 39, label: 43}.find,
	serialled{kind: "vfat", offset: 54, magic: "FAT12   ", serial: 39, label: 43}.find,
}

const vmfsOffset = 1 << 20

// fixed is a signature, a UUID of 16 bytes and a label at fixed offsets; 0 is none.
type fixed struct {
	kind        string
	offset      int64
	magic       string
	uuid, label int64
	labelBytes  int
}

func (s fixed) find(v volume) (facts.Content, bool) {
	if !v.has(s.offset, s.magic) {
		return facts.Content{}, false
	}
	c := facts.Content{Type: s.kind}
	if s.uuid != 0 {
		c.UUID = rawUUID(v.at(s.uuid, 16))
	}
	if s.label != 0 {
		c.Label = cString(v.at(s.label, s.labelBytes))
	}
	return c, true
}

// serialled is a file system of the FAT family: a serial of four bytes, and a label of eleven.
type serialled struct {
	kind          string
	offset        int64
	magic         string
	serial, label int64
}

func (s serialled) find(v volume) (facts.Content, bool) {
	if !v.has(s.offset, s.magic) {
		return facts.Content{}, false
	}
	c := facts.Content{Type: s.kind}
	if b := v.at(s.serial, 4); b != nil {
		n := binary.LittleEndian.Uint32(b)
		c.UUID = fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
	}
	if s.label != 0 {
		c.Label = strings.TrimSpace(cString(v.at(s.label, 11)))
	}
	if c.Label == "NO NAME" {
		c.Label = ""
	}
	return c, true
}

// atEnd is a signature that begins so many bytes before the end.
func atEnd(kind string, before int64, magic string) func(volume) (facts.Content, bool) {
	return func(v volume) (facts.Content, bool) { return facts.Content{Type: kind}, v.has(v.size-before, magic) }
}

// mdArray is a member of a Linux RAID (drivers/md, include/uapi/linux/raid/md_p.h): version 1.1 at the front, 1.2 at
// 4 KiB, 1.0 in the last 8 to 12 KiB, 0.90 in the last 64 to 128 KiB.
func mdArray(v volume) (facts.Content, bool) {
	const magic = "\xfc\x4e\x2b\xa9"
	for _, offset := range []int64{4096, 0, (v.size/512 - 16) &^ 7 * 512} {
		if b := v.at(offset, 64); b != nil && string(b[:4]) == magic && binary.LittleEndian.Uint32(b[4:]) == 1 {
			return facts.Content{Type: "md", UUID: rawUUID(b[16:32]), Label: cString(b[32:64])}, true
		}
	}
	return facts.Content{Type: "md"}, v.has(v.size&^0xffff-0x10000, magic)
}

// physicalVolume is LVM2: its label is in one of the first four sectors (lib/format_text/layout.h).
func physicalVolume(v volume) (facts.Content, bool) {
	for sector := range int64(4) {
		b := v.at(sector*512, 64)
		if b == nil || string(b[:8]) != "LABELONE" || string(b[24:32]) != "LVM2 001" {
			continue
		}
		id := cString(b[32:64])
		if len(id) == 32 {
			id = strings.Join([]string{id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:]}, "-")
		}
		return facts.Content{Type: "lvm2", UUID: id}, true
	}
	return facts.Content{}, false
}

// luks is LUKS 1 and 2 (cryptsetup, LUKS2 on-disk format 1.0.0, section 2.1); version 2 has a label.
func luks(v volume) (facts.Content, bool) {
	b := v.at(0, 208)
	if b == nil || string(b[:6]) != "LUKS\xba\xbe" {
		return facts.Content{}, false
	}
	c := facts.Content{Type: "luks", UUID: cString(b[168:208])}
	if binary.BigEndian.Uint16(b[6:]) == 2 {
		c.Label = cString(b[24:72])
	}
	return c, true
}

// zfs looks for an uberblock (00bab10c in either byte order) in the array of the first label, at 128 KiB. Uberblocks
// stand at multiples of 1 KiB or more.
func zfs(v volume) (facts.Content, bool) {
	for offset := int64(128 << 10); offset < 256<<10; offset += 1024 {
		if v.has(offset, "\x0c\xb1\xba\x00\x00\x00\x00\x00") || v.has(offset, "\x00\x00\x00\x00\x00\xba\xb1\x0c") {
			return facts.Content{Type: "zfs"}, true
		}
	}
	return facts.Content{}, false
}

// ocfs2 has its superblock in the third block, of one of four sizes (fs/ocfs2/ocfs2_fs.h).
func ocfs2(v volume) (facts.Content, bool) {
	for block := int64(512); block <= 4096; block *= 2 {
		if v.has(2*block, "OCFSV2") {
			return facts.Content{Type: "ocfs2"}, true
		}
	}
	return facts.Content{}, false
}

// ext is ext2, ext3 and ext4 (fs/ext4/ext4.h): a journal makes 3, extents, 64 bits or flexible groups make 4. The
// magic number is short, so the block size must make sense too.
func ext(v volume) (facts.Content, bool) {
	b := v.at(1024, 1024)
	if b == nil || binary.LittleEndian.Uint16(b[56:]) != 0xef53 || binary.LittleEndian.Uint32(b[24:]) > 6 {
		return facts.Content{}, false
	}
	c := facts.Content{Type: "ext2", UUID: rawUUID(b[104:120]), Label: cString(b[120:136])}
	if binary.LittleEndian.Uint32(b[92:])&0x4 != 0 {
		c.Type = "ext3"
	}
	if binary.LittleEndian.Uint32(b[96:])&0x2c0 != 0 {
		c.Type = "ext4"
	}
	return c, true
}

// ntfs has a serial of eight bytes at 72 of its boot sector.
func ntfs(v volume) (facts.Content, bool) {
	if !v.has(3, "NTFS    ") {
		return facts.Content{}, false
	}
	c := facts.Content{Type: "ntfs"}
	if b := v.at(72, 8); b != nil {
		c.UUID = fmt.Sprintf("%016X", binary.LittleEndian.Uint64(b))
	}
	return c, true
}

// rawUUID is the text of 16 bytes in order; "" when there are none or all are zero.
func rawUUID(b []byte) string {
	if len(b) != 16 || [16]byte(b) == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// cString ends at the first NUL.
func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
