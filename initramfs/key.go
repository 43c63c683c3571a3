package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// keyRooms are the folders of the source whose files end up in a ramdisk: by the import law the agent is made of
// nothing else of this module.
var keyRooms = []string{"agent", "boot/kargs", "initramfs"}

// Key is a hash over everything that Build reads: the toolchain's version, go.mod, go.sum and the sources, or the prebuilt
// userland; the kernel, the firmware, the overlaid files, and c itself. Builds of equal keys give equal bytes, so a ramdisk
// whose manifest has the key of a Config need not be built again. With a kernel package Key takes well under a second.
func (c Config) Key(ctx context.Context) (string, error) {
	c = c.withDefaults()
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n%q\n", [][]string{
		{builderVersion(), c.Agent, c.Arch, c.Compress, fmt.Sprint(c.Epoch.Unix())}, c.Commands, c.Modules,
	}, namesOf(c.Files))
	if err := c.hashUserland(ctx, sum); err != nil {
		return "", err
	}
	for _, f := range c.Files {
		if err := hashTree(sum, f.Source, func(string) bool { return true }); err != nil {
			return "", err
		}
	}
	for _, part := range []struct {
		bare  string
		words []string
	}{{"lib/modules", c.Kernel}, {"lib/firmware", c.Firmware}} {
		if err := hashOrigins(sum, part.words, part.bare); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashUserland adds what the userland is made of.
func (c Config) hashUserland(ctx context.Context, sum hash.Hash) error {
	if c.Prebuilt != nil {
		fmt.Fprintf(sum, "prebuilt %x\n", sha256.Sum256(c.Prebuilt))
		return nil
	}
	version := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	version.Dir = c.Source
	toolchain, err := version.Output()
	if err != nil {
		return fmt.Errorf("find the Go toolchain for %q: %w", c.Source, err)
	}
	fmt.Fprintf(sum, "%s\n", bytes.TrimSpace(toolchain))
	for _, file := range []string{"go.mod", "go.sum"} {
		if err := hashFile(sum, file, filepath.Join(c.Source, file)); err != nil {
			return err
		}
	}
	for _, room := range keyRooms {
		if err := hashTree(sum, filepath.Join(c.Source, filepath.FromSlash(room)), isSource); err != nil {
			return err
		}
	}
	return nil
}

// hashOrigins adds what a kernel or firmware is read from.
func hashOrigins(sum hash.Hash, words []string, bare string) error {
	for _, word := range words {
		o, err := openOrigin(word, bare)
		if err != nil {
			return fmt.Errorf("%q: %w", word, err)
		}
		fmt.Fprintf(sum, "origin of %s\n", bare)
		for _, name := range o.paths {
			if err := hashTree(sum, name, func(string) bool { return true }); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesOf are where files go; where they come from does not matter.
func namesOf(files []File) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	return names
}

// builderVersion names the packages that write the archive, as this program was built with them.
func builderVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var used []string
	for _, dep := range info.Deps {
		if strings.HasPrefix(dep.Path, "github.com/u-root/") || strings.HasPrefix(dep.Path, "github.com/klauspost/") {
			used = append(used, dep.Path+" "+dep.Version)
		}
	}
	return strings.Join(used, ", ")
}

// isSource passes over what no compiler sees. Names are relative to a room.
func isSource(name string) bool {
	return !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, ".md") &&
		!strings.Contains("/"+name, "/testdata/")
}

// hashTree adds every file below dir that keep wants: its name below dir, whether it may be executed, its content. dir
// may be a file, or a link to either; one that does not exist adds nothing, as another module need not have our rooms.
func hashTree(sum hash.Hash, dir string, keep func(string) bool) error {
	root, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	fmt.Fprintf(sum, "tree\n")
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil || !keep(filepath.ToSlash(name)) {
			return err
		}
		return hashEntry(sum, name, file, d)
	})
}

// hashEntry adds what of one file matters to a ramdisk.
func hashEntry(sum hash.Hash, name, file string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "%q %v %v\n", name, d.Type(), info.Mode()&0o100 != 0)
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		fmt.Fprintf(sum, "%q\n", target)
		return err
	case d.Type().IsRegular():
		return hashFile(sum, name, file)
	}
	return nil
}

// hashFile adds a file's size and content under a name.
func hashFile(sum hash.Hash, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	content := sha256.New()
	size, err := io.Copy(content, f)
	if err != nil {
		return fmt.Errorf("read %q: %w", file, err)
	}
	fmt.Fprintf(sum, "%q %d %x\n", name, size, content.Sum(nil))
	return nil
}
