package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// rack is the network of a machine: NICs whose link comes at some time, and on some of them a DHCP server.
type rack struct {
	mu      sync.Mutex
	began   time.Time
	appears map[string]time.Duration // when the NIC is there
	carrier map[string]time.Duration // when it has a link; absent: never
	serves  map[string]time.Duration // when a DHCP server answers on it; absent: never
	up      []string
	applied []string
}

const bootMACOfTest = "52:54:00:00:00:01"

func (r *rack) network(bootMAC string, s *screen) *Network {
	since := func() time.Duration { return time.Since(r.began) }
	reached := func(m map[string]time.Duration, name string) bool {
		at, ok := m[name]
		return ok && since() >= at
	}
	return &Network{
		BootMAC: bootMAC, Now: time.Now, Console: &Console{W: s, Uptime: since},
		Links: func() ([]Link, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			var links []Link
			for _, name := range []string{"eth0", "eth1", "eth2"} {
				if reached(r.appears, name) {
					up := slices.Contains(r.up, name)
					links = append(links, Link{Name: name, MAC: "52:54:00:00:00:0" + name[3:], Up: up, Carrier: up && reached(r.carrier, name)})
				}
			}
			return links, nil
		},
		LinkUp: func(name string) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.up = append(r.up, name)
			return nil
		},
		Lease: func(ctx context.Context, name string, old Lease) (Lease, error) {
			for range 7 { // as long as a real one asks
				if reached(r.serves, name) {
					return Lease{Addr: netip.MustParsePrefix("192.0.2.17/24"), Server: netip.MustParseAddr("192.0.2.1"), Time: time.Hour}, nil
				}
				if err := sleep(ctx, time.Second); err != nil {
					return Lease{}, err
				}
			}
			return Lease{}, errors.New("no matching response packet received")
		},
		Apply: func(name string, now, old Lease) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.applied = append(r.applied, name)
			return nil
		},
	}
}

func TestNetwork(t *testing.T) {
	const never = -1
	at := func(s ...int) map[string]time.Duration {
		m := map[string]time.Duration{}
		for i, n := range s {
			if n != never {
				m[[]string{"eth0", "eth1", "eth2"}[i]] = time.Duration(n) * time.Second
			}
		}
		return m
	}
	for _, row := range []struct {
		name                     string
		boot                     string
		appears, carrier, serves map[string]time.Duration
		want                     string
		within                   time.Duration
		console                  string
	}{
		{"the NIC that booted gets the address", bootMACOfTest, at(0, 0, 0), at(0, 0, 0), at(0, 0, 0), "eth1", time.Second, "eth1 has 192.0.2.17/24 from 192.0.2.1, no gateway"},
		{"without a NIC that booted any may", "", at(0), at(0), at(0), "eth0", time.Second, ""},
		{"F24: a link that comes after 45 s is used in less than 5 s", bootMACOfTest, at(never, 0), at(never, 45), at(never, 0), "eth1", 46 * time.Second, "waiting for a link on eth1 (52:54:00:00:00:01), 5.0 s so far"},
		{"F24: a port that passes packets after 45 s is used in less than 5 s", bootMACOfTest, at(never, 0), at(never, 2), at(never, 45), "eth1", 50 * time.Second, "no address on eth1: no matching response packet received; attempt 1"},
		{"F28: another NIC is tried when the one that booted gets nothing", bootMACOfTest, at(0, 0, 0), at(0, 0, 0), at(never, never, 0), "eth2", 12 * time.Second, ""},
		{"F42: the NIC that booted may appear late", bootMACOfTest, at(never, 6), at(never, 6), at(never, 0), "eth1", 8 * time.Second, "waiting for the NIC 52:54:00:00:00:01 that booted to appear"},
		{"a machine without drivers says so", "", at(never, never, 30), at(never, never, 30), at(0, 0, 0), "eth2", 32 * time.Second, "waiting for a network interface; is its driver in the ramdisk?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				r := &rack{began: time.Now(), appears: row.appears, carrier: row.carrier, serves: row.serves}
				s := &screen{}
				if err := r.network(row.boot, s).Up(ctx); err != nil {
					t.Fatalf("Up: %v\n%s", err, s)
				}
				if took := time.Since(r.began); took > row.within {
					t.Errorf("took %v; want at most %v\n%s", took, row.within, s)
				}
				if got := strings.Join(r.applied, " "); got != row.want {
					t.Errorf("configured %q; want %q", got, row.want)
				}
				if !strings.Contains(s.String(), row.console) {
					t.Errorf("the console lacks %q:\n%s", row.console, s)
				}
			})
		})
	}
}

// The driver of a NIC is loaded after the one that booted has its address: it is set up all the same.
func TestLateNICIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := &rack{began: time.Now(), appears: map[string]time.Duration{"eth0": 0, "eth1": time.Minute}, carrier: map[string]time.Duration{"eth0": 0}, serves: map[string]time.Duration{"eth0": 0}}
		n := r.network("", &screen{})
		if err := n.Up(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		for range 2 {
			if err := n.Raise(); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(r.up, " "); got != "eth0 eth1" {
			t.Errorf("set up %q; want each NIC once", got)
		}
		n.LinkUp = func(string) error { return errors.New("operation not permitted") }
		r.up = nil
		if err := n.Raise(); err == nil || err.Error() != "set eth0 up: operation not permitted\nset eth1 up: operation not permitted" {
			t.Errorf("Raise() = %v; want both NICs named", err)
		}
	})
}

