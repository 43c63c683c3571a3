package disc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// jolietEscapes are the levels of UCS-2 that mark a Joliet volume (Joliet Specification, "Escape sequences").
var jolietEscapes = map[string]bool{"%/@": true, "%/C": true, "%/E": true}

// iso reads one volume of ECMA-119.
type iso struct {
	d      *Disc
	block  int64
	format Format
	skip   int // bytes in front of the system use fields of Rock Ridge
}

// openISO takes a volume if it is of that format. Whether there is Rock Ridge is told by the root's own record.
func (d *Disc) openISO(descriptor []byte, f Format) (ok bool, err error) {
	v := &iso{d: d, format: f, block: int64(binary.LittleEndian.Uint16(descriptor[128:]))}
	if v.block != 512 && v.block != 1024 && v.block != sector {
		return false, fmt.Errorf("logical blocks of %d bytes: want 512, 1024 or 2048", v.block)
	}
	rec, err := parseRecord(descriptor[156:190])
	if err != nil {
		return false, fmt.Errorf("root directory: %w", err)
	}
	root, err := v.directory(rec)
	if err != nil {
		return false, fmt.Errorf("root directory: %w", err)
	}
	if f == RockRidge {
		if ok, err := v.findRockRidge(root); !ok || err != nil {
			return false, err
		}
	}
	label := descriptor[40:72]
	d.Label = strings.TrimRight(string(label), " \x00")
	if f == Joliet {
		d.Label = strings.TrimRight(utf16Text(label), " \x00")
	}
	d.Format, d.root, d.list = f, root, v.list
	return true, nil
}

// A record is one of a directory (ECMA-119 section 9.1).
type record struct {
	block  uint32 // of the first, its extended attributes
	size   uint32
	flags  byte
	skip   byte   // blocks of extended attributes
	id     []byte // as it stands there
	system []byte // the system use field
}

// Flags of a record (ECMA-119 section 9.1.6).
const (
	flagDirectory  = 0x02
	flagAssociated = 0x04 // what other systems keep beside a file
	flagMore       = 0x80 // the file goes on in the next record
)

func parseRecord(b []byte) (record, error) {
	if len(b) < 34 || b[0] < 34 || int(b[0]) > len(b) {
		return record{}, errors.New("a directory record is cut short")
	}
	b = b[:b[0]]
	idEnd := 33 + int(b[32])
	if b[32] == 0 || idEnd > len(b) {
		return record{}, errors.New("the name of a directory record is cut short")
	}
	if b[26] != 0 || b[27] != 0 {
		return record{}, fmt.Errorf("file %q is interleaved, which no installation medium is", b[33:idEnd])
	}
	return record{block: binary.LittleEndian.Uint32(b[2:]), size: binary.LittleEndian.Uint32(b[10:]), flags: b[25], skip: b[1],
		id: b[33:idEnd], system: b[min(idEnd+1-int(b[32])%2, len(b)):]}, nil
}

func (r record) isSelf() bool   { return len(r.id) == 1 && r.id[0] == 0 }
func (r record) isParent() bool { return len(r.id) == 1 && r.id[0] == 1 }

func (v *iso) part(r record) part {
	if r.size == 0 {
		return part{start: hole} // writers point an empty file anywhere
	}
	return part{(int64(r.block) + int64(r.skip)) * v.block, int64(r.size)}
}

func (v *iso) directory(r record) (node, error) {
	n := node{mode: fs.ModeDir | 0o555, size: int64(r.size), parts: []part{v.part(r)}}
	if r.flags&flagDirectory == 0 || r.flags&flagMore != 0 || r.size == 0 {
		return n, errors.New("it is not a directory in one piece")
	}
	return n, v.d.within(n.parts[0].start, n.size)
}

// list goes through the records of a directory. None of them crosses the end of a sector.
func (v *iso) list(dir node, visit func(node) error) error {
	var open *openFile
	for off := int64(0); off < dir.size; off += sector {
		b, err := v.d.read(dir.parts[0].start+off, min(sector, dir.size-off))
		if err != nil {
			return err
		}
		for len(b) > 0 && b[0] != 0 {
			rec, err := parseRecord(b)
			if err != nil {
				return err
			}
			b = b[b[0]:]
			if rec.isSelf() || rec.isParent() || rec.flags&flagAssociated != 0 {
				continue
			}
			if open, err = v.record(rec, open, visit); err != nil {
				return err
			}
		}
	}
	if open != nil {
		return fmt.Errorf("file %q goes on in a record that is not there", open.name)
	}
	return nil
}

// An openFile goes on in the next record, which has the same identifier: a record tells of at most 4 GiB.
type openFile struct {
	node
	id []byte
}

// record visits what a record is of, or keeps it open until its last part is known.
func (v *iso) record(rec record, open *openFile, visit func(node) error) (*openFile, error) {
	n, gone, err := v.node(rec)
	if err != nil || gone {
		return nil, err
	}
	if open != nil {
		if !bytes.Equal(rec.id, open.id) || n.mode.IsDir() || len(open.parts) == maxParts {
			return nil, fmt.Errorf("file %q goes on in a record of %q", open.name, n.name)
		}
		open.size, open.parts = open.size+n.size, append(open.parts, n.parts...)
		n = open.node
	}
	if rec.flags&flagMore != 0 {
		return &openFile{n, bytes.Clone(rec.id)}, nil
	}
	return nil, visit(n)
}

// node reads a record. What Rock Ridge moved to elsewhere is gone from here.
func (v *iso) node(rec record) (n node, gone bool, err error) {
	if rec.flags&flagDirectory != 0 {
		if n, err = v.directory(rec); err != nil {
			return n, false, fmt.Errorf("directory %q: %w", rec.id, err)
		}
	} else {
		n = node{mode: 0o444, size: int64(rec.size), parts: []part{v.part(rec)}}
	}
	n.name = v.name(rec.id)
	if v.format == RockRidge {
		return v.rockRidge(rec, n)
	}
	return n, false, nil
}

// name is an identifier without the version and, where that is plain, without the dot of a file that has no extension
// (ECMA-119 section 7.5.1).
func (v *iso) name(id []byte) string {
	if v.format == Joliet {
		name, _, _ := strings.Cut(utf16Text(id), ";")
		return name
	}
	name, _, _ := strings.Cut(string(id), ";")
	return strings.ToValidUTF8(strings.TrimSuffix(name, "."), "\uFFFD")
}

// utf16Text decodes big-endian UTF-16, of which UCS-2 is a part.
func utf16Text(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}
