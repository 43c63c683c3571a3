package boot

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	loopTries  = 3                // times a loader is fetched without a script request between
	loopWindow = 2 * time.Minute  // within which they are a loop
	loopRest   = 10 * time.Minute // how long the machine is given to its disk then
	triesKept  = 4096
)

// tries remembers, for a while and in memory, which machines loaded a program and did not start it. A round is an offer
// by DHCP and a fetch after it; firmware fetches twice, once for the size. A script request ends it.
type tries struct {
	mu  sync.Mutex
	now func() time.Time
	of  map[MAC]*try
}

type try struct {
	offered bool
	rounds  int       // within the window
	first   time.Time // of the rounds
	last    time.Time
	ran     bool // what was fetched last has been heard of
	instead bool // the signed chain was offered, because another had not started
	signed  bool // and that one ran: it stays
}

// at gives the machine's entry, an old one cleared. Called with the lock held.
func (t *tries) at(mac MAC) *try {
	if t.of == nil || len(t.of) >= triesKept && t.of[mac] == nil {
		t.of = map[MAC]*try{} // of many machines one try is forgotten, which costs each one boot
	}
	e := t.of[mac]
	if e == nil {
		e = &try{}
		t.of[mac] = e
	}
	if e.rounds > 0 && t.now().Sub(e.last) > loopRest {
		*e = try{signed: e.signed}
	}
	return e
}

// offer notes that the machine was told of a loader, and says whether it left one unstarted before.
func (t *tries) offer(mac MAC) (unstarted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.at(mac)
	e.offered = true
	e.instead = e.rounds > 0 && !e.ran
	return e.signed || e.instead
}

// fetched counts a round, the first fetch after an offer, and gives how many there were within the window.
func (t *tries) fetched(mac MAC) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, now := t.at(mac), t.now()
	if !e.offered {
		return 0
	}
	if now.Sub(e.first) > loopWindow {
		e.rounds, e.first = 0, now
	}
	e.offered, e.ran, e.last = false, false, now
	e.rounds++
	return e.rounds
}

// runs notes that the loader was heard of: it asks DHCP by its own name.
func (t *tries) runs(mac MAC) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.of[mac]; e != nil {
		e.ran = true
	}
}

// started ends the rounds: the loader asked for its script.
func (t *tries) started(mac MAC, d Dialect) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.of[mac]; e != nil {
		*e = try{signed: e.signed || e.instead && d == GRUB}
	}
}

// loops says that the machine fetches loaders in a circle.
func (t *tries) loops(mac MAC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.of[mac]
	return e != nil && e.rounds >= loopTries && t.now().Sub(e.last) < loopRest
}

// Next is the Source's answer for firmware. A machine that fetches loaders in a circle is given to its disk for a while
// (protocols 1.9).
func (s *Server) Next(ctx context.Context, c Client) (Step, error) {
	if s.tries.loops(c.MAC) {
		return Step{Kind: StepLocal, Because: fmt.Sprintf("loader-loop: it fetched its loader %d times in %s and started none", loopTries, loopWindow)}, nil
	}
	return s.cfg.Source.Next(ctx, c)
}

var _ Source = (*Server)(nil)

// fetched notes that a machine loads its first program.
func (s *Server) fetched(c Client, name string) {
	if c.MAC.IsZero() || !isFirst(name) {
		return
	}
	if n := s.tries.fetched(c.MAC); n == loopTries {
		s.cfg.Observe(Sighting{Time: s.cfg.Now(), Client: c, Proto: "dhcp", What: "loader-loop", Name: name,
			Text: fmt.Sprintf("fetched %d times and never started; the machine is given to its disk for %s", n, loopRest)})
	}
}

func isFirst(name string) bool {
	for _, r := range firstLoaders {
		if r.file == name {
			return true
		}
	}
	return false
}
