package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"muster/broker"
)

// sorted reads lists by every order in pages of every size, and compares them with what Go makes of the nodes.
func sorted(t *testing.T, s broker.Store) {
	for i := range 12 {
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(&broker.Node{ID: fmt.Sprintf("node%d", i+1)}) })
	}
	var want []broker.Listed
	for i := range 12 { // most orders have equals, and none is that in which they were made
		n := node(i + 1)
		n.State = []broker.State{broker.Enroll, broker.Active}[i%2]
		n.Policy, n.Hostname = []string{"", "web", "db"}[i%3], []string{"", "b.example", "a", "Z", "\u00e4"}[i*7%5]
		n.Created, n.Since, n.LastSeen = at(i*5%12), at(i%4), at(-i)
		n.Tags = []broker.TagResult{{Name: "big", Verdict: "yes"}, {Name: "odd", Verdict: "undecided", Cause: "unread"}}
		n.Facts = found(t, "R640")
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
		want = append(want, broker.InList(n))
	}
	for _, key := range append(broker.SortKeys(), "") {
		for _, way := range []string{"", "-"} {
			sort := strings.TrimSuffix(way+key, "-")
			slices.SortStableFunc(want, func(a, z broker.Listed) int { return cmp.Compare(number(a.ID), number(z.ID)) })
			if key != "" {
				slices.SortStableFunc(want, func(a, z broker.Listed) int {
					by := strings.Compare(a.SortedBy(key), z.SortedBy(key))
					if way == "-" {
						return -by
					}
					return by
				})
			}
			for limit := 1; limit <= 13; limit += 3 {
				if diff := gocmp.Diff(want, listPages(t, s, sort, key, limit)); diff != "" {
					t.Errorf("by %q in pages of %d (-want +got):\n%s", sort, limit, diff)
				}
			}
		}
	}
	err := s.View(context.Background(), func(tx broker.Tx) error {
		_, err := tx.List(broker.ListFilter{Sort: "id; DROP TABLE nodes"})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no column") {
		t.Errorf("sorted by what is no column: %v", err)
	}
}

// chosen lists by tags, which are found whole, and by several states.
func chosen(t *testing.T, s broker.Store) {
	tags := [][]broker.TagResult{
		{{Name: "big", Verdict: "yes"}, {Name: "bi_g", Verdict: "yes"}},
		{{Name: "big", Verdict: "undecided", Cause: "unread"}, {Name: "bigger", Verdict: "yes"}},
		{{Name: "bigger", Verdict: "undecided", Cause: `a "cause" \u0000 of ` + "\u00e4"}, {Name: "big.x", Verdict: "yes"}, {Name: "odd", Verdict: "undecided"}},
		nil,
		{{Name: "a-big", Verdict: "yes"}, {Name: "bixg", Verdict: "yes"}},
	}
	states := []broker.State{broker.Enroll, broker.Active, broker.Manageable}
	for i, tags := range tags {
		n := node(i + 1)
		n.Tags, n.State, n.Hold = tags, states[i%3], "some big thing"
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
		view(t, s, func(tx broker.Tx) error {
			got, err := tx.Node(n.ID)
			if diff := gocmp.Diff(n, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", n.ID, diff)
			}
			return err
		})
	}
	for _, tt := range []struct {
		tags   []string
		states []broker.State
		want   string
	}{
		{nil, nil, "[1 2 3 4 5]"},
		{[]string{"big"}, nil, "[1 2]"},
		{[]string{"bi_g"}, nil, "[1]"},
		{[]string{"b%g"}, nil, "[]"},
		{[]string{"bigger"}, nil, "[2 3]"},
		{[]string{"bigger", "big.x"}, nil, "[3]"},
		{[]string{"bigger", "big"}, nil, "[2]"},
		{[]string{"none"}, nil, "[]"},
		{nil, []broker.State{broker.Active}, "[2 5]"},
		{nil, []broker.State{broker.Manageable, broker.Enroll}, "[1 3 4]"},
		{[]string{"big"}, []broker.State{broker.Manageable, broker.Enroll}, "[1]"},
	} {
		view(t, s, func(tx broker.Tx) error {
			var got []int
			list, err := tx.List(broker.ListFilter{Tags: tt.tags, States: tt.states})
			for _, l := range list {
				got = append(got, number(l.ID))
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("tags %q, states %v: nodes %v; want %s", tt.tags, tt.states, got, tt.want)
			}
			return err
		})
	}
}

func at(hours int) time.Time {
	return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(hours) * time.Hour)
}

func number(id string) (n int) {
	fmt.Sscanf(id, "node%d", &n)
	return n
}

func listPages(t *testing.T, s broker.Store, sort, key string, limit int) (all []broker.Listed) {
	t.Helper()
	f := broker.ListFilter{NodeFilter: broker.NodeFilter{Limit: limit}, Sort: sort}
	for len(all) < 100 {
		var page []broker.Listed
		view(t, s, func(tx broker.Tx) (err error) {
			page, err = tx.List(f)
			return err
		})
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		last := &page[len(page)-1]
		if f.After = last.ID; key != "" {
			f.Key = last.SortedBy(key)
		}
	}
	return all
}

func called(t *testing.T, s broker.Store) {
	for i, name := range []string{"", "web1", "web", "web.example.net", "web-1", "web/1", "WEB"} {
		n := node(i + 1)
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
		n.Hostname = name
		update(t, s, func(tx broker.Tx) error { return tx.PutNode(n) })
	}
	for name, want := range map[string][]string{"web": {"node3", "node4"}, "web.example.net": {"node4"}, "web.example": {"node4"}, "web1": {"node2"}, "we": nil, "%": nil} {
		view(t, s, func(tx broker.Tx) error {
			nodes, err := tx.Nodes(broker.NodeFilter{Hostname: name})
			count, err2 := tx.Count(broker.NodeFilter{Hostname: name})
			var ids []string
			for _, n := range nodes {
				ids = append(ids, n.ID)
			}
			if diff := gocmp.Diff(want, ids); diff != "" || count != len(want) {
				t.Errorf("%q: count %d (-want +got):\n%s", name, count, diff)
			}
			return errors.Join(err, err2)
		})
	}
}
