package disc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Tags of descriptors (ECMA-167 sections 3/7.2.1 and 4/7.2.1).
const (
	tagAnchor       = 2
	tagPointer      = 3
	tagPartition    = 5
	tagLogical      = 6
	tagTerminator   = 8
	tagFileSet      = 256
	tagIdentifier   = 257
	tagAllocation   = 258
	tagFile         = 261
	tagExtendedFile = 266
)

// udf reads the file set of one logical volume.
type udf struct {
	d          *Disc
	block      int64
	partitions []udfPartition // by their reference
	chained    int            // blocks read that only tell of more extents
}

// A udfPartition starts at a byte of the image; refused says why it can not be read.
type udfPartition struct {
	start, size int64
	refused     string
}

// A place is where something starts within a partition (lb_addr, ECMA-167 section 4/7.1).
type place struct {
	block     uint32
	partition uint16
}

// A longAD is an extent with its place (long_ad, ECMA-167 section 4/14.14.2): the two highest bits of its length say
// whether it was recorded.
type longAD struct {
	length uint32
	place
}

func readLongAD(b []byte) longAD {
	return longAD{binary.LittleEndian.Uint32(b), place{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint16(b[8:])}}
}

// udfBlocks are the sizes of logical blocks, the likeliest first: 2048 on discs, 512 on images of hard disks.
var udfBlocks = []int64{2048, 512, 4096, 1024}

func (d *Disc) openUDF() error {
	for _, block := range udfBlocks {
		u := &udf{d: d, block: block}
		last := d.size/block - 1
		for _, at := range []int64{256, last - 256, last} {
			b, err := u.descriptor(at*block, tagAnchor)
			if err != nil || int64(binary.LittleEndian.Uint32(b[12:])) != at {
				continue
			}
			if err := u.open(b); err != nil {
				return fmt.Errorf("UDF: %w", err)
			}
			return nil
		}
	}
	return errors.New("UDF: there is no anchor, neither at block 256 nor at the end: is the image whole?")
}

// descriptor reads a block and checks the tag it starts with (ECMA-167 section 3/7.2).
func (u *udf) descriptor(at int64, want ...uint16) ([]byte, error) {
	b, err := u.d.read(at, u.block)
	if err != nil {
		return nil, err
	}
	return b, checkTag(b, want...)
}

func checkTag(b []byte, want ...uint16) error {
	sum := byte(0)
	for i, c := range b[:16] {
		if i != 4 {
			sum += c
		}
	}
	tag := binary.LittleEndian.Uint16(b)
	for _, w := range want {
		if tag == w && b[4] == sum {
			return nil
		}
	}
	return fmt.Errorf("there is no descriptor %d where it should be", want[0])
}

// maxSequence is the most descriptors of a volume that are read: media have 6.
const maxSequence = 64

// open reads the volume that an anchor points to, down to the root.
func (u *udf) open(anchor []byte) error {
	logical, partitions, err := u.sequence(binary.LittleEndian.Uint32(anchor[20:]), binary.LittleEndian.Uint32(anchor[16:]))
	if err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(logical[212:])); n != u.block {
		return fmt.Errorf("logical blocks of %d bytes in sectors of %d", n, u.block)
	}
	if err := u.readMaps(logical, partitions); err != nil {
		return err
	}
	at, err := u.at(readLongAD(logical[248:]).place)
	if err != nil {
		return fmt.Errorf("file set: %w", err)
	}
	set, err := u.descriptor(at, tagFileSet)
	if err != nil {
		return fmt.Errorf("file set: %w", err)
	}
	root, err := u.file(readLongAD(set[400:]).place)
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	if !root.mode.IsDir() {
		return errors.New("root directory: it is none")
	}
	u.d.Format, u.d.root, u.d.list = UDF, root, u.list
	u.d.Label = dstring(logical[84:212])
	return nil
}

// sequence reads a volume descriptor sequence (ECMA-167 section 3/8.4.2): the logical volume and the partitions, each
// by its number.
func (u *udf) sequence(block, length uint32) (logical []byte, partitions map[uint16]part, err error) {
	partitions = map[uint16]part{}
	for range min(int64(length)/u.block, maxSequence) {
		b, err := u.descriptor(int64(block)*u.block, 1, tagPointer, 4, tagPartition, tagLogical, 7, tagTerminator)
		if err != nil {
			break // what is blank ends a sequence as well
		}
		block++
		switch binary.LittleEndian.Uint16(b) {
		case tagLogical:
			logical = b
		case tagPartition:
			partitions[binary.LittleEndian.Uint16(b[22:])] = part{int64(binary.LittleEndian.Uint32(b[188:])) * u.block, int64(binary.LittleEndian.Uint32(b[192:])) * u.block}
		case tagPointer:
			block = binary.LittleEndian.Uint32(b[24:])
		}
		if binary.LittleEndian.Uint16(b) == tagTerminator {
			break
		}
	}
	if logical == nil {
		return nil, nil, errors.New("there is no logical volume")
	}
	return logical, partitions, nil
}

// readMaps reads the partition maps (ECMA-167 section 3/10.7, UDF section 2.2.8). Those of type 2 move blocks about:
// rewritable discs have them, and media for installation do not.
func (u *udf) readMaps(logical []byte, partitions map[uint16]part) error {
	b := logical[440:]
	b = b[:min(int64(len(b)), int64(binary.LittleEndian.Uint32(logical[264:])))]
	for range binary.LittleEndian.Uint32(logical[268:]) {
		if len(b) < 6 || int(b[1]) < 6 || int(b[1]) > len(b) {
			return errors.New("the partition maps are cut short")
		}
		p := udfPartition{refused: "of a kind that is not read"}
		if b[0] == 2 && b[1] >= 28 {
			p.refused = fmt.Sprintf("a %q, which is not read", strings.Trim(string(b[5:28]), "*\x00"))
		}
		if b[0] == 1 {
			on, ok := partitions[binary.LittleEndian.Uint16(b[4:])]
			if p = (udfPartition{start: on.start, size: on.size}); !ok {
				p.refused = "not there"
			}
		}
		u.partitions = append(u.partitions, p)
		b = b[b[1]:]
	}
	return nil
}

// at is the byte of the image where a place is.
func (u *udf) at(p place) (int64, error) {
	if int(p.partition) >= len(u.partitions) {
		return 0, fmt.Errorf("there is no partition %d", p.partition)
	}
	on := u.partitions[p.partition]
	off := int64(p.block) * u.block
	switch {
	case on.refused != "":
		return 0, fmt.Errorf("partition %d is %s", p.partition, on.refused)
	case off >= on.size:
		return 0, fmt.Errorf("block %d lies past the end of partition %d", p.block, p.partition)
	}
	return on.start + off, nil
}

// dstring is text in a field of fixed length: its last byte is the length used (ECMA-167 section 1/7.2.12).
func dstring(b []byte) string {
	n := min(int(b[len(b)-1]), len(b)-1)
	return compressed(b[:n])
}

// compressed decodes OSTA compressed Unicode (UDF section 2.1.1): the first byte says how many bits a character has.
func compressed(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if b[0] == 16 {
		return utf16Text(b[1:])
	}
	r := make([]rune, len(b)-1)
	for i, c := range b[1:] {
		r[i] = rune(c)
	}
	return string(r)
}
