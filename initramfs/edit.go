package initramfs

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// An Addition says how files are added.
type Addition struct {
	Packing
	Append bool // leave every byte as it is and put a new segment behind; Packing.Compress is for that segment alone
}

// An edit changes a ramdisk without unpacking it: segments that nothing changes in are copied as they are.
type edit struct {
	image  Image
	m      *Manifest
	left   *rootfs
	drop   map[int]bool  // entries to be left out
	change map[int]Entry // entries to be written in place of others, with the same content
	dirty  []bool        // segments that are written anew
	added  []planned
	from   tree   // content of what is added, by name
	ino    uint32 // the highest
	notes  []string
}

func newEdit(image Image) (*edit, error) {
	m, err := readImage(image)
	if err != nil {
		return nil, err
	}
	left, err := m.sound()
	if err != nil {
		return nil, err
	}
	e := &edit{image: image, m: m, left: left, drop: make(map[int]bool), change: make(map[int]Entry),
		dirty: make([]bool, len(m.Segments)), from: make(tree)}
	for i := range m.Entries {
		e.ino = max(e.ino, m.Entries[i].Ino)
	}
	return e, nil
}

// Remove writes the ramdisk without the files of these names, and without what is in those that are directories, and
// says what it left out, one line each. Other links of a file that goes keep its content.
func Remove(image Image, names []string, out io.Writer) ([]string, error) {
	e, err := newEdit(image)
	if err != nil {
		return nil, err
	}
	for _, called := range names {
		p, why := e.left.find(-1, called)
		switch {
		case why != "":
			return nil, fmt.Errorf("remove %q: %s", called, why)
		case p.inode() == nil || p.base == "":
			return nil, fmt.Errorf("remove %q: no such file in the ramdisk", called)
		}
		e.remove(p.String(), true)
	}
	e.reunite()
	err = e.write(out)
	return e.notes, err
}

// remove drops every entry that spoke of a name, so that no earlier one comes to light.
func (e *edit) remove(called string, below bool) {
	for i := range e.m.Entries {
		at := cleanName(e.m.Entries[i].Name)
		if p := e.left.places[i]; p.dir != nil {
			at = p.String()
		}
		if e.drop[i] || at != called && (!below || !strings.HasPrefix(at, called+"/")) {
			continue
		}
		if below && e.left.lives(i) {
			e.notes = append(e.notes, "removed "+at)
		}
		e.drop[i] = true
		e.touch(i)
	}
}

func (e *edit) touch(i int) {
	segment, _ := e.m.segmentOf(e.m.Entries[i].Archive)
	e.dirty[segment] = true
}

// reunite gives files whose content would go with one of their names to the last of the others.
func (e *edit) reunite() {
	stay, gone := make(map[*inode][]int), make(map[*inode]int)
	for i := range e.m.Entries {
		if e.m.Entries[i].kind() != typeRegular || !e.left.lives(i) {
			continue
		}
		n := e.left.places[i].inode()
		if e.drop[i] {
			gone[n]++
		} else {
			stay[n] = append(stay[n], i)
		}
	}
	for n, lost := range gone {
		if len(stay[n]) > 0 {
			e.keep(n, stay[n], lost)
		}
	}
}

// keep counts the links of a file anew and moves its content.
func (e *edit) keep(n *inode, stay []int, lost int) {
	for _, i := range stay {
		c := e.m.Entries[i]
		c.Links = uint32(max(1, int(c.Links)-lost))
		e.change[i] = c
		e.touch(i)
	}
	last := stay[len(stay)-1]
	if !e.drop[n.data] || e.m.Entries[n.data].Size == 0 {
		return
	}
	c, with := e.change[last], e.m.Entries[n.data]
	c.Size, c.SHA256, c.Check, c.Archive = with.Size, with.SHA256, with.Check, with.Archive
	delete(e.change, last)
	e.drop[last] = true
	e.change[n.data] = c // where the content is, because that can be read only once
	delete(e.drop, n.data)
}

// Add writes the ramdisk with more files in its last archive, or in a segment of its own, and says which, one line each.
// A file takes the place of one of that name. Directories that are there already, be it behind a symbolic link, stay as
// they are: as an entry, "lib" would take the place of "lib -> usr/lib".
func Add(image Image, files []File, out io.Writer, c Addition) ([]string, error) {
	e, err := newEdit(image)
	if err != nil {
		return nil, err
	}
	epoch, err := c.epoch()
	if err != nil {
		return nil, err
	}
	if err := e.from.addFiles(files); err != nil {
		return nil, err
	}
	if c.Append {
		if err := e.appendSegment(c.Compress); err != nil {
			return nil, err
		}
	}
	made := make(map[string]bool)
	for _, called := range e.from.names() {
		if err := e.add(called, epoch, made, c.Append); err != nil {
			return nil, fmt.Errorf("add %q: %w", called, err)
		}
	}
	e.reunite()
	if err := e.tried(); err != nil {
		return nil, err
	}
	e.dirty[len(e.dirty)-1] = true
	err = e.write(out)
	return e.notes, err
}

