package broker

import (
	"context"
	"fmt"
	"sync"

	"muster/boot"
)

// A knownMACs is the MACs of machines that have checked in, in memory: DHCP asks for each packet of a flood.
type knownMACs struct {
	mu  sync.RWMutex
	all map[string]bool // as nodes write them
}

// learn takes a node's MACs once its agent has spoken: a machine that was only seen booting may be anybody's invention.
func (k *knownMACs) learn(n *Node) {
	if !n.Facts.Known() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range n.Keys.MACs {
		k.all[m] = true
	}
}

// Known says whether a machine with this MAC has checked in. It is a hint for whom to serve first when many ask: a node
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
