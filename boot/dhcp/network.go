package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/rfc1035label"

	"muster/boot"
)

// A Network is a subnet to lease in, and what its machines are told of it.
type Network struct {
	Prefix netip.Prefix  // zero, of the interface's own network: as the interface has it
	Ranges []Range       // none: the upper half of Prefix
	Router netip.Addr    // zero: none
	DNS    []netip.Addr  // option 6
	NTP    []netip.Addr  // option 42
	Domain string        // option 15
	Search []string      // option 119
	MTU    uint16        // option 26; 0: not said
	Routes []Route       // option 121, the router's besides
	Lease  time.Duration // of what is no firmware; 0: one hour
}

// A Range is first and last address to lease.
type Range struct{ First, Last netip.Addr }

// A Route is a way to a network (RFC 3442).
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// A Reservation keeps an address for one machine. Any id that is set will do: firmware shows a UUID, the system that it
// starts only a MAC, and what is told by neither is found by the switch port it is plugged into.
type Reservation struct {
	MAC     boot.MAC
	UUID    boot.UUID // as the machine says it in option 97
	Circuit string    // option 82, entry 1 (RFC 3046): a relay's name of the port; its bytes
	Addr    netip.Addr
	Host    string // option 12; "": none
}

// check is what can be said of a network by itself.
func (n Network) check() error {
	if !n.Prefix.IsValid() || !n.Prefix.Addr().Is4() || n.Prefix.Bits() > 30 {
		return fmt.Errorf("start DHCP: subnet %v: want an IPv4 prefix of at most 30 bits", n.Prefix)
	}
	if n.Router.IsValid() && !n.Prefix.Contains(n.Router) {
		return fmt.Errorf("start DHCP: router %v: want an address of %v", n.Router, n.Prefix)
	}
	for _, a := range slices.Concat(n.DNS, n.NTP) {
		if !a.Is4() {
			return fmt.Errorf("start DHCP: name or time server %v of %v: want an IPv4 address", a, n.Prefix)
		}
	}
	for _, r := range n.Routes {
		if !r.To.Addr().Is4() || !r.Via.Is4() {
			return fmt.Errorf("start DHCP: route to %v by %v: want IPv4", r.To, r.Via)
		}
	}
	return nil
}

// firmwareLease is for what keeps its address for one boot only.
const firmwareLease = 120 * time.Second

// leaseFor is how long a client has its address.
func (n *Network) leaseFor(q request) time.Duration {
	switch {
	case q.class != plain && q.client.Kind != boot.KindIPXE:
		return firmwareLease
	case n.Lease > 0:
		return n.Lease
	}
	return time.Hour
}

// A telling is an option that a lease brings (RFC 2132). Those that every client needs are sent unasked.
type telling struct {
	code  uint8
	asked bool // only to a client that names it in option 55
	value func(n *Network, g grant) []byte
}

var tellings = []telling{
	{1, false, func(n *Network, _ grant) []byte { return binary.BigEndian.AppendUint32(nil, mask(n.Prefix)) }},
	{3, false, func(n *Network, _ grant) []byte { return join(n.Router) }},
	{6, false, func(n *Network, _ grant) []byte { return join(n.DNS...) }},
	{12, true, func(_ *Network, g grant) []byte { return []byte(g.host) }},
	{15, false, func(n *Network, _ grant) []byte { return []byte(n.Domain) }},
	{26, true, func(n *Network, _ grant) []byte {
		if n.MTU == 0 {
			return nil
		}
		return binary.BigEndian.AppendUint16(nil, n.MTU)
	}},
	{28, true, func(n *Network, _ grant) []byte {
		return join(toAddr(toUint(n.Prefix.Masked().Addr()) | ^mask(n.Prefix)))
	}},
	{42, true, func(n *Network, _ grant) []byte { return join(n.NTP...) }},
	{119, true, func(n *Network, _ grant) []byte {
		if len(n.Search) == 0 {
			return nil
		}
		return (&rfc1035label.Labels{Labels: n.Search}).ToBytes()
	}},
	{121, true, func(n *Network, _ grant) []byte { return n.routes() }},
}

