// Package dhcp tells machines that start from a network where to find their first program (PXE 2.1, RFC 4578, UEFI
// HTTP boot), either beside the site's own DHCP server or as the one that leases the addresses (RFC 2131).
//
//   - In proxy mode it answers boot clients only, gives no address, and listens on 4011 too, where firmware asks again.
//   - In same-host mode another server of this host has port 67: clients are answered on 4011 only, and heard on 67.
//   - In server mode it leases addresses to everyone on its link and gives boot clients the boot fields with them.
//
// It has a package of its own because it is the one place where option bytes and firmware quirks matter; what a
// machine boots is a boot.Source's to decide. A packet is taken in (intake.go) and read (request.go, client.go), an
// address is granted (network.go, pool.go, leases.go, journal.go) and looked for on the link before it is offered
// (probe.go), and a pure function puts the reply together (reply.go); sockets are in link.go and sniff.go. The queue
// between sockets and workers is bounded: what does not fit is dropped and counted, and clients ask again. Strangers
// have a queue, a share of the pool and of the workers of their own, so that no number of them stops a known machine.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/boot"
)

// Mode says who leases the addresses.
type Mode string

// The modes.
const (
	ModeProxy    Mode = "proxy"     // another host leases; muster adds the boot fields
	ModeSameHost Mode = "same-host" // a server of this host leases and has port 67; muster answers on 4011
	ModeServer   Mode = "server"    // muster leases
)

// Config says where and what to answer.
type Config struct {
	Interface string     // e.g. br0; answers leave by it
	Mode      Mode       // proxy turns to same-host where port 67 is another's
	Addr      netip.Addr // our IPv4 address there; zero: the interface's first

	Network      Network       // server: the interface's own
	Networks     []Network     // server: more, behind relays
	Reservations []Reservation // server
	LeaseFile    string        // server: journal, synced before an ACK leaves; "": leases are forgotten at a restart
	NoProbe      bool          // server: offer addresses without asking the link whether somebody has them

	Relays []netip.Prefix // where relays (RFC 1542) may be, besides the networks; packets of others are dropped

	HotKey *Prompt // firmware shows this before it goes on, and a menu when F8 is pressed; nil: it goes on at once

	Source  boot.Source                                // asked for firmware clients: StepLocal is "boot your disk"; nil: never that
	Loader  func(c boot.Client) (name string, ok bool) // file for a firmware client (TFTP), URL for uefi-http
	Script  func(c boot.Client) string                 // full http:// URL for an iPXE client
	Prefix  func(loader string) string                 // what a pxelinux puts before every name (option 210), with its slash; nil, "": the loader's directory
	Known   func(boot.MAC) bool                        // machines that are no strangers, besides those with a lease; nil: none; must not block
	Observe func(boot.Sighting)                        // every packet of a boot client, and every reply; nil: none; must not block
	Log     *slog.Logger                               // nil: none
}

// A Prompt is what firmware shows before it boots: Text, for so many seconds; 0 goes on silently, 255 shows the menu.
type Prompt struct {
	Seconds uint8
	Text    string
}

// deciding is the longest time that Source may take: iPXE hears a proxy for 2 s.
const deciding = 2 * time.Second

// Counts tells what became of the packets.
type Counts struct {
	Received  uint64
	Limited   uint64 // one client asked too often
	Dropped   uint64 // the queue was full
	Malformed uint64 // not a DHCP request
	Unended   uint64 // without option 255; served
	Ignored   uint64 // none of our business: another server's, an ordinary client in proxy mode, a foreign relay
	Probed    uint64 // the answer waits for a probe of the link
	Conflicts uint64 // addresses that a probe found in use
	Heard     uint64 // same-host mode: packets to the other server
	Rogue     uint64 // server mode: offers of another server
	Sent      uint64
}

// A Server answers DHCP packets of one interface.
type Server struct {
	cfg      Config
	site     site
	link     *link
	leases   *leases // nil: others lease
	prober   *prober // nil: none
	addrs    *seen
	profiles *profiles
	intake   *intake
	rogues   *rogues
	now      func() time.Time
	send     func(answer) error
	ctx      context.Context // of Serve

	received, limited, dropped, malformed, unended, ignored, probing, conflicts, heard, rogue, sent atomic.Uint64
}

