package tftp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
)

// The golden cases of TFTP by their ids.

func TestReads(t *testing.T) { // T1 to T5, T16
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
		{"T2: a block of 8 bytes is served", []string{"text", "octet", "blksize", "8"},
			taken{options: map[string]string{"blksize": "8"}, bytes: files["text"], blocks: 1, last: 4}},
		{"T2: a block below 8 bytes is not taken", []string{"x", "octet", "blksize", "7"}, plainly(files["x"])},
		{"T2: a block above 65464 bytes is not taken", []string{"x", "octet", "blksize", "65465"}, plainly(files["x"])},
		{"T2: a block that is no number is not taken", []string{"x", "octet", "blksize", "abc"}, plainly(files["x"])},
		{"T2: a window of 0 is not taken", []string{"x", "octet", "windowsize", "0"}, plainly(files["x"])},
		{"T2: a window is at most 64 blocks", []string{"x", "octet", "windowsize", "65535"},
			taken{options: map[string]string{"windowsize": "64"}, bytes: files["x"], blocks: 83, last: 446}},
		{"T4: an empty file has a size", []string{"empty", "octet", "tsize", "0"},
			taken{options: map[string]string{"tsize": "0"}, blocks: 1}},
		{"a file of whole blocks ends with an empty one", []string{"even", "octet"}, taken{bytes: files["even"], blocks: 3}},
		{"a file of whole windows ends with an empty block", []string{"even", "octet", "windowsize", "2"},
			taken{options: map[string]string{"windowsize": "2"}, bytes: files["even"], blocks: 3}},
		{"T16: an option unknown here is as if not asked", []string{"x", "octet", "foo", "1"}, plainly(files["x"])},
		{"T16: a timeout is echoed", []string{"x", "octet", "timeout", "3"},
			taken{options: map[string]string{"timeout": "3"}, bytes: files["x"], blocks: 83, last: 446}},
		{"T16: a timeout that would hold a place for minutes is not taken", []string{"x", "octet", "timeout", "255"}, plainly(files["x"])},
		{"the first of two equal options counts", []string{"x", "octet", "blksize", "1024", "blksize", "600"},
			taken{options: map[string]string{"blksize": "1024"}, bytes: files["x"], blocks: 42, last: 446}},
		{"text mode writes line ends as the network does", []string{"text", "netascii", "tsize", "0"},
			taken{bytes: []byte("a\r\nb\r\n"), blocks: 1, last: 6}},
		{"text mode has options too", []string{"text", "netascii", "tsize", "0", "blksize", "8"},
			taken{options: map[string]string{"blksize": "8"}, bytes: []byte("a\r\nb\r\n"), blocks: 1, last: 6}},
		{"mail is refused", []string{"x", "mail"}, taken{err: "4 Unknown transfer mode"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := connect(t, addr).read(row.words...)
			if d := cmp.Diff(row.want, got, cmp.AllowUnexported(taken{})); d != "" {
				t.Errorf("read %q (-want +got):\n%.2000s", row.words, d)
			}
		})
	}
}

