package tftp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A socket is the wire of one transfer on the network. It is connected: the kernel passes on only what comes from the
// reader's port, answers others itself, and reports when that port is closed. It blocks, with a thread of its own: a
// transfer does nothing but wait for one packet, and a poller in between would lengthen every round trip.
type socket struct {
	conn  *net.UDPConn
	raw   syscall.RawConn
	batch *ipv4.PacketConn
	msgs  []ipv4.Message
	wait  time.Duration // SO_RCVTIMEO

	in  []byte // of receive
	n   int
	err error
}

// dial opens a socket from the address that the reader asked, or the kernel's choice where that is not known.
func dial(local netip.Addr, peer netip.AddrPort) (*socket, error) {
	d := net.Dialer{Control: allowFragments}
	if local.IsValid() && !local.IsUnspecified() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := d.DialContext(context.Background(), "udp4", peer.String())
	if err != nil {
		return nil, fmt.Errorf("open a port for the transfer: %w", err)
	}
	udp := conn.(*net.UDPConn)
	s := &socket{conn: udp, batch: ipv4.NewPacketConn(udp)}
	s.raw, err = udp.SyscallConn()
	if err == nil {
		err = s.control(func(fd int) error { return syscall.SetNonblock(fd, false) })
	}
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("open a port for the transfer: %w", err)
	}
	return s, nil
}

func (s *socket) control(f func(fd int) error) (err error) {
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// allowFragments lets routers cut a block that is too long for the way: firmware asks for a size that fits its own
// link, and drops what the kernel would learn from ICMP about a tunnel behind it.
func allowFragments(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	}); e != nil {
		return e
	}
	return err
}

func (s *socket) write(packets [][]byte) error {
	if len(packets) == 1 {
		_, err := s.conn.Write(packets[0])
		return err
	}
	for len(s.msgs) < len(packets) {
		s.msgs = append(s.msgs, ipv4.Message{Buffers: make([][]byte, 1)})
	}
	for i, p := range packets {
		s.msgs[i].Buffers[0] = p
	}
	for rest := s.msgs[:len(packets)]; len(rest) > 0; {
		n, err := s.batch.WriteBatch(rest, 0)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (s *socket) read(p []byte, wait time.Duration) (int, error) {
	if wait != s.wait {
		left := unix.NsecToTimeval(max(wait, time.Millisecond).Nanoseconds())
		if err := s.control(func(fd int) error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left) }); err != nil {
			return 0, err
		}
		s.wait = wait
	}
	s.in = p
	if err := s.raw.Read(s.receive); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// receive is one read; that it has ended is said even when nothing came, or the poller would wait for more.
func (s *socket) receive(fd uintptr) bool {
	s.n, s.err = unix.Read(int(fd), s.in)
	for s.err == unix.EINTR {
		s.n, s.err = unix.Read(int(fd), s.in)
	}
	if s.err == unix.EAGAIN {
		s.err = os.ErrDeadlineExceeded
	}
	return true
}

// stop wakes whoever waits for a packet; packets can still be sent.
func (s *socket) stop() {
	_ = s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
}
