package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
)

// errDenied is the one answer to a caller who is not who it says, whatever the cause.
var errDenied = &classed{ErrDenied, "no such node or token"}

// CheckIn takes an agent's report. key is the boot key of the running agent; the first check-in of a boot trades the
// one-time token of the kernel command line for it. The same check-in again gives the same answer.
func (b *Broker) CheckIn(ctx context.Context, key string, in *facts.CheckIn) (*facts.CheckInReply, error) {
	if len(key) < 32 || len(key) > 128 {
		return nil, errDenied
	}
	r, err := read(in)
	if err != nil {
		return nil, err
	}
	var reply *facts.CheckInReply
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		n, fresh, err := b.admit(tx, key, in.Token)
		if err != nil {
			return nil, err
		}
		o := outcome{Verdict: isNode}
		if r.found.Known() {
			v, err := look(tx, n, r.keys)
			if err != nil {
				return nil, err
			}
			o = resolve(v, r.keys)
		}
		if o.Verdict == isConflict {
			reply, err = b.doubt(tx, n, o, r.keys)
			return nodeIDs(o.Named), err
		}
		if o.Verdict == isNew {
			if n, err = b.split(tx, n, o); err != nil {
				return nil, err
			}
		}
		arrived := o.Node != nil && o.Node.ID != n.ID
		if arrived {
			n = o.Node.arrive(n)
		}
		events, want, err := b.learn(tx, n, r, o)
		if err != nil {
			return nil, err
		}
		events = append(events, skew(n, in.State)...)
		if fresh {
			events = append([]Event{here(n, in)}, events...)
		}
		more, err := b.settle(tx, n, fresh || arrived)
		if err != nil {
			return nil, err
		}
		if err := b.change(tx, n, append(events, more...)...); err != nil {
			return nil, err
		}
		order, err := b.render(n)
		reply = &facts.CheckInReply{Node: n.ID, Name: n.Hostname, WantFacts: want, Tags: n.CarriedTags(), Policy: n.Policy, Order: order}
		return []string{n.ID}, err
	})
	return reply, err
}

// A report is a check-in with what is made of it before its transaction begins.
type report struct {
	*facts.CheckIn
	found Facts
	keys  Keys
}

func read(in *facts.CheckIn) (r report, err error) {
	r.CheckIn = in
	if in.Facts == nil {
		return r, nil
	}
	if r.found, err = Found(in.Facts); err != nil {
		return r, invalid("%s", err)
	}
	r.keys = factKeys(in.Facts)
	return r, nil
}

// admit says whose agent calls. fresh means that this is its first check-in.
func (b *Broker) admit(tx Tx, key, token string) (n *Node, fresh bool, err error) {
	hash := hashKey(key)
	n, err = tx.NodeByKey(KeyBoot, hash)
	if !errors.Is(err, ErrNotFound) {
		return n, false, err
	}
	id, seq, ok := b.cfg.Key.open(scopeBoot, token)
	if !ok {
		return nil, false, errDenied
	}
	n, err = tx.Node(id)
	if errors.Is(err, ErrNotFound) {
		return nil, false, errDenied
	}
	if err != nil {
		return nil, false, err
	}
	if seq != n.Boot.Seq {
		return nil, false, errDenied // traded before, by another key
	}
	n.Boot.Traded, n.Boot.Seq, n.Boot.KeyHash, n.Boot.SkewMS = seq, seq+1, hash, 0
	return n, true, nil
}

// learn takes in the facts: ids and hardware. o is what the ids were found to be. want asks the agent for the whole.
func (b *Broker) learn(tx Tx, n *Node, in report, o outcome) (events []Event, want bool, err error) {
	n.LastSeen, n.Boot.Version, n.Errors = b.now(), in.Agent.Version, in.Errors
	events = n.takeState(in.State, b.now())
	if in.Facts == nil {
		return events, in.FactsHash == "" || in.FactsHash != n.FactsHash, nil
	}
	first := !n.Facts.Known()
	if !first && in.found.Hash == n.FactsHash {
		return events, false, nil
	}
	hardware, err := n.learnHardware(in.found)
	if err != nil {
		return nil, false, err
	}
	n.Facts, n.FactsHash, n.FactsAt = in.found, in.found.Hash, b.now()
	adopted, err := b.adopt(tx, n, o)
	if err != nil {
		return nil, false, err
	}
	events = append(append(adopted, events...), hardware...)
	kind, text := EventFacts, "facts changed: "
	if first {
		kind, text = EventRegistered, "facts: "
	}
	e := Event{Kind: kind, Who: "agent", Text: text + n.Facts.Hardware, Data: millis(in.TimingMS)}
	if in.State != nil && in.State.UptimeMS > 0 {
		n.Boot.UpMS = in.State.UptimeMS
		e.Data["since_kernel_ms"] = fmt.Sprint(in.State.UptimeMS)
		e.Text += fmt.Sprintf(" (%.1f s after kernel start)", float64(in.State.UptimeMS)/1000)
	}
	if len(in.Errors) > 0 {
		e.Text += fmt.Sprintf("; %d not read: %s", len(in.Errors), collectors(in.Errors))
	}
	return append(events, e), false, nil
}