func TestT5Window(t *testing.T) {
	file := noise(1_048_504)
	_, addr := start(t, map[string][]byte{"shimx64.efi": file}, nil)
	p := connect(t, addr)
	got := p.read("shimx64.efi", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4")
	if got.blocks != 715 || p.acks != 179 || !bytes.Equal(got.bytes, file) {
		t.Errorf("%d blocks, %d acknowledgements, %d bytes; want 715, 179 and the file", got.blocks, p.acks, len(got.bytes))
	}
	if got := connect(t, addr).read("shimx64.efi", "octet", "windowsize", "4"); got.options["windowsize"] != "4" || !bytes.Equal(got.bytes, file) {
		t.Errorf("shim's own read: %v, %d bytes", got.options, len(got.bytes)) // windowsize without tsize
	}
}

func TestT6LostBlockInAWindow(t *testing.T) {
	file := noise(12*512 + 1)
	tr, addr := start(t, map[string][]byte{"x": file}, nil)
	lost := false
	r := through(t, addr, func(_ bool, b []byte) bool {
		if string(b[:4]) != "\x00\x03\x00\x06" || lost {
			return false
		}
		lost = true
		return true
	})
	got := connect(t, r.addr).read("x", "octet", "windowsize", "4")
	if !bytes.Equal(got.bytes, file) {
		t.Errorf("%d bytes arrived; want the file", len(got.bytes))
	}
	<-tr.seen // the last acknowledgement has passed, too
	want := []uint16{1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8, 9, 10, 11, 12, 13}
	if d := cmp.Diff(want, r.blocks(3)); d != "" {
		t.Errorf("blocks sent (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]uint16{0, 4, 5, 9, 13}, r.blocks(4)); d != "" {
		t.Errorf("acknowledgements (-want +got):\n%s", d)
	}
}

func TestT7DuplicateAcknowledgement(t *testing.T) {
	for _, options := range [][]string{nil, {"blksize", "512"}} { // pin/tftp, our sender
		_, addr := start(t, map[string][]byte{"x": noise(20 * 512)}, nil)
		p := connect(t, addr)
		p.ask(1, append([]string{"x", "octet"}, options...)...)
		if options != nil {
			p.next(aWhile)
			p.ack(0)
		}
		for b := range uint16(10) {
			p.want(b + 1)
			if b < 9 {
				p.ack(b + 1)
			}
		}
		p.ack(9)
		p.ack(9)
		p.ack(10)
		p.want(11) // and not 10 again
	}
}

func TestT8NumbersWrap(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 300 MB")
	}
	for _, row := range []struct {
		name   string
		size   int64
		words  []string
		blocks int
	}{
		{"100 MB in lockstep", 100_000_000, []string{"big", "octet", "tsize", "0", "blksize", "1432"}, 69_833},
		{"200 MB in windows", 200_000_000, []string{"big", "octet", "tsize", "0", "blksize", "1468", "windowsize", "16"}, 136_240},
		{"34 MB without options", 65_600 * 512, []string{"big", "octet"}, 65_601},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, addr := start(t, nil, func(s *Server) {
				s.cfg.Resolve = func(context.Context, string, boot.Client) (boot.File, error) {
					return boot.File{Size: row.size, Content: &pattern{size: row.size}}, nil
				}
			})
			p := connect(t, addr)
			p.into = sha256.New()
			got := p.read(row.words...)
			want := sha256.New()
			for f, buf := (&pattern{size: row.size}), make([]byte, 1<<16); ; {
				n, err := f.Read(buf)
				if err != nil {
					break
				}
				want.Write(buf[:n])
			}
			if got.blocks != row.blocks || !bytes.Equal(p.into.Sum(nil), want.Sum(nil)) {
				t.Errorf("%d blocks, want %d; the sums are equal: %t", got.blocks, row.blocks, bytes.Equal(p.into.Sum(nil), want.Sum(nil)))
			}
		})
	}
}

func TestT9ProbeIsNoFailure(t *testing.T) {
	tr, addr := start(t, map[string][]byte{"x": noise(5000)}, nil)
	for _, row := range []struct {
		name, packet, want string
		options            []string
	}{
		{"UEFI breaks off after the size", "\x00\x05\x00\x08User aborted the transfer\x00", "probe: the client broke off", []string{"tsize", "0"}},
		{"pxelinux closes", "\x00\x05\x00\x00No error, file close\x00", "probe: the client broke off", []string{"tsize", "0"}},
		{"a read without options is closed", "\x00\x05\x00\x00closed\x00", "probe: the client broke off", nil},
		{"a full disk is a fault", "\x00\x05\x00\x03disk\x07full\x00", `the client gave up: error 3 "disk\afull"`, []string{"tsize", "0"}},
		{"so is one of a read without options", "\x00\x05\x00\x03full\x00", `the client gave up: error 3 ""`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := connect(t, addr)
			p.ask(1, append([]string{"x", "octet"}, row.options...)...)
			if _, _, err := p.next(aWhile); err != nil {
				t.Fatal("no answer")
			}
			p.send([]byte(row.packet))
			if s := <-tr.seen; s.What != "read" || s.Text != row.want {
				t.Errorf("seen %+v; want %q", s, row.want)
			}
		})
	}
	if c := tr.server.Counts(); c.Probed != 3 || c.Aborted != 2 {
		t.Errorf("counts %+v; want 3 probed and 2 aborted", c)
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
			if got := connect(t, addr).read(row.ask, "octet"); string(got.bytes) != row.want {
				t.Errorf("read %q = %q, error %q; want %q", row.ask, got.bytes, got.err, row.want)
			}
			if s := <-tr.seen; s.Bytes != 3 || !strings.HasPrefix(s.Text, "sent in ") {
				t.Errorf("seen %+v; want 3 bytes sent", s)
			}
		})
	}
}

