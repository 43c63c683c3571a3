package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3/netascii"

	"muster/boot"
)

// Limits of a transfer.
const (
	finding = 5 * time.Second // longest time a name may take to resolve
	longest = 2 * time.Hour   // of a whole transfer: a reader that is always about to fall silent
)

// A transfer is one request that was let in.
type transfer struct {
	*Server
	request
	*pass
	ctx   context.Context
	front *front
	from  caller
	seen  boot.Sighting
}

// run answers the request, gives its place back, and tells how that went.
func (t *transfer) run() {
	tell := t.answer()
	t.pass.leave()
	tell()
}

func (t *transfer) answer() (tell func()) {
	ctx, cancel := context.WithTimeoutCause(t.ctx, longest, errSlow)
	defer cancel()
	name, err := Name(t.request.name)
	if err != nil {
		return func() { t.miss("refused: " + err.Error()) }
	}
	t.seen.Name = name
	file, err := t.find(ctx, name, t.seen.Client)
	if err != nil {
		if !errors.Is(err, boot.ErrNotFound) {
			t.cfg.Log.Error("resolve a name asked by TFTP", "name", name, "client", t.from.Addr(), "err", err)
		}
		return func() { t.miss("no such file") }
	}
	defer file.Content.Close()
	sent, err := t.send(ctx, file)
	return func() { t.end(sent, file.Size, err) }
}

// miss gives the one answer to a miss: ERROR 1, with a text that tells nothing about the server.
func (t *transfer) miss(why string) {
	level := slog.LevelInfo
	if missedByDesign(t.seen.Name) {
		level = slog.LevelDebug
	}
	t.cfg.Log.Log(t.ctx, level, "tftp miss", "name", t.seen.Name, "client", t.from.Addr(), "why", why)
	t.counts.missed.Add(1)
	t.front.refuse(t.from, refusal{codeMissing, "File not found"})
	t.seen.What, t.seen.Text = "miss", why
	t.cfg.Observe(t.seen)
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

// send gives the file to the sender that fits, and tells how many bytes the reader has.
func (t *transfer) send(ctx context.Context, file boot.File) (int64, error) {
	terms := t.agree(file.Size, t.cfg.MaxBlock, t.cfg.MaxWindow)
	body := &body{ctx: ctx, in: file.Content, left: file.Size}
	if terms.oack == nil && t.from.answeredByDefault() {
		body.again = t.confirm
		err := plain(ctx, t.mode, t.from.AddrPort, t.beat, body, body.confirmed.Load)
		return body.sent.Load(), err
	}
	var in io.ReaderAt = pages{file.Content, file.Size}
	if t.mode == "netascii" {
		in = &text{Reader: netascii.ToReader(body)}
	}
	held := t.threads.take()
	defer t.threads.give(held)
	wire, err := dial(t.from.at, t.from.AddrPort, held)
	if err != nil {
		return 0, err
	}
	defer wire.file.Close()
	defer context.AfterFunc(ctx, wire.stop)()
	s := newSender(ctx, terms, wire, in, t.confirm)
	s.beat = t.beat
	if err = s.run(); ctx.Err() != nil && s.answered {
		s.tell("Server stops")
	}
	return s.bytes(), err
}

// Threads are the places of transfers that wait in the kernel, each with a thread of its own. They are half as many as
// the processors that Go uses: when such threads hold them all, other goroutines wait until the runtime takes notice.
type threads chan struct{}

func newThreads() threads { return make(threads, runtime.GOMAXPROCS(0)/2) }

func (t threads) take() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t threads) give(held bool) {
	if held {
		<-t
	}
}

// answeredByDefault says whether a socket that chooses its address itself, as pin/tftp's does, answers from the address
// that was asked. Readers drop what comes from another one.
func (c caller) answeredByDefault() bool {
	if !c.at.IsValid() {
		return true
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(c.AddrPort))
	if err != nil {
		return false
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() == c.at
}

// end tells how a transfer ended. Firmware asks for a size and then breaks off, and GRUB closes a file that it has seen
// enough of: that is no failure.
func (t *transfer) end(sent, size int64, err error) {
	took := time.Since(t.seen.Time).Round(time.Millisecond)
	var peer *peerError
	count, text := &t.counts.aborted, ""
	switch {
	case err == nil:
		count, text = &t.counts.served, fmt.Sprintf("sent in %s", took)
	case errors.As(err, &peer) && (peer.code == codeUndefined || peer.code == codeOptions):
		count, text = &t.counts.probed, "probe: the client broke off"
	case errors.As(err, &peer):
		text = "the client gave up: " + boot.Printable(err.Error())
	case errors.Is(err, errSilent):
		count, text = &t.counts.timedOut, fmt.Sprintf("timed out: %v, %d of %d bytes after %s", err, sent, size, took)
	default:
		text = fmt.Sprintf("broken off: %s, %d of %d bytes after %s", boot.Printable(err.Error()), sent, size, took)
	}
	count.Add(1)
	t.counts.bytes.Add(uint64(sent))
	t.seen.What, t.seen.Bytes, t.seen.Text = "read", sent, text
	t.cfg.Observe(t.seen)
	t.cfg.Log.Debug("tftp read", "name", t.seen.Name, "client", t.from.Addr(), "bytes", sent, "outcome", text)
}

// A body is a file on its way out. It gives exactly the size announced, and ends when its server does. It has no Seek
// on purpose: pin/tftp would measure it again. The end comes with the last byte, so that each Read but the first means,
// in pin/tftp's hands, that a block was acknowledged.
type body struct {
	ctx       context.Context
	in        io.Reader
	left      int64
	sent      atomic.Int64
	began     bool
	again     func() // called once, with the second Read; nil: never
	confirmed atomic.Bool
}

// Read gives the next part.
func (b *body) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	if b.began && b.again != nil {
		b.confirmed.Store(true)
		b.again()
		b.again = nil
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
	b.sent.Add(int64(n))
	if err != nil {
		return n, errEarly
	}
	if b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// refused tells of a request that was not let in.
func (s *Server) refused(c boot.Client, name, why string, at time.Time) {
	s.cfg.Log.Info("tftp request refused", "client", c.Addr, "name", boot.Printable(name), "why", why)
	s.cfg.Observe(boot.Sighting{Time: at, Client: c, Proto: "tftp", What: "refused", Name: boot.Printable(name), Text: why})
}
