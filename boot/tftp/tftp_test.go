package tftp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
)

// A tree is files by name, and what was seen of their readers.
type tree struct {
	mu    sync.Mutex
	files map[string][]byte
	asked []string
	seen  chan boot.Sighting
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func (tr *tree) resolve(_ context.Context, name string, _ boot.Client) (boot.File, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.asked = append(tr.asked, name)
	b, ok := tr.files[name]
	if !ok {
		return boot.File{}, boot.ErrNotFound
	}
	return boot.File{Size: int64(len(b)), Content: content{bytes.NewReader(b)}}, nil
}

// names gives what the resolver was asked so far.
func (tr *tree) names() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]string(nil), tr.asked...)
}

// start serves files on a port of the loopback.
func start(t *testing.T, files map[string][]byte, edit func(*Config)) (*tree, netip.AddrPort) {
	t.Helper()
	tr := &tree{files: files, seen: make(chan boot.Sighting, 4096)}
	cfg := Config{Resolve: tr.resolve, Observe: func(s boot.Sighting) { tr.seen <- s }}
	if edit != nil {
		edit(&cfg)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(cfg).Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v; want nil when its context ends", err)
		}
	})
	return tr, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func TestReads(t *testing.T) {
	files := map[string][]byte{"x": noise(42430), "empty": nil, "even": noise(1024), "text": []byte("a\nb\n")}
	_, addr := start(t, files, nil)
	for _, row := range []struct {
		name  string
		words []string
		want  taken
	}{
		{"T1: iPXE reads 42,430 bytes", []string{"x", "octet", "tsize", "0", "blksize", "1432"},
			taken{options: map[string]string{"blksize": "1432", "tsize": "42430"}, bytes: files["x"], blocks: 30, last: 902}},
		{"T2: option names have no case", []string{"x", "OCTET", "BLKSIZE", "1408"},
			taken{options: map[string]string{"blksize": "1408"}, bytes: files["x"], blocks: 31, last: 190}},
		{"T2: a block is at most 1468 bytes", []string{"x", "octet", "blksize", "65464"},
			taken{options: map[string]string{"blksize": "1468"}, bytes: files["x"], blocks: 29, last: 1326}},
		{"T2: a block below 8 bytes is not taken", []string{"x", "octet", "blksize", "7"}, plain(files["x"])},
		{"T2: a block above 65464 bytes is not taken", []string{"x", "octet", "blksize", "65465"}, plain(files["x"])},
		{"T2: a block that is no number is not taken", []string{"x", "octet", "blksize", "abc"}, plain(files["x"])},
		{"T2: a window of 0 is not taken", []string{"x", "octet", "windowsize", "0"}, plain(files["x"])},
		{"a window is not offered, the rest of the request is", []string{"x", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4"},
			taken{options: map[string]string{"blksize": "1468", "tsize": "42430"}, bytes: files["x"], blocks: 29, last: 1326}},
		{"T4: an empty file has a size", []string{"empty", "octet", "tsize", "0"},
			taken{options: map[string]string{"tsize": "00"}, blocks: 1}},
		{"a file of whole blocks ends with an empty one", []string{"even", "octet"}, taken{bytes: files["even"], blocks: 3}},
		{"T16: an option unknown here is as if not asked", []string{"x", "octet", "foo", "1"}, plain(files["x"])},
		{"the first of two equal options counts", []string{"x", "octet", "blksize", "1024", "blksize", "600"},
			taken{options: map[string]string{"blksize": "1024"}, bytes: files["x"], blocks: 42, last: 446}},
		{"text mode writes line ends as the network does", []string{"text", "netascii", "tsize", "0"},
			taken{bytes: []byte("a\r\nb\r\n"), blocks: 1, last: 6}},
		{"a missing file is one error", []string{"nowhere", "octet"}, taken{err: "1 File not found"}},
		{"mail is refused", []string{"x", "mail"}, taken{err: "4 Unknown transfer mode"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := dial(t, addr).read(row.words...)
			if d := cmp.Diff(row.want, got, cmp.AllowUnexported(taken{})); d != "" {
				t.Errorf("read %q (-want +got):\n%.2000s", row.words, d)
			}
		})
	}
}

// plain is a read of noise without options.
func plain(b []byte) taken { return taken{bytes: b, blocks: len(b)/512 + 1, last: len(b) % 512} }

func TestNumbersWrap(t *testing.T) { // T8
	if testing.Short() {
		t.Skip("reads 34 MB")
	}
	big := noise(65600 * 512)
	_, addr := start(t, map[string][]byte{"big": big}, nil)
	got := dial(t, addr).read("big", "octet", "blksize", "512", "tsize", "0")
	if got.blocks != 65601 || sha256.Sum256(got.bytes) != sha256.Sum256(big) {
		t.Errorf("read of 65,600 blocks gave %d blocks, %d bytes", got.blocks, len(got.bytes))
	}
}

func TestNamesOfOtherPlaces(t *testing.T) {
	files := map[string][]byte{"boot/bcd": []byte("bcd"), "pxelinux.0": []byte("pxe"), "grub/grub.cfg": []byte("cfg")}
	tr, addr := start(t, files, nil)
	for _, row := range []struct{ name, ask, want string }{
		{"T10: Windows asks in its own way", `\Boot\BCD`, "bcd"},
		{"T11: the root of another server is dropped", "/var/tftpboot/pxelinux.0", "pxe"},
		{"GRUB doubles slashes", "//grub//grub.cfg", "cfg"},
		{"an old ROM leaves a byte", "pxelinux.0\xff", "pxe"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := dial(t, addr).read(row.ask, "octet"); string(got.bytes) != row.want {
				t.Errorf("read %q = %q, error %q; want %q", row.ask, got.bytes, got.err, row.want)
			}
			<-tr.seen
		})
	}
}

