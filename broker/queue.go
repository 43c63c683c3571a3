package broker

import (
	"context"
	"fmt"
	"slices"

	"muster/agent/facts"
	"muster/broker/task"
)

// start begins the task of a node at its first stage, or has it wait for its turn: a repo serves so many installs at
// once, and more of them would all be slower.
func (b *Broker) start(tx Tx, n *Node, t *task.Task, disk *facts.Disk, wipe bool) ([]Event, error) {
	limit := b.cat.Load().repos[n.Repo].Installs
	if limit == 0 {
		return b.begin(n, t, 1, disk, wipe)
	}
	busy, queued, err := installing(tx, n.Repo)
	if err != nil {
		return nil, err
	}
	if len(busy) < limit && len(queued) == 0 {
		return b.begin(n, t, 1, disk, wipe)
	}
	n.Stage, n.Starts, n.Queued, n.QueuedWipe, n.Target = 1, nil, b.now(), wipe, targetOf(disk)
	n.InstallSeq++ // the tokens of the install before are no good any more
	why := fmt.Sprintf("repo %s serves %d at once: place %d in the queue", n.Repo, limit, len(queued)+1)
	e, err := b.move(n, wait, "broker", why)
	return []Event{e, b.order(n, facts.OrderWait, why)}, err
}

// installing are the nodes that install from a repo, and those that wait for it, first come first.
func installing(tx Tx, repo string) (busy, queued []*Node, err error) {
	nodes, err := tx.Nodes(NodeFilter{State: WaitCallBack})
	for _, n := range nodes {
		switch {
		case n.Repo != repo:
		case n.Queued.IsZero():
			busy = append(busy, n)
		case n.Hold == "":
			queued = append(queued, n)
		}
	}
	slices.SortStableFunc(queued, func(a, z *Node) int { return a.Queued.Compare(z.Queued) })
	return busy, queued, err
}

// takeTurns begins what waited, where a repo has room again.
func (b *Broker) takeTurns(ctx context.Context) error {
	for name, r := range b.cat.Load().repos {
		if r.Installs == 0 {
			continue
		}
		err := b.update(ctx, func(tx Tx) (touched []string, err error) {
			busy, queued, err := installing(tx, name)
			if err != nil {
				return nil, err
			}
			for _, n := range queued[:min(len(queued), max(0, r.Installs-len(busy)))] {
				events, err := b.takeTurn(n)
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
		if err != nil {
			return fmt.Errorf("begin what waits for repo %s: %w", name, err)
		}
	}
	return nil
}

func (b *Broker) takeTurn(n *Node) ([]Event, error) {
	t, wipe := b.cat.Load().taskOf(n), n.QueuedWipe
	var disk *facts.Disk
	known, err := n.Facts.Whole()
	if err != nil {
		return nil, err
	}
	if n.Target != nil && known != nil {
		if i := slices.IndexFunc(known.Disks, func(d facts.Disk) bool { return d.ID == n.Target.ID }); i >= 0 {
			disk = &known.Disks[i]
		}
	}
	switch {
	case t == nil || len(t.Stages) == 0:
		return b.failNode(n, "broker", fmt.Sprintf("there is no task %q any more", n.Task))
	case t.Disk && disk == nil:
		return b.failNode(n, "broker", "the disk that it was to be installed on is not there any more")
	}
	return b.begin(n, t, 1, disk, wipe)
}
