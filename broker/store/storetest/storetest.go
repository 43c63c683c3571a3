// Package storetest is the contract of broker.Store as tests: every store runs it, and each case carries the sentence
// that it proves.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
)

// Run runs the contract. fresh makes an empty place for data, and gives what opens a store there, again and again.
func Run(t *testing.T, fresh func(t *testing.T) (open func() broker.Store)) {
	for _, tt := range []struct {
		name string
		f    func(t *testing.T, s broker.Store)
	}{
		{"what is put is got back", putAndGet},
		{"facts come with their node, or as an error, and never as none", factsOfNodes},
		{"what is not there is ErrNotFound", missing},
		{"an update that fails leaves nothing", failed},
		{"a key belongs to one node", oneOwner},
		{"a key that a node gives up is free", freed},
		{"what was put last is what a node is found by", lastPut},
		{"a serial may be of several nodes", shared},
		{"nodes are listed oldest first and filtered", listed},
		{"pages of nodes hold while nodes go", paged},
		{"lists have of nodes what was put last, by any order, in pages", sorted},
		{"lists are of whole tags, carried or undecided, and of states", chosen},
		{"a hostname is found whole and up to a dot", called},
		{"events keep their order and are read from any point", journal},
		{"old events are forgotten, but not the last of a kind", forgotten},
		{"concurrent updates lose nothing", concurrent},
		{"of concurrent updates none sees one under way", serial},
		{"an update that fails takes nothing of its neighbours with it", neighbours},
		{"the objects have another revision after each change", revisions},
		{"a view sees one state throughout", snapshot},
		{"any bytes of a document come back", anyBytes},
		{"a cancelled caller changes nothing", cancelled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fresh(t)()
			defer s.Close()
			tt.f(t, s)
		})
	}
	t.Run("what was acknowledged is there after a restart", func(t *testing.T) { restarted(t, fresh(t)) })
}

func node(i int) *broker.Node {
	return &broker.Node{ID: fmt.Sprintf("node%d", i), State: broker.Enroll, Created: time.Unix(int64(i), 0).UTC(),
		Keys: broker.Keys{MACs: []string{mac(i)}, UUID: fmt.Sprintf("uuid-%d", i)}}
}

func mac(i int) string { return fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255) }

func update(t *testing.T, s broker.Store, f func(broker.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s broker.Store, f func(broker.Tx) error) {
	t.Helper()
	if err := s.View(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

func putAndGet(t *testing.T, s broker.Store) {
	n := node(1)
	n.Boot.KeyHash = "hash"
	o := broker.Object{Kind: "Tag", Name: "a", Doc: []byte(`{"name":"a"}`)}
	update(t, s, func(tx broker.Tx) error { return errors.Join(tx.PutNode(n), tx.PutObject(o)) })
	view(t, s, func(tx broker.Tx) error {
		for what, get := range map[string]func() (*broker.Node, error){
			"id":   func() (*broker.Node, error) { return tx.Node("node1") },
			"mac":  func() (*broker.Node, error) { return tx.NodeByKey(broker.KeyMAC, mac(1)) },
			"uuid": func() (*broker.Node, error) { return tx.NodeByKey(broker.KeyUUID, "uuid-1") },
			"key":  func() (*broker.Node, error) { return tx.NodeByKey(broker.KeyBoot, "hash") },
		} {
			got, err := get()
			if diff := cmp.Diff(n, got); err != nil || diff != "" {
				t.Errorf("by %s: %v (-want +got):\n%s", what, err, diff)
			}
		}
		got, err := tx.Object("Tag", "a")
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("object (-want +got):\n%s", diff)
		}
		return err
	})
}

func missing(t *testing.T, s broker.Store) {
	view(t, s, func(tx broker.Tx) error {
		_, byID := tx.Node("node1")
		_, byKey := tx.NodeByKey(broker.KeyMAC, mac(1))
		_, object := tx.Object("Tag", "a")
		for what, err := range map[string]error{"node": byID, "key": byKey, "object": object} {
			if !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("%s: %v; want ErrNotFound", what, err)
			}
		}
		return nil
	})
	err := s.Update(context.Background(), func(tx broker.Tx) error { return tx.DeleteObject("Tag", "a") })
	if !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("delete: %v; want ErrNotFound", err)
	}
}

