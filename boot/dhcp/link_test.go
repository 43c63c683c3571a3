package dhcp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"

	"muster/boot"
)

func TestFrame(t *testing.T) {
	data := []byte("odd")
	b := frameOf(net.HardwareAddr{2, 0, 0, 0, 0, 1}, mac, netip.AddrPortFrom(us, 67), netip.AddrPortFrom(them, 68), data)
	if want := unhex("525400123456 020000000001 0800"); !bytes.HasPrefix(b, want) {
		t.Errorf("frame begins %x; want %x", b[:14], want)
	}
	head, udp := b[14:34], b[34:]
	if s := sum(0, head); s != 0xffff {
		t.Errorf("IP header sums to %#x; want 0xffff", s)
	}
	if s := sum(uint32(unix.IPPROTO_UDP)+uint32(len(udp)), append(append([]byte(nil), head[12:]...), udp...)); s != 0xffff {
		t.Errorf("UDP sums to %#x; want 0xffff", s)
	}
	if got := unhex("0043 0044 000b"); !bytes.HasPrefix(udp, got) || !bytes.HasSuffix(udp, data) {
		t.Errorf("UDP is %x", udp)
	}
}

// A cable is a veth pair: the server's end in a network namespace of this thread, the client's in one with a name.
type cable struct {
	t    *testing.T
	name string // of the client's namespace
	stop func() // ends the server that serve started, all it took in answered and counted
}

const (
	serverEnd = "srv0"
	clientEnd = "cli0"
)

// patient is how long a client waits for an answer that must come, from a server that syncs its lease file, on a
// machine busy with other things. One that asks again is answered again, and counted.
const patient = time.Minute

// newCable makes the namespaces, or skips. The test keeps its thread, which ends with it.
func newCable(t *testing.T) *cable {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
	c := &cable{t: t, name: "mdhcp" + strconv.Itoa(os.Getpid()) + strings.ToLower(t.Name()[4:8])}
	if out, err := exec.Command("ip", "netns", "add", c.name).CombinedOutput(); err != nil {
		t.Skipf("no named namespace here: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", c.name).Run() })
	for _, line := range []string{
		"link add " + serverEnd + " type veth peer name " + clientEnd,
		"link set " + clientEnd + " address " + mac.String() + " netns " + c.name,
		"address add 192.0.2.10/24 dev " + serverEnd,
		"link set " + serverEnd + " up",
		"-n " + c.name + " link set " + clientEnd + " up",
		"-n " + c.name + " link set lo up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", line, err, out)
		}
	}
	awaitCarrier(t, "", serverEnd)
	awaitCarrier(t, c.name, clientEnd)
	return c
}

// awaitCarrier waits until an interface sends, in a namespace or, where that is "", in this thread's. The kernel learns
// that its peer is up from a queue of work (net/core/link_watch.c), and drops what it is given before; reading the state
// takes the lock that this work holds.
func awaitCarrier(t *testing.T, namespace, name string) {
	t.Helper()
	args := []string{"-oneline", "link", "show", "dev", name}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	for {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %q: %v %s", args, err, out)
		}
		if bytes.Contains(out, []byte(" state UP ")) {
			return
		}
	}
}

// serve starts a server on the cable.
func (c *cable) serve(edit func(*Config)) *Server {
	c.t.Helper()
	cfg := Config{
		Interface: serverEnd, Mode: ModeServer, Network: Network{
			Ranges: []Range{{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("192.0.2.99")}},
			Router: us, DNS: []netip.Addr{us}, Domain: "example.net",
		},
		LeaseFile: filepath.Join(c.t.TempDir(), "leases"),
		Loader:    func(boot.Client) (string, bool) { return loaderName, true },
		Script:    func(boot.Client) string { return scriptURL },
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := Listen(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Serve = %v; want nil when its context ends", err)
		}
	})
	c.t.Cleanup(c.stop)
	return s
}

