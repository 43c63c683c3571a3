package storm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var everybody = netip.MustParseAddrPort("255.255.255.255:67")

// ask does DHCP as a boot client: DISCOVER, the offers, REQUEST when the machine takes leases, and port 4011 when the
// chosen offer sends it there (PXE 2.1 section 2.2). An ending that is set ends the boot.
func (s *session) ask(o options) (string, ending) {
	offers, err := s.discover(o)
	if err != nil {
		return "", stuck("DHCP: %v", err)
	}
	if len(offers) == 0 {
		return "", ending{EndBack, "no DHCP server answered"}
	}
	if leased, ok := leaseOf(offers); ok {
		s.addr = leased.lease()
		if s.m.Lease {
			if end := s.request(o, leased); end.kind != "" {
				return "", end
			}
		}
	}
	chosen, ok := choose(offers)
	if !ok {
		return "", ending{EndBack, "no offer has boot fields: the DHCP server answered, but no boot server"}
	}
	return s.follow(o, chosen)
}

// discover gathers offers. One with an address and boot fields is enough; else the machine listens on for a proxy.
func (s *session) discover(o options) ([]offer, error) {
	p := s.packet(dhcpv4.MessageTypeDiscover, o)
	whole := func(got []offer) bool {
		return slices.ContainsFunc(got, func(x offer) bool { return x.lease().IsValid() && x.boots() }) ||
			slices.ContainsFunc(got, func(x offer) bool { return x.lease().IsValid() }) && slices.ContainsFunc(got, offer.boots)
	}
	began := time.Now()
	got, err := s.wire.exchange(s.ctx, p, everybody, false, whole)
	for _, x := range got {
		s.note(Request{Proto: "dhcp", Asked: "DISCOVER", Answer: describe(x), Took: time.Since(began)})
	}
	if len(got) == 0 {
		s.note(Request{Proto: "dhcp", Asked: "DISCOVER", Answer: "nothing", Took: time.Since(began), Failed: true})
	}
	return got, err
}

func leaseOf(offers []offer) (offer, bool) {
	i := slices.IndexFunc(offers, func(o offer) bool { return o.lease().IsValid() })
	if i < 0 {
		return offer{}, false
	}
	return offers[i], true
}

// choose prefers as EDK2 and iPXE do: an offer with an address that is for boot clients, then a proxy's, then any file.
func choose(offers []offer) (offer, bool) {
	for _, fits := range []func(offer) bool{
		func(o offer) bool { return o.lease().IsValid() && o.boots() },
		offer.boots,
		func(o offer) bool { return o.file() != "" },
	} {
		if i := slices.IndexFunc(offers, fits); i >= 0 {
			return offers[i], true
		}
	}
	return offer{}, false
}

// request takes the lease.
func (s *session) request(o options, leased offer) ending {
	p := s.packet(dhcpv4.MessageTypeRequest, o)
	p.UpdateOption(dhcpv4.OptRequestedIPAddress(leased.YourIPAddr))
	p.UpdateOption(dhcpv4.OptServerIdentifier(leased.server().AsSlice()))
	began := time.Now()
	got, err := s.wire.exchange(s.ctx, p, everybody, false, func(got []offer) bool {
		return slices.ContainsFunc(got, func(x offer) bool { return x.server() == leased.server() })
	})
	if err != nil || len(got) == 0 {
		s.note(Request{Proto: "dhcp", Asked: "REQUEST " + leased.lease().String(), Answer: "nothing", Took: time.Since(began), Failed: true})
		return stuck("DHCP: the lease of %s was offered and not given", leased.lease())
	}
	x := got[len(got)-1]
	s.note(Request{Proto: "dhcp", Asked: "REQUEST " + leased.lease().String(), Answer: describe(x), Took: time.Since(began)})
	if x.MessageType() != dhcpv4.MessageTypeAck {
		return stuck("DHCP: the lease of %s was refused", leased.lease())
	}
	return ending{}
}

