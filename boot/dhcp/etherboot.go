package dhcp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A suboption is one entry of an encapsulating option (RFC 2132 section 8.4).
type suboption struct {
	code byte
	data []byte
}

// parseSuboptions reads entries until 255 or the end. It is false when the last entry is cut off; what came before is
// given nevertheless.
func parseSuboptions(b []byte) ([]suboption, bool) {
	var list []suboption
	for len(b) > 0 {
		switch {
		case b[0] == 0:
			b = b[1:]
			continue
		case b[0] == 255:
			return list, true
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return list, false
		}
		n := 2 + int(b[1])
		list = append(list, suboption{b[0], b[2:n:n]})
		b = b[n:]
	}
	return list, true
}

// appendSuboption writes one entry; its data is at most 255 bytes.
func appendSuboption(b []byte, code byte, data []byte) []byte {
	return append(append(b, code, byte(len(data))), data...)
}

// An etherboot is option 175 as iPXE fills it (iPXE src/include/ipxe/dhcp.h and features.h).
type etherboot struct {
	features  []string // names of features.h, lower case, sorted
	nic       string   // vvvv:dddd of a PCI device
	version   string   // not reliable: Debian's builds of 2019 and 2025 both say 1.0.0
	noProxy   bool     // b0: the sender told its client to wait for no proxy
	malformed bool
}

// Entries of option 175 that are no features.
const (
	subNoPXEDHCP = 0xb0
	subBusID     = 0xb1
	subVersion   = 0xeb
)

var featureNames = map[byte]string{
	0x10: "pxe_ext", 0x11: "iscsi", 0x12: "aoe", 0x13: "http", 0x14: "https", 0x15: "tftp", 0x16: "ftp", 0x17: "dns",
	0x18: "bzimage", 0x19: "multiboot", 0x1a: "slam", 0x1b: "srp", 0x20: "nbi", 0x21: "pxe", 0x22: "elf", 0x23: "comboot",
	0x24: "efi", 0x25: "fcoe", 0x26: "vlan", 0x27: "menu", 0x28: "sdi", 0x29: "nfs",
}

// parseEtherboot reads option 175, and what can be read of a damaged one.
func parseEtherboot(b []byte) etherboot {
	list, whole := parseSuboptions(b)
	e := etherboot{malformed: !whole}
	for _, s := range list {
		name, known := featureNames[s.code]
		switch {
		case known && len(s.data) == 1:
			if s.data[0] != 0 && !e.has(name) {
				e.features = append(e.features, name)
			}
		case s.code == subBusID && len(s.data) == 5 && s.data[0] == 1:
			e.nic = fmt.Sprintf("%04x:%04x", binary.BigEndian.Uint16(s.data[1:]), binary.BigEndian.Uint16(s.data[3:]))
		case s.code == subVersion && len(s.data) == 3:
			e.version = strings.Join([]string{fmt.Sprint(s.data[0]), fmt.Sprint(s.data[1]), fmt.Sprint(s.data[2])}, ".")
		case s.code == subNoPXEDHCP && len(s.data) == 1:
			e.noProxy = s.data[0] != 0
		}
	}
	slices.Sort(e.features)
	return e
}

func (e etherboot) has(feature string) bool { return slices.Contains(e.features, feature) }
