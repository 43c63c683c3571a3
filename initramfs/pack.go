package initramfs

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// defaultEpoch is the time of what has none of its own and is to have the same one every day.
var defaultEpoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// A packer writes entries into archives and segments laid out as a manifest says.
type packer struct {
	layout  *Manifest
	source  io.ReaderAt // what the layout is of
	raw     []bool      // segments to be copied from source as they are
	out     io.Writer
	written counter // of the file

	archive int // being written; -1 before the first
	z       io.WriteCloser
	w       io.Writer // into the segment
	at      counter   // in the segment
}

func newPacker(out io.Writer, layout *Manifest) *packer {
	return &packer{layout: layout, out: out, archive: -1, raw: make([]bool, len(layout.Segments))}
}

// entry writes e to an archive, after everything of the archives before. Content must be e.Size bytes.
func (p *packer) entry(archive int, e Entry, content io.Reader) error {
	if err := p.advance(archive); err != nil {
		return err
	}
	return p.put(e, content)
}

// close writes what follows the last entry.
func (p *packer) close() error { return p.advance(p.layout.Archives) }

// advance ends archives and begins others until archive is the one being written.
func (p *packer) advance(archive int) error {
	for p.archive < archive {
		if p.archive >= 0 {
			if err := p.endArchive(); err != nil {
				return err
			}
		}
		p.archive++
		if p.archive < p.layout.Archives {
			if err := p.beginArchive(); err != nil {
				return err
			}
		}
	}
	return nil
}

// beginArchive opens the segment that the archive is the first of.
func (p *packer) beginArchive() error {
	segment, nth := p.layout.segmentOf(p.archive)
	s := &p.layout.Segments[segment]
	if nth > 0 {
		return nil
	}
	out := io.MultiWriter(p.out, &p.written)
	if p.raw[segment] {
		p.w = io.Discard
		_, err := io.Copy(out, io.NewSectionReader(p.source, s.Offset, s.Size))
		return err
	}
	p.z, p.at = nil, counter{}
	c, err := compressionNamed(s.Format)
	if err != nil {
		return err
	}
	if c != nil {
		if p.z, err = c.create(out); err != nil {
			return err
		}
		out = p.z
	}
	p.w = io.MultiWriter(out, &p.at)
	return nil
}

// endArchive writes the trailer, the zeros that stood behind it, and the end of the segment.
func (p *packer) endArchive() error {
	segment, nth := p.layout.segmentOf(p.archive)
	s := &p.layout.Segments[segment]
	a := &s.Archives[nth]
	if !p.raw[segment] {
		if err := p.put(a.Trailer, strings.NewReader("")); err != nil {
			return err
		}
		if err := zeroFill(p.w, refill(a.Offset+a.Size, a.Padding, p.at.n, nth < len(s.Archives)-1)); err != nil {
			return err
		}
	}
	if nth < len(s.Archives)-1 {
		return nil
	}
	if p.z != nil && !p.raw[segment] {
		if err := p.z.Close(); err != nil {
			return err
		}
	}
	plainFollows := segment+1 < len(p.layout.Segments) && p.layout.Segments[segment+1].Format == "none"
	return zeroFill(io.MultiWriter(p.out, &p.written), refill(s.Offset+s.Size, s.Padding, p.written.n, plainFollows))
}

// refill says how many zeros are to follow what ends at now, where some followed it when it ended at before: as many, if
// nothing has moved, else up to the block that they filled.
func refill(before, zeros, now int64, aligned bool) int64 {
	switch {
	case before == now:
		return zeros
	case zeros == 0 && !aligned:
		return 0
	case zeros > 0 && (before+zeros)%512 == 0: // as GNU cpio and dd leave it
		return -now & 511
	}
	return padding(now)
}

// put writes one entry.
func (p *packer) put(e Entry, content io.Reader) error {
	_, nth := p.layout.segmentOf(p.archive)
	segment, _ := p.layout.segmentOf(p.archive)
	upper := p.layout.Segments[segment].Archives[nth].Upper
	if _, err := p.w.Write(appendHeader(nil, e, upper)); err != nil {
		return err
	}
	if e.kind() == typeLink {
		content = io.MultiReader(strings.NewReader(e.Target), zeroReader{}) // some count the zero that ends a target
	}
	if _, err := io.CopyN(p.w, content, int64(e.Size)); err != nil {
		return fmt.Errorf("write %q: content of %d bytes: %w", e.Name, e.Size, noEOF(err))
	}
	return zeroFill(p.w, padding(int64(e.Size)))
}

// A zeroReader has zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func zeroFill(w io.Writer, n int64) error {
	_, err := io.CopyN(w, zeroReader{}, n)
	return err
}

// compressWith changes the compression of a layout: of all segments but what must stay plain, because a kernel looks
// into it before it can unpack anything. It gives a line for each segment that cannot be written as it was.
func (m *Manifest) compressWith(format string) (notes []string, err error) {
	if format != "" {
		if _, err := compressionNamed(format); err != nil {
			return nil, err
		}
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		switch _, err := compressionNamed(s.Format); {
		case m.early(i):
		case format != "":
			s.Format = format
		case err != nil:
			notes = append(notes, fmt.Sprintf("segment %d was %s, which is not written here: gzip instead", i, s.Format))
			s.Format = "gzip"
		}
	}
	return notes, nil
}

// early tells whether a segment is for the time before a ramdisk is unpacked: microcode and ACPI tables
// (Documentation/x86/microcode.rst, Documentation/admin-guide/acpi/initrd_table_override.rst).
func (m *Manifest) early(segment int) bool {
	if m.Segments[segment].Format != "none" {
		return false
	}
	found := false
	for i := range m.Entries {
		if s, _ := m.segmentOf(m.Entries[i].Archive); s != segment {
			continue
		}
		found = true
		name := cleanName(m.Entries[i].Name)
		if name != "" && name != "early_cpio" && !strings.HasPrefix(name+"/", "kernel/") { // dracut's mark is early_cpio
			return false
		}
	}
	return found
}
