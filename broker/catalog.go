package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/broker/rule"
	"muster/broker/task"
)

// A catalog is what operators applied, compiled: it is made anew after every apply and never changed.
type catalog struct {
	revision int64              // of the objects
	rules    string             // hash of the tags and the version: other rules, or rules read otherwise, have another
	tags     []Tag              // by name
	programs map[string]program // of the tags
	all      question           // for all tags
	editions []edition          // the newest first
	policies []Policy           // in the order they are asked
	repos    map[string]Repo
	ramdisks []Ramdisk // in the order they are asked
	tasks    map[string]*task.Task
	hooks    map[string]*compiledHook
	handoffs map[string]compiledHandoff
}

// loadCatalog reads and compiles all objects of a transaction.
func (b *Broker) loadCatalog(tx Tx) (*catalog, error) {
	c := &catalog{repos: map[string]Repo{}, programs: map[string]program{}}
	var err error
	if c.revision, err = tx.Revision(); err != nil {
		return nil, err
	}
	if c.tasks, err = b.loadTasks(tx); err != nil {
		return nil, err
	}
	if c.tags, err = all[Tag](tx, KindTag); err != nil {
		return nil, err
	}
	for _, t := range c.tags {
		if c.programs[t.Name], err = compileRule(b.schema, t.Rule); err != nil {
			return nil, invalid("tag %s: %s", t.Name, err)
		}
	}
	if c.rules, err = hashOf(b.cfg.Version, c.tags); err != nil {
		return nil, err
	}
	c.all = c.about(c.tagNames())
	if old := b.cat.Load(); old != nil {
		c.succeed(old)
	}
	if c.policies, err = all[Policy](tx, KindPolicy); err != nil {
		return nil, err
	}
	slices.SortStableFunc(c.policies, func(a, z Policy) int {
		return cmp.Or(cmp.Compare(order(a.Order), order(z.Order)), strings.Compare(a.Name, z.Name))
	})
	repos, err := all[Repo](tx, KindRepo)
	for _, r := range repos {
		c.repos[r.Name] = r
	}
	if err != nil {
		return nil, err
	}
	c.ramdisks, err = all[Ramdisk](tx, KindRamdisk)
	slices.SortFunc(c.ramdisks, inOrder)
	if err != nil {
		return nil, err
	}
	if c.hooks, err = b.loadHooks(tx); err != nil {
		return nil, err
	}
	c.handoffs, err = loadHandoffs(tx)
	return c, err
}

