package repo

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"time"

	"muster/broker/repo/disc"
)

// A SourceFile is a file, directory or link of a tree that lies here, on a disc or in a directory.
type SourceFile struct {
	TreeEntry
	Dir   bool
	Place string // files of one place are the same bytes; "" when that is not known
	Open  func() (io.ReadCloser, error)
}

// ReadDisc goes through a disc image. A disc can name one piece of itself many times over: what it says it holds in
// different places is bounded by a few times its own size.
func ReadDisc(d *disc.Disc, size int64) iter.Seq2[SourceFile, error] {
	return func(yield func(SourceFile, error) bool) {
		left, seen := 4*size, map[string]bool{}
		for e, err := range d.Entries() {
			f := SourceFile{TreeEntry{e.Path, e.Mode.Perm(), e.Size, "", e.Link}, e.Mode.IsDir(), e.Place(),
				func() (io.ReadCloser, error) { return readerAtCloser{d.Content(e)}, nil }}
			if err == nil && e.Mode.IsRegular() && !seen[f.Place] {
				if seen[f.Place], left = true, left-e.Size; left < 0 {
					err = errors.New("read disc image: its files together are much larger than the image")
				}
			}
			if err == nil && e.Mode&fs.ModeIrregular != 0 {
				err = fmt.Errorf("%q is neither a file, a directory nor a link", e.Path)
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// readerAtCloser is a file on a disc.
type readerAtCloser struct{ *io.SectionReader }

func (readerAtCloser) Close() error { return nil }

// ReadDir goes through a directory. Links are not followed.
func ReadDir(root *os.Root) iter.Seq2[SourceFile, error] {
	return func(yield func(SourceFile, error) bool) {
		fail := func(err error) error { yield(SourceFile{}, err); return fs.SkipAll }
		err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return fail(err)
			}
			if p == "." {
				return nil
			}
			f, err := dirFile(root, p, d)
			if err != nil {
				return fail(err)
			}
			if !yield(f, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(SourceFile{}, err)
		}
	}
}

func dirFile(root *os.Root, p string, d fs.DirEntry) (SourceFile, error) {
	st, err := d.Info()
	if err != nil {
		return SourceFile{}, err
	}
	f := SourceFile{TreeEntry: TreeEntry{Path: p, Mode: st.Mode().Perm()}, Dir: d.IsDir(),
		Open: func() (io.ReadCloser, error) { return root.Open(p) }}
	switch {
	case d.IsDir():
	case st.Mode()&fs.ModeSymlink != 0:
		f.Mode = 0o777
		f.Link, err = root.Readlink(p)
	case !st.Mode().IsRegular():
		err = fmt.Errorf("%q is neither a file, a directory nor a link", p)
	default:
		f.Size = st.Size()
	}
	return f, err
}

// A Source is a tree that lies here, read once: its manifest, and where the bytes of each sum are. It is a fs.FS, so
// that what it is of can be recognized before it is sent.
type Source struct {
	Manifest Manifest
	Sum      string // of the manifest, once it is named
	Encoded  []byte
	Bytes    int64 // of different files
	at       map[string]SourceFile
	byPath   map[string]SourceFile
	tree     *Tree
}

// ReadSource sums up every file. read is told of bytes as they are read.
func ReadSource(ctx context.Context, files iter.Seq2[SourceFile, error], read func(int64)) (*Source, error) {
	s := &Source{at: map[string]SourceFile{}, byPath: map[string]SourceFile{}}
	placed := map[string]string{} // sums
	for f, err := range files {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if f.Dir {
			continue
		}
		if len(s.Manifest.Entries) == MaxTreeEntries {
			return nil, fmt.Errorf("there are more than %d files", MaxTreeEntries)
		}
		if f.Link == "" {
			if f.SHA256 = placed[f.Place]; f.SHA256 == "" || f.Place == "" {
				f.SHA256, err = sumUp(ctx, f, read)
			} else {
				read(f.Size)
			}
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", f.Path, err)
			}
			placed[f.Place] = f.SHA256
			s.add(f)
		}
		s.byPath[f.Path] = f
		s.Manifest.Entries = append(s.Manifest.Entries, f.TreeEntry)
	}
	s.Manifest.sort()
	s.tree = newTree("", &Manifest{Fold: true, Entries: s.Manifest.Entries})
	return s, nil
}

// Name writes the manifest out and names the tree by it. fold says that its files are asked for in another case.
func (s *Source) Name(fold bool) (err error) {
	s.Manifest.Fold = fold
	if s.Encoded, err = s.Manifest.Encode(); err != nil {
		return err
	}
	sum := sha256.Sum256(s.Encoded)
	s.Sum = hex.EncodeToString(sum[:])
	return nil
}

func (s *Source) add(f SourceFile) {
	if _, twice := s.at[f.SHA256]; !twice {
		s.at[f.SHA256] = f
		s.Bytes += f.Size
	}
}

func sumUp(ctx context.Context, f SourceFile, read func(int64)) (string, error) {
	in, err := f.Open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, &counting{in, ctx, read}, make([]byte, 256<<10))
	if err == nil && n != f.Size {
		err = fmt.Errorf("it has %d bytes, not %d: it changes while it is read", n, f.Size)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// Files is how many different files there are.
func (s *Source) Files() int { return len(s.at) }

// Send writes files by their sums as Trees.Import reads them. read is told of bytes as they are sent.
func (s *Source) Send(ctx context.Context, w io.Writer, files []TreeEntry, read func(int64)) error {
	out := tar.NewWriter(w)
	for _, e := range files {
		f, ok := s.at[e.SHA256]
		if !ok {
			return fmt.Errorf("the server wants %s, which is no file of this tree", e.SHA256)
		}
		if err := send(ctx, out, f, read); err != nil {
			return fmt.Errorf("send %q: %w", f.Path, err)
		}
	}
	return out.Close()
}

func send(ctx context.Context, out *tar.Writer, f SourceFile, read func(int64)) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.SHA256, Size: f.Size, Mode: 0o600, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, &counting{in, ctx, read}, make([]byte, 256<<10))
	return err
}

// Open opens a file of the tree through its links, whatever the case of its letters.
func (s *Source) Open(name string) (fs.File, error) {
	e, err := s.tree.Lookup(name)
	if err != nil || e.SHA256 == "" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f := s.byPath[e.Path]
	in, err := f.Open()
	if err != nil {
		return nil, err
	}
	return sourceFile{in, e}, nil
}

// sourceFile is an open file of a source.
type sourceFile struct {
	io.ReadCloser
	entry TreeEntry
}

func (f sourceFile) Stat() (fs.FileInfo, error) { return entryInfo{f.entry}, nil }

// ReadAt is there because the lists of Windows images stand at the end of files of gigabytes.
func (f sourceFile) ReadAt(b []byte, off int64) (int, error) {
	r, ok := f.ReadCloser.(io.ReaderAt)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return r.ReadAt(b, off)
}

type entryInfo struct{ TreeEntry }

func (i entryInfo) Name() string       { return path.Base(i.Path) }
func (i entryInfo) Size() int64        { return i.TreeEntry.Size }
func (i entryInfo) Mode() fs.FileMode  { return i.TreeEntry.Mode }
func (i entryInfo) ModTime() time.Time { return time.Time{} }
func (i entryInfo) IsDir() bool        { return false }
func (i entryInfo) Sys() any           { return nil }
