package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/u-root/mkuimage/cpio"
)

// File types of a member's mode, as in struct stat.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
	typeChar    = 0o020000
	typeBlock   = 0o060000
	typePipe    = 0o010000
	typeSocket  = 0o140000
)

// A tree is what a ramdisk will hold, by name.
type tree map[string]member

// A member is a file, directory, link or device node.
type member struct {
	mode         uint32
	major, minor uint32 // of a device node
	size         int64
	content      io.ReaderAt // of a file: its bytes; of a link: its target; else nil
}

// skeleton is what must be there before init mounts anything. A kernel opens /dev/console for init's standard output
// before devtmpfs exists.
var skeleton = []struct {
	name         string
	mode         uint32
	major, minor uint32
}{
	{"dev", typeDir | 0o755, 0, 0},
	{"dev/console", typeChar | 0o600, 5, 1},
	{"dev/null", typeChar | 0o666, 1, 3},
	{"etc", typeDir | 0o755, 0, 0},
	{"lib/modules", typeDir | 0o755, 0, 0},
	{"mnt", typeDir | 0o755, 0, 0},
	{"proc", typeDir | 0o555, 0, 0},
	{"root", typeDir | 0o700, 0, 0},
	{"run", typeDir | 0o755, 0, 0},
	{"sys", typeDir | 0o555, 0, 0},
	{"tmp", typeDir | 0o1777, 0, 0},
}

// addSkeleton adds the directories and nodes of skeleton.
func (t tree) addSkeleton() {
	for _, s := range skeleton {
		t[s.name] = member{mode: s.mode, major: s.major, minor: s.minor}
	}
}

// addBytes adds a file that anybody may read.
func (t tree) addBytes(name string, content []byte) error {
	return t.add(name, member{mode: typeRegular | 0o644, size: int64(len(content)), content: bytes.NewReader(content)})
}

// add puts m at name, in place of what was there; a directory keeps what lies in it.
func (t tree) add(name string, m member) error {
	clean, err := safeName(name)
	if err != nil {
		return err
	}
	if m.size > math.MaxUint32 {
		return fmt.Errorf("add %q: %d bytes are more than a newc archive can say", name, m.size)
	}
	t[clean] = m
	return nil
}

// safeName refuses names that would land outside the ramdisk or end the archive early.
func safeName(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("add %q: %w", name, errEscape)
	}
	clean := cleanName(name)
	if clean == "" || clean == trailer || len(clean) >= maxName || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("add %q: not a name for a file", name)
	}
	return clean, nil
}

// addFiles lays the operator's files over the tree, in their order.
func (t tree) addFiles(files []File) error {
	for _, f := range files {
		if err := t.addFile(f); err != nil {
			return err
		}
	}
	return nil
}

// addFile adds a file, a link, or a directory with all below. What f.Source itself names is followed, links below are
// kept. Sockets, pipes and device nodes are refused.
func (t tree) addFile(f File) error {
	source, err := filepath.EvalSymlinks(f.Source)
	if err != nil {
		return fmt.Errorf("add %q: %w", f.Name, err)
	}
	return filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		name := path.Join("/", f.Name, filepath.ToSlash(rel))
		if rel == "." {
			name = f.Name // as written, so that its ".." are seen
		}
		return t.addHostFile(name, file, d)
	})
}

// addHostFile adds one file of this machine.
func (t tree) addHostFile(name, file string, d fs.DirEntry) error {
	switch kind := d.Type(); {
	case kind.IsDir():
		if cleanName(name) == "" {
			return nil
		}
		return t.add(name, member{mode: typeDir | 0o755})
	case kind.IsRegular():
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := t.addBytes(name, content); err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode()&0o100 != 0 {
			m := t[cleanName(name)]
			m.mode |= 0o111
			t[cleanName(name)] = m
		}
		return nil
	case kind&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return t.add(name, member{mode: typeLink | 0o777, size: int64(len(target)), content: strings.NewReader(target)})
	default:
		return fmt.Errorf("add %q: %q is a %s, not a file, directory or link", name, file, kind)
	}
}

// addParents adds the directories that nobody named: a kernel drops a file whose directory is not there.
func (t tree) addParents() error {
	for _, name := range t.names() {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			m, ok := t[dir]
			if ok && m.mode&typeMask != typeDir {
				return fmt.Errorf("add %q: %q is not a directory", name, dir)
			}
			if !ok {
				t[dir] = member{mode: typeDir | 0o755}
			}
		}
	}
	return nil
}

// names are sorted, so that a directory stands before what lies in it.
func (t tree) names() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// writeTo writes the tree as one newc archive: sorted, inodes numbered from 1, all of root, all of one time.
func (t tree) writeTo(ctx context.Context, epoch time.Time, w io.Writer) error {
	if err := t.addParents(); err != nil {
		return err
	}
	when, err := archiveTime(epoch)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	out := cpio.Newc.Writer(w)
	for i, name := range t.names() {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := t[name]
		links := uint64(1)
		if m.mode&typeMask == typeDir {
			links = 2
		}
		err := out.WriteRecord(cpio.Record{ReaderAt: m.content, Info: cpio.Info{
			Name: name, Mode: uint64(m.mode), Ino: uint64(i + 1), NLink: links, MTime: uint64(when),
			FileSize: uint64(m.size), Rmajor: uint64(m.major), Rminor: uint64(m.minor),
		}})
		if err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
	}
	return cpio.WriteTrailer(out)
}

// archiveTime is what a header can say of t.
func archiveTime(t time.Time) (uint32, error) {
	when := t.Unix()
	if when < 0 || when > math.MaxUint32 {
		return 0, fmt.Errorf("time %s is not within 1970 to 2106", t.Format(time.RFC3339))
	}
	return uint32(when), nil
}

// writeMeasured writes the archive to out, compressed by pack, and reads it back on the way.
func writeMeasured(ctx context.Context, t tree, epoch time.Time, out io.Writer, pack func(io.Writer, func(io.Writer) error) error) (*Manifest, error) {
	pipe, feed := io.Pipe()
	type result struct {
		m   *Manifest
		err error
	}
	read := make(chan result, 1)
	go func() {
		m, err := Measure(pipe)
		pipe.CloseWithError(err)
		read <- result{m, err}
	}()
	sum := sha256.New()
	err := pack(io.MultiWriter(out, sum, feed), func(w io.Writer) error { return t.writeTo(ctx, epoch, w) })
	feed.CloseWithError(err)
	back := <-read
	switch {
	case err != nil:
		return nil, fmt.Errorf("write ramdisk: %w", err)
	case back.err != nil:
		return nil, fmt.Errorf("read the ramdisk back: %w", back.err)
	case back.m.SHA256 != hex.EncodeToString(sum.Sum(nil)):
		return nil, fmt.Errorf("read the ramdisk back: sum differs from what was written")
	}
	return back.m, nil
}

// writeGzip compresses what write writes.
func writeGzip(w io.Writer, write func(io.Writer) error) error {
	z, err := createGzip(w)
	if err != nil {
		return err
	}
	if err := write(z); err != nil {
		return err
	}
	return z.Close()
}
