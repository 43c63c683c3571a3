package tftp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is the wire of one transfer on the network. It is connected: the kernel passes on only what comes from the
// reader's port, answers others itself, and reports when that port is closed.
//
// A transfer does nothing but wait for one packet. One that may hold a thread waits in the kernel, out of sight of Go's
// poller: the poller's own thread would wake with each packet, too, and cost the reader more time than the sender needs.
// Others wait in the poller.
type socket struct {
	file  *os.File
	raw   syscall.RawConn
	holds bool          // a thread
	wait  time.Duration // SO_RCVTIMEO, of one that holds a thread
	alarm time.Time     // of another
	cut   int           // UDP_SEGMENT; 0: not tried yet, -1: not here

	stopped atomic.Bool
	receive func(fd uintptr) bool
	in      []byte // of receive
	n       int
	err     error
}

// dial opens a socket from the address that the reader asked, or the kernel's choice where that is not known.
func dial(local netip.Addr, peer netip.AddrPort, holds bool) (*socket, error) {
	kind := unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	if !holds {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return nil, fmt.Errorf("open a port for the transfer: %w", err)
	}
	s := &socket{file: os.NewFile(uintptr(fd), "transfer"), holds: holds}
	s.receive = s.receiveOne
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.control(func(fd int) error { return aim(fd, local, peer) })
	}
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("open a port for the transfer: %w", err)
	}
	return s, nil
}

// aim connects a socket, and lets routers cut a block that is too long for the way (IP_PMTUDISC_DONT): firmware asks for a size that fits
// its own link, and drops what the kernel would learn from ICMP about a tunnel behind it.
func aim(fd int, local netip.Addr, peer netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT); err != nil {
		return err
	}
	if local.IsValid() && !local.IsUnspecified() {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
			return err
		}
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())})
}

func (s *socket) control(f func(fd int) error) (err error) {
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// maxCut is how many packets the kernel makes of one write (UDP_MAX_SEGMENTS; more since Linux 6.9).
const maxCut = 64

// write sends packets: as one where the kernel cuts it up behind most of the way (UDP_SEGMENT, Linux 4.18), else one by
// one.
func (s *socket) write(packets []byte, each int) error {
	if len(packets) > each && s.cut == 0 {
		s.cuts(each)
	}
	for len(packets) > 0 {
		n := min(each, len(packets))
		if s.cut == each {
			n = min(maxCut*each, len(packets))
		}
		_, err := s.file.Write(packets[:n])
		switch {
		case s.cut > 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EMSGSIZE)):
			s.cuts(0) // longer than the link's packets, or a card or a tunnel that can not
		case err != nil:
			return err
		default:
			packets = packets[n:]
		}
	}
	return nil
}

// cuts asks the kernel to cut what is written into packets of that size, or, with 0, not to.
func (s *socket) cuts(each int) {
	s.cut = -1
	err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, each) })
	if err == nil && each > 0 {
		s.cut = each
	}
}

func (s *socket) read(p []byte, wait time.Duration) (int, error) {
	s.in = p
	if s.holds {
		return s.readHolding(wait)
	}
	end := time.Now().Add(wait)
	n, err := s.readPolled(end)
	for errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(end) { // the alarm of a packet before
		s.alarm = time.Time{}
		n, err = s.readPolled(end)
	}
	return n, err
}

// readPolled may end early: setting the poller's alarm for each packet costs as much as the packet.
func (s *socket) readPolled(end time.Time) (int, error) {
	if s.alarm.IsZero() || s.alarm.After(end) {
		if err := s.file.SetReadDeadline(end); err != nil {
			return 0, err
		}
		s.alarm = end
	}
	if err := s.raw.Read(s.receive); err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (s *socket) readHolding(wait time.Duration) (int, error) {
	if wait != s.wait {
		left := unix.NsecToTimeval(max(wait, time.Millisecond).Nanoseconds())
		if err := s.control(func(fd int) error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left) }); err != nil {
			return 0, err
		}
		s.wait = wait
	}
	if err := s.raw.Read(s.receive); err != nil {
		return 0, err
	}
	if errors.Is(s.err, unix.EAGAIN) {
		return 0, os.ErrDeadlineExceeded
	}
	return s.n, s.err
}

// receiveOne is one read. It has not ended where the poller is to wait for more; one that does not wait finds no end in
// a socket that is shut.
func (s *socket) receiveOne(fd uintptr) bool {
	s.n, s.err = unix.Read(int(fd), s.in)
	for s.err == unix.EINTR {
		s.n, s.err = unix.Read(int(fd), s.in)
	}
	return s.holds || s.err != unix.EAGAIN || s.stopped.Load()
}

// stop wakes whoever waits for a packet; packets can still be sent.
func (s *socket) stop() {
	s.stopped.Store(true)
	_ = s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
}
