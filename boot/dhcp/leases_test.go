package dhcp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

var quiet = slog.New(slog.DiscardHandler)

// lineOf is a binding's line in the lease file.
func lineOf(b binding) string { return string(appendLine(nil, b)) }

func macOf(n int) boot.MAC { return boot.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)} }

// testPool is so many addresses from 192.0.2.80.
func testPool(n int) *pool {
	first := toUint(netip.MustParseAddr("192.0.2.80"))
	return &pool{prefix: netip.MustParsePrefix("192.0.0.0/16"), spans: []span{{first, first + uint32(n) - 1}}, usable: n}
}

// ask and take are offer and bind of a client that says nothing but its MAC.
func (l *leases) ask(m boot.MAC, now time.Time) (netip.Addr, bool) {
	o, ok := l.offer(l.pools[0], claim{mac: m}, now)
	return o.addr, ok
}

func (l *leases) take(m boot.MAC, a netip.Addr, now time.Time, lasts time.Duration) error {
	return l.bind(l.pools[0], claim{mac: m}, a, now, lasts)
}

func memoryLeases(t *testing.T, n int) *leases {
	t.Helper()
	l, err := openLeases([]*pool{testPool(n)}, nil, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *leases) mustOffer(t *testing.T, m boot.MAC, now time.Time) netip.Addr {
	t.Helper()
	a, ok := l.ask(m, now)
	if !ok {
		t.Fatalf("no address for %v", m)
	}
	return a
}

// TestConversations is RFC 2131: what a client says, one line each, and what it hears.
func TestConversations(t *testing.T) {
	addr := func(code uint8, a string) option { return option{code, four(netip.MustParseAddr(a))} }
	renew := func(a string, options ...option) *asking {
		p := message(3, options...)
		p.ciaddr = netip.MustParseAddr(a)
		return p
	}
	from := func(p *asking, kind dhcpv4.MessageType, ciaddr string) *asking {
		p.options[53] = []byte{byte(kind)}
		if ciaddr != "" {
			p.ciaddr = netip.MustParseAddr(ciaddr)
		}
		return p
	}
	other := func(p *asking) *asking { p.mac = macOf(7); return p }
	type line struct {
		say  *asking
		hear string
	}
	const a90, a91 = "192.0.2.90", "192.0.2.91"
	take := func(a string) *asking { return message(3, addr(54, us.String()), addr(50, a)) }
	for _, row := range []struct {
		name  string
		lines []line
	}{
		{"an address is offered, taken, renewed", []line{
			{message(1, addr(50, a91)), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{renew(a91), "ACK 192.0.2.91 192.0.2.91:68"},
		}},
		{"another server's offer was taken", []line{
			{message(1, addr(50, a91)), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
			{message(3, addr(54, "192.0.2.1"), addr(50, "192.0.2.33")), ""},
			{other(message(1, addr(50, a91))), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"a client comes back with the address it had", []line{
			{message(3, addr(50, a91)), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"a client comes from another network", []line{
			{message(3, addr(50, "10.0.0.5")), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"a client asks for the address of another", []line{
			{other(take(a91)), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{take(a91), "NAK 0.0.0.0 255.255.255.255:68"},
			{renew(a91), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"a machine moves to another address and leaves the first", []line{
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{take(a90), "ACK 192.0.2.90 192.0.2.90:68 by frame"},
			{other(take(a91)), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"our own address is never leased", []line{
			{message(1, addr(50, "192.0.2.85")), "OFFER 192.0.2.85 192.0.2.85:68 by frame"},
			{message(3, addr(50, us.String())), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"D32: the installer has a DUID, and the address of its firmware", []line{
			{message(1, with(uefi(), addr(50, a91))...), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
			{message(3, with(uefi(), addr(54, us.String()), addr(50, a91))...), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{message(1, optHex(61, "ff0011223300010001")), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"D24: a menu choice on port 67 is no renewal", []line{
			{renew("192.0.2.200", with(uefi(), optHex(43, "470480010000ff"))...), "ACK 0.0.0.0 192.0.2.200:68"},
			{renew("192.0.2.200", uefi()...), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"a released address comes back to its machine", []line{
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{from(message(7), 7, a91), ""},
			{message(1), "OFFER 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"a released address is free for others", []line{
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{from(message(7), 7, a91), ""},
			{other(take(a91)), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
		}},
		{"a declined address is nobody's for a while", []line{
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{message(4, addr(50, a91)), ""},
			{take(a91), "NAK 0.0.0.0 255.255.255.255:68"},
			{other(take(a91)), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"a stranger cannot release or decline for another", []line{
			{take(a91), "ACK 192.0.2.91 192.0.2.91:68 by frame"},
			{other(from(message(7), 7, a91)), ""},
			{other(message(4, addr(50, a91))), ""},
			{other(take(a91)), "NAK 0.0.0.0 255.255.255.255:68"},
		}},
		{"a request without any address is silence", []line{{message(3), ""}}},
		{"who has an address may ask for the rest", []line{{from(message(8), 8, "192.0.2.200"), "ACK 0.0.0.0 192.0.2.200:68"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t, ModeServer, nil)
			for i, l := range row.lines {
				in := on67(l.say.bytes())
				if l.say.ciaddr.IsValid() {
					in.from = netip.AddrPortFrom(l.say.ciaddr, 68)
				}
				p, a, ok := d.said(t, in)
				got := ""
				if ok {
					got = fmt.Sprintf("%s %s %s", p.MessageType(), p.YourIPAddr, a.to)
					if a.mac != nil {
						got += " by frame"
					}
				}
				if got != l.hear {
					t.Errorf("line %d: heard %q; want %q", i+1, got, l.hear)
				}
			}
		})
	}
}

func TestInformIsForTheOneWhoAsks(t *testing.T) {
	p := message(8)
	p.ciaddr = netip.MustParseAddr("192.0.2.200")
	in := on67(p.bytes())
	in.from = netip.AddrPortFrom(them, 68)
	if _, a, ok := newDesk(t, ModeServer, nil).said(t, in); ok {
		t.Errorf("a stranger had a reply sent to %v", a.to)
	}
}

func TestBroadcastFlagIsObeyed(t *testing.T) {
	p := message(1)
	p.flags = 0x8000
	if _, a := newDesk(t, ModeServer, nil).must(t, on67(p.bytes())); a.to != broadcast || a.mac != nil {
		t.Errorf("sent to %v; want a broadcast", a.to)
	}
}

func TestAddressesAreFoundInOrder(t *testing.T) {
	now := today
	l := memoryLeases(t, 3)
	had := l.mustOffer(t, macOf(1), now)
	if err := l.take(macOf(1), had, now, time.Hour); err != nil {
		t.Fatal(err)
	}
	if again := memoryLeases(t, 3).mustOffer(t, macOf(1), now); again != had {
		t.Errorf("after the lease file was lost %v is offered %v; want %v again", macOf(1), again, had)
	}
	second, third := l.mustOffer(t, macOf(2), now), l.mustOffer(t, macOf(3), now)
	if had == second || second == third || had == third {
		t.Fatalf("offered %v, %v, %v: one of them twice", had, second, third)
	}
	if err := l.take(macOf(2), second, now, time.Minute); err != nil {
		t.Fatal(err)
	}
	if a, ok := l.ask(macOf(4), now); ok {
		t.Fatalf("a full pool offered %v", a)
	}
	now = now.Add(offerHold + time.Second)
	if a := l.mustOffer(t, macOf(4), now); a != third {
		t.Errorf("offered %v; want %v, which was offered and not taken", a, third)
	}
	now = now.Add(2 * time.Minute)
	if err := l.take(macOf(4), third, now, time.Hour); err != nil {
		t.Fatal(err)
	}
	if a := l.mustOffer(t, macOf(5), now); a != second {
		t.Errorf("offered %v; want %v, whose lease ended", a, second)
	}
	if m, ok := l.holder(had); !ok || m != macOf(1) {
		t.Errorf("%v belongs to %v, %v; want %v", had, m, ok, macOf(1))
	}
}

func TestStarvation(t *testing.T) { // T29
	l := memoryLeases(t, 1000)
	known := l.mustOffer(t, macOf(0), today)
	if err := l.take(macOf(0), known, today, time.Hour); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 65536; i++ {
		l.ask(macOf(i), today)
	}
	if got, ok := l.ask(macOf(0), today); !ok || got != known {
		t.Errorf("after 65,536 strangers the known machine is offered %v, %v; want %v", got, ok, known)
	}
	if len(l.byMAC) > 1000 || len(l.byAddr) > 1000 {
		t.Errorf("%d machines and %d addresses are remembered in a pool of 1000", len(l.byMAC), len(l.byAddr))
	}
}

func TestPools(t *testing.T) {
	at := netip.MustParseAddr
	for _, row := range []struct {
		name   string
		prefix string
		ranges []Range
		want   string // "": refused
	}{
		{"as configured", "192.0.2.0/24", []Range{{at("192.0.2.80"), at("192.0.2.99")}}, "192.0.2.80-192.0.2.99 20"},
		{"the upper half when nothing is said", "192.0.2.0/24", nil, "192.0.2.128-192.0.2.254 127"},
		{"our address, the router and the name server are left out", "192.0.2.0/24", []Range{{at("192.0.2.1"), at("192.0.2.20")}}, "192.0.2.1-192.0.2.20 17"},
		{"a large net is cut", "10.0.0.0/8", nil, "10.254.255.255-10.255.255.254 65536"},
		{"two ranges", "192.0.2.0/24", []Range{{at("192.0.2.80"), at("192.0.2.89")}, {at("192.0.2.9"), at("192.0.2.11")}}, "192.0.2.80-192.0.2.89 192.0.2.9-192.0.2.11 12"},
		{"two ranges that overlap", "192.0.2.0/24", []Range{{at("192.0.2.80"), at("192.0.2.89")}, {at("192.0.2.89"), at("192.0.2.91")}}, ""},
		{"out of the subnet", "192.0.2.0/24", []Range{{at("192.0.3.80"), at("192.0.3.99")}}, ""},
		{"in the wrong order", "192.0.2.0/24", []Range{{at("192.0.2.99"), at("192.0.2.80")}}, ""},
		{"only one end", "192.0.2.0/24", []Range{{First: at("192.0.2.99")}}, ""},
		{"nothing but ourselves", "192.0.2.0/24", []Range{{us, us}}, ""},
		{"no subnet to speak of", "192.0.2.0/31", nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := Network{DNS: []netip.Addr{at("192.0.2.2")}, Prefix: netip.MustParsePrefix(row.prefix), Ranges: row.ranges}
			if n.Prefix.Contains(at("192.0.2.1")) {
				n.Router = at("192.0.2.1")
			}
			var p *pool
			err := n.check()
			if err == nil {
				p, err = poolOf(&n, []netip.Addr{us})
			}
			var got []string
			if err == nil {
				for _, s := range p.spans {
					got = append(got, fmt.Sprintf("%v-%v", toAddr(s.first), toAddr(s.last)))
				}
				got = append(got, fmt.Sprint(p.usable))
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("pool %q, %v; want %q", got, err, row.want)
			}
		})
	}
}

func TestMACOf(t *testing.T) {
	d := newDesk(t, ModeServer, nil)
	d.must(t, on67(message(3, optHex(50, "c000025b")).bytes()))
	if m, ok := d.MACOf(netip.MustParseAddr("::ffff:192.0.2.91")); !ok || m != mac {
		t.Errorf("by its lease: %v, %v; want %v", m, ok, mac)
	}
	d = newDesk(t, ModeProxy, nil)
	d.said(t, on67(message(3, with(uefi(), optHex(50, "c000025b"), optHex(54, "c0000201"))...).bytes()))
	if m, ok := d.MACOf(them); !ok || m != mac {
		t.Errorf("by what it told the site's server: %v, %v; want %v", m, ok, mac)
	}
	if m, ok := d.MACOf(us); ok {
		t.Errorf("our own address is %v's", m)
	}
}

func TestRecentForgets(t *testing.T) {
	r := newRecent[int, int](10)
	for i := range 1000 {
		r.put(i, i)
	}
	if n := len(r.young) + len(r.old); n > 20 {
		t.Errorf("%d entries are remembered; want at most 20", n)
	}
	if _, ok := r.get(999); !ok {
		t.Error("the latest is forgotten")
	}
}

func TestManyBindAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	big := testPool(1000)
	l, err := openLeases([]*pool{big}, nil, file, quiet)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for k := range 4 {
				m := macOf(i*4 + k)
				a, ok := l.ask(m, today)
				if !ok {
					t.Errorf("no address for %v", m)
					return
				}
				if err := l.take(m, a, today, time.Hour); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	big.taken = 0
	again, err := openLeases([]*pool{big}, nil, file, quiet)
	if err != nil || len(again.byMAC) != 256 {
		t.Errorf("%d machines after a restart, %v; want 256", len(again.byMAC), err)
	}
}

// BenchmarkBind is what the lease file costs: each lease is on disk before it counts.
func BenchmarkBind(b *testing.B) {
	p := &pool{prefix: netip.MustParsePrefix("1.0.0.0/8"), spans: []span{{1 << 24, 1<<24 + maxPool - 1}}, usable: maxPool}
	l, err := openLeases([]*pool{p}, nil, filepath.Join(b.TempDir(), "leases"), quiet)
	if err != nil {
		b.Fatal(err)
	}
	defer l.close()
	b.SetParallelism(workers / 2)
	var n atomic.Uint32
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1) % maxPool
			if err := l.take(macOf(int(i)), toAddr(p.at(int(i))), today, time.Hour); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkLease is a lease from the DISCOVER's bytes to the ACK's, without sockets and disk.
func BenchmarkLease(b *testing.B) {
	d := newDesk(&testing.T{}, ModeServer, func(c *Config) {
		c.Network.Prefix, c.Network.Router, c.Addr = netip.MustParsePrefix("10.64.0.0/10"), netip.Addr{}, netip.MustParseAddr("10.64.0.1")
		c.Network.Ranges = []Range{{netip.MustParseAddr("10.64.16.0"), netip.MustParseAddr("10.65.15.255")}}
		c.Observe = nil
	})
	var addr netip.Addr
	d.send = func(a answer) error { addr = addrOf(a.p.YourIPAddr); return nil }
	discover, request := message(1, optHex(55, "0103060f")).bytes(), message(3, optHex(55, "0103060f"), optHex(50, "00000000")).bytes()
	at := bytes.Index(request, unhex("3204 00000000")) + 2
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := macOf(i % 65000)
		copy(discover[28:], m[:])
		copy(request[28:], m[:])
		d.handle(b.Context(), on67(discover))
		copy(request[at:], addr.AsSlice())
		d.handle(b.Context(), on67(request))
	}
}
