package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"muster/boot"
	"muster/boot/tftp"
)

// A tftpPeer is a server of the bench, on an address of the loopback of its own.
type tftpPeer struct {
	name    string
	addr    string
	args    func(program, root string) []string
	program string // "": this test
}

var tftpPeers = []tftpPeer{
	{name: "muster", addr: "127.0.0.2:69"},
	{name: "tftpd-hpa", addr: "127.0.0.3:69", program: "in.tftpd", args: func(p, root string) []string {
		return []string{p, "--foreground", "--listen", "--address", "127.0.0.3:69", "--user", "root", "--secure", root}
	}},
	{name: "atftpd", addr: "127.0.0.4:69", program: "atftpd", args: func(p, root string) []string {
		return []string{p, "--daemon", "--no-fork", "--bind-address", "127.0.0.4", "--port", "69", "--user", "root.root", "--maxthread", "200", "--logfile", "/dev/null", root}
	}},
	{name: "dnsmasq", addr: "127.0.0.5:69", program: "dnsmasq", args: func(p, root string) []string {
		return []string{p, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--listen-address=127.0.0.5", "--bind-interfaces", "--enable-tftp",
			"--tftp-root=" + root, "--tftp-max=200", "--user=root", "--pid-file=", "--log-facility=/dev/null"}
	}},
}

// A tftpCell is one way of reading, the same for all servers.
type tftpCell struct{ block, window, clients int }

func tftpCells() (cells []tftpCell) {
	for _, clients := range []int{1, 32} {
		for _, block := range []int{512, 1428, 1468, 8192, 65464} {
			for _, window := range []int{1, 4, 16, 64} {
				if block*window <= 1<<20 { // what a socket's buffer can be made to hold
					cells = append(cells, tftpCell{block, window, clients})
				}
			}
		}
	}
	return cells
}

// bytes is how much one client reads in one round: enough for tenths of a second.
func (c tftpCell) bytes() int {
	return min(max(c.block*c.window, 4096)*1024, 32<<20) / c.clients &^ 4095
}

const tftpBenchInside = "MUSTER_BENCH_INSIDE"

// TestBenchTFTP is the TFTP part of make bench-boot. It runs again in a network namespace of its own, where port 69 is
// free. It says nothing about good or bad: the table is for people. Peers that are not installed are left out.
func TestBenchTFTP(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-boot")
	}
	switch inside := os.Getenv(tftpBenchInside); inside {
	case "":
		for _, p := range tftpPeers { // where there still is a network
			if _, err := peerProgram(t, p); p.program != "" && err != nil {
				t.Logf("%s will be left out: %v", p.name, err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-ec", `ip link set lo up; ip addr add 192.0.2.1/24 dev lo; exec "$@"`, "sh",
			os.Args[0], "-test.run=^TestBenchTFTP$", "-test.v", "-test.timeout=100m")
		cmd.Env = append(os.Environ(), tftpBenchInside+"=client")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	case "client":
		benchTFTP(t)
	default:
		serveTFTP(t, inside)
	}
}

// serveTFTP is muster's server, in a process like the others, with the resolver and the limits of muster serve but for
// the size of a block, which the loopback allows, and the number of readers at one address.
func serveTFTP(t *testing.T, dir string) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := boot.New(boot.Config{BaseURL: "http://127.0.0.2", Source: noSteps{}, Files: root})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tftpPeers[0].addr)))
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(ctx context.Context, name string, c boot.Client) (boot.File, error) {
		return files.Resolve(ctx, "boot/f/"+name, c)
	}
	if err := tftp.New(tftp.Config{Resolve: resolve, MaxBlock: 65464}).Serve(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
}

type noSteps struct{}

// Next implements boot.Source.
func (noSteps) Next(context.Context, boot.Client) (boot.Step, error) {
	return boot.Step{}, errors.New("the bench boots nothing")
}

func benchTFTP(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	rounds := benchRounds(5)
	peers := startTFTP(t, root)
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "MB/s, median of %d (least-most)\nBLOCK\tWINDOW\tCLIENTS", rounds)
	for _, p := range peers {
		fmt.Fprint(table, "\t"+p.name)
	}
	fmt.Fprintln(table, "\tto the best peer\t")
	for _, c := range tftpCells() {
		rates := make([][]float64, len(peers))
		want := c.file(t, root)
		for i, p := range peers { // warm, and what a server does not offer is asked only once
			if _, err := c.round(p.addr, want); err != nil && !errors.Is(err, errNotOffered) {
				t.Logf("%s at %+v: %v", p.name, c, err)
			} else if err == nil {
				rates[i] = make([]float64, 0, rounds)
			}
		}
		for range rounds {
			for i, p := range peers {
				if rates[i] == nil {
					continue
				}
				rate, err := c.round(p.addr, want)
				if err != nil {
					t.Logf("%s at %+v: %v", p.name, c, err)
					continue
				}
				rates[i] = append(rates[i], rate)
			}
		}
		c.print(table, rates)
	}
	table.Flush()
	t.Log("\n" + out.String())
}

