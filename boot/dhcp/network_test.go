package dhcp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

var (
	farRelay = netip.MustParseAddr("198.51.100.1")
	far      = netip.MustParsePrefix("198.51.100.0/24")
)

// twoNetworks is a lease server with a second network behind a relay, and reservations in both.
func twoNetworks(c *Config) {
	at := netip.MustParseAddr
	uuid, _ := boot.ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	c.Networks = []Network{{Prefix: far, Router: farRelay, Domain: "far.example.net", Lease: 30 * time.Minute,
		Ranges: []Range{{at("198.51.100.50"), at("198.51.100.59")}}}}
	c.Reservations = []Reservation{
		{MAC: macOf(5), Addr: at("192.0.2.33"), Host: "node5"},
		{MAC: macOf(5), Addr: at("198.51.100.33")},
		{UUID: uuid, Addr: at("192.0.2.85"), Host: "node-u"}, // inside the pool
		{Circuit: "port7", Addr: at("198.51.100.7")},
	}
}

func TestNetworksAndReservations(t *testing.T) {
	ask := func(m boot.MAC, relay netip.Addr, options ...option) *asking {
		p := message(1, options...)
		p.mac, p.giaddr = m, relay
		return p
	}
	none := netip.Addr{}
	asked := func(a *asking) string {
		d := newDesk(t, ModeServer, twoNetworks)
		p, answer, ok := d.said(t, on67(a.bytes()))
		if !ok {
			return ""
		}
		seconds, _ := p.Options[51], 0
		return fmt.Sprintf("%s router %v %s lease %x to %s", p.YourIPAddr, netip.AddrFrom4([4]byte(p.Options.Get(dhcpv4.OptionRouter))),
			p.DomainName(), seconds, answer.to.Addr())
	}
	for _, row := range []struct {
		name string
		in   *asking
		want string
	}{
		{"a MAC has its address", ask(macOf(5), none), "192.0.2.33 router 192.0.2.1 example.net lease 00000e10 to 192.0.2.33"},
		{"and another one in another network", ask(macOf(5), farRelay), "198.51.100.33 router 198.51.100.1 far.example.net lease 00000708 to 198.51.100.1"},
		{"firmware is found by its UUID", ask(macOf(6), none, uefi()...), "192.0.2.85 router 192.0.2.1 example.net lease 00000078 to 192.0.2.85"},
		{"a machine is found by its switch port", ask(macOf(7), farRelay, optHex(82, "0105"+hex.EncodeToString([]byte("port7")))),
			"198.51.100.7 router 198.51.100.1 far.example.net lease 00000708 to 198.51.100.1"},
		{"a wish does not move a reserved machine", ask(macOf(5), none, optHex(50, "c000025b")), "192.0.2.33 router 192.0.2.1 example.net lease 00000e10 to 192.0.2.33"},
		{"nobody else gets a reserved address", ask(macOf(8), none, optHex(50, "c0000255")), "192.0.2.99 router 192.0.2.1 example.net lease 00000e10 to 192.0.2.99"},
		{"a relay names another link than its own (RFC 3527)", ask(macOf(8), us2, optHex(82, "0504c6336405"), optHex(50, "c6336432")),
			"198.51.100.50 router 198.51.100.1 far.example.net lease 00000708 to 192.0.2.11"},
		{"a relay names a link where nothing is leased", ask(macOf(8), us2, optHex(82, "0504cb007105")), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := asked(row.in); got != row.want {
				t.Errorf("offered %q; want %q", got, row.want)
			}
		})
	}
}