// noSource decides nothing: the names of these tests lead to no script.
type noSource struct{ boot.Source }

func TestT12NamesThatLeadOut(t *testing.T) {
	dir := t.TempDir()
	canary := filepath.Join(dir, "canary")
	if err := os.WriteFile(canary, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "../canary", "absolute": canary, "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, "root", name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	resolver, err := boot.New(boot.Config{BaseURL: "http://192.0.2.10", Source: noSource{}, Files: root, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 100)
	tr, addr := start(t, nil, func(s *Server) {
		s.cfg.Resolve = func(ctx context.Context, name string, c boot.Client) (boot.File, error) {
			asked <- name
			return resolver.Resolve(ctx, name, c)
		}
	})
	for _, row := range []struct {
		name, raw string
		asks      bool
	}{
		{"up", "../../etc/passwd", false},
		{"up inside", "a/../../b", false},
		{"up in Windows' way", `..\x`, false},
		{"512 bytes", strings.Repeat("n", 512), false},
		{"a line end", "a\nb", false},
		{"nothing but the root", "/", false},
		{"a link out of the root", "boot/f/link", true},
		{"an absolute link", "boot/f/absolute", true},
		{"a way through a link", "boot/f/up/canary", true},
		{"the root's neighbour", "boot/f-x/canary", true},
		{"an escape is a name", "%2e%2e/x", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := connect(t, addr).read(row.raw, "octet"); got.err != "1 File not found" {
				t.Errorf("read %q = %q, error %q; want ERROR 1", row.raw, got.bytes, got.err)
			}
			if s := <-tr.seen; s.What != "miss" {
				t.Errorf("seen as %q; want a miss", s.What)
			}
			if (len(asked) > 0) != row.asks {
				t.Errorf("the resolver was asked %d names", len(asked))
			}
			for len(asked) > 0 {
				<-asked
			}
		})
	}
}

func TestT13MissIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	tr, addr := start(t, nil, func(s *Server) {
		s.cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	p := connect(t, addr)
	for _, name := range []string{"boot/updateDrivers.tgz", "kernel"} {
		p.to = addr
		if got := p.read(name, "octet", "tsize", "0"); got.err != "1 File not found" {
			t.Fatalf("read of an absent file gave %+v", got)
		}
		if s := <-tr.seen; s.What != "miss" || s.Name != name || s.Text != "no such file" {
			t.Errorf("seen %+v; want a miss", s)
		}
	}
	if more := p.waiting(); len(more) != 0 {
		t.Errorf("after the errors came %q; want silence", more)
	}
	for _, want := range []string{"level=DEBUG msg=\"tftp miss\" name=boot/updateDrivers.tgz", "level=INFO msg=\"tftp miss\" name=kernel"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log:\n%s\nwant %s", log.String(), want)
		}
	}
}

func TestT14OnlyFrom(t *testing.T) {
	tr, addr := start(t, map[string][]byte{"x": noise(600)}, func(s *Server) {
		s.cfg.OnlyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.2/32")}
	})
	stranger := connect(t, addr)
	for range 20 { // as many as surely fit the port's buffer
		stranger.to = addr
		stranger.ask(1, "x", "octet", "tsize", "0")
		stranger.ask(2, "x", "octet")
		stranger.ask(1, "nowhere", "octet")
	}
	if s := <-tr.seen; s.What != "refused" || s.Text != "outside of only_from" || s.Client.Addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("seen %+v; want a refusal", s)
	}
	if got := connectFrom(t, "127.0.0.2", addr).read("x", "octet", "blksize", "1000"); got.blocks != 1 {
		t.Errorf("who is permitted got %+v", got)
	}
	if heard := stranger.waiting(); len(heard) != 0 {
		t.Errorf("the stranger heard %q; want nothing", heard)
	}
	if c := tr.server.Counts(); c.Ignored == 0 || c.Ignored != c.Received-1 {
		t.Errorf("counts %+v; want all but one ignored", c)
	}
}

