package disc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Types of files in their ICB tag (ECMA-167 section 4/14.6.6).
const (
	icbDirectory = 4
	icbFile      = 5
	icbLink      = 12
)

// udfFileLayouts say where the parts of a file entry lie (ECMA-167 sections 4/14.9 and 4/14.17).
var udfFileLayouts = map[uint16]struct{ attributes, descriptors, data int }{
	tagFile:         {168, 172, 176},
	tagExtendedFile: {208, 212, 216},
}

// file reads a file entry.
func (u *udf) file(p place) (n node, err error) {
	at, err := u.at(p)
	if err != nil {
		return n, err
	}
	b, err := u.descriptor(at, tagFile, tagExtendedFile)
	if err != nil {
		return n, err
	}
	if s := binary.LittleEndian.Uint16(b[20:]); s != 4 {
		return n, fmt.Errorf("allocation strategy %d: only 4 is read", s)
	}
	size := binary.LittleEndian.Uint64(b[56:])
	if size > 1<<62 {
		return n, fmt.Errorf("it has %d bytes", size)
	}
	n.size = int64(size)
	if n.parts, err = u.extents(b, at, p.partition, n.size); err != nil {
		return n, err
	}
	n.mode = udfMode(b[27], binary.LittleEndian.Uint32(b[44:]))
	if n.mode&fs.ModeSymlink != 0 {
		n.link, err = u.linkText(n)
		n.size, n.parts = 0, nil
	}
	if n.mode.IsDir() && len(n.parts) == 0 {
		return n, errors.New("a directory without even its parent")
	}
	return n, err
}

// udfMode reads the type and the permissions: execute, write, read, and two more, for others, group and owner
// (ECMA-167 section 4/14.9.5).
func udfMode(icb byte, permissions uint32) fs.FileMode {
	perm := fs.FileMode(permissions&7 | permissions>>5&7<<3 | permissions>>10&7<<6)
	switch icb {
	case icbDirectory:
		return perm | fs.ModeDir
	case icbFile:
		return perm
	case icbLink:
		return perm | fs.ModeSymlink
	}
	return perm | fs.ModeIrregular
}

// extents are the parts of a file whose entry lies at a byte of the image.
func (u *udf) extents(b []byte, at int64, partition uint16, size int64) ([]part, error) {
	lay := udfFileLayouts[binary.LittleEndian.Uint16(b)]
	start := int64(lay.data) + int64(binary.LittleEndian.Uint32(b[lay.attributes:]))
	length := int64(binary.LittleEndian.Uint32(b[lay.descriptors:]))
	if start+length > int64(len(b)) {
		return nil, errors.New("its entry is longer than a block")
	}
	kind := binary.LittleEndian.Uint16(b[34:]) & 7
	if kind == 3 { // the data lie in the entry
		if size > length {
			return nil, fmt.Errorf("%d bytes do not fit into its entry", size)
		}
		return trim([]part{{at + start, length}}, size)
	}
	a := allocation{u: u, partition: partition, each: map[uint16]int{0: 8, 1: 16}[kind]}
	if a.each == 0 {
		return nil, fmt.Errorf("allocation descriptors of kind %d are not read", kind)
	}
	if err := a.read(b[start : start+length]); err != nil {
		return nil, err
	}
	return trim(a.parts, size)
}

// trim ends the parts where the file does: the last block is not full, and a tail may be allocated behind it.
func trim(parts []part, size int64) ([]part, error) {
	for i := range parts {
		if parts[i].size >= size {
			parts[i].size = size
			return parts[:i+1], nil
		}
		size -= parts[i].size
	}
	if size > 0 {
		return nil, fmt.Errorf("its last %d bytes lie nowhere", size)
	}
	return parts, nil
}

// An allocation collects the extents of a file.
type allocation struct {
	u         *udf
	partition uint16 // of short_ad, which name none
	each      int    // bytes of a descriptor
	parts     []part
}

