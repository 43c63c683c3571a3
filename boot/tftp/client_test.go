package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A probe is a TFTP client of a few lines that shares no code with the server.
type probe struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort // the service, then the transfer
	acks int            // sent, that of the options excepted
	into hash.Hash      // where bytes go that are too many to keep; nil: taken.bytes
	buf  [65536]byte
}

func connect(t *testing.T, service netip.AddrPort) *probe {
	return connectFrom(t, "127.0.0.1", service)
}

func connectFrom(t *testing.T, addr string, service netip.AddrPort) *probe {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &probe{t: t, conn: conn, to: service}
}

func packet(op byte, words ...string) []byte {
	return append([]byte{0, op}, strings.Join(words, "\x00")+"\x00"...)
}

// ask sends a request of words; op 1 reads.
func (p *probe) ask(op byte, words ...string) { p.send(packet(op, words...)) }

func (p *probe) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.WriteToUDPAddrPort(b, p.to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *probe) ack(block uint16) {
	p.send(binary.BigEndian.AppendUint16([]byte{0, 4}, block))
}

var errSilence = errors.New("no packet")

// aWhile is how long a packet may take that must come: a busy machine is no failure.
const aWhile = time.Minute

// next gives one packet: its operation and what follows, until the next call.
func (p *probe) next(wait time.Duration) (uint16, []byte, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, nil, err
	}
	n, from, err := p.conn.ReadFromUDPAddrPort(p.buf[:])
	if err != nil {
		return 0, nil, errSilence
	}
	p.to = from
	return binary.BigEndian.Uint16(p.buf[:]), p.buf[2:n], nil
}

// want takes one packet that must be a block of that number.
func (p *probe) want(block uint16) []byte {
	p.t.Helper()
	op, rest, err := p.next(aWhile)
	if err != nil || op != 3 || binary.BigEndian.Uint16(rest) != block {
		p.t.Fatalf("got operation %d, %.20q, %v; want block %d", op, rest, err, block)
	}
	return rest[2:]
}

// heard takes so many packets that must come, and what has arrived beside them: for that it waits no time.
func (p *probe) heard(want int) (packets [][]byte) {
	p.t.Helper()
	for range want {
		op, rest, err := p.next(aWhile)
		if err != nil {
			p.t.Fatalf("%d packets came; want %d", len(packets), want)
		}
		packets = append(packets, append(binary.BigEndian.AppendUint16(nil, op), rest...))
	}
	return append(packets, p.waiting()...)
}

// waiting gives what has arrived and was not read, and what comes within a moment. It asks the kernel and not by a
// deadline of the connection: one that is over when the test gets its turn hides what is there.
func (p *probe) waiting() (packets [][]byte) {
	p.t.Helper()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		const moment = 10 // milliseconds
		for {
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, moment); n == 0 {
				return
			}
			if n, _, err := unix.Recvfrom(int(fd), p.buf[:], unix.MSG_DONTWAIT); err == nil {
				packets = append(packets, bytes.Clone(p.buf[:n]))
			}
		}
	}); err != nil {
		p.t.Fatal(err)
	}
	return packets
}

// A taken is what a whole read brought.
type taken struct {
	options map[string]string // nil: no OACK
	bytes   []byte
	blocks  int
	last    int    // bytes of the last block
	err     string // "code text" of an ERROR
}

// read takes a whole file. In a window it acknowledges the last block, or, once, the last one before a gap (RFC 7440).
func (p *probe) read(words ...string) taken {
	p.t.Helper()
	p.ask(1, words...)
	got, size, window := taken{}, 512, 1
	have, acked := uint64(0), uint64(0)
	for gap := false; ; {
		op, rest, err := p.next(aWhile)
		if err != nil {
			p.t.Fatalf("read %q: after block %d: %v", words, have, err)
		}
		switch op {
		case 6:
			got.options = options(rest)
			fmt.Sscan(got.options["blksize"], &size)
			fmt.Sscan(got.options["windowsize"], &window)
			p.ack(0)
			continue
		case 5:
			got.err = fmt.Sprintf("%d %s", binary.BigEndian.Uint16(rest), strings.TrimRight(string(rest[2:]), "\x00"))
			return got
		}
		if b := binary.BigEndian.Uint16(rest); b != uint16(have+1) {
			switch old := uint16(have)-b < 1<<15; {
			case old: // sent again, because an acknowledgement was lost
				p.ack(uint16(have))
			case !gap:
				gap, acked = true, have
				p.ack(uint16(have))
			}
			continue
		}
		gap = false
		p.keep(&got, rest[2:])
		if have++; got.last < size || have-acked == uint64(window) {
			acked = have
			p.acks++
			p.ack(uint16(have))
		}
		if got.last < size {
			return got
		}
	}
}

