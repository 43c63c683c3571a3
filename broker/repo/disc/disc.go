// Package disc reads the files of optical disc images: ISO 9660 (ECMA-119) plain, with Rock Ridge (IEEE P1282) or Joliet,
// and UDF (ECMA-167 as OSTA UDF 1.02 to 2.01 narrows it, which Windows media use). It is a leaf of its own because an
// image is a stranger's bytes: nothing is mounted, no privilege is needed, and what is read is bounded whatever it says.
// The kept libraries read neither UDF nor files of several extents, which media with a file over 4 GiB need.
package disc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of one image. Media of distributions have some 10,000 entries and are at most 8 deep.
const (
	maxEntries = 1 << 20
	maxDepth   = 64
	maxPath    = 4096
	maxParts   = 1 << 14 // of one file: UDF extents are below 1 GiB each, and written in order
	sector     = 2048    // in which ISO 9660 and the recognition of UDF count
)

// A Format is the view of an image that is read. Several may lie on one.
type Format string

// The formats, the best first: Rock Ridge has modes and links, and on media for Windows only UDF has the files.
const (
	RockRidge Format = "Rock Ridge"
	UDF       Format = "UDF"
	Joliet    Format = "Joliet"
	ISO9660   Format = "ISO 9660"
)

// Fold says that names are found whatever the case of their letters: who wrote the image may have changed it.
func (f Format) Fold() bool { return f != RockRidge }

// A Disc is an open image.
type Disc struct {
	Label  string // of the volume
	Format Format

	r    io.ReaderAt
	size int64
	root node
	list func(dir node, visit func(node) error) error
}

// An Entry is a file, directory or symbolic link.
type Entry struct {
	Path string      // from the root, as in images/pxeboot/vmlinuz
	Mode fs.FileMode // type and permissions
	Size int64       // of a file
	Link string      // where a symbolic link points to

	parts []part
}

// A node is an entry before its place in the tree is known.
type node struct {
	name  string
	mode  fs.FileMode
	size  int64
	link  string
	parts []part
}

// A part of a file lies in one piece; one that starts at hole is zeros that take no room.
type part struct{ start, size int64 }

const hole = -1

// Open recognizes what is on an image of that size.
func Open(r io.ReaderAt, size int64) (*Disc, error) {
	d := &Disc{r: r, size: size}
	v, err := d.recognize()
	if err == nil {
		err = d.choose(v)
	}
	if err != nil {
		return nil, fmt.Errorf("read disc image: %w", err)
	}
	return d, nil
}

// volumes are the descriptors that lie at the start of an image.
type volumes struct {
	primary, joliet []byte
	udf             bool
}

// recognize reads the volume descriptors of ECMA-119 section 8 and the recognition sequence of ECMA-167 part 2 that
// follows them. Where blocks have 4096 bytes, every other sector of that is blank.
func (d *Disc) recognize() (v volumes, err error) {
	for i := int64(16); i < 16+64; i++ {
		b, err := d.read(i*sector, sector)
		if err != nil {
			break // a short image is judged by what was found
		}
		switch id := string(b[1:6]); {
		case id == "CD001" && b[0] == 1 && v.primary == nil:
			v.primary = b
		case id == "CD001" && b[0] == 2 && jolietEscapes[string(b[88:91])]:
			v.joliet = b
		case id == "NSR02", id == "NSR03":
			v.udf = true
		case id != "CD001" && id != "\x00\x00\x00\x00\x00" && id != "BEA01" && id != "TEA01" && id != "BOOT2" && id != "CDW02":
			return v, nil
		}
	}
	return v, nil
}

func (d *Disc) choose(v volumes) error {
	if v.primary != nil {
		if ok, err := d.openISO(v.primary, RockRidge); ok || err != nil {
			return err
		}
	}
	if v.udf {
		return d.openUDF()
	}
	if v.joliet != nil {
		_, err := d.openISO(v.joliet, Joliet)
		return err
	}
	if v.primary != nil {
		_, err := d.openISO(v.primary, ISO9660)
		return err
	}
	return errors.New("there is neither ISO 9660 nor UDF on it")
}