func join(list ...netip.Addr) []byte {
	var b []byte
	for _, a := range list {
		if a.IsValid() {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}

// routes is option 121. The router is among them: who understands this option must ignore option 3 (RFC 3442).
func (n *Network) routes() []byte {
	if len(n.Routes) == 0 {
		return nil
	}
	list := n.Routes
	if n.Router.IsValid() {
		list = append([]Route{{netip.PrefixFrom(noAddr, 0), n.Router}}, list...)
	}
	var b []byte
	for _, r := range list {
		to := r.To.Masked()
		b = append(b, byte(to.Bits()))
		b = append(b, to.Addr().AsSlice()[:(to.Bits()+7)/8]...)
		b = append(b, r.Via.AsSlice()...)
	}
	return b
}

// networkOf is the index of the network that a client is in: as its relay says (RFC 3527), else by the relay's own
// address, by the client's when it asks from one, and else ours. It is -1 when we lease nothing there.
func networkOf(list []*Network, q request) int {
	at := q.relay()
	if !at.IsValid() {
		return 0
	}
	if link := addrOf(q.agent(5)); link.IsValid() {
		at = link
	}
	return slices.IndexFunc(list, func(n *Network) bool { return n.Prefix.Contains(at) })
}

// keys are the reservations' ways to name a client, as text.
func (r Reservation) keys() []string {
	var list []string
	if !r.MAC.IsZero() {
		list = append(list, "mac "+r.MAC.String())
	}
	if !r.UUID.IsZero() {
		list = append(list, "uuid "+r.UUID.String())
	}
	if r.Circuit != "" {
		list = append(list, "circuit "+r.Circuit)
	}
	return list
}

// checkReservations says what is wrong with the list.
func checkReservations(list []Reservation, nets []*Network, own []netip.Addr) error {
	owner := map[string]bool{}
	for _, r := range list {
		inside := slices.ContainsFunc(nets, func(n *Network) bool { return n.Prefix.Contains(r.Addr) })
		switch {
		case len(r.keys()) == 0:
			return fmt.Errorf("start DHCP: reservation of %v: want a MAC, a UUID or a circuit", r.Addr)
		case !inside:
			return fmt.Errorf("start DHCP: reservation of %v: it is in no network that is leased", r.Addr)
		case slices.Contains(own, r.Addr):
			return fmt.Errorf("start DHCP: reservation of %v: that is our own address", r.Addr)
		case len(r.Host) > 63 || strings.ContainsFunc(r.Host, func(c rune) bool { return c <= ' ' || c > '~' }):
			return fmt.Errorf("start DHCP: reservation of %v: host %q: want a name of at most 63 letters, digits, dots and dashes", r.Addr, r.Host)
		}
		for _, k := range append(r.keys(), r.Addr.String()) {
			net := slices.IndexFunc(nets, func(n *Network) bool { return n.Prefix.Contains(r.Addr) })
			if at := fmt.Sprint(net, " ", k); owner[at] {
				return fmt.Errorf("start DHCP: reservation of %v: %s is reserved twice", r.Addr, k)
			} else {
				owner[at] = true
			}
		}
	}
	return nil
}

// networksOf reads the configuration: our own network is the first.
func networksOf(cfg Config, st site) ([]*Network, error) {
	own := cfg.Network
	own.Prefix = st.prefix
	list := []*Network{&own}
	for _, n := range cfg.Networks {
		list = append(list, &n)
	}
	var errs []error
	for i, n := range list {
		errs = append(errs, n.check())
		for _, m := range list[:i] {
			if m.Prefix.Overlaps(n.Prefix) {
				errs = append(errs, fmt.Errorf("start DHCP: the networks %v and %v overlap", m.Prefix, n.Prefix))
			}
		}
	}
	return list, errors.Join(append(errs, checkReservations(cfg.Reservations, list, st.own))...)
}
