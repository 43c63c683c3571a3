package tftp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A socket is the wire of one transfer on the network. It is connected: the kernel passes on only what comes from the
// reader's port, answers others itself, and reports when that port is closed.
type socket struct {
	conn  *net.UDPConn
	batch *ipv4.PacketConn
	msgs  []ipv4.Message
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
	return &socket{conn: udp, batch: ipv4.NewPacketConn(udp)}, nil
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
	if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	return s.conn.Read(p)
}

// stop ends the transfer from outside: the reader is told, and whoever waits for it wakes.
func (s *socket) stop() {
	_, _ = s.conn.Write(refusal{codeUndefined, "Server stops"}.packet())
	s.conn.Close()
}