func failed(t *testing.T, s broker.Store) {
	no := errors.New("no")
	err := s.Update(context.Background(), func(tx broker.Tx) error {
		return errors.Join(tx.PutNode(node(1)), tx.Append(&broker.Event{Kind: "x"}), no)
	})
	if !errors.Is(err, no) {
		t.Errorf("Update = %v; want the function's error", err)
	}
	view(t, s, func(tx broker.Tx) error {
		count, err := tx.Count(broker.NodeFilter{})
		events, err2 := tx.Events(broker.EventFilter{})
		if count != 0 || len(events) != 0 {
			t.Errorf("%d nodes and %d events are left of a failed update", count, len(events))
		}
		return errors.Join(err, err2)
	})
}

func oneOwner(t *testing.T, s broker.Store) {
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(1)) })
	thief := node(2)
	thief.Keys.MACs = append(thief.Keys.MACs, mac(1))
	err := s.Update(context.Background(), func(tx broker.Tx) error { return tx.PutNode(thief) })
	if !errors.Is(err, broker.ErrConflict) {
		t.Errorf("a second owner: %v; want ErrConflict", err)
	}
}

func freed(t *testing.T, s broker.Store) {
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(1)) })
	bare := node(1)
	bare.Keys = broker.Keys{}
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(bare) })
	heir := node(2)
	heir.Keys.MACs = []string{mac(1)}
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(heir) })
	update(t, s, func(tx broker.Tx) error { return tx.DeleteNode("node2") })
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(1)) })
}

// lastPut puts two copies of a node in one update, the one that was read first last.
func lastPut(t *testing.T, s broker.Store) {
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(1)) })
	update(t, s, func(tx broker.Tx) error {
		first, err := tx.Node("node1")
		second, err2 := tx.Node("node1")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		second.State, second.Keys.MACs = broker.Active, []string{mac(2)}
		return errors.Join(tx.PutNode(second), tx.PutNode(first))
	})
	update(t, s, func(tx broker.Tx) error {
		n, err := tx.NodeByKey(broker.KeyMAC, mac(1))
		if _, gone := tx.NodeByKey(broker.KeyMAC, mac(2)); err != nil || !errors.Is(gone, broker.ErrNotFound) || n.State != broker.Enroll {
			t.Errorf("%+v by its MAC, %v; by the other copy's: %v", n, err, gone)
		}
		count, err := tx.Count(broker.NodeFilter{State: broker.Enroll})
		if count != 1 {
			t.Errorf("%d nodes in the state of the first copy; want 1", count)
		}
		return errors.Join(err, tx.DeleteNode("node1"), tx.PutNode(node(1)))
	})
	view(t, s, func(tx broker.Tx) error {
		_, err := tx.NodeByKey(broker.KeyMAC, mac(1))
		return err
	})
}

func shared(t *testing.T, s broker.Store) {
	for i := 3; i >= 1; i-- {
		n := node(i)
		n.Keys.Serial, n.Keys.SharedUUID = "abc1234", "batch"
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
	}
	bare := node(2) // gives both up
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(bare) })
	want := func(kind broker.KeyKind, v string, want ...string) {
		t.Helper()
		view(t, s, func(tx broker.Tx) error {
			nodes, err := tx.NodesSharing(kind, v)
			var ids []string
			for _, n := range nodes {
				ids = append(ids, n.ID)
			}
			if diff := cmp.Diff(want, ids); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", kind, v, diff)
			}
			return err
		})
	}
	want(broker.KeySerial, "abc1234", "node3", "node1")
	want(broker.KeySharedUUID, "batch", "node3", "node1")
	want(broker.KeySerial, "batch")
	update(t, s, func(tx broker.Tx) error { return tx.DeleteNode("node3") })
	want(broker.KeySerial, "abc1234", "node1")
}

