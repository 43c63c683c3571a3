package lab

import (
	"fmt"
	"regexp"
)

// A cell is one way to the agent, or to what a person chose instead: a firmware, who gives addresses, and what is loaded
// first. asks are parts of the names that the machine must have asked for, in this order, each with the protocol in
// front: they prove the way.
type cell struct {
	firmware Firmware
	http     bool   // HTTP boot, not PXE
	dhcp     string // server; proxy beside another host's server; same-host beside one of muster's; off: another host's, told of muster
	beside   string // the other server; if empty, dnsmasq
	loader   string
	config   string   // lines of muster's configuration
	files    []served // of the loader directory, beside the distribution's
	asks     []string
	reset    string // the name after whose fetch a person presses reset: what was loaded did not start
	choice   *choice
	quick    bool // part of make test
}

// served is a file of a package by the name that muster serves it under. An empty package is grub-mkimage's.
type served struct {
	name string
	from foreignPackage
	file string // below the package's root
}

// A choice is what a person does at a machine that shows a menu, and what must be seen then instead of facts.
type choice struct {
	prompt, key string         // on the console; QEMU's name of the key
	shows       *regexp.Regexp // on the console
	screen      *regexp.Regexp // or in the text of a display, which the machine gets for it
	disk        bool           // it has a disk that says so when it is started
}

// forBIOS leads machines whose NIC has QEMU's iPXE ROM to another loader.
const forBIOS = "loader_for: [{arch: bios, loader: %s}]\n"

// menu is a menu that nobody looks at; longMenu waits for who does.
const (
	menu     = "menu: {timeout: 2s}\n"
	longMenu = "menu: {timeout: 300s, memtest: true}\n"
)

// Debian 13's loaders are those of five years later; the fixed kernel of both is Debian 12's.
var (
	debian13     = "trixie"
	ipxe13       = foreignPackage{debian13, "amd64", "ipxe"}
	grub13       = foreignPackage{debian13, "amd64", "grub-efi-amd64-signed"}
	shimARM64    = foreignPackage{"", "arm64", "shim-signed"}
	grubARM64    = foreignPackage{"", "arm64", "grub-efi-arm64-signed"}
	kernelARM64  = foreignPackage{"", "arm64", "linux-image-arm64"}
	memtestPlus  = foreignPackage{"", "amd64", "memtest86+"}
	ownGRUB      = served{name: "grub.0"}
	snponly13    = served{"snponly.efi", ipxe13, "usr/lib/ipxe/snponly.efi"}
	ipxeOnARM64  = served{"ipxe-arm64.efi", ipxe13, "usr/lib/ipxe/ipxe-arm64.efi"}
	grubx64of13  = served{"grubx64.efi", grub13, "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"}
	shimaa64     = served{"shimaa64.efi", shimARM64, "usr/lib/shim/shimaa64.efi.signed"}
	grubaa64     = served{"grubaa64.efi", grubARM64, "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"}
	memtestLinux = served{"memtest.lkrn", memtestPlus, "boot/memtest86+x64.bin"}
)

// Ways of loaders, as names that they ask for.
var (
	byIPXE     = []string{"http boot/ipxe", "http /vmlinuz"}
	bySNPOnly  = []string{"tftp snponly.efi", "http boot/ipxe", "http /vmlinuz"}
	byPXELINUX = []string{"tftp pxelinux.0", "tftp ldlinux.c32", "tftp pxelinux.cfg/", "tftp /vmlinuz", "tftp /ramdisk"}
	byShim     = []string{"tftp shimx64.efi", "tftp grubx64.efi", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}
	byHTTP     = []string{"http boot/snponly.efi", "http boot/ipxe", "http /vmlinuz"}
)

