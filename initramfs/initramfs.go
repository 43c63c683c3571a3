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
// The modules lie flat in /lib/modules/RELEASE beside four tables, which are all that a loader needs:
//
//	modules.dep    as depmod writes it: "file: every file it needs", to be loaded from the last to the first. Pre
//	               softdeps and the character sets a file system wants are needs like any other.
//	modules.alias  "alias PATTERN NAME", sorted, packed modules only, hardware buses only.
//	modules.first  names, one per line, of what is to be loaded before anything else, because it makes that faster.
//	modules.load   names, one per line, that no hardware announces and that are to be loaded always. File systems are
//	               neither here nor in modules.alias: who mounts loads them by name.
package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// DefaultAgent is the import path of the agent's command.
const DefaultAgent = "muster/agent/cmd/muster-agent"

// A Config says what goes into a ramdisk. Either Source or Prebuilt is needed; the zero value of each other field is
// useful.
//
// Kernel names what together makes one kernel: Debian packages and RPMs (some distributions put image and modules into
// several), a kernel image, a directory of modules, the root directory of a system, the release of a kernel that is
// installed here, or "installed" for the one that runs. Firmware names packages and directories likewise.
type Config struct {
	Source   string       // root directory of the Go module that knows Agent and Commands: where its go.mod is
	Prebuilt []byte       // in place of Source, Agent and Commands: a ramdisk of the userland alone
	Agent    string       // import path of the command that becomes uinit; if "", DefaultAgent
	Commands []string     // import paths of the other commands; if nil, DefaultCommands
	Kernel   []string     // what the modules come from; if nil, no modules
	Modules  []string     // names of modules and profiles; if nil, the profile common
	Firmware []string     // what firmware comes from that packed modules ask for; if nil, none
	Files    []File       // laid over everything else, the last of a name wins
	Arch     string       // GOARCH; if "", amd64
	Compress string       // one of Compressions; if "", gzip
	Epoch    time.Time    // time of every entry; if zero, 1980-01-01 UTC
	Progress func(string) // told what is being done, one line each; if nil, nobody is
}

// A File is a file, link or whole directory of the building machine that is laid over the ramdisk. Owners become root,
// permissions 0755 for directories and for what its owner may execute, else 0644.
type File struct {
	Name   string `json:"name"`   // path in the ramdisk; a leading slash is dropped, ".." refused
	Source string `json:"source"` // path on this machine
}

// Build writes a ramdisk to out, a compressed file holding one cpio archive, and says what is in it. The manifest comes from
// reading the ramdisk back while it is written, so it tells what a kernel would find. After an error, what out got is
// of no use.
func Build(ctx context.Context, c Config, out io.Writer) (*Manifest, error) {
	c = c.withDefaults()
	if compressor(c.Compress) == nil {
		return nil, fmt.Errorf("compression %q: want one of %s", c.Compress, strings.Join(Compressions(), ", "))
	}
	tree := make(tree)
	tree.addSkeleton()
	if err := addUserland(ctx, c, tree); err != nil {
		return nil, err
	}
	var packed *moduleSet
	if c.Kernel != nil {
		spool, err := newSpool()
		if err != nil {
			return nil, err
		}
		defer spool.Close()
		if packed, err = addKernel(ctx, c, spool, tree); err != nil {
			return nil, err
		}
	}
	if err := tree.addFiles(c.Files); err != nil {
		return nil, err
	}
	c.Progress(fmt.Sprintf("write %d files, compressed with %s", len(tree), c.Compress))
	m, err := writeMeasured(ctx, tree, c.Epoch, out, compressor(c.Compress))
	if err != nil {
		return nil, err
	}
	if packed != nil {
		m.Absent, m.Firmware = packed.absent, packed.firmware
	}
	return m, nil
}

// addUserland adds what runs, compiled or as it was before.
func addUserland(ctx context.Context, c Config, t tree) error {
	if c.Prebuilt != nil {
		c.Progress("unpack the prebuilt userland")
		if err := addPrebuilt(ctx, c, t); err != nil {
			return fmt.Errorf("unpack the prebuilt userland: %w", err)
		}
		return nil
	}
	c.Progress("look up the userland's packages")
	if err := compileUserland(ctx, c, t); err != nil {
		return fmt.Errorf("build userland of %q: %w", c.Source, err)
	}
	return nil
}

// addKernel adds modules and their firmware.
func addKernel(ctx context.Context, c Config, s *spool, t tree) (*moduleSet, error) {
	packed, err := addModules(ctx, c, s, t)
	if err != nil {
		return nil, fmt.Errorf("pack modules: %w", err)
	}
	if c.Firmware == nil {
		return packed, nil
	}
	c.Progress(fmt.Sprintf("look for %d firmware files", len(packed.firmware)))
	if err := addFirmware(ctx, c.Firmware, packed, s, t); err != nil {
		return nil, fmt.Errorf("pack firmware: %w", err)
	}
	return packed, nil
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
	if c.Compress == "" {
		c.Compress = "gzip"
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