// read takes allocation descriptors (short_ad or long_ad, ECMA-167 section 4/14.14), and goes on where the last one
// says that there are more.
func (a *allocation) read(b []byte) error {
	for ; len(b) >= a.each; b = b[a.each:] {
		ad := longAD{binary.LittleEndian.Uint32(b), place{binary.LittleEndian.Uint32(b[4:]), a.partition}}
		if a.each == 16 {
			ad = readLongAD(b)
		}
		kind, length := ad.length>>30, int64(ad.length&(1<<30-1))
		if length == 0 {
			return nil
		}
		if kind == 3 {
			return a.next(ad.place)
		}
		if err := a.extent(ad.place, kind, length); err != nil {
			return err
		}
	}
	return nil
}

func (a *allocation) extent(p place, kind uint32, length int64) error {
	if len(a.parts) == maxParts {
		return fmt.Errorf("more than %d extents", maxParts)
	}
	if kind != 0 { // allocated or not, nothing was written there
		a.parts = append(a.parts, part{hole, length})
		return nil
	}
	at, err := a.u.at(p)
	if err == nil {
		err = a.u.d.within(at, length)
	}
	a.parts = append(a.parts, part{at, length})
	return err
}

// maxChained is the most blocks of further extents on one image: a file in 16384 pieces has 65 of them.
const maxChained = 1 << 14

// next reads an allocation extent descriptor (ECMA-167 section 4/14.5).
func (a *allocation) next(p place) error {
	if a.u.chained++; a.u.chained > maxChained {
		return errors.New("extents go on without end")
	}
	at, err := a.u.at(p)
	if err != nil {
		return err
	}
	b, err := a.u.descriptor(at, tagAllocation)
	if err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(b[20:])
	if int64(length) > int64(len(b)-24) {
		return errors.New("its extents go on for more than a block")
	}
	return a.read(b[24 : 24+length])
}

// Characteristics of an entry of a directory (ECMA-167 section 4/14.4.3).
const (
	entryDeleted = 1 << 2
	entryParent  = 1 << 3
)

// list goes through the file identifier descriptors of a directory.
func (u *udf) list(dir node, visit func(node) error) error {
	in := bufio.NewReaderSize(io.NewSectionReader(&content{u.d.r, dir.parts}, 0, dir.size), sector)
	for {
		head := make([]byte, 38)
		if _, err := io.ReadFull(in, head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("it ends within an entry: %w", err)
		}
		if err := checkTag(head, tagIdentifier); err != nil {
			return err
		}
		name, skip := int(head[19]), int(binary.LittleEndian.Uint16(head[36:]))
		rest := make([]byte, (38+skip+name+3)&^3-38)
		if _, err := io.ReadFull(in, rest); err != nil {
			return fmt.Errorf("it ends within an entry: %w", err)
		}
		if head[18]&(entryDeleted|entryParent) != 0 {
			continue
		}
		text := compressed(rest[skip : skip+name])
		n, err := u.file(readLongAD(head[20:]).place)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		n.name = text
		if err := visit(n); err != nil {
			return err
		}
	}
}

// linkText reads the path of a symbolic link: components of type, length, version and text (ECMA-167 section 4/14.16).
func (u *udf) linkText(n node) (string, error) {
	if n.size > maxLink {
		return "", fmt.Errorf("a link of %d bytes", n.size)
	}
	b := make([]byte, n.size)
	if _, err := io.ReadFull(io.NewSectionReader(&content{u.d.r, n.parts}, 0, n.size), b); err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	var l link
	for ; len(b) >= 4 && 4+int(b[1]) <= len(b); b = b[4+int(b[1]):] {
		l.add(pathComponent(b[0], b[4:4+int(b[1])]), false)
	}
	if l.text == "" {
		return "", errors.New("a link that points nowhere")
	}
	return l.text, nil
}

func pathComponent(kind byte, text []byte) string {
	switch kind {
	case 1, 2:
		return "/"
	case 3:
		return ".."
	case 4:
		return "."
	}
	return strings.ReplaceAll(compressed(text), "/", "\uFFFD")
}