func paged(t *testing.T, s broker.Store) {
	for i := 8; i <= 12; i++ {
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(i)) })
	}
	for _, tt := range []struct {
		after string
		limit int
		gone  string
		want  []string
	}{
		{"", 2, "", []string{"node8", "node9"}},
		{"node9", 2, "", []string{"node10", "node11"}},
		{"node9", 2, "node9", []string{"node10", "node11"}},
		{"node10", 1, "node10", []string{"node11"}}, // the first of its length is gone
		{"node11", 0, "node12", nil},
		{"node7", 1, "", []string{"node8"}},
	} {
		if tt.gone != "" {
			update(t, s, func(tx broker.Tx) error { return tx.DeleteNode(tt.gone) })
		}
		view(t, s, func(tx broker.Tx) error {
			nodes, err := tx.Nodes(broker.NodeFilter{After: tt.after, Limit: tt.limit})
			var ids []string
			for _, n := range nodes {
				ids = append(ids, n.ID)
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" {
				t.Errorf("%d after %s (-want +got):\n%s", tt.limit, tt.after, diff)
			}
			return err
		})
	}
}

func listed(t *testing.T, s broker.Store) {
	for i := 10; i >= 8; i-- {
		n := node(i)
		if i == 9 {
			n.State, n.Policy = broker.Active, "web"
		}
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
	}
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(10)) }) // changed, not newer
	for _, tt := range []struct {
		f    broker.NodeFilter
		want []string
	}{
		{broker.NodeFilter{}, []string{"node10", "node9", "node8"}},
		{broker.NodeFilter{State: broker.Enroll}, []string{"node10", "node8"}},
		{broker.NodeFilter{Policy: "web"}, []string{"node9"}},
		{broker.NodeFilter{State: broker.Enroll, Policy: "web"}, nil},
	} {
		view(t, s, func(tx broker.Tx) error {
			nodes, err := tx.Nodes(tt.f)
			var ids []string
			for _, n := range nodes {
				ids = append(ids, n.ID)
			}
			count, err2 := tx.Count(tt.f)
			if diff := cmp.Diff(tt.want, ids); diff != "" || count != len(tt.want) {
				t.Errorf("%+v: count %d (-want +got):\n%s", tt.f, count, diff)
			}
			return errors.Join(err, err2)
		})
	}
}

func journal(t *testing.T, s broker.Store) {
	for i := range 10 {
		update(t, s, func(tx broker.Tx) error {
			return tx.Append(&broker.Event{Node: fmt.Sprintf("node%d", i%2), Kind: "x", Text: fmt.Sprint(i)})
		})
	}
	view(t, s, func(tx broker.Tx) error {
		all, err := tx.Events(broker.EventFilter{})
		if len(all) != 10 {
			t.Fatalf("%d events; want 10", len(all))
		}
		for i := 1; i < len(all); i++ {
			if all[i].Seq <= all[i-1].Seq {
				t.Errorf("event %d has seq %d after %d", i, all[i].Seq, all[i-1].Seq)
			}
		}
		some, err2 := tx.Events(broker.EventFilter{Node: "node1", After: all[1].Seq, Limit: 2})
		if len(some) != 2 || some[0].Text != "3" || some[1].Text != "5" {
			t.Errorf("events of node1 after its first, two at most: %+v", some)
		}
		return errors.Join(err, err2)
	})
}

