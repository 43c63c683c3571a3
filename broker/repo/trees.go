package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Trees is the store of install trees: manifests and files, each under the sha256 of its bytes, so that trees share what
// they have in common and a tree that was sent in part is gone on with.
type Trees struct {
	files *Files
	mu    sync.Mutex
	open  []*Tree // the last asked for, newest first
}

// OpenTrees makes the directory when it is not there. If now is nil, it is time.Now.
func OpenTrees(dir string, now func() time.Time) (*Trees, error) {
	files, err := OpenFiles(dir, now)
	if err != nil {
		return nil, err
	}
	return &Trees{files: files}, nil
}

// ImportManifest stores the manifest of a tree whose files may still be missing.
func (s *Trees) ImportManifest(r io.Reader, sum string) error {
	raw, err := io.ReadAll(io.LimitReader(r, MaxManifest+1))
	if err == nil && len(raw) > MaxManifest {
		err = fmt.Errorf("manifest: it is larger than %d bytes", MaxManifest)
	}
	if err == nil {
		_, err = ReadManifest(bytes.NewReader(raw))
	}
	if err == nil {
		_, err = s.files.Import(bytes.NewReader(raw), sum)
	}
	if err != nil {
		return fmt.Errorf("import tree: %w", err)
	}
	return nil
}

// maxOpenTrees bounds the manifests in memory.
const maxOpenTrees = 4

