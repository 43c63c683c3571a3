package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// ramdiskBuild is what muster ramdisk build was asked for.
type ramdiskBuild struct {
	config                       initramfs.Config
	out, userland                string
	commands                     []string
	files, overlays, facts       []string
	authority, sshKey            string
	progress, sourceIsSaid, tell bool
}

func ramdiskBuildCommand() *cobra.Command {
	b := &ramdiskBuild{}
	c := &cobra.Command{
		Use:   "build [--kernel KERNEL] -o DIR|FILE",
		Short: "build a discovery ramdisk; the same again changes nothing",
		Long: "Build takes the agent and u-root's commands, adds kernel modules, firmware and any files of yours, and writes\n" +
			"vmlinuz, ramdisk.cpio.zst (or .gz) and manifest.json into DIR. With -o FILE (a name ending in .gz, .zst, .xz or .cpio) only\n" +
			"the ramdisk and FILE.manifest.json are written.\n\n" +
			"The same input gives the same bytes. When nothing has changed since the manifest, nothing is built.\n" +
			"SOURCE_DATE_EPOCH sets the time of all files in it.\n\n" +
			"The userland is the one that this program carries (" + orNone(carriedArchs()) + "), or that of --userland. With --source,\n" +
			"--commands or --ssh-key it is compiled, for which Go must be installed; --source is muster's source, this directory\n" +
			"unless said.\n\n" +
			"KERNEL is a Debian linux-image package, an RPM, the release of a kernel installed here (\"installed\" is the one that\n" +
			"runs), the root directory of a system, or a kernel image with a directory of its modules. Where a distribution\n" +
			"splits a kernel into several packages, name them all, by commas or with several --kernel.\n\n" +
			"Profiles for --modules: " + strings.Join(initramfs.Profiles(), " ") + ".",
		Example: "  (cd /tmp && apt-get download linux-image-6.1.0-56-amd64)\n" +
			"  muster ramdisk build --kernel /tmp/linux-image-6.1.0-56-amd64_*.deb -o /var/lib/muster/ramdisk\n" +
			"  muster ramdisk build --kernel installed --modules vm,storage,megaraid_sas -o ramdisk.cpio.zst\n" +
			"  muster ramdisk build --kernel kernel-core.rpm,kernel-modules-core.rpm -o out\n" +
			"  muster ramdisk build --kernel vmlinuz,/lib/modules/6.12.0 --firmware /lib/firmware --modules full -o out\n" +
			"  muster ramdisk build --kernel linux-image.deb --facts facts.d --ca ca.pem --file motd:/etc/motd -o out\n" +
			"  muster ramdisk build --kernel linux-image-arm64.deb --arch arm64 --compress zstd -o out",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.sourceIsSaid = cmd.Flags().Changed("source")
			return b.run(cmd)
		},
	}
	b.flags(c)
	return c
}

// flags says what can be asked for.
func (b *ramdiskBuild) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&b.out, "output", "o", "", "directory, or file ending in .gz, .zst, .xz or .cpio, to write")
	f.StringSliceVar(&b.config.Kernel, "kernel", nil, "where kernel and modules come from; without it there are none")
	f.StringSliceVar(&b.config.Modules, "modules", nil, "modules and profiles, by commas (default common)")
	f.StringSliceVar(&b.config.Firmware, "firmware", nil, "packages or directories with firmware for those modules")
	f.StringVar(&b.config.Arch, "arch", "amd64", "architecture, as Go calls it: amd64, arm64")
	f.StringVar(&b.config.Compress, "compress", "", strings.Join(initramfs.Compressions(), ", ")+" (default as FILE ends, else zstd where the kernel unpacks it, else gzip)")
	f.StringVar(&b.config.Source, "source", ".", "directory of muster's source, to compile the userland from")
	f.StringVar(&b.userland, "userland", "", "ramdisk without modules, of an earlier build, to take the userland from")
	f.StringSliceVar(&b.commands, "commands", nil, "u-root commands to compile, by commas; \"default\" stands for the usual ones")
	f.StringArrayVar(&b.overlays, "overlay", nil, "directory to lay over the ramdisk's root; may be repeated")
	f.StringArrayVar(&b.files, "file", nil, "SRC:DST, a file or directory to lay over the ramdisk; may be repeated")
	f.StringArrayVar(&b.facts, "facts", nil, "program, NAME.json or NAME.txt with facts of your own, or a directory of them")
	f.StringVar(&b.authority, "ca", "", "PEM certificates of who signs the broker's")
	f.StringVar(&b.sshKey, "ssh-key", "", "public keys for an sshd, which the kernel argument muster.sshd starts")
	f.BoolVar(&b.progress, "progress", false, "say what is being done and for how long")
	f.BoolVar(&b.tell, "firmware-list", false, "list the firmware that packed modules may ask for and that is not in it")
}

