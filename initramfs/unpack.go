package initramfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"
)

// What Unpack leaves in its directory.
const (
	treeDir      = "tree"         // files, directories and symbolic links as a kernel would leave them
	replacedDir  = "replaced"     // content of files that later ones take the place of, by number of the entry
	manifestFile = "ramdisk.json" // the Manifest: order, owners, times, device nodes, pipes and sockets
)

// Unpack makes dir out of a ramdisk, so that Repack can make the ramdisk out of dir. It needs no root: owners, device
// nodes, pipes, sockets and set-user-ID bits are only in dir/ramdisk.json, and its user can always read and write what
// is in dir/tree. Nothing is left behind when it fails, and nothing is written outside of dir: a ramdisk with names
// that leave the tree is refused (T36). A directory that is not empty is kept, and that is an error; with force, one
// that came from Unpack is replaced.
func Unpack(image Image, dir string, force bool) (*Manifest, error) {
	m, err := readImage(image)
	if err != nil {
		return nil, err
	}
	left, err := m.sound()
	if err != nil {
		return nil, err
	}
	if err := mayTake(dir, force); err != nil {
		return nil, err
	}
	dir = filepath.Clean(dir)
	scratch, err := os.MkdirTemp(filepath.Dir(dir), ".ramdisk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	if err := unpackTo(scratch, image, m, left); err != nil {
		return nil, err
	}
	return m, moveDir(scratch, dir)
}

// sound gives the tree of a ramdisk that is not out to do harm.
func (m *Manifest) sound() (*rootfs, error) {
	left := m.unpack()
	for _, p := range left.problems() {
		if p.Error {
			return nil, fmt.Errorf("%s: %w", p.where(), p.cause)
		}
	}
	return left, nil
}

// mayTake tells whether dir is there for the taking.
func mayTake(dir string, force bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, manifestFile)); err != nil {
		return fmt.Errorf("directory %q is not empty and holds no unpacked ramdisk: name another", dir)
	}
	if !force {
		return fmt.Errorf("directory %q holds an unpacked ramdisk: name another, or force", dir)
	}
	return nil
}

// moveDir puts a finished directory in its place.
func moveDir(scratch, dir string) error {
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	err := os.Rename(scratch, dir) // an empty directory gives way
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	old := scratch + ".old"
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(scratch, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

// unpackTo fills dir, which is empty. Symbolic links come last, so that nothing can be written through one.
func unpackTo(dir string, image Image, m *Manifest, left *rootfs) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, left: left, at: left.contents()}
	for _, step := range []func() error{
		u.makeDirs, func() error { return u.writeFiles(image, m) }, u.linkFiles, u.setTimes,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	f, err := root.Create(manifestFile)
	if err != nil {
		return err
	}
	return errors.Join(m.WriteJSON(f), f.Close())
}

// An unpacker writes a tree below root.
type unpacker struct {
	root *os.Root
	left *rootfs
	at   map[int]string // where in the tree the content of an entry belongs
}

func inTree(called string) string { return path.Join(treeDir, called) }
func inReplaced(i int) string     { return path.Join(replacedDir, strconv.Itoa(i)) }

// makeDirs makes all directories.
func (u *unpacker) makeDirs() error {
	for _, d := range []string{treeDir, replacedDir} {
		if err := u.root.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for _, builtin := range []string{"dev", "root"} {
		if n := u.left.root.names[builtin]; n != nil && n.node < 0 && len(n.names) > 0 {
			if err := u.root.Mkdir(inTree(builtin), 0o755); err != nil {
				return err
			}
		}
	}
	for called, n := range u.left.files() {
		if n.kind != typeDir {
			continue
		}
		if err := u.root.Mkdir(inTree(called), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles reads the image once more, for the content of files.
func (u *unpacker) writeFiles(image Image, m *Manifest) error {
	return readAgain(image, m, func(i int, e Entry, content io.Reader) error {
		at, ok := u.at[i]
		switch {
		case e.kind() != typeRegular || !ok && e.Size == 0:
			return nil
		case !ok:
			return u.writeFile(inReplaced(i), content)
		}
		return u.writeFile(inTree(at), content)
	})
}

func (u *unpacker) writeFile(at string, content io.Reader) error {
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// linkFiles gives files their other names and makes symbolic links.
func (u *unpacker) linkFiles() error {
	for called, n := range u.left.files() {
		var err error
		switch {
		case n.kind == typeRegular && u.at[n.data] != called:
			err = u.root.Link(inTree(u.at[n.data]), inTree(called))
		case n.kind == typeLink:
			err = u.root.Symlink(u.left.entries[n.node].Target, inTree(called))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setTimes sets permissions and times, of a directory after those of what is in it.
func (u *unpacker) setTimes() error {
	var dirs []Entry
	for called, n := range u.left.files() {
		switch e := u.left.entry(called, n); n.kind {
		case typeDir:
			dirs = append(dirs, e)
		case typeRegular:
			if err := u.setTime(e); err != nil {
				return err
			}
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := u.setTime(dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) setTime(e Entry) error {
	if err := u.root.Chmod(inTree(e.Name), hostMode(e.Mode)); err != nil {
		return err
	}
	when := time.Unix(int64(e.Time), 0)
	return u.root.Chtimes(inTree(e.Name), when, when)
}

// hostMode is what a file's permissions are while it lies unpacked: its user may change it.
func hostMode(mode uint32) fs.FileMode {
	if mode&typeMask == typeDir {
		return fs.FileMode(mode&0o777 | 0o700)
	}
	return fs.FileMode(mode&0o777 | 0o600)
}
