package tftp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eachWay runs a test with a socket that waits in the kernel and with one that waits in Go's poller, and its peer.
func eachWay(t *testing.T, test func(t *testing.T, s *socket, peer *net.UDPConn)) {
	for _, holds := range []bool{true, false} {
		t.Run(fmt.Sprintf("holding a thread: %t", holds), func(t *testing.T) {
			service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer service.Close()
			addr := service.LocalAddr().(*net.UDPAddr).AddrPort()
			s, err := dial(addr.Addr(), addr, holds)
			if err != nil {
				t.Fatal(err)
			}
			defer s.file.Close()
			test(t, s, service)
		})
	}
}

// greet lets the peer send to the socket.
func greet(t *testing.T, s *socket, peer *net.UDPConn, text string) {
	t.Helper()
	if err := s.write([]byte("hello"), 5); err != nil {
		t.Fatal(err)
	}
	_, from, err := peer.ReadFromUDPAddrPort(make([]byte, 16))
	if err == nil {
		_, err = peer.WriteToUDPAddrPort([]byte(text), from)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSocketCutsAWindowIntoItsPackets(t *testing.T) {
	for _, row := range []struct {
		name        string
		bytes, each int
		cut         int // as it stood before
		then        int // and stands afterwards
	}{
		{"a packet alone is not cut", 100, 512, 0, 0},
		{"a window, by the kernel", 10*516 - 7, 516, 0, 516},
		{"as many as the kernel cuts at once, and some", 150 * 12, 12, 0, 12},
		{"where the kernel does not cut", 10*516 - 7, 516, -1, -1},
		{"where it finds that it can not", 2*60_000 + 1, 60_000, 60_000, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, s *socket, peer *net.UDPConn) {
				if s.cut = row.cut; row.cut > 0 {
					s.cuts(row.cut)
				}
				sent, buf := noise(row.bytes), make([]byte, 65536)
				if err := s.write(sent, row.each); err != nil {
					t.Fatal(err)
				}
				for want := range slices.Chunk(sent, row.each) {
					n, err := peer.Read(buf)
					if err != nil || !bytes.Equal(buf[:n], want) {
						t.Fatalf("a packet of %d bytes, %v; want one of %d", n, err, len(want))
					}
				}
				if s.cut != row.then {
					t.Errorf("UDP_SEGMENT %d; want %d", s.cut, row.then)
				}
			})
		})
	}
}

func TestSocketWaits(t *testing.T) {
	eachWay(t, func(t *testing.T, s *socket, peer *net.UDPConn) {
		buf := make([]byte, 16)
		if _, err := s.read(buf, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("nothing came: %v; want %v", err, os.ErrDeadlineExceeded)
		}
		greet(t, s, peer, "late")
		if n, err := s.read(buf, time.Hour); err != nil || string(buf[:n]) != "late" { // the alarm of the read before has rung
			t.Errorf("read %q, %v; want the packet", buf[:max(0, n)], err)
		}
		if _, err := s.read(buf, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) { // a shorter wait counts
			t.Errorf("nothing came: %v; want %v", err, os.ErrDeadlineExceeded)
		}
	})
}

func TestSocketIsStopped(t *testing.T) {
	eachWay(t, func(t *testing.T, s *socket, peer *net.UDPConn) {
		done := make(chan error, 1)
		go func() {
			n, err := s.read(make([]byte, 16), time.Hour)
			if n > 0 {
				err = errors.New("a packet")
			} else if errors.Is(err, unix.EAGAIN) {
				err = nil
			}
			done <- err
		}()
		s.stop()
		if err := <-done; err != nil {
			t.Errorf("a reader that was woken found %v", err)
		}
		greet(t, s, peer, "bye") // what is left to say can be said
	})
}

func TestSocketOfAPortThatIsClosed(t *testing.T) {
	eachWay(t, func(t *testing.T, s *socket, peer *net.UDPConn) {
		peer.Close()
		if err := s.write([]byte("hello"), 5); err != nil {
			t.Fatal(err)
		}
		if _, err := s.read(make([]byte, 16), time.Hour); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("read = %v; want %v", err, unix.ECONNREFUSED)
		}
	})
}

// However many read, few hold a thread, and each place is given back.
func TestTransfersHoldFewThreads(t *testing.T) {
	tr, addr := start(t, map[string][]byte{"x": noise(1500)}, func(s *Server) { s.threads = make(threads, 1) })
	var readers []*probe
	for i := range 3 {
		p := connectFrom(t, fmt.Sprintf("127.0.0.%d", i+1), addr)
		p.ask(1, "x", "octet", "blksize", "1000")
		if op, _, err := p.next(aWhile); op != 6 {
			t.Fatalf("operation %d, %v; want OACK", op, err)
		}
		readers = append(readers, p)
	}
	if held := len(tr.server.threads); held != 1 {
		t.Errorf("%d threads held by 3 transfers; want 1", held)
	}
	for _, p := range readers {
		p.ack(0)
		p.want(1)
		p.ack(1)
		p.want(2)
		p.ack(2)
		if s := <-tr.seen; s.Bytes != 1500 {
			t.Errorf("seen %+v; want the whole file", s)
		}
	}
	if held := len(tr.server.threads); held != 0 {
		t.Errorf("%d threads are held when all transfers have ended", held)
	}
}