// read reads a piece whose length the caller bounds.
func (d *Disc) read(off, n int64) ([]byte, error) {
	if err := d.within(off, n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if got, err := d.r.ReadAt(b, off); got < len(b) {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
	}
	return b, nil
}

func (d *Disc) within(off, n int64) error {
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return fmt.Errorf("%d bytes at %d lie past the end of the image, which has %d: is it whole?", n, off, d.size)
	}
	return nil
}

// Entries goes through the tree, each directory before what is in it. It ends with the first error: an image that lies
// once is not believed again.
func (d *Disc) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		w := walk{d: d, yield: yield, seen: map[int64]bool{}}
		if err := w.enter(d.root, "", 0); err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, fmt.Errorf("read disc image: %w", err))
		}
	}
}

var errStopped = errors.New("the caller wants no more")

type walk struct {
	d       *Disc
	yield   func(Entry, error) bool
	seen    map[int64]bool // directories by where they lie: none has two parents
	entries int
	bytes   int64 // of directories
}

func (w *walk) enter(dir node, path string, depth int) error {
	at := dir.place()
	switch {
	case depth > maxDepth:
		return fmt.Errorf("directory %q: more than %d levels deep", path, maxDepth)
	case w.seen[at]:
		return fmt.Errorf("directory %q: it is a directory that was met before: the tree is a loop", path)
	}
	if w.bytes += dir.size; w.bytes > w.d.size {
		return fmt.Errorf("directory %q: the directories together are larger than the image", path)
	}
	w.seen[at] = true
	err := w.d.list(dir, func(n node) error { return w.visit(n, path, depth) })
	if err != nil && path != "" && !strings.Contains(err.Error(), `"`+path) {
		err = fmt.Errorf("directory %q: %w", path, err)
	}
	return err
}

func (w *walk) visit(n node, dir string, depth int) error {
	if w.entries++; w.entries > maxEntries {
		return fmt.Errorf("there are more than %d entries", maxEntries)
	}
	if err := checkName(n.name); err != nil {
		return err
	}
	e := Entry{Path: strings.TrimPrefix(dir+"/"+n.name, "/"), Mode: n.mode, Size: n.size, Link: n.link, parts: n.parts}
	if len(e.Path) > maxPath {
		return fmt.Errorf("path %q...: longer than %d bytes", e.Path[:64], maxPath)
	}
	if e.Mode.IsRegular() {
		for _, p := range e.parts {
			if err := w.d.holds(p); err != nil {
				return fmt.Errorf("file %q: %w", e.Path, err)
			}
		}
	}
	if e.Mode.IsDir() {
		e.Size, e.parts = 0, nil
	}
	if !w.yield(e, nil) {
		return errStopped
	}
	if n.mode.IsDir() {
		return w.enter(n, e.Path, depth+1)
	}
	return nil
}

func (d *Disc) holds(p part) error {
	if p.start == hole {
		return nil
	}
	return d.within(p.start, p.size)
}

// place tells a directory from others.
func (n node) place() int64 {
	if len(n.parts) == 0 {
		return 0
	}
	return n.parts[0].start
}

// checkName refuses what is no name in a directory (T36).
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return fmt.Errorf("name %q is none in a directory", name)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("name %q holds what cannot be printed", name)
	}
	return nil
}

// Place tells where a file lies: two of one place are the same bytes.
func (e Entry) Place() string { return fmt.Sprint(e.parts) }

// Content gives the bytes of a file.
func (d *Disc) Content(e Entry) *io.SectionReader {
	return io.NewSectionReader(&content{d.r, e.parts}, 0, e.Size)
}

// content is parts of an image in a row.
type content struct {
	r     io.ReaderAt
	parts []part
}

func (c *content) ReadAt(b []byte, off int64) (n int, err error) {
	for _, p := range c.parts {
		if off >= p.size {
			off -= p.size
			continue
		}
		m := int(min(int64(len(b)-n), p.size-off))
		if p.start == hole {
			clear(b[n : n+m])
		} else if got, err := c.r.ReadAt(b[n:n+m], p.start+off); got < m {
			return n + got, errors.Join(err, io.ErrUnexpectedEOF)
		}
		if n, off = n+m, 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}