func TestNamesThatLeadOut(t *testing.T) { // T12
	tr, addr := start(t, nil, nil)
	for _, raw := range []string{"../../etc/passwd", "a/../../b", `..\x`, string(bytes.Repeat([]byte("n"), 400)), "a\nb", "/"} {
		if got := dial(t, addr).read(raw, "octet"); got.err != "1 File not found" {
			t.Errorf("read %q = %q; want ERROR 1", raw, got.err)
		}
		if s := <-tr.seen; s.What != "miss" {
			t.Errorf("read %q seen as %q; want a miss", raw, s.What)
		}
	}
	if got := tr.names(); len(got) != 0 {
		t.Errorf("resolver was asked %q; want nothing", got)
	}
	if got := dial(t, addr).read("%2e%2e/x", "octet"); got.err != "1 File not found" || len(tr.names()) == 0 {
		t.Errorf("read %%2e%%2e/x = %q, asked %q; want a plain miss", got.err, tr.names())
	}
}

func TestMissIsSaidOnce(t *testing.T) { // T13
	_, addr := start(t, nil, nil)
	p := dial(t, addr)
	if got := p.read("boot/updateDrivers.tgz", "octet"); got.err == "" {
		t.Fatalf("read of an absent file gave %+v", got)
	}
	if op, rest, err := p.next(1500 * time.Millisecond); err == nil {
		t.Errorf("after the error came operation %d %q; want silence", op, rest)
	}
}

func TestRefusals(t *testing.T) { // T17
	for _, row := range []struct {
		name   string
		packet string
		want   string // "": silence
	}{
		{"a write is refused", "\x00\x02f\x00octet\x00", "\x00\x02Access violation\x00"},
		{"a request without its last zero is illegal", "\x00\x01f\x00octet", "\x00\x04Illegal TFTP operation\x00"},
		{"a request of 600 bytes is illegal", "\x00\x01" + string(bytes.Repeat([]byte("f"), 600)) + "\x00octet\x00", "\x00\x04Illegal TFTP operation\x00"},
		{"a request without a name is illegal", "\x00\x01\x00octet\x00", "\x00\x04Illegal TFTP operation\x00"},
		{"an error is never answered", "\x00\x05\x00\x00x\x00", ""},
		{"a stray acknowledgement is not answered", "\x00\x04\x00\x01", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, addr := start(t, nil, nil)
			p := dial(t, addr)
			p.send([]byte(row.packet))
			wait := patient
			if row.want == "" {
				wait = 200 * time.Millisecond
			}
			if _, rest, _ := p.next(wait); string(rest) != row.want {
				t.Errorf("answer %q; want %q", rest, row.want)
			}
		})
	}
}

func TestProbeIsNoFailure(t *testing.T) { // T9
	tr, addr := start(t, map[string][]byte{"x": noise(5000)}, nil)
	p := dial(t, addr)
	p.ask(1, "x", "octet", "tsize", "0")
	if op, _, err := p.next(patient); op != 6 {
		t.Fatalf("answer %d, %v; want OACK", op, err)
	}
	p.send([]byte("\x00\x05\x00\x08User aborted the transfer\x00"))
	if s := <-tr.seen; s.What != "read" || s.Bytes != 0 || s.Text != "probe: the client broke off" {
		t.Errorf("seen %+v; want a probe", s)
	}
}

func TestReadersAreKnown(t *testing.T) {
	who := boot.Client{MAC: boot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Addr: netip.MustParseAddr("127.0.0.1")}
	tr, addr := start(t, map[string][]byte{"x": noise(5000)}, func(c *Config) {
		c.Client = func(a netip.Addr) boot.Client {
			if a != who.Addr {
				t.Errorf("asked who %v is; want %v", a, who.Addr)
			}
			return who
		}
	})
	dial(t, addr).read("/x", "octet")
	got := <-tr.seen
	want := boot.Sighting{Time: got.Time, Client: who, Proto: "tftp", What: "read", Name: "x", Bytes: 5000, Text: got.Text}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("sighting (-want +got):\n%s", d)
	}
}

