package dhcp

import (
	"container/list"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"muster/boot"
)

// Times of addresses that are not leased.
const (
	offerHold  = 30 * time.Second // an offer waits for its request
	quarantine = 10 * time.Minute // an address that a client found in use
)

// A binding is an address with the client that has it, had it, or is offered it.
type binding struct {
	mac    boot.MAC // zero: quarantined
	addr   uint32
	until  time.Time
	leased bool // not only offered
	proved bool // it was leased, or a probe found it free

	pool  *pool         // it counts there; nil: reserved
	place *list.Element // among the pool's offers
}

// A claim is who asks, and for what.
type claim struct {
	mac     boot.MAC
	uuid    boot.UUID
	circuit string
	wish    netip.Addr // an address of before
	known   bool       // not a stranger
}

// Leases are the addresses of all pools. One machine has one address, whatever program of it asks: firmware sends no
// client id, an installer a DUID, and both are the same node.
type leases struct {
	pools    []*pool
	reserved map[string][]Reservation // by their keys
	kept     map[uint32]Reservation   // by their address
	journal  *journal                 // nil: none

	mu     sync.Mutex
	byMAC  map[boot.MAC]*binding
	byAddr map[uint32]*binding
}

// refused is why a client cannot have an address; the client is told.
type refused string

func (r refused) Error() string { return string(r) }

func isRefused(err error) bool {
	var r refused
	return errors.As(err, &r)
}

// openLeases replays the journal and begins a fresh one.
func openLeases(pools []*pool, reservations []Reservation, file string, log *slog.Logger) (*leases, error) {
	l := &leases{pools: pools, reserved: map[string][]Reservation{}, kept: map[uint32]Reservation{},
		byMAC: map[boot.MAC]*binding{}, byAddr: map[uint32]*binding{}}
	for _, r := range reservations {
		l.kept[toUint(r.Addr)] = r
		for _, k := range r.keys() {
			l.reserved[k] = append(l.reserved[k], r)
		}
	}
	if file == "" {
		return l, nil
	}
	lost, err := replay(file, l.put)
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		log.Warn("lines of the lease file could not be read", "file", file, "lines", lost)
	}
	l.journal, err = openJournal(file, l.snapshot)
	return l, err
}

func (l *leases) close() error {
	if l.journal == nil {
		return nil
	}
	return l.journal.close()
}

// put takes a binding out of the journal; the latest for a machine and for an address wins. What the configuration no
// longer allows is left out.
func (l *leases) put(b binding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, kept := l.kept[b.addr]
	if kept && (r.MAC.IsZero() || r.MAC == b.mac) || l.poolOf(b.addr) != nil {
		l.set(b)
	}
}

func (l *leases) poolOf(addr uint32) *pool {
	for _, p := range l.pools {
		if p.has(addr) {
			return p
		}
	}
	return nil
}

// set replaces whatever the machine and the address had. The caller holds mu.
func (l *leases) set(b binding) *binding {
	if old := l.byAddr[b.addr]; old != nil {
		l.drop(old)
	}
	if old := l.byMAC[b.mac]; old != nil && !b.mac.IsZero() {
		l.drop(old)
	}
	l.byAddr[b.addr] = &b
	if !b.mac.IsZero() {
		l.byMAC[b.mac] = &b
	}
	b.proved = b.proved || b.leased
	if b.pool = l.poolOf(b.addr); b.pool != nil {
		b.pool.taken++
		switch {
		case b.mac.IsZero():
			b.pool.bad++
		case !b.leased:
			b.place = b.pool.offers.PushBack(&b)
		}
	}
	return &b
}

func (l *leases) drop(b *binding) {
	delete(l.byAddr, b.addr)
	if l.byMAC[b.mac] == b {
		delete(l.byMAC, b.mac)
	}
	if b.pool != nil {
		b.pool.taken--
		b.pool.fullUntil = time.Time{}
		if b.mac.IsZero() {
			b.pool.bad--
		}
	}
	if b.place != nil {
		b.pool.offers.Remove(b.place)
		b.place = nil
	}
}

