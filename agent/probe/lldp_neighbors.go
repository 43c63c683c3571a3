package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

const (
	lldpSilence    = 35 * time.Second       // a port that says nothing for so long has no neighbour: switches send every 30 s
	lldpLook       = 250 * time.Millisecond // how often new interfaces are looked for, in the first minute
	lldpLookLater  = 2 * time.Second        // and after it
	lldpTellEvery  = 30 * time.Second       // between two words of change, however much the neighbours chatter
	maxNeighbors   = 8                      // of one interface
	maxListening   = 256                    // interfaces
	maxLLDPFrame   = 9216                   // bytes; jumbo frames are not forbidden
	lldpRcvBuffer  = 64 << 10               // bytes that the kernel keeps for us
	lldpErrorsKept = 8                      // told in one look
)

// lldpGroup is the nearest bridge, to which every switch sends.
var lldpGroup = [8]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}

// Neighbors listens to what the switch ports at the machine's interfaces say of themselves by LLDP. One socket and
// one goroutine serve all interfaces; what is kept is the last frame of each of at most 8 neighbours of an interface.
type Neighbors struct {
	mu      sync.Mutex
	now     func() time.Time
	ports   map[int]*lldpPort // by interface index
	news    bool              // something was heard or lost since the last look
	told    time.Time         // when changed was last signalled
	changed chan struct{}
	faults  []error // of frames and joins, since the last look
}

// An lldpPort is an interface that is listened on.
type lldpPort struct {
	name    string
	mac     string
	running bool
	since   time.Time // of listening, or of the link coming or going
	heard   map[string]*heardNeighbor
	known   bool // at the last look it was known who is there, or that nobody is
}

type heardNeighbor struct {
	neighbor facts.Neighbor
	at       time.Time
	until    time.Time
}

// ListenNeighbors begins to listen on all Ethernet interfaces, also those that come later, until ctx ends. It sends
// nothing and sets no interface up.
func ListenNeighbors(ctx context.Context) (*Neighbors, error) {
	fd, err := lldpSocket()
	if err != nil {
		return nil, fmt.Errorf("listen for LLDP: %w", err)
	}
	n := newNeighbors(time.Now)
	go n.run(ctx, fd)
	return n, nil
}

func newNeighbors(now func() time.Time) *Neighbors {
	return &Neighbors{now: now, ports: map[int]*lldpPort{}, changed: make(chan struct{}, 1)}
}

// lldpSocket is bound to no interface: the memberships choose them, as they appear.
func lldpSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, lldpRcvBuffer)
	if err := setLLDPWait(fd, lldpLook); err != nil {
		unix.Close(fd)
		return -1, err
	}
	proto := binary.NativeEndian.Uint16([]byte{etherTypeLLDP >> 8, etherTypeLLDP & 0xff}) // packet(7): network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setLLDPWait(fd int, d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// run receives until ctx ends, and looks for interfaces now and then.
func (n *Neighbors) run(ctx context.Context, fd int) {
	defer unix.Close(fd)
	join := func(index int) error {
		return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: 6, Address: lldpGroup})
	}
	began := n.now()
	every, next := lldpLook, began
	buf := make([]byte, maxLLDPFrame)
	for ctx.Err() == nil {
		if now := n.now(); !now.Before(next) { // a port that floods us does not keep us from looking
			links, err := net.Interfaces()
			n.look(links, err, join)
			if every == lldpLook && now.Sub(began) > time.Minute {
				every = lldpLookLater
				_ = setLLDPWait(fd, every)
			}
			next = now.Add(every)
		}
		size, from, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			n.fault(fmt.Errorf("receive: %w", err))
			return
		}
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype != unix.PACKET_OUTGOING {
			n.take(a.Ifindex, buf[:min(size, len(buf))], size)
		}
	}
}

// look notes interfaces that came, went, or whose link did; forgets neighbours whose time is over; and signals news.
func (n *Neighbors) look(links []net.Interface, err error, join func(index int) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.addFault(fmt.Errorf("list interfaces: %w", err))
		return
	}
	now := n.now()
	seen := map[int]bool{}
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 || len(l.HardwareAddr) != 6 {
			continue
		}
		seen[l.Index] = true
		n.note(l, now, join)
	}
	for index, p := range n.ports {
		if !seen[index] {
			n.news = n.news || len(p.heard) > 0
			delete(n.ports, index)
		}
	}
	n.expire(now)
	n.signal(now)
}

// note keeps what is known of one interface right.
func (n *Neighbors) note(l net.Interface, now time.Time, join func(index int) error) {
	p := n.ports[l.Index]
	if p == nil {
		if len(n.ports) >= maxListening {
			return
		}
		if err := join(l.Index); err != nil {
			n.addFault(fmt.Errorf("%s: join: %w", l.Name, err))
			return
		}
		p = &lldpPort{since: now, heard: map[string]*heardNeighbor{}, running: l.Flags&net.FlagRunning != 0}
		n.ports[l.Index] = p
	}
	p.name, p.mac = l.Name, string(l.HardwareAddr)
	if running := l.Flags&net.FlagRunning != 0; running != p.running {
		p.running, p.since = running, now
		if !running && len(p.heard) > 0 {
			clear(p.heard)
			n.news = true
		}
	}
}

