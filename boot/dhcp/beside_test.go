package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"muster/boot"
)

// A daemon is another DHCP server of the field: what it needs around what muster dhcp-config prints for it, and how it
// is started on an interface.
type daemon struct {
	name, program string
	whole         func(t *testing.T, printed, ifname string) string
	args          func(conf, dir, ifname string) []string
}

var daemons = []daemon{
	{"isc", "dhcpd",
		func(_ *testing.T, printed, _ string) string {
			return printed + "\nauthoritative;\nping-check false;\nsubnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.80 192.0.2.99; }\n"
		},
		func(conf, dir, ifname string) []string {
			return []string{"-4", "-f", "-d", "-cf", conf, "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), ifname}
		}},
	{"kea", "kea-dhcp4", keaWhole, func(conf, _, _ string) []string { return []string{"-c", conf} }},
	{"dnsmasq", "dnsmasq",
		func(_ *testing.T, printed, _ string) string {
			return printed + "\nport=0\ndhcp-authoritative\nno-ping\ndhcp-range=192.0.2.80,192.0.2.99\n"
		},
		func(conf, dir, ifname string) []string {
			return []string{"-k", "-C", conf, "--user=root", "--bind-interfaces", "--interface=" + ifname,
				"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--pid-file=" + filepath.Join(dir, "pid")}
		}},
}

func keaWhole(t *testing.T, printed, ifname string) string {
	t.Helper()
	file := map[string]map[string]any{"Dhcp4": {}}
	if _, object, ok := strings.Cut(printed, "\n{"); ok {
		if err := json.Unmarshal([]byte("{"+object), &file); err != nil {
			t.Fatal(err)
		}
	}
	site := file["Dhcp4"]
	site["interfaces-config"] = map[string]any{"interfaces": []string{ifname}}
	site["lease-database"] = map[string]any{"type": "memfile", "persist": false}
	site["subnet4"] = []any{map[string]any{"id": 1, "subnet": "192.0.2.0/24", "pools": []any{map[string]any{"pool": "192.0.2.80 - 192.0.2.99"}}}}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A segment is a network with three hosts: muster's, which is this thread's namespace, the site's and the client's. The
// client has an address outside of all pools and asks by sockets, as firmware with broadcast flag does.
type segment struct {
	cable
	site string // namespace
}

const (
	siteEnd    = "site0"
	clientAddr = "192.0.2.200"
)

func newSegment(t *testing.T) *segment {
	t.Helper()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces, and seconds")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
	s := &segment{cable: cable{t: t, name: fmt.Sprintf("mdhcp%dc", os.Getpid())}, site: fmt.Sprintf("mdhcp%ds", os.Getpid())}
	for _, ns := range []string{s.name, s.site} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("no named namespace here: %v %s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	for _, line := range []string{
		"link set lo up",
		"link add " + serverEnd + " type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"address add 192.0.2.10/24 brd + dev " + serverEnd,
		"link set " + serverEnd + " up",
		"link add p0 master " + serverEnd + " type veth peer name " + clientEnd + " netns " + s.name,
		"link add p1 master " + serverEnd + " type veth peer name " + siteEnd + " netns " + s.site,
		"link set p0 up",
		"link set p1 up",
		"-n " + s.name + " address add " + clientAddr + "/24 brd + dev " + clientEnd,
		"-n " + s.name + " link set " + clientEnd + " up",
		"-n " + s.site + " address add 192.0.2.1/24 brd + dev " + siteEnd,
		"-n " + s.site + " link set " + siteEnd + " up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", line, err, out)
		}
	}
	awaitCarrier(t, "", serverEnd)
	awaitCarrier(t, s.name, clientEnd)
	awaitCarrier(t, s.site, siteEnd) // Kea opens no socket on an interface that is not running, and does not look again
	return s
}