func (p *probe) keep(got *taken, data []byte) {
	got.blocks, got.last = got.blocks+1, len(data)
	if p.into != nil {
		p.into.Write(data)
		return
	}
	got.bytes = append(got.bytes, data...)
}

func options(b []byte) map[string]string {
	words, m := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), map[string]string{}
	for i := 0; i+1 < len(words); i += 2 {
		if _, twice := m[words[i]]; twice {
			words[i+1] += ", twice"
		}
		m[words[i]] = words[i+1]
	}
	return m
}

// A relay stands between one client and the server, sees every packet, and loses those that lose says.
type relay struct {
	addr netip.AddrPort
	lose func(fromServer bool, packet []byte) bool
	seen []relayed // in order; read when the transfer is over
	lock chan struct{}
}

type relayed struct {
	fromServer bool
	packet     []byte
	lost       bool
}

// through starts a relay. The client knows its port only; the server's new port is followed, and as a reader does
// (RFC 1350 section 4) nothing is taken of another one.
func through(t *testing.T, service netip.AddrPort, lose func(bool, []byte) bool) *relay {
	t.Helper()
	near, far := connectFrom(t, "127.0.0.1", service).conn, connectFrom(t, "127.0.0.1", service).conn
	r := &relay{addr: near.LocalAddr().(*net.UDPAddr).AddrPort(), lose: lose, lock: make(chan struct{}, 1)}
	client := make(chan netip.AddrPort, 1)
	port := make(chan netip.AddrPort, 1)
	port <- service
	go r.carry(near, func(from netip.AddrPort, b []byte) error {
		select {
		case client <- from:
		default:
		}
		to := <-port
		port <- to
		return r.pass(false, far, to, b)
	})
	go func() {
		var peer, transfer netip.AddrPort
		r.carry(far, func(from netip.AddrPort, b []byte) error {
			if !peer.IsValid() {
				<-port
				port <- from
				peer, transfer = <-client, from
			}
			if from != transfer {
				return nil
			}
			return r.pass(true, near, peer, b)
		})
	}()
	return r
}

func (r *relay) carry(in *net.UDPConn, pass func(netip.AddrPort, []byte) error) {
	var buf [65536]byte
	for {
		n, from, err := in.ReadFromUDPAddrPort(buf[:])
		if err != nil || pass(from, buf[:n]) != nil {
			return
		}
	}
}

func (r *relay) pass(fromServer bool, out *net.UDPConn, to netip.AddrPort, b []byte) error {
	r.lock <- struct{}{}
	lost := r.lose != nil && r.lose(fromServer, b)
	r.seen = append(r.seen, relayed{fromServer, append([]byte(nil), b...), lost})
	<-r.lock
	if lost {
		return nil
	}
	_, err := out.WriteToUDPAddrPort(b, to)
	return err
}

// packets gives what was seen so far.
func (r *relay) packets() []relayed {
	r.lock <- struct{}{}
	defer func() { <-r.lock }()
	return append([]relayed(nil), r.seen...)
}

// blocks gives the numbers of the packets of an operation, in order.
func (r *relay) blocks(op byte) (numbers []uint16) {
	for _, p := range r.packets() {
		if p.packet[1] == op {
			numbers = append(numbers, binary.BigEndian.Uint16(p.packet[2:]))
		}
	}
	return numbers
}

// A pattern is a file of any length that needs no memory. Each eight bytes differ from the ones before.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	n := int(min(int64(len(b)), p.size-p.at))
	if n == 0 {
		return 0, io.EOF
	}
	for i := range b[:n] {
		at := uint64(p.at) + uint64(i)
		b[i] = byte((at >> 3 * 0x9e3779b97f4a7c15) >> (at & 7 * 8))
	}
	p.at += int64(n)
	return n, nil
}

func (p *pattern) ReadAt(b []byte, at int64) (int, error) {
	n, err := (&pattern{at, p.size}).Read(b)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (p *pattern) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }
func (p *pattern) Close() error                   { return nil }
