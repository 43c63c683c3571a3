package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// The ports.
const (
	serverPort = 67
	clientPort = 68
	proxyPort  = 4011 // PXE 2.1 section 2.2.1: the boot server, and a proxy's second answer
)

// maxPacket is the longest packet read: a DHCP message in one Ethernet frame.
const maxPacket = 1500

// headerLength is where the options begin, after the magic cookie.
const headerLength = 240

// An inbound is a datagram and where it was seen.
type inbound struct {
	data []byte
	from netip.AddrPort
	to   netip.Addr // as the client wrote it, broadcast included
	port int        // ours: 67 or 4011
	// heard is a packet that was for another: it is noted, and nobody is answered.
	heard bool
}

// A class is what option 60 says of a client.
type class int

const (
	plain class = iota // an operating system, or nothing said
	pxe                // PXEClient
	http               // HTTPClient
)

// A request is a packet as far as it matters here.
type request struct {
	p       *dhcpv4.DHCPv4
	in      inbound
	kind    dhcpv4.MessageType
	client  boot.Client
	class   class
	boots   bool      // a boot client that may be answered
	item    *bootItem // 43.71: the menu entry that was chosen
	unended bool      // option 255 was missing
	probes  int       // addresses that were looked for on the link for it
	notes   []string  // for the timeline
}

// parseRequest reads a packet. An error means that nobody can be answered.
func parseRequest(in inbound) (request, error) {
	p, unended, err := decode(in.data)
	if err != nil {
		return request{}, err
	}
	if p.OpCode != dhcpv4.OpcodeBootRequest || p.HWType != 1 || len(p.ClientHWAddr) != 6 {
		return request{}, errors.New("read DHCP packet: not a request of an Ethernet client")
	}
	mac := boot.MAC(p.ClientHWAddr)
	if mac.IsZero() || mac[0]&1 != 0 {
		return request{}, fmt.Errorf("read DHCP packet: %q is no client's address", mac)
	}
	q := request{p: p, in: in, kind: p.MessageType(), unended: unended}
	if q.kind == dhcpv4.MessageTypeNone {
		return request{}, errors.New("read DHCP packet: no message type")
	}
	q.client = boot.Client{MAC: mac, Addr: addrOf(p.ClientIPAddr)}
	q.classify()
	return q, nil
}

// decode reads the bytes; a packet without its last option is read once more with it (golden D27).
func decode(data []byte) (p *dhcpv4.DHCPv4, unended bool, err error) {
	if len(data) < headerLength || len(data) > maxPacket {
		return nil, false, fmt.Errorf("read DHCP packet: %d bytes: want %d to %d", len(data), headerLength, maxPacket)
	}
	if p, err = dhcpv4.FromBytes(data); err == nil {
		return p, false, nil
	}
	p, again := dhcpv4.FromBytes(append(data[:len(data):len(data)], 255))
	if again != nil {
		return nil, false, fmt.Errorf("read DHCP packet: %w", err)
	}
	return p, true, nil
}

// classify fills what boot clients say of themselves.
func (q *request) classify() {
	vendor := string(q.option(60))
	switch {
	case strings.HasPrefix(vendor, "PXEClient"):
		q.class = pxe
	case strings.HasPrefix(vendor, "HTTPClient"):
		q.class = http
	default:
		return
	}
	arch, ok := archOf(q.option(93))
	if !ok {
		q.notes = append(q.notes, "no boot client: option 93 is absent or odd")
		return
	}
	rom := parseEtherboot(q.option(175))
	q.client.Arch = arch
	q.client.Features = rom.features
	q.client.NIC, q.client.Version = rom.nic, rom.version
	q.client.UUID = uuidOf(q.option(97))
	q.client.Kind = kindOf(q.class, q.client.MAC, arch, q.option(77), rom)
	q.boots = q.client.Kind != boot.KindOther
	if v, ok := parseVendor(q.option(43)); ok {
		q.item = v.item
	}
	q.notes = append(q.notes, notesOf(q, rom)...)
	q.notes = append(q.notes, oddities(q)...)
}

// notesOf is what the timeline shows of a boot client.
func notesOf(q *request, rom etherboot) []string {
	notes := []string{q.client.Arch.String()}
	if u := q.option(94); len(u) == 3 && u[0] == 1 { // RFC 4578 section 2.2: UNDI is type 1
		notes = append(notes, fmt.Sprintf("undi %d.%d", u[1], u[2]))
	}
	if rom.nic != "" {
		notes = append(notes, "nic "+rom.nic)
	}
	if rom.version != "" {
		notes = append(notes, "version "+rom.version)
	}
	if rom.malformed {
		notes = append(notes, "option 175 malformed")
	}
	if q.unended {
		notes = append(notes, "no end option")
	}
	for _, part := range agentParts {
		if v := q.agent(part.code); v != nil {
			notes = append(notes, fmt.Sprintf("%s %x", part.name, v))
		}
	}
	if q.client.Kind == boot.KindIPXE {
		notes = append(notes, triesOf(q.p.NumSeconds)...)
	}
	return notes
}

// triesOf reads iPXE's secs field: tries x 4, + 2 when it has a lease offer, + 1 when it has a proxy's
// (iPXE src/net/udp/dhcp.c).
func triesOf(secs uint16) []string {
	if secs == 0 || secs > 4*64 {
		return nil
	}
	offers := [4]string{"", ", proxy offer seen", ", lease offer seen", ", lease offer and proxy offer seen"}
	return []string{fmt.Sprintf("try %d%s", secs/4, offers[secs%4])}
}

func (q *request) option(code uint8) []byte { return q.p.Options.Get(dhcpv4.GenericOptionCode(code)) }

// agentParts are what a relay says of the port that a machine is plugged into (RFC 3046 section 3.1, 3.2).
var agentParts = []struct {
	code byte
	name string
}{{1, "circuit"}, {2, "remote id"}}

// agent is an entry of option 82, nil when there is none.
func (q *request) agent(code byte) []byte {
	list, _ := parseSuboptions(q.option(82))
	for _, s := range list {
		if s.code == code {
			return s.data
		}
	}
	return nil
}

// requested is the address of option 50, serverID that of option 54; zero when absent.
func (q *request) requested() netip.Addr { return addrOf(q.option(50)) }
func (q *request) serverID() netip.Addr  { return addrOf(q.option(54)) }
func (q *request) relay() netip.Addr     { return addrOf(q.p.GatewayIPAddr) }

// addrOf is an IPv4 address; zero for 0.0.0.0 and for anything that is not four bytes.
func addrOf(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(net.IP(b).To4())
	if !ok || len(b) != 4 || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
