// Package initramfs builds and reads discovery ramdisks: the u-root userland with the agent as its uinit, the kernel
// modules that make disks and links appear, and whatever files an operator lays over them, as one cpio archive of the
// newc format (Documentation/driver-api/early-userspace/buffer-format.rst).
//
// It is a package of its own because it is the only place that runs a Go compiler and the only importer of u-root's
// image packages; nothing that runs on a node or answers one needs either.
//
// A ramdisk is reproducible: the same sources, kernel package and Config give the same bytes, whatever the day, the
// user or the directory. Whatever is read back (List, a kernel package) counts as hostile and is read with limits.
//
// The modules lie flat in /lib/modules/RELEASE beside three tables, which are all that a loader needs:
//
//	modules.dep    as depmod writes it: "file: every file it needs", to be loaded from the last to the first. Pre
//	               softdeps and the character sets a file system wants are needs like any other.
//	modules.alias  "alias PATTERN NAME", sorted, packed modules only, hardware buses only.
//	modules.load   names, one per line, that no hardware announces and that are to be loaded always. File systems are
//	               neither here nor in modules.alias: who mounts loads them by name.
package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// DefaultAgent is the import path of the agent's command.
const DefaultAgent = "muster/agent/cmd/muster-agent"

// A Config says what goes into a ramdisk. The zero value of each field but Source is useful.
type Config struct {
	Source   string       // root directory of the Go module that knows Agent and Commands: where its go.mod is
	Agent    string       // import path of the command that becomes uinit; if "", DefaultAgent
	Commands []string     // import paths of the other commands; if nil, DefaultCommands
	Kernel   string       // path of a Debian linux-image package; if "", no modules
	Modules  []string     // names of modules and profiles; if nil, the profile common
	Files    []File       // laid over everything else, the last of a name wins
	Arch     string       // GOARCH; if "", amd64
	Epoch    time.Time    // time of every entry; if zero, 1980-01-01 UTC
	Progress func(string) // told what is being done, one line each; if nil, nobody is
}

// A File is a file, link or whole directory of the building machine that is laid over the ramdisk. Owners become root,
// permissions 0755 for directories and for what its owner may execute, else 0644.
type File struct {
	Name   string `json:"name"`   // path in the ramdisk; a leading slash is dropped, ".." refused
	Source string `json:"source"` // path on this machine
}

// Build writes a ramdisk to out, a gzip file holding one cpio archive, and says what is in it. The manifest comes from
// reading the ramdisk back while it is written, so it tells what a kernel would find. After an error, what out got is
// of no use.
func Build(ctx context.Context, c Config, out io.Writer) (*Manifest, error) {
	c = c.withDefaults()
	tree := make(tree)
	tree.addSkeleton()
	c.Progress("compile the userland")
	if err := addUserland(ctx, c, tree); err != nil {
		return nil, fmt.Errorf("build userland of %q: %w", c.Source, err)
	}
	var packed *moduleSet
	if c.Kernel != "" {
		spool, err := newSpool()
		if err != nil {
			return nil, err
		}
		defer spool.Close()
		if packed, err = addModules(ctx, c, spool, tree); err != nil {
			return nil, fmt.Errorf("pack modules of %q: %w", c.Kernel, err)
		}
	}
	if err := tree.addFiles(c.Files); err != nil {
		return nil, err
	}
	c.Progress("write the archive")
	m, err := writeMeasured(ctx, tree, c.Epoch, out)
	if err != nil {
		return nil, err
	}
	if packed != nil {
		m.Absent, m.Firmware = packed.absent, packed.firmware
	}
	return m, nil
}

// withDefaults fills what the caller left open.
func (c Config) withDefaults() Config {
	if c.Agent == "" {
		c.Agent = DefaultAgent
	}
	if c.Commands == nil {
		c.Commands = DefaultCommands
	}
	if c.Modules == nil {
		c.Modules = []string{"common"}
	}
	if c.Arch == "" {
		c.Arch = "amd64"
	}
	if c.Epoch.IsZero() {
		c.Epoch = defaultEpoch
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

// errEscape is told of names that would leave the tree (T36).
var errEscape = errors.New("name leaves the ramdisk")
