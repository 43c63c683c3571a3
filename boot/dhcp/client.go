package dhcp

import (
	"bytes"
	"encoding/binary"
	"slices"

	"muster/boot"
)

// archLast is the last architecture type that IANA has assigned (RFC 5970 section 3.3 and the registry).
const archLast = 0x29

// archOf gives the first architecture of option 93 that is known; the first when none is. It is false when the
// option is absent or of odd length.
func archOf(b []byte) (boot.Arch, bool) {
	if len(b) < 2 || len(b)%2 != 0 {
		return 0, false
	}
	for i := 0; i < len(b); i += 2 {
		if a := binary.BigEndian.Uint16(b[i:]); a <= archLast {
			return boot.Arch(a), true
		}
	}
	return boot.Arch(binary.BigEndian.Uint16(b)), true
}

// archKinds gives the kind of a PXE client by architecture. Those not named are recorded, not answered: nobody has a
// loader for them, or they are long dead.
var archKinds = map[boot.Arch]boot.Kind{
	boot.ArchBIOS: boot.KindBIOS,
	boot.ArchIA32: boot.KindUEFI, boot.ArchX64: boot.KindUEFI, boot.ArchEBC: boot.KindUEFI,
	0x0a: boot.KindUEFI, boot.ArchARM64: boot.KindUEFI, // ARM32, ARM64
	0x19: boot.KindUEFI, 0x1b: boot.KindUEFI, 0x1d: boot.KindUEFI, // RISC-V 32, 64, 128
	0x25: boot.KindUEFI, 0x27: boot.KindUEFI, // LoongArch 32, 64
	0x15: boot.KindUBoot, 0x16: boot.KindUBoot, // ARM32, ARM64
	archLast: boot.KindRPi, // rpiboot
}

// httpArchs are the architectures that ask for a URL.
var httpArchs = []boot.Arch{0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x17, 0x18, 0x1a, 0x1c, 0x1e, 0x26, 0x28}

// kindOf tells which program speaks. Option 60 only tells PXE from HTTP: iPXE repeats in it what a server wrote there.
func kindOf(c class, mac boot.MAC, arch boot.Arch, user []byte, rom etherboot) boot.Kind {
	isRPi := slices.Contains(rpiMakers, maker(mac))
	switch {
	case arch > archLast:
		return boot.KindOther
	case isRPi && (arch == boot.ArchBIOS || arch == archLast):
		return boot.KindRPi
	case c == http && slices.Contains(httpArchs, arch):
		return boot.KindUEFIHTTP
	case c == http:
		return boot.KindOther
	case isIPXE(user) || rom.has("http") && (rom.has("bzimage") || rom.has("efi")):
		return boot.KindIPXE
	}
	if k, ok := archKinds[arch]; ok {
		return k
	}
	return boot.KindOther
}

// isIPXE reads option 77, which iPXE sends as bare text and some relays and servers as RFC 3004 wants it.
func isIPXE(user []byte) bool {
	return string(user) == "iPXE" || string(user) == "\x04iPXE"
}

// uuidOf reads option 97 (RFC 4578 section 2.3): a type byte 0 and the UUID in wire order. Other forms are no UUID, and
// neither is what a Raspberry Pi writes there: the text RPi and its board revision.
func uuidOf(b []byte) boot.UUID {
	if len(b) != 17 || b[0] != 0 || bytes.HasPrefix(b[1:], []byte("RPi")) {
		return boot.UUID{}
	}
	return boot.UUID(b[1:]).Swapped()
}
