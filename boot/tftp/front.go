package tftp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
)

// A front reads the service port and hands pin/tftp only requests that are worth a transfer, written in the one way
// that library understands. It is a net.PacketConn.
type front struct {
	*net.UDPConn
	gate   *gate
	log    *slog.Logger
	fail   context.CancelCauseFunc
	closed chan struct{}
	once   sync.Once
	last   netip.Addr // of the request handed on last; pin/tftp reads and starts transfers in one goroutine
}

func newFront(conn *net.UDPConn, g *gate, log *slog.Logger, fail context.CancelCauseFunc) *front {
	return &front{UDPConn: conn, gate: g, log: log, fail: fail, closed: make(chan struct{})}
}

// Close ends the reading.
func (f *front) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.UDPConn.Close()
}

// ReadFrom gives the next request that passes. After an error it waits for Close: pin/tftp would ask again at once.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	var buf [maxRequest + 1]byte
	f.last = netip.Addr{}
	for {
		n, from, err := f.UDPConn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return 0, nil, f.broken(err)
		}
		if q, ok := f.admit(buf[:n], from, time.Now()); ok {
			f.last = from.Addr().Unmap()
			return copy(p, q), net.UDPAddrFromAddrPort(from), nil
		}
	}
}

func (f *front) broken(err error) error {
	if !errors.Is(err, net.ErrClosed) {
		f.log.Error("read the TFTP port", "err", err)
	}
	f.fail(err)
	<-f.closed
	return err
}

// OnSuccess is of pin/tftp's hook; read reports what was sent.
func (f *front) OnSuccess(tftp.TransferStats) {}

// OnFailure is of pin/tftp's hook. A failure without an address is a request that never became a transfer, for want
// of a socket: its place is free again.
func (f *front) OnFailure(stats tftp.TransferStats, err error) {
	if stats.RemoteAddr == nil && f.last.IsValid() {
		f.log.Error("start a TFTP transfer", "client", f.last, "err", err)
		f.gate.leave(f.last)
		f.last = netip.Addr{}
	}
}

// admit gives the request that pin/tftp shall see, or answers, or stays silent.
func (f *front) admit(packet []byte, from netip.AddrPort, now time.Time) ([]byte, bool) {
	peer := from.Addr().Unmap()
	if from.Port() < 1024 || isAnswer(packet) || !f.gate.allow(peer, now) {
		return nil, false // a well-known port is a service that someone wants us to shout at
	}
	q, refused := parseRequest(packet)
	if refused != nil {
		f.log.Info("tftp request refused", "client", peer, "code", refused.code, "why", refused.text)
		f.refuse(from, *refused)
		return nil, false
	}
	switch f.gate.enter(peer) {
	case full:
		f.refuse(from, refusal{codeUndefined, "Server busy"})
		return nil, false
	case unanswered:
		f.log.Debug("tftp request dropped: too many unanswered transfers", "client", peer)
		return nil, false
	}
	return q.clean(), true
}

func (f *front) refuse(to netip.AddrPort, r refusal) {
	if _, err := f.UDPConn.WriteToUDPAddrPort(r.packet(), to); err != nil {
		f.log.Debug("tftp refusal not sent", "client", to, "err", err)
	}
}
