package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// ramdiskCommand is everything about discovery ramdisks.
func ramdiskCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "ramdisk",
		Short: "build, look into, sign and import discovery ramdisks",
		Long: "A discovery ramdisk is what a machine boots to be known: u-root, the agent, and the kernel modules that make\n" +
			"its disks and links appear. muster ramdisk import gives one to the server; muster serve --ramdisk DIR has one from\n" +
			"its start.",
	}
	c.AddCommand(ramdiskBuildCommand(), ramdiskListCommand(), ramdiskUnpackCommand(), ramdiskRepackCommand(), ramdiskAddCommand(),
		ramdiskRemoveCommand(), ramdiskDiffCommand(), ramdiskCheckCommand(), ramdiskSignCommand(), ramdiskImportCommand(o))
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
