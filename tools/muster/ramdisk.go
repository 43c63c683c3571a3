package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// ramdiskCommand is everything about discovery ramdisks.
func ramdiskCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ramdisk",
		Short: "build and look into discovery ramdisks",
		Long: "A discovery ramdisk is what a machine boots to be known: u-root, the agent, and the kernel modules that make\n" +
			"its disks and links appear. muster serve --ramdisk DIR hands it out.",
	}
	c.AddCommand(ramdiskBuildCommand(), ramdiskListCommand(), ramdiskUnpackCommand(), ramdiskRepackCommand(), ramdiskAddCommand(),
		ramdiskRemoveCommand(), ramdiskDiffCommand(), ramdiskCheckCommand())
	return c
}

// ramdiskBuild is what muster ramdisk build was asked for.
type ramdiskBuild struct {
	config   initramfs.Config
	out      string
	files    []string
	progress bool
}

func ramdiskBuildCommand() *cobra.Command {
	b := &ramdiskBuild{}
	c := &cobra.Command{
		Use:   "build --kernel DEB -o DIR|FILE",
		Short: "build a discovery ramdisk; the same again changes nothing",
		Long: "Build compiles the agent and u-root's commands from the source in --source, adds kernel modules of a Debian\n" +
			"linux-image package and any files of yours, and writes vmlinuz, ramdisk.cpio.gz and manifest.json into DIR.\n" +
			"With -o FILE (a name ending in .gz) only the ramdisk and FILE.manifest.json are written.\n\n" +
			"The same input gives the same bytes. When nothing has changed since the manifest, nothing is built.\n" +
			"SOURCE_DATE_EPOCH sets the time of all files in it. Go must be installed.\n\n" +
			"Profiles for --modules: " + strings.Join(initramfs.Profiles(), " ") + ".",
		Example: "  (cd /tmp && apt-get download linux-image-6.1.0-56-amd64)\n" +
			"  muster ramdisk build --kernel /tmp/linux-image-6.1.0-56-amd64_*.deb -o /var/lib/muster/ramdisk\n" +
			"  muster ramdisk build --kernel linux-image.deb --modules vm,storage,megaraid_sas -o ramdisk.cpio.gz\n" +
			"  muster ramdisk build --kernel linux-image.deb --file ca.pem:/etc/ssl/certs/ca-certificates.crt -o out",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := c.Flags()
	f.StringVarP(&b.out, "output", "o", "", "directory, or file ending in .gz, to write")
	f.StringVar(&b.config.Kernel, "kernel", "", "Debian linux-image package; without it the ramdisk has no modules")
	f.StringVar(&b.config.Source, "source", ".", "directory of muster's source")
	f.StringSliceVar(&b.config.Modules, "modules", nil, "modules and profiles, by commas (default common)")
	f.StringArrayVar(&b.files, "file", nil, "SRC:DST, a file or directory to lay over the ramdisk; may be repeated")
	f.BoolVar(&b.progress, "progress", false, "say what is being done and for how long")
	return c
}

// run builds unless what lies there is what would be built.
func (b *ramdiskBuild) run(cmd *cobra.Command) error {
	if err := b.complete(); err != nil {
		return usageError{err}
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	key, err := b.config.Key(ctx)
	if err != nil {
		return fmt.Errorf("see what has changed: %w", err)
	}
	p := ramdiskPathsOf(b.out, b.config.Kernel != "")
	if m, ok := p.current(key); ok {
		fmt.Fprintf(out, "%s: up to date\n", p.ramdisk)
		return showSizes(out, m)
	}
	if b.progress {
		b.config.Progress = progressTo(cmd.ErrOrStderr())
	}
	m, err := p.build(ctx, b.config, key)
	if err != nil {
		return fmt.Errorf("build ramdisk: %w", err)
	}
	for _, name := range m.Absent {
		fmt.Fprintf(cmd.ErrOrStderr(), "muster: kernel %s has no module %s: left out\n", m.Kernel, name)
	}
	fmt.Fprintf(out, "%s: built\n", p.ramdisk)
	return showSizes(out, m)
}

// complete checks the flags and what of the environment counts.
func (b *ramdiskBuild) complete() error {
	if b.out == "" {
		return errors.New("say where to: -o DIR, or -o FILE ending in .gz")
	}
	if _, err := os.Stat(filepath.Join(b.config.Source, "go.mod")); err != nil {
		return fmt.Errorf("--source %q is not the directory of muster's source: %w", b.config.Source, err)
	}
	source, err := filepath.Abs(b.config.Source)
	if err != nil {
		return err
	}
	b.config.Source = source
	for _, s := range b.files {
		from, to, ok := strings.Cut(s, ":")
		if !ok || from == "" || to == "" {
			return fmt.Errorf("--file %q: want SRC:DST", s)
		}
		b.config.Files = append(b.config.Files, initramfs.File{Name: to, Source: from})
	}
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", s)
		}
		b.config.Epoch = time.Unix(int64(n), 0)
	}
	return nil
}