// start runs a daemon on muster's host or on the site's, and returns when it leases.
func (s *segment) start(d daemon, printed string, sameHost bool) {
	s.t.Helper()
	if _, err := exec.LookPath(d.program); err != nil {
		s.t.Skipf("%s is not installed", d.program)
	}
	dir, ifname := s.t.TempDir(), siteEnd
	if sameHost {
		ifname = serverEnd
	}
	conf := filepath.Join(dir, "conf")
	for name, text := range map[string]string{conf: d.whole(s.t, printed, ifname), filepath.Join(dir, "leases"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			s.t.Fatal(err)
		}
	}
	line := append([]string{d.program}, d.args(conf, dir, ifname)...)
	if !sameHost {
		line = append([]string{"ip", "netns", "exec", s.site}, line...)
	}
	cmd := exec.Command(line[0], line[1:]...) // from this thread, whose namespace is muster's
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	s.t.Cleanup(end)
	p := message(1)
	p.mac, p.flags = macOf(1000), 0x8000
	for range 240 {
		if len(s.asks(p.bytes(), 1, 500*time.Millisecond)) > 0 {
			return
		}
	}
	end() // who writes what it said has ended, too
	s.t.Fatalf("%s does not lease: %s", d.program, said.String())
}

// asks broadcasts a request from the client's port 68 and gives the replies to it, so many or those that came in time.
func (s *segment) asks(request []byte, want int, most time.Duration) []*dhcpv4.DHCPv4 {
	s.t.Helper()
	var list []*dhcpv4.DHCPv4
	err := s.inClient(func() error {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			_ = c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), clientEnd) })
			return err
		}}
		conn, err := config.ListenPacket(context.Background(), "udp4", "0.0.0.0:68")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.WriteTo(request, &net.UDPAddr{IP: net.IPv4bcast, Port: serverPort}); err != nil {
			return err
		}
		list, err = replies(conn, request[4:8], want, most)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func replies(conn net.PacketConn, xid []byte, want int, most time.Duration) (list []*dhcpv4.DHCPv4, err error) {
	_ = conn.SetReadDeadline(time.Now().Add(most))
	var buf [1500]byte
	for len(list) < want {
		n, _, err := conn.ReadFrom(buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if p, err := dhcpv4.FromBytes(buf[:n]); err == nil && bytes.Equal(p.TransactionID[:], xid) {
			list = append(list, p)
		}
	}
	return list, nil
}

// as is a request of the client with the broadcast flag and a transaction of its own.
func as(n uint32, options ...option) []byte {
	p := message(1, with(options, optHex(57, "05c0"), optHex(55, "0103060c0f2b3c4243af"))...)
	p.flags, p.mac = 0x8000, macOf(int(n))
	b := p.bytes()
	binary.BigEndian.PutUint32(b[4:], n)
	return b
}

// told says in a line what a reply tells a boot client.
func told(p *dhcpv4.DHCPv4) string {
	file := strings.TrimRight(string(p.Options.Get(dhcpv4.OptionBootfileName)), "\x00")
	if p.BootFileName != "" {
		file = p.BootFileName
	}
	leases := "no address"
	if a := addrOf(p.YourIPAddr); a.IsValid() {
		leases = "an address"
	}
	return fmt.Sprintf("%v: %s, %s from %v, 60 %s", addrOf(p.Options.Get(dhcpv4.OptionServerIdentifier)), leases, file, p.ServerIPAddr,
		strings.TrimRight(string(p.Options.Get(dhcpv4.OptionClassIdentifier)), "\x00"))
}

// printedFor is what muster dhcp-config prints, as its own test has it.
func printedFor(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../tools/muster/testdata/dhcp-config/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// watch keeps what passes muster's interface in a socket; read says what tshark finds wrong with what its host sent.
func (s *segment) watch() (read func()) {
	s.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		return func() {}
	}
	ifi, err := net.InterfaceByName(serverEnd)
	if err != nil {
		s.t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		name := filepath.Join(s.t.TempDir(), "capture.pcap")
		if err := os.WriteFile(name, pcapOf(fd), 0o600); err != nil {
			s.t.Fatal(err)
		}
		var said bytes.Buffer
		tshark := exec.Command("tshark", "-r", name, "-T", "fields", "-e", "ip.src", "-e", "udp.srcport", "-e", "_ws.malformed", "-e", "_ws.expert.severity")
		tshark.Stderr = &said
		out, err := tshark.Output()
		if err != nil {
			s.t.Errorf("tshark: %v %s", err, said.String())
		}
		ours := 0
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, us.String()+"\t") {
				continue
			}
			ours++
			if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) != 4 || f[2] != "" || f[3] != "" {
				s.t.Errorf("tshark finds fault with packet %d of ours: %q", ours, f)
			}
		}
		if ours == 0 {
			s.t.Error("tshark saw no packet of ours")
		}
	}
}