// appendSegment lays out one more segment.
func (e *edit) appendSegment(format string) error {
	last := &e.m.Segments[len(e.m.Segments)-1]
	if format == "" {
		format = last.Format
		if _, err := compressionNamed(format); err != nil {
			format = "gzip"
		}
	}
	if _, err := compressionNamed(format); err != nil {
		return err
	}
	end := last.Offset + last.Size + last.Padding
	last.Padding += padding(end)
	if last.Format == "lz4" {
		last.Padding += 4 // a size of 0 is what ends it
	}
	e.m.Segments = append(e.m.Segments, Segment{Format: format, Archives: []Archive{{Trailer: Entry{Name: trailer, Links: 1}}}})
	e.m.Archives++
	e.dirty = append(e.dirty, true)
	return nil
}

// add plans one file, and the directories it lies in that are not there.
func (e *edit) add(called string, epoch uint32, made map[string]bool, appended bool) error {
	for n := range len(called) {
		if called[n] == '/' {
			if err := e.addDir(called[:n], epoch, made); err != nil {
				return err
			}
		}
	}
	what := e.from[called]
	if what.mode&typeMask == typeDir {
		return e.addDir(called, epoch, made)
	}
	if p, why := e.left.find(-1, called); why == "" && p.inode() != nil {
		n := p.inode()
		switch {
		case n.kind == typeDir:
			return fmt.Errorf("%q is a directory: remove it first", p.String())
		case !appended:
			e.remove(p.String(), false)
		case n.links > 1 && n.kind == typeRegular:
			return fmt.Errorf("%q is one file with others, which would change with it: do not append", p.String())
		}
	}
	x := planned{Entry: e.entry(called, what, epoch), from: called}
	if what.mode&typeMask == typeLink {
		target := make([]byte, what.size)
		if _, err := what.content.ReadAt(target, 0); err != nil {
			return err
		}
		x.Target = string(target)
	}
	e.plan(x)
	return nil
}

func (e *edit) plan(x planned) {
	e.added = append(e.added, x)
	e.notes = append(e.notes, "added "+x.Name)
}

// entry is the header of something new.
func (e *edit) entry(called string, what member, epoch uint32) Entry {
	e.ino++ // after the last, 0: it has one link, and no kernel asks
	return Entry{Name: called, Mode: what.mode, Links: 1, Ino: e.ino, Time: epoch, Size: uint32(what.size), Major: what.major,
		Minor: what.minor, Archive: e.m.Archives - 1}
}

// addDir plans a directory that is not there.
func (e *edit) addDir(called string, epoch uint32, made map[string]bool) error {
	n := e.left.follow(called)
	switch {
	case made[called], n != nil && n.kind == typeDir && n.node >= 0:
		return nil
	case n != nil && n.node >= 0:
		return fmt.Errorf("%q is not a directory", called)
	}
	made[called] = true
	x := e.entry(called, member{mode: typeDir | 0o755}, epoch)
	x.Links = 2
	e.plan(planned{Entry: x})
	return nil
}

// tried lets a kernel's rules have a look at the outcome: nothing that was added may get lost.
func (e *edit) tried() error {
	outcome := &Manifest{Segments: e.m.Segments}
	for i := range e.m.Entries {
		c, ok := e.change[i]
		if !ok {
			c = e.m.Entries[i]
		}
		if !e.drop[i] {
			outcome.Entries = append(outcome.Entries, c)
		}
	}
	n := len(outcome.Entries)
	for _, x := range e.added {
		outcome.Entries = append(outcome.Entries, x.Entry)
	}
	left := outcome.unpack()
	for i := n; i < len(outcome.Entries); i++ {
		if why := left.lost[i]; why != "" {
			return fmt.Errorf("add %q: a kernel would make nothing of it: %s", path.Clean(outcome.Entries[i].Name), why)
		}
	}
	return nil
}

// write writes the outcome.
func (e *edit) write(out io.Writer) error {
	layout := *e.m
	layout.Segments = slices.Clone(e.m.Segments)
	p := newPacker(out, &layout)
	p.source = e.image
	for i := range layout.Segments {
		p.raw[i] = !e.dirty[i]
		if s := &layout.Segments[i]; e.dirty[i] {
			if _, err := compressionNamed(s.Format); err != nil {
				e.notes = append(e.notes, fmt.Sprintf("segment %d was %s, which is not written here: gzip instead", i, s.Format))
				s.Format = "gzip"
			}
		}
	}
	err := readAgain(e.image, e.m, func(i int, _ Entry, content io.Reader) error { return e.copy(p, i, content) })
	if err != nil {
		return err
	}
	for _, x := range e.added {
		content := io.Reader(strings.NewReader(""))
		if what := e.from[x.from]; what.content != nil {
			content = io.NewSectionReader(what.content, 0, what.size)
		}
		if err := p.entry(x.Archive, x.Entry, content); err != nil {
			return err
		}
	}
	return p.close()
}

// copy writes entry i, or what is in its place.
func (e *edit) copy(p *packer, i int, content io.Reader) error {
	x, ok := e.change[i]
	if !ok {
		x = e.m.Entries[i]
	}
	segment, _ := e.m.segmentOf(x.Archive)
	if p.raw[segment] || e.drop[i] {
		return nil
	}
	return p.entry(x.Archive, x, content)
}
