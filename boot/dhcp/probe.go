package dhcp

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"muster/boot"
)

// How an address is asked for before it is offered to a machine that never had it. RFC 5227 section 2.1 takes seconds
// for a host that may wait; the one that waits here is a ROM that starts over after one second (iPXE).
const (
	probeTimes = 2
	probeEvery = 150 * time.Millisecond
	probeRetry = 3    // addresses tried for one request
	maxProbes  = 8192 // requests waiting
)

// A prober asks the link whether somebody has an address (RFC 5227) and says so later: no worker waits for it.
type prober struct {
	ask   func(netip.Addr) error // sends one ARP probe
	after func(time.Duration, func())
	done  func(q request, addr netip.Addr, taken bool)

	mu      sync.Mutex
	pending map[netip.Addr]*probing
	ended   bool
	steps   sync.WaitGroup // that run
}

// A probing is one address and the latest request that it is for.
type probing struct {
	q     request
	taken bool
	sent  int
}

func newProber(ask func(netip.Addr) error, done func(request, netip.Addr, bool)) *prober {
	return &prober{ask: ask, done: done, pending: map[netip.Addr]*probing{},
		after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// start begins to ask; it is false when too many wait already.
func (p *prober) start(q request, addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.pending[addr]; was != nil {
		was.q = q // its client asks again, in another transaction
		return true
	}
	if len(p.pending) >= maxProbes {
		return false
	}
	p.pending[addr] = &probing{q: q, sent: 1}
	p.after(0, func() { p.step(addr) })
	return true
}

// step sends the next probe, or ends the probing. An error to send is no sign that the address is in use.
func (p *prober) step(addr netip.Addr) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.steps.Add(1)
	defer p.steps.Done()
	w := p.pending[addr]
	more := w.sent <= probeTimes && !w.taken
	w.sent++
	if !more {
		delete(p.pending, addr)
	}
	p.mu.Unlock()
	if !more {
		p.done(w.q, addr, w.taken)
		return
	}
	_ = p.ask(addr)
	p.after(probeEvery, func() { p.step(addr) })
}

// close ends all probing and waits for the answers that are being given.
func (p *prober) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.steps.Wait()
}

// heard notes that a machine on the link has an address, or asks for it as we do.
func (p *prober) heard(addr netip.Addr, by boot.MAC) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.pending[addr]; w != nil && by != w.q.client.MAC {
		w.taken = true
	}
}

// arpLength is an ARP packet for IPv4 on Ethernet (RFC 826).
const arpLength = 28

// probeFor is an ARP probe: a request from no address (RFC 5227 section 1.1).
func probeFor(from net.HardwareAddr, addr netip.Addr) []byte {
	b := []byte{0, 1, 0x08, 0, 6, 4, 0, 1}
	b = append(append(b, from...), 0, 0, 0, 0)
	return append(append(b, 0, 0, 0, 0, 0, 0), addr.AsSlice()...)
}

// parseARP reads whose an address is: the sender's, or, of a probe, the one that it is for.
func parseARP(b []byte) (netip.Addr, boot.MAC, bool) {
	if len(b) < arpLength || !bytes.HasPrefix(b, []byte{0, 1, 0x08, 0, 6, 4, 0}) {
		return netip.Addr{}, boot.MAC{}, false
	}
	by, addr := boot.MAC(b[8:14]), addrOf(b[14:18])
	if !addr.IsValid() && b[7] == 1 {
		addr = addrOf(b[24:28])
	}
	return addr, by, addr.IsValid()
}

// An arpSocket asks and hears.
type arpSocket struct {
	ifi  *net.Interface
	conn *packet.Conn
}

func openARP(ifi *net.Interface) (*arpSocket, error) {
	c, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, fmt.Errorf("open ARP socket on %s: %w", ifi.Name, err)
	}
	return &arpSocket{ifi, c}, nil
}

func (a *arpSocket) ask(addr netip.Addr) error {
	_, err := a.conn.WriteTo(probeFor(a.ifi.HardwareAddr, addr), &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}})
	return err
}

// hear gives what it hears until the socket is closed. What we sent ourselves is none of it.
func (a *arpSocket) hear(heard func(netip.Addr, boot.MAC)) {
	var buf [128]byte
	for {
		n, _, err := a.conn.ReadFrom(buf[:])
		if err != nil {
			return
		}
		addr, by, ok := parseARP(buf[:n])
		if ok && !bytes.Equal(by[:], a.ifi.HardwareAddr) {
			heard(addr, by)
		}
	}
}

// probed is called when an address was asked for.
func (s *Server) probed(q request, addr netip.Addr, taken bool) {
	if s.ctx.Err() != nil {
		return
	}
	if taken {
		s.conflicts.Add(1)
		s.cfg.Log.Warn("address in use by someone else", "addr", addr, "client", q.client.MAC, "seen", "by ARP probe")
		s.record(s.leases.decline(q.client.MAC, addr, s.now()), q.client.MAC)
	} else {
		s.leases.prove(q.client.MAC, addr)
	}
	if q.probes++; q.probes <= probeRetry {
		s.respond(s.ctx, q)
	}
}
