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

// retag evaluates all tags and records what changed. A node of which rules see what they saw is left as it is.
func (b *Broker) retag(n *Node, events *[]Event) error {
	if !n.Facts.Known() {
		return nil
	}
	cat := b.cat.Load()
	of, err := hashOf(cat.rules, n.FactsHash, viewOf(n), n.Meta)
	if err != nil || of == n.TagsOf {
		return err
	}
	kept, err := cat.carried(n)
	if err != nil {
		return err
	}
	before := n.Tags
	n.Tags, n.TagsOf = kept, of
	if !slices.Equal(kept, before) {
		*events = append(*events, Event{Kind: EventTags, Who: "broker", Text: tagsText(n)})
	}
	return nil
}

// carried evaluates all tags and keeps those that did not give no.
func (c *catalog) carried(n *Node) ([]TagResult, error) {
	results, err := c.evaluate(n)
	return slices.DeleteFunc(results, func(t TagResult) bool { return t.Verdict == "no" }), err
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
	err := b.eachPage(ctx, b.bell.waiting(), func(nodes []*Node) error {
		var touched []string
		for _, n := range nodes {
			changes, err := cat.mayChange(n, b.now())
			if err != nil {
				return fmt.Errorf("node %s: %w", n.ID, err)
			}
			if changes {
				touched = append(touched, n.ID)
			}
		}
		if len(touched) == 0 {
			return nil
		}
		return b.update(ctx, func(tx Tx) ([]string, error) { return b.reconsider(tx, touched) })
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
	tags, err := c.carried(n)
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

// eachPage calls f for all nodes, some at a time and several at once: first for those that are named, then as they were
// created.
func (b *Broker) eachPage(ctx context.Context, first []string, f func([]*Node) error) error {
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
				nodes, err := b.nodesOf(ctx, ids)
				if err == nil {
					err = f(nodes)
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

// nodesOf reads the nodes with these ids that are still there, with their facts.
func (b *Broker) nodesOf(ctx context.Context, ids []string) (nodes []*Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		for _, id := range ids {
			n, err := orNil(tx.Node(id))
			if err != nil {
				return err
			}
			if n == nil {
				continue
			}
			if _, err := n.Facts.Whole(); err != nil {
				return fmt.Errorf("node %s: %w", id, err)
			}
			nodes = append(nodes, n)
		}
		return nil
	})
	return nodes, err
}