// reservation finds what is kept for a client in a network.
func (l *leases) reservation(p *pool, c claim) (Reservation, bool) {
	for _, k := range (Reservation{MAC: c.mac, UUID: c.uuid, Circuit: c.circuit}).keys() {
		for _, r := range l.reserved[k] {
			if p.prefix.Contains(r.Addr) {
				return r, true
			}
		}
	}
	return Reservation{}, false
}

// due is the address reserved for a client, when no other of its NICs has it now.
func (l *leases) due(p *pool, c claim, now time.Time) (uint32, bool) {
	r, ok := l.reservation(p, c)
	if !ok {
		return 0, false
	}
	addr := toUint(r.Addr)
	b := l.byAddr[addr]
	return addr, b == nil || b.mac == c.mac || !b.until.After(now)
}

// An offering is an address to offer.
type offering struct {
	addr   netip.Addr
	proved bool // nobody else can have it: it needs no probe
}

// offer finds an address for a machine: the one reserved for it, the one it has or had, the one it wishes, one that
// nobody ever had, and at last the one that is free for longest. It is kept for the machine for a while.
func (l *leases) offer(p *pool, c claim, now time.Time) (offering, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due, isDue := l.due(p, c, now)
	b := l.byMAC[c.mac]
	if b != nil && l.holds(p, b) && (!isDue || b.addr == due) {
		b.until = later(b.until, now.Add(offerHold))
		if b.place != nil {
			b.pool.offers.MoveToBack(b.place)
		}
		return offering{toAddr(b.addr), b.proved}, true
	}
	if !isDue {
		var ok bool
		if due, ok = l.find(p, c, now); !ok {
			return offering{}, false
		}
	}
	b = l.set(binding{mac: c.mac, addr: due, until: now.Add(offerHold), proved: isDue})
	return offering{toAddr(due), b.proved}, true
}

// holds says whether a binding is of this network: a machine that moved to another one needs another address.
func (l *leases) holds(p *pool, b *binding) bool {
	_, kept := l.kept[b.addr]
	return p.has(b.addr) || kept && p.prefix.Contains(toAddr(b.addr))
}

func (l *leases) find(p *pool, c claim, now time.Time) (uint32, bool) {
	if !c.known && p.offers.Len() >= p.mostOffers() {
		l.drop(p.offers.Front().Value.(*binding)) // its machine, if there is one, asks again
	}
	if c.known || p.usable-p.taken > p.spare {
		if w := c.wish; w.Is4() && p.has(toUint(w)) && l.byAddr[toUint(w)] == nil {
			return toUint(w), true
		}
		if addr, ok := l.fresh(p, c.mac); ok {
			return addr, true
		}
	}
	if addr, ok := l.longestFree(p, now); ok || !c.known || p.offers.Len() == 0 {
		return addr, ok
	}
	return p.offers.Front().Value.(*binding).addr, true // a stranger's, who has not taken it
}

// fresh looks for an address that nobody had.
func (l *leases) fresh(p *pool, mac boot.MAC) (uint32, bool) {
	if p.taken >= p.usable {
		return 0, false
	}
	n := p.size()
	start := p.start(mac)
	for i := range n {
		addr := p.at((start + i) % n)
		if !p.barred[addr] && l.byAddr[addr] == nil {
			return addr, true
		}
	}
	return 0, false
}

// longestFree takes the address of an offer that nobody took, else of the lease that ended first.
func (l *leases) longestFree(p *pool, now time.Time) (uint32, bool) {
	if now.Before(p.fullUntil) {
		return 0, false
	}
	var best *binding
	next := now.Add(time.Hour)
	for _, b := range l.byAddr {
		switch {
		case b.pool != p:
		case b.until.After(now):
			if b.until.Before(next) {
				next = b.until
			}
		case best == nil, best.leased && !b.leased, best.leased == b.leased && b.until.Before(best.until):
			best = b
		}
	}
	if best == nil {
		p.fullUntil = next
		return 0, false
	}
	return best.addr, true
}

