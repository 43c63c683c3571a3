package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/boot"
	"muster/tools/storm"
)

func doctorClientCommand(o *options) *cobra.Command {
	var iface, mac, uuid, arch, loader string
	var disk, lease bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "client", Short: "replay every request a machine would make, and show each answer",
		Long: "doctor client does on the wire what a machine's firmware and boot loaders do, up to the kernel or the disk, and runs\n" +
			"nothing. It takes no lease unless --lease is said; what it asks stands in the node's timeline. It needs root, and can\n" +
			"run on the server's host or on any other of the network.\n\nFirmwares for --arch:\n" + profileList(),
		Example: "  muster doctor client --interface eth1 --mac 52:54:00:12:34:56 --arch uefi\n" +
			"  muster doctor client --interface eth1 --mac 52:54:00:12:34:56 --arch uefi --loader shimx64.efi\n" +
			"  muster doctor client --interface eth1 --mac 52:54:00:12:34:56 --arch bios -o json",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m := storm.Machine{Disk: disk, Lease: lease, Loader: loader}
			var ok bool
			var err error
			if m.Profile, ok = storm.ProfileNamed(arch); !ok {
				return usageError{fmt.Errorf("--arch %q: want one of\n%s", arch, profileList())}
			}
			if m.MAC, err = boot.ParseMAC(mac); err != nil {
				return usageError{fmt.Errorf("--mac: %w", err)}
			}
			if uuid != "" {
				if m.UUID, err = boot.ParseUUID(uuid); err != nil {
					return usageError{fmt.Errorf("--uuid: %w", err)}
				}
			}
			if iface == "" {
				return usageError{fmt.Errorf("--interface: want the one on the machines' network")}
			}
			w, err := storm.Listen(iface)
			if err != nil {
				return err
			}
			defer w.Close()
			w.Patience = wait
			b := m.Boot(cmd.Context(), w)
			b.Args = hideToken(b.Args)
			if err := o.show(cmd.OutOrStdout(), b, func(w io.Writer) { bootTable(w, b) }); err != nil {
				return err
			}
			if b.End == storm.EndStuck {
				return statusError{code: 1}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&iface, "interface", "", "network interface to ask on")
	f.StringVar(&mac, "mac", "", "MAC of the machine")
	f.StringVar(&uuid, "uuid", "", "its SMBIOS UUID, as dmidecode prints it")
	f.StringVar(&arch, "arch", "bios", "its firmware, see above")
	f.StringVar(&loader, "loader", "", "start this loader of the server, whatever DHCP names")
	f.BoolVar(&disk, "disk", false, "the machine has a system on its disk")
	f.BoolVar(&lease, "lease", false, "take the lease that is offered")
	f.DurationVar(&wait, "wait", 4*time.Second, "how long to wait for offers, up to four times")
	return c
}

func profileList() string {
	var b strings.Builder
	for _, p := range storm.Profiles {
		fmt.Fprintf(&b, "  %-10s %s\n", p.Name, p.About)
	}
	return strings.TrimRight(b.String(), "\n")
}

// bootTable is a boot as a table, and what came of it below.
func bootTable(w io.Writer, b storm.Boot) {
	row(w, "", "PROTO", "ASKED", "ANSWER", "BYTES", "TOOK")
	for _, q := range b.Requests {
		mark, size := "", "-"
		if q.Failed {
			mark = "miss"
		}
		if q.Bytes > 0 {
			size = bytesText(q.Bytes)
		}
		row(w, mark, q.Proto, q.Asked, q.Answer, size, q.Took.Round(100*time.Microsecond))
	}
	for _, line := range b.Screen {
		fmt.Fprintln(w, plain("screen: "+line))
	}
	fmt.Fprintln(w, plain(fmt.Sprintf("end: %s, in %s: %s", b.End, b.Loader, b.Why)))
	if b.Kernel != "" {
		fmt.Fprintln(w, plain("kernel: "+b.Kernel))
		fmt.Fprintln(w, plain("ramdisks: "+strings.Join(b.Initrds, " ")))
		fmt.Fprintln(w, plain("arguments: "+b.Args))
	}
}

// token is what a boot script carries and nobody else should see.
var token = regexp.MustCompile(`(muster\.token=)[^ "]+`)

func hideToken(args string) string { return token.ReplaceAllString(args, "${1}(hidden)") }
