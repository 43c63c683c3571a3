package dhcp

import (
	"net/netip"
	"strings"
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
// the other way, which works everywhere but is a second slower. What a machine loads after that is remembered of all
// its maker's cards.
type profiles struct {
	mu     sync.Mutex
	tries  recent[boot.MAC, tries]
	makers recent[[3]byte, profile]
}

// maxMakers bounds what is remembered of blocks of addresses.
const maxMakers = 512

type tries struct {
	n    int
	last time.Time
	told profile // last
	file string  // the same
}

func newProfiles() *profiles {
	return &profiles{tries: newRecent[boot.MAC, tries](maxSeen), makers: newRecent[[3]byte, profile](maxMakers)}
}

// Saw is told what a machine was seen to load, by TFTP or HTTP: a file that it read was told in the right way. It must
// not block and does not.
func (s *Server) Saw(x boot.Sighting) {
	if x.What != "read" || x.Bytes == 0 || x.Client.MAC.IsZero() {
		return
	}
	s.profiles.loaded(x.Client.MAC, x.Name)
}

func (f *profiles) loaded(m boot.MAC, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, _ := f.tries.get(m); base(name) == base(t.file) {
		f.right(m)
	}
}

func base(name string) string { return name[strings.LastIndexAny(name, `/\`)+1:] }

// tells notes the file that a machine which tries is told.
func (f *profiles) tells(m boot.MAC, file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.tries.get(m); ok && t.n > 0 {
		t.file = file
		f.tries.put(m, t)
	}
}

// right says that a machine found its file as it was told. The caller holds mu.
func (f *profiles) right(m boot.MAC) {
	t, _ := f.tries.get(m)
	if t.n == 0 {
		return
	}
	if was, _ := f.makers.get(maker(m)); was != t.told {
		f.makers.put(maker(m), t.told)
	}
	f.tries.put(m, tries{})
}

// maker is the block of addresses that a card is of (its OUI).
func maker(m boot.MAC) [3]byte { return [3]byte(m[:3]) }

// of gives the profile; discover says that the client begins, and so counts a try.
func (f *profiles) of(c boot.Client, discover bool, now time.Time) profile {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, _ := f.tries.get(c.MAC)
	switch {
	case c.Kind == boot.KindIPXE:
		f.right(c.MAC) // our loader runs
		return byBypass
	case c.Kind != boot.KindUEFI:
		return byBypass
	case now.Sub(t.last) > impatience:
		t = tries{}
	}
	if discover {
		t.n++
		t.last = now
	}
	t.told, _ = f.makers.get(maker(c.MAC))
	if t.n > patience {
		t.told = otherProfile(t.told)
	}
	if discover {
		f.tries.put(c.MAC, t)
	}
	return t.told
}

func otherProfile(p profile) profile {
	if p == byBinl {
		return byBypass
	}
	return byBinl
}
