package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

func ramdiskUnpackCommand() *cobra.Command {
	var dir, output string
	var force bool
	c := &cobra.Command{
		Use:   "unpack IMAGE -C DIR",
		Short: "make a directory of a ramdisk",
		Long: "Unpack makes DIR/tree, the files, directories and links that a kernel would find, and DIR/ramdisk.json, which has what\n" +
			"a user cannot have on disk: owners, times, device nodes, pipes, sockets, set-user-ID bits, and how the ramdisk is\n" +
			"packed. Change the tree and repack. Files that others take the place of are kept in DIR/replaced.\n\n" +
			"No root is needed. Names that leave the tree, and other tricks, are refused before anything is written.",
		Example: "  muster ramdisk unpack /boot/initrd.img -C work\n" +
			"  cp my.conf work/tree/etc/ && muster ramdisk repack work -o initrd.img",
		Args: exactly(1, "one IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return usageError{errors.New("say where to: -C DIR")}
			}
			if err := tableOrJSON(output); err != nil {
				return err
			}
			b := newBars(cmd, "unpack")
			defer b.end()
			f, err := openRamdisk(cmd.Context(), b, args[0], 2)
			if err != nil {
				return err
			}
			defer f.Close()
			m, err := initramfs.Unpack(f, dir, force)
			if err != nil {
				return fmt.Errorf("unpack ramdisk %q: %w", args[0], err)
			}
			b.end()
			if output == "json" {
				return m.WriteJSON(cmd.OutOrStdout())
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d entries in %d segments, kernel modules: %d\n", dir, len(m.Entries),
				len(m.Segments), len(m.Modules))
			return err
		},
	}
	c.Flags().StringVarP(&dir, "directory", "C", "", "directory to make")
	c.Flags().BoolVar(&force, "force", false, "replace DIR if a ramdisk was unpacked there")
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json, of what was done")
	return c
}

// ramdiskRepack is what muster ramdisk repack was asked for.
type ramdiskRepack struct {
	out, report string
	packing     initramfs.Packing
}

func ramdiskRepackCommand() *cobra.Command {
	r := &ramdiskRepack{}
	c := &cobra.Command{
		Use:   "repack DIR -o IMAGE",
		Short: "make a ramdisk of a directory that unpack made",
		Long: "Repack writes the ramdisk that DIR was unpacked from, with what has been changed in DIR/tree, and says what that is.\n" +
			"What was not touched keeps its order, owner, time, links and place. A changed file keeps its owner; a new one belongs\n" +
			"to root and has the permissions of the file on disk. Both get the time SOURCE_DATE_EPOCH, or else 1980-01-01.\n" +
			"Device nodes, pipes and sockets are in DIR/ramdisk.json alone and stay while their directory does.\n\n" +
			"Untouched, a ramdisk of muster becomes the same bytes again, and one of others the same archives.",
		Example: "  muster ramdisk repack work -o initrd.img\n" +
			"  muster ramdisk repack work -o initrd.img --compress zstd",
		Args: exactly(1, "one DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	c.Flags().StringVarP(&r.out, "output", "o", "", "file to write")
	c.Flags().StringVar(&r.packing.Compress, "compress", "", "gzip, zstd, xz or none (default as it was); microcode in front stays plain")
	c.Flags().StringVar(&r.report, "report", "table", "table or json, of what was done")
	return c
}

func (r *ramdiskRepack) run(cmd *cobra.Command, dir string) (err error) {
	if r.out == "" {
		return usageError{errors.New("say where to: -o IMAGE")}
	}
	if err := tableOrJSON(r.report); err != nil {
		return err
	}
	if r.packing.Epoch, err = sourceDateEpoch(); err != nil {
		return err
	}
	b := newBars(cmd, "repack")
	defer b.end()
	r.packing.Progress = func(done, total int64) error {
		b.grow(total - b.total)
		b.add(done)
		return cmd.Context().Err()
	}
	o := outcome{File: r.out}
	err = replaceFile(r.out, func(w io.Writer) (err error) {
		o.Notes, err = initramfs.Repack(dir, w, r.packing)
		return err
	})
	if err != nil {
		return fmt.Errorf("repack ramdisk %q: %w", dir, err)
	}
	b.end()
	return o.show(cmd.OutOrStdout(), r.report)
}
