package tftp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
)

func TestPatienceWithPin(t *testing.T) { // T15
	s := time.Second
	for _, row := range []struct {
		name  string
		heard bool
		want  []time.Duration
	}{
		{"a reader that was never heard gets three packets", false, []time.Duration{0, s}},
		{"one that has answered gets as many as pin/tftp sends", true, append([]time.Duration{0, s}, slices.Repeat([]time.Duration{3 * s}, tries-3)...)},
	} {
		t.Run(row.name, func(t *testing.T) {
			wait := again(t.Context(), s, func() bool { return row.heard })
			var waits []time.Duration
			func() {
				defer func() {
					if p := recover(); (p == nil) != row.heard {
						t.Errorf("left with %v", p)
					}
				}()
				for try := range tries - 1 {
					waits = append(waits, wait(try))
				}
			}()
			if d := cmp.Diff(row.want, waits); d != "" {
				t.Errorf("waits after each beat (-want +got):\n%s", d)
			}
		})
	}
}

func TestFloodIsToldOfOnceASecond(t *testing.T) { // T14
	var seen []boot.Sighting
	f := &front{Server: New(Config{Observe: func(s boot.Sighting) { seen = append(seen, s) }})}
	now := time.Unix(1, 0)
	for range 1000 {
		f.ignore(caller{AddrPort: netip.MustParseAddrPort("192.0.2.1:2070")}, "no request", now)
		now = now.Add(2 * time.Millisecond)
	}
	if len(seen) != 2 || f.Counts().Ignored != 1000 {
		t.Errorf("told of %d of %d packets in two seconds; want 2 of 1000", len(seen), f.Counts().Ignored)
	}
}

// A flood of strangers fills their half and their places in memory; a machine that DHCP knows still gets in.
func TestKnownMachinesPassAFlood(t *testing.T) {
	g, now := newGate(8), time.Unix(1, 0)
	stranger := netip.MustParseAddr("10.0.0.0")
	for range 65_000 {
		stranger = stranger.Next()
		if g.allow(stranger, false, now) {
			g.enter(netip.AddrPortFrom(stranger, 2070), []byte("x"), false, now)
		}
		now = now.Add(time.Microsecond)
	}
	if len(g.sources) != maxSources || g.active != 4 {
		t.Errorf("%d sources and %d transfers; want %d and 4", len(g.sources), g.active, maxSources)
	}
	known := netip.MustParseAddr("192.0.2.91")
	if !g.allow(known, true, now) {
		t.Fatal("a known machine is not let in")
	}
	p, entry := g.enter(netip.AddrPortFrom(known, 2070), []byte("x"), true, now)
	if entry != entered {
		t.Fatalf("entry %v of a known machine; want entered", entry)
	}
	p.leave()
	if now = now.Add(time.Minute); !g.allow(stranger.Next(), false, now) {
		t.Error("a stranger is not let in a minute after the flood")
	}
}

// A reader that was not answered at once asks again. Its second request may be read after it has acknowledged the answer
// to the first: that begins no second transfer.
func TestLateRequestBeginsNoTransfer(t *testing.T) {
	g, now := newGate(8), time.Now()
	from := netip.MustParseAddrPort("192.0.2.91:2070")
	ask := func(packet string, at time.Time, want entry) *pass {
		t.Helper()
		g.allow(from.Addr(), true, at)
		p, got := g.enter(from, []byte(packet), true, at)
		if got != want {
			t.Errorf("entry %v of %q after %v; want %v", got, packet, at.Sub(now), want)
		}
		return p
	}
	first := ask("x", now, entered)
	ask("x", now, repeated)
	first.confirm()
	ask("x", first.confirmed.Add(lateRequest-1), repeated)
	other := ask("y", now, entered) // from the same port, of another file
	first.leave()
	ask("y", now, repeated)
	other.confirm()
	again := ask("y", other.confirmed.Add(lateRequest), entered) // the reader starts over
	other.leave()
	ask("y", now, repeated)
	again.leave()
	if g.active != 0 || g.waiting != 0 || len(g.inWork) != 0 {
		t.Errorf("%d active, %d waiting, %d requests are left", g.active, g.waiting, len(g.inWork))
	}
}
