package dhcp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// TestFlood is T29 at the queue: whatever comes before a known machine's packet, that is answered, and what was dropped
// is counted. No worker runs while strangers ask.
func TestFlood(t *testing.T) {
	const strangers = 65000
	known := boot.MAC{0x52, 0x54, 0, 0, 0, 1}
	for _, mode := range []Mode{ModeProxy, ModeServer} {
		t.Run(string(mode), func(t *testing.T) {
			d := newDesk(t, mode, func(c *Config) {
				c.Known = func(m boot.MAC) bool { return m == known }
				c.Observe = nil
			})
			var sent []answer
			d.send = func(a answer) error { sent = append(sent, a); return nil }
			random := rand.New(rand.NewPCG(1, 2))
			ask := func(m boot.MAC) {
				p := message(1, uefi()...)
				p.mac = m
				d.admit(on67(p.bytes()))
			}
			for range strangers {
				n := random.Uint64()
				ask(boot.MAC{2, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(n >> 32)})
			}
			ask(known)
			d.intake.close()
			work(d.intake.known, d.intake.strange, func(in inbound) { d.handle(t.Context(), in) })
			if c := d.Counts(); c.Received != strangers+1 || c.Dropped != strangers-queueLength {
				t.Errorf("counts %+v; want %d received, %d dropped", c, strangers+1, strangers-queueLength)
			}
			if len(sent) == 0 || boot.MAC(sent[0].p.ClientHWAddr) != known {
				t.Errorf("%d answers; the first is not the known machine's", len(sent))
			}
		})
	}
}

// A machine that has a lease is no stranger either.
func TestLeaseMakesKnown(t *testing.T) {
	d := newDesk(t, ModeServer, func(c *Config) {
		c.Reservations = []Reservation{{MAC: macOf(1), Addr: netip.MustParseAddr("192.0.2.33")}}
	})
	d.must(t, on67(message(3, optHex(50, "c000025b")).bytes()))
	for m, want := range map[boot.MAC]bool{mac: true, macOf(1): true, macOf(2): false} {
		if got := d.knows(m); got != want {
			t.Errorf("knows(%v) = %v; want %v", m, got, want)
		}
	}
}

func TestOneClientMayNotAskAllTheTime(t *testing.T) {
	d := newDesk(t, ModeServer, nil)
	now := today
	d.now = func() time.Time { return now }
	ask := func(m boot.MAC, times int) {
		p := message(1)
		p.mac = m
		for range times {
			d.admit(on67(p.bytes()))
		}
	}
	limited := func(want uint64) {
		t.Helper()
		if c := d.Counts(); c.Limited != want {
			t.Errorf("%d packets were limited; want %d", c.Limited, want)
		}
	}
	ask(macOf(1), burst)
	limited(0)
	ask(macOf(1), 10)
	limited(10)
	ask(macOf(2), burst) // another client is not its fault
	limited(10)
	now = now.Add(3 * time.Second)
	ask(macOf(1), 3*refill+1)
	limited(11)
	d.admit(inbound{data: make([]byte, 100)})
	if c := d.Counts(); c.Malformed != 1 {
		t.Errorf("a short packet: counts %+v", c)
	}
}

func TestLimitsAreForgotten(t *testing.T) {
	q := newIntake()
	for i := range 4 * maxSeen {
		q.allows(macOf(i), today)
	}
	if n := len(q.limits.young) + len(q.limits.old); n > 2*maxSeen {
		t.Errorf("%d clients are remembered", n)
	}
}

// The workers end when both lanes are closed, and have done all that was queued.
func TestWorkEndsWithItsLanes(t *testing.T) {
	for _, strangers := range []bool{true, false} {
		q := newIntake()
		for range 3 {
			q.known <- inbound{port: 1}
			q.strange <- inbound{port: 2}
		}
		q.close()
		var got []int
		lane := (<-chan inbound)(nil)
		if strangers {
			lane = q.strange
		}
		work(q.known, lane, func(in inbound) { got = append(got, in.port) })
		want := "[1 1 1]"
		if strangers {
			want = "[1 1 1 2 2 2]"
		}
		if fmt.Sprint(got) != want {
			t.Errorf("strangers %v: worked on %v; want %s", strangers, got, want)
		}
	}
}

// A clock is a prober's: what is due is called by hand.
type clock struct{ due []func() }

func (c *clock) after(_ time.Duration, f func()) { c.due = append(c.due, f) }

