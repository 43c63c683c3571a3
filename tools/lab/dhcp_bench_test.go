package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// A dhcpPeer is a DHCP server to measure: how it is started on the rack's bridge with its leases in a directory, and
// the line that says that it serves, "" when it says none.
type dhcpPeer struct {
	name    string
	program string
	args    func(t *testing.T, dir string) []string
}

// The network of the bench: enough addresses that none is leased twice in a run.
const dhcpBenchPool = "10.64.16.1-10.64.255.254"

var dhcpBenchPrefix = netip.MustParsePrefix("10.64.0.1/16")

var dhcpPeers = []dhcpPeer{
	{"muster", "../../bin/muster", func(_ *testing.T, dir string) []string {
		return []string{"serve", "--data", filepath.Join(dir, "data"), "--interface", Bridge, "--dhcp", "server", "--pool", dhcpBenchPool,
			"--tftp", "off", "--https", "off", "--plain-secrets", "--log-level", "error"}
	}},
	{"dnsmasq", "dnsmasq", func(_ *testing.T, dir string) []string {
		return []string{"-k", "-C", "/dev/null", "--port=0", "--interface=" + Bridge, "--bind-interfaces", "--user=root", "--no-ping", "--quiet-dhcp",
			"--dhcp-authoritative", "--dhcp-lease-max=70000", "--dhcp-range=10.64.16.1,10.64.255.254,255.255.0.0,1h",
			"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--pid-file=" + filepath.Join(dir, "pid")}
	}},
	{"kea", "kea-dhcp4", func(t *testing.T, dir string) []string {
		conf := filepath.Join(dir, "kea.conf")
		text := `{"Dhcp4":{"interfaces-config":{"interfaces":["` + Bridge + `"]},"valid-lifetime":3600,
			"multi-threading":{"enable-multi-threading":true,"thread-pool-size":2,"packet-queue-size":64},
			"lease-database":{"type":"memfile","persist":true,"lfc-interval":3600,"name":"` + filepath.Join(dir, "leases.csv") + `"},
			"subnet4":[{"id":1,"subnet":"10.64.0.0/16","pools":[{"pool":"10.64.16.1 - 10.64.255.254"}]}],
			"loggers":[{"name":"kea-dhcp4","severity":"ERROR","output_options":[{"output":"stderr"}]}]}}`
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"-c", conf}
	}},
}

// A dhcpRun is what one load gave.
type dhcpRun struct {
	leases int
	lost   int
	rate   float64 // leases a second
	times  []time.Duration
}

// at is a quantile of the times from DISCOVER to ACK.
func (r dhcpRun) at(q float64) time.Duration {
	if len(r.times) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(r.times))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// TestBenchDHCP is the DHCP part of make bench-boot: leases a second and the 99th percentile of a lease, of muster,
// dnsmasq and Kea in turn, with their lease files in memory and on disk. It says nothing about good or bad: the table is
// for people.
func TestBenchDHCP(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-boot")
	}
	rounds := benchRounds(3)
	b := newDHCPBench(t)
	for _, store := range []struct{ name, dir string }{{"memory", "/dev/shm"}, {"disk", os.TempDir()}} {
		results := map[string][]dhcpRun{}
		for range rounds {
			for _, p := range dhcpPeers {
				if _, err := exec.LookPath(p.program); err != nil {
					t.Logf("%s is left out: %v", p.name, err)
					continue
				}
				results[p.name] = append(results[p.name], b.measure(t, p, store.dir, 20000, 8*time.Second))
			}
		}
		t.Log("\n" + b.table(t, store.name, store.dir, results))
	}
}

// A dhcpBench is a rack, and a relay in a namespace of its own that asks for clients.
type dhcpBench struct {
	rack  *Rack
	relay *Rack // its namespace only
}

