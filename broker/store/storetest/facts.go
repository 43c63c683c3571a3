package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

func found(t *testing.T, product string) broker.Facts {
	t.Helper()
	f, err := broker.Found(&facts.Facts{Schema: 1, Disks: []facts.Disk{}, System: &facts.System{Product: product}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ways are all by which a node comes out of a store.
var ways = map[string]func(broker.Tx) (*broker.Node, error){
	"id":     func(tx broker.Tx) (*broker.Node, error) { return tx.Node("node1") },
	"mac":    func(tx broker.Tx) (*broker.Node, error) { return tx.NodeByKey(broker.KeyMAC, mac(1)) },
	"serial": func(tx broker.Tx) (*broker.Node, error) { return first(tx.NodesSharing(broker.KeySerial, "abc1234")) },
	"list":   func(tx broker.Tx) (*broker.Node, error) { return first(tx.Nodes(broker.NodeFilter{})) },
}

func first(nodes []*broker.Node, err error) (*broker.Node, error) {
	if len(nodes) == 0 {
		return nil, errors.Join(broker.ErrNotFound, err)
	}
	return nodes[0], err
}

// factsOfNodes puts a node without facts, with facts, unchanged, and with others, and asks after each.
func factsOfNodes(t *testing.T, s broker.Store) {
	n := node(1)
	n.Keys.Serial = "abc1234"
	want := func(after, product string) {
		t.Helper()
		for way, get := range ways {
			view(t, s, func(tx broker.Tx) error {
				n, err := get(tx)
				if err != nil {
					return err
				}
				if got, err := n.Facts.Whole(); err != nil || productOf(got) != product || n.Facts.Known() != (product != "") {
					t.Errorf("after %s, by %s: %q, known %t, %v; want %q", after, way, productOf(got), n.Facts.Known(), err, product)
				}
				return nil
			})
		}
		view(t, s, func(tx broker.Tx) error { return inLists(t, tx, after, product) })
	}
	change := func(f func(*broker.Node)) {
		t.Helper()
		update(t, s, func(tx broker.Tx) error {
			n, err := tx.Node("node1")
			if err != nil {
				return err
			}
			f(n)
			return tx.PutNode(n)
		})
	}
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
	want("no facts", "")
	change(func(n *broker.Node) { n.Facts = found(t, "one") })
	want("the first", "one")
	change(func(n *broker.Node) { n.Policy = "web" })
	want("a change of something else", "one")
	unread(t, s)
	outdated(t, s)
	want("others", "two")
	update(t, s, func(tx broker.Tx) error { return errors.Join(tx.DeleteNode("node1"), tx.PutNode(n)) })
	want("another node of that id", "")
}

// inLists asks for the node in a list with facts, and in one without.
func inLists(t *testing.T, tx broker.Tx, after, product string) error {
	with, err := tx.List(broker.ListFilter{Facts: true})
	without, err2 := tx.List(broker.ListFilter{})
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	var f *facts.Facts
	if len(with) == 1 && with[0].Facts != "" {
		if err := json.Unmarshal([]byte(with[0].Facts), &f); err != nil {
			t.Errorf("after %s, in lists: %v", after, err)
		}
	}
	if len(with) != 1 || productOf(f) != product || len(without) != 1 || without[0].Facts != "" {
		t.Errorf("after %s, in lists: %d nodes, facts of %q; want %q, and none where nobody asks", after, len(with), productOf(f), product)
	}
	return nil
}

func productOf(f *facts.Facts) string {
	if f == nil {
		return ""
	}
	return f.System.Product
}

// unread asks for facts after the end of their transaction: once with facts that were read in it, once without.
func unread(t *testing.T, s broker.Store) {
	for way, get := range ways {
		var late, read *broker.Node
		view(t, s, func(tx broker.Tx) (err error) {
			if late, err = get(tx); err != nil {
				return err
			}
			if read, err = get(tx); err == nil {
				_, err = read.Facts.Whole()
			}
			return err
		})
		if got, err := late.Facts.Whole(); got != nil || err == nil || !late.Facts.Known() {
			t.Errorf("by %s, after the end: %v, known %t, %v; want an error", way, got, late.Facts.Known(), err)
		}
		if got, err := read.Facts.Whole(); productOf(got) != "one" || err != nil {
			t.Errorf("by %s, read before the end: %v, %v; want them", way, got, err)
		}
	}
}

// outdated asks a copy of the node for its facts when another copy has got others.
func outdated(t *testing.T, s broker.Store) {
	update(t, s, func(tx broker.Tx) error {
		old, err := tx.Node("node1")
		newer, err2 := tx.Node("node1")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		newer.Facts = found(t, "two")
		if err := tx.PutNode(newer); err != nil {
			return err
		}
		if got, err := old.Facts.Whole(); err == nil {
			t.Errorf("a copy with the facts of before gave %s; want an error", cmp.Diff(nil, got))
		}
		return nil
	})
	err := s.Update(context.Background(), func(tx broker.Tx) error {
		n, err := tx.Node("node1")
		if err != nil {
			return err
		}
		n.Facts = found(t, "three")
		return errors.Join(tx.PutNode(n), errRefused)
	})
	if !errors.Is(err, errRefused) {
		t.Errorf("Update = %v; want the function's error", err)
	}
}

var errRefused = errors.New("refused")
