package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Plan is what an apply would do, on the nodes and facts that are stored. Nothing is changed by it.
type Plan struct {
	Objects []Applied  `json:"objects"`
	Nodes   []NodePlan `json:"nodes" doc:"those that would change, the first 1000, as they were created"`
	Changed int        `json:"changed" doc:"how many nodes would change"`
	Same    int        `json:"same" doc:"how many would not"`
	// What waits for an operator's word alone does not change, and would at that word.
	Protected int `json:"protected" doc:"how many of all a policy would take if they were not protected"`
	Loses     int `json:"loses" doc:"how many of these hold data that it would lose"`
}

// NodePlan is one node that would change.
type NodePlan struct {
	Node      string   `json:"node"`
	Title     string   `json:"title"`
	Gains     []string `json:"gains,omitempty" doc:"tags that would hold"`
	Loses     []string `json:"loses,omitempty" doc:"tags that would hold no more"`
	Undecided []string `json:"undecided,omitempty" doc:"tags that would be undecided, with the cause"`
	Policy    string   `json:"policy,omitempty" doc:"that would take it"`
	Disk      string   `json:"disk,omitempty" doc:"that would be written"`
	Loss      string   `json:"loss,omitempty" doc:"what that disk would lose"`
	Now       Decision `json:"now"`
	Then      Decision `json:"then"`
}

// maxPlanned is the most nodes that a plan names.
const maxPlanned = 1000

// Plan says what Apply, or with prune Replace, would do.
func (b *Broker) Plan(ctx context.Context, objects []Object, prune bool) (*Plan, error) {
	for _, o := range objects {
		if err := b.holdFiles(o); err != nil {
			return nil, err
		}
	}
	p := &Plan{Nodes: []NodePlan{}}
	var cat *catalog
	bound := map[string]int{}
	err := b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		o := &overlay{Tx: tx, objects: map[[2]string]*Object{}}
		if p.Objects, err = b.putAll(ctx, o, objects, prune, "plan"); err != nil {
			return err
		}
		if cat, err = b.loadCatalog(o); err != nil {
			return err
		}
		for _, policy := range cat.policies {
			if policy.Max > 0 {
				if bound[policy.Name], err = tx.Count(NodeFilter{Policy: policy.Name}); err != nil {
					return err
				}
			}
		}
		return cat.refs(tagNames(objects)...)
	})
	if err != nil {
		return nil, err
	}
	b.warn(cat, p.Objects)
	all, err := b.foresee(ctx, cat)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	for _, l := range all {
		l.take(bound)
		if l.approved != nil {
			p.Protected++
			if l.approved.loss != "" {
				p.Loses++
			}
		}
		if l.same() {
			p.Same++
			continue
		}
		p.Changed++
		if len(p.Nodes) < maxPlanned {
			p.Nodes = append(p.Nodes, l.NodePlan)
		}
	}
	return p, nil
}

// A prospect is what one node would be, as far as that does not hang on others.
type prospect struct {
	NodePlan
	takers   []taker // that would take it, in order, if they have room
	approved *taker  // that would take it if it were not protected
}

// A taker is a policy that would take a node, and what would be of the node then.
type taker struct {
	policy     string
	max        int
	disk, loss string
	then       Decision
}

// foresee judges all nodes by a catalog, in the order they were created.
func (b *Broker) foresee(ctx context.Context, cat *catalog) ([]*prospect, error) {
	var mu sync.Mutex
	var all []*prospect
	err := b.eachNode(ctx, nil, func(n *Node) (bool, error) {
		l, err := b.prospect(cat, n)
		if err != nil {
			return false, err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, l)
		return false, nil
	}, nil)
	slices.SortFunc(all, func(a, z *prospect) int { return cursor{ID: a.Node}.compare(cursor{ID: z.Node}) })
	return all, err
}

// prospect judges one node.
func (b *Broker) prospect(cat *catalog, n *Node) (*prospect, error) {
	l := &prospect{NodePlan: NodePlan{Node: n.ID, Title: n.Title(), Now: decide(n, b.cat.Load().taskOf(n))}}
	then := *n
	if n.Facts.Known() {
		var err error
		if then.Tags, _, err = cat.carried(n); err != nil {
			return nil, err
		}
	}
	l.compare(n.Tags, then.Tags)
	l.Then = decide(&then, cat.taskOf(&then))
	var err error
	if l.takers, err = cat.takers(&then, b.now()); err != nil || len(l.takers) > 0 || !then.Protected {
		return l, err
	}
	then.Protected = false
	approved, err := cat.takers(&then, b.now())
	if len(approved) > 0 {
		l.approved = &approved[0]
	}
	return l, err
}

