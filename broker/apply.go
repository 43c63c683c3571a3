package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"muster/broker/task"
)

// Applied says what an apply did with one object.
type Applied struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Result string `json:"result"` // created, changed, unchanged, deleted
	// Warnings say what was taken and will not do what it seems to.
	Warnings []string `json:"warnings,omitempty"`
}

// Apply takes objects as an operator wrote them, all or none: rules are compiled and references checked first. The
// nodes that wait are then asked again, and their agents told at once.
func (b *Broker) Apply(ctx context.Context, objects []Object, who string) ([]Applied, error) {
	return b.apply(ctx, objects, false, who)
}

// Replace is Apply, and deletes what is not among the objects, of the kinds that live in an operator's files.
func (b *Broker) Replace(ctx context.Context, objects []Object, who string) ([]Applied, error) {
	return b.apply(ctx, objects, true, who)
}

func (b *Broker) apply(ctx context.Context, objects []Object, prune bool, who string) (results []Applied, err error) {
	for _, o := range objects {
		if err := b.holdFiles(o); err != nil {
			return nil, err
		}
	}
	err = b.replaceCatalog(ctx, func(tx Tx) error {
		results, err = b.putAll(ctx, tx, objects, prune, who)
		return err
	}, tagNames(objects)...)
	if err != nil {
		return nil, err
	}
	b.warn(b.cat.Load(), results)
	return results, b.Reconcile(ctx)
}

// putAll changes the objects of a transaction, with an event for each that is another then.
func (b *Broker) putAll(ctx context.Context, tx Tx, objects []Object, prune bool, who string) ([]Applied, error) {
	var results []Applied
	for _, o := range objects {
		if err := b.checkRule(o); err != nil {
			return nil, err
		}
		o, err := b.stamp(tx, o)
		if err == nil {
			o, err = b.prepare(tx, o)
		}
		if err != nil {
			return nil, err
		}
		r, old, err := put(tx, o)
		if err != nil {
			return nil, err
		}
		results = append(results, Applied{Kind: o.Kind, Name: o.Name, Result: r})
		if r == "unchanged" {
			continue
		}
		e := b.changed(ctx, who, fmt.Sprintf("%s %s: %s", r, o.Kind, o.Name), old, o)
		if err := tx.Append(&e); err != nil {
			return nil, err
		}
		if err := startHook(tx, o, r, e.Seq); err != nil {
			return nil, err
		}
	}
	if !prune {
		return results, nil
	}
	gone, err := b.prune(ctx, tx, objects, who)
	return append(results, gone...), err
}

// prune deletes what is not among the objects. A file without any of a kind says nothing of that kind.
func (b *Broker) prune(ctx context.Context, tx Tx, keep []Object, who string) (gone []Applied, err error) {
	for _, kind := range Kinds() {
		if !kinds[kind].prune || !slices.ContainsFunc(keep, func(o Object) bool { return o.Kind == kind }) {
			continue
		}
		stored, err := tx.Objects(kind)
		if err != nil {
			return nil, err
		}
		for _, old := range stored {
			if slices.ContainsFunc(keep, func(o Object) bool { return o.Kind == kind && o.Name == old.Name }) {
				continue
			}
			if err := b.drop(ctx, tx, kind, old.Name, who); err != nil {
				return nil, err
			}
			gone = append(gone, Applied{Kind: kind, Name: old.Name, Result: "deleted"})
		}
	}
	return gone, nil
}

// warn adds what was taken and will not do what it seems to.
func (b *Broker) warn(c *catalog, results []Applied) {
	for i, r := range results {
		switch h := c.hooks[r.Name]; {
		case r.Result == "deleted":
		case r.Kind == KindTag:
			results[i].Warnings = c.warnings(c.programs[r.Name])
		case r.Kind == KindHook && h != nil && h.where != nil:
			results[i].Warnings = c.warnings(h.where)
		case r.Kind == KindPolicy:
			results[i].Warnings = b.refusals(c, r.Name)
		}
	}
}

// refusals are what the task of a policy says of its parameters when it is rendered for a node that has none of its own:
// said at once, and not when the first disk is waited for.
func (b *Broker) refusals(c *catalog, policy string) (said []string) {
	p := c.policyOf(&Node{Policy: policy})
	t := c.tasks[p.Task]
	v, err := task.Fixtures()[0].For(t)
	if err == nil {
		v.Param, err = t.Params(p.Params)
	}
	if err != nil {
		return nil // of parameters that a node's metadata may give
	}
	v.Server, v.CA, v.Plain = b.cfg.AgentURL, b.caPEM(), ""
	if b.cfg.Plain {
		v.Plain = b.cfg.BaseURL
	}
	for _, why := range t.Refusals(v) {
		said = append(said, fmt.Sprintf("task %s, of a node without metadata: %s", t.Name, why))
	}
	return said
}

// DeleteObject takes one object away, unless another needs it.
func (b *Broker) DeleteObject(ctx context.Context, kind, name, who string) error {
	err := b.replaceCatalog(ctx, func(tx Tx) error { return b.drop(ctx, tx, kind, name, who) })
	if err != nil {
		return err
	}
	return b.Reconcile(ctx)
}

// drop deletes an object; that a policy names what is gone is seen when the catalog is made.
func (b *Broker) drop(ctx context.Context, tx Tx, kind, name, who string) error {
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
			return errors.Join(err, conflict("policy %s has %d bound %s (muster get nodes --policy %s): muster node undeploy takes them from it", name, n, plural(n, "node"), name))
		}
	}
	e := b.said(ctx, who, fmt.Sprintf("deleted %s: %s", kind, name))
	return tx.Append(&e)
}

func tagNames(objects []Object) (names []string) {
	for _, o := range objects {
		if o.Kind == KindTag {
			names = append(names, o.Name)
		}
	}
	return names
}

// replaceCatalog changes objects and puts the catalog in force that they make, or changes nothing. saved are the tags
// among them.
func (b *Broker) replaceCatalog(ctx context.Context, f func(Tx) error, saved ...string) error {
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
		return cat.refs(saved...)
	})
	if err == nil {
		b.cat.Store(cat)
		b.bell.wake(nil) // who follows the journal
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
	if _, err := compileRule(b.schema, t.Rule); err != nil {
		return invalid("tag %s: %s", t.Name, err)
	}
	return nil
}

// put stores an object, and gives what it was before.
func put(tx Tx, o Object) (result string, old Object, err error) {
	old, err = tx.Object(o.Kind, o.Name)
	switch {
	case errors.Is(err, ErrNotFound) && o.Was == "":
		return "created", old, tx.PutObject(o)
	case err != nil && !errors.Is(err, ErrNotFound):
		return "", old, err
	case o.Was != "" && o.Was != old.Rev():
		return "", old, o.outdated(old)
	case bytes.Equal(old.Doc, o.Doc):
		return "unchanged", old, nil
	}
	return "changed", old, tx.PutObject(o)
}

// Objects lists the objects of a kind, by name.
func (b *Broker) Objects(ctx context.Context, kind string) (list []Object, err error) {
	if !IsKind(kind) {
		return nil, invalid("kind %q: want one of %s", kind, kindWords())
	}
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		list, err = tx.Objects(kind)
		return err
	})
	return list, err
}