func TestDeviceEvents(t *testing.T) {
	for _, row := range []struct {
		name            string
		event           Uevent
		raised, changed bool
	}{
		{"a new NIC is set up and reported", Uevent{Action: "add", Subsystem: "net"}, true, true},
		{"a new disk is reported", Uevent{Action: "add", Subsystem: "block"}, false, true},
		{"a NIC that is gone is reported", Uevent{Action: "remove", Subsystem: "net"}, false, true},
		{"a NIC that is renamed is neither", Uevent{Action: "move", Subsystem: "net"}, false, false},
		{"a queue of a NIC is neither", Uevent{Action: "add", Subsystem: "queues"}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			raised, changed := false, make(chan struct{}, 1)
			device(t.Context(), &Plug{Now: time.Now}, func() { raised = true }, changed, row.event)
			if raised != row.raised || (len(changed) == 1) != row.changed {
				t.Errorf("raised %v, changed %v; want %v, %v", raised, len(changed) == 1, row.raised, row.changed)
			}
		})
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := &rack{began: time.Now(), appears: map[string]time.Duration{"eth0": 0}, carrier: map[string]time.Duration{"eth0": 0}, serves: map[string]time.Duration{"eth0": 0}}
		if err := r.network("", &screen{}).Up(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.applied) != 4 { // at 0, 30, 60 and 90 minutes of a lease of an hour
			t.Errorf("configured %d times in 100 minutes; want 4", len(r.applied))
		}
	})
}

func TestReadLease(t *testing.T) {
	ack := func(mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 17))}, mods...)...)
		if err != nil {
			t.Fatal(err)
		}
		p, err = dhcpv4.FromBytes(p.ToBytes())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	addr := netip.MustParseAddr
	for _, row := range []struct {
		name string
		ack  *dhcpv4.DHCPv4
		want Lease
	}{
		{"all that is used", ack(
			dhcpv4.WithNetmask(net.CIDRMask(20, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithLeaseTime(600),
			dhcpv4.WithDNS(net.IPv4(192, 0, 2, 2), net.IPv4(192, 0, 2, 3)), dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 9)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 4))), dhcpv4.WithOption(dhcpv4.OptDomainName("example.net")),
			dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x23, 0x28})),
			Lease{Addr: netip.MustParsePrefix("192.0.2.17/20"), Gateway: addr("192.0.2.1"), DNS: []netip.Addr{addr("192.0.2.2"), addr("192.0.2.3")},
				Domain: "example.net", MTU: 9000, Server: addr("192.0.2.4"), Time: 10 * time.Minute}},
		{"an answer with nothing but an address", ack(),
			Lease{Addr: netip.MustParsePrefix("192.0.2.17/24"), Time: time.Hour}},
		{"values that make no sense are left out", ack(
			dhcpv4.WithOption(dhcpv4.OptDomainName("a\nnameserver 6.6.6.6")), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 40}),
			dhcpv4.WithGeneric(dhcpv4.OptionDomainNameServer, []byte{1, 2, 3}), dhcpv4.WithGeneric(dhcpv4.OptionSubnetMask, []byte{0, 255, 0, 255})),
			Lease{Addr: netip.MustParsePrefix("192.0.2.17/24"), Time: time.Hour}},
		{"static routes replace the gateway", ack(dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)),
			dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{0, 192, 0, 2, 5, 8, 10, 0, 0, 0, 0})),
			Lease{Addr: netip.MustParsePrefix("192.0.2.17/24"), Gateway: addr("192.0.2.1"), Time: time.Hour,
				Routes: []Route{{netip.MustParsePrefix("0.0.0.0/0"), addr("192.0.2.5")}, {netip.MustParsePrefix("10.0.0.0/8"), addr("0.0.0.0")}}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := readLease(row.ack)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Errorf("lease (-want +got):\n%s", diff)
			}
		})
	}
	if l, err := readLease(ack(dhcpv4.WithYourIP(net.IPv4zero))); err == nil {
		t.Errorf("an answer without address gave %+v", l)
	}
}

// FuzzLease: no answer of a DHCP server breaks the agent, and what it takes can stand in resolv.conf.
func FuzzLease(f *testing.F) {
	p, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 17)), dhcpv4.WithNetmask(net.CIDRMask(20, 32)),
		dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{0, 192, 0, 2, 5}), dhcpv4.WithOption(dhcpv4.OptDomainName("example.net")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		ack, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := readLease(ack)
		if err != nil {
			return
		}
		if strings.ContainsAny(l.Domain, " \n\t") || len(l.DNS) > 3 || !l.Addr.IsValid() {
			t.Errorf("lease %+v", l)
		}
		_ = routes(l)
	})
}

func TestWriteResolv(t *testing.T) {
	root := t.TempDir()
	l := Lease{DNS: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Domain: "example.net"}
	if err := writeResolv(root, l); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "etc/resolv.conf"))
	if want := "search example.net\nnameserver 192.0.2.2\n"; err != nil || string(b) != want {
		t.Errorf("resolv.conf = %q, %v; want %q", b, err, want)
	}
}
