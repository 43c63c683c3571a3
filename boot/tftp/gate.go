package tftp

import (
	"net/netip"
	"sync"
	"time"
)

// Limits per source address (see admit): an eleven-name walk of pxelinux and the double request of UEFI firmware fit,
// a spoofed source that shall be flooded does not.
const (
	maxSources    = 4096        // strangers remembered; more wait until one is forgotten
	maxUnanswered = 4           // transfers whose first packet nobody answered
	maxPerSource  = 16          // transfers of any kind
	perSecond     = 50          // requests
	burst         = 100         // requests
	sweepEvery    = time.Second // between two looks for sources to forget: a flood must not pay for one per packet

	// What a reader asked again, because it was not answered at once, may be read when it has acknowledged the answer: its
	// packets go to two ports. Firmware that starts over needs longer than this.
	lateRequest = 4 * time.Second
)

// An entry is what a gate says to a request.
type entry int

const (
	entered    entry = iota
	full             // the server has all the transfers it takes
	unanswered       // this source, or strangers together, have too many that nobody answers
	repeated         // the same request from the same port is in work
)

// A gate counts requests and transfers by source address. Known machines pass where a flood of strangers is held.
type gate struct {
	mu      sync.Mutex
	max     int
	active  int
	waiting int // transfers not yet confirmed
	sources map[netip.Addr]*source
	swept   time.Time
	inWork  map[netip.AddrPort]*pass // the last request that was let in of each port, until its transfer ends
}

type source struct {
	tokens  float64
	last    time.Time
	waiting int
	active  int
}

// A pass is the place of one transfer. leave gives it back.
type pass struct {
	gate      *gate
	source    *source
	from      netip.AddrPort
	packet    string
	confirmed time.Time // zero: nobody has answered
}

// repeats says whether a request is the one of this transfer once more. The pass may be nil.
func (p *pass) repeats(packet []byte, now time.Time) bool {
	return p != nil && p.packet == string(packet) && (p.confirmed.IsZero() || now.Sub(p.confirmed) < lateRequest)
}

func newGate(max int) *gate {
	return &gate{max: max, sources: map[netip.Addr]*source{}, inWork: map[netip.AddrPort]*pass{}}
}

// allow takes a token of the source's bucket.
func (g *gate) allow(a netip.Addr, known bool, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[a]
	if s == nil {
		if !known && !g.room(now) {
			return false
		}
		s = &source{tokens: burst, last: now}
		g.sources[a] = s
	}
	s.refill(now)
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

func (s *source) refill(now time.Time) {
	s.tokens = min(burst, s.tokens+now.Sub(s.last).Seconds()*perSecond)
	s.last = now
}

// room says whether one more stranger can be remembered, after it has dropped the sources that are idle.
func (g *gate) room(now time.Time) bool {
	if len(g.sources) < maxSources {
		return true
	}
	if now.Sub(g.swept) < sweepEvery {
		return false
	}
	g.swept = now
	for a, s := range g.sources {
		if s.active == 0 && now.Sub(s.last) > burst/perSecond*time.Second {
			delete(g.sources, a)
		}
	}
	return len(g.sources) < maxSources
}

// enter counts a transfer that begins, of a source that was allowed. Only strangers' transfers are held at half of all
// while nobody answers them.
func (g *gate) enter(from netip.AddrPort, packet []byte, known bool, now time.Time) (*pass, entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[from.Addr()]
	switch {
	case g.inWork[from].repeats(packet, now):
		return nil, repeated
	case g.active >= g.max:
		return nil, full
	case s == nil || s.waiting >= maxUnanswered || s.active >= maxPerSource || !known && g.waiting >= (g.max+1)/2:
		return nil, unanswered
	}
	g.active++
	g.waiting++
	s.active++
	s.waiting++
	p := &pass{gate: g, source: s, from: from, packet: string(packet)}
	g.inWork[from] = p
	return p, entered
}

// confirm notes that the source answers: it is who it says.
func (p *pass) confirm() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.settle(time.Now())
}

func (p *pass) settle(now time.Time) {
	if p.confirmed.IsZero() {
		p.confirmed = now
		p.gate.waiting--
		p.source.waiting--
	}
}

// leave counts a transfer that ended.
func (p *pass) leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.settle(time.Now())
	p.gate.active--
	p.source.active--
	if p.gate.inWork[p.from] == p {
		delete(p.gate.inWork, p.from)
	}
}
