package dhcp

import (
	"bytes"
	"slices"

	"muster/boot"
)

// A Quirk is a habit of firmware or of a loader that a boot server has to know: what it does, what muster does about
// it, and where that is known from. The table is what boot/README.md shows; rows with makers or odd are looked at here.
type Quirk struct {
	Name   string
	Who    string // how it is recognised
	Does   string
	Answer string // ours
	Source string // where it was seen or read

	makers [][3]byte             // blocks of addresses of the cards that have it
	odd    func(q *request) bool // says that a packet shows it, for the timeline; nil: not by DHCP, or nothing worth a note
}

// Quirks are the rows, by who has them.
var Quirks = []Quirk{
	{Name: "edk2-port4011", Who: "UEFI", Does: "asks port 4011 from port 4011 and hears only there",
		Answer: "the answer goes to the port that asked", Source: "seen on OVMF; edk2 NetworkPkg/UefiPxeBcDxe"},
	{Name: "edk2-http-prl", Who: "option 60 HTTPClient", Does: "option 55 holds a byte that was never set",
		Answer: "boot options are sent unasked; 55 refuses nobody", Source: "seen on OVMF; edk2 NetworkPkg/HttpBootDxe/HttpBootDhcp4.c"},
	{Name: "edk2-tsize-probe", Who: "UEFI", Does: "reads a file's size, ends that with ERROR 8, and reads again",
		Answer: "no failure in the timeline; no step of a loader loop", Source: "seen on OVMF; edk2 NetworkPkg/UefiPxeBcDxe/PxeBcMtftp.c"},
	{Name: "edk2-window", Who: "UEFI", Does: "asks for windowsize 4",
		Answer: "RFC 7440", Source: "seen on OVMF; edk2 issue 7264 for before 2018"},
	{Name: "shim-512", Who: "shim", Does: "blocks of 512 bytes, windowsize 4, no tsize",
		Answer: "RFC 7440", Source: "rhboot/shim issue 618"},
	{Name: "shim-error2", Who: "shim", Does: "takes ERROR 2 for a refused signature and starts MokManager",
		Answer: "a file that is not there is ERROR 1", Source: "rhboot/shim netboot.c"},
	{Name: "shim-404-hang", Who: "shim over HTTP", Does: "waits for ever on an empty 404 of a connection that stays open",
		Answer: "404 has a body and closes the connection", Source: "seen with Debian's shim 15.8"},
	{Name: "shim-dslash", Who: "shim over HTTP", Does: "asks for dir//grubx64.efi",
		Answer: "slashes are one, without a redirect", Source: "seen with Debian's shim 15.8"},
	{Name: "ipxe-60-echo", Who: "iPXE", Does: "repeats in option 60 what a server wrote there",
		Answer: "the kind is told by 93, 77 and 175", Source: "iPXE src/net/udp/dhcp.c"},
	{Name: "ipxe-2019-ra", Who: "iPXE of 2019", Does: "waits 16 s for an IPv6 router after its lease",
		Answer: "no sign of a stuck boot", Source: "seen with Debian 12's ipxe"},
	{Name: "ipxe-autoexec", Who: "iPXE for EFI since 2022", Does: "asks for autoexec.ipxe before anything else",
		Answer: "the script is there", Source: "Tinkerbell issue 424"},
	{Name: "grub-oack", Who: "GRUB", Does: "waits for OACK or ERROR and knows the size by tsize only",
		Answer: "tsize is always answered", Source: "GRUB grub-core/net/tftp.c"},
	{Name: "grub-overload", Who: "GRUB", Does: "ignores the file field when option 52 is there",
		Answer: "52 is never written", Source: "GRUB grub-core/net/bootp.c"},
	{Name: "grub-proxy-d12", Who: "GRUB of Debian 12", Does: "knows nothing of a proxy's offer",
		Answer: "siaddr stands in the ACK of server mode; beside another server, it names muster as next-server or iPXE is used",
		Source: "seen with Debian 12's grub-efi-amd64-signed"},
	{Name: "grub-proxy-byte", Who: "GRUB of Debian 13 and Red Hat", Does: "keeps one byte of the proxy's file name",
		Answer: "no script uses net_*_boot_file", Source: "seen with Debian 13's grub-efi-amd64-signed"},
	{Name: "pxelinux-prefix", Who: "pxelinux", Does: "takes its prefix up to the last byte that is no letter, digit, dot or dash",
		Answer: "no loader has _ in its name", Source: "seen with Debian's pxelinux 6.04"},
	{Name: "pxelinux-abs", Who: "pxelinux", Does: "puts its prefix before /name, too",
		Answer: "names are written ::name", Source: "seen with Debian's pxelinux 6.04"},
	{Name: "pxelinux-oack", Who: "pxelinux", Does: "ends with ERROR 8 on an option that it did not ask for",
		Answer: "only what was asked is answered", Source: "seen with Debian's pxelinux 6.04"},
	{Name: "rpi-arch0", Who: "a Raspberry Pi's MAC and architecture 0", Does: "says that it is a PC with BIOS, and writes no UUID into 97",
		Answer: "kind rpi: its own boot menu, no PC loader, 97 is no key", Source: "Raspberry Pi's documentation of network boot; Tinkerbell smee",
		makers: [][3]byte{{0xb8, 0x27, 0xeb}, {0xdc, 0xa6, 0x32}, {0xe4, 0x5f, 0x01}, {0x28, 0xcd, 0xc1}, {0xd8, 0x3a, 0xdd}, {0x2c, 0xcf, 0x67}},
		odd:    func(q *request) bool { return q.client.Kind == boot.KindRPi && q.client.Arch == boot.ArchBIOS }},
	{Name: "hp-gen9-4011", Who: "UEFI that starts over twice in 90 s without reading its loader", Does: "ignores the bypass bit of option 43",
		Answer: "the next offer has no 43, and 4011 names the file; remembered of the maker's cards", Source: "danderson/netboot issue 43"},
	{Name: "rom-no97", Who: "PXE without option 97", Does: "does not say the machine's UUID",
		Answer: "served; the MAC is the key", Source: "danderson/netboot issue 21",
		odd: func(q *request) bool { return q.class == pxe && q.option(97) == nil && q.client.Kind != boot.KindIPXE }},
	{Name: "rom-ff-name", Who: "some ROMs (not seen)", Does: "end a file name in the byte 0xff",
		Answer: "one is cut off", Source: "reported; not seen"},
	{Name: "ovmf-1024", Who: "old OVMF", Does: "fails with blocks longer than 1024 bytes",
		Answer: "blksize may be capped by maker", Source: "crowbar issue 1078"},
}

// rpiMakers are the address blocks of Raspberry Pi Ltd.
var rpiMakers = quirk("rpi-arch0").makers

func quirk(name string) Quirk {
	i := slices.IndexFunc(Quirks, func(k Quirk) bool { return k.Name == name })
	if i < 0 {
		return Quirk{}
	}
	return Quirks[i]
}

// oddities names what is odd of a boot client's packet, for the timeline.
func oddities(q *request) []string {
	var list []string
	for _, k := range Quirks {
		if k.odd != nil && k.odd(q) {
			list = append(list, "quirk "+k.Name)
		}
	}
	return list
}

// QuirkTable is the table in Markdown.
func QuirkTable() string {
	var b bytes.Buffer
	b.WriteString("| quirk | who | what it does | what muster does | known from |\n|---|---|---|---|---|\n")
	for _, k := range Quirks {
		for i, cell := range []string{k.Name, k.Who, k.Does, k.Answer, k.Source} {
			if i == 0 {
				cell = "`" + cell + "`"
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}
