package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// ramdiskEdit is a command that writes a ramdisk anew.
type ramdiskEdit struct {
	to, output string
}

func (e *ramdiskEdit) flags(c *cobra.Command) {
	c.Flags().StringVar(&e.to, "to", "", "file to write instead of IMAGE")
	c.Flags().StringVarP(&e.output, "output", "o", "table", "table or json, of what was done")
}

// run lets change write what becomes of the image.
func (e *ramdiskEdit) run(cmd *cobra.Command, image string, change func(initramfs.Image, io.Writer) ([]string, error)) error {
	if err := tableOrJSON(e.output); err != nil {
		return err
	}
	b := newBars(cmd, cmd.Name())
	defer b.end()
	f, err := openRamdisk(cmd.Context(), b, image, 2)
	if err != nil {
		return err
	}
	defer f.Close()
	o := outcome{File: image}
	if e.to != "" {
		o.File = e.to
	}
	err = replaceFile(o.File, func(w io.Writer) (err error) {
		o.Notes, err = change(f, w)
		return err
	})
	if err != nil {
		return fmt.Errorf("change ramdisk %q: %w", image, err)
	}
	b.end()
	return o.show(cmd.OutOrStdout(), e.output)
}

func ramdiskAddCommand() *cobra.Command {
	e := &ramdiskEdit{}
	var a initramfs.Addition
	c := &cobra.Command{
		Use:   "add IMAGE SRC:DST...",
		Short: "add files to a ramdisk",
		Long: "Add puts files and whole directories into the last archive of a ramdisk; a file takes the place of one of that name.\n" +
			"They belong to root, are 0755 if their owner may execute them, else 0644, and have the time SOURCE_DATE_EPOCH or\n" +
			"1980-01-01. Directories that are missing are added; one that is there, be it behind a link, stays as it is.\n" +
			"Segments in front, as microcode, are copied as they are.\n\n" +
			"--append leaves every byte as it is and puts a new segment behind, which a kernel unpacks over the others.",
		Example: "  muster ramdisk add initrd.img corp-ca.pem:/etc/ssl/certs/corp.pem\n" +
			"  muster ramdisk add initrd.img --append --compress zstd ./facts.d:/etc/muster/facts.d",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{fmt.Errorf("want IMAGE SRC:DST..., got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if a.Compress != "" && !a.Append {
				return usageError{fmt.Errorf("--compress %s is for --append: repack changes all of a ramdisk", a.Compress)}
			}
			files, err := filesOf(args[1:])
			if err != nil {
				return err
			}
			if a.Epoch, err = sourceDateEpoch(); err != nil {
				return err
			}
			return e.run(cmd, args[0], func(image initramfs.Image, w io.Writer) ([]string, error) {
				return initramfs.Add(image, files, w, a)
			})
		},
	}
	e.flags(c)
	c.Flags().BoolVar(&a.Append, "append", false, "put a new segment behind, change nothing else")
	c.Flags().StringVar(&a.Compress, "compress", "", "of the new segment: gzip, zstd, xz or none (default as the last)")
	return c
}

// filesOf reads SRC:DST arguments.
func filesOf(args []string) ([]initramfs.File, error) {
	var files []initramfs.File
	for _, s := range args {
		from, to, ok := strings.Cut(s, ":")
		if !ok || from == "" || to == "" {
			return nil, usageError{fmt.Errorf("file %q: want SRC:DST", s)}
		}
		files = append(files, initramfs.File{Name: to, Source: from})
	}
	return files, nil
}

func ramdiskRemoveCommand() *cobra.Command {
	e := &ramdiskEdit{}
	c := &cobra.Command{
		Use:   "remove IMAGE NAME...",
		Short: "remove files from a ramdisk",
		Long: "Remove leaves out files of these names, in every segment, and all that is in those that are directories. Other links\n" +
			"of a file that goes keep its content. Segments in which nothing goes are copied as they are.",
		Example: "  muster ramdisk remove initrd.img /etc/motd /lib/modules/6.1.0-56-amd64/kernel/sound",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{fmt.Errorf("want IMAGE NAME..., got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.run(cmd, args[0], func(image initramfs.Image, w io.Writer) ([]string, error) {
				return initramfs.Remove(image, args[1:], w)
			})
		},
	}
	e.flags(c)
	return c
}