// may says why a client cannot have an address; nil when it can.
func (l *leases) may(p *pool, c claim, addr uint32, now time.Time) error {
	due, isDue := l.due(p, c, now)
	held := l.byAddr[addr]
	_, kept := l.kept[addr]
	mine := held != nil && held.mac == c.mac
	switch {
	case isDue && addr != due:
		return refused("another address is reserved for this client")
	case isDue:
		return nil
	case kept && !mine:
		return refused("address of another client")
	case !kept && !p.has(addr):
		return refused("address not of this network")
	case held != nil && !mine && held.until.After(now):
		return refused("address of another client")
	case held == nil && !c.known && p.usable-p.taken <= p.spare:
		return refused("no address is left for strangers")
	}
	return nil
}

// bind leases an address. It returns when the lease is on disk; a refused error is for the client.
func (l *leases) bind(p *pool, c claim, addr netip.Addr, now time.Time, lasts time.Duration) error {
	if !addr.Is4() || !p.prefix.Contains(addr) {
		return refused("address not of this network")
	}
	l.mu.Lock()
	if err := l.may(p, c, toUint(addr), now); err != nil {
		l.mu.Unlock()
		return err
	}
	b := l.set(binding{mac: c.mac, addr: toUint(addr), until: now.Add(lasts), leased: true})
	wait := l.write(*b)
	l.mu.Unlock()
	return wait()
}

// prove notes that a probe found an offered address free.
func (l *leases) prove(mac boot.MAC, addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.byMAC[mac]; b != nil && b.addr == toUint(addr) {
		b.proved = true
	}
}

// reservedFor says whether an address is kept for a MAC.
func (l *leases) reservedFor(m boot.MAC) bool { return len(l.reserved["mac "+m.String()]) > 0 }

// leased says whether a machine has or had a lease.
func (l *leases) leased(mac boot.MAC) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.byMAC[mac]
	return b != nil && b.leased
}

// release ends a lease; the machine gets the same address when it comes back, unless others need it.
func (l *leases) release(mac boot.MAC, addr netip.Addr, now time.Time) error {
	l.mu.Lock()
	b := l.byMAC[mac]
	if b == nil || !addr.Is4() || b.addr != toUint(addr) {
		l.mu.Unlock()
		return nil
	}
	if !b.leased {
		l.drop(b)
		l.mu.Unlock()
		return nil
	}
	b.until = now
	if b.pool != nil {
		b.pool.fullUntil = time.Time{}
	}
	wait := l.write(*b)
	l.mu.Unlock()
	return wait()
}

// decline keeps an address that its client found in use out of the way for a while.
func (l *leases) decline(mac boot.MAC, addr netip.Addr, now time.Time) error {
	l.mu.Lock()
	b := l.byMAC[mac]
	if b == nil || !addr.Is4() || b.addr != toUint(addr) {
		l.mu.Unlock()
		return nil
	}
	if p := b.pool; p == nil || p.bad > p.usable/4 {
		l.drop(b) // nobody can take all addresses out of the pool
		l.mu.Unlock()
		return nil
	}
	bad := l.set(binding{addr: b.addr, until: now.Add(quarantine)})
	wait := l.write(*bad)
	l.mu.Unlock()
	return wait()
}

// withdraw takes back an offer that was not taken.
func (l *leases) withdraw(mac boot.MAC, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.byMAC[mac]; b != nil && !b.leased {
		l.drop(b)
	}
}

// holder tells whose an address is or was last.
func (l *leases) holder(addr netip.Addr) (boot.MAC, bool) {
	if !addr.Is4() {
		return boot.MAC{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.byAddr[toUint(addr)]
	if b == nil || b.mac.IsZero() {
		return boot.MAC{}, false
	}
	return b.mac, true
}

// write queues a binding for the journal; the result waits until it is on disk. The caller holds mu, so that the
// journal has the order of the changes.
func (l *leases) write(b binding) func() error {
	if l.journal == nil {
		return func() error { return nil }
	}
	return l.journal.add(b)
}

// snapshot gives what a new journal begins with.
func (l *leases) snapshot() []binding {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]binding, 0, len(l.byAddr))
	for _, b := range l.byAddr {
		if b.leased || b.mac.IsZero() {
			list = append(list, *b)
		}
	}
	return list
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func toAddr(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, u)))
}
