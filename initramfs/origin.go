package initramfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An origin is where a kernel, its modules or firmware come from: a package, an installed system, a directory, a file.
type origin struct {
	// walk calls visit for each regular file and symbolic link until visit returns an error; errStop is a good end.
	walk  func(ctx context.Context, visit func(found) error) error
	paths []string // what is read on this machine, for Config.Key
}

// A found file is one of an origin. Its name comes from outside: it is not safe to write to.
type found struct {
	name      string // where an installed system has it, e.g. lib/modules/6.1.0-56-amd64/modules.builtin
	link      string // target of a symbolic link, as written; "" for a regular file
	io.Reader        // the content of a regular file
}

// packageFormats are told apart by their first bytes. A new one is a row here and a file beside deb.go.
var packageFormats = []struct {
	magic string
	walk  func(ctx context.Context, file string, visit func(found) error) error
}{
	{"!<arch>\n", walkDeb},
	{"\xed\xab\xee\xdb", walkRPM},
}

// openOrigin finds out what word means: a package, a kernel image, the root directory of a system, another directory
// (whose files belong into bare, e.g. lib/firmware), "installed" for the running kernel, or the release of an installed
// one.
func openOrigin(word, bare string) (origin, error) {
	if word == "installed" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return origin{}, fmt.Errorf("uname: %w", err)
		}
		return installedKernel("/", unix.ByteSliceToString(u.Release[:]))
	}
	info, err := os.Stat(word)
	switch {
	case errors.Is(err, fs.ErrNotExist) && word == path.Base(word):
		return installedKernel("/", word)
	case err != nil:
		return origin{}, err
	case !info.IsDir():
		return openFile(word)
	}
	for _, dir := range systemDirs {
		if _, err := os.Stat(filepath.Join(word, dir)); err == nil {
			return systemOrigin(word, ""), nil
		}
	}
	if bare == "lib/modules" {
		bare = path.Join(bare, filepath.Base(word))
	}
	return directories(map[string]string{bare: word}), nil
}

// openFile tells a package from a kernel image.
func openFile(file string) (origin, error) {
	f, err := os.Open(file)
	if err != nil {
		return origin{}, err
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return origin{}, err
	}
	head = head[:n]
	o := origin{paths: []string{file}}
	for _, p := range packageFormats {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			o.walk = func(ctx context.Context, visit func(found) error) error { return p.walk(ctx, file, visit) }
			return o, nil
		}
	}
	release, ok := imageRelease(head)
	if !ok {
		return origin{}, errors.New("neither a Debian package, an RPM nor a kernel image")
	}
	name := strings.TrimSuffix("boot/vmlinuz-"+release, "-")
	o.walk = func(_ context.Context, visit func(found) error) error { return visitFile(name, file, visit) }
	return o, nil
}

// imageRelease knows a kernel image by its start and, on x86, reads which release it is. x86 has "HdrS" at 0x202 and at
// 0x20e the offset, less 0x200, of a text that begins with the release (Documentation/arch/x86/boot.rst); arm64 has
// "ARM\x64" at 0x38 (Documentation/arch/arm64/booting.rst); one that unpacks itself under EFI has "zimg" at 4.
func imageRelease(head []byte) (release string, ok bool) {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	if !at(0x202, "HdrS") || len(head) < 0x210 {
		return "", at(0x38, "ARM\x64") || at(4, "zimg") || at(0, "\x1f\x8b")
	}
	start := int(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
	if start <= 0x210 || start >= len(head) {
		return "", true
	}
	text, _, _ := bytes.Cut(head[start:], []byte{0})
	release, _, _ = strings.Cut(string(text), " ")
	if release != path.Base(release) || len(release) > 64 {
		return "", true
	}
	return release, true
}

// systemDirs are what of an installed system is of interest.
var systemDirs = []string{"boot", "lib/modules", "usr/lib/modules", "lib/firmware", "usr/lib/firmware"}

// installedKernel is the kernel of one release below root.
func installedKernel(root, release string) (origin, error) {
	modules := filepath.Join(root, "lib/modules")
	if release == path.Base(release) && release != "." && release != ".." {
		if _, err := os.Stat(filepath.Join(modules, release)); err == nil {
			return systemOrigin(root, release), nil
		}
	}
	err := fmt.Errorf("no such file, and no kernel %q is installed: %s does not hold it", release, modules)
	installed, _ := filepath.Glob(filepath.Join(modules, "*"))
	for i := range installed {
		installed[i] = filepath.Base(installed[i])
	}
	if len(installed) > 0 {
		err = fmt.Errorf("%w, but %s", err, strings.Join(installed, ", "))
	}
	return origin{}, err
}

// systemOrigin is a kernel, its modules and the firmware below root; if release is not "", that kernel alone.
func systemOrigin(root, release string) origin {
	dirs := map[string]string{}
	for _, dir := range systemDirs {
		name := strings.TrimPrefix(dir, "usr/")
		if path.Base(dir) == "modules" {
			name, dir = path.Join(name, release), path.Join(dir, release)
		}
		if full := filepath.Join(root, dir); dirs[name] == "" && isDir(full) {
			dirs[name] = full
		}
	}
	all := directories(dirs)
	o := origin{paths: all.paths}
	if release != "" {
		o.paths = []string{dirs[path.Join("lib/modules", release)], filepath.Join(root, "boot/vmlinuz-"+release)}
	}
	o.walk = func(ctx context.Context, visit func(found) error) error {
		return all.walk(ctx, func(f found) error {
			if strings.HasPrefix(f.name, "boot/") && !strings.HasSuffix(f.name, release) {
				return nil // another kernel's
			}
			return visit(f)
		})
	}
	return o
}

// directories are the files of this machine's directories, each under a name of its own.
func directories(dirs map[string]string) origin {
	o := origin{}
	var names []string
	for name, dir := range dirs {
		names, o.paths = append(names, name), append(o.paths, dir)
	}
	slices.Sort(names)
	slices.Sort(o.paths)
	o.walk = func(ctx context.Context, visit func(found) error) error {
		for _, name := range names {
			if err := walkDirectory(ctx, name, dirs[name], visit); err != nil {
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			}
		}
		return nil
	}
	return o
}

// walkDirectory visits what lies below dir, as name/...; links are not followed, except dir itself.
func walkDirectory(ctx context.Context, name, dir string, visit func(found) error) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		at := path.Join(name, filepath.ToSlash(rel))
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return visit(found{name: at, link: target})
		case d.Type().IsRegular():
			return visitFile(at, file, visit)
		}
		return nil
	})
}

// visitFile visits one file of this machine, which is opened only if it is read.
func visitFile(name, file string, visit func(found) error) error {
	r := &lateFile{name: file}
	err := visit(found{name: name, Reader: r})
	if r.f != nil {
		_ = r.f.Close() // it was only read
	}
	return err
}

// A lateFile opens at the first read.
type lateFile struct {
	name string
	f    *os.File
}

// Read implements io.Reader.
func (l *lateFile) Read(p []byte) (n int, err error) {
	if l.f == nil {
		if l.f, err = os.Open(l.name); err != nil {
			return 0, err
		}
	}
	return l.f.Read(p)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
