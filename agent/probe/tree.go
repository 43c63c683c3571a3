package probe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	maxFile    = 64 << 10 // bytes of one sysfs or proc file
	maxEntries = 4096     // of one directory; what a document may carry
)

// A tree is where /proc, /sys and /dev of a machine lie. Paths are those of the machine, absolute. Outside "/" no
// symbolic link leads out of it.
type tree struct {
	root  *os.Root      // nil for "/"
	steps *atomic.Int64 // counts what was read, to tell slow from hung
	odd   *oddities     // what a collector saw and could not tell by a value
}

func openTree(dir string) (tree, error) {
	if dir == "" || filepath.Clean(dir) == "/" {
		return tree{steps: new(atomic.Int64)}, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return tree{}, fmt.Errorf("open root: %w", err)
	}
	return tree{root: root, steps: new(atomic.Int64)}, nil
}

func (t tree) close() {
	if t.root != nil {
		t.root.Close()
	}
}

// live says that this is the running machine, so that system calls speak of the same one.
func (t tree) live() bool { return t.root == nil }

// oddities gathers errors that cost no whole section. A nil one forgets them.
type oddities struct {
	mu   sync.Mutex
	errs []error
}

func (o *oddities) note(err error) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	said := func(e error) bool { return e.Error() == err.Error() }
	if len(o.errs) <= maxErrors && !slices.ContainsFunc(o.errs, said) {
		o.errs = append(o.errs, err)
	}
}

// all is what was noted until now, as one error.
func (o *oddities) all() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.errs...)
}

func (t tree) open(name string) (*os.File, error) {
	if t.root == nil {
		return os.Open(name)
	}
	return t.root.Open(inside(name))
}

// inside is a path as os.Root wants it.
func inside(name string) string {
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return "."
	}
	return name
}

// read gives at most limit bytes of a file.
func (t tree) read(name string, limit int64) ([]byte, error) {
	if t.root == nil {
		b, err := readKernelFile(name, limit)
		t.steps.Add(1)
		return b, err
	}
	f, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	t.steps.Add(1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, unwrapPath(err))
	}
	return b, nil
}

// readKernelFile reads without the poller of package os. It watches every file of sysfs, which costs four system calls
// more for each of a thousand files, and all are always ready.
func readKernelFile(name string, limit int64) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, min(limit, 512))
	for int64(len(b)) < limit {
		b = slices.Grow(b, 1)
		n, err := again(func() (int, error) { return unix.Read(fd, b[len(b):min(int64(cap(b)), limit)]) })
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// again repeats a system call that a signal interrupted: the runtime sends itself some.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// unwrapPath drops the path that an error of package os repeats.
func unwrapPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// bytes are those of a small file; nil when it cannot be read, or is not small: an attribute of sysfs is at most a page.
func (t tree) bytes(name string) []byte {
	b, err := t.read(name, maxFile+1)
	switch {
	case err != nil:
		return nil
	case len(b) > maxFile:
		t.odd.note(malformed{fmt.Errorf("read %s: more than %d KiB", name, maxFile>>10)})
		return nil
	}
	return b
}

// text is a small file without the blanks and NULs around it; "" when it cannot be read, which drivers use to say
// that they do not know.
func (t tree) text(name string) string { return strings.Trim(string(t.bytes(name)), " \t\r\n\x00") }

// number is a small file that holds a decimal integer.
func (t tree) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(t.text(name), 10, 64)
	return n, err == nil
}

// count is number for what is never negative; 0 when it is not known.
func (t tree) count(name string) int64 {
	n, _ := t.number(name)
	return max(n, 0)
}

// hex is a small file that holds 0x and digits, as n lower case digits; "" when it does not.
func (t tree) hex(name string, n int) string {
	s := strings.ToLower(strings.TrimPrefix(t.text(name), "0x"))
	if v, err := strconv.ParseUint(s, 16, 64); err != nil || len(s) > n || v>>(4*n) != 0 {
		return ""
	}
	return strings.Repeat("0", n-len(s)) + s
}

// list gives the names in a directory, sorted; of too many the first that the kernel gave.
func (t tree) list(dir string) ([]string, error) {
	f, err := t.open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list %s: %w", dir, unwrapPath(err))
	}
	if len(names) > maxEntries {
		t.odd.note(incomplete{malformed{fmt.Errorf("list %s: more than %d names", dir, maxEntries)}})
		names = names[:maxEntries]
	}
	slices.Sort(names)
	return names, nil
}

// names is list for a directory that need not be there.
func (t tree) names(dir string) []string {
	names, err := t.list(dir)
	if err != nil {
		return nil
	}
	return names
}

func (t tree) exists(name string) bool { return t.stat(name) == nil }

// stat says why a file is not there.
func (t tree) stat(name string) error {
	if t.root == nil {
		_, err := os.Stat(name)
		return err
	}
	_, err := t.root.Stat(inside(name))
	return err
}

// resolve is where a symbolic link of sysfs leads, or the name itself when it is none. Links of sysfs lead straight to
// the device directory, through no other link.
func (t tree) resolve(name string) string {
	target, err := t.readlink(name)
	if err != nil {
		return path.Clean(name)
	}
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	return path.Join(path.Dir(path.Clean(name)), target)
}

// target is the last name of where a symbolic link leads; "" when there is no link.
func (t tree) target(name string) string {
	target, err := t.readlink(name)
	if err != nil {
		return ""
	}
	return path.Base(target)
}

func (t tree) readlink(name string) (string, error) {
	if t.root == nil {
		return os.Readlink(name)
	}
	return t.root.Readlink(inside(name))
}
