package main

import (
	"embed"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"muster/boot"
)

// dhcpConfigFiles are the templates, one for each kind of DHCP server.
//
//go:embed dhcp_config/*.tmpl
var dhcpConfigFiles embed.FS

var dhcpConfigs = template.Must(template.New("").Option("missingkey=error").ParseFS(dhcpConfigFiles, "dhcp_config/*.tmpl"))

// dhcpServers are the kinds, by the name of their template.
var dhcpServers = []string{"isc", "kea", "dnsmasq", "windows"}

// dhcpSite is what the templates say.
type dhcpSite struct {
	Addr     netip.Addr
	URL      string // of the script for iPXE, with iPXE's own settings in it
	SameHost bool
	PXE      []dhcpLoader // by TFTP
	HTTP     []dhcpLoader // by UEFI HTTP boot; Name is a URL
}

// dhcpLoader is one loader and the architectures (option 93) that load it.
type dhcpLoader struct {
	Label string // a word for names of classes
	Name  string
	Archs []boot.Arch
}

// dhcpConfigCommand names the loaders that are below root, as boot.Loaders has it.
func dhcpConfigCommand(root string) *cobra.Command {
	var addr, base string
	var sameHost bool
	loaders := boot.Loaders{Root: root}
	c := &cobra.Command{
		Use:   "dhcp-config isc|kea|dnsmasq|windows",
		Short: "what a site's own DHCP server must be told",
		Long: "dhcp-config prints the lines that another DHCP server needs so that machines find muster, for muster serve\n" +
			"--dhcp off, or with --same-host for --dhcp same-host. With --dhcp proxy the other server needs nothing: it must\n" +
			"not name a boot file, and relays must send a copy of what they hear to muster, too.",
		Example: "  muster dhcp-config isc --address 192.0.2.10\n" +
			"  muster dhcp-config kea --address 192.0.2.10 --url http://192.0.2.10:8081 --uefi-loader shim\n" +
			"  muster dhcp-config dnsmasq --address 192.0.2.10 --same-host > /etc/dnsmasq.d/muster.conf",
		Args: exactly(1, strings.Join(dhcpServers, " or ")), ValidArgs: dhcpServers,
		RunE: func(cmd *cobra.Command, args []string) error {
			site, err := dhcpSiteOf(addr, base, loaders)
			if err != nil {
				return usageError{err}
			}
			site.SameHost = sameHost
			return writeDHCPConfig(cmd.OutOrStdout(), args[0], site)
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "address", "", "muster's IPv4 address, as machines reach it")
	f.StringVar(&base, "url", "", "muster's base URL for boot loaders (default: http://ADDRESS:8080)")
	f.BoolVar(&sameHost, "same-host", false, "the DHCP server runs on muster's host: it leases, and muster names the files on port 4011")
	f.StringVar(&loaders.Dir, "loaders", "", "directory with boot loaders of your own, as serve is told")
	f.StringVar(&loaders.UEFI, "uefi-loader", "snponly", "first loader of UEFI machines: snponly, ipxe, grub, or shim for Secure Boot")
	f.StringVar(&loaders.BIOS, "bios-loader", "undionly", "first loader of BIOS machines: undionly (iPXE), pxelinux, lpxelinux or grub")
	return c
}

// dhcpSiteOf reads the flags.
func dhcpSiteOf(addr, base string, loaders boot.Loaders) (dhcpSite, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() {
		return dhcpSite{}, fmt.Errorf("--address %q: want the IPv4 address of muster", addr)
	}
	if base == "" {
		base = fmt.Sprintf("http://%s:8080", a)
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil ||
		strings.ContainsAny(u.Host, "\"',;\\$ ") {
		return dhcpSite{}, fmt.Errorf("--url %q: want http://ADDRESS:PORT", base)
	}
	base = strings.TrimRight(base, "/")
	if err := loaders.Check(); err != nil {
		return dhcpSite{}, err
	}
	s := dhcpSite{Addr: a, URL: base + "/boot/ipxe?mac=${netX/mac}&uuid=${uuid}&platform=${platform}"}
	s.PXE = dhcpLoaders(loaders, boot.KindUEFI, "", pxeArchs)
	s.HTTP = dhcpLoaders(loaders, boot.KindUEFIHTTP, base+"/boot/", httpArchs)
	if len(s.URL) > 127 {
		return dhcpSite{}, fmt.Errorf("--url %q: the script's URL has %d bytes; the file field of DHCP holds 127", base, len(s.URL))
	}
	return s, nil
}

// The architectures that may have a loader, with a word for each.
var (
	pxeArchs = []dhcpLoader{
		{Label: "bios", Archs: []boot.Arch{boot.ArchBIOS}}, {Label: "ia32", Archs: []boot.Arch{boot.ArchIA32}},
		{Label: "x64", Archs: []boot.Arch{boot.ArchX64, boot.ArchEBC}}, {Label: "arm32", Archs: []boot.Arch{0x0a}},
		{Label: "arm64", Archs: []boot.Arch{boot.ArchARM64}}, {Label: "riscv64", Archs: []boot.Arch{0x1b}},
		{Label: "loong64", Archs: []boot.Arch{0x27}},
	}
	httpArchs = []dhcpLoader{
		{Label: "x64", Archs: []boot.Arch{boot.ArchX64HTTP}}, {Label: "arm64", Archs: []boot.Arch{boot.ArchARM64HTTP}},
		{Label: "riscv64", Archs: []boot.Arch{0x1c}}, {Label: "loong64", Archs: []boot.Arch{0x28}},
	}
)

// dhcpLoaders are those of the rows for which there is a loader.
func dhcpLoaders(l boot.Loaders, kind boot.Kind, prefix string, rows []dhcpLoader) []dhcpLoader {
	var list []dhcpLoader
	for _, row := range rows {
		c := boot.Client{Kind: kind, Arch: row.Archs[0]}
		if c.Arch == boot.ArchBIOS {
			c.Kind = boot.KindBIOS
		}
		if name, ok := l.Name(c, false); ok {
			row.Name = prefix + name
			list = append(list, row)
		}
	}
	return list
}

// writeDHCPConfig prints one server's lines.
func writeDHCPConfig(w io.Writer, server string, site dhcpSite) error {
	if !slices.Contains(dhcpServers, server) {
		return usageError{fmt.Errorf("DHCP server %q: want %s", server, strings.Join(dhcpServers, ", "))}
	}
	return dhcpConfigs.ExecuteTemplate(w, server+".tmpl", site)
}

// Pair writes an architecture as ISC dhcpd compares it: 00:07.
func (dhcpLoader) Pair(a boot.Arch) string { return fmt.Sprintf("%02x:%02x", uint8(a>>8), uint8(a)) }

// Hex writes it as Kea does: 0x0007.
func (dhcpLoader) Hex(a boot.Arch) string { return fmt.Sprintf("0x%04x", uint16(a)) }

// Text writes it as machines do in option 60: 00007.
func (dhcpLoader) Text(a boot.Arch) string { return fmt.Sprintf("%05d", uint16(a)) }