func newDHCPBench(t *testing.T) *dhcpBench {
	t.Helper()
	rack, err := Up(t.Context(), Config{Name: "dhcpbench", Dir: t.TempDir(), Prefix: dhcpBenchPrefix})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := rack.Down(); err != nil {
			t.Error(err)
		}
	})
	const relay = "dhcprelay"
	if err := removeNamespace(relay); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeNamespace(relay) })
	for _, line := range []string{
		"netns add " + relay,
		"-n dhcpbench link add relay type veth peer name up0 netns " + relay,
		"-n dhcpbench link set relay master " + Bridge + " up",
		"-n " + relay + " address add 10.64.0.2/16 dev up0",
		"-n " + relay + " link set up0 up",
	} {
		if err := ip(t.Context(), strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	return &dhcpBench{rack: rack, relay: &Rack{config: Config{Name: relay}}}
}

// start runs a server with an empty lease file and returns when it answers; stop ends it.
func (b *dhcpBench) start(t *testing.T, p dhcpPeer, dir string, before ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	line := append(append(before, p.program), p.args(t, dir)...)
	cmd := b.rack.Command(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR=none")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	for range 120 {
		if r := b.load(t, 1, 1, time.Second); r.leases == 1 {
			return stop
		}
	}
	stop()
	t.Fatalf("%s does not answer: %s", p.name, said.String())
	return nil
}

// measure runs one load against a fresh server: so many leases of new clients, or as many as the time allows.
func (b *dhcpBench) measure(t *testing.T, p dhcpPeer, store string, leases int, most time.Duration) dhcpRun {
	t.Helper()
	dir, err := os.MkdirTemp(store, "dhcpbench")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer b.start(t, p, dir)()
	r := b.load(t, leases, 64, most)
	if r.leases == 0 {
		t.Errorf("%s gave no lease", p.name)
	}
	t.Logf("%s in %s: %d leases, %.0f/s, p50 %v, p99 %v, %d lost", p.name, store, r.leases, r.rate, r.at(.5), r.at(.99), r.lost)
	return r
}

// syncs counts what a server makes durable for each lease, by strace.
func (b *dhcpBench) syncs(t *testing.T, p dhcpPeer, store string) string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		return "-"
	}
	dir, err := os.MkdirTemp(store, "dhcpbench")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	trace := filepath.Join(dir, "trace")
	stop := b.start(t, p, dir, "strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", trace)
	before, _ := os.ReadFile(trace)
	r := b.load(t, 200, 1, 30*time.Second)
	after, _ := os.ReadFile(trace)
	stop()
	var names []string
	for _, name := range []string{"fsync", "fdatasync"} {
		if n := bytes.Count(after, []byte(" "+name+"(")) - bytes.Count(before, []byte(" "+name+"(")); n > 0 {
			names = append(names, fmt.Sprintf("%.1f %s", float64(n)/float64(max(r.leases, 1)), name))
		}
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// table is the medians of the rounds, and the ratios of muster to each.
func (b *dhcpBench) table(t *testing.T, store, dir string, results map[string][]dhcpRun) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "DHCP, LEASES IN %s\tleases/s\tp50\tp99\tlost\tmuster has\tsyncs for a lease alone\t\n", strings.ToUpper(store))
	median := func(name string, of func(dhcpRun) float64) float64 {
		var list []float64
		for _, r := range results[name] {
			list = append(list, of(r))
		}
		slices.Sort(list)
		if len(list) == 0 {
			return 0
		}
		return list[len(list)/2]
	}
	rate := func(r dhcpRun) float64 { return r.rate }
	for _, p := range dhcpPeers {
		if len(results[p.name]) == 0 {
			continue
		}
		at := func(q float64) time.Duration {
			return time.Duration(median(p.name, func(r dhcpRun) float64 { return float64(r.at(q)) })).Round(10 * time.Microsecond)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%v\t%v\t%.0f\t%.2f x\t%s\t\n", p.name, median(p.name, rate), at(.5), at(.99),
			median(p.name, func(r dhcpRun) float64 { return float64(r.lost) }), median("muster", rate)/median(p.name, rate), b.syncs(t, p, dir))
	}
	w.Flush()
	return out.String()
}