// Listen opens the ports 67 and 4011 on the interface, and the lease file. Serve answers.
func Listen(cfg Config) (*Server, error) {
	l, err := openLink(cfg.Interface, cfg.Addr, cfg.Mode)
	if err != nil {
		return nil, err
	}
	if cfg.Mode == ModeProxy && l.mode == ModeSameHost && cfg.Log != nil {
		cfg.Log.Warn("UDP port 67 is another DHCP server's: machines are answered on port 4011 only; that server must send them here (muster dhcp-config --same-host)",
			"interface", cfg.Interface)
	}
	cfg.Mode = l.mode
	s, err := newServer(cfg, l)
	if err != nil {
		l.close()
		return nil, err
	}
	return s, nil
}

// newServer makes a server that owns l; l may be nil for a test that sends nothing.
func newServer(cfg Config, l *link) (*Server, error) {
	if cfg.Mode != ModeProxy && cfg.Mode != ModeSameHost && cfg.Mode != ModeServer {
		return nil, fmt.Errorf("start DHCP: mode %q: want proxy, same-host or server", cfg.Mode)
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
	s := &Server{cfg: cfg, link: l, now: time.Now, intake: newIntake(), addrs: newSeen(), profiles: newProfiles(),
		rogues: newRogues(), ctx: context.Background()}
	s.site = siteOf(cfg, l)
	if l != nil {
		s.send = l.send
	}
	if cfg.Mode == ModeServer {
		return s, s.openLeases()
	}
	return s, nil
}

// openLeases reads the networks and the lease file.
func (s *Server) openLeases() (err error) {
	if s.site.nets, err = networksOf(s.cfg, s.site); err != nil {
		return err
	}
	barred := slices.Concat(s.site.own, []netip.Addr{s.site.addr})
	for _, r := range s.cfg.Reservations {
		barred = append(barred, r.Addr)
	}
	var pools []*pool
	for _, n := range s.site.nets {
		p, err := poolOf(n, barred)
		if err != nil {
			return err
		}
		if s.cfg.Known != nil {
			p.spare = p.usable / 8
		}
		pools = append(pools, p)
	}
	if s.link != nil && s.link.arp != nil && !s.cfg.NoProbe {
		s.prober = newProber(s.link.arp.ask, s.probed)
	}
	s.leases, err = openLeases(pools, s.cfg.Reservations, s.cfg.LeaseFile, s.cfg.Log)
	return err
}

// Serve answers until ctx ends or a socket fails; it returns nil when ctx ended. A Server serves once.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.ctx = ctx
	stop := context.AfterFunc(ctx, s.link.close)
	defer stop()
	working := s.start(ctx)
	var readers sync.WaitGroup
	for _, r := range s.link.readers() {
		readers.Go(func() { s.receive(ctx, r, cancel) })
	}
	if s.prober != nil {
		readers.Go(func() { s.link.arp.hear(s.prober.heard) })
	}
	readers.Wait()
	s.intake.close()
	working.Wait()
	if s.prober != nil {
		s.prober.close()
	}
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

// receive fills the queue from one socket.
func (s *Server) receive(ctx context.Context, r reader, fail context.CancelCauseFunc) {
	for {
		in, err := r.read()
		switch {
		case err == nil && in.heard && in.port == clientPort:
			s.offered(in)
		case err == nil:
			s.admit(in)
		case ctx.Err() != nil:
			return
		default:
			fail(fmt.Errorf("read %s: %w: %w", r.name(), errSocket, err))
			return
		}
	}
}

// Counts gives the counts so far.
func (s *Server) Counts() Counts {
	return Counts{Received: s.received.Load(), Limited: s.limited.Load(), Dropped: s.dropped.Load(), Malformed: s.malformed.Load(),
		Unended: s.unended.Load(), Ignored: s.ignored.Load(), Probed: s.probing.Load(), Conflicts: s.conflicts.Load(),
		Heard: s.heard.Load(), Rogue: s.rogue.Load(), Sent: s.sent.Load()}
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