func forgotten(t *testing.T, s broker.Store) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	update(t, s, func(tx broker.Tx) error {
		err := tx.PutNode(node(1))
		for i, e := range []broker.Event{
			{Time: day(1), Node: "node1", Kind: "state"},
			{Time: day(1), Node: "node1", Kind: "bound"}, // the last of its kind
			{Time: day(1), Node: "gone", Kind: "deleted"},
			{Time: day(1), Kind: "started"},
			{Time: day(9), Node: "node1", Kind: "state"}, // from when the clock was wrong
			{Time: day(2), Node: "node1", Kind: "state"},
			{Time: day(2), Kind: "started"},
			{Time: day(3), Node: "node1", Kind: "state"}, // the last
			{Time: day(5), Node: "gone", Kind: "deleted"},
			{Time: day(6), Node: "node1", Kind: "dhcp"},
		} {
			e.Text = fmt.Sprint(i)
			err = errors.Join(err, tx.Append(&e))
		}
		return err
	})
	gone, steps := 0, 0
	for after := int64(0); ; steps++ {
		var n int
		update(t, s, func(tx broker.Tx) (err error) {
			after, n, err = tx.Forget(after, 4, day(5))
			return err
		})
		if gone += n; after == 0 {
			break
		}
	}
	view(t, s, func(tx broker.Tx) error {
		left, err := tx.Events(broker.EventFilter{})
		var texts []string
		for _, e := range left {
			texts = append(texts, e.Text)
		}
		if diff := cmp.Diff([]string{"1", "4", "6", "7", "8", "9"}, texts); diff != "" || gone != 4 || steps != 2 {
			t.Errorf("%d are gone in %d steps; want 4 in 2; left (-want +got):\n%s", gone, steps, diff)
		}
		return err
	})
}

