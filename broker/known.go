package broker

import (
	"context"
	"fmt"
	"sync"

	"muster/boot"
)

// A knownMACs is the MACs of machines that have checked in or were registered, in memory: DHCP asks for each packet of a
// flood.
type knownMACs struct {
	mu    sync.RWMutex
	all   map[string]bool // as nodes write them
	ahead map[string]bool // ids of nodes that were registered and have not checked in
}

// learn takes a node's MACs once its agent or an operator has spoken: a machine that was only seen booting may be
// anybody's invention.
func (k *knownMACs) learn(n *Node) {
	if !n.registered() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n.Ahead && n.State == Enroll {
		k.ahead[n.ID] = true
	} else {
		delete(k.ahead, n.ID)
	}
	for _, m := range n.Keys.MACs {
		k.all[m] = true
	}
}

// expected is how many nodes were registered and have not checked in: those are no strangers. As Known, it is a hint.
func (k *knownMACs) expected() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.ahead)
}

// Known says whether a machine with this MAC has checked in, or was registered. It is a hint for whom to serve first when many ask: a node
// that was deleted meanwhile is known until the broker starts again.
func (b *Broker) Known(m boot.MAC) bool {
	b.known.mu.RLock()
	defer b.known.mu.RUnlock()
	return b.known.all[m.String()]
}

// loadKnown reads the nodes that were there before.
func (b *Broker) loadKnown(ctx context.Context) error {
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		nodes, err := tx.Nodes(NodeFilter{})
		for _, n := range nodes {
			b.known.learn(n)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	return nil
}
