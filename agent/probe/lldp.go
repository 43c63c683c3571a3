package probe

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"muster/agent/facts"
)

// What is wrong with an LLDP frame.
var (
	errNotLLDP   = errors.New("no LLDP frame")
	errTruncated = errors.New("truncated")
	errOrder     = errors.New("chassis, port and lifetime do not come first, once each")
	errLength    = errors.New("length makes no sense")
	errNoName    = errors.New("identifier is empty")
)

const (
	etherTypeLLDP = 0x88cc
	etherHeader   = 14
	maxLLDPText   = 255 // bytes of one text (IEEE 802.1AB-2016 clause 8.5)
	maxLLDPItems  = 128 // addresses or VLANs of one frame
)

// parseLLDP reads an Ethernet frame of IEEE 802.1AB. An optional TLV that lies about itself is left out and named in
// the error, and the rest of the neighbour is good; when nothing may be used, its ChassisID is "".
func parseLLDP(frame []byte) (facts.Neighbor, error) {
	if len(frame) < etherHeader {
		return facts.Neighbor{}, fmt.Errorf("frame header: %w", errTruncated)
	}
	if !isLLDPGroup(frame[:6]) || binary.BigEndian.Uint16(frame[12:]) != etherTypeLLDP {
		return facts.Neighbor{}, errNotLLDP
	}
	var n facts.Neighbor
	var odd error
	rest := frame[etherHeader:]
	for i := 0; ; i++ {
		kind, value, after, err := nextTLV(rest)
		if err != nil {
			return facts.Neighbor{}, fmt.Errorf("TLV %d at byte %d: %w", i+1, len(frame)-len(rest), err)
		}
		if (i < 3 || 1 <= kind && kind <= 3) && kind != i+1 {
			return facts.Neighbor{}, fmt.Errorf("TLV %d has type %d: %w", i+1, kind, errOrder)
		}
		if kind == 0 {
			return n, odd
		}
		if err := readTLV(&n, kind, value); err != nil {
			err = fmt.Errorf("TLV %d of type %d: %w", i+1, kind, err)
			if i < 3 {
				return facts.Neighbor{}, err
			}
			odd = err // the last one tells enough
		}
		rest = after
	}
}

// isLLDPGroup knows the three addresses of clause 7.1: nearest bridge, nearest non-TPMR bridge, nearest customer bridge.
func isLLDPGroup(b []byte) bool {
	return string(b[:5]) == "\x01\x80\xc2\x00\x00" && (b[5] == 0x0e || b[5] == 0x03 || b[5] == 0x00)
}

// nextTLV cuts one: 7 bits of type, 9 bits of length, the value. The end of the frame counts as the TLV "end" (type
// 0), which some senders leave out.
func nextTLV(b []byte) (kind int, value, rest []byte, err error) {
	switch len(b) {
	case 0:
		return 0, nil, nil, nil
	case 1:
		return 0, nil, nil, errTruncated
	}
	head := int(binary.BigEndian.Uint16(b))
	size := head & 0x1ff
	if size > len(b)-2 {
		return 0, nil, nil, fmt.Errorf("%d bytes of %d: %w", len(b)-2, size, errTruncated)
	}
	return head >> 9, b[2 : 2+size], b[2+size:], nil
}

// lldpTLVs are the readers by type (IEEE 802.1AB-2016 table 8-1). Other types are reserved.
var lldpTLVs = map[int]func(n *facts.Neighbor, v []byte) error{
	1: func(n *facts.Neighbor, v []byte) (err error) {
		n.ChassisID, err = lldpID(v, 4, 5)
		return err
	},
	2: func(n *facts.Neighbor, v []byte) (err error) {
		n.PortID, err = lldpID(v, 3, 4)
		return err
	},
	3: func(n *facts.Neighbor, v []byte) error {
		if len(v) < 2 {
			return errLength
		}
		n.TTL = int(binary.BigEndian.Uint16(v))
		return nil
	},
	4:   func(n *facts.Neighbor, v []byte) error { n.PortDesc = lldpText(v); return nil },
	5:   func(n *facts.Neighbor, v []byte) error { n.SysName = lldpText(v); return nil },
	6:   func(n *facts.Neighbor, v []byte) error { n.SysDesc = lldpText(v); return nil },
	7:   readCapabilities,
	8:   readManagement,
	127: readOrganization,
}

func readTLV(n *facts.Neighbor, kind int, v []byte) error {
	if read := lldpTLVs[kind]; read != nil {
		return read(n, v)
	}
	return nil
}