// run runs a program on the client's end.
func (c *cable) run(name string, args ...string) string {
	c.t.Helper()
	out, err := exec.CommandContext(c.t.Context(), "ip", append([]string{"netns", "exec", c.name, name}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// inClient runs f in the client's namespace.
func (c *cable) inClient(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		ns, err := os.Open("/var/run/netns/" + c.name)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func TestLeaseOverACable(t *testing.T) {
	c := newCable(t)
	s := c.serve(nil)
	for _, flags := range []bool{false, true} {
		err := c.inClient(func() error {
			client, err := nclient4.New(clientEnd, nclient4.WithTimeout(patient))
			if err != nil {
				return err
			}
			defer client.Close()
			lease, err := client.Request(context.Background(), dhcpv4.WithBroadcast(flags),
				dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007")), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(93), []byte{0, 7}))
			if err != nil {
				return err
			}
			a := lease.ACK
			if addrOf(a.ServerIPAddr) != us || a.BootFileName != loaderName || !subnet.Contains(addrOf(a.YourIPAddr)) {
				return fmt.Errorf("got %s", a.Summary())
			}
			if m, ok := s.MACOf(addrOf(a.YourIPAddr)); !ok || m != mac {
				return fmt.Errorf("%v belongs to %v, %v", a.YourIPAddr, m, ok)
			}
			return nil
		})
		if err != nil {
			t.Errorf("broadcast %v: %v", flags, err)
		}
	}
	c.stop()
	if n := s.Counts(); n.Received < 4 || n.Sent != n.Received || n.Dropped+n.Malformed+n.Ignored > 0 {
		t.Errorf("counts %+v", n)
	}
}

func TestUdhcpcOverACable(t *testing.T) {
	c := newCable(t)
	if _, err := exec.LookPath("udhcpc"); err != nil {
		t.Skip("udhcpc is not installed")
	}
	c.serve(nil)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $1 $ip/$mask $siaddr $router $dns $domain $lease $boot_file\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"an operating system": {nil, "/24 192.0.2.10 192.0.2.10 192.0.2.10 example.net 3600\n"},
		"PXE firmware":        {[]string{"-V", "PXEClient", "-x", "0x5d:0007"}, "/24 192.0.2.10 192.0.2.10 192.0.2.10 example.net 120 snponly.efi\n"},
	} {
		out := c.run("udhcpc", append([]string{"-i", clientEnd, "-n", "-q", "-f", "-t", "20", "-s", script}, row.args...)...)
		if !strings.Contains(out, "bound 192.0.2.") || !strings.Contains(out, row.want) {
			t.Errorf("%s: udhcpc said\n%s\nwant a line with %q", name, out, row.want)
		}
	}
}

func TestDhclientOverACable(t *testing.T) {
	c := newCable(t)
	if _, err := exec.LookPath("dhclient"); err != nil {
		t.Skip("dhclient is not installed")
	}
	c.serve(nil)
	leaseFile := filepath.Join(t.TempDir(), "leases")
	// In the foreground: one that goes into the background writes files when this test is over.
	client := exec.CommandContext(t.Context(), "ip", "netns", "exec", c.name,
		"dhclient", "-4", "-1", "-v", "-d", "-sf", "/bin/true", "-lf", leaseFile, "--no-pid", "-cf", "/dev/null", clientEnd)
	said, err := client.StderrPipe()
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	log := ""
	for lines := bufio.NewScanner(said); !strings.Contains(log, "\nbound to ") && lines.Scan(); {
		log += lines.Text() + "\n"
	}
	_ = client.Process.Kill()
	_ = client.Wait()
	got, err := os.ReadFile(leaseFile)
	if err != nil || !strings.Contains(string(got), "fixed-address 192.0.2.") || !strings.Contains(string(got), "dhcp-server-identifier 192.0.2.10;") {
		t.Errorf("dhclient kept\n%s, %v, and said\n%s", got, err, log)
	}
}

func TestProxyOverACable(t *testing.T) {
	c := newCable(t)
	s := c.serve(func(cfg *Config) { cfg.Mode = ModeProxy })
	if out, err := exec.Command("ip", "-n", c.name, "address", "add", "192.0.2.91/24", "dev", clientEnd).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	err := c.inClient(func() error {
		// UEFI firmware asks from 4011 and hears only there.
		conn, err := net.ListenPacket("udp4", "192.0.2.91:4011")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.WriteTo(raw(optionsD4), &net.UDPAddr{IP: us.AsSlice(), Port: 4011}); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(patient))
		var buf [1500]byte
		n, from, err := conn.ReadFrom(buf[:])
		if err != nil {
			return err
		}
		p, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || p.BootFileName != loaderName || from.String() != "192.0.2.10:4011" {
			return fmt.Errorf("from %v: %v %v", from, p, err)
		}
		// An offer is broadcast, and an ordinary client hears none.
		ear, err := net.ListenPacket("udp4", "0.0.0.0:68")
		if err != nil {
			return err
		}
		defer ear.Close()
		for _, b := range [][]byte{message(1).bytes(), raw(optionsD2)} {
			if err := broadcastFrom(ear, b); err != nil {
				return err
			}
		}
		ear.SetReadDeadline(time.Now().Add(patient))
		n, from, err = ear.ReadFrom(buf[:])
		if err != nil {
			return err
		}
		p, err = dhcpv4.FromBytes(buf[:n])
		if err != nil || p.BootFileName != loaderName || from.String() != "192.0.2.10:67" {
			return fmt.Errorf("from %v: %v %v", from, p, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	c.stop() // a worker may still be at the packet that nobody is answered for
	if n := s.Counts(); n.Received != 3 || n.Sent != 2 || n.Ignored != 1 {
		t.Errorf("counts %+v; want 3 received, 2 sent, 1 ignored", n)
	}
}

func broadcastFrom(conn net.PacketConn, b []byte) error {
	_, err := conn.WriteTo(b, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 255), Port: 67})
	return err
}

func TestPortThatIsTaken(t *testing.T) {
	newCable(t)
	other, err := net.ListenPacket("udp4", ":67")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = Listen(Config{Interface: serverEnd, Mode: ModeServer, Loader: func(boot.Client) (string, bool) { return "", false }, Script: func(boot.Client) string { return "" }})
	if err == nil || !strings.Contains(err.Error(), "another DHCP server of this host has it") {
		t.Errorf("Listen = %v; want that the port is taken", err)
	}
	if _, err := Listen(Config{Interface: "none0"}); err == nil {
		t.Error("listened on an interface that does not exist")
	}
}
