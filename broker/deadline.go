package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// inspectTimeout is how long a machine may take to boot the ramdisk for an inspection.
const inspectTimeout = 30 * time.Minute

// waits are the states with a deadline, and what is said when it has passed.
var waits = map[State]string{
	WaitCallBack: "the stage's deadline has passed",
	Cleaning:     "the deadline of a report of its wipe has passed",
	InspectWait:  "the deadline of the inspection has passed",
}

// busy are the states that begin and end within one transaction: a broker that finds a node in one was stopped in the
// middle of an older release's work, or its store was restored.
var busy = []State{Verifying, Inspecting, Cleaning, Deploying, Deleting}

// settleBusy gives up what nobody works at any more.
func (b *Broker) settleBusy(ctx context.Context) error {
	return b.update(ctx, func(tx Tx) (touched []string, err error) {
		for _, s := range busy {
			nodes, err := tx.Nodes(NodeFilter{State: s})
			if err != nil {
				return nil, err
			}
			for _, n := range nodes {
				if n.cleans() { // the agent does, and its report finds this broker
					continue
				}
				e, err := b.move(n, fail, "broker", fmt.Sprintf("the broker restarted while the node was %s", s))
				if err != nil {
					return nil, err
				}
				if err := b.change(tx, n, e); err != nil {
					return nil, err
				}
				touched = append(touched, n.ID)
			}
		}
		return touched, nil
	})
}

// keepDeadlines fails the nodes that wait too long, at most 5 s late, and asks the policies again when a window opens:
// both at once when this broker begins to lead.
func (b *Broker) keepDeadlines(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	var open []string
	for {
		err := b.expire(ctx)
		if err == nil {
			err = b.takeTurns(ctx)
		}
		now := b.openWindows()
		if err == nil && slices.ContainsFunc(now, func(p string) bool { return !slices.Contains(open, p) }) {
			err = b.Reconcile(ctx)
		}
		if err == nil {
			open = now
		} else if ctx.Err() == nil {
			b.cfg.Log.Error("check deadlines", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// openWindows names the policies that have windows of which one is open.
func (b *Broker) openWindows() (names []string) {
	for _, p := range b.cat.Load().policies {
		if c := (candidate{Policy: p, Now: b.now()}); len(p.Windows) > 0 && c.closed() == "" {
			names = append(names, p.Name)
		}
	}
	return names
}

// expire fails every node that waits past its deadline.
func (b *Broker) expire(ctx context.Context) error {
	late, err := b.late(ctx)
	if err != nil || len(late) == 0 {
		return err
	}
	return b.update(ctx, func(tx Tx) (touched []string, err error) {
		for _, old := range late {
			n, err := tx.Node(old.ID)
			if err != nil || !b.expired(n) {
				continue // it moved on meanwhile
			}
			events, err := b.overdue(n, fmt.Sprintf("no word from the machine since %s, %s%s", n.Since.Format(time.RFC3339), waits[n.State], colon(cmp.Or(n.LastLog, n.LastError))))
			if err != nil {
				return nil, err
			}
			touched = append(touched, n.ID)
			if err := b.change(tx, n, events...); err != nil {
				return nil, err
			}
		}
		return touched, nil
	})
}

func (b *Broker) late(ctx context.Context) (late []*Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		for state := range waits {
			nodes, err := tx.Nodes(NodeFilter{State: state})
			if err != nil {
				return err
			}
			late = append(late, slices.DeleteFunc(nodes, func(n *Node) bool { return !b.expired(n) })...)
		}
		return nil
	})
	return late, err
}

func (b *Broker) expired(n *Node) bool {
	return waits[n.State] != "" && !n.Deadline.IsZero() && b.now().After(n.Deadline)
}