// pcapOf drains a packet socket into a capture file (draft-ietf-opsawg-pcap).
func pcapOf(fd int) []byte {
	u32 := binary.LittleEndian.AppendUint32
	file := u32(u32(u32(u32(u32(u32(nil, 0xa1b2c3d4), 4<<16|2), 0), 0), 1<<16), 1)
	var buf [2048]byte
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], 0)
		if err != nil {
			return file
		}
		file = append(u32(u32(u32(u32(file, 0), 0), uint32(n)), uint32(n)), buf[:n]...)
	}
}

// TestProxyBesideAnotherHost: the site's server leases and knows nothing of muster; boot clients hear both, ordinary
// ones the site's only.
func TestProxyBesideAnotherHost(t *testing.T) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			s := newSegment(t)
			s.start(d, "", false)
			read := s.watch()
			muster := s.serve(func(c *Config) { c.Mode, c.LeaseFile = ModeProxy, "" })
			for n, row := range []struct {
				name    string
				options []option
				want    []string
			}{
				// First: its one reply comes maybe before muster's turn; when muster has answered the others, it has read this.
				{"an ordinary client", nil, []string{"192.0.2.1: an address,  from 0.0.0.0, 60 "}},
				{"BIOS", bios(), []string{"192.0.2.10: no address, snponly.efi from 192.0.2.10, 60 PXEClient", "192.0.2.1: an address,  from 0.0.0.0, 60 "}},
				{"UEFI", uefi(), []string{"192.0.2.10: no address, snponly.efi from 192.0.2.10, 60 PXEClient", "192.0.2.1: an address,  from 0.0.0.0, 60 "}},
				{"iPXE", ipxe(), []string{"192.0.2.10: no address, " + scriptURL + " from 192.0.2.10, 60 PXEClient", "192.0.2.1: an address,  from 0.0.0.0, 60 "}},
			} {
				var got []string
				for _, p := range s.asks(as(uint32(100+n), row.options...), len(row.want), patient) {
					p.ServerIPAddr = withoutSite(p.ServerIPAddr)
					got = append(got, told(p))
				}
				slices.Sort(got)
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", row.name, diff)
				}
			}
			s.stop()
			read()
			// The last that start asked may have been still on its way when muster came: an ordinary client, too.
			if c := muster.Counts(); c.Sent != 3 || c.Received < 4 || c.Ignored != c.Received-3 {
				t.Errorf("counts %+v; want 3 sent, and the ordinary client's ignored", c)
			}
		})
	}
}

// withoutSite hides that dnsmasq writes its own address into siaddr, and others do not.
func withoutSite(a net.IP) net.IP {
	if a.Equal(net.IPv4(192, 0, 2, 1)) {
		return net.IPv4zero
	}
	return a
}

// TestProxyBesideTheSameHost is D30 with real servers, told what muster dhcp-config prints: muster finds its port 67
// taken, nothing leaves from there but what that server says, and port 4011 names the file.
func TestProxyBesideTheSameHost(t *testing.T) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			s := newSegment(t)
			s.start(d, printedFor(t, d.name+"-same-host"), true)
			read := s.watch()
			muster := s.serve(func(c *Config) { c.Mode, c.LeaseFile = ModeProxy, "" })
			if muster.cfg.Mode != ModeSameHost {
				t.Fatalf("mode %q; want that muster finds port 67 taken", muster.cfg.Mode)
			}
			offers := s.asks(as(100, uefi()...), 1, patient)
			if len(offers) != 1 || told(offers[0]) != "192.0.2.10: an address,  from 192.0.2.10, 60 PXEClient" {
				t.Fatalf("offers %v; want one with an address, our siaddr, and no file", offers)
			}
			if err := s.inClient(func() error { return askBootServer(clientAddr) }); err != nil {
				t.Error(err)
			}
			s.stop()
			read()
			// The client's DISCOVER was heard, if the socket's turn came before the end; the request to 4011 was answered.
			if c := muster.Counts(); c.Sent != 1 || c.Heard != c.Received-1 {
				t.Errorf("counts %+v; want one reply, on port 4011", c)
			}
		})
	}
}