// here says that an agent runs on the machine now, whatever its facts are: the end of a boot.
func here(n *Node, in *facts.CheckIn) Event {
	e := Event{Kind: EventCheckIn, Who: "agent", Text: fmt.Sprintf("boot %d: agent %s runs", n.Boot.Traded, in.Agent.Version), Data: map[string]string{}}
	if in.State != nil && in.State.UptimeMS > 0 {
		e.Data["since_kernel_ms"] = fmt.Sprint(in.State.UptimeMS)
		e.Text += fmt.Sprintf(", %.1f s after kernel start", float64(in.State.UptimeMS)/1000)
	}
	return e
}

// maxSkew is what two clocks may differ by without a word; the agent leaves as much alone.
const maxSkew = time.Minute

// skew tells once a boot of a clock that was far off. The agent sets the running clock and leaves the battery clock
// alone: what runs on the machine after it has the wrong time again.
func skew(n *Node, s *facts.State) []Event {
	if s == nil || s.ClockSkewMS == nil || n.Boot.SkewMS != 0 {
		return nil
	}
	ms, way := *s.ClockSkewMS, "ahead"
	if ms < 0 {
		ms, way = -max(ms, -math.MaxInt64), "behind"
	}
	if ms < maxSkew.Milliseconds() {
		return nil
	}
	n.Boot.SkewMS = *s.ClockSkewMS
	text := fmt.Sprintf("the machine's clock was %d s %s", ms/1000, way)
	if day := (24 * time.Hour).Milliseconds(); ms >= 2*day {
		text = fmt.Sprintf("the machine's clock was %d days %s", ms/day, way)
	}
	return []Event{{Kind: EventClock, Who: "agent", Text: text}}
}

func collectors(errs []facts.ProbeError) string {
	var names []string
	for _, e := range errs {
		names = append(names, e.Collector)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Summary says in one line what a machine is.
func Summary(f *facts.Facts) string {
	var parts []string
	if s := f.System; s != nil && s.Product != "" {
		parts = append(parts, strings.TrimSpace(s.Manufacturer+" "+s.Product))
	}
	if c := f.CPU; c != nil && c.Threads > 0 {
		parts = append(parts, fmt.Sprintf("%d CPU %s", c.Threads, plural(c.Threads, "thread")))
	}
	if m := f.Memory; m != nil && m.TotalBytes > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GiB memory", float64(m.TotalBytes)/(1<<30)))
	}
	var disks int64
	for _, d := range f.Disks {
		disks += d.SizeBytes
	}
	parts = append(parts, fmt.Sprintf("%d %s (%.1f GiB)", len(f.Disks), plural(len(f.Disks), "disk"), float64(disks)/(1<<30)))
	parts = append(parts, fmt.Sprintf("%d %s", len(f.NICs), plural(len(f.NICs), "NIC")))
	return strings.Join(parts, ", ")
}

// WaitOrder gives the node's order as soon as its ID is greater than after; (nil, nil) when that takes longer than
// patience.
func (b *Broker) WaitOrder(ctx context.Context, key string, after int64, patience time.Duration) (*facts.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		n, err := b.byKey(ctx, key)
		if err != nil {
			return nil, err
		}
		rung := b.bell.hear(n.ID)
		if n, err = b.byKey(ctx, key); err != nil { // what changed before we heard
			return nil, err
		}
		if n.Order.ID > after {
			o, err := b.render(n)
			return &o, err
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-rung:
		}
	}
}

func (b *Broker) byKey(ctx context.Context, key string) (n *Node, err error) {
	err = b.cfg.Store.View(context.WithoutCancel(ctx), func(tx Tx) error {
		n, err = tx.NodeByKey(KeyBoot, hashKey(key))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, errDenied
	}
	return n, err
}