// progressTo says each step on a line, with the time since the start.
func progressTo(w io.Writer) func(string) {
	start := time.Now()
	return func(what string) { fmt.Fprintf(w, "%6.1fs %s\n", time.Since(start).Seconds(), what) }
}

// ramdiskPaths is where the parts of a build go.
type ramdiskPaths struct {
	ramdisk, manifest string
	vmlinuz           string // "" when it is not wanted
}

// ramdiskPathsOf tells a directory from a file by the name.
func ramdiskPathsOf(out string, kernel bool) ramdiskPaths {
	if strings.HasSuffix(out, ".gz") {
		return ramdiskPaths{ramdisk: out, manifest: out + ".manifest.json"}
	}
	p := ramdiskPaths{ramdisk: filepath.Join(out, "ramdisk.cpio.gz"), manifest: filepath.Join(out, "manifest.json")}
	if kernel {
		p.vmlinuz = filepath.Join(out, "vmlinuz")
	}
	return p
}

// current finds the manifest of an earlier build with this key whose files are still there and whole.
func (p ramdiskPaths) current(key string) (*initramfs.Manifest, bool) {
	content, err := os.ReadFile(p.manifest)
	if err != nil {
		return nil, false
	}
	var m initramfs.Manifest
	if json.Unmarshal(content, &m) != nil || m.Key != key {
		return nil, false
	}
	ramdisk, err := os.ReadFile(p.ramdisk)
	if err != nil {
		return nil, false
	}
	if sum := sha256.Sum256(ramdisk); hex.EncodeToString(sum[:]) != m.SHA256 {
		return nil, false
	}
	if p.vmlinuz != "" {
		if info, err := os.Stat(p.vmlinuz); err != nil || info.Size() == 0 {
			return nil, false
		}
	}
	return &m, true
}

// build writes everything beside its place and then moves it there, the manifest last: a server that hands these files
// out never sees half of one, and a build that was cut short is done again.
func (p ramdiskPaths) build(ctx context.Context, c initramfs.Config, key string) (*initramfs.Manifest, error) {
	dir := filepath.Dir(p.ramdisk)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(dir, ".ramdisk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	var m *initramfs.Manifest
	err = writeNew(filepath.Join(scratch, "ramdisk"), func(w io.Writer) (err error) {
		m, err = initramfs.Build(ctx, c, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.Key = key
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	err = writeNew(filepath.Join(scratch, "manifest"), func(w io.Writer) error {
		_, err := w.Write(append(manifest, '\n'))
		return err
	})
	if err != nil {
		return nil, err
	}
	moves := [][2]string{{"ramdisk", p.ramdisk}, {"manifest", p.manifest}}
	if p.vmlinuz != "" {
		vmlinuz, _, err := initramfs.ExtractKernel(c.Kernel, scratch)
		if err != nil {
			return nil, err
		}
		moves = append([][2]string{{filepath.Base(vmlinuz), p.vmlinuz}}, moves...)
	}
	if err := os.Remove(p.manifest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, move := range moves {
		if err := os.Rename(filepath.Join(scratch, move[0]), move[1]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// writeNew writes a file to disk, not only to the cache: a rename must not outrun its content.
func writeNew(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// showSizes prints what a ramdisk is made of.
func showSizes(w io.Writer, m *initramfs.Manifest) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "PART\tFILES\tRAW\tGZIP\t")
	for _, part := range []struct {
		name  string
		sizes initramfs.Sizes
	}{{"userland", m.Userland}, {"modules", m.Drivers}, {"ramdisk", m.Total}} {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t\n", part.name, part.sizes.Files, bytesText(part.sizes.Raw), bytesText(part.sizes.Gzip))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "kernel %s, %d modules; %s, %d archives, sha256 %s\n",
		orDash(plain(m.Kernel)), len(m.Modules), m.Format, m.Archives, m.SHA256)
	return err
}
