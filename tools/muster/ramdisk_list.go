package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// ramdiskList is what muster ramdisk list was asked for.
type ramdiskList struct {
	summary, long bool
	output        string
}

func ramdiskListCommand() *cobra.Command {
	l := &ramdiskList{}
	c := &cobra.Command{
		Use:   "list [FILE]",
		Short: "list what a ramdisk holds",
		Long: "List reads a ramdisk as a kernel does: cpio archives in a row, each plain or in gzip, zstd, xz, lz4, lzma or bzip2.\n" +
			"Without FILE, or with -, it reads standard input. An entry that a later one takes the place of is marked with \"-\"\n" +
			"before it, one that a kernel makes nothing of with \"!\".\n\n" +
			"--long also shows the segments with their place in the file, and links, inode, time and place of each entry.\n" +
			"-o json writes the manifest: everything, with the SHA-256 of every file and of the whole.",
		Example: "  muster ramdisk list /var/lib/muster/ramdisk/ramdisk.cpio.gz\n" +
			"  muster ramdisk list --long /boot/initrd.img\n" +
			"  muster ramdisk list -o json ramdisk.cpio.gz > manifest.json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("want one FILE, got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := readRamdisk(cmd.InOrStdin(), args, l.summary)
			if err != nil {
				return err
			}
			return l.show(cmd.OutOrStdout(), m)
		},
	}
	c.Flags().BoolVar(&l.summary, "summary", false, "sizes of the parts instead of entries")
	c.Flags().BoolVarP(&l.long, "long", "l", false, "segments, and all of each entry")
	c.Flags().StringVarP(&l.output, "output", "o", "table", "table or json")
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

// show prints a ramdisk in the way that was asked for.
func (l *ramdiskList) show(w io.Writer, m *initramfs.Manifest) error {
	switch {
	case l.output == "json":
		if l.summary {
			m.Entries = nil
			return writeJSON(w, m)
		}
		return m.WriteJSON(w)
	case l.output != "table":
		return usageError{fmt.Errorf("output %q: want table or json", l.output)}
	case l.summary:
		return showSizes(w, m)
	case l.long:
		return showLong(w, m)
	}
	return showEntries(w, m.Entries, "")
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// showLong prints each segment before its entries.
func showLong(w io.Writer, m *initramfs.Manifest) error {
	archive, next := 0, 0
	for i, s := range m.Segments {
		fmt.Fprintf(w, "segment %d: %s, bytes %d to %d, %s unpacked, archives: %d, zeros after it: %d\n",
			i, s.Format, s.Offset, s.Offset+s.Size, bytesText(s.Unpacked), len(s.Archives), s.Padding)
		archive += len(s.Archives)
		first := next
		for next < len(m.Entries) && m.Entries[next].Archive < archive {
			next++
		}
		if err := showEntries(w, m.Entries[first:next], "long"); err != nil {
			return err
		}
	}
	return nil
}

// showEntries prints one line for each entry: mode, owner, size or device numbers, name, target; long lines also have
// the place in the segment, the number of links, the inode and the time.
func showEntries(w io.Writer, entries []initramfs.Entry, form string) error {
	var b bytes.Buffer
	for _, e := range entries {
		size := strconv.FormatUint(uint64(e.Size), 10)
		if mode := fileMode(e.Mode); mode&fs.ModeDevice != 0 {
			size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
		}
		mark := " "
		switch {
		case e.Lost != "":
			mark = "!"
		case e.Replaced:
			mark = "-"
		}
		line := fmt.Sprintf("%v %d:%d %10s %s", fileMode(e.Mode), e.UID, e.GID, size, e.Name)
		if form == "long" {
			line = fmt.Sprintf("%10d %v %3d %10d %d:%d %10s %s %s", e.Offset, fileMode(e.Mode), e.Links, e.Ino, e.UID, e.GID, size,
				time.Unix(int64(e.Time), 0).UTC().Format(time.DateTime), e.Name)
		}
		if e.Target != "" {
			line += " -> " + e.Target
		}
		b.WriteString(plain(mark+" "+line) + "\n")
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
