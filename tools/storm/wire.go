package storm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// A Wire is the client side of DHCP on one interface, for any number of machines: answers are told apart by their
// transaction ids. Machines ask with the broadcast flag, as the answer to a MAC that no interface has would be lost.
type Wire struct {
	// Patience is how long a machine waits for offers in a round: firmware waits 3 to 4 s, four times.
	Patience time.Duration
	// Rounds is how often it asks before it gives up.
	Rounds int

	port68, port4011 *net.UDPConn // port4011 is nil where a server of this host has it

	mu      sync.Mutex
	waiting map[dhcpv4.TransactionID]chan offer
}

// An offer is an answer and who sent it.
type offer struct {
	*dhcpv4.DHCPv4
	from netip.AddrPort
}

// Listen opens the client ports of an interface; it needs root. Close ends it.
func Listen(name string) (*Wire, error) {
	w := &Wire{Patience: 4 * time.Second, Rounds: 4, waiting: map[dhcpv4.TransactionID]chan offer{}}
	var err error
	if w.port68, err = listen(name, 68); err != nil {
		return nil, fmt.Errorf("open UDP port 68 on %s: %w (a DHCP client of this host has it?)", name, err)
	}
	go w.receive(w.port68)
	if w.port4011, err = listen(name, 4011); err == nil {
		go w.receive(w.port4011)
	}
	return w, nil
}

func listen(name string, port int) (*net.UDPConn, error) {
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = errors.Join(unix.BindToDevice(int(fd), name), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		}); e != nil {
			return e
		}
		return err
	}}
	conn, err := cfg.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil // of network udp4
}

// Close ends the wire; machines that wait hear nothing more.
func (w *Wire) Close() {
	w.port68.Close()
	if w.port4011 != nil {
		w.port4011.Close()
	}
}

func (w *Wire) receive(conn *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p, err := dhcpv4.FromBytes(append([]byte(nil), buf[:n]...))
		if err != nil || p.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		w.mu.Lock()
		if ch := w.waiting[p.TransactionID]; ch != nil {
			select {
			case ch <- offer{p, from}:
			default: // more answers than anybody reads
			}
		}
		w.mu.Unlock()
	}
}

// exchange sends a request and gathers answers until enough says so or the patience ends; then it asks again.
func (w *Wire) exchange(ctx context.Context, p *dhcpv4.DHCPv4, to netip.AddrPort, from4011 bool, enough func([]offer) bool) ([]offer, error) {
	if _, err := rand.Read(p.TransactionID[:]); err != nil {
		return nil, err
	}
	ch := make(chan offer, 64)
	w.mu.Lock()
	w.waiting[p.TransactionID] = ch
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.waiting, p.TransactionID)
		w.mu.Unlock()
	}()
	conn := w.port68
	if from4011 && w.port4011 != nil {
		conn = w.port4011
	}
	var got []offer
	for round := range w.Rounds {
		p.NumSeconds = uint16(round * int(w.Patience/time.Second))
		if _, err := conn.WriteToUDPAddrPort(p.ToBytes(), to); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		if got = w.gather(ctx, ch, got, enough); len(got) > 0 || ctx.Err() != nil {
			return got, ctx.Err()
		}
	}
	return got, nil
}

func (w *Wire) gather(ctx context.Context, ch chan offer, got []offer, enough func([]offer) bool) []offer {
	end := time.NewTimer(w.Patience)
	defer end.Stop()
	for !enough(got) {
		select {
		case o := <-ch:
			got = append(got, o)
		case <-end.C:
			return got
		case <-ctx.Done():
			return got
		}
	}
	return got
}

// file is the boot file that an answer names: the field, or option 67, which some servers end with NUL.
func (o offer) file() string {
	if o.BootFileName != "" {
		return strings.TrimRight(o.BootFileName, "\x00")
	}
	return strings.TrimRight(string(o.Options.Get(dhcpv4.OptionBootfileName)), "\x00")
}

// class is option 60.
func (o offer) class() string { return string(o.Options.Get(dhcpv4.OptionClassIdentifier)) }

// boots says whether an answer is one for boot clients.
func (o offer) boots() bool {
	return strings.HasPrefix(o.class(), "PXEClient") || strings.HasPrefix(o.class(), "HTTPClient")
}

func (o offer) lease() netip.Addr  { return addrOf(o.YourIPAddr) }
func (o offer) server() netip.Addr { return addrOf(o.Options.Get(dhcpv4.OptionServerIdentifier)) }

// next is the server of the file: siaddr, else who sent the offer.
func (o offer) next() netip.Addr {
	if a := addrOf(o.ServerIPAddr); a.IsValid() {
		return a
	}
	return o.server()
}

func addrOf(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(net.IP(b).To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// A Server is a DHCP server that answered.
type Server struct {
	Addr  netip.Addr `json:"addr"`            // as it calls itself (option 54)
	Lease netip.Addr `json:"lease,omitzero"`  // the address it offers; zero: a proxy
	Boots bool       `json:"boots,omitempty"` // it has boot fields for PXE clients
	File  string     `json:"file,omitempty"`
	Next  netip.Addr `json:"next,omitzero"` // siaddr: where it sends for the file
}

// Servers asks as a machine would and gives everyone who answers within Patience; nothing is taken of what they offer.
func (m Machine) Servers(ctx context.Context, w *Wire) ([]Server, error) {
	s := &session{ctx: ctx, m: m, wire: w}
	p := s.packet(dhcpv4.MessageTypeDiscover, m.Profile.firmwareOptions())
	got, err := w.exchange(ctx, p, everybody, false, func([]offer) bool { return false })
	var list []Server
	for _, o := range got {
		x := Server{Addr: o.server(), Lease: o.lease(), Boots: o.boots() || o.file() != "", File: oneLine(o.file()), Next: addrOf(o.ServerIPAddr)}
		if !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list, err
}