func (c *clock) run() {
	for len(c.due) > 0 {
		f := c.due[0]
		c.due = c.due[1:]
		f()
	}
}

// onLink makes a desk look for addresses on a link where the addresses of hosts are taken.
func onLink(d *desk, c *clock, hosts map[netip.Addr]boot.MAC) *[]string {
	var log []string
	d.prober = newProber(func(a netip.Addr) error {
		log = append(log, "who has "+a.String())
		if m, ok := hosts[a]; ok {
			d.prober.heard(a, m)
		}
		return nil
	}, d.probed)
	d.prober.after = c.after
	d.send = func(a answer) error {
		log = append(log, fmt.Sprintf("%s %s xid %x", a.p.MessageType(), a.p.YourIPAddr, a.p.TransactionID[:]))
		return nil
	}
	return &log
}

func TestAddressesAreLookedForOnTheLink(t *testing.T) {
	at := netip.MustParseAddr
	thirdParty := boot.MAC{2, 9, 9, 9, 9, 9}
	ask := func(kind dhcpv4.MessageType, wish string) inbound {
		return on67(message(kind, option{50, four(at(wish))}).bytes())
	}
	later := ask(1, "192.0.2.91")
	later.data[7] = 5 // in another transaction
	for _, row := range []struct {
		name  string
		hosts map[netip.Addr]boot.MAC
		known bool
		in    []inbound
		want  []string
	}{
		{"nobody has it", nil, false, []inbound{ask(1, "192.0.2.91")},
			[]string{"who has 192.0.2.91", "who has 192.0.2.91", "OFFER 192.0.2.91 xid 01020304"}},
		{"somebody has it: the next one", map[netip.Addr]boot.MAC{them: thirdParty}, false, []inbound{ask(1, "192.0.2.91")},
			[]string{"who has 192.0.2.91", "who has 192.0.2.92", "who has 192.0.2.92", "OFFER 192.0.2.92 xid 01020304"}},
		{"the machine itself has it", map[netip.Addr]boot.MAC{them: mac}, false, []inbound{ask(1, "192.0.2.91")},
			[]string{"who has 192.0.2.91", "who has 192.0.2.91", "OFFER 192.0.2.91 xid 01020304"}},
		{"a known machine is not kept waiting", nil, true, []inbound{ask(1, "192.0.2.91")}, []string{"OFFER 192.0.2.91 xid 01020304"}},
		{"once it has a lease there is no more to ask", nil, false, []inbound{ask(3, "192.0.2.91"), ask(1, "192.0.2.91")},
			[]string{"ACK 192.0.2.91 xid 01020304", "OFFER 192.0.2.91 xid 01020304"}},
		{"it asks again meanwhile: one probing, one answer", nil, false, []inbound{ask(1, "192.0.2.91"), later},
			[]string{"who has 192.0.2.91", "who has 192.0.2.91", "OFFER 192.0.2.91 xid 01020305"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t, ModeServer, func(c *Config) { c.Known = func(boot.MAC) bool { return row.known } })
			c := &clock{}
			log := onLink(d, c, row.hosts)
			for _, in := range row.in {
				d.handle(t.Context(), in)
			}
			c.run()
			if fmt.Sprint(*log) != fmt.Sprint(row.want) {
				t.Errorf("seen %q; want %q", *log, row.want)
			}
		})
	}
}

// A link where every address is taken has an end, too.
func TestProbingEnds(t *testing.T) {
	hosts := map[netip.Addr]boot.MAC{}
	for a := netip.MustParseAddr("192.0.2.80"); a != netip.MustParseAddr("192.0.2.100"); a = a.Next() {
		hosts[a] = macOf(99)
	}
	d := newDesk(t, ModeServer, nil)
	c := &clock{}
	log := onLink(d, c, hosts)
	d.handle(t.Context(), on67(message(1).bytes()))
	c.run()
	if len(*log) != probeRetry+1 || len(d.prober.pending) != 0 || d.Counts().Conflicts != probeRetry+1 {
		t.Errorf("seen %q, %d pending, %+v; want %d questions and an end", *log, len(d.prober.pending), d.Counts(), probeRetry+1)
	}
}

// A server that ends has given the answers that it was at, and gives no other.
func TestProbingEndsWithItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answered := 0, 0
		p := newProber(func(netip.Addr) error { asked++; return nil }, func(request, netip.Addr, bool) {
			time.Sleep(time.Minute) // off the processor
			answered++
		})
		p.start(request{}, them)
		time.Sleep(time.Second)
		p.start(request{}, us)
		p.close()
		if answered != 1 {
			t.Errorf("%d answers when it ended; want the one that it was at", answered)
		}
		before := asked
		time.Sleep(time.Minute)
		if asked != before || answered != 1 {
			t.Errorf("after its end %d were asked for and %d answered", asked-before, answered-1)
		}
	})
}

