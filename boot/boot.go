// Package boot answers machines that start from a network. It turns what a boot protocol shows of a machine (Client)
// into what that machine boots next (Step, asked of a Source) and says it in the machine's own dialect: iPXE, GRUB
// or pxelinux. It knows no node, tag or policy; a Source does.
//
// Everything served goes through one resolver, so that TFTP and HTTP give the same bytes for the same name.
package boot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"muster/boot/kargs"
)

// A Source decides what a machine boots next. Boot protocols keep no state: Next is called by the ROM, by iPXE and
// again for the script, and must give the same Step until the node checks in. Next blocks on nothing but its store.
// A pxelinux or GRUB without a MAC showed only a UUID: it is looked up and never made known, ErrNotFound when nobody is it.
type Source interface {
	Next(ctx context.Context, c Client) (Step, error)
}

// A Client is a machine as a boot protocol shows it. MAC is there, or else UUID.
type Client struct {
	MAC      MAC
	UUID     UUID // logical byte order; zero when not shown
	Kind     Kind
	Arch     Arch
	Serial   string
	Asset    string
	Addr     netip.Addr // the client's address, when it has one
	Features []string   // of DHCP option 175, e.g. "http", "bzimage"
	NIC      string     // of the same: vvvv:dddd of the PCI card it boots by
	Version  string     // of the same: what iPXE calls itself; distributions' builds do not say much
	Try      int        // how often the machine has waited and asked again, in this boot
	HTTP     bool       // it asks by HTTP; what it is led to can be had so, too
}

// Kind is what program of the machine speaks.
type Kind string

// The kinds of protocols.md 1.2.
const (
	KindUnknown  Kind = ""
	KindBIOS     Kind = "bios-pxe"  // PXE ROM on BIOS
	KindUEFI     Kind = "uefi-pxe"  // PXE in UEFI firmware
	KindUEFIHTTP Kind = "uefi-http" // HTTP boot in UEFI firmware
	KindIPXE     Kind = "ipxe"
	KindGRUB     Kind = "grub"
	KindPXELINUX Kind = "pxelinux"
	KindRPi      Kind = "rpi"
	KindUBoot    Kind = "uboot"
	KindOther    Kind = "other"
)

// Arch is a client architecture of DHCP option 93 (IANA processor architecture types, RFC 5970 section 3.3).
type Arch uint16

// Architectures with an answer of their own.
const (
	ArchBIOS      Arch = 0x00
	ArchIA32      Arch = 0x06
	ArchX64       Arch = 0x07
	ArchEBC       Arch = 0x09 // many x64 machines send it
	ArchARM64     Arch = 0x0b
	ArchX64HTTP   Arch = 0x10
	ArchARM64HTTP Arch = 0x13
)

// EFI says whether the architecture is a UEFI one.
func (a Arch) EFI() bool {
	switch {
	case a == ArchIA32, a == ArchX64, a == ArchEBC, a == 0x0a, a == ArchARM64, a >= 0x0f && a <= 0x13:
		return true
	case a == 0x19, a == 0x1a, a == 0x1b, a == 0x1c, a == 0x1d, a == 0x1e, a >= 0x25 && a <= 0x28:
		return true
	}
	return false
}

var archNames = map[Arch]string{
	ArchBIOS: "x86 BIOS", ArchIA32: "IA32 UEFI", ArchX64: "x64 UEFI", ArchEBC: "EBC UEFI", 0x0a: "ARM32 UEFI",
	ArchARM64: "ARM64 UEFI", ArchX64HTTP: "x64 UEFI HTTP", ArchARM64HTTP: "ARM64 UEFI HTTP",
	0x15: "U-Boot ARM32", 0x16: "U-Boot ARM64", 0x1b: "RISC-V 64 UEFI", 0x27: "LoongArch 64 UEFI", 0x29: "Raspberry Pi",
}

// String names the architecture, and keeps the number of one it does not know.
func (a Arch) String() string {
	if n, ok := archNames[a]; ok {
		return n
	}
	return fmt.Sprintf("unknown (%#02x)", uint16(a))
}

// StepKind is what a client boots next.
type StepKind string

// The kinds of steps.
const (
	StepRamdisk StepKind = "ramdisk" // the discovery ramdisk
	StepKernel  StepKind = "kernel"  // an installer's kernel
	StepChain   StepKind = "chain"   // another loader or script
	StepWinPE   StepKind = "winpe"   // Windows' installer by wimboot
	StepMenu    StepKind = "menu"    // whatever is chosen at the machine
	StepLocal   StepKind = "local"   // the machine's own disk
	StepWait    StepKind = "wait"    // ask again after a while
	StepRefuse  StepKind = "refuse"  // say why and give the machine back to its firmware
)

// A Step is what a client boots next, in no dialect.
type Step struct {
	Kind    StepKind
	Kernel  string        // ramdisk, kernel: name below the server's file names, e.g. "ramdisk/vmlinuz"; winpe: wimboot, a loader
	Initrds []string      // ramdisk, kernel: names, in the order in memory; winpe: its WIM and what else the loader needs
	Args    kargs.Line    // ramdisk, kernel: command line, without initrd= and BOOTIF=; winpe: wimboot's
	Inject  []Inject      // winpe: files that appear in the booted system
	Chain   string        // chain: a loader by its served name, or the URL of a loader or script
	Words   []string      // chain: for the program that is started, such as -c URL
	Menu    *Menu         // menu
	After   time.Duration // wait: how long at first
	Text    string        // wait, refuse: what the screen says
	Because string        // one line: why this step

	// Signatures are names of detached signatures, of the kernel and then of each initrd; if nil, nothing is verified.
	// Only iPXE verifies: GRUB has shim for kernels.
	Signatures []string
	TrustOnly  bool // with Signatures: the machine's loader is to run nothing unverified from now on
}

// Inject is a file that wimboot lays into \\Windows\\System32 of the booted system, at most 31 characters of name.
type Inject struct{ Name, URL string }

// ErrNotFound is the answer for a name that leads to no file.
var ErrNotFound = errors.New("not found")

// A Sighting is one thing that a machine was seen to do while it boots. Servers give every request, hit or miss, to
// their Observe function; it must not block.
type Sighting struct {
	Time   time.Time
	Client Client // as much as the protocol shows; MAC zero when it shows none
	Proto  string // dhcp, tftp, http
	What   string // DHCP message types, read, miss, script, file
	Name   string // file or script asked for
	Bytes  int64  // sent
	Text   string // one line for people, without control characters
}
