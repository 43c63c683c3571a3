// Package tftp serves boot files over TFTP (RFC 1350, options of RFC 2347, 2348 and 2349), read only.
//
// Names lead to bytes through a boot.ResolveFunc, so that TFTP and HTTP cannot disagree and no directory tree has to
// be kept up to date. The transfers themselves are pin/tftp's; a front before it reads the service port, because
// firmware is strict where that library is loose: option names compare without case, an empty file has a size too, a
// write request is ERROR 2, and a stranger's request must cost neither a goroutine nor a socket.
//
// The front hides the address a request was sent to, so answers leave with the kernel's choice of source: the first
// address of the interface. Clients must be given that one as their server. Windows (RFC 7440) are not offered.
package tftp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pin/tftp/v3"

	"muster/boot"
)

// Limits of a transfer.
const (
	maxBlock   = 1468            // bytes of data: 1500 less the headers of IPv4, UDP and TFTP
	timeout    = 1 * time.Second // before a block is sent again; each further try waits one second more
	retries    = 6               // of one block; a silent client is given up after about 20 s
	finding    = 5 * time.Second // longest time a name may take to resolve
	defaultMax = 256             // transfers at a time
)

// errMissing goes to the client as it stands: ERROR 1 of RFC 1350 with a text that tells nothing about the server.
//
//lint:ignore ST1005 it is a text on the wire, spelt as every TFTP server spells it
var errMissing = errors.New("File not found")

// Config says what is served and to whom.
type Config struct {
	Resolve      boot.ResolveFunc
	Client       func(addr netip.Addr) boot.Client // who asks from that address; nil: only Addr is known
	Observe      func(boot.Sighting)               // every read, hit (Bytes sent) or miss; nil: none; must not block
	Log          *slog.Logger                      // nil: none
	MaxTransfers int                               // at a time; 0: 256
}

// A Server answers read requests. New makes one.
type Server struct {
	cfg Config
	max int
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
	if cfg.MaxTransfers <= 0 {
		cfg.MaxTransfers = defaultMax
	}
	return &Server{cfg: cfg, max: cfg.MaxTransfers}
}

// Serve answers the requests that arrive on conn, which it closes, until ctx ends or conn fails. Transfers under way
// then end at their next block. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := newFront(conn, newGate(s.max), s.cfg.Log, cancel)
	engine := tftp.NewServer(func(name string, out io.ReaderFrom) error { return s.read(ctx, f.gate, name, out) }, nil)
	engine.SetBlockSizeNegotiation(false) // it would take the front for a link of 512 bytes
	engine.SetBlockSize(maxBlock)
	engine.SetTimeout(timeout)
	engine.SetRetries(retries)
	engine.SetBackoff(func(attempt int) time.Duration { return time.Duration(attempt) * time.Second })
	engine.SetHook(f)
	stop := context.AfterFunc(ctx, engine.Shutdown)
	defer stop()
	if err := engine.Serve(f); err != nil {
		return err
	}
	if caller.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// read sends one file. raw is the name as the client wrote it.
func (s *Server) read(ctx context.Context, g *gate, raw string, out io.ReaderFrom) error {
	peer := peerOf(out)
	defer g.leave(peer)
	start := time.Now()
	seen := boot.Sighting{Time: start, Client: s.cfg.Client(peer), Proto: "tftp", What: "miss", Name: boot.Printable(raw)}
	name, err := Name(raw)
	if err != nil {
		seen.Text = "refused: " + err.Error()
		return s.missed(seen)
	}
	seen.Name = name
	file, err := s.find(ctx, name, seen.Client)
	if err != nil {
		if !errors.Is(err, boot.ErrNotFound) {
			s.cfg.Log.Error("resolve a name asked by TFTP", "name", name, "client", peer, "err", err)
		}
		seen.Text = "no such file"
		return s.missed(seen)
	}
	defer file.Content.Close()
	if t, ok := out.(tftp.OutgoingTransfer); ok && file.Size > 0 {
		t.SetSize(file.Size) // an empty file keeps the zero that the front put into the request
	}
	body := &body{ctx: ctx, in: file.Content, left: file.Size, confirmed: func() { g.confirm(peer) }}
	_, err = out.ReadFrom(body)
	seen.What, seen.Bytes, seen.Text = "read", body.sent, outcome(err, time.Since(start))
	s.cfg.Observe(seen)
	s.cfg.Log.Debug("tftp read", "name", name, "client", peer, "bytes", body.sent, "outcome", seen.Text)
	return nil
}

// missed records a miss and gives the one answer to it.
func (s *Server) missed(seen boot.Sighting) error {
	level := slog.LevelInfo
	if missedByDesign(seen.Name) {
		level = slog.LevelDebug
	}
	s.cfg.Log.Log(context.Background(), level, "tftp miss", "name", seen.Name, "client", seen.Client.Addr, "why", seen.Text)
	s.cfg.Observe(seen)
	return errMissing
}

// find resolves the first candidate that leads to a file.
func (s *Server) find(ctx context.Context, name string, c boot.Client) (boot.File, error) {
	ctx, cancel := context.WithTimeout(ctx, finding)
	defer cancel()
	for _, n := range candidates(name) {
		f, err := s.cfg.Resolve(ctx, n, c)
		if err == nil || !errors.Is(err, boot.ErrNotFound) {
			return f, err
		}
	}
	return boot.File{}, boot.ErrNotFound
}

// A body is a file on its way out. It gives exactly the size announced, and ends when its server does. It has no Seek
// on purpose: pin/tftp would measure it again. The end comes with the last byte, so that each Read but the first means
// that a block was acknowledged.
type body struct {
	ctx       context.Context
	in        io.Reader
	left      int64
	sent      int64
	began     bool
	confirmed func() // called when the client has answered, so that it is no spoofed address
}

// Read gives the next part.
func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, errors.New("server stops")
	}
	if b.began && b.confirmed != nil {
		b.confirmed()
		b.confirmed = nil
	}
	b.began = true
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := io.ReadFull(b.in, p)
	b.left -= int64(n)
	b.sent += int64(n)
	if err != nil {
		return n, errors.New("file ended early")
	}
	if b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// outcome says in one line how a transfer ended. Firmware asks for a size and then breaks off: that is no failure.
func outcome(err error, took time.Duration) string {
	switch {
	case err == nil:
		return "sent in " + took.Round(time.Millisecond).String()
	case strings.Contains(err.Error(), "code=8,"), strings.Contains(err.Error(), "code=0,"):
		return "probe: the client broke off"
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return "the client fell silent"
	}
	return "broken off: " + boot.Printable(err.Error())
}

func peerOf(out io.ReaderFrom) netip.Addr {
	t, ok := out.(tftp.OutgoingTransfer)
	if !ok {
		return netip.Addr{}
	}
	a := t.RemoteAddr()
	return a.AddrPort().Addr().Unmap()
}