func all[T any](tx Tx, kind string) ([]T, error) {
	objects, err := tx.Objects(kind)
	if err != nil {
		return nil, err
	}
	list := make([]T, 0, len(objects))
	for _, o := range objects {
		v, err := decode[T](o)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// refs checks what objects say of each other: a policy's tags, task, repo and ramdisk must be there, and tags may not
// refer to each other in a circle. saved are the tags that just changed.
func (c *catalog) refs(saved ...string) error {
	if err := c.circle(saved); err != nil {
		return err
	}
	for _, p := range c.policies {
		for _, name := range append(slices.Clone(p.Tags), p.NotTags...) {
			if c.programs[name] == nil {
				return invalid("policy %s: there is no tag %q: apply it before or with the policy", p.Name, name)
			}
		}
		t, ok := c.tasks[p.Task]
		if !ok {
			return invalid("policy %s: there is no task %q: there are %s", p.Name, p.Task, strings.Join(c.taskNames(), ", "))
		}
		if err := c.install(p, t); err != nil {
			return invalid("policy %s: %s", p.Name, err)
		}
		if _, ok := c.handoffs[p.Handoff]; p.Handoff != "" && !ok {
			return invalid("policy %s: there is no handoff %q: apply it before or with the policy", p.Name, p.Handoff)
		}
		if p.Handoff != "" && !t.Handoff {
			return invalid("policy %s: task %s runs no handoff", p.Name, p.Task)
		}
		if p.Ramdisk != "" && !slices.ContainsFunc(c.ramdisks, func(r Ramdisk) bool { return r.Name == p.Ramdisk }) {
			return invalid("policy %s: there is no ramdisk %q: muster ramdisk import %s DIR", p.Name, p.Ramdisk, p.Ramdisk)
		}
	}
	for _, r := range c.ramdisks {
		for _, name := range r.Tags {
			if c.programs[name] == nil {
				return invalid("ramdisk %s: there is no tag %q: apply it first", r.Name, name)
			}
		}
	}
	return nil
}

// install checks what a policy gives its task to install from and with.
func (c *catalog) install(p Policy, t *task.Task) error {
	r, ok := c.repos[p.Repo]
	switch {
	case t.Abstract:
		return fmt.Errorf("task %s is there to be extended only", t.Name)
	case t.Repo != task.RepoNone && p.Repo == "":
		return fmt.Errorf("task %s needs a repo", t.Name)
	case p.Repo != "" && !ok:
		return fmt.Errorf("there is no repo %q: muster repo import %s IMAGE|ISO|DIR|URL", p.Repo, p.Repo)
	case t.Repo != task.RepoNone && r.kindOf() != t.Repo:
		return fmt.Errorf("task %s installs from a repo of kind %s, and %s is one of kind %s", t.Name, t.Repo, r.Name, r.kindOf())
	case ok && r.Version != "" && !t.For(r.Version):
		return fmt.Errorf("task %s is for version %s, and repo %s is %s", t.Name, strings.Join(t.Versions, ", "), r.Name, r.Version)
	case ok && r.Arch != "" && len(t.Arch) > 0 && !slices.Contains(t.Arch, r.Arch):
		return fmt.Errorf("task %s is for %s, and repo %s is %s", t.Name, strings.Join(t.Arch, ", "), r.Name, r.Arch)
	}
	_, err := t.Params(p.Params)
	return err
}

// circle refuses tags that need each other's verdict for their own, with the names in order. There was none before, so
// that one goes through a tag that was just saved.
func (c *catalog) circle(saved []string) error {
	names := rule.Cycle(saved, func(tag string) []string {
		if p := c.programs[tag]; p != nil {
			return p.Tags()
		}
		return nil
	})
	if names == nil {
		return nil
	}
	return invalid("tag %s: cycle at %s: %s", names[0], c.programs[names[0]].TagPath(names[1]), strings.Join(names, " -> "))
}

// warnings are what was taken of a rule and will not do what it seems to.
func (c *catalog) warnings(p program) []string {
	list := slices.Clone(p.Warnings())
	for _, name := range p.Tags() {
		if c.programs[name] == nil {
			list = append(list, fmt.Sprintf("there is no tag %s, which the rule refers to at %s", name, p.TagPath(name)))
		}
	}
	return list
}

func (c *catalog) taskNames() []string {
	var names []string
	for name := range c.tasks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// taskOf is the task of the node's binding, or nil.
func (c *catalog) taskOf(n *Node) *task.Task { return c.tasks[n.Task] }

// policyOf is the policy that the node is bound to, or nil.
func (c *catalog) policyOf(n *Node) *Policy {
	i := slices.IndexFunc(c.policies, func(p Policy) bool { return p.Name == n.Policy })
	if i < 0 {
		return nil
	}
	return &c.policies[i]
}

// evaluate runs the rules of tags on the node. One that can not be decided concerns its own tag only.
func (c *catalog) evaluate(n *Node, q question) ([]TagResult, error) {
	if len(q.tags) == 0 {
		return nil, nil
	}
	env, err := c.environment(n, q.sections)
	if err != nil {
		return nil, err
	}
	results := make([]TagResult, 0, len(q.tags))
	for _, name := range q.tags {
		r, _ := env.judge(name)
		results = append(results, TagResult{Name: name, Verdict: r.Verdict.String(), Cause: r.Cause})
	}
	return results, nil
}

// candidate is a policy with what choose asks of it, but for the nodes that it has.
func (c *catalog) candidate(p *Policy, now time.Time) candidate {
	cand := candidate{Policy: *p, Task: c.tasks[p.Task], Now: now}
	if r, ok := c.repos[p.Repo]; ok {
		cand.Repo = &r
	}
	return cand
}

// candidates are all policies. Nodes are counted only for one with a limit that wants this node, and its facts are read
// only for one that looks for a disk: choose can not fail.
func (c *catalog) candidates(n *Node, now time.Time, bound func(policy string) (int, error)) ([]candidate, error) {
	list := make([]candidate, 0, len(c.policies))
	for i := range c.policies {
		cand := c.candidate(&c.policies[i], now)
		looks := cand.Task != nil && cand.Task.Disk && !(n.Protected && cand.Approval != "automatic")
		if (cand.Max > 0 || looks) && cand.wants(n) == "" {
			var err, unread error
			if cand.Max > 0 {
				cand.Bound, err = bound(cand.Name)
			}
			if looks {
				_, unread = n.Facts.Whole()
			}
			if err := errors.Join(err, unread); err != nil {
				return nil, err
			}
		}
		list = append(list, cand)
	}
	return list, nil
}

// wanted says that a policy would take the node if it had room and a disk for it. Most check-ins ask, and are told no:
// that is to be cheap.
func (c *catalog) wanted(n *Node, now time.Time) bool {
	carried := make(map[string]bool, len(n.Tags))
	for _, t := range n.Tags {
		carried[t.Name] = t.Verdict == "yes"
	}
	for i := range c.policies {
		p := &c.policies[i]
		asks := n.Protected && p.Approval != "automatic"
		if asks || n.Pin != p.Name && slices.ContainsFunc(p.Tags, func(tag string) bool { return !carried[tag] }) {
			continue
		}
		if cand := c.candidate(p, now); cand.wants(n) == "" {
			return true
		}
	}
	return false
}

// boundIn counts the nodes of a policy in a store.
func boundIn(tx Tx) func(policy string) (int, error) {
	return func(policy string) (int, error) { return tx.Count(NodeFilter{Policy: policy}) }
}