// Tree gives a stored tree.
func (s *Trees) Tree(sum string) (*Tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.open, func(t *Tree) bool { return t.Sum == sum })
	if i >= 0 {
		t := s.open[i]
		s.open = slices.Insert(slices.Delete(s.open, i, i+1), 0, t)
		return t, nil
	}
	f, err := s.files.Open(Name(sum, "manifest"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("tree %s is not stored (muster repo import sends it): %w", sum, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open tree: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	m, err := ReadManifest(io.TeeReader(f, h))
	if err == nil && hex.EncodeToString(h.Sum(nil)) != sum {
		err = errors.New("its manifest is spoilt: import it again")
	}
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", sum, err)
	}
	t := newTree(sum, m)
	s.open = append([]*Tree{t}, s.open[:min(len(s.open), maxOpenTrees-1)]...)
	return t, nil
}

// A TreeState says how much of a tree is stored.
type TreeState struct {
	Files        int         `json:"files"` // different ones
	Bytes        int64       `json:"bytes"` // of them
	Missing      []TreeEntry `json:"missing,omitempty"`
	MissingFiles int         `json:"missing_files"`
	MissingBytes int64       `json:"missing_bytes"`
}

// maxMissing is how many missing files are named at once: who sends them asks again.
const maxMissing = 4096

// State says what is missing of a tree, and keeps the rest as if it were new.
func (s *Trees) State(sum string) (st TreeState, err error) {
	t, err := s.Tree(sum)
	if err != nil {
		return st, err
	}
	if _, err := s.files.Held(sum, ""); err != nil {
		return st, err
	}
	files := t.Files()
	for _, sum := range slices.Sorted(maps.Keys(files)) {
		st.Files, st.Bytes = st.Files+1, st.Bytes+files[sum]
		size, err := s.files.Held(sum, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return st, err
		}
		if err == nil && size == files[sum] {
			continue
		}
		st.MissingFiles, st.MissingBytes = st.MissingFiles+1, st.MissingBytes+files[sum]
		if len(st.Missing) < maxMissing {
			st.Missing = append(st.Missing, TreeEntry{SHA256: sum, Size: files[sum]})
		}
	}
	return st, nil
}

// Held makes sure that a tree is stored, all of it, with these paths in it, and keeps it as if it were new.
func (s *Trees) Held(sum string, paths []string) error {
	st, err := s.State(sum)
	if err != nil {
		return err
	}
	if st.MissingFiles > 0 {
		return fmt.Errorf("%d of its %d files are missing: muster repo import goes on where it was cut short", st.MissingFiles, st.Files)
	}
	t, err := s.Tree(sum)
	if err != nil {
		return err
	}
	for _, p := range paths {
		e, err := t.Lookup(p)
		if err == nil && e.SHA256 == "" {
			err = fmt.Errorf("%q is a directory", p)
		}
		if err != nil {
			return fmt.Errorf("tree %s: %w", sum, err)
		}
	}
	return nil
}

// Open opens a file that a tree names.
func (s *Trees) Open(e TreeEntry) (*os.File, error) { return s.files.Open(Name(e.SHA256, "file")) }

// ReadText gives a file of a tree as text, when it is not larger than most bytes.
func (s *Trees) ReadText(sum, name string, most int64) (string, error) {
	t, err := s.Tree(sum)
	if err != nil {
		return "", err
	}
	e, err := t.Lookup(name)
	switch {
	case err == nil && e.SHA256 == "":
		err = errors.New("it is a directory")
	case err == nil && e.Size > most:
		err = fmt.Errorf("it has %d bytes: at most %d are read", e.Size, most)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	f, err := s.Open(e)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

// Import stores files of a tree from a tar archive, each named by the sha256 of its bytes. Those before one that is
// wrong, or before the stream broke, are kept: an import that was cut short is gone on with.
func (s *Trees) Import(sum string, r io.Reader) (n int, err error) {
	t, err := s.Tree(sum)
	if err != nil {
		return 0, err
	}
	in, b := tar.NewReader(r), batch{files: s.files, want: t.Files()}
	for {
		h, err := in.Next()
		if err == nil {
			err = b.add(in, h)
		}
		if err == nil {
			continue
		}
		if flushed := b.flush(); flushed != nil {
			err = flushed
		}
		if errors.Is(err, io.EOF) {
			return b.kept, nil
		}
		return b.kept, fmt.Errorf("import files: after %d: %w", b.kept, err)
	}
}

// Sweep removes what no tree of those named is made of and nobody had a use for since a while.
func (s *Trees) Sweep(trees map[string]bool, after time.Duration) (removed []string, err error) {
	named := map[string]bool{}
	for sum := range trees {
		t, err := s.Tree(sum)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err // what it is made of is not known, so that nothing may go
		}
		named[sum] = true
		for file := range t.Files() {
			named[file] = true
		}
	}
	return s.files.Sweep(named, after)
}

// Verify reads every file of a tree again. One that is not what it was is taken away, so that nobody installs it and
// the next import sends it anew; its paths are given. read is told of bytes as they are read.
func (s *Trees) Verify(ctx context.Context, sum string, read func(int64)) (spoilt []string, err error) {
	t, err := s.Tree(sum)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{} // whole or not
	for _, e := range t.manifest.Entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if e.Link != "" {
			continue
		}
		whole, known := seen[e.SHA256]
		if !known {
			if whole, err = s.verifyFile(ctx, e, read); err != nil {
				return nil, fmt.Errorf("verify %q: %w", e.Path, err)
			}
			seen[e.SHA256] = whole
		}
		if !whole {
			spoilt = append(spoilt, e.Path)
		}
	}
	return spoilt, nil
}

func (s *Trees) verifyFile(ctx context.Context, e TreeEntry, read func(int64)) (whole bool, err error) {
	f, err := s.Open(e)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if whole, err := Whole(ctx, f, e.SHA256, read); whole && err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return false, os.Remove(f.Name()) // what cannot be read is spoilt as well
}

// Whole says whether bytes have that sha256. read is told of them as they are read.
func Whole(ctx context.Context, r io.Reader, sum string, read func(int64)) (bool, error) {
	got, err := Sum(ctx, r, read)
	return err == nil && got == sum, err
}

// Sum reads to the end. read is told of bytes as they are read.
func Sum(ctx context.Context, r io.Reader, read func(int64)) (string, error) {
	h := sha256.New()
	_, err := io.CopyBuffer(h, &counting{r, ctx, read}, make([]byte, 256<<10))
	return hex.EncodeToString(h.Sum(nil)), err
}

// counting tells of what is read through it, and ends when its context does.
type counting struct {
	io.Reader
	ctx  context.Context
	read func(int64)
}

func (c *counting) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.Reader.Read(b)
	c.read(int64(n))
	return n, err
}