// run builds unless what lies there is what would be built.
func (b *ramdiskBuild) run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if err := b.complete(); err != nil {
		return usageError{err}
	}
	if err := b.chooseCompression(ctx); err != nil {
		return err
	}
	key, err := b.config.Key(ctx)
	if err != nil {
		return fmt.Errorf("see what has changed: %w", err)
	}
	p := ramdiskPathsOf(b.out, b.config.Compress, b.config.Kernel != nil)
	m, ok := p.current(key)
	if ok {
		fmt.Fprintf(out, "%s: up to date\n", p.ramdisk)
	} else {
		if b.progress {
			b.config.Progress = progressTo(cmd.ErrOrStderr())
		}
		if m, err = p.build(ctx, b.config, key); err != nil {
			return fmt.Errorf("build ramdisk: %w", err)
		}
		fmt.Fprintf(out, "%s: built\n", p.ramdisk)
	}
	b.report(cmd.ErrOrStderr(), m)
	return showSizes(out, m)
}

// report says what is missing.
func (b *ramdiskBuild) report(w io.Writer, m *initramfs.Manifest) {
	for _, name := range m.Absent {
		fmt.Fprintf(w, "muster: kernel %s has no module %s: left out\n", plain(m.Kernel), plain(name))
	}
	switch {
	case b.tell:
		for _, name := range m.Firmware {
			fmt.Fprintf(w, "muster: firmware %s is not in it\n", plain(name))
		}
	case len(m.Firmware) > 0:
		fmt.Fprintf(w, "muster: modules may ask for %d firmware files that are not in it; --firmware-list names them\n", len(m.Firmware))
	}
}

// complete checks the flags and what of the environment counts.
func (b *ramdiskBuild) complete() error {
	if b.out == "" {
		return errors.New("say where to: -o DIR, or -o FILE ending in .gz, .zst, .xz or .cpio")
	}
	byName, _ := fileCompression(b.out)
	b.config.Compress = cmp.Or(b.config.Compress, byName)
	if !slices.Contains(initramfs.Compressions(), cmp.Or(b.config.Compress, "gzip")) {
		return fmt.Errorf("--compress %q: want one of %s", b.config.Compress, strings.Join(initramfs.Compressions(), ", "))
	}
	for _, step := range []func() error{b.chooseUserland, b.overlay, b.readEpoch} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// chooseCompression takes what the kernel unpacks soonest, unless something was asked for.
func (b *ramdiskBuild) chooseCompression(ctx context.Context) (err error) {
	if b.config.Compress == "" {
		b.config.Compress, err = initramfs.DefaultCompression(ctx, b.config.Kernel)
	}
	return err
}

// chooseUserland decides between compiling and what was compiled before.
func (b *ramdiskBuild) chooseUserland() error {
	compile := b.sourceIsSaid || b.commands != nil || b.sshKey != ""
	switch carried := carriedUserland(b.config.Arch); {
	case b.userland != "" && compile:
		return errors.New("--userland is there already: it goes neither with --source nor with --commands or --ssh-key")
	case b.userland != "":
		b.config.Source = ""
		return b.readUserland()
	case !compile && carried != nil:
		b.config.Source, b.config.Prebuilt = "", carried
		return nil
	}
	commands, err := initramfs.Commands(b.commands, b.sshKey != "")
	if err != nil {
		return fmt.Errorf("--commands: %w", err)
	}
	b.config.Commands = commands
	if _, err := os.Stat(filepath.Join(b.config.Source, "go.mod")); err != nil {
		return fmt.Errorf("--source %q is not the directory of muster's source: %w; and this program carries a userland for %s, "+
			"not for what was asked", b.config.Source, err, orNone(carriedArchs()))
	}
	b.config.Source, err = filepath.Abs(b.config.Source)
	return err
}

// maxUserland bounds the file of --userland; ours has 4 MB.
const maxUserland = 256 << 20

func (b *ramdiskBuild) readUserland() error {
	f, err := os.Open(b.userland)
	if err != nil {
		return fmt.Errorf("--userland: %w", err)
	}
	defer f.Close()
	b.config.Prebuilt, err = io.ReadAll(io.LimitReader(f, maxUserland+1))
	if err == nil && len(b.config.Prebuilt) > maxUserland {
		err = fmt.Errorf("more than %d bytes", maxUserland)
	}
	if err != nil {
		return fmt.Errorf("--userland %q: %w", b.userland, err)
	}
	return nil
}

// readEpoch takes the time of all files from the environment (reproducible-builds.org/specs/source-date-epoch).
func (b *ramdiskBuild) readEpoch() error {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", s)
	}
	b.config.Epoch = time.Unix(int64(n), 0)
	return nil
}

// progressTo says each step on a line, with the time since the start.
func progressTo(w io.Writer) func(string) {
	start := time.Now()
	return func(what string) { fmt.Fprintf(w, "%6.1fs %s\n", time.Since(start).Seconds(), what) }
}

// orNone lists words, or says that there are none.
func orNone(words []string) string { return cmp.Or(strings.Join(words, ", "), "none") }
