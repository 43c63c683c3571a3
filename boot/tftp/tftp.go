// Package tftp serves boot files over TFTP (RFC 1350, options of RFC 2347, 2348, 2349 and 7440), read only.
//
// Names lead to bytes through a boot.ResolveFunc, so that TFTP and HTTP cannot disagree and no directory tree has to
// be kept up to date. A front reads the service port and answers what needs no transfer: misses, refusals, and, with
// silence, whoever has no right to ask.
//
// Two senders carry what remains. A request that agrees on nothing is carried by pin/tftp, which does RFC 1350 and its
// text mode well. A request that agrees on an option is carried by our own: pin/tftp has no window, no timeout, no
// block below 512 bytes, no size of an empty file and no order of options, finds options in lower case only, and
// waits in Go's poller for each block, which a transfer in lockstep feels.
package tftp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"muster/boot"
)

// What is given unless the configuration says otherwise.
const (
	defaultMax    = 256  // transfers at a time
	defaultBlock  = 1468 // bytes of data: 1500 less the headers of IPv4, UDP and TFTP
	defaultWindow = 64   // blocks
)

// Config says what is served and to whom.
type Config struct {
	Resolve      boot.ResolveFunc
	Client       func(addr netip.Addr) boot.Client // who asks from that address; nil: only Addr is known
	Observe      func(boot.Sighting)               // every request and what became of it; nil: none; must not block
	OnlyFrom     []netip.Prefix                    // who may ask; others hear nothing; nil: everyone
	Log          *slog.Logger                      // nil: none
	MaxTransfers int                               // at a time; 0: 256
	MaxBlock     int                               // most bytes of a block, at least 512; 0: 1468, which fits Ethernet
	MaxWindow    int                               // most blocks of a window; 0: 64
}

// Counts tells what became of the packets that arrived on the service port, and of the transfers.
type Counts struct {
	Received uint64
	Ignored  uint64 // no answer: not permitted, no request, too many
	Repeated uint64 // no second answer: the first is on its way
	Refused  uint64 // ERROR: no read request, or too many transfers
	Missed   uint64 // ERROR: no such file
	Served   uint64 // sent whole
	Probed   uint64 // broken off by the client without a fault
	Aborted  uint64 // broken off with one
	TimedOut uint64 // the client fell silent
	Bytes    uint64 // of data that clients have
}

// A Server answers read requests. New makes one.
type Server struct {
	cfg     Config
	beat    time.Duration
	threads threads
	counts  struct {
		received, ignored, repeated, refused, missed, served, probed, aborted, timedOut, bytes atomic.Uint64
	}
}

// New makes a server; Serve starts it.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Client == nil {
		cfg.Client = func(addr netip.Addr) boot.Client { return boot.Client{Addr: addr} }
	}
	if cfg.Observe == nil {
		cfg.Observe = func(boot.Sighting) {}
	}
	for _, limit := range []struct {
		value               *int
		normal, least, most int
	}{
		{&cfg.MaxTransfers, defaultMax, 1, 1 << 16},
		{&cfg.MaxBlock, defaultBlock, plainBlock, maxBlock},
		{&cfg.MaxWindow, defaultWindow, 1, 1 << 16},
	} {
		if *limit.value == 0 {
			*limit.value = limit.normal
		}
		*limit.value = min(max(*limit.value, limit.least), limit.most)
	}
	return &Server{cfg: cfg, beat: beat, threads: newThreads()}
}

// Serve answers the requests that arrive on conn, which it closes, until ctx ends or conn fails. Transfers under way
// end with it. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f := &front{Server: s, conn: conn, gate: newGate(s.cfg.MaxTransfers)}
	defer f.wg.Wait()
	defer cancel(errStopped)
	defer context.AfterFunc(ctx, func() {
		cancel(errStopped)
		conn.Close()
	})()
	defer conn.Close()
	if err := f.run(inner); ctx.Err() == nil {
		return err
	}
	return nil
}

// Counts gives the counts so far.
func (s *Server) Counts() Counts {
	c := &s.counts
	return Counts{Received: c.received.Load(), Ignored: c.ignored.Load(), Repeated: c.repeated.Load(), Refused: c.refused.Load(),
		Missed: c.missed.Load(), Served: c.served.Load(), Probed: c.probed.Load(), Aborted: c.aborted.Load(),
		TimedOut: c.timedOut.Load(), Bytes: c.bytes.Load()}
}
