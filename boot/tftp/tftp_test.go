package tftp

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/boot"
)

// A tree is files by name, and what was seen of their readers.
type tree struct {
	mu    sync.Mutex
	files map[string][]byte
	seen  chan boot.Sighting

	server *Server
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func (tr *tree) resolve(_ context.Context, name string, _ boot.Client) (boot.File, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	b, ok := tr.files[name]
	if !ok {
		return boot.File{}, boot.ErrNotFound
	}
	return boot.File{Size: int64(len(b)), Content: content{bytes.NewReader(b)}}, nil
}

// start serves files on a port of the loopback. Nothing is sent twice but where a test sets the beat: how busy a machine
// is must not count.
func start(t *testing.T, files map[string][]byte, edit func(*Server)) (*tree, netip.AddrPort) {
	t.Helper()
	tr := &tree{files: files, seen: make(chan boot.Sighting, 4096)}
	tr.server = New(Config{Resolve: tr.resolve, Observe: func(s boot.Sighting) { tr.seen <- s }})
	tr.server.beat = time.Hour
	if edit != nil {
		edit(tr.server)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.server.Serve(ctx, conn) }()
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

// plainly is a read of noise without options.
func plainly(b []byte) taken { return taken{bytes: b, blocks: len(b)/512 + 1, last: len(b) % 512} }

func TestBusyServerSaysSo(t *testing.T) {
	tr, addr := start(t, map[string][]byte{"x": noise(5000)}, func(s *Server) { s.cfg.MaxTransfers = 1 })
	first := connect(t, addr)
	first.ask(1, "x", "octet")
	first.want(1)
	if got := connect(t, addr).read("x", "octet"); got.err != "0 Server busy" {
		t.Errorf("second reader: %q; want busy", got.err)
	}
	if s := <-tr.seen; s.What != "refused" || s.Text != "server busy" {
		t.Errorf("seen %+v; want a refusal", s)
	}
	first.send([]byte("\x00\x05\x00\x00\x00"))
	<-tr.seen
	if got := connect(t, addr).read("x", "octet"); got.err != "" {
		t.Errorf("the place of a reader that left is not free: %q", got.err)
	}
}

func TestRepeatedRequestHasOneAnswer(t *testing.T) {
	tr, addr := start(t, map[string][]byte{"x": noise(600)}, nil)
	p := connect(t, addr)
	p.ask(1, "x", "octet", "tsize", "0")
	if op, _, _ := p.next(aWhile); op != 6 {
		t.Fatalf("operation %d; want OACK", op)
	}
	transfer := p.to
	p.to = addr
	p.ask(1, "x", "octet", "tsize", "0")
	if got := connectFrom(t, "127.0.0.2", addr).read("nowhere", "octet"); got.err == "" { // the port was read up to here
		t.Fatal("a missing file was served")
	}
	if again := p.waiting(); len(again) != 0 {
		t.Errorf("the repeated request was answered by %q", again)
	}
	if c := tr.server.Counts(); c.Repeated != 1 {
		t.Errorf("counts %+v; want one repeated", c)
	}
	p.to = transfer
	p.ack(0)
	p.want(1)
}

func TestLostPacketsAreSentAgain(t *testing.T) {
	file := noise(40 * 512)
	for _, row := range []struct {
		name  string
		words []string
	}{
		{"pin/tftp", []string{"x", "octet"}},
		{"our sender in lockstep", []string{"x", "octet", "blksize", "512"}},
		{"our sender with a window", []string{"x", "octet", "windowsize", "4"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, addr := start(t, map[string][]byte{"x": file}, func(s *Server) { s.beat = beat })
			lose := map[string]bool{"\x00\x03\x00\x05": true, "\x00\x04\x00\x0c": true} // a block, an acknowledgement
			r := through(t, addr, func(_ bool, b []byte) bool {                         // the relay's alone: the last acknowledgement passes when the file is read
				now := lose[string(b[:4])]
				delete(lose, string(b[:4]))
				return now
			})
			if got := connect(t, r.addr).read(row.words...); !bytes.Equal(got.bytes, file) {
				t.Errorf("%d of %d bytes arrived, error %q", len(got.bytes), len(file), got.err)
			}
			lost := 0
			for _, p := range r.packets() {
				if p.lost {
					lost++
				}
			}
			if lost != 2 {
				t.Errorf("%d packets were lost; want a block and an acknowledgement", lost)
			}
		})
	}
}

func TestServeReportsASocketThatFails(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- New(Config{}).Serve(context.Background(), conn) }()
	conn.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v; want %v", err, net.ErrClosed)
	}
}

func TestFileThatShrinks(t *testing.T) {
	for _, words := range [][]string{{"x", "octet"}, {"x", "octet", "blksize", "512"}} {
		_, addr := start(t, nil, func(s *Server) {
			s.cfg.Resolve = func(context.Context, string, boot.Client) (boot.File, error) {
				return boot.File{Size: 2000, Content: content{bytes.NewReader(noise(600))}}, nil
			}
		})
		if got := connect(t, addr).read(words...); got.err == "" {
			t.Errorf("a file that ended early was sent as whole: %d bytes", len(got.bytes))
		}
	}
}

func TestServerThatStopsTellsItsReaders(t *testing.T) {
	tr := &tree{files: map[string][]byte{"x": noise(5000)}, seen: make(chan boot.Sighting, 8)}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := New(Config{Resolve: tr.resolve, Observe: func(s boot.Sighting) { tr.seen <- s }})
	s.beat = time.Hour
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	p := connect(t, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	p.ask(1, "x", "octet", "blksize", "512")
	if op, _, _ := p.next(aWhile); op != 6 {
		t.Fatalf("operation %d; want OACK", op)
	}
	p.ack(0)
	p.want(1)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v; want nil", err)
	}
	if op, rest, err := p.next(aWhile); op != 5 || string(rest) != "\x00\x00Server stops\x00" {
		t.Errorf("the reader hears operation %d %q, %v", op, rest, err)
	}
	if s := <-tr.seen; !strings.HasPrefix(s.Text, "broken off: the server stops") {
		t.Errorf("seen %+v", s)
	}
}