func TestT15SourceThatNeverAnswers(t *testing.T) {
	for _, row := range []struct {
		name    string
		options []string
	}{
		{"with options each answer is no longer than its request", []string{"tsize", "0", "blksize", "1024", "windowsize", "64"}},
		{"without options", nil},
	} {
		words := append([]string{"x", "octet"}, row.options...)
		t.Run(row.name, func(t *testing.T) {
			_, addr := start(t, map[string][]byte{"x": noise(5000)}, nil)
			p := connect(t, addr)
			for i := range 1000 {
				p.to = addr
				p.ask(1, append(words, "n", strings.Repeat("1", i%100))...) // no request is like the one before
				if i%50 == 49 {
					connectFrom(t, "127.0.0.2", addr).read("nowhere", "octet") // the port was read up to here
				}
			}
			if heard := p.heard(4); len(heard) != 4 {
				t.Errorf("%d answers for a source that never answers; want 4", len(heard))
			}
		})
		t.Run(row.name+", each is sent three times", func(t *testing.T) {
			tr, addr := start(t, map[string][]byte{"x": noise(5000)}, func(s *Server) { s.beat = 2 * time.Millisecond })
			p := connect(t, addr)
			p.ask(1, words...)
			if s := <-tr.seen; !strings.HasPrefix(s.Text, "timed out: ") || s.Bytes != 0 && row.options != nil {
				t.Errorf("seen %+v; want a time-out", s)
			}
			heard := p.heard(3)
			for _, b := range heard {
				if row.options != nil && len(b) > len(packet(1, words...)) {
					t.Errorf("answer of %d bytes to a request of %d", len(b), len(packet(1, words...)))
				}
			}
			if len(heard) != 3 || !slices.EqualFunc(heard[1:], heard[:2], bytes.Equal) {
				t.Errorf("heard %.40q; want one packet three times", heard)
			}
		})
	}
}

func TestT17Refusals(t *testing.T) {
	for _, row := range []struct {
		name   string
		packet string
		want   string // "": silence
	}{
		{"a write is refused", "\x00\x02f\x00octet\x00", "\x00\x05\x00\x02Access violation\x00"},
		{"a request without its last zero is illegal", "\x00\x01f\x00octet", "\x00\x05\x00\x04Illegal TFTP operation\x00"},
		{"a request of 600 bytes is illegal", "\x00\x01" + strings.Repeat("f", 591) + "\x00octet\x00", "\x00\x05\x00\x04Illegal TFTP operation\x00"},
		{"a request without a name is illegal", "\x00\x01\x00octet\x00", "\x00\x05\x00\x04Illegal TFTP operation\x00"},
		{"an error is never answered", "\x00\x05\x00\x00x\x00", ""},
		{"a stray acknowledgement is not answered", "\x00\x04\x00\x01", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr, addr := start(t, nil, nil)
			p := connect(t, addr)
			p.send([]byte(row.packet))
			if s := <-tr.seen; s.What != "refused" {
				t.Errorf("seen %+v; want a refusal", s)
			}
			answers := 1
			if row.want == "" {
				answers = 0
			}
			if got := string(bytes.Join(p.heard(answers), []byte("|"))); got != row.want {
				t.Errorf("answer %q; want %q", got, row.want)
			}
		})
	}
}

func TestReadersAreKnown(t *testing.T) {
	who := boot.Client{MAC: boot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Addr: netip.MustParseAddr("127.0.0.1")}
	tr, addr := start(t, map[string][]byte{"x": noise(5000)}, func(s *Server) {
		s.cfg.Client = func(a netip.Addr) boot.Client {
			if a != who.Addr {
				t.Errorf("asked who %v is; want %v", a, who.Addr)
			}
			return who
		}
	})
	connect(t, addr).read("/x", "octet")
	got := <-tr.seen
	want := boot.Sighting{Time: got.Time, Client: who, Proto: "tftp", What: "read", Name: "x", Bytes: 5000, Text: got.Text}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("sighting (-want +got):\n%s", d)
	}
}
