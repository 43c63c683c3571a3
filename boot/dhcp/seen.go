package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"muster/boot"
)

// maxSeen bounds each memory of clients; strangers can fill it, so the older half is forgotten then.
const maxSeen = 32768

// A recent is a map that forgets: when its young half is full, the old half goes.
type recent[K comparable, V any] struct {
	young, old map[K]V
	max        int
}

func newRecent[K comparable, V any](max int) recent[K, V] {
	return recent[K, V]{young: map[K]V{}, old: map[K]V{}, max: max}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, ok := r.young[k]; !ok && len(r.young) >= r.max {
		r.young, r.old = map[K]V{}, r.young
	}
	r.young[k] = v
}

// A seen remembers which address a client said it has or takes.
type seen struct {
	mu   sync.Mutex
	macs recent[netip.Addr, boot.MAC]
}

func newSeen() *seen { return &seen{macs: newRecent[netip.Addr, boot.MAC](maxSeen)} }

func (s *seen) add(a netip.Addr, m boot.MAC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.macs.put(a, m)
}

func (s *seen) mac(a netip.Addr) (boot.MAC, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.macs.get(a)
}

// patience is how often UEFI firmware may start over within impatience before it is told its file in the other way.
const (
	patience   = 2
	impatience = 90 * time.Second
)

// A profiles chooses how UEFI firmware is told its file. Firmware that ignores the bypass bit (HP Gen9) never loads
// anything and starts over; when it does so again and again, and no loader of ours was heard between, it is told in
// the other way, which works everywhere but is a second slower.
type profiles struct {
	mu    sync.Mutex
	tries recent[boot.MAC, tries]
}

type tries struct {
	n    int
	last time.Time
}

func newProfiles() *profiles { return &profiles{tries: newRecent[boot.MAC, tries](maxSeen)} }

// of gives the profile; discover says that the client begins, and so counts a try.
func (f *profiles) of(c boot.Client, discover bool, now time.Time) profile {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, _ := f.tries.get(c.MAC)
	switch {
	case c.Kind == boot.KindIPXE:
		if t.n > 0 {
			f.tries.put(c.MAC, tries{}) // our loader runs: the way was right
		}
		return byBypass
	case c.Kind != boot.KindUEFI:
		return byBypass
	case now.Sub(t.last) > impatience:
		t = tries{}
	}
	if discover {
		t.n++
		t.last = now
		f.tries.put(c.MAC, t)
	}
	if t.n > patience {
		return byBinl
	}
	return byBypass
}