func TestProbesAreBounded(t *testing.T) {
	p := newProber(func(netip.Addr) error { return nil }, func(request, netip.Addr, bool) {})
	p.after = func(time.Duration, func()) {}
	a := netip.MustParseAddr("10.0.0.0")
	for range maxProbes {
		a = a.Next()
		if !p.start(request{}, a) {
			t.Fatalf("%v is not probed", a)
		}
	}
	if p.start(request{}, a.Next()) {
		t.Errorf("more than %d wait", maxProbes)
	}
}

func TestARP(t *testing.T) {
	ours := []byte{2, 0, 0, 0, 0, 1}
	b := probeFor(ours, them)
	if want := unhex("0001 0800 06 04 0001 020000000001 00000000 000000000000 c000025b"); string(b) != string(want) {
		t.Errorf("probe is %x; want %x", b, want)
	}
	for _, row := range []struct {
		name, in string
		addr     string
	}{
		{"an answer says whose an address is", "0001 0800 06 04 0002 020000000009 c000025b 020000000001 00000000", "192.0.2.91"},
		{"so does a question", "0001 0800 06 04 0001 020000000009 c000025b 000000000000 c0000201", "192.0.2.91"},
		{"another probe is a claim", "0001 0800 06 04 0001 020000000009 00000000 000000000000 c000025b", "192.0.2.91"},
		{"IPv6 over token ring", "0006 86dd 06 10 0002 020000000009 c000025b 020000000001 00000000", ""},
		{"cut off", "0001 0800 06 04 0002 020000000009 c000025b", ""},
		{"nothing", "", ""},
	} {
		addr, by, ok := parseARP(unhex(row.in))
		if ok != (row.addr != "") || ok && (addr.String() != row.addr || by != boot.MAC{2, 0, 0, 0, 0, 9}) {
			t.Errorf("%s: %v of %v, %v; want %s", row.name, addr, by, ok, row.addr)
		}
	}
}

// FuzzARP is whatever the link may say where ARP is heard.
func FuzzARP(f *testing.F) {
	f.Add(probeFor([]byte{2, 0, 0, 0, 0, 1}, them))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, _, ok := parseARP(b); ok && (!a.Is4() || a.IsUnspecified()) {
			t.Errorf("%x is about %v", b, a)
		}
	})
}

// FuzzIP is whatever the filter of the packet socket may let pass.
func FuzzIP(f *testing.F) {
	f.Add(frameOf([]byte{2, 0, 0, 0, 0, 1}, mac, netip.AddrPortFrom(us, 67), netip.AddrPortFrom(them, 68), raw(optionsD2))[14:])
	f.Fuzz(func(t *testing.T, b []byte) {
		in, ok := parseIP(b)
		if ok && len(in.data) > len(b)-28 {
			t.Errorf("%d bytes out of %d", len(in.data), len(b))
		}
		in.heard = true
		newDesk(t, ModeServer, nil).offered(in)
	})
}

func TestIP(t *testing.T) {
	frame := frameOf([]byte{2, 0, 0, 0, 0, 1}, mac, netip.AddrPortFrom(us, 67), netip.AddrPortFrom(them, 68), []byte("data"))[14:]
	in, ok := parseIP(append(frame, 0, 0, 0)) // Ethernet pads short frames
	if !ok || string(in.data) != "data" || in.from != netip.AddrPortFrom(us, 67) || in.to != them || in.port != 68 {
		t.Errorf("read %+v, %v", in, ok)
	}
	for name, edit := range map[string]func(b []byte){
		"IPv6": func(b []byte) { b[0] = 0x65 }, "TCP": func(b []byte) { b[9] = 6 }, "a header that is longer than the packet": func(b []byte) { b[0] = 0x4f },
		"a length beyond the packet": func(b []byte) { b[2] = 9 }, "a datagram beyond the packet": func(b []byte) { b[24] = 9 },
		"a header of four words": func(b []byte) { b[0] = 0x44 },
	} {
		b := append([]byte(nil), frame...)
		edit(b)
		if in, ok := parseIP(b); ok {
			t.Errorf("%s: read %+v", name, in)
		}
	}
}
