package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A probe is a TFTP client of a few lines that shares no code with the server.
type probe struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort // the service, then the transfer
}

func dial(t *testing.T, service netip.AddrPort) *probe {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &probe{t: t, conn: conn, to: service}
}

// ask sends a request of words; op 1 reads.
func (p *probe) ask(op byte, words ...string) {
	p.send([]byte{0, op}, []byte(strings.Join(words, "\x00")+"\x00"))
}

func (p *probe) send(parts ...[]byte) {
	p.t.Helper()
	var b []byte
	for _, x := range parts {
		b = append(b, x...)
	}
	if _, err := p.conn.WriteToUDPAddrPort(b, p.to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *probe) ack(block uint16) { p.send([]byte{0, 4}, binary.BigEndian.AppendUint16(nil, block)) }

var errSilent = errors.New("no packet")

// patient is how long a packet that must come is waited for, on a machine busy with other things.
const patient = time.Minute

// next gives one packet: its operation and what follows.
func (p *probe) next(wait time.Duration) (uint16, []byte, error) {
	var buf [65536]byte
	p.conn.SetReadDeadline(time.Now().Add(wait))
	n, from, err := p.conn.ReadFromUDPAddrPort(buf[:])
	if err != nil {
		return 0, nil, errSilent
	}
	p.to = from
	return binary.BigEndian.Uint16(buf[:]), append([]byte(nil), buf[2:n]...), nil
}

// A taken is what a whole read brought.
type taken struct {
	options map[string]string // nil: no OACK
	bytes   []byte
	blocks  int
	last    int    // bytes of the last block
	err     string // "code text" of an ERROR
}

// read takes a whole file, acknowledging each block. One that comes again, because a busy host was slow with the answer,
// is passed over (RFC 1123 section 4.2.3.1).
func (p *probe) read(words ...string) taken {
	p.t.Helper()
	p.ask(1, words...)
	got, size, want := taken{}, 512, uint16(1)
	for {
		op, rest, err := p.next(patient)
		if err != nil {
			p.t.Fatalf("read %q: block %d: %v", words, want, err)
		}
		switch op {
		case 6:
			got.options = options(rest)
			fmt.Sscan(got.options["blksize"], &size)
			p.ack(0)
		case 5:
			got.err = fmt.Sprintf("%d %s", binary.BigEndian.Uint16(rest), strings.TrimRight(string(rest[2:]), "\x00"))
			return got
		case 3:
			b := binary.BigEndian.Uint16(rest)
			if b == want-1 && got.blocks > 0 {
				continue
			}
			if b != want {
				p.t.Fatalf("read %q: block %d; want %d", words, b, want)
			}
			p.ack(want)
			got.bytes = append(got.bytes, rest[2:]...)
			got.blocks, got.last, want = got.blocks+1, len(rest)-2, want+1
			if got.last < size {
				return got
			}
		}
	}
}

func options(b []byte) map[string]string {
	words, m := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), map[string]string{}
	for i := 0; i+1 < len(words); i += 2 {
		m[words[i]] = words[i+1]
	}
	return m
}
