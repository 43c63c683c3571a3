package storm

import (
	"encoding/hex"
	"slices"

	"muster/boot"
)

// A Profile is how a firmware speaks. What is in the table was seen on the wire.
type Profile struct {
	Name  string
	About string
	Class string    // option 60
	Arch  boot.Arch // option 93
	UNDI  [2]byte   // option 94: major and minor of the network interface
	ROM   bool      // the ROM is iPXE: there is no other program before it

	IgnoresBypass bool // asks port 4011 although option 43 says that the file is all (HP, Gen9)
	NoUUID        bool // sends no option 97
	From4011      bool // asks port 4011 from port 4011 (EDK2)

	Probe     bool     // asks for a file's size, gives the transfer up and asks again (EDK2)
	TFTP      []string // options of a read, in order: name, value, ...
	Autoexec  bool     // its iPXE asks for autoexec.ipxe before DHCP (EFI builds since 2022)
	Etherboot string   // option 175 of its iPXE, in hexadecimal
}

// Options of iPXE builds, as captured.
const (
	etherbootROM = "b105011af41000eb03010000170101220101130101110101270101190101" + "1001022101011501011801011201" + "01"
	etherbootEFI = "b105011af41000eb03010000260101170101270101240101130101140101" + "110101290101150101120101"
)

// Profiles are the firmwares, by what an operator calls them.
var Profiles = []Profile{
	{Name: "bios", About: "PXE ROM on BIOS", Class: "PXEClient:Arch:00000:UNDI:002001", Arch: boot.ArchBIOS, UNDI: [2]byte{2, 1},
		TFTP: []string{"tsize", "0", "blksize", "1456"}, Etherboot: etherbootROM},
	{Name: "bios-ipxe", About: "iPXE as the ROM (QEMU, many NICs)", Class: "PXEClient:Arch:00000:UNDI:002001", Arch: boot.ArchBIOS,
		UNDI: [2]byte{2, 1}, ROM: true, Etherboot: etherbootROM},
	{Name: "uefi", About: "PXE of EDK2, x64", Class: "PXEClient:Arch:00007:UNDI:003000", Arch: boot.ArchX64, UNDI: [2]byte{3, 0},
		From4011: true, Probe: true, TFTP: []string{"blksize", "1468", "windowsize", "4"}, Etherboot: etherbootEFI},
	{Name: "uefi-hp", About: "UEFI that always asks port 4011", Class: "PXEClient:Arch:00007:UNDI:003000", Arch: boot.ArchX64,
		UNDI: [2]byte{3, 0}, IgnoresBypass: true, From4011: true, Probe: true, TFTP: []string{"blksize", "1468"}, Etherboot: etherbootEFI},
	{Name: "uefi-ebc", About: "x64 UEFI that says it is EBC, without UUID", Class: "PXEClient:Arch:00009:UNDI:003000", Arch: boot.ArchEBC,
		UNDI: [2]byte{3, 0}, NoUUID: true, From4011: true, TFTP: []string{"blksize", "1024"}, Etherboot: etherbootEFI},
	{Name: "uefi-http", About: "HTTP boot of EDK2, x64", Class: "HTTPClient:Arch:00016:UNDI:003000", Arch: boot.ArchX64HTTP,
		UNDI: [2]byte{3, 0}, Autoexec: true, Etherboot: etherbootEFI},
	{Name: "arm64", About: "PXE of EDK2, arm64", Class: "PXEClient:Arch:00011:UNDI:003000", Arch: boot.ArchARM64, UNDI: [2]byte{3, 0},
		From4011: true, Probe: true, TFTP: []string{"blksize", "1468", "windowsize", "4"}, Autoexec: true, Etherboot: etherbootEFI},
}

// ProfileNamed finds a profile.
func ProfileNamed(name string) (Profile, bool) {
	i := slices.IndexFunc(Profiles, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, false
	}
	return Profiles[i], true
}

// options of a packet by code.
type options map[uint8][]byte

func (p Profile) firmwareOptions() options {
	return options{60: []byte(p.Class), 93: {byte(p.Arch >> 8), byte(p.Arch)}, 94: {1, p.UNDI[0], p.UNDI[1]},
		57: {5, 0xc0}, 55: {1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135}}
}

// ipxeOptions are those of the firmware with what iPXE adds; it calls itself a PXE client also after HTTP boot.
func (p Profile) ipxeOptions() options {
	o := p.firmwareOptions()
	if p.Arch == boot.ArchX64HTTP {
		o[60], o[93] = []byte("PXEClient:Arch:00007:UNDI:003010"), []byte{0, byte(boot.ArchX64)}
	}
	o[77] = []byte("iPXE")
	o[175], _ = hex.DecodeString(p.Etherboot) // a constant of this file
	return o
}
