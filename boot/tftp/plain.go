package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
)

// A line is the service port as pin/tftp sees it for one transfer: it holds one request, then nothing. It is the
// library's net.PacketConn and Hook.
type line struct {
	*net.UDPConn // never read: the methods that pin/tftp does not call
	request      []byte
	peer         netip.AddrPort
	ended        chan struct{}
	end          sync.Once
	err          error // before ended is closed
}

// plain lets pin/tftp carry a transfer without options. heard is asked whether the reader has answered yet.
func plain(ctx context.Context, mode string, peer netip.AddrPort, beat time.Duration, file io.Reader, heard func() bool) error {
	l := &line{request: []byte("\x00\x01file\x00" + mode + "\x00"), peer: peer, ended: make(chan struct{})}
	engine := tftp.NewServer(func(_ string, out io.ReaderFrom) error {
		l.finish(carry(out, file))
		return nil
	}, nil)
	engine.SetTimeout(beat)
	engine.SetRetries(tries - 1)
	engine.SetBackoff(again(ctx, beat, heard))
	engine.SetHook(l)
	go func() { _ = engine.Serve(l) }() // nil once it is shut down
	go func() {
		<-l.ended
		engine.Shutdown()
	}()
	select {
	case <-l.ended:
		return l.err
	case <-ctx.Done(): // the library's goroutines end with the next packet, or when they would send one again
		return context.Cause(ctx)
	}
}

// A leave is the panic that takes a transfer out of pin/tftp. The library knows one limit for all blocks and ends each
// failure with one more packet; an address that may be forged must get neither. It asks for the time to wait in the
// transfer's own goroutine and without a lock, and closes the socket by defer, so that nothing is left behind.
type leave struct{ why error }

// again says how long pin/tftp shall wait after the one beat that it has waited, or leaves.
func again(ctx context.Context, beat time.Duration, heard func() bool) func(try int) time.Duration {
	return func(try int) time.Duration {
		switch {
		case ctx.Err() != nil:
			panic(leave{context.Cause(ctx)})
		case !heard() && try >= triesUnheard-1:
			panic(leave{errSilent})
		}
		return beat<<min(try, 2) - beat
	}
}

// carry runs the transfer and gives how it ended in this package's words.
func carry(out io.ReaderFrom, file io.Reader) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case leave:
			err = p.why
		default:
			panic(p)
		}
	}()
	_, err = out.ReadFrom(file)
	return readerError(err)
}

// readerError finds the ERROR packet of a reader in pin/tftp's text.
func readerError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	var block int
	var e peerError
	if n, _ := fmt.Sscanf(err.Error(), "sending block %d: code=%d, error:", &block, &e.code); n == 2 {
		return &e
	}
	return err
}

func (l *line) finish(err error) {
	l.end.Do(func() {
		l.err = err
		close(l.ended)
	})
}

// ReadFrom gives the one request, and afterwards waits for the end.
func (l *line) ReadFrom(p []byte) (int, net.Addr, error) {
	if l.request == nil {
		<-l.ended
		return 0, nil, net.ErrClosed
	}
	n := copy(p, l.request)
	l.request = nil
	return n, net.UDPAddrFromAddrPort(l.peer), nil
}

// LocalAddr tells the library which version of IP it is.
func (l *line) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4zero} }

// Close has nothing to close: the service port is not the line's.
func (l *line) Close() error { return nil }

// OnSuccess is of pin/tftp's hook; carry knows.
func (l *line) OnSuccess(tftp.TransferStats) {}

// OnFailure is of pin/tftp's hook. A failure without an address is a request that never became a transfer, for want
// of a socket.
func (l *line) OnFailure(stats tftp.TransferStats, err error) {
	if stats.RemoteAddr == nil {
		l.finish(err)
	}
}
