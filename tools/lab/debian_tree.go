package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// installDebian makes a Debian 12 tree in root with mmdebstrap. The units are switched inside the tree by its own systemctl,
// which knows their [Install] sections.
func (b *debianBuild) installDebian(ctx context.Context, root string) error {
	b.say("install Debian packages")
	args := []string{
		"--mode=root", "--format=directory", "--variant=minbase",
		"--include=" + strings.Join(debianPackages, ","),
		`--aptopt=Apt::Install-Recommends "false"`,
	}
	for _, option := range debianDpkgOptions {
		args = append(args, "--dpkgopt="+option)
	}
	args = append(args,
		`--customize-hook=chroot "$1" systemctl --quiet enable `+strings.Join(debianUnitsOn, " "),
		`--customize-hook=chroot "$1" systemctl --quiet disable `+strings.Join(debianUnitsOff, " "),
		"bookworm", root)
	return b.run(ctx, "mmdebstrap", args...)
}

// configureDebian writes the recipe's files into the tree. It goes through os.Root, because the tree has absolute links that
// would lead out of it.
func (b *debianBuild) configureDebian(root string) error {
	b.say("write the configuration")
	tree, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer tree.Close()
	for _, f := range debianFiles {
		if err := writeTreeFile(tree, f, b.epoch); err != nil {
			return fmt.Errorf("write %q: %w", f.path, err)
		}
	}
	return nil
}

// writeTreeFile replaces what is at f.path; missing folders are made as root's, open to all.
func writeTreeFile(tree *os.Root, f treeFile, epoch time.Time) error {
	if err := tree.MkdirAll(path.Dir(f.path), 0o755); err != nil {
		return err
	}
	if err := tree.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.link != "" {
		return tree.Symlink(f.link, f.path)
	}
	if err := tree.WriteFile(f.path, []byte(f.text), f.mode); err != nil {
		return err
	}
	if err := tree.Chmod(f.path, f.mode); err != nil { // whatever the umask says
		return err
	}
	return tree.Chtimes(f.path, epoch, epoch)
}

// debianKernel reads the release from the links that Debian's kernel package keeps up to date. The boot configuration names
// both links, and a kernel without its initrd would find no disk: so both must lead to files of one release.
func debianKernel(root string) (string, error) {
	release, err := linkedRelease(root, "vmlinuz")
	if err != nil {
		return "", fmt.Errorf("find the kernel: %w", err)
	}
	initrd, err := linkedRelease(root, "initrd.img")
	if err != nil {
		return "", fmt.Errorf("find the initrd of kernel %q: %w", release, err)
	}
	if initrd != release {
		return "", fmt.Errorf("find the initrd of kernel %q: it is of %q", release, initrd)
	}
	return release, nil
}

// linkedRelease returns the release behind the name that the link root/NAME -> boot/NAME-RELEASE has.
func linkedRelease(root, name string) (string, error) {
	target, err := os.Readlink(filepath.Join(root, name))
	if err != nil {
		return "", err
	}
	release, ok := strings.CutPrefix(path.Base(target), name+"-")
	if !ok {
		return "", fmt.Errorf("link to %q has no release", target)
	}
	_, err = os.Stat(filepath.Join(root, "boot", path.Base(target)))
	return release, err
}

// treeBytes is the room that the tree takes in 4 KiB blocks, with one inode of 256 bytes for each name.
func treeBytes(root string) (int64, error) {
	var total int64
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += 256
		if info.Mode().IsRegular() || info.IsDir() {
			total += (info.Size() + 4095) &^ 4095
		}
		return nil
	})
	return total, err
}

// clampTimes sets every time stamp in the tree that is later than the epoch to the epoch, as SOURCE_DATE_EPOCH asks for.
func clampTimes(root string, epoch time.Time) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.ModTime().After(epoch) {
			return err
		}
		stamp := unix.NsecToTimespec(epoch.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// run executes one program with the build's environment. Lines that begin with "I: " (mmdebstrap's stages) are passed on;
// an error carries the last lines that the program wrote.
//
// The program has mounts of its own: mmdebstrap mounts /proc, /sys and /dev in the tree, and when it is killed they must end
// with it instead of staying on this host. A cancelled program gets 5 s to clean up; then it and its group are killed.
func (b *debianBuild) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	epoch := fmt.Sprint(b.epoch.Unix())
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=1",
		"SOURCE_DATE_EPOCH="+epoch, "E2FSPROGS_FAKE_TIME="+epoch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	lines, pipe := io.Pipe()
	cmd.Stdout, cmd.Stderr = pipe, pipe
	tail := make(chan []string, 1)
	go func() { tail <- b.follow(lines) }()
	err := cmd.Run()
	pipe.Close()
	last := <-tail
	if ctx.Err() != nil {
		if cmd.Process != nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of the group; none is not an error here
		}
		return fmt.Errorf("run %s: %w", name, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, strings.Join(last, "; "))
	}
	return nil
}

// follow reads a program's output to its end, tells the stages, and returns the last three lines that are not stages.
func (b *debianBuild) follow(r io.Reader) (last []string) {
	lines := bufio.NewReaderSize(r, 4096)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return last
		}
		text := strings.TrimSpace(string(line))
		if stage, ok := strings.CutPrefix(text, "I: "); ok {
			stage, _, _ = strings.Cut(stage, ":") // a hook is followed by its whole command
			b.say("  " + strings.TrimSuffix(stage, "..."))
		} else if text != "" {
			last = append(last, text)
			last = slices.Delete(last, 0, max(0, len(last)-3))
		}
	}
}
