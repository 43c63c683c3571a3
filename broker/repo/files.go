package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// MaxFile is the largest kernel, initrd or signature taken. A machine holds all of them in memory.
const MaxFile = 8 << 30

// A File describes a stored kernel, initrd or signature.
type File struct {
	SHA256    string `json:"sha256"` // hex
	SizeBytes int64  `json:"size_bytes"`
}

// Files is the store of what machines boot: kernels, initrds and their signatures, each under the sha256 of its bytes.
// A stored file never changes. Its modification time is when something last had a use for it, so that what no object
// names any more is kept for those who were told its name before.
type Files struct {
	dir string
	now func() time.Time
	mu  sync.Mutex // between a file that is found old and its removal nobody may ask for it to be held
}

// OpenFiles makes the directory when it is not there, and clears what imports left that were cut short. If now is nil,
// it is time.Now.
func OpenFiles(dir string, now func() time.Time) (*Files, error) {
	if now == nil {
		now = time.Now
	}
	err := os.MkdirAll(dir, 0o700)
	left, globErr := filepath.Glob(filepath.Join(dir, "import-*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err = errors.Join(err, globErr); err != nil {
		return nil, fmt.Errorf("open ramdisk store: %w", err)
	}
	return &Files{dir: dir, now: now}, nil
}

func (s *Files) path(sum string) (string, error) {
	if !sumForm.MatchString(sum) {
		return "", fmt.Errorf("file %q: want a sha256 in hexadecimal", sum)
	}
	return filepath.Join(s.dir, sum), nil
}

// Import stores a file while it is read. With a sum, it must be that of the bytes. Nothing is kept of an import that
// fails.
func (s *Files) Import(r io.Reader, sum string) (File, error) {
	tmp, err := os.CreateTemp(s.dir, "import-*")
	if err != nil {
		return File{}, fmt.Errorf("import file: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()

	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, hash), io.LimitReader(r, MaxFile+1))
	f := File{SHA256: hex.EncodeToString(hash.Sum(nil)), SizeBytes: n}
	switch {
	case err != nil:
		return File{}, fmt.Errorf("import file: %w", err)
	case n == 0:
		return File{}, errors.New("import file: it is empty")
	case n > MaxFile:
		return File{}, fmt.Errorf("import file: it is larger than %d bytes", int64(MaxFile))
	case sum != "" && sum != f.SHA256:
		return File{}, fmt.Errorf("import file: its sha256 is %s, not %s: it changed on the way or while it was read", f.SHA256, sum)
	}
	return f, s.keep(tmp, f.SHA256)
}

// keep names the bytes. A file that is there already is replaced by the same bytes, whole ones if a disk had lost some.
func (s *Files) keep(tmp *os.File, sum string) error {
	dst, err := s.path(sum)
	if err != nil {
		return err
	}
	err = errors.Join(tmp.Sync(), os.Chtimes(tmp.Name(), s.now(), s.now()), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), dst)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("keep file: %w", err)
	}
	return nil
}

// syncDir makes a new name survive a power cut (fsync(2)).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Name is what a file is served as: its content's sum, and what it is for people who read logs.
func Name(sum, label string) string { return sum + "/" + label }

// Open opens a file by the name it is served as. Whatever is no such name is fs.ErrNotExist.
func (s *Files) Open(name string) (*os.File, error) {
	sum, label, _ := strings.Cut(name, "/")
	p, err := s.path(sum)
	if err != nil || label == "" || strings.Contains(label, "/") {
		return nil, fmt.Errorf("open %q: %w", name, fs.ErrNotExist)
	}
	return os.Open(p)
}

// Held says how large a stored file is, and keeps it as if it were new. With the sum of a signature, that must be
// stored too and be one of the file.
func (s *Files) Held(sum, signature string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, err := s.hold(sum)
	if err != nil || signature == "" {
		return size, err
	}
	if _, err := s.hold(signature); err != nil {
		return 0, fmt.Errorf("signature: %w", err)
	}
	p, err := s.path(signature)
	if err != nil {
		return 0, err
	}
	der, err := readBounded(p, MaxSignature)
	if err == nil {
		_, err = VerifySignature(der, sum)
	}
	return size, err
}

func (s *Files) hold(sum string) (int64, error) {
	p, err := s.path(sum)
	if err != nil {
		return 0, err
	}
	st, err := os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("file %s is not stored (muster ramdisk import sends it): %w", sum, fs.ErrNotExist)
	}
	if err == nil {
		err = os.Chtimes(p, s.now(), s.now())
	}
	if err != nil {
		return 0, fmt.Errorf("hold file: %w", err)
	}
	return st.Size(), nil
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: it is larger than %d bytes", filepath.Base(name), limit)
	}
	return b, err
}

// Sweep removes the files that nobody had a use for since a while: those that are named are in use now, and so is what
// was imported or asked about lately. Who has such a file open reads it to its end.
func (s *Files) Sweep(named map[string]bool, after time.Duration) (removed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("sweep ramdisk store: %w", err)
	}
	for _, e := range entries {
		gone, one := s.sweepOne(e, named, after)
		if err = errors.Join(err, one); gone {
			removed = append(removed, e.Name())
		}
	}
	if err != nil {
		return removed, fmt.Errorf("sweep ramdisk store: %w", err)
	}
	return removed, nil
}

func (s *Files) sweepOne(e fs.DirEntry, named map[string]bool, after time.Duration) (gone bool, err error) {
	p, notOurs := s.path(e.Name())
	if notOurs != nil {
		return false, nil // an import under way
	}
	if named[e.Name()] {
		return false, os.Chtimes(p, s.now(), s.now())
	}
	st, err := e.Info()
	if err != nil || s.now().Sub(st.ModTime()) < after {
		return false, err
	}
	return true, os.Remove(p)
}
