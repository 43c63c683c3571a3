package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A sniffer hears what clients and servers say to port 67 or 68 of the link, whoever has these ports. It is how muster
// sees the clients of another DHCP server on its own host, and other servers where it should be the only one.
type sniffer struct {
	conn *packet.Conn
	port int
}

// openSniffer hears datagrams to one UDP port that come in by the interface.
func openSniffer(ifi *net.Interface, port int) (*sniffer, error) {
	prog, err := bpf.Assemble(toUDP(uint32(port)))
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	c, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: prog})
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	return &sniffer{c, port}, nil
}

// toUDP lets unfragmented UDP datagrams to a port pass; the packet begins at its IP header.
func toUDP(port uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}

// read gives the next datagram, which nobody is to be answered for.
func (s *sniffer) read() (inbound, error) {
	var buf [20 + 40 + 8 + maxPacket]byte
	for {
		n, _, err := s.conn.ReadFrom(buf[:])
		if err != nil {
			return inbound{}, err
		}
		if in, ok := parseIP(buf[:n]); ok {
			in.heard = true
			return in, nil
		}
	}
}

func (s *sniffer) name() string { return fmt.Sprintf("packet socket for port %d", s.port) }

// parseIP reads an IPv4 packet with a UDP datagram. Checksums are not looked at: cards fill them in late.
func parseIP(b []byte) (inbound, bool) {
	if len(b) < 28 || b[0]>>4 != 4 {
		return inbound{}, false
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || total > len(b) || total < head+8 || b[9] != unix.IPPROTO_UDP {
		return inbound{}, false
	}
	udp := b[head:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < 8 || length > len(udp) {
		return inbound{}, false
	}
	from, _ := netip.AddrFromSlice(b[12:16])
	to, _ := netip.AddrFromSlice(b[16:20])
	return inbound{data: append([]byte(nil), udp[8:length]...), from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp)),
		to: to, port: int(binary.BigEndian.Uint16(udp[2:]))}, true
}