// takers are the policies that would take a node, in order, up to the first that has no limit.
func (c *catalog) takers(n *Node, now time.Time) (list []taker, err error) {
	if !n.free() || !c.wanted(n, now) {
		return nil, nil
	}
	cands, err := c.candidates(n, now, func(string) (int, error) { return 0, nil })
	if err != nil {
		return nil, err
	}
	for len(cands) > 0 {
		win, disk, _ := choose(n, cands)
		if win == nil {
			break
		}
		t := taker{policy: win.Name, max: win.Max, then: win.foretold(*n)}
		if disk != nil {
			t.disk, t.loss = disk.Name, holds(*disk)
		}
		list = append(list, t)
		if win.Max == 0 {
			break
		}
		cands = cands[slices.IndexFunc(cands, func(c candidate) bool { return c.Name == win.Name })+1:]
	}
	return list, nil
}

// foretold is what a node would boot when the policy has taken it.
func (p *candidate) foretold(n Node) Decision {
	n.Policy, n.Task, n.Protected = p.Name, p.Policy.Task, false
	if len(p.Task.Stages) > 0 {
		n.State, n.Stage = WaitCallBack, 1
	}
	return decide(&n, p.Task)
}

// compare notes what tags come and go.
func (l *prospect) compare(now, then []TagResult) {
	was, is := map[string]TagResult{}, map[string]TagResult{}
	for _, t := range now {
		was[t.Name] = t
	}
	for _, t := range then {
		is[t.Name] = t
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		switch t := is[name]; {
		case t.Verdict == was[name].Verdict:
		case t.Verdict == "yes":
			l.Gains = append(l.Gains, name)
		default:
			l.Undecided = append(l.Undecided, name+colon(t.Cause))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if was[name].Verdict == "yes" && is[name].Verdict != "yes" {
			l.Loses = append(l.Loses, name)
		}
	}
}

// take gives the node to the first policy that has room, of those that would take it.
func (l *prospect) take(bound map[string]int) {
	for _, t := range l.takers {
		if t.max > 0 && bound[t.policy] >= t.max {
			continue
		}
		bound[t.policy]++
		l.Policy, l.Disk, l.Loss, l.Then = t.policy, t.disk, t.loss, t.then
		return
	}
}

// same says that the node would be as it is.
func (l *prospect) same() bool {
	return l.Policy == "" && len(l.Gains)+len(l.Loses)+len(l.Undecided) == 0 && l.Now == l.Then
}

// An overlay is a transaction that reads a snapshot and keeps changes of objects to itself.
type overlay struct {
	Tx
	objects map[[2]string]*Object // by kind and name; nil: deleted
}

func (o *overlay) Object(kind, name string) (Object, error) {
	if x, ok := o.objects[[2]string{kind, name}]; ok {
		if x == nil {
			return Object{}, ErrNotFound
		}
		return *x, nil
	}
	return o.Tx.Object(kind, name)
}

func (o *overlay) Objects(kind string) ([]Object, error) {
	list, err := o.Tx.Objects(kind)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(x Object) bool { _, changed := o.objects[[2]string{kind, x.Name}]; return changed })
	for key, x := range o.objects {
		if key[0] == kind && x != nil {
			list = append(list, *x)
		}
	}
	slices.SortFunc(list, func(a, z Object) int { return strings.Compare(a.Name, z.Name) })
	return list, nil
}

func (o *overlay) PutObject(x Object) error {
	o.objects[[2]string{x.Kind, x.Name}] = &x
	return nil
}

func (o *overlay) DeleteObject(kind, name string) error {
	if _, err := o.Object(kind, name); err != nil {
		return err
	}
	o.objects[[2]string{kind, name}] = nil
	return nil
}

func (o *overlay) Append(*Event) error { return nil }

var errReadOnly = errors.New("a plan changes no nodes")

func (o *overlay) PutNode(*Node) error           { return errReadOnly }
func (o *overlay) DeleteNode(string) error       { return errReadOnly }
func (o *overlay) Counter(string) (int64, error) { return 0, errReadOnly }
