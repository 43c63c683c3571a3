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
	glance  *glance // of where; nil: it asks whole nodes
	cat     *catalog
	ids     []string // of Range, as they were made; nil: all nodes
	page    *NodePage
	scanned int
	causes  map[string]int // of the page's Undecided, by index
	last    cursor         // of the last node that was looked at
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
		l.glance = glanceOf(l.where)
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

// besideStates are what a node may be beside its provision state.
var besideStates = []string{"hold", "conflict", "protected"}

// StateWords lists what a list may be filtered by: the provision states, and what a node may be beside them.
func StateWords() []string {
	words := slices.Clone(besideStates)
	for _, e := range table {
		words = append(words, string(e.from), string(e.to))
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func (s *NodeSummary) is(word string) bool {
	switch word {
	case "hold":
		return s.Hold != ""
	case "conflict":
		return s.Conflict != ""
	case "protected":
		return s.Protected
	}
	return string(s.State) == word
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
	more, err := l.scan(ctx, tx)
	if err != nil {
		return err
	}
	if l.key != nil && l.ids != nil {
		l.sort()
	} else if more {
		l.page.Next = l.last.String()
	}
	return nil
}

// place is where a node stands in the list.
func (l *listing) place(s *NodeSummary) cursor {
	c := cursor{Sort: l.Sort, ID: s.ID}
	if l.key != nil {
		c.Key = l.key(s)
	}
	return c
}

// scan looks at nodes until the page is full; more says that it did not see the last of them. Of a range that is to be
// sorted it takes all.
func (l *listing) scan(ctx context.Context, tx Tx) (more bool, err error) {
	see := func(s *Listed) (bool, error) {
		l.scanned++
		l.last = l.place(&s.NodeSummary)
		if err := l.take(tx, s); err != nil {
			return false, err
		}
		return len(l.page.Nodes) < l.Limit && l.scanned < maxScan || l.key != nil && l.ids != nil, nil
	}
	if l.ids == nil {
		f := ListFilter{NodeFilter: NodeFilter{Policy: l.Policy, After: l.from.ID}, States: l.provision(), Tags: l.Tags, Sort: l.Sort, Key: l.from.Key, Facts: l.glance != nil}
		return eachListed(ctx, tx, f, see)
	}
	for i, id := range l.ids {
		if l.key == nil && (cursor{ID: id}).compare(l.from) <= 0 {
			continue
		}
		n, err := tx.Node(id)
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return false, err
		}
		s := InList(n)
		if goOn, err := see(&s); err != nil || !goOn {
			return i < len(l.ids)-1, err
		}
	}
	return false, nil
}

// eachListed reads what lists have of nodes, some at a time, until see has enough of them; more says that there are
// others behind.
func eachListed(ctx context.Context, tx Tx, f ListFilter, see func(*Listed) (goOn bool, err error)) (more bool, err error) {
	const batch = MaxPage
	f.Limit = batch
	for {
		nodes, err := tx.List(f)
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return false, err
		}
		for i := range nodes {
			goOn, err := see(&nodes[i])
			if err != nil || !goOn {
				return i < len(nodes)-1 || len(nodes) == batch, err
			}
		}
		if len(nodes) < batch {
			return false, nil
		}
		last := &nodes[len(nodes)-1]
		if f.After = last.ID; f.Sort != "" {
			f.Key = last.SortedBy(strings.TrimPrefix(f.Sort, "-"))
		}
	}
}

// provision are the states asked for, when they are what a store knows of a node: none, when another word is among them.
func (l *listing) provision() (states []State) {
	for _, word := range l.States {
		if slices.Contains(besideStates, word) {
			return nil
		}
		states = append(states, State(word))
	}
	return states
}

// take puts the node on the page when it belongs there.
func (l *listing) take(tx Tx, s *Listed) error {
	if l.Policy != "" && s.Policy != l.Policy || len(l.States) > 0 && !slices.ContainsFunc(l.States, s.is) {
		return nil
	}
	doubt := ""
	for _, name := range l.Tags {
		if slices.Contains(s.Tags, name) {
			continue
		}
		i := slices.Index(s.Undecided, name)
		if i < 0 {
			return nil
		}
		doubt = fmt.Sprintf("tag %s: %s", name, s.Causes[i])
	}
	if l.where != nil {
		switch r, err := l.ask(tx, s); {
		case err != nil:
			return err
		case r.Verdict == rule.No:
			return nil
		case r.Verdict == rule.Undecided:
			doubt = cmp.Or(doubt, r.Cause)
		}
	}
	if doubt != "" {
		l.doubt(s.ID, doubt)
		return nil
	}
	l.page.Nodes = append(l.page.Nodes, s.NodeSummary)
	return nil
}

// ask has the rule of the query judge a node.
func (l *listing) ask(tx Tx, s *Listed) (rule.Result, error) {
	if l.glance != nil && l.ids == nil {
		if r, unsure, err := l.glance.judge(s); !unsure {
			return r, err
		}
	}
	n, err := tx.Node(s.ID)
	if err != nil {
		return rule.Result{}, err
	}
	env, err := l.cat.environment(n, l.cat.reads(l.where))
	if err != nil {
		return rule.Result{}, err
	}
	return l.where.eval(env), nil
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

// sort leaves of all nodes of a range those of this page.
func (l *listing) sort() {
	place := func(s NodeSummary) cursor { return l.place(&s) }
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
