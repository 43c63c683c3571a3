package disc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Bounds of the system use fields of one record: a name of 255 bytes and a link of 4096 take a few.
const (
	maxContinued = 64
	maxLink      = 4096
)

// fields are what Rock Ridge says of one record.
type fields struct {
	name      []byte
	mode      uint32 // POSIX
	hasMode   bool
	link      link
	child     uint32 // block of a directory that was moved because the tree was too deep
	hasChild  bool
	relocated bool // this is where such a directory was moved to
	refused   string
}

// A link is a symbolic link whose components come one after another.
type link struct {
	text string
	glue bool // the next component goes on with the last
}

// findRockRidge looks for the mark of the sharing protocol in the root's record of itself, where it must be
// (SUSP 1.12 section 5.3), and for a mode, which plain extensions of others do not give.
func (v *iso) findRockRidge(root node) (bool, error) {
	rec, err := v.self(root.parts[0].start)
	if err != nil {
		return false, fmt.Errorf("root directory: %w", err)
	}
	for _, at := range []int{0, 14} { // behind 14 bytes of CD-ROM XA
		if s := rec.system; len(s) >= at+7 && string(s[at:at+2]) == "SP" && s[at+4] == 0xBE && s[at+5] == 0xEF {
			v.skip = int(s[at+6])
			rec.system = s[at:]
			f, err := v.fields(rec.system, 0)
			return f.hasMode, err
		}
	}
	return false, nil
}

// self reads the record with which a directory starts: its own.
func (v *iso) self(at int64) (record, error) {
	b, err := v.d.read(at, min(sector, v.d.size-at))
	if err != nil {
		return record{}, err
	}
	rec, err := parseRecord(b)
	if err == nil && !rec.isSelf() {
		err = errors.New("it does not start with its own record")
	}
	return rec, err
}

// rockRidge puts what Rock Ridge says in the place of what the plain record said.
func (v *iso) rockRidge(rec record, n node) (_ node, gone bool, err error) {
	f, err := v.fields(rec.system, v.skip)
	if err != nil {
		return n, false, fmt.Errorf("%q: %w", n.name, err)
	}
	if f.name != nil {
		n.name = strings.ToValidUTF8(string(f.name), "\uFFFD")
	}
	switch {
	case f.refused != "":
		return n, false, fmt.Errorf("file %q is %s", n.name, f.refused)
	case f.relocated, n.mode.IsDir() && (n.name == "rr_moved" || n.name == ".rr_moved"):
		return n, true, nil // its directories are met where they belong
	case f.hasChild:
		n, err = v.moved(n.name, f.child)
		return n, false, err
	}
	was := n.mode
	if f.hasMode {
		n.mode = posixMode(f.mode)
	}
	if n.mode&fs.ModeSymlink != 0 {
		n.link, n.size, n.parts = f.link.text, 0, nil
	}
	if n.mode.IsDir() != was.IsDir() || n.mode&fs.ModeSymlink != 0 && n.link == "" {
		return n, false, fmt.Errorf("%q is not what its mode says", n.name)
	}
	return n, false, nil
}

// moved is a directory that lies elsewhere. Its own record tells its size and mode.
func (v *iso) moved(name string, block uint32) (node, error) {
	rec, err := v.self(int64(block) * v.block)
	if err != nil {
		return node{}, fmt.Errorf("directory %q: %w", name, err)
	}
	n, err := v.directory(rec)
	if err != nil {
		return node{}, fmt.Errorf("directory %q: %w", name, err)
	}
	f, err := v.fields(rec.system, v.skip)
	if err == nil && f.hasMode {
		n.mode = fs.ModeDir | posixMode(f.mode)&fs.ModePerm
	}
	n.name = name
	return n, err
}

// posixMode reads the bits of st_mode. Devices, pipes and sockets are no part of an install tree, and come out as
// irregular.
func posixMode(m uint32) fs.FileMode {
	perm := fs.FileMode(m & 0o777)
	switch m & 0o170000 {
	case 0o100000:
		return perm
	case 0o040000:
		return perm | fs.ModeDir
	case 0o120000:
		return perm | fs.ModeSymlink
	}
	return perm | fs.ModeIrregular
}

// fields reads the system use fields of a record and the areas in which they go on.
func (v *iso) fields(b []byte, skip int) (f fields, err error) {
	b = b[min(skip, len(b)):]
	for range maxContinued {
		next := f.read(b)
		if next == nil {
			return f, nil
		}
		size := int64(binary.LittleEndian.Uint32(next[20:]))
		if size > sector {
			return f, fmt.Errorf("system use fields go on for %d bytes", size)
		}
		at := int64(binary.LittleEndian.Uint32(next[4:]))*v.block + int64(binary.LittleEndian.Uint32(next[12:]))
		if b, err = v.d.read(at, size); err != nil {
			return f, fmt.Errorf("system use fields: %w", err)
		}
	}
	return f, errors.New("system use fields go on without end")
}

// read takes the fields of one area: two letters, length, version, and what the letters say (SUSP 1.12 section 5, RRIP
// 1.12 section 4). It gives the field that says where they go on.
func (f *fields) read(b []byte) (next []byte) {
	for len(b) >= 4 && b[2] >= 4 && int(b[2]) <= len(b) {
		field := b[:b[2]]
		b = b[b[2]:]
		switch sig := string(field[:2]); {
		case sig == "ST":
			return next
		case sig == "CE" && len(field) >= 28:
			next = field
		case len(field) >= rockRidgeFields[sig].least && rockRidgeFields[sig].take != nil:
			rockRidgeFields[sig].take(f, field)
		}
	}
	return next
}

// rockRidgeFields is the table of the fields that matter for an install tree.
var rockRidgeFields = map[string]struct {
	least int
	take  func(*fields, []byte)
}{
	"PX": {8, func(f *fields, b []byte) { f.mode, f.hasMode = binary.LittleEndian.Uint32(b[4:]), true }},
	"NM": {5, (*fields).takeName},
	"SL": {5, (*fields).takeLink},
	"CL": {8, func(f *fields, b []byte) { f.child, f.hasChild = binary.LittleEndian.Uint32(b[4:]), true }},
	"RE": {4, func(f *fields, _ []byte) { f.relocated = true }},
	"SF": {4, func(f *fields, _ []byte) { f.refused = "sparse (RRIP SF), which is not read" }},
	"ZF": {4, func(f *fields, _ []byte) { f.refused = "compressed (zisofs), which is not read" }},
}

// takeName joins the pieces of a name; one that stands for the directory or its parent is none.
func (f *fields) takeName(b []byte) {
	if b[4]&^1 == 0 && len(f.name)+len(b) <= maxLink {
		f.name = append(f.name, b[5:]...)
	}
}

// takeLink reads components: flags, length, text (RRIP 1.12 section 4.1.3).
func (f *fields) takeLink(b []byte) {
	for b = b[5:]; len(b) >= 2 && int(b[1])+2 <= len(b); b = b[2+int(b[1]):] {
		flags, text := b[0], string(b[2:2+int(b[1])])
		switch {
		case flags&2 != 0:
			text = "."
		case flags&4 != 0:
			text = ".."
		case flags&8 != 0:
			text = "/"
		}
		f.link.add(text, flags&1 != 0)
	}
}

func (l *link) add(component string, goesOn bool) {
	if l.text != "" && !l.glue && !strings.HasSuffix(l.text, "/") {
		l.text += "/"
	}
	if len(l.text)+len(component) <= maxLink {
		l.text += component
	}
	l.glue = goesOn
}
