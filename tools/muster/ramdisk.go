package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"text/tabwriter"

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
	c.AddCommand(ramdiskBuildCommand(), ramdiskListCommand())
	return c
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

func ramdiskListCommand() *cobra.Command {
	var summary bool
	var output string
	c := &cobra.Command{
		Use:   "list [FILE]",
		Short: "list what a ramdisk holds",
		Long: "List reads a ramdisk as a kernel does: cpio archives in a row, each plain or in gzip, zstd or xz. Without FILE, or\n" +
			"with -, it reads standard input. An entry that a later one of the same name replaces is marked with \"-\" before it.",
		Example: "  muster ramdisk list /var/lib/muster/ramdisk/ramdisk.cpio.gz\n" +
			"  muster ramdisk list --summary /boot/initrd.img\n" +
			"  muster ramdisk list -o json ramdisk.cpio.gz",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("want one FILE, got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := readRamdisk(cmd.InOrStdin(), args, summary)
			if err != nil {
				return err
			}
			return showRamdisk(cmd.OutOrStdout(), m, output, summary)
		},
	}
	c.Flags().BoolVar(&summary, "summary", false, "sizes of the parts instead of entries")
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return c
}

// readRamdisk reads the file that was named, or standard input.
func readRamdisk(in io.Reader, args []string, measure bool) (*initramfs.Manifest, error) {
	name := "standard input"
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		name, in = args[0], f
	}
	read := initramfs.List
	if measure {
		read = initramfs.Measure
	}
	m, err := read(in)
	if err != nil {
		return nil, fmt.Errorf("list ramdisk %q: %w", name, err)
	}
	return m, nil
}

// showRamdisk prints a ramdisk in the way that was asked for.
func showRamdisk(w io.Writer, m *initramfs.Manifest, output string, summary bool) error {
	switch {
	case output == "json":
		if summary {
			m.Entries = nil
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(m)
	case output != "table":
		return usageError{fmt.Errorf("output %q: want table or json", output)}
	case summary:
		return showSizes(w, m)
	}
	return showEntries(w, m.Entries)
}

// showEntries prints one line for each entry: mode, owner, size or device numbers, name, target.
func showEntries(w io.Writer, entries []initramfs.Entry) error {
	var b bytes.Buffer
	for _, e := range entries {
		size := strconv.FormatUint(uint64(e.Size), 10)
		if mode := fileMode(e.Mode); mode&fs.ModeDevice != 0 {
			size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
		}
		mark := " "
		if e.Replaced {
			mark = "-"
		}
		line := fmt.Sprintf("%s %v %d:%d %10s %s", mark, fileMode(e.Mode), e.UID, e.GID, size, e.Name)
		if e.Target != "" {
			line += " -> " + e.Target
		}
		b.WriteString(plain(line) + "\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// fileMode turns a mode of struct stat into Go's.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		mask, is uint32
		mode     fs.FileMode
	}{
		{0o170000, 0o040000, fs.ModeDir}, {0o170000, 0o120000, fs.ModeSymlink},
		{0o170000, 0o020000, fs.ModeDevice | fs.ModeCharDevice}, {0o170000, 0o060000, fs.ModeDevice},
		{0o170000, 0o010000, fs.ModeNamedPipe}, {0o170000, 0o140000, fs.ModeSocket},
		{0o4000, 0o4000, fs.ModeSetuid}, {0o2000, 0o2000, fs.ModeSetgid}, {0o1000, 0o1000, fs.ModeSticky},
	} {
		if mode&bit.mask == bit.is {
			m |= bit.mode
		}
	}
	return m
}