func TestReservedAddressHasOneNIC(t *testing.T) {
	d := newDesk(t, ModeServer, twoNetworks)
	take := func(m boot.MAC, addr string, options ...option) string {
		p := message(3, with(options, option{50, four(netip.MustParseAddr(addr))})...)
		p.mac = m
		r, _ := d.must(t, on67(p.bytes()))
		return fmt.Sprintf("%s %s", r.MessageType(), r.YourIPAddr)
	}
	for i, line := range []struct{ got, want string }{
		{take(macOf(1), "192.0.2.85", uefi()...), "ACK 192.0.2.85"},
		{take(macOf(2), "192.0.2.85", uefi()...), "NAK 0.0.0.0"}, // its other NIC, while the first has the address
		{take(macOf(2), "192.0.2.90", uefi()...), "ACK 192.0.2.90"},
		{take(macOf(1), "192.0.2.85"), "ACK 192.0.2.85"}, // the system, which shows no UUID
		{take(macOf(3), "192.0.2.85"), "NAK 0.0.0.0"},    // a stranger
		{take(macOf(5), "192.0.2.91"), "NAK 0.0.0.0"},    // another is reserved for it
		{take(macOf(5), "192.0.2.33"), "ACK 192.0.2.33"},
	} {
		if line.got != line.want {
			t.Errorf("request %d: %s; want %s", i+1, line.got, line.want)
		}
	}
}

// A machine that renews from behind a relay asks straight, and is of its own network; one that was carried to our link
// and asks everybody is not.
func TestRenewalFromAnotherNetwork(t *testing.T) {
	d := newDesk(t, ModeServer, twoNetworks)
	p := message(3)
	p.ciaddr = netip.MustParseAddr("198.51.100.55")
	in := on67(p.bytes())
	in.from = netip.AddrPortFrom(p.ciaddr, 68)
	for _, row := range []struct {
		to   netip.Addr
		want dhcpv4.MessageType
	}{{us, dhcpv4.MessageTypeAck}, {broadcast.Addr(), dhcpv4.MessageTypeNak}} {
		in.to = row.to
		if r, _ := d.must(t, in); r.MessageType() != row.want {
			t.Errorf("sent to %v: %v; want %v", row.to, r.MessageType(), row.want)
		}
	}
}

func TestOptionsAsAsked(t *testing.T) {
	at := netip.MustParseAddr
	d := newDesk(t, ModeServer, func(c *Config) {
		c.Network.NTP, c.Network.MTU, c.Network.Search = []netip.Addr{at("192.0.2.3")}, 9000, []string{"example.net", "a.example.net"}
		c.Network.Routes = []Route{{netip.MustParsePrefix("10.1.0.0/17"), at("192.0.2.4")}}
		c.Reservations = []Reservation{{MAC: mac, Addr: them, Host: "node1"}}
	})
	options := map[uint8]string{
		12: hex.EncodeToString([]byte("node1")), 26: "2328", 28: "c00002ff", 42: "c0000203",
		119: "076578616d706c65036e65740001610765" + "78616d706c65036e657400",
		121: "00c0000201" + "110a0100c0000204",
	}
	for _, asked := range []string{"", "0103060c1a1c2a7779"} {
		q := message(1, optHex(55, asked))
		if asked == "" {
			q = message(1)
		}
		p, _ := d.must(t, on67(q.bytes()))
		for code, want := range options {
			got := hex.EncodeToString(p.Options.Get(dhcpv4.GenericOptionCode(code)))
			if asked == "" {
				want = ""
			}
			if got != want {
				t.Errorf("asked for %q, option %d is %q; want %q", asked, code, got, want)
			}
		}
	}
}

func TestNetworksThatCannotBe(t *testing.T) {
	at := netip.MustParseAddr
	for _, row := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"networks that overlap", func(c *Config) { c.Networks = []Network{{Prefix: netip.MustParsePrefix("192.0.2.128/25")}} }, "overlap"},
		{"a router elsewhere", func(c *Config) { c.Networks = []Network{{Prefix: far, Router: us}} }, "router 192.0.2.10: want an address of 198.51.100.0/24"},
		{"a reservation elsewhere", func(c *Config) { c.Reservations = []Reservation{{MAC: mac, Addr: at("203.0.113.1")}} }, "in no network"},
		{"a reservation of our own address", func(c *Config) { c.Reservations = []Reservation{{MAC: mac, Addr: us}} }, "our own address"},
		{"a reservation of nobody", func(c *Config) { c.Reservations = []Reservation{{Addr: them}} }, "want a MAC, a UUID or a circuit"},
		{"an address reserved twice", func(c *Config) {
			c.Reservations = []Reservation{{MAC: mac, Addr: them}, {MAC: macOf(1), Addr: them}}
		}, "reserved twice"},
		{"a machine reserved twice in one network", func(c *Config) {
			c.Reservations = []Reservation{{MAC: mac, Addr: them}, {MAC: mac, Addr: at("192.0.2.92")}}
		}, "reserved twice"},
		{"a host name with a blank", func(c *Config) { c.Reservations = []Reservation{{MAC: mac, Addr: them, Host: "a b"}} }, "host"},
		{"a name server of IPv6", func(c *Config) { c.Network.DNS = []netip.Addr{at("2001:db8::1")} }, "want an IPv4 address"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := newDesk(t, ModeServer, nil).cfg
			row.edit(&cfg)
			if _, err := newServer(cfg, nil); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("newServer = %v; want %q", err, row.want)
			}
		})
	}
}

