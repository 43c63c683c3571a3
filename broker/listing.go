package broker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster/broker/rule"
)

// A NodeQuery chooses nodes of a list; what is empty chooses all.
type NodeQuery struct {
	Range  string   // package noderange
	Tags   []string // carried, all of them
	States []string // any of them: a provision state, or hold, conflict, protected
	Policy string
	Where  string // a rule, as a tag's
	Sort   string // one of SortKeys, "-" in front for the other way round; if empty, as they were made
	After  string // Next of the page before
	Limit  int    // if 0, 500
}

// MaxPage is the most nodes of a page.
const MaxPage = 1000

// maxScan is the most nodes that one page looks at: a page may be shorter than asked, or empty, with more to come.
const maxScan = 5000

// A NodePage is a part of a list. A list that is read to its end while nodes change has every node that was there all
// the time, once, when it goes by the order in which nodes were made; by another order, those whose place stays.
type NodePage struct {
	Nodes []NodeSummary `json:"nodes"`
	// Undecided are nodes that may belong to the list: a tag or the rule is undecided on them.
	Undecided []UndecidedNodes `json:"undecided,omitempty"`
	Next      string           `json:"next,omitempty" doc:"after of the next page; empty at the end"`
	Seq       int64            `json:"seq,omitempty" doc:"of the newest event at the first page: a watch goes on after it"`
}

// UndecidedNodes are nodes of a page that one cause keeps out.
type UndecidedNodes struct {
	Cause string `json:"cause"`
	Count int    `json:"count"`
	Node  string `json:"node" doc:"the first of them"`
}

// List gives a page of nodes.
func (b *Broker) List(ctx context.Context, q NodeQuery) (*NodePage, error) {
	l, err := b.newListing(q)
	if err != nil {
		return nil, err
	}
	err = b.cfg.Store.View(ctx, func(tx Tx) error { return l.read(ctx, b, tx) })
	if err != nil {
		return nil, err
	}
	return l.page, nil
}

// A listing is one page in the making.
type listing struct {
	NodeQuery
	from    cursor
	key     func(*NodeSummary) string // nil: as they were made
	where   program
	cat     *catalog
	ids     []string // of Range, as they were made; nil: all nodes
	page    *NodePage
	scanned int
	causes  map[string]int // of the page's Undecided, by index
	last    string         // id of the last node that was looked at
}

func (b *Broker) newListing(q NodeQuery) (l *listing, err error) {
	l = &listing{NodeQuery: q, cat: b.cat.Load(), page: &NodePage{Nodes: []NodeSummary{}}, causes: map[string]int{}}
	if l.Limit == 0 {
		l.Limit = 500
	}
	if l.Limit < 0 || l.Limit > MaxPage {
		return nil, invalid("limit %d: want 1 to %d", l.Limit, MaxPage)
	}
	if q.Sort != "" {
		if l.key = sortKeys[strings.TrimPrefix(q.Sort, "-")]; l.key == nil {
			return nil, invalid("sort %q: want %s", q.Sort, strings.Join(SortKeys(), ", "))
		}
	}
	if l.from, err = parseCursor(q.After, q.Sort); err != nil {
		return nil, err
	}
	for _, s := range q.States {
		if !slices.Contains(StateWords(), s) {
			return nil, invalid("state %q: want %s", s, strings.Join(StateWords(), ", "))
		}
	}
	if q.Where != "" {
		if l.where, err = compileRule(b.schema, Rule(q.Where)); err != nil {
			return nil, invalid("where: %s", err)
		}
	}
	return l, b.knowTags(q.Tags)
}

// knowTags refuses tags that do not exist: a list that is empty because of a misspelling tells nobody.
func (b *Broker) knowTags(names []string) error {
	known := b.cat.Load().tagNames()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return notFound("there is no tag %q", name)
		}
	}
	return nil
}

func (c *catalog) tagNames() []string {
	names := make([]string, 0, len(c.tags))
	for _, t := range c.tags {
		names = append(names, t.Name)
	}
	return names
}

