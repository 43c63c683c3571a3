package tftp

import (
	"net/netip"
	"sync"
	"time"
)

// Limits per source address (see admit): an eleven-name walk of pxelinux and the double request of UEFI firmware fit,
// a spoofed source that shall be flooded does not.
const (
	maxSources    = 4096 // addresses remembered; strangers beyond wait until one is forgotten
	maxUnanswered = 4    // transfers whose first block nobody acknowledged
	maxPerSource  = 16   // transfers of any kind
	perSecond     = 50   // requests
	burst         = 100  // requests
)

// An entry is what a gate says to a request.
type entry int

const (
	entered    entry = iota
	full             // the server has all the transfers it takes
	unanswered       // this source has
)

// A gate counts requests and transfers by source address.
type gate struct {
	mu      sync.Mutex
	max     int
	active  int
	sources map[netip.Addr]*source
}

type source struct {
	tokens  float64
	last    time.Time
	waiting int // transfers not yet confirmed
	active  int
}

func newGate(max int) *gate { return &gate{max: max, sources: map[netip.Addr]*source{}} }

// allow takes a token of the source's bucket.
func (g *gate) allow(a netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[a]
	if s == nil {
		if len(g.sources) >= maxSources && !g.forget(now) {
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

// forget drops the sources that are idle, and says whether there is room now.
func (g *gate) forget(now time.Time) bool {
	for a, s := range g.sources {
		if s.active == 0 && now.Sub(s.last) > burst/perSecond*time.Second {
			delete(g.sources, a)
		}
	}
	return len(g.sources) < maxSources
}

// enter counts a transfer that begins; leave must follow when it says entered.
func (g *gate) enter(a netip.Addr) entry {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[a]
	switch {
	case g.active >= g.max:
		return full
	case s == nil || s.waiting >= maxUnanswered || s.active >= maxPerSource:
		return unanswered
	}
	g.active++
	s.active++
	s.waiting++
	return entered
}

// confirm notes that the source answers: it is who it says.
func (g *gate) confirm(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sources[a]; s != nil && s.waiting > 0 {
		s.waiting--
	}
}

// leave counts a transfer that ended.
func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active--
	if s := g.sources[a]; s != nil {
		s.active--
		s.waiting = min(s.waiting, s.active)
	}
}
