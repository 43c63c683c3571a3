package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// rootTypes are the GPT partition types of a root file system (Discoverable Partitions Specification).
var rootTypes = map[string]string{
	"amd64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
	"arm64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
}

// rootFileSystems are those that a system is looked for on, and the module of each.
var rootFileSystems = []string{"ext4", "xfs", "btrfs", "ext3", "ext2"}

// partitionWait is how long the kernel may take to show the partitions of a new table.
const partitionWait = 10 * time.Second

// files puts the order's files into the root file system that was just written. Without files the system is left as
// it came.
func (w *imageWrite) files(ctx context.Context) error {
	if len(w.want.Files) == 0 {
		return nil
	}
	name := w.entry.Name
	disk, err := w.agent.partitions(ctx, w.want.Disk.ID)
	if err != nil {
		return err
	}
	var tried []string
	for _, p := range rootPlaces(disk) {
		done := false
		err := w.agent.within(ctx, p, func(root *os.Root) (err error) {
			done, err = putFiles(root, w.want.Files)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", p.device, err)
		}
		if done {
			w.agent.Console.Printf("put %s into %s (%s)", plural(len(w.want.Files), "file"), p.device, p.fstype)
			return nil
		}
		tried = append(tried, p.device)
	}
	return fmt.Errorf("disk %s has no root file system with /etc/os-release; looked at %q", name, tried)
}

// A place is a partition that may hold the root file system.
type place struct {
	device string // kernel name
	fstype string
}

// partitions gives the disk that was written, once the kernel shows its file systems.
func (a *Agent) partitions(ctx context.Context, id string) (facts.Disk, error) {
	deadline := a.Now().Add(partitionWait)
	for {
		for _, d := range a.Probe(ctx, "disks").Facts.Disks {
			if found := rootPlaces(d); d.ID == id && len(found) > 0 && a.haveDevices(found) {
				return d, nil
			}
		}
		if a.Now().After(deadline) {
			return facts.Disk{}, fmt.Errorf("no partition with one of the file systems %q appeared in %s", rootFileSystems, seconds(partitionWait))
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return facts.Disk{}, err
		}
	}
}

// rootPlaces are the file systems of a disk that may be a root.
func rootPlaces(d facts.Disk) []place {
	var first, rest []place
	if d.Content != nil && slices.Contains(rootFileSystems, d.Content.Type) {
		rest = append(rest, place{d.Name, d.Content.Type})
	}
	for _, p := range d.Partitions {
		if p.Content == nil || !slices.Contains(rootFileSystems, p.Content.Type) {
			continue
		}
		found := place{partitionName(d.Name, p.Number), p.Content.Type}
		if strings.EqualFold(p.Type, rootTypes[runtime.GOARCH]) {
			first = append(first, found)
			continue
		}
		rest = append(rest, found)
	}
	return append(first, rest...)
}

// partitionName is the kernel's name of a partition: sda1, but nvme0n1p1 (block/partitions/core.c).
func partitionName(disk string, number int) string {
	n := strconv.Itoa(number)
	if c := disk[len(disk)-1]; c >= '0' && c <= '9' {
		return disk + "p" + n
	}
	return disk + n
}

func (a *Agent) haveDevices(places []place) bool {
	for _, p := range places {
		if _, err := os.Stat(a.path(filepath.Join("dev", p.device))); err != nil {
			return false
		}
	}
	return true
}

// within mounts one place and lets do work in it.
func (a *Agent) within(ctx context.Context, p place, do func(root *os.Root) error) (err error) {
	if err := a.needFileSystem(ctx, p.fstype); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "root")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	unmount, err := a.Mount(a.path(filepath.Join("dev", p.device)), p.fstype, dir)
	if err != nil {
		return fmt.Errorf("mount %s: %w", p.fstype, err)
	}
	defer func() { err = errors.Join(err, unmount()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

// putFiles puts the files into a file system when a system is there.
func putFiles(root *os.Root, files []facts.File) (done bool, err error) {
	if _, err := root.Lstat("etc/os-release"); err != nil {
		return false, nil
	}
	for _, f := range files {
		if err := putFile(root, f); err != nil {
			return false, fmt.Errorf("put %q: %w", f.Path, err)
		}
	}
	return true, syncDir(root)
}

// needFileSystem loads the driver of a file system that the kernel does not have yet.
func (a *Agent) needFileSystem(ctx context.Context, fstype string) error {
	b, _ := os.ReadFile(a.path("proc/filesystems"))
	if slices.Contains(strings.Fields(string(b)), fstype) || a.Module == nil {
		return nil
	}
	if err := a.Module(ctx, fstype); err != nil {
		return fmt.Errorf("the kernel cannot mount %s: %w", fstype, err)
	}
	return nil
}

// putFile writes one file or link. It becomes visible whole, and replaces a link instead of following it; a path
// that leaves the root, itself or through a link, is refused by os.Root.
func putFile(root *os.Root, f facts.File) error {
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
		return errors.New("not the absolute path of a file in its shortest form")
	}
	name := f.Path[1:]
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if st, err := root.Lstat(name); err == nil && st.IsDir() {
		return errors.New("a directory is there")
	}
	temp := name + ".muster-new"
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := create(root, temp, f); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return root.Rename(temp, name)
}

func create(root *os.Root, name string, f facts.File) error {
	if f.Link != "" {
		return root.Symlink(f.Link, name)
	}
	mode := fs.FileMode(f.Mode & 0o777)
	if mode == 0 {
		mode = 0o644
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = out.WriteString(f.Content)
	return errors.Join(err, out.Chmod(mode), out.Sync(), out.Close()) // chmod: without the umask
}

// syncDir waits until everything of the file system below root is on its disk.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("write out the file system: %w", err)
	}
	return nil
}

// mountDevice mounts and gives the function that unmounts.
func mountDevice(device, fstype, dir string) (func() error, error) {
	if err := unix.Mount(device, dir, fstype, unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return nil, err
	}
	return func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", device, err)
		}
		return nil
	}, nil
}
