package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"muster/boot"
)

// Times of addresses that are not leased.
const (
	offerHold  = 30 * time.Second // an offer waits for its request
	quarantine = 10 * time.Minute // an address that a client found in use
)

// maxPool bounds what the leases may take in memory.
const maxPool = 1 << 16

// A pool is the range of addresses to lease, without those that are others'.
type pool struct {
	first, last uint32
	barred      map[uint32]bool
	usable      int // addresses not barred
}

func (p pool) has(a uint32) bool { return a >= p.first && a <= p.last && !p.barred[a] }
func (p pool) size() int         { return int(p.last-p.first) + 1 }

// poolOf reads the configuration.
func poolOf(cfg Config, st site) (pool, error) {
	if !st.prefix.IsValid() || !st.prefix.Addr().Is4() || st.prefix.Bits() > 30 {
		return pool{}, fmt.Errorf("start DHCP: subnet %v: want an IPv4 prefix of at most 30 bits", st.prefix)
	}
	begin := toUint(st.prefix.Masked().Addr())
	end := begin | ^mask(st.prefix)
	p := pool{first: begin + (end-begin)/2 + 1, last: end - 1}
	if cfg.PoolFirst.IsValid() || cfg.PoolLast.IsValid() {
		if !st.prefix.Contains(cfg.PoolFirst) || !st.prefix.Contains(cfg.PoolLast) || cfg.PoolLast.Less(cfg.PoolFirst) {
			return pool{}, fmt.Errorf("start DHCP: pool %v to %v: want two addresses of %v in order", cfg.PoolFirst, cfg.PoolLast, st.prefix)
		}
		p = pool{first: toUint(cfg.PoolFirst), last: toUint(cfg.PoolLast)}
	}
	if p.size() > maxPool {
		p.first = p.last - maxPool + 1
	}
	p.barred = map[uint32]bool{begin: true, end: true}
	for _, a := range slices.Concat(st.own, st.dns, []netip.Addr{st.addr, st.router}) {
		if a.Is4() {
			p.barred[toUint(a)] = true
		}
	}
	p.usable = p.size()
	for a := range p.barred {
		if a >= p.first && a <= p.last {
			p.usable--
		}
	}
	if p.usable == 0 {
		return pool{}, fmt.Errorf("start DHCP: pool %v to %v: no address is left", toAddr(p.first), toAddr(p.last))
	}
	return p, nil
}

// A binding is an address with the client that has it, had it, or is offered it.
type binding struct {
	mac    boot.MAC // zero: quarantined
	addr   uint32
	until  time.Time
	leased bool // not only offered
}

// Leases are the addresses of the pool. One machine has one address, whatever program of it asks: firmware sends no
// client id, an installer a DUID, and both are the same node.
type leases struct {
	pool    pool
	journal *journal // nil: none

	mu        sync.Mutex
	byMAC     map[boot.MAC]*binding
	byAddr    map[uint32]*binding
	fullUntil time.Time // no address can be free before
}

// refused is why a client cannot have an address; the client is told.
type refused string

func (r refused) Error() string { return string(r) }

func isRefused(err error) bool {
	var r refused
	return errors.As(err, &r)
}

// openLeases replays the journal and begins a fresh one.
func openLeases(p pool, file string, log *slog.Logger) (*leases, error) {
	l := &leases{pool: p, byMAC: map[boot.MAC]*binding{}, byAddr: map[uint32]*binding{}}
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

// put takes a binding out of the journal; the latest for a machine and for an address wins.
func (l *leases) put(b binding) {
	if !l.pool.has(b.addr) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(b)
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
	return &b
}

func (l *leases) drop(b *binding) {
	delete(l.byAddr, b.addr)
	if l.byMAC[b.mac] == b {
		delete(l.byMAC, b.mac)
	}
}

// offer finds an address for a machine: the one it has or had, the one it wishes, one that nobody ever had, and at last
// the one that is free for longest. It is kept for the machine for a while.
func (l *leases) offer(mac boot.MAC, wish netip.Addr, now time.Time) (netip.Addr, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.byMAC[mac]; b != nil {
		b.until = later(b.until, now.Add(offerHold))
		return toAddr(b.addr), true
	}
	addr, ok := l.find(mac, wish, now)
	if !ok {
		return netip.Addr{}, false
	}
	l.set(binding{mac: mac, addr: addr, until: now.Add(offerHold)})
	return toAddr(addr), true
}

func (l *leases) find(mac boot.MAC, wish netip.Addr, now time.Time) (uint32, bool) {
	if wish.Is4() && l.pool.has(toUint(wish)) && l.byAddr[toUint(wish)] == nil {
		return toUint(wish), true
	}
	if len(l.byAddr) < l.pool.usable {
		if addr, ok := l.fresh(mac); ok {
			return addr, true
		}
	}
	return l.longestFree(now)
}

// fresh looks for an address that nobody had, from a place that the MAC decides: a machine gets the same address again
// even when the lease file is lost.
func (l *leases) fresh(mac boot.MAC) (uint32, bool) {
	h := fnv.New32a()
	h.Write(mac[:])
	n := uint32(l.pool.size())
	start := h.Sum32() % n
	for i := range n {
		addr := l.pool.first + (start+i)%n
		if l.pool.has(addr) && l.byAddr[addr] == nil {
			return addr, true
		}
	}
	return 0, false
}

// longestFree takes the address of an offer that nobody took, else of the lease that ended first.
func (l *leases) longestFree(now time.Time) (uint32, bool) {
	if now.Before(l.fullUntil) {
		return 0, false
	}
	var best *binding
	next := now.Add(time.Hour)
	for _, b := range l.byAddr {
		switch {
		case b.until.After(now):
			if b.until.Before(next) {
				next = b.until
			}
		case best == nil, best.leased && !b.leased, best.leased == b.leased && b.until.Before(best.until):
			best = b
		}
	}
	if best == nil {
		l.fullUntil = next
		return 0, false
	}
	return best.addr, true
}

// bind leases an address. It returns when the lease is on disk; a refused error is for the client.
func (l *leases) bind(mac boot.MAC, addr netip.Addr, now time.Time, lasts time.Duration) error {
	if !addr.Is4() || !l.pool.has(toUint(addr)) {
		return refused("address not of this network")
	}
	l.mu.Lock()
	if b := l.byAddr[toUint(addr)]; b != nil && b.mac != mac && b.until.After(now) {
		l.mu.Unlock()
		return refused("address of another client")
	}
	b := l.set(binding{mac: mac, addr: toUint(addr), until: now.Add(lasts), leased: true})
	wait := l.write(*b)
	l.mu.Unlock()
	return wait()
}

// release ends a lease; the machine gets the same address when it comes back, unless others need it.
func (l *leases) release(mac boot.MAC, addr netip.Addr, now time.Time) error {
	l.mu.Lock()
	b := l.byMAC[mac]
	if b == nil || !addr.Is4() || b.addr != toUint(addr) {
		l.mu.Unlock()
		return nil
	}
	b.until, l.fullUntil = now, time.Time{}
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
		l.fullUntil = time.Time{}
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
