package lab

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf16"
)

// A varStore is the variable part of an OVMF_VARS image: authenticated variables, one after the other, each at a multiple
// of four bytes (edk2 MdeModulePkg/Include/Guid/VariableFormat.h). Writing appends; what is replaced is marked deleted.
type varStore struct {
	bytes []byte // from the store's header to its end, inside the image
	free  int    // offset of the first free byte
}

// Sizes and marks of VariableFormat.h.
const (
	storeHeaderSize = 28 // VARIABLE_STORE_HEADER
	varHeaderSize   = 60 // AUTHENTICATED_VARIABLE_HEADER
	varStart        = 0x55aa
	varAdded        = 0x3f
	varDeleted      = varAdded & 0xfd
	varAttributes   = 0x07 // non-volatile, boot services, runtime
)

var (
	authStoreGUID  = mustHex("782cf3aa7b949a43a1802e144ec37792") // gEfiAuthenticatedVariableGuid
	globalVarGUID  = mustHex("61dfe48bca93d211aa0d00e098032b8c") // gEfiGlobalVariableGuid
	firstBootEntry = 0x80                                        // above the numbers that OVMF gives its own options
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return nil // matches no store; TestVarStore would fail
	}
	return b
}

// openVarStore finds the store behind the firmware volume header (UEFI PI vol. 3, EFI_FIRMWARE_VOLUME_HEADER: its length
// is at offset 48) and its end. It refuses what does not add up and changes nothing.
func openVarStore(image []byte) (*varStore, error) {
	if len(image) < 56 || string(image[40:44]) != "_FVH" {
		return nil, errors.New("no firmware volume header")
	}
	start := int(binary.LittleEndian.Uint16(image[48:]))
	if start+storeHeaderSize > len(image) || !bytes.Equal(image[start:start+16], authStoreGUID) {
		return nil, errors.New("no store of authenticated variables")
	}
	size := binary.LittleEndian.Uint32(image[start+16:])
	if int64(size) < storeHeaderSize || int64(size) > int64(len(image)-start) {
		return nil, fmt.Errorf("store of %d bytes in an image of %d", size, len(image))
	}
	s := &varStore{bytes: image[start : start+int(size)]}
	err := s.walk(func(int, string) {})
	return s, err
}

// walk calls f with the offset and name of every live variable and finds the free space.
func (s *varStore) walk(f func(offset int, name string)) error {
	at := storeHeaderSize
	for at+varHeaderSize <= len(s.bytes) && binary.LittleEndian.Uint16(s.bytes[at:]) == varStart {
		nameSize := int64(binary.LittleEndian.Uint32(s.bytes[at+36:]))
		dataSize := int64(binary.LittleEndian.Uint32(s.bytes[at+40:]))
		end := int64(at) + varHeaderSize + nameSize + dataSize
		if end > int64(len(s.bytes)) {
			return fmt.Errorf("variable at offset %d goes beyond the store", at)
		}
		if s.bytes[at+2] == varAdded && bytes.Equal(s.bytes[at+44:at+60], globalVarGUID) {
			f(at, fromUTF16(s.bytes[at+varHeaderSize:at+varHeaderSize+int(nameSize)]))
		}
		at = min(int(end+3)&^3, len(s.bytes))
	}
	s.free = at
	return nil
}

// clear drops every variable, also those that are not the machine's global ones: keys of Secure Boot.
func (s *varStore) clear() {
	s.free = storeHeaderSize
	for i := range s.bytes[s.free:] {
		s.bytes[s.free+i] = 0xff // erased flash
	}
}

// set writes one of the global variables of UEFI 2.10 section 3.3.
func (s *varStore) set(name string, data []byte) error {
	if err := s.walk(func(at int, old string) {
		if old == name {
			s.bytes[at+2] = varDeleted
		}
	}); err != nil {
		return err
	}
	wide := toUTF16(name)
	v := make([]byte, varHeaderSize, varHeaderSize+len(wide)+len(data))
	binary.LittleEndian.PutUint16(v, varStart)
	v[2] = varAdded
	binary.LittleEndian.PutUint32(v[4:], varAttributes)
	binary.LittleEndian.PutUint32(v[36:], uint32(len(wide)))
	binary.LittleEndian.PutUint32(v[40:], uint32(len(data)))
	copy(v[44:], globalVarGUID)
	v = append(append(v, wide...), data...)
	if s.free+len(v) > len(s.bytes) {
		return fmt.Errorf("set variable %q: the store is full", name)
	}
	copy(s.bytes[s.free:], v)
	s.free = (s.free + len(v) + 3) &^ 3
	return nil
}

// A bootOption is an EFI_LOAD_OPTION (UEFI 2.10 section 3.1.3).
type bootOption struct {
	name string
	path []byte // packed device path with its end node
}

// setBootOrder writes the options as Boot0080 and up and makes them the order. OVMF appends the options it finds itself.
func (s *varStore) setBootOrder(options []bootOption) error {
	var order []byte
	for i, o := range options {
		number := uint16(firstBootEntry + i)
		data := binary.LittleEndian.AppendUint32(nil, 1) // LOAD_OPTION_ACTIVE
		data = binary.LittleEndian.AppendUint16(data, uint16(len(o.path)))
		data = append(append(data, toUTF16(o.name)...), o.path...)
		if err := s.set(fmt.Sprintf("Boot%04X", number), data); err != nil {
			return err
		}
		order = binary.LittleEndian.AppendUint16(order, number)
	}
	return s.set("BootOrder", order)
}

type macAddr [6]byte

// Device paths, UEFI 2.10 chapter 10. The network ones are those that OVMF's own network stack installs, byte for byte:
// a boot option for it is found by its whole path.
func pxePath(mac macAddr, slots ...int) []byte {
	return bytes.Join([][]byte{nicPath(mac, slots...), pathNode(3, 12, make([]byte, 23)), endNode()}, nil) // IPv4 by DHCP
}

func httpBootPath(mac macAddr, slots ...int) []byte {
	return bytes.Join([][]byte{nicPath(mac, slots...), pathNode(3, 12, make([]byte, 23)), pathNode(3, 24, nil), endNode()}, nil) // Uri()
}

// nicPath takes the slot on the root bus, and behind each bridge the one there.
func nicPath(mac macAddr, slots ...int) []byte {
	root := binary.LittleEndian.AppendUint32(nil, 0x0a0341d0) // ACPI PNP0A03, as an EISA id
	root = binary.LittleEndian.AppendUint32(root, 0)
	path := pathNode(2, 1, root) // PciRoot(0)
	for _, slot := range slots {
		path = append(path, pathNode(1, 1, []byte{0, byte(slot)})...) // Pci(slot,0)
	}
	address := make([]byte, 32)
	copy(address, mac[:])
	return append(path, pathNode(3, 11, append(address, 1))...) // MAC(...,1): Ethernet
}

// filePath is a short-form path: the firmware looks for the file on every file system it finds.
func filePath(name string) []byte {
	return append(pathNode(4, 4, toUTF16(name)), endNode()...)
}

func endNode() []byte { return pathNode(0x7f, 0xff, nil) }

func pathNode(kind, sub byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(len(data)+4)), data...)
}

// toUTF16 gives UCS-2 with its final NUL, as UEFI keeps strings.
func toUTF16(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func fromUTF16(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		if u := binary.LittleEndian.Uint16(b); u != 0 {
			units = append(units, u)
		}
	}
	return string(utf16.Decode(units))
}