// expire forgets what was not said again in its time.
func (n *Neighbors) expire(now time.Time) {
	for _, p := range n.ports {
		for id, h := range p.heard {
			if !now.Before(h.until) {
				delete(p.heard, id)
				if h.at.After(p.since) {
					p.since = h.at // the port has been silent since
				}
				n.news = true
			}
		}
	}
}

// answered says that it is known who is at a port, or that nobody is.
func (p *lldpPort) answered(now time.Time) bool {
	return len(p.heard) > 0 || now.Sub(p.since) >= lldpSilence
}

// signal says once that another look would find something else. That nobody speaks is only news when no port is
// left that may still speak: one check-in tells all of it.
func (n *Neighbors) signal(now time.Time) {
	silence, all := false, true
	for _, p := range n.ports {
		all = all && p.answered(now)
		silence = silence || p.answered(now) && !p.known
	}
	if !n.news && !(silence && all) || !n.told.IsZero() && now.Sub(n.told) < lldpTellEvery {
		return
	}
	n.told = now
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// take notes a frame that had size bytes on the wire.
func (n *Neighbors) take(index int, frame []byte, size int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.ports[index]
	if p == nil {
		return // it was not asked for
	}
	if size > len(frame) {
		n.addFault(fmt.Errorf("%s: frame of %d bytes: %w", p.name, size, errTruncated))
		return
	}
	for _, own := range n.ports { // a cable between two of our ports, a loop
		if len(frame) >= 12 && own.mac == string(frame[6:12]) {
			n.addFault(fmt.Errorf("%s: frame of our own port %s", p.name, own.name))
			return
		}
	}
	neighbor, err := parseLLDP(frame)
	if err != nil {
		n.addFault(malformed{fmt.Errorf("%s: %w", p.name, err)})
	}
	if neighbor.ChassisID != "" {
		n.keep(p, neighbor)
		n.signal(n.now())
	}
}

// keep puts a neighbour in the place of what it said before. Where there are too many, the one that was silent for
// longest goes: a switch speaks again.
func (n *Neighbors) keep(p *lldpPort, neighbor facts.Neighbor) {
	now := n.now()
	old := p.heard[neighbor.ChassisID]
	if neighbor.TTL == 0 { // it says good-bye
		if old != nil {
			delete(p.heard, neighbor.ChassisID)
			p.since, n.news = now, true
		}
		return
	}
	if old == nil && len(p.heard) >= maxNeighbors {
		oldest := ""
		for id, h := range p.heard {
			if oldest == "" || h.at.Before(p.heard[oldest].at) {
				oldest = id
			}
		}
		delete(p.heard, oldest)
	}
	if old == nil || !sameNeighbor(old.neighbor, neighbor) {
		n.news = true
	}
	p.heard[neighbor.ChassisID] = &heardNeighbor{neighbor, now, now.Add(time.Duration(neighbor.TTL) * time.Second)}
}

// sameNeighbor does not look at lifetimes, which some switches count down.
func sameNeighbor(a, b facts.Neighbor) bool {
	a.TTL, b.TTL = 0, 0
	return reflect.DeepEqual(a, b)
}

func (n *Neighbors) fault(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addFault(err)
}

// addFault keeps different errors, a few: a neighbour that sends nonsense every second is told once.
func (n *Neighbors) addFault(err error) {
	same := func(e error) bool { return e.Error() == err.Error() }
	if len(n.faults) < lldpErrorsKept && !slices.ContainsFunc(n.faults, same) {
		n.faults = append(n.faults, err)
	}
}

// Changed gets a word when another look would find other neighbours, at most twice a minute; nil when nobody listens.
func (n *Neighbors) Changed() <-chan struct{} {
	if n == nil {
		return nil
	}
	return n.changed
}

// Wait returns when it is known for each interface with a link who its neighbour is, after at most limit.
func (n *Neighbors) Wait(ctx context.Context, limit time.Duration) {
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !n.complete() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Neighbors) complete() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	linked := 0
	for _, p := range n.ports {
		if p.running {
			linked++
			if !p.answered(n.now()) {
				return false
			}
		}
	}
	return linked > 0
}

// AddTo writes the neighbours into a look at this machine, after everything else has been read. The list of an
// interface stays nil, not known, until a neighbour spoke or had 35 s to do so; then it may be empty. A nil
// Neighbors adds nothing.
func (n *Neighbors) AddTo(r *Result) {
	if n == nil || r.Facts.NICs == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	n.expire(now)
	for _, p := range n.ports {
		p.known = p.answered(now)
		at := slices.IndexFunc(r.Facts.NICs, func(nic facts.NIC) bool { return nic.Name == p.name })
		if at >= 0 && p.known {
			r.Facts.NICs[at].LLDP = p.neighbors()
		}
	}
	for _, err := range n.faults {
		r.report("lldp", code(err), err.Error())
	}
	n.faults, n.news = nil, false
	select { // what was to be told is told
	case <-n.changed:
	default:
	}
}

// neighbors in a steady order.
func (p *lldpPort) neighbors() []facts.Neighbor {
	list := make([]facts.Neighbor, 0, len(p.heard))
	for _, h := range p.heard {
		list = append(list, h.neighbor)
	}
	slices.SortFunc(list, func(a, b facts.Neighbor) int { return cmp.Compare(a.ChassisID, b.ChassisID) })
	return list
}