// askBootServer asks port 4011 as UEFI does, and wants the loader's name from there.
func askBootServer(from string) error {
	conn, err := net.ListenPacket("udp4", from+":4011")
	if err != nil {
		return err
	}
	defer conn.Close()
	request := raw(optionsD4)
	copy(request[12:], netip.MustParseAddr(from).AsSlice())
	if _, err := conn.WriteTo(request, &net.UDPAddr{IP: us.AsSlice(), Port: proxyPort}); err != nil {
		return err
	}
	list, err := replies(conn, request[4:8], 1, patient)
	if err != nil {
		return err
	}
	if len(list) != 1 || told(list[0]) != "192.0.2.10: no address, "+loaderName+" from 192.0.2.10, 60 PXEClient" {
		return fmt.Errorf("port 4011 says %v", list)
	}
	return nil
}

// TestPointedServers: muster answers no DHCP, and the site's server says what muster dhcp-config prints.
func TestPointedServers(t *testing.T) {
	script := "http://192.0.2.10:8080/boot/ipxe?mac=${netX/mac}&uuid=${uuid}&platform=${platform}"
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			s := newSegment(t)
			s.start(d, printedFor(t, d.name), false)
			for n, row := range []struct {
				name    string
				options []option
				want    string
			}{
				{"BIOS", bios(), "192.0.2.1: an address, undionly.kpxe from 192.0.2.10, 60 "},
				{"UEFI", uefi(), "192.0.2.1: an address, snponly.efi from 192.0.2.10, 60 "},
				{"EBC", []option{opt(60, "PXEClient:Arch:00009"), optHex(93, "0009")}, "192.0.2.1: an address, snponly.efi from 192.0.2.10, 60 "},
				{"iPXE", ipxe(), "192.0.2.1: an address, " + script + " from 192.0.2.10, 60 "},
				{"iPXE in the form of RFC 3004", append(bios(), optHex(77, "0469505845")), "192.0.2.1: an address, " + script + " from 192.0.2.10, 60 "},
				{"UEFI HTTP boot", uefiHTTP(), "192.0.2.1: an address, http://192.0.2.10:8080/boot/snponly.efi from 0.0.0.0, 60 HTTPClient"},
				{"an ordinary client", nil, "192.0.2.1: an address,  from 0.0.0.0, 60 "},
			} {
				list := s.asks(as(uint32(100+n), row.options...), 1, patient)
				if len(list) != 1 {
					t.Errorf("%s: %d replies", row.name, len(list))
					continue
				}
				list[0].ServerIPAddr = withoutSite(list[0].ServerIPAddr)
				if got := told(list[0]); got != row.want {
					t.Errorf("%s: told %q; want %q", row.name, got, row.want)
				}
				if e := parseEtherboot(list[0].Options.Get(dhcpv4.GenericOptionCode(175))); e.noProxy != strings.HasPrefix(row.name, "iPXE") {
					t.Errorf("%s: told to wait for no proxy: %v", row.name, e.noProxy)
				}
			}
		})
	}
}

// TestFloodOverACable is T29 with packets: strangers under 65,000 names do not keep a known machine from its lease. It
// asks as firmware does, again when nothing comes.
func TestFloodOverACable(t *testing.T) {
	s := newSegment(t)
	known := macOf(1)
	muster := s.serve(func(c *Config) { c.Known = func(m boot.MAC) bool { return m == known } })
	done := make(chan error, 1)
	go func() {
		done <- s.inClient(func() error {
			conn, err := net.Dial("udp4", "192.0.2.10:67")
			if err != nil {
				return err
			}
			defer conn.Close()
			for n := range 65000 {
				if _, err := conn.Write(as(uint32(100000 + n))); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	leased := false
	for try := 0; try < 90 && !leased; try++ {
		leased = len(s.asks(as(1, uefi()...), 1, time.Second)) > 0
	}
	if !leased {
		t.Error("the known machine was offered nothing")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.stop()
	if taken := muster.leases.pools[0].taken; taken > muster.leases.pools[0].usable-muster.leases.pools[0].spare {
		t.Errorf("strangers hold %d of %d addresses", taken, muster.leases.pools[0].usable)
	}
	t.Logf("%+v", muster.Counts())
}