func concurrent(t *testing.T, s broker.Store) {
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			err := s.Update(context.Background(), func(tx broker.Tx) error {
				if _, err := tx.Counter("c"); err != nil {
					return err
				}
				return tx.PutNode(node(i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	update(t, s, func(tx broker.Tx) error {
		n, err := tx.Counter("c")
		count, err2 := tx.Count(broker.NodeFilter{})
		if n != 65 || count != 64 {
			t.Errorf("counted to %d with %d nodes; want 65 and 64", n, count)
		}
		return errors.Join(err, err2)
	})
}

// serial lets each update decide by what it counted: were two at work at once, more than ten would find room.
func serial(t *testing.T, s broker.Store) {
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := s.Update(context.Background(), func(tx broker.Tx) error {
				n := node(i)
				if bound, err := tx.Count(broker.NodeFilter{Policy: "web"}); err != nil {
					return err
				} else if bound < 10 {
					n.Policy = "web"
				}
				return tx.PutNode(n)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx broker.Tx) error {
		bound, err := tx.Count(broker.NodeFilter{Policy: "web"})
		if bound != 10 {
			t.Errorf("%d nodes are bound; want 10", bound)
		}
		return err
	})
}

func neighbours(t *testing.T, s broker.Store) {
	no := errors.New("no")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			err := s.Update(context.Background(), func(tx broker.Tx) error {
				if err := tx.PutNode(node(i)); err != nil || i%3 != 0 {
					return err
				}
				return errors.Join(no, tx.PutObject(broker.Object{Kind: "Tag", Name: "left", Doc: []byte("{}")}))
			})
			if errors.Is(err, no) != (i%3 == 0) || i%3 != 0 && err != nil {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx broker.Tx) error {
		count, err := tx.Count(broker.NodeFilter{})
		left, err2 := tx.Objects("Tag")
		revision, err3 := tx.Revision()
		if count != 40 || len(left) != 0 || revision != 0 {
			t.Errorf("%d nodes, %d objects, revision %d; want 40, none, 0", count, len(left), revision)
		}
		return errors.Join(err, err2, err3)
	})
}

func revisions(t *testing.T, s broker.Store) {
	seen := map[int64]string{}
	look := func(after string) {
		t.Helper()
		update(t, s, func(tx broker.Tx) error {
			inside, err := tx.Revision()
			return errors.Join(err, s.View(context.Background(), func(tx broker.Tx) error {
				outside, err := tx.Revision()
				if before, again := seen[inside]; again || inside != outside {
					t.Errorf("after %s revision %d, in a view %d; %d was seen after %s", after, inside, outside, inside, before)
				}
				seen[inside] = after
				return err
			}))
		})
	}
	put := func(doc string) {
		update(t, s, func(tx broker.Tx) error {
			return tx.PutObject(broker.Object{Kind: "Tag", Name: "a", Doc: []byte(doc)})
		})
	}
	look("nothing")
	put("1")
	look("a new object")
	put("2")
	look("a changed one")
	update(t, s, func(tx broker.Tx) error { return tx.DeleteObject("Tag", "a") })
	look("a deleted one")
	update(t, s, func(tx broker.Tx) error {
		before, err := tx.Revision()
		err2 := tx.PutObject(broker.Object{Kind: "own", Name: "a", Doc: []byte("1")})
		err3 := tx.DeleteObject("own", "a")
		after, err4 := tx.Revision()
		if before != after {
			t.Errorf("revision %d, and %d after a change of what operators do not write", before, after)
		}
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(tx broker.Tx) error {
		before, err := tx.Revision()
		err2 := tx.PutObject(broker.Object{Kind: "Tag", Name: "a", Doc: []byte("3")})
		after, err3 := tx.Revision()
		if before == after {
			t.Errorf("revision %d before and after a change in one update", before)
		}
		return errors.Join(err, err2, err3)
	})
}

func snapshot(t *testing.T, s broker.Store) {
	update(t, s, func(tx broker.Tx) error { return tx.PutNode(node(1)) })
	view(t, s, func(tx broker.Tx) error {
		before, err := tx.Count(broker.NodeFilter{})
		update(t, s, func(tx broker.Tx) error { return errors.Join(tx.PutNode(node(2)), tx.Append(&broker.Event{Kind: "x"})) })
		after, err2 := tx.Count(broker.NodeFilter{})
		events, err3 := tx.Events(broker.EventFilter{})
		if before != 1 || after != 1 || len(events) != 0 {
			t.Errorf("%d nodes, then %d and %d events in one view; want 1, 1, 0", before, after, len(events))
		}
		return errors.Join(err, err2, err3)
	})
}

func anyBytes(t *testing.T, s broker.Store) {
	const odd = "nul \x00, high \U0001f600, line\u2028 and 'quotes'"
	n := node(1)
	n.Hold = odd
	e := &broker.Event{Node: n.ID, Kind: "x", Text: odd, Time: time.Unix(1, 0).UTC()}
	update(t, s, func(tx broker.Tx) error { return errors.Join(tx.PutNode(n), tx.Append(e)) })
	view(t, s, func(tx broker.Tx) error {
		got, err := tx.Node(n.ID)
		if diff := cmp.Diff(n, got); diff != "" {
			t.Errorf("node (-want +got):\n%s", diff)
		}
		events, err2 := tx.Events(broker.EventFilter{})
		if diff := cmp.Diff([]broker.Event{*e}, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		return errors.Join(err, err2)
	})
}

func cancelled(t *testing.T, s broker.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Update(ctx, func(tx broker.Tx) error { return tx.PutNode(node(1)) }); err == nil {
		view(t, s, func(tx broker.Tx) error {
			if _, err := tx.Node("node1"); err != nil {
				t.Errorf("Update said it was done, and %v", err)
			}
			return nil
		})
		return
	}
	view(t, s, func(tx broker.Tx) error {
		if _, err := tx.Node("node1"); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("a refused update left its node: %v", err)
		}
		return nil
	})
}

func restarted(t *testing.T, open func() broker.Store) {
	s := open()
	update(t, s, func(tx broker.Tx) error {
		return errors.Join(tx.PutNode(node(1)), tx.Append(&broker.Event{Node: "node1", Kind: "x"}))
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	view(t, s, func(tx broker.Tx) error {
		_, err := tx.NodeByKey(broker.KeyMAC, mac(1))
		events, err2 := tx.Events(broker.EventFilter{})
		if len(events) != 1 {
			t.Errorf("%d events after a restart; want 1", len(events))
		}
		return errors.Join(err, err2)
	})
}
