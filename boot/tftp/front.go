package tftp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"

	"muster/boot"
)

// A front reads the service port and starts transfers for the requests that are worth one.
type front struct {
	*Server
	conn   *net.UDPConn
	gate   *gate
	told   time.Time // when a packet that gets no answer was last told of
	silent uint64    // such packets since
	wg     sync.WaitGroup
}

// A caller is who sent a packet, and to which of our addresses.
type caller struct {
	netip.AddrPort
	at netip.Addr // not valid: not known
}

// toldEvery is the time between two events about packets that get no answer: their senders may be forged, and many.
const toldEvery = time.Second

// run reads until the port is closed or fails.
func (f *front) run(ctx context.Context) error {
	if err := ipv4.NewPacketConn(f.conn).SetControlMessage(ipv4.FlagDst, true); err != nil {
		f.cfg.Log.Warn("answers may leave from another address than was asked", "err", err)
	}
	var buf [maxRequest + 1]byte
	oob := ipv4.NewControlMessage(ipv4.FlagDst)
	for {
		n, on, _, from, err := f.conn.ReadMsgUDPAddrPort(buf[:], oob)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			f.cfg.Log.Error("read the TFTP port", "err", err)
			return err
		}
		c := caller{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), asked(oob[:on])}
		if t := f.admit(buf[:n], c, time.Now()); t != nil {
			t.ctx = ctx
			f.wg.Go(t.run)
		}
	}
}

// asked reads the address that a packet was sent to.
func asked(oob []byte) netip.Addr {
	var m ipv4.ControlMessage
	if len(oob) == 0 || m.Parse(oob) != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(m.Dst)
	return a.Unmap()
}

// admit gives the transfer that a packet asks for, or answers, or stays silent.
func (f *front) admit(packet []byte, c caller, now time.Time) *transfer {
	f.counts.received.Add(1)
	if why := f.unanswerable(packet, c); why != "" {
		f.ignore(c, why, now)
		return nil
	}
	who := f.cfg.Client(c.Addr())
	known := !who.MAC.IsZero()
	if !f.gate.allow(c.Addr(), known, now) {
		f.ignore(c, "too many requests", now)
		return nil
	}
	q, bad := parseRequest(packet)
	if bad != nil {
		f.counts.refused.Add(1)
		f.refuse(c, *bad)
		f.refused(who, q.name, bad.text, now)
		return nil
	}
	p, entry := f.gate.enter(c.AddrPort, packet, known, now)
	switch entry {
	case entered:
		seen := boot.Sighting{Time: now, Client: who, Proto: "tftp", Name: boot.Printable(q.name)}
		return &transfer{Server: f.Server, request: q, pass: p, front: f, from: c, seen: seen}
	case full:
		f.counts.refused.Add(1)
		f.refuse(c, refusal{codeUndefined, "Server busy"})
		f.refused(who, q.name, "server busy", now)
	case unanswered:
		f.ignore(c, "too many transfers that are not answered", now)
	case repeated:
		f.counts.repeated.Add(1) // the first answer is sent again on its own
	}
	return nil
}

// unanswerable says why a packet gets no answer whatever it asks. A well-known port is a service that someone wants us
// to shout at, and what was sent to all would be answered by all.
func (f *front) unanswerable(packet []byte, c caller) string {
	switch {
	case !f.permitted(c.Addr()):
		return "outside of only_from"
	case c.Port() < 1024:
		return "from a well-known port"
	case isAnswer(packet):
		return "no request"
	case c.at.IsMulticast(), c.at == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "sent to everyone"
	}
	return ""
}

func (f *front) permitted(a netip.Addr) bool {
	for _, p := range f.cfg.OnlyFrom {
		if p.Contains(a) {
			return true
		}
	}
	return len(f.cfg.OnlyFrom) == 0
}

// ignore counts a packet that gets no answer, and tells of one in a while.
func (f *front) ignore(c caller, why string, now time.Time) {
	f.counts.ignored.Add(1)
	f.silent++
	if now.Sub(f.told) < toldEvery {
		return
	}
	f.told = now
	f.cfg.Log.Warn("tftp packets not answered", "client", c.Addr(), "why", why, "since_last", f.silent)
	f.silent = 0
	f.cfg.Observe(boot.Sighting{Time: now, Client: f.cfg.Client(c.Addr()), Proto: "tftp", What: "refused", Text: why})
}

// refuse answers from the address that was asked.
func (f *front) refuse(c caller, r refusal) {
	var oob []byte
	if c.at.IsValid() {
		oob = (&ipv4.ControlMessage{Src: c.at.AsSlice()}).Marshal()
	}
	if _, _, err := f.conn.WriteMsgUDPAddrPort(r.packet(), oob, c.AddrPort); err != nil {
		f.cfg.Log.Debug("tftp refusal not sent", "client", c.Addr(), "err", err)
	}
}
