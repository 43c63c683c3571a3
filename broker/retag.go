package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// hashOf tells values apart: what is written the same has the same.
func hashOf(values ...any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(values); err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// retag evaluates what a node's tags may be otherwise than they were, and records what changed. A node of which rules
// see what they saw is left as it is.
func (b *Broker) retag(n *Node, events *[]Event) error {
	if !n.Facts.Known() {
		return nil
	}
	kept, saw, err := b.cat.Load().carried(n)
	if err != nil || saw == n.TagsOf {
		return err
	}
	before := n.Tags
	n.Tags, n.TagsOf = kept, saw
	if !slices.Equal(kept, before) {
		*events = append(*events, Event{Kind: EventTags, Who: "broker", Text: tagsText(n)})
	}
	return nil
}

// carried are the tags that do not give no, and what they come from.
func (c *catalog) carried(n *Node) (tags []TagResult, saw string, err error) {
	saw, err = c.sawOf(n)
	if err != nil || saw == n.TagsOf {
		return n.Tags, saw, err
	}
	q := c.asks(n, saw)
	results, err := c.evaluate(n, q)
	if err != nil {
		return nil, "", err
	}
	for _, t := range n.Tags {
		_, asked := slices.BinarySearch(q.tags, t.Name)
		if !asked && c.programs[t.Name] != nil {
			results = append(results, t)
		}
	}
	results = slices.DeleteFunc(results, func(t TagResult) bool { return t.Verdict == "no" })
	slices.SortFunc(results, func(a, z TagResult) int { return strings.Compare(a.Name, z.Name) })
	return results, saw, nil
}

func tagsText(n *Node) string {
	text := "no tag holds"
	if carried := n.CarriedTags(); len(carried) > 0 {
		text = plural(len(carried), "tag") + ": " + strings.Join(carried, ", ")
	}
	for _, t := range n.Tags {
		if t.Verdict == "undecided" {
			text += fmt.Sprintf("; %s undecided: %s", t.Name, t.Cause)
		}
	}
	return text
}

// Reconcile evaluates the tags of all nodes and binds those that wait and are now taken. Nodes are looked at beside each
// other on snapshots, those first whose agents wait for an order, and written where that may change them.
func (b *Broker) Reconcile(ctx context.Context) error {
	cat := b.cat.Load()
	err := b.eachNode(ctx, b.bell.waiting(), func(n *Node) (bool, error) {
		return cat.mayChange(n, b.now())
	}, func(ids []string) error {
		return b.update(ctx, func(tx Tx) ([]string, error) { return b.reconsider(tx, ids) })
	})
	if err != nil {
		return fmt.Errorf("reconsider nodes: %w", err)
	}
	return nil
}

// mayChange says whether a node's tags are others now, or a policy wants it that has not got it.
func (c *catalog) mayChange(n *Node, now time.Time) (bool, error) {
	if !n.Facts.Known() {
		return false, nil
	}
	tags, _, err := c.carried(n)
	if err != nil || !slices.Equal(tags, n.Tags) {
		return true, err
	}
	if !n.free() || !c.wanted(n, now) {
		return false, nil
	}
	cands, err := c.candidates(n, now, func(string) (int, error) { return 0, nil })
	win, _, _ := choose(n, cands)
	return win != nil, err
}

// free says that a policy may take the node.
func (n *Node) free() bool {
	return n.Policy == "" && n.Hold == "" && n.Conflict == "" && n.Facts.Known() && (n.State == Manageable || n.State == Available)
}

// ask has the tags and policies in force judge a node as it is now.
func (b *Broker) ask(tx Tx, n *Node) ([]Event, error) {
	var events []Event
	if err := b.retag(n, &events); err != nil {
		return nil, err
	}
	bound, err := b.bind(tx, n)
	return append(events, bound...), err
}

// reconsider evaluates and binds the nodes of a batch in one transaction.
func (b *Broker) reconsider(tx Tx, batch []string) (changed []string, err error) {
	for _, id := range batch {
		n, err := tx.Node(id)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		events, err := b.ask(tx, n)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			continue
		}
		if err := b.change(tx, n, events...); err != nil {
			return nil, err
		}
		changed = append(changed, n.ID)
	}
	return changed, nil
}

// eachNode shows all nodes to see, some at a time and several at once: first those that are named, then as they were
// created. The facts of a node can be read while it is seen. Those for which see says so are given to act.
func (b *Broker) eachNode(ctx context.Context, first []string, see func(*Node) (bool, error), act func(ids []string) error) error {
	var ids []string
	err := b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		ids, err = tx.NodeIDs()
		return err
	})
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, id := range first {
		named[id] = true
	}
	slices.SortStableFunc(ids, func(a, z string) int { return before(named[a], named[z]) })
	const page = 32
	pages := make(chan []string)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ids := range pages {
				chosen, err := b.seeAll(ctx, ids, see)
				if err == nil && len(chosen) > 0 {
					err = act(chosen)
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for ids := range slices.Chunk(ids, page) {
		select {
		case pages <- ids:
		case <-ctx.Done():
			break feed
		}
	}
	close(pages)
	wg.Wait()
	return context.Cause(ctx)
}

// before orders what is wanted first.
func before(a, z bool) int {
	switch {
	case a == z:
		return 0
	case a:
		return -1
	}
	return 1
}

// seeAll shows the nodes with these ids that are still there.
func (b *Broker) seeAll(ctx context.Context, ids []string, see func(*Node) (bool, error)) (chosen []string, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		for _, id := range ids {
			n, err := orNil(tx.Node(id))
			if err != nil {
				return err
			}
			if n == nil {
				continue
			}
			yes, err := see(n)
			if err != nil {
				return fmt.Errorf("node %s: %w", id, err)
			}
			if yes {
				chosen = append(chosen, id)
			}
		}
		return nil
	})
	return chosen, err
}