var cells = []cell{
	// Every loader, and muster alone or beside another host's server that knows nothing of it.
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM)", asks: byIPXE},
	{firmware: BIOS, dhcp: "proxy", loader: "ipxe (ROM)", asks: byIPXE},
	{firmware: BIOS, dhcp: "server", loader: "pxelinux", config: fmt.Sprintf(forBIOS, "pxelinux"), quick: true, asks: byPXELINUX},
	{firmware: BIOS, dhcp: "proxy", loader: "pxelinux", config: fmt.Sprintf(forBIOS, "pxelinux"), asks: byPXELINUX},
	{firmware: BIOS, dhcp: "server", loader: "lpxelinux", config: fmt.Sprintf(forBIOS, "lpxelinux"),
		asks: []string{"tftp lpxelinux.0", "http boot/ldlinux.c32", "http pxelinux.cfg/", "http /vmlinuz", "http /ramdisk"}},
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM), menu", config: menu, asks: []string{"http boot/ipxe", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "pxelinux, menu", config: menu + fmt.Sprintf(forBIOS, "pxelinux"),
		asks: []string{"tftp pxelinux.0", "tftp menu.c32", "tftp libutil.c32", "tftp /decided", "tftp /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "grub", config: fmt.Sprintf(forBIOS, "grub"), files: []served{ownGRUB},
		asks: []string{"tftp grub.0", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: UEFI, dhcp: "server", loader: "snponly", asks: bySNPOnly},
	{firmware: UEFI, dhcp: "proxy", loader: "snponly", asks: bySNPOnly},
	{firmware: UEFI, http: true, dhcp: "server", loader: "snponly", quick: true, asks: byHTTP},
	{firmware: UEFI, http: true, dhcp: "proxy", loader: "snponly", asks: byHTTP},
	{firmware: UEFI, dhcp: "server", loader: "grub", config: "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: UEFI, dhcp: "server", loader: "grub, menu", config: menu + "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp grub/grub.cfg", "tftp /x86_64-efi.cfg", "tftp /decided.cfg", "tftp /vmlinuz"}},
	{firmware: SecureBoot, dhcp: "server", loader: "snponly, refused, then shim", reset: "snponly.efi",
		asks: []string{"tftp snponly.efi", "tftp shimx64.efi", "tftp grubx64.efi", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: SecureBoot, dhcp: "server", loader: "shim", config: "uefi_loader: shim\n", asks: byShim},

	// Beside the other servers of the field: on another host, on muster's own (D30), and told of muster.
	{firmware: BIOS, dhcp: "proxy", beside: "kea", loader: "ipxe (ROM)", asks: byIPXE},
	{firmware: UEFI, dhcp: "proxy", beside: "isc", loader: "snponly", asks: bySNPOnly},
	{firmware: BIOS, dhcp: "same-host", beside: "dnsmasq", loader: "ipxe (ROM)", asks: byIPXE},
	{firmware: BIOS, dhcp: "same-host", beside: "kea", loader: "pxelinux", config: fmt.Sprintf(forBIOS, "pxelinux"), asks: byPXELINUX},
	{firmware: UEFI, dhcp: "same-host", beside: "dnsmasq", loader: "snponly", asks: bySNPOnly},
	{firmware: UEFI, dhcp: "same-host", beside: "isc", loader: "snponly", asks: bySNPOnly},
	{firmware: UEFI, dhcp: "same-host", beside: "kea", loader: "grub", config: "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: UEFI, http: true, dhcp: "same-host", beside: "isc", loader: "snponly", asks: byHTTP},
	{firmware: BIOS, dhcp: "off", beside: "isc", loader: "ipxe (ROM)", asks: byIPXE},
	{firmware: UEFI, dhcp: "off", beside: "kea", loader: "snponly", asks: byIPXE}, // what was read before the first script is nobody's
	{firmware: UEFI, http: true, dhcp: "off", beside: "dnsmasq", loader: "snponly", asks: byIPXE},

	// Loaders of Debian 13.
	{firmware: UEFI, dhcp: "server", loader: "snponly of Debian 13", files: []served{snponly13},
		asks: []string{"tftp snponly.efi", "tftp autoexec.ipxe", "http /vmlinuz"}},
	{firmware: SecureBoot, dhcp: "proxy", loader: "shim, grub of Debian 13", config: "uefi_loader: shim\n", files: []served{grubx64of13}, asks: byShim},
	{firmware: SecureBoot, http: true, dhcp: "server", loader: "shim, grub of Debian 13", config: "uefi_loader: shim\n", files: []served{grubx64of13},
		asks: []string{"http boot/shimx64.efi", "http grubx64.efi", "http grub/grub.cfg", "http muster/grub/", "http /vmlinuz"}},

	// 64-bit ARM.
	{firmware: ARM64, dhcp: "server", loader: "grub", config: "uefi_loader: grub\n", files: []served{grubaa64},
		asks: []string{"tftp grubaa64.efi", "tftp grub/grub.cfg", "tftp arm64-efi.cfg", "tftp /vmlinuz"}},
	{firmware: ARM64, dhcp: "server", loader: "shim", config: "uefi_loader: shim\n", files: []served{shimaa64, grubaa64},
		asks: []string{"tftp shimaa64.efi", "tftp grubaa64.efi", "tftp grub/grub.cfg", "tftp arm64-efi.cfg", "tftp /vmlinuz"}},
	{firmware: ARM64, dhcp: "proxy", loader: "ipxe of Debian 13", files: []served{ipxeOnARM64},
		asks: []string{"tftp ipxe-arm64.efi", "tftp autoexec.ipxe", "http /vmlinuz"}},
	{firmware: ARM64, http: true, dhcp: "server", loader: "ipxe of Debian 13", files: []served{ipxeOnARM64},
		asks: []string{"http boot/ipxe-arm64.efi", "http autoexec.ipxe", "http /vmlinuz"}},

	// What a person at the machine chooses.
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM), rescue chosen", config: longMenu, asks: []string{"http boot/ipxe", "http boot/ipxe", "http /vmlinuz"},
		choice: &choice{prompt: "Rescue", key: "r", shows: regexp.MustCompile(`muster\.shell: .* runs on this console`)}},
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM), memtest chosen", config: longMenu, files: []served{memtestLinux},
		asks: []string{"http boot/ipxe", "http boot/ipxe", "http boot/memtest.lkrn"}, choice: &choice{prompt: "Memory test", key: "m", screen: regexp.MustCompile(`Memtest86\+`)}},
	{firmware: BIOS, dhcp: "server", loader: "pxelinux, disk chosen", config: longMenu + fmt.Sprintf(forBIOS, "pxelinux"),
		asks: []string{"tftp pxelinux.0", "tftp menu.c32", "tftp /local"}, choice: &choice{prompt: "local disk", key: "l", shows: diskSays, disk: true}},
	{firmware: UEFI, dhcp: "server", loader: "grub, disk chosen", config: longMenu + "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp /x86_64-efi.cfg", "tftp /local.cfg"}, choice: &choice{prompt: "local disk", key: "l", shows: diskSays, disk: true}},
	{firmware: UEFI, dhcp: "server", loader: "snponly, disk chosen", config: longMenu,
		asks: []string{"tftp snponly.efi", "http boot/ipxe", "http boot/ipxe"}, choice: &choice{prompt: "local disk", key: "l", shows: diskSays, disk: true}},
}