// dhcpClients numbers clients over all loads: each is new to its server.
var dhcpClients uint32

// load leases addresses for new clients as a relay does, so many at once, and starts no more when the time is over.
func (b *dhcpBench) load(t *testing.T, leases, atOnce int, most time.Duration) dhcpRun {
	t.Helper()
	var conn *net.UDPConn
	err := b.relay.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 64, 0, 2), Port: 67})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadBuffer(4 << 20)
	l := &dhcpLoad{conn: conn, open: map[uint32]time.Time{}}
	l.run(leases, atOnce, time.Now().Add(most))
	return l.result
}

// A dhcpLoad is one load under way. One loop sends and receives: what it costs is the same for every server.
type dhcpLoad struct {
	conn   *net.UDPConn
	open   map[uint32]time.Time // xid, which is the client's number: since when
	result dhcpRun
}

// patience is how long one exchange may take before it is lost.
const dhcpPatience = time.Second

func (l *dhcpLoad) run(leases, atOnce int, end time.Time) {
	begin := time.Now()
	started := 0
	next := func() {
		if started < leases && time.Now().Before(end) {
			started++
			dhcpClients++
			l.open[dhcpClients] = time.Now()
			l.send(1, dhcpClients, nil)
		}
	}
	for range atOnce {
		next()
	}
	var buf [1500]byte
	for len(l.open) > 0 {
		_ = l.conn.SetReadDeadline(time.Now().Add(dhcpPatience / 4))
		n, _, err := l.conn.ReadFromUDP(buf[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			// An ICMP error: nobody listens yet.
		default:
			if l.take(buf[:n]) {
				next()
			}
			continue
		}
		for xid, since := range l.open {
			if time.Since(since) > dhcpPatience || time.Now().After(end) {
				delete(l.open, xid)
				l.result.lost++
				next()
			}
		}
	}
	l.result.rate = float64(l.result.leases) / time.Since(begin).Seconds()
}

// take reads a reply, and is true when it ends a lease.
func (l *dhcpLoad) take(b []byte) bool {
	if len(b) < 240 {
		return false
	}
	xid := binary.BigEndian.Uint32(b[4:])
	since, ok := l.open[xid]
	if !ok {
		return false
	}
	kind, server := byte(0), []byte(nil)
	for o := b[240:]; len(o) > 2 && o[0] != 255; o = o[2+int(o[1]):] {
		if len(o) < 2+int(o[1]) {
			return false
		}
		switch o[0] {
		case 53:
			kind = o[2]
		case 54:
			server = o[2:6]
		}
	}
	switch kind {
	case 2:
		l.send(3, xid, append(append([]byte{50, 4}, b[16:20]...), append([]byte{54, 4}, server...)...))
		return false
	case 5:
		l.result.leases++
		l.result.times = append(l.result.times, time.Since(since))
	default:
		l.result.lost++
	}
	delete(l.open, xid)
	return true
}

// send writes a DISCOVER or REQUEST of a client as its relay does.
func (l *dhcpLoad) send(kind byte, xid uint32, options []byte) {
	b := make([]byte, 240, 300)
	copy(b, []byte{1, 1, 6, 1})
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[24:], []byte{10, 64, 0, 2})
	copy(b[28:], []byte{2, 0x64})
	binary.BigEndian.PutUint32(b[30:], xid)
	copy(b[236:], []byte{0x63, 0x82, 0x53, 0x63})
	b = append(append(b, 53, 1, kind), options...)
	b = append(b, 55, 4, 1, 3, 6, 15, 255)
	_, _ = l.conn.WriteToUDP(b, &net.UDPAddr{IP: net.IPv4(10, 64, 0, 1), Port: 67})
}