func TestStrangersLeaveRoom(t *testing.T) { // T29
	p := testPool(100)
	p.spare = 10
	l, err := openLeases([]*pool{p}, nil, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 { // each takes what it is offered
		if a, ok := l.ask(macOf(i), today); ok {
			_ = l.take(macOf(i), a, today, time.Hour)
		}
	}
	if p.taken != 90 {
		t.Errorf("strangers took %d addresses; want 90 of 100", p.taken)
	}
	if err := l.take(macOf(2000), toAddr(p.at(99)), today, time.Hour); p.taken != 90 && err == nil {
		t.Error("a stranger took an address that was never offered to it")
	}
	for i := range 10 {
		if _, ok := l.offer(p, claim{mac: macOf(3000 + i), known: true}, today); !ok {
			t.Errorf("known machine %d is offered nothing", i)
		}
	}
}

// Who asks under new names and takes nothing holds three quarters of the pool at most, and only what was asked last.
func TestOffersAreBounded(t *testing.T) {
	l := memoryLeases(t, 100)
	p := l.pools[0]
	first := l.mustOffer(t, macOf(0), today)
	for i := 1; i <= 75; i++ {
		l.mustOffer(t, macOf(i), today)
	}
	if p.offers.Len() != 75 || p.taken != 75 {
		t.Errorf("%d offers, %d addresses taken; want 75", p.offers.Len(), p.taken)
	}
	if b := l.byMAC[macOf(0)]; b != nil {
		t.Errorf("the oldest offer still holds %v", toAddr(b.addr))
	}
	if err := l.take(macOf(0), first, today, time.Hour); err != nil && !isRefused(err) {
		t.Error(err)
	}
	if got := p.offers.Len(); got > 75 {
		t.Errorf("%d offers after a lease", got)
	}
}

// Who declines all that it is offered puts no more than a quarter of the pool into quarantine.
func TestDeclinesAreBounded(t *testing.T) {
	l := memoryLeases(t, 100)
	for i := range 400 {
		if a, ok := l.ask(macOf(i), today); ok {
			if err := l.decline(macOf(i), a, today); err != nil {
				t.Fatal(err)
			}
		}
	}
	if bad := l.pools[0].bad; bad < 20 || bad > 26 {
		t.Errorf("%d addresses are in quarantine; want about 25 of 100", bad)
	}
	if _, ok := l.ask(macOf(999), today); !ok {
		t.Error("nothing is left to offer")
	}
}

func TestLeasesOfAnEarlierConfiguration(t *testing.T) {
	at := netip.MustParseAddr
	l := memoryLeases(t, 20)
	l.kept[toUint(at("192.0.2.33"))] = Reservation{MAC: macOf(5), Addr: at("192.0.2.33")}
	for _, b := range []binding{
		{mac: macOf(1), addr: toUint(at("10.0.0.1"))},   // of a network that is gone
		{mac: macOf(2), addr: toUint(at("192.0.2.33"))}, // reserved for another now
		{mac: macOf(5), addr: toUint(at("192.0.2.33"))},
		{mac: macOf(3), addr: toUint(at("192.0.2.81"))},
	} {
		b.leased = true
		l.put(b)
	}
	var got []string
	for i := range 6 {
		if b := l.byMAC[macOf(i)]; b != nil {
			got = append(got, fmt.Sprintf("%d %v", i, toAddr(b.addr)))
		}
	}
	if d := cmp.Diff([]string{"3 192.0.2.81", "5 192.0.2.33"}, got); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
}