// lldpID reads a chassis or port identifier: a subtype, of which one means a MAC and one a network address, and the
// identifier. It is not put through facts.Clean: a port may well be named "0", and nobody left that in by mistake.
func lldpID(v []byte, mac, network byte) (string, error) {
	if len(v) < 2 || len(v) > 1+maxLLDPText {
		return "", errLength
	}
	id := ""
	switch subtype, b := v[0], v[1:]; {
	case subtype == mac && len(b) != 6:
		return "", fmt.Errorf("%d bytes of address: %w", len(b), errLength)
	case subtype == mac:
		id = net.HardwareAddr(b).String()
	case subtype == network:
		id = networkAddress(b)
	case utf8.Valid(b) && facts.Line(string(b), maxLLDPText) == strings.TrimSpace(string(b)):
		id = strings.TrimSpace(string(b))
	default: // bytes that are no text, or text that is not one line
		id = hexID(b)
	}
	if id == "" {
		return "", errNoName
	}
	return id, nil
}

// hexID prints bytes as the text of an identifier, never longer than a text may be.
func hexID(b []byte) string { return hex.EncodeToString(b[:min(len(b), maxLLDPText/2)]) }

// networkAddress reads a family of the IANA address family numbers and an address.
func networkAddress(b []byte) string {
	family, b := b[0], b[1:]
	if a, ok := netip.AddrFromSlice(b); ok && (family == 1 && a.Is4() || family == 2 && a.Is6()) {
		return a.String()
	}
	return hexID(b)
}

func lldpText(v []byte) string { return facts.Clean(string(v)) }

// lldpCapabilities by bit (table 8-4).
var lldpCapabilities = []string{"other", "repeater", "bridge", "wlan-ap", "router", "telephone", "docsis", "station", "c-vlan", "s-vlan", "tpmr"}

// readCapabilities takes those that are enabled, not all that the system has.
func readCapabilities(n *facts.Neighbor, v []byte) error {
	if len(v) < 4 {
		return errLength
	}
	enabled := binary.BigEndian.Uint16(v[2:])
	n.Caps = nil
	for bit, name := range lldpCapabilities {
		if enabled&(1<<bit) != 0 {
			n.Caps = append(n.Caps, name)
		}
	}
	slices.Sort(n.Caps)
	return nil
}

// readManagement reads a management address: its length with the family, the family, the address, and then the
// interface and an object identifier that nobody asks for.
func readManagement(n *facts.Neighbor, v []byte) error {
	if len(v) < 1 || v[0] < 2 || int(v[0]) > len(v)-1 {
		return errLength
	}
	family, b := v[1], v[2:1+v[0]]
	address := ""
	switch {
	case family == 1 && len(b) == 4, family == 2 && len(b) == 16:
		address = networkAddress(v[1 : 1+v[0]])
	case family == 6 && len(b) == 6: // all 802 media
		address = net.HardwareAddr(b).String()
	case family == 1, family == 2, family == 6:
		return fmt.Errorf("%d bytes of address: %w", len(b), errLength)
	}
	if address != "" && len(n.Mgmt) < maxLLDPItems && !slices.Contains(n.Mgmt, address) {
		n.Mgmt = append(n.Mgmt, address)
	}
	return nil
}

// readOrganization reads the TLVs of IEEE 802.1 (00-80-c2) and IEEE 802.3 (00-12-0f); others are left out.
func readOrganization(n *facts.Neighbor, v []byte) error {
	if len(v) < 4 {
		return errLength
	}
	b := v[4:]
	switch string(v[:4]) {
	case "\x00\x80\xc2\x01": // port VLAN; 0: the port has none
		if len(b) < 2 {
			return errLength
		}
		if id := int(binary.BigEndian.Uint16(b)); id < 4095 {
			n.PVID = id
		}
	case "\x00\x80\xc2\x03":
		return readVLAN(n, b)
	case "\x00\x80\xc2\x07", "\x00\x12\x0f\x03": // the same TLV moved from 802.3 to 802.1
		return readAggregation(n, b)
	case "\x00\x12\x0f\x04":
		if len(b) < 2 {
			return errLength
		}
		n.MTU = int(binary.BigEndian.Uint16(b))
	}
	return nil
}

// readVLAN reads a VLAN name. "default" is one, so that facts.Clean is not asked.
func readVLAN(n *facts.Neighbor, b []byte) error {
	if len(b) < 3 || int(b[2]) > len(b)-3 {
		return errLength
	}
	id := int(binary.BigEndian.Uint16(b))
	if id < 1 || id > 4094 {
		return fmt.Errorf("VLAN %d: %w", id, errLength)
	}
	if len(n.VLANs) < maxLLDPItems {
		n.VLANs = append(n.VLANs, facts.VLAN{ID: id, Name: facts.Line(string(b[3:3+b[2]]), maxLLDPText)})
	}
	return nil
}

func readAggregation(n *facts.Neighbor, b []byte) error {
	if len(b) < 5 {
		return errLength
	}
	capable, enabled := b[0]&1 != 0, b[0]&2 != 0
	n.AggCapable, n.AggEnabled = &capable, &enabled
	n.AggPort = 0
	if port := binary.BigEndian.Uint32(b[1:]); enabled && port <= math.MaxInt32 {
		n.AggPort = int(port)
	}
	return nil
}
