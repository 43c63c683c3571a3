package dhcp

import (
	"container/list"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"muster/boot"
)

// maxPool bounds what the leases of one network may take in memory.
const maxPool = 1 << 16

// A span is a run of addresses, both ends in it.
type span struct{ first, last uint32 }

func (s span) size() int { return int(s.last-s.first) + 1 }

// A pool is the addresses to lease in one network, without those that are others'.
type pool struct {
	prefix netip.Prefix
	spans  []span
	barred map[uint32]bool
	usable int // addresses not barred
	spare  int // addresses that only machines which are known may take while nobody had them

	// What the leases keep here, under their lock.
	taken     int       // addresses that somebody has, had or is offered
	bad       int       // addresses in quarantine, or that were
	offers    list.List // of *binding: offered and not taken, the oldest first
	fullUntil time.Time // no address can be free before
}

func (p *pool) has(a uint32) bool {
	return !p.barred[a] && slices.ContainsFunc(p.spans, func(s span) bool { return a >= s.first && a <= s.last })
}

func (p *pool) size() (n int) {
	for _, s := range p.spans {
		n += s.size()
	}
	return n
}

// at is the address of a number below size.
func (p *pool) at(i int) uint32 {
	for _, s := range p.spans {
		if i < s.size() {
			return s.first + uint32(i)
		}
		i -= s.size()
	}
	return 0
}

// mostOffers is how many addresses may be promised to strangers who have not taken them yet: who asks for one after
// the other under new names shall not have them all.
func (p *pool) mostOffers() int { return p.usable - p.usable/4 }

// poolOf reads a network. Barred are our own addresses and those that are reserved.
func poolOf(n *Network, barred []netip.Addr) (*pool, error) {
	begin := toUint(n.Prefix.Masked().Addr())
	end := begin | ^mask(n.Prefix)
	p := &pool{prefix: n.Prefix, spans: []span{{begin + (end-begin)/2 + 1, end - 1}}}
	if len(n.Ranges) > 0 {
		p.spans = nil
	}
	for _, r := range n.Ranges {
		s, err := spanOf(n, r)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.spans, func(o span) bool { return s.first <= o.last && o.first <= s.last }) {
			return nil, fmt.Errorf("start DHCP: pool %v to %v: it overlaps another one", r.First, r.Last)
		}
		p.spans = append(p.spans, s)
	}
	room := maxPool
	for i, s := range p.spans {
		if s.size() > room {
			p.spans[i].first = s.last - uint32(room) + 1
		}
		room -= p.spans[i].size()
		if room <= 0 {
			p.spans = p.spans[:i+1]
			break
		}
	}
	p.barred = map[uint32]bool{begin: true, end: true}
	for _, a := range slices.Concat(barred, n.DNS, []netip.Addr{n.Router}) {
		if a.Is4() {
			p.barred[toUint(a)] = true
		}
	}
	p.usable = p.size()
	for a := range p.barred {
		if slices.ContainsFunc(p.spans, func(s span) bool { return a >= s.first && a <= s.last }) {
			p.usable--
		}
	}
	if p.usable == 0 {
		return nil, fmt.Errorf("start DHCP: pool of %v: no address is left", n.Prefix)
	}
	return p, nil
}

func spanOf(n *Network, r Range) (span, error) {
	if !n.Prefix.Contains(r.First) || !n.Prefix.Contains(r.Last) || r.Last.Less(r.First) {
		return span{}, fmt.Errorf("start DHCP: pool %v to %v: want two addresses of %v in order", r.First, r.Last, n.Prefix)
	}
	return span{toUint(r.First), toUint(r.Last)}, nil
}

// start is the place in the pool where the search for a machine's address begins. The MAC decides it: a machine gets
// the same address again even when the lease file is lost.
func (p *pool) start(mac boot.MAC) int {
	h := fnv.New32a()
	h.Write(mac[:])
	return int(h.Sum32() % uint32(p.size()))
}