// benchRounds is how often each peer has its turn: so often unless MUSTER_BENCH_ROUNDS says otherwise.
func benchRounds(normal int) int {
	if n, err := strconv.Atoi(os.Getenv("MUSTER_BENCH_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return normal
}

var errNotOffered = errors.New("not offered")

// startTFTP starts all servers that are here, and ends them with the test.
func startTFTP(t *testing.T, root string) (peers []tftpPeer) {
	for _, p := range tftpPeers {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBenchTFTP$", "-test.timeout=100m")
		cmd.Env = append(os.Environ(), tftpBenchInside+"="+root)
		if p.program != "" {
			path, err := peerProgram(t, p)
			if err != nil {
				t.Logf("%s is left out: %v", p.name, err)
				continue
			}
			args := p.args(path, root)
			cmd = exec.CommandContext(t.Context(), args[0], args[1:]...)
		}
		cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		peers = append(peers, p)
	}
	return peers
}

// peerProgram finds a server, or unpacks its package into the cache: Debian lets only one of tftpd-hpa and atftpd be installed.
func peerProgram(t *testing.T, p tftpPeer) (string, error) {
	if path, err := exec.LookPath(p.program); err == nil {
		return path, nil
	}
	dir := filepath.Join(labCache(), "tftp", p.name)
	program := filepath.Join(dir, "usr/sbin", p.program)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	const script = `mkdir -p $1 && cd $1 && apt-get download -q -o APT::Sandbox::User=root $2 && dpkg-deb -x $2_*.deb .`
	if said, err := exec.CommandContext(t.Context(), "sh", "-ec", script, "sh", dir, p.name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("not installed, and apt-get download: %w: %s", err, said)
	}
	return program, nil
}

// file writes what the cell reads and gives its sum.
func (c tftpCell) file(t *testing.T, root string) [sha256.Size]byte {
	b := make([]byte, c.bytes()+1)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	name := filepath.Join(root, "file")
	_ = os.Remove(name) // dnsmasq would find it in the hands of readers that went away
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// round lets all clients read once, and gives MB/s of all. Sums are checked outside of the time.
func (c tftpCell) round(addr string, want [sha256.Size]byte) (float64, error) {
	var wg sync.WaitGroup
	errs, got := make([]error, c.clients), make([][]byte, c.clients)
	for i := range got {
		got[i] = make([]byte, 0, c.bytes()+c.block)
	}
	began := time.Now()
	for i := range c.clients {
		wg.Go(func() { got[i], errs[i] = c.read(addr, i, got[i]) })
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	for i, b := range got {
		if errs[i] == nil && sha256.Sum256(b) != want {
			errs[i] = errors.New("other bytes arrived")
		}
	}
	return float64(c.clients*(c.bytes()+1)) / took / 1e6, cmp.Or(errs...)
}

// read is the client: a socket that blocks, so that no scheduler of ours stands between two packets.
// Each has an address of its own, as machines have.
func (c tftpCell) read(addr string, number int, into []byte) ([]byte, error) {
	to := netip.MustParseAddrPort(addr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // a smaller one loses packets of long windows
	patience := unix.NsecToTimeval(int64(2 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(number + 1)}}); err != nil {
		return nil, err
	}
	request := fmt.Sprintf("\x00\x01file\x00octet\x00blksize\x00%d\x00", c.block)
	if c.window > 1 {
		request += fmt.Sprintf("windowsize\x00%d\x00", c.window)
	}
	if err := unix.Sendto(fd, []byte(request), 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	if err := c.agreed(fd); err != nil {
		return nil, err
	}
	return c.blocks(fd, into)
}

// agreed takes the OACK, and the port it came from.
func (c tftpCell) agreed(fd int) error {
	buf := make([]byte, 1500)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	for err == unix.EINTR { // Go's own signals
		n, from, err = unix.Recvfrom(fd, buf, 0)
	}
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if n < 2 || buf[1] != 6 {
		return fmt.Errorf("answer %q", buf[:n])
	}
	words := strings.Split(strings.ToLower(string(buf[2:n])), "\x00")
	for i, w := range words {
		if w == "blksize" && words[i+1] == strconv.Itoa(c.block) || w == "windowsize" && words[i+1] == strconv.Itoa(c.window) {
			words[i] = "agreed"
		}
	}
	if want := min(c.window, 2); strings.Count(strings.Join(words, " "), "agreed") != want {
		return fmt.Errorf("%w: %q", errNotOffered, buf[2:n])
	}
	return unix.Connect(fd, from)
}

func (c tftpCell) blocks(fd int, into []byte) ([]byte, error) {
	ack := []byte{0, 4, 0, 0}
	buf := make([]byte, 4+c.block)
	if _, err := unix.Write(fd, ack); err != nil {
		return nil, err
	}
	have, acked := 0, 0
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, fmt.Errorf("after block %d: %w", have, err)
		case n < 4 || buf[1] != 3:
			return nil, fmt.Errorf("after block %d: %.100q", have, buf[:n])
		case binary.BigEndian.Uint16(buf[2:]) != uint16(have+1):
			acked = have // RFC 7440: the window starts again behind the last block before the gap
		default:
			have++
			into = append(into, buf[4:n]...)
			if n == 4+c.block && have-acked < c.window {
				continue
			}
			acked = have
		}
		binary.BigEndian.PutUint16(ack[2:], uint16(have))
		if _, err := unix.Write(fd, ack); err != nil {
			return nil, err
		}
		if n < 4+c.block && acked == have {
			return into, nil
		}
	}
}

func (c tftpCell) print(w io.Writer, rates [][]float64) {
	fmt.Fprintf(w, "%d\t%d\t%d", c.block, c.window, c.clients)
	best := 0.0
	for i, r := range rates {
		if len(r) == 0 {
			fmt.Fprint(w, "\t-")
			continue
		}
		slices.Sort(r)
		fmt.Fprintf(w, "\t%.1f (%.0f-%.0f)", r[len(r)/2], r[0], r[len(r)-1])
		if i > 0 {
			best = max(best, r[len(r)/2])
		}
	}
	if best == 0 || len(rates[0]) == 0 {
		fmt.Fprintln(w, "\t-\t")
		return
	}
	fmt.Fprintf(w, "\t%.2f\t\n", rates[0][len(rates[0])/2]/best)
}
