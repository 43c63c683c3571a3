package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"muster/boot"
)

// A link is the interface: UDP ports, and packet sockets for clients that have no address yet, for ARP, and for what
// other servers hear and say.
type link struct {
	mode   Mode // proxy becomes same-host where port 67 is taken
	ifi    *net.Interface
	addr   netip.Addr
	own    []netip.Addr
	prefix netip.Prefix // of addr
	ports  []*port
	frames *packet.Conn // nil where the interface has no MAC
	arp    *arpSocket   // server mode, where the interface has a MAC
	ears   *sniffer     // same-host mode: port 67; server mode: port 68; else nil
	once   sync.Once
}

// A port is a UDP socket bound to all addresses of the one interface: bound to a single address it would not hear
// broadcasts.
type port struct {
	number int
	conn   *ipv4.PacketConn
	buf    [maxPacket + 1]byte
}

// A reader gives what comes in.
type reader interface {
	read() (inbound, error)
	name() string
}

// readers are the sockets that requests come in by.
func (l *link) readers() []reader {
	var list []reader
	for _, p := range l.ports {
		list = append(list, p)
	}
	if l.ears != nil {
		list = append(list, l.ears)
	}
	return list
}

// openLink opens the sockets of a mode. addr is ours there; zero is the first one.
func openLink(name string, addr netip.Addr, mode Mode) (*link, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("find interface %q: %w", name, err)
	}
	l := &link{ifi: ifi, mode: mode}
	if err := l.address(addr); err != nil {
		return nil, err
	}
	if err := errors.Join(l.openPorts(), l.openPackets()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *link) openPorts() error {
	for _, number := range []int{serverPort, proxyPort} {
		if number == serverPort && l.mode == ModeSameHost {
			continue
		}
		p, err := openPort(l.ifi, number)
		if number == serverPort && l.mode == ModeProxy && errors.Is(err, unix.EADDRINUSE) {
			l.mode = ModeSameHost
			continue
		}
		if err != nil {
			return err
		}
		l.ports = append(l.ports, p)
	}
	return nil
}

func (l *link) openPackets() (err error) {
	if l.mode == ModeSameHost {
		l.ears, err = openSniffer(l.ifi, serverPort)
	}
	if len(l.ifi.HardwareAddr) != 6 || l.mode != ModeServer {
		return err
	}
	if l.frames, err = packet.Listen(l.ifi, packet.Raw, 0, nil); err != nil {
		return fmt.Errorf("open packet socket on %s: %w", l.ifi.Name, err)
	}
	if l.arp, err = openARP(l.ifi); err != nil {
		return err
	}
	l.ears, err = openSniffer(l.ifi, clientPort)
	return err
}

// address finds our address and its subnet among the interface's.
func (l *link) address(want netip.Addr) error {
	addrs, err := l.ifi.Addrs()
	if err != nil {
		return fmt.Errorf("read addresses of %s: %w", l.ifi.Name, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		l.own = append(l.own, p.Addr())
		if !l.addr.IsValid() && (p.Addr() == want || !want.IsValid()) {
			l.addr, l.prefix = p.Addr(), p.Masked()
		}
	}
	if !l.addr.IsValid() {
		return fmt.Errorf("use interface %s: it has no IPv4 address%s; give it one first", l.ifi.Name, wanted(want))
	}
	return nil
}

func wanted(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return " " + a.String()
}

func openPort(ifi *net.Interface, number int) (*port, error) {
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = errors.Join(unix.BindToDevice(int(fd), ifi.Name), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				roomFor(int(fd)))
		}); e != nil {
			return e
		}
		return err
	}}
	conn, err := cfg.ListenPacket(context.Background(), "udp4", "0.0.0.0:"+strconv.Itoa(number))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("open UDP port %d on %s: another DHCP server of this host has it: %w", number, ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open UDP port %d on %s: %w", number, ifi.Name, err)
	}
	p := &port{number: number, conn: ipv4.NewPacketConn(conn)}
	if err := p.conn.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		conn.Close()
		return nil, fmt.Errorf("open UDP port %d on %s: %w", number, ifi.Name, err)
	}
	return p, nil
}

// receiveRoom is the kernel's queue of a port: a flood shall be dropped by the intake, which knows whom not to drop.
const receiveRoom = 8 << 20

// roomFor sets it, or as much of it as the host allows.
func roomFor(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveRoom) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom)
}

func (p *port) name() string { return fmt.Sprintf("UDP port %d", p.number) }

// read gives the next datagram. The datagram is the caller's.
func (p *port) read() (inbound, error) {
	n, cm, from, err := p.conn.ReadFrom(p.buf[:])
	if err != nil {
		return inbound{}, err
	}
	in := inbound{data: append([]byte(nil), p.buf[:n]...), port: p.number}
	if u, ok := from.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		in.from = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if cm != nil {
		in.to = addrOf(cm.Dst.To4())
	}
	return in, nil
}

// send sends a reply by the port its request came to.
func (l *link) send(a answer) error {
	data := a.data
	if a.mac != nil && l.frames != nil {
		dst := net.HardwareAddr(a.mac[:])
		frame := frameOf(l.ifi.HardwareAddr, *a.mac, netip.AddrPortFrom(a.src, uint16(a.port)), a.to, data)
		_, err := l.frames.WriteTo(frame, &packet.Addr{HardwareAddr: dst})
		return err
	}
	to := a.to
	if a.mac != nil {
		to = broadcast
	}
	cm := &ipv4.ControlMessage{Src: a.src.AsSlice(), IfIndex: l.ifi.Index}
	for _, p := range l.ports {
		if p.number == a.port {
			_, err := p.conn.WriteTo(data, cm, net.UDPAddrFromAddrPort(to))
			return err
		}
	}
	return fmt.Errorf("no port %d", a.port)
}

func (l *link) close() {
	l.once.Do(func() {
		for _, p := range l.ports {
			p.conn.Close()
		}
		if l.frames != nil {
			l.frames.Close()
		}
		if l.arp != nil {
			l.arp.conn.Close()
		}
		if l.ears != nil {
			l.ears.conn.Close()
		}
	})
}

// frameOf writes an Ethernet frame with one UDP datagram (RFC 894, 791, 768): the kernel cannot send to an address that
// its owner does not answer ARP for yet.
func frameOf(src net.HardwareAddr, dst boot.MAC, from, to netip.AddrPort, data []byte) []byte {
	const hop = 64
	length := 8 + len(data)
	b := append(append(append([]byte(nil), dst[:]...), src...), 0x08, 0x00)
	head := []byte{0x45, 0x10, 0, 0, 0, 0, 0, 0, hop, unix.IPPROTO_UDP, 0, 0} // type of service: low delay, as others send it
	binary.BigEndian.PutUint16(head[2:], uint16(20+length))
	head = append(append(head, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(head[10:], ^sum(0, head))
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(length))
	udp = append(append(udp, 0, 0), data...)
	pseudo := sum(uint32(unix.IPPROTO_UDP)+uint32(length), head[12:20])
	check := ^sum(uint32(pseudo), udp)
	if check == 0 {
		check = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return append(append(b, head...), udp...)
}

// sum is the Internet checksum (RFC 1071), not yet inverted.
func sum(s uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 != 0 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