func TestSourceThatNeverAnswers(t *testing.T) { // T15
	_, addr := start(t, map[string][]byte{"x": noise(5000)}, nil)
	p := dial(t, addr)
	for range 50 {
		p.to = addr
		p.ask(1, "x", "octet", "tsize", "0", "blksize", "1024")
	}
	p.to = addr
	p.send([]byte("\x00\x01f\x00octet")) // answered in its turn: all before it have been decided then
	transfers, decided := map[netip.AddrPort]bool{}, false
	for wait := patient; ; {
		op, rest, err := p.next(wait)
		switch {
		case err != nil && decided:
			if len(transfers) != 4 {
				t.Errorf("%d transfers were started for a source that never answers; want 4", len(transfers))
			}
			return
		case err != nil:
			t.Fatalf("%d transfers and no answer to the last request: %v", len(transfers), err)
		case op == 5:
			decided = true
		case len(rest)+2 > len("\x00\x01x\x00octet\x00tsize\x000\x00blksize\x001024\x00"):
			t.Errorf("answer of %d bytes to a smaller request", len(rest)+2)
		default:
			transfers[p.to] = true // each has a port of its own, from which it also says the same again
		}
		if decided && len(transfers) >= 4 {
			wait = 300 * time.Millisecond // for one too many
		}
	}
}

func TestBusyServerSaysSo(t *testing.T) {
	_, addr := start(t, map[string][]byte{"x": noise(5000)}, func(c *Config) { c.MaxTransfers = 1 })
	first := dial(t, addr)
	first.ask(1, "x", "octet")
	if op, _, err := first.next(patient); op != 3 {
		t.Fatalf("first reader: operation %d, %v; want DATA", op, err)
	}
	if got := dial(t, addr).read("x", "octet"); got.err != "0 Server busy" {
		t.Errorf("second reader: %q; want busy", got.err)
	}
	first.send([]byte("\x00\x05\x00\x00\x00"))
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // no more than a source may ask
		if got := dial(t, addr).read("x", "octet"); got.err == "" {
			return
		}
	}
	t.Error("the place of a reader that left is never free again")
}

func TestLostBlockIsSentAgain(t *testing.T) {
	_, addr := start(t, map[string][]byte{"x": []byte("hello")}, nil)
	p := dial(t, addr)
	p.ask(1, "x", "octet")
	for range 2 { // the first is "lost"
		if op, rest, err := p.next(patient); op != 3 || string(rest) != "\x00\x01hello" {
			t.Fatalf("got operation %d %q, %v; want DATA 1", op, rest, err)
		}
	}
	p.ack(1)
}

func TestServeReportsASocketThatFails(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- New(Config{}).Serve(context.Background(), conn) }()
	p := dial(t, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	p.send([]byte("\x00\x02f\x00octet\x00"))
	if op, _, err := p.next(patient); op != 5 {
		t.Fatalf("operation %d, %v; want that it serves", op, err)
	}
	conn.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v; want %v", err, net.ErrClosed)
	}
}

func TestFileThatShrinks(t *testing.T) {
	_, addr := start(t, nil, func(c *Config) {
		c.Resolve = func(context.Context, string, boot.Client) (boot.File, error) {
			return boot.File{Size: 2000, Content: content{bytes.NewReader(noise(600))}}, nil
		}
	})
	if got := dial(t, addr).read("x", "octet"); got.err == "" {
		t.Errorf("a file that ended early was sent as whole: %d bytes", len(got.bytes))
	}
}

func TestOtherClients(t *testing.T) {
	want := noise(200_000)
	_, addr := start(t, map[string][]byte{"dir/x": want}, nil)
	port := strconv.Itoa(int(addr.Port()))
	for _, row := range []struct {
		program string
		args    func(out string) []string
	}{
		{"curl", func(out string) []string { return []string{"-s", "-o", out, "tftp://127.0.0.1:" + port + "//dir/x"} }},
		{"tftp", func(out string) []string {
			return []string{"-m", "binary", "127.0.0.1", port, "-c", "get", "/dir/x", out}
		}},
		{"busybox", func(out string) []string {
			return []string{"tftp", "-g", "-b", "1432", "-l", out, "-r", "dir/x", "127.0.0.1", port}
		}},
	} {
		t.Run(row.program, func(t *testing.T) {
			if _, err := exec.LookPath(row.program); err != nil {
				t.Skip("not installed")
			}
			out := filepath.Join(t.TempDir(), "x")
			if b, err := exec.Command(row.program, row.args(out)...).CombinedOutput(); err != nil {
				t.Skipf("%s cannot read by TFTP here: %v %s", row.program, err, b)
			}
			f, err := os.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, _ := io.ReadAll(f); !bytes.Equal(got, want) {
				t.Errorf("%s read %d bytes; want %d equal ones", row.program, len(got), len(want))
			}
		})
	}
}