// StateWords lists what a list may be filtered by: the provision states, and what a node may be beside them.
func StateWords() []string {
	words := []string{"hold", "conflict", "protected"}
	for _, e := range table {
		words = append(words, string(e.from), string(e.to))
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func (n *Node) is(word string) bool {
	switch word {
	case "hold":
		return n.Hold != ""
	case "conflict":
		return n.Conflict != ""
	case "protected":
		return n.Protected
	}
	return string(n.State) == word
}

// read fills the page in one snapshot.
func (l *listing) read(ctx context.Context, b *Broker, tx Tx) (err error) {
	if l.After == "" {
		if l.page.Seq, err = lastSeq(tx); err != nil {
			return err
		}
	}
	if l.Range != "" {
		s, err := b.selectNodes(tx, l.Range)
		if err != nil {
			return err
		}
		l.ids = s.IDs
		for _, id := range slices.Sorted(maps.Keys(s.Undecided)) {
			if l.After == "" {
				l.doubt(id, fmt.Sprintf("tag %s is undecided", s.Undecided[id]))
			}
		}
	}
	f := NodeFilter{Policy: l.Policy}
	if l.key == nil {
		f.After = l.from.ID
	}
	more, err := l.scan(ctx, tx, f)
	if err != nil {
		return err
	}
	if l.key != nil {
		l.sort()
	} else if more {
		l.page.Next = cursor{ID: l.last}.String()
	}
	return nil
}

// scan looks at nodes until the page is full; more says that it did not see the last of them.
func (l *listing) scan(ctx context.Context, tx Tx, f NodeFilter) (more bool, err error) {
	see := func(n *Node) (bool, error) {
		l.scanned++
		l.last = n.ID
		if err := l.take(n); err != nil {
			return false, err
		}
		return l.key != nil || len(l.page.Nodes) < l.Limit && l.scanned < maxScan, nil
	}
	if l.ids == nil {
		return eachNode(ctx, tx, f, see)
	}
	for i, id := range l.ids {
		if l.key == nil && (cursor{ID: id}).compare(l.from) <= 0 {
			continue
		}
		n, err := tx.Node(id)
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return false, err
		}
		if goOn, err := see(n); err != nil || !goOn {
			return i < len(l.ids)-1, err
		}
	}
	return false, nil
}

// eachNode reads nodes in the order they were made, some at a time, until f has enough of them; more says that there
// are others behind.
func eachNode(ctx context.Context, tx Tx, f NodeFilter, see func(*Node) (goOn bool, err error)) (more bool, err error) {
	const batch = 200
	f.Limit = batch
	for {
		nodes, err := tx.Nodes(f)
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return false, err
		}
		for i, n := range nodes {
			goOn, err := see(n)
			if err != nil || !goOn {
				return i < len(nodes)-1 || len(nodes) == batch, err
			}
			f.After = n.ID
		}
		if len(nodes) < batch {
			return false, nil
		}
	}
}

// take puts the node on the page when it belongs there.
func (l *listing) take(n *Node) error {
	if l.Policy != "" && n.Policy != l.Policy || len(l.States) > 0 && !slices.ContainsFunc(l.States, n.is) {
		return nil
	}
	doubt := ""
	for _, name := range l.Tags {
		switch t := n.tag(name); t.Verdict {
		case rule.Yes.String():
		case rule.Undecided.String():
			doubt = fmt.Sprintf("tag %s: %s", name, t.Cause)
		default:
			return nil
		}
	}
	if l.where != nil {
		env, err := l.cat.environment(n)
		if err != nil {
			return err
		}
		switch r := l.where.eval(env); r.Verdict {
		case rule.No:
			return nil
		case rule.Undecided:
			doubt = cmp.Or(doubt, r.Cause)
		}
	}
	if doubt != "" {
		l.doubt(n.ID, doubt)
		return nil
	}
	l.page.Nodes = append(l.page.Nodes, Brief(n))
	return nil
}

// maxCauses is the most causes told apart on a page; the rest is one.
const maxCauses = 20

func (l *listing) doubt(id, cause string) {
	if _, told := l.causes[cause]; !told && len(l.causes) >= maxCauses {
		cause = "other causes"
	}
	i, told := l.causes[cause]
	if !told {
		i = len(l.page.Undecided)
		l.causes[cause] = i
		l.page.Undecided = append(l.page.Undecided, UndecidedNodes{Cause: short(cause), Node: id})
	}
	l.page.Undecided[i].Count++
}

// sort leaves of all nodes those of this page.
func (l *listing) sort() {
	place := func(s NodeSummary) cursor { return cursor{Sort: l.Sort, Key: l.key(&s), ID: s.ID} }
	all := l.page.Nodes
	slices.SortFunc(all, func(a, z NodeSummary) int { return place(a).compare(place(z)) })
	if l.After != "" {
		i, found := slices.BinarySearchFunc(all, l.from, func(s NodeSummary, c cursor) int { return place(s).compare(c) })
		if found {
			i++
		}
		all = all[i:]
	}
	if len(all) > l.Limit {
		all = all[:l.Limit]
		l.page.Next = place(all[l.Limit-1]).String()
	}
	l.page.Nodes = all
}
