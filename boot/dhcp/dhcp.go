// Package dhcp tells machines that start from a network where to find their first program (PXE 2.1, RFC 4578, UEFI
// HTTP boot), either beside the site's own DHCP server or as the one that leases the addresses (RFC 2131).
//
//   - In proxy mode it answers boot clients only, gives no address, and listens on 4011 too, where firmware asks again.
//   - In server mode it leases addresses to everyone on its link and gives boot clients the boot fields with them.
//
// It has a package of its own because it is the one place where option bytes and firmware quirks matter; what a
// machine boots is a boot.Source's to decide. A packet is read (request.go, client.go), an address is granted
// (leases.go, journal.go), and a pure function puts the reply together (reply.go); sockets are in link.go. The queue
// between sockets and workers is bounded: what does not fit is dropped and counted, and clients ask again.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"muster/boot"
)

// Mode says who leases the addresses.
type Mode string

// The modes.
const (
	ModeProxy  Mode = "proxy"  // another host leases; muster adds the boot fields
	ModeServer Mode = "server" // muster leases
)

// Config says where and what to answer.
type Config struct {
	Interface string     // e.g. br0; answers leave by it
	Mode      Mode       // proxy or server
	Addr      netip.Addr // our IPv4 address there; zero: the interface's first

	PoolFirst netip.Addr   // server: first address to lease; zero (both): the upper half of Prefix
	PoolLast  netip.Addr   // server: last address to lease
	Prefix    netip.Prefix // server: the subnet; zero: the interface's
	Router    netip.Addr   // server: zero: none
	DNS       []netip.Addr // server
	Domain    string       // server: "": none
	LeaseFile string       // server: journal, synced before an ACK leaves; "": leases are forgotten at a restart

	Relays []netip.Prefix // where relays (RFC 1542) may be, besides Prefix; packets of others are dropped

	Source  boot.Source                                // asked for firmware clients: StepLocal is "boot your disk"; nil: never that
	Loader  func(c boot.Client) (name string, ok bool) // file for a firmware client (TFTP), URL for uefi-http
	Script  func(c boot.Client) string                 // full http:// URL for an iPXE client
	Observe func(boot.Sighting)                        // every packet of a boot client, and every reply; nil: none; must not block
	Log     *slog.Logger                               // nil: none
}

// Work in progress.
const (
	queueLength = 1024            // packets waiting
	workers     = 64              // packets in work: enough to share one sync of the lease file
	deciding    = 2 * time.Second // longest time Source may take; iPXE hears a proxy for 2 s
)

// Counts tells what became of the packets.
type Counts struct {
	Received  uint64
	Dropped   uint64 // the queue was full
	Malformed uint64 // not a DHCP request
	Unended   uint64 // without option 255; served
	Ignored   uint64 // none of our business: another server's, an ordinary client in proxy mode, a foreign relay
	Sent      uint64
}

// A Server answers DHCP packets of one interface.
type Server struct {
	cfg      Config
	site     site
	link     *link
	leases   *leases // nil in proxy mode
	addrs    *seen
	profiles *profiles
	now      func() time.Time
	queue    chan inbound

	received, dropped, malformed, unended, ignored, sent atomic.Uint64
}

// Listen opens the ports 67 and 4011 on the interface, and the lease file. Serve answers.
func Listen(cfg Config) (*Server, error) {
	l, err := openLink(cfg.Interface, cfg.Addr)
	if err != nil {
		return nil, err
	}
	s, err := newServer(cfg, l)
	if err != nil {
		l.close()
		return nil, err
	}
	return s, nil
}

// newServer makes a server that owns l; l may be nil for a test that sends nothing.
func newServer(cfg Config, l *link) (*Server, error) {
	if cfg.Mode != ModeProxy && cfg.Mode != ModeServer {
		return nil, fmt.Errorf("start DHCP: mode %q: want proxy or server", cfg.Mode)
	}
	if cfg.Loader == nil || cfg.Script == nil {
		return nil, errors.New("start DHCP: Loader and Script must be set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(boot.Sighting) {}
	}
	s := &Server{cfg: cfg, link: l, now: time.Now, queue: make(chan inbound, queueLength), addrs: newSeen(), profiles: newProfiles()}
	s.site = siteOf(cfg, l)
	if cfg.Mode == ModeProxy {
		return s, nil
	}
	p, err := poolOf(cfg, s.site)
	if err != nil {
		return nil, err
	}
	s.leases, err = openLeases(p, cfg.LeaseFile, cfg.Log)
	return s, err
}

// Serve answers until ctx ends or a socket fails; it returns nil when ctx ended. A Server serves once.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, s.link.close)
	defer stop()
	var readers, working sync.WaitGroup
	for _, port := range s.link.ports {
		readers.Go(func() { s.receive(ctx, port, cancel) })
	}
	for range workers {
		working.Go(func() {
			for in := range s.queue {
				s.handle(ctx, in)
			}
		})
	}
	readers.Wait()
	close(s.queue)
	working.Wait()
	var err error
	if s.leases != nil {
		err = s.leases.close()
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSocket) {
		return cause
	}
	return err
}

// errSocket marks the failure of a socket.
var errSocket = errors.New("socket failed")

// receive fills the queue from one port.
func (s *Server) receive(ctx context.Context, p *port, fail context.CancelCauseFunc) {
	for {
		in, err := p.read()
		if err != nil {
			if ctx.Err() == nil {
				fail(fmt.Errorf("read UDP port %d: %w: %w", p.number, errSocket, err))
			}
			return
		}
		s.received.Add(1)
		select {
		case s.queue <- in:
		default:
			s.dropped.Add(1)
		}
	}
}

// Counts gives the counts so far.
func (s *Server) Counts() Counts {
	return Counts{Received: s.received.Load(), Dropped: s.dropped.Load(), Malformed: s.malformed.Load(),
		Unended: s.unended.Load(), Ignored: s.ignored.Load(), Sent: s.sent.Load()}
}

// MACOf tells which machine has an address: by its lease, or, in proxy mode, by what it said to the site's DHCP server.
// It is a hint, as everything on the wire is.
func (s *Server) MACOf(addr netip.Addr) (boot.MAC, bool) {
	addr = addr.Unmap()
	if s.leases != nil {
		return s.leases.holder(addr)
	}
	return s.addrs.mac(addr)
}
