package dhcp

import (
	"context"
	"sync"
	"time"

	"muster/boot"
)

// Work in progress.
const (
	queueLength = 1024 // packets waiting, of each lane
	workers     = 64   // packets in work: enough to share one sync of the lease file
	ofKnown     = 16   // workers that take no stranger's packet
)

// What one MAC may ask. Firmware that is told nothing asks four times a minute, iPXE twice a second at worst; a machine
// goes through firmware, loader, ramdisk and system within a minute.
const (
	burst  = 24
	refill = 2 // a second
)

// An intake is the queue before the workers. It has two lanes: strangers, who can come under any number of names, fill
// theirs and are dropped, and the machines that are known do not wait behind them.
type intake struct {
	known, strange chan inbound

	mu     sync.Mutex
	limits recent[boot.MAC, bucket]
}

// A bucket is what is left of a client's burst.
type bucket struct {
	left float64
	at   time.Time
}

func newIntake() *intake {
	return &intake{known: make(chan inbound, queueLength), strange: make(chan inbound, queueLength),
		limits: newRecent[boot.MAC, bucket](maxSeen)}
}

// allows takes one packet out of a client's bucket.
func (q *intake) allows(m boot.MAC, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, ok := q.limits.get(m)
	if !ok {
		b = bucket{left: burst, at: now}
	}
	b.left = min(burst, b.left+now.Sub(b.at).Seconds()*refill)
	b.at = now
	if b.left < 1 {
		q.limits.put(m, b)
		return false
	}
	b.left--
	q.limits.put(m, b)
	return true
}

func (q *intake) close() {
	close(q.known)
	close(q.strange)
}

// work calls handle for what is queued until both lanes are closed. Lane strange may be nil: then it is another's.
func work(known, strange <-chan inbound, handle func(inbound)) {
	for known != nil || strange != nil {
		var in inbound
		var ok bool
		select {
		case in, ok = <-known:
			if !ok {
				known = nil
			}
		default:
			select {
			case in, ok = <-known:
				if !ok {
					known = nil
				}
			case in, ok = <-strange:
				if !ok {
					strange = nil
				}
			}
		}
		if ok {
			handle(in)
		}
	}
}

// admit queues a packet or counts why it does not.
func (s *Server) admit(in inbound) {
	s.received.Add(1)
	m, ok := in.client()
	if !ok {
		s.malformed.Add(1)
		return
	}
	if !s.intake.allows(m, s.now()) {
		s.limited.Add(1)
		return
	}
	lane := s.intake.strange
	if s.knows(m) {
		lane = s.intake.known
	}
	select {
	case lane <- in:
	default:
		s.dropped.Add(1)
	}
}

// client reads who asks without reading the packet.
func (in inbound) client() (boot.MAC, bool) {
	if len(in.data) < headerLength || in.data[2] != 6 {
		return boot.MAC{}, false
	}
	return boot.MAC(in.data[28:34]), true
}

// knows says whether a machine is no stranger: it is reserved an address, has one of ours, or is known elsewhere.
func (s *Server) knows(m boot.MAC) bool {
	if s.leases != nil && (s.leases.reservedFor(m) || s.leases.leased(m)) {
		return true
	}
	return s.cfg.Known != nil && s.cfg.Known(m)
}

// start starts the workers; the result waits for them when the intake is closed.
func (s *Server) start(ctx context.Context) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range workers {
		strange := s.intake.strange
		if i < ofKnown {
			strange = nil
		}
		all.Go(func() { work(s.intake.known, strange, func(in inbound) { s.handle(ctx, in) }) })
	}
	return &all
}
