package broker_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

// rack is a broker with n machines that have checked in: machine i has i GiB of memory, every fourth does not know it.
// Its clock steps with each look.
func rack(t *testing.T, n int) *broker.Broker {
	t.Helper()
	var looks atomic.Int64
	b := bareBroker(t, broker.Config{Strangers: n + 1, Now: func() time.Time { return epoch.Add(time.Duration(looks.Add(1)) * time.Second) }})
	mustApply(t, b, ramdiskDoc("standard", "amd64", "")+"kind: Tag\nname: large\nrule: facts.memory.total_bytes >= 10 * GiB\n---\nkind: Tag\nname: none\nrule: facts.arch == \"vax\"\n")
	for i := 1; i <= n; i++ {
		f := &facts.Facts{Schema: 1, Arch: "x86_64"}
		if i%4 != 0 {
			f.Memory = &facts.Memory{TotalBytes: int64(i) << 30}
		}
		enlist(t, b, i, f)
	}
	return b
}

var epoch = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

// arrive boots machine i and checks it in.
func enlist(t *testing.T, b *broker.Broker, i int, f *facts.Facts) {
	t.Helper()
	m := fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255)
	f.NICs = []facts.NIC{{Name: "eth0", MAC: m, Bus: "pci"}}
	s, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m), Kind: boot.KindIPXE, Arch: boot.ArchX64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report(t.Context(), b, fmt.Sprintf("boot-key-of-machine-%016d", i), s.Args.Get("muster.token"), f); err != nil {
		t.Fatal(err)
	}
}

// pages reads a whole list.
func pages(t *testing.T, b *broker.Broker, q broker.NodeQuery, between func(page int)) (ids []string, undecided int, count int) {
	t.Helper()
	for {
		p, err := b.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Nodes {
			ids = append(ids, strings.TrimPrefix(n.ID, "node"))
		}
		for _, u := range p.Undecided {
			undecided += u.Count
		}
		if count++; between != nil {
			between(count)
		}
		if q.After = p.Next; p.Next == "" {
			return ids, undecided, count
		}
	}
}

func TestListFilters(t *testing.T) {
	b := rack(t, 12)
	if _, err := b.Do(t.Context(), "node3", broker.Act{Verb: "hold", Who: "tester"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		q         broker.NodeQuery
		want      string
		undecided int
	}{
		{"all", broker.NodeQuery{}, "1 2 3 4 5 6 7 8 9 10 11 12", 0},
		{"in small pages", broker.NodeQuery{Limit: 5}, "1 2 3 4 5 6 7 8 9 10 11 12", 0},
		{"a range", broker.NodeQuery{Range: "node[3-6],-node4"}, "3 5 6", 0},
		{"a range in pages", broker.NodeQuery{Range: "node[3-6]", Limit: 1}, "3 4 5 6", 0},
		{"a tag, undecided where memory is not known", broker.NodeQuery{Tags: []string{"large"}}, "10 11", 3},
		{"a tag of a range", broker.NodeQuery{Range: "node[1-10]", Tags: []string{"large"}}, "10", 2},
		{"a tag in a range", broker.NodeQuery{Range: "@large", Limit: 1}, "10 11", 3},
		{"two tags", broker.NodeQuery{Tags: []string{"large", "none"}}, "", 0},
		{"a rule", broker.NodeQuery{Where: "facts.memory.total_bytes < 4 * GiB"}, "1 2 3", 3},
		{"a rule of Ironic's", broker.NodeQuery{Where: `{"conditions": [{"op": "lt", "field": "inventory.memory.total", "value": 4294967296}]}`}, "1 2 3", 3},
		{"a rule that does not ask what is not known", broker.NodeQuery{Where: `facts.arch == "x86_64" and node.protected`, Limit: 7}, "1 2 3 4 5 6 7 8 9 10 11 12", 0},
		{"what is on hold", broker.NodeQuery{States: []string{"hold"}}, "3", 0},
		{"a state", broker.NodeQuery{States: []string{"manageable"}, Limit: 11}, "1 2 3 4 5 6 7 8 9 10 11 12", 0},
		{"either of two", broker.NodeQuery{States: []string{"active", "hold"}}, "3", 0},
		{"a policy that has none", broker.NodeQuery{Policy: "web"}, "", 0},
		{"sorted the other way", broker.NodeQuery{Sort: "-created", Limit: 5}, "12 11 10 9 8 7 6 5 4 3 2 1", 0},
		{"sorted by what is equal", broker.NodeQuery{Sort: "policy", Limit: 5}, "1 2 3 4 5 6 7 8 9 10 11 12", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ids, undecided, _ := pages(t, b, tt.q, nil)
			if got := strings.Join(ids, " "); got != tt.want || undecided != tt.undecided {
				t.Errorf("= %s, %d undecided; want %s, %d", got, undecided, tt.want, tt.undecided)
			}
		})
	}
	for want, q := range map[string]broker.NodeQuery{
		`there is no tag "larg"`:                   {Tags: []string{"larg"}},
		"bad-path at /conditions/0/field: a node":  {Where: `{"conditions": [{"op": "eq", "field": "node://driver", "value": "ipmi"}]}`},
		"unknown fact facts.memry":                 {Where: "facts.memry.total_bytes > 1"},
		`sort "colour": want created, hostname`:    {Sort: "colour"},
		`state "gone": want active, available`:     {States: []string{"gone"}},
		"want next of the page before":             {After: "bm9kZTE"},
		"no node is called node99":                 {Range: "node1,node99"},
		"limit 100000: want 1 to 1000":             {Limit: 100000},
		`after "eyJpIjoibm9kZTMifQ": want next of`: {After: "eyJpIjoibm9kZTMifQ", Sort: "state"},
	} {
		if _, err := b.List(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %s", q, err, want)
		}
	}
}

// TestPagesHoldUnderChange: while a list is read, nodes change, go and come; those that stay are in it once.
func TestPagesHoldUnderChange(t *testing.T) {
	b := rack(t, 20)
	next := 21
	ids, _, n := pages(t, b, broker.NodeQuery{Limit: 3}, func(page int) {
		last := fmt.Sprintf("node%d", page*3)
		if page <= 3 { // the very node that the next page goes on after
			if _, err := b.Do(t.Context(), last, broker.Act{Verb: "delete", Who: "tester"}); err != nil {
				t.Fatal(err)
			}
			enlist(t, b, next, &facts.Facts{Schema: 1})
			next++
		}
		if _, err := b.Do(t.Context(), "node1", broker.Act{Verb: "unprotect", Who: "tester"}); err != nil {
			t.Fatal(err)
		}
	})
	if want := "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23"; strings.Join(ids, " ") != want || n < 8 {
		t.Errorf("%d pages: %s; want %s", n, strings.Join(ids, " "), want)
	}
}

func TestSummaryIsBounded(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	n := &broker.Node{ID: "node1", LastError: long, Hold: long, Conflict: long, Keys: broker.Keys{Serial: long}, State: broker.DeployFailed,
		Facts: broker.Told(&facts.Facts{System: &facts.System{Product: long}})}
	s := broker.Brief(n)
	for name, text := range map[string]string{"error": s.LastError, "hold": s.Hold, "conflict": s.Conflict, "serial": s.Serial, "hardware": s.Hardware, "waiting": s.Waiting} {
		if got := len([]rune(text)); got > 200 {
			t.Errorf("%s has %d characters", name, got)
		}
	}
}
