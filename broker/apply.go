package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Applied says what an apply did with one object.
type Applied struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Result string `json:"result"` // created, changed, unchanged, deleted
}

// Apply takes objects as an operator wrote them, all or none: rules are compiled and references checked first. The
// nodes that wait are then asked again, and their agents told at once.
func (b *Broker) Apply(ctx context.Context, objects []Object, who string) ([]Applied, error) {
	for _, o := range objects {
		if err := b.holdFiles(o); err != nil {
			return nil, err
		}
	}
	var results []Applied
	err := b.replaceCatalog(ctx, func(tx Tx) error {
		results = nil
		for _, o := range objects {
			if err := b.checkRule(o); err != nil {
				return err
			}
			o, err := b.stamp(tx, o)
			if err == nil {
				o, err = b.prepare(tx, o)
			}
			if err != nil {
				return err
			}
			r, err := put(tx, o)
			if err != nil {
				return err
			}
			results = append(results, Applied{o.Kind, o.Name, r})
			if r == "unchanged" {
				continue
			}
			e := &Event{Time: b.now(), Kind: EventOperator, Who: who, Text: fmt.Sprintf("%s %s: %s", r, o.Kind, o.Name)}
			if err := tx.Append(e); err != nil {
				return err
			}
			if err := startHook(tx, o, r, e.Seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, b.Reconcile(ctx)
}

// DeleteObject takes one object away, unless another needs it.
func (b *Broker) DeleteObject(ctx context.Context, kind, name, who string) error {
	err := b.replaceCatalog(ctx, func(tx Tx) error {
		if err := tx.DeleteObject(kind, name); err != nil {
			return err
		}
		if kind == KindHook {
			if err := forgetHook(tx, name); err != nil {
				return err
			}
		}
		if kind == KindRamdisk {
			if err := heldBy(name, b.cat.Load().policies); err != nil {
				return err
			}
		}
		if kind == KindPolicy {
			if n, err := tx.Count(NodeFilter{Policy: name}); err != nil || n > 0 {
				return errors.Join(err, conflict("policy %s has %d bound %s", name, n, plural(n, "node")))
			}
		}
		return tx.Append(&Event{Time: b.now(), Kind: EventOperator, Who: who, Text: fmt.Sprintf("deleted %s: %s", kind, name)})
	})
	if err != nil {
		return err
	}
	return b.Reconcile(ctx)
}

// replaceCatalog changes objects and puts the catalog in force that they make, or changes nothing.
func (b *Broker) replaceCatalog(ctx context.Context, f func(Tx) error) error {
	b.catMu.Lock()
	defer b.catMu.Unlock()
	var cat *catalog
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		var err error
		if cat, err = b.loadCatalog(tx); err != nil {
			return err
		}
		return cat.refs()
	})
	if err == nil {
		b.cat.Store(cat)
		b.bell.wake(nil)
	}
	return err
}

// checkRule compiles a tag's rule alone, so that the error speaks of it.
func (b *Broker) checkRule(o Object) error {
	if o.Kind != KindTag {
		return nil
	}
	t, err := decode[Tag](o)
	if err != nil {
		return err
	}
	if _, err := b.schema.Compile(t.Rule); err != nil {
		return invalid("tag %s: %s", t.Name, err)
	}
	return nil
}

func put(tx Tx, o Object) (string, error) {
	old, err := tx.Object(o.Kind, o.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		return "created", tx.PutObject(o)
	case err != nil:
		return "", err
	case bytes.Equal(old.Doc, o.Doc):
		return "unchanged", nil
	}
	return "changed", tx.PutObject(o)
}

// Objects lists the objects of a kind, by name.
func (b *Broker) Objects(ctx context.Context, kind string) (list []Object, err error) {
	if _, ok := kinds[kind]; !ok {
		return nil, invalid("kind %q: want %s", kind, kindNames())
	}
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		list, err = tx.Objects(kind)
		return err
	})
	for i := range list {
		if list[i], err = hidden(list[i]); err != nil {
			return nil, err
		}
	}
	return list, err
}

// Reconcile evaluates the tags of all nodes and binds those that wait and are now taken.
func (b *Broker) Reconcile(ctx context.Context) error {
	nodes, err := b.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, old := range nodes {
		if old.Facts == nil {
			continue
		}
		err := b.update(ctx, func(tx Tx) ([]string, error) {
			n, err := tx.Node(old.ID)
			if errors.Is(err, ErrNotFound) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return b.reconsider(tx, n)
		})
		if err != nil {
			return fmt.Errorf("reconsider node %s: %w", old.ID, err)
		}
	}
	return nil
}

func (b *Broker) reconsider(tx Tx, n *Node) ([]string, error) {
	var events []Event
	before := slices.Clone(n.Tags)
	if err := b.retag(tx, n, &events); err != nil {
		return nil, err
	}
	bound, err := b.bind(tx, n)
	if err != nil {
		return nil, err
	}
	if len(bound) == 0 && slices.Equal(before, n.Tags) {
		return nil, nil
	}
	return []string{n.ID}, b.change(tx, n, append(events, bound...)...)
}