// follow reads the boot fields of the chosen offer (option 43: PXE 2.1 table 2-1).
func (s *session) follow(o options, chosen offer) (string, ending) {
	s.server = chosen.next()
	vendor := suboptions(chosen.Options.Get(dhcpv4.OptionVendorSpecificInformation))
	const justLoad = 8 // of discovery control
	control := vendor[6]
	bypass := len(control) == 1 && control[0]&justLoad != 0 && chosen.file() != ""
	menu := vendor[9]
	switch {
	case strings.HasPrefix(string(o[60]), "HTTPClient") && isURL(chosen.file()):
		return chosen.file(), ending{}
	case isURL(chosen.file()) && o[77] != nil:
		return chosen.file(), ending{}
	case len(menu) >= 2 && binary.BigEndian.Uint16(menu) == 0 && !bypass:
		return "", ending{EndLocal, "the boot server says: your own disk (menu entry of type 0)"}
	case len(menu) >= 2 && !bypass:
		return s.bootServer(o, chosen, menu[:2])
	case bypass && !s.m.Profile.IgnoresBypass, !chosen.boots():
		return chosen.file(), ending{}
	case len(control) == 1 && chosen.file() == "":
		return "", ending{EndBack, "option 43 without a file and without a menu: firmware cancels the boot"}
	}
	return s.bootServer(o, chosen, nil)
}

// bootServer asks port 4011, for a menu entry or for the file.
func (s *session) bootServer(o options, chosen offer, item []byte) (string, ending) {
	p := s.packet(dhcpv4.MessageTypeRequest, o)
	p.ClientIPAddr = chosen.YourIPAddr
	if s.addr.IsValid() {
		p.ClientIPAddr = s.addr.AsSlice()
	}
	if item != nil {
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, append([]byte{71, 4}, item[0], item[1], 0, 0, 255)))
	}
	began := time.Now()
	to := netip.AddrPortFrom(chosen.server(), 4011)
	got, err := s.wire.exchange(s.ctx, p, to, s.m.Profile.From4011, func(got []offer) bool { return len(got) > 0 })
	if err != nil || len(got) == 0 {
		s.note(Request{Proto: "dhcp", Asked: "REQUEST to " + to.String(), Answer: "nothing", Took: time.Since(began), Failed: true})
		return "", ending{EndBack, fmt.Sprintf("the boot server %s does not answer on port 4011", chosen.server())}
	}
	x := got[0]
	s.note(Request{Proto: "dhcp", Asked: "REQUEST to " + to.String(), Answer: describe(x), Took: time.Since(began)})
	s.server = x.next()
	if x.file() == "" {
		return "", ending{EndBack, "the boot server names no file"}
	}
	return x.file(), ending{}
}

// packet begins a request of the machine.
func (s *session) packet(kind dhcpv4.MessageType, o options) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: s.m.MAC[:], Options: dhcpv4.Options{}}
	p.SetBroadcast()
	for code, data := range o {
		p.Options[code] = data
	}
	if !s.m.UUID.IsZero() && !s.m.Profile.NoUUID {
		wire := s.m.UUID.Swapped()
		p.Options[97] = append([]byte{0}, wire[:]...)
	}
	p.UpdateOption(dhcpv4.OptMessageType(kind))
	return p
}

// suboptions reads option 43; of a code given twice the first counts.
func suboptions(b []byte) map[byte][]byte {
	m := map[byte][]byte{}
	for len(b) >= 2 && b[0] != 255 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		n := 2 + int(b[1])
		if n > len(b) {
			break
		}
		if _, twice := m[b[0]]; !twice {
			m[b[0]] = b[2:n]
		}
		b = b[n:]
	}
	return m
}

// describe is an answer in one line.
func describe(o offer) string {
	words := []string{o.MessageType().String(), "from " + o.from.String()}
	if a := o.lease(); a.IsValid() {
		words = append(words, "address "+a.String())
	}
	if o.boots() {
		words = append(words, oneLine(o.class()))
	}
	if f := o.file(); f != "" {
		words = append(words, "file "+oneLine(f))
	}
	if v := o.Options.Get(dhcpv4.OptionVendorSpecificInformation); v != nil {
		words = append(words, fmt.Sprintf("option 43 %x", v))
	}
	return strings.Join(words, ", ")
}

// oneLine makes text of the wire fit for one line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
