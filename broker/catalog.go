package broker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/broker/rule"
	"muster/broker/task"
)

// A catalog is what operators applied, compiled: it is made anew after every apply and never changed.
type catalog struct {
	tags     []compiledTag // by name
	policies []Policy      // in the order they are asked
	repos    map[string]Repo
	ramdisks []Ramdisk // in the order they are asked
	tasks    map[string]*task.Task
	hooks    map[string]*compiledHook
	handoffs map[string]compiledHandoff
}

type compiledTag struct {
	Tag
	program *rule.Program
}

// nodeView is what rules may read as `node`.
type nodeView struct {
	ID        string            `json:"id"`
	State     string            `json:"state"`
	Hostname  string            `json:"hostname"`
	Policy    string            `json:"policy"`
	Installed string            `json:"installed"`
	Protected bool              `json:"protected"`
	EFI       bool              `json:"efi"`
	MACs      []string          `json:"macs"`
	Meta      map[string]string `json:"meta"`
}

// newSchema is the environment of tag rules.
func newSchema() (*rule.Schema, error) {
	return rule.NewSchema(map[string]any{"facts": facts.Facts{}, "node": nodeView{}, "meta": map[string]any{}})
}

// environment gives a node's values for rules.
func environment(n *Node) (map[string]any, error) {
	meta := map[string]any{}
	for k, v := range n.Meta {
		meta[k] = v
	}
	view := nodeView{ID: n.ID, State: string(n.State), Hostname: n.Hostname, Policy: n.Policy, Installed: n.Installed,
		Protected: n.Protected, EFI: n.Boot.EFI, MACs: n.Keys.MACs, Meta: n.Meta}
	env := map[string]any{"meta": meta}
	known := n.Facts
	if known == nil {
		known = &facts.Facts{} // every fact is unknown
	}
	for root, v := range map[string]any{"facts": *known, "node": view} {
		tree, err := rule.Tree(v)
		if err != nil {
			return nil, fmt.Errorf("read %s of node %s: %w", root, n.ID, err)
		}
		env[root] = tree
	}
	return env, nil
}

// loadCatalog reads and compiles all objects of a transaction.
func (b *Broker) loadCatalog(tx Tx) (*catalog, error) {
	c := &catalog{repos: map[string]Repo{}, tasks: b.tasks}
	tags, err := all[Tag](tx, KindTag)
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		p, err := b.schema.Compile(t.Rule)
		if err != nil {
			return nil, invalid("tag %s: %s", t.Name, err)
		}
		c.tags = append(c.tags, compiledTag{t, p})
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

// refs checks what objects say of each other: a policy's tags, task, repo and ramdisk must be there.
func (c *catalog) refs() error {
	tags := map[string]bool{}
	for _, t := range c.tags {
		tags[t.Name] = true
	}
	for _, p := range c.policies {
		for _, name := range append(slices.Clone(p.Tags), p.NotTags...) {
			if !tags[name] {
				return invalid("policy %s: there is no tag %q: apply it before or with the policy", p.Name, name)
			}
		}
		t, ok := c.tasks[p.Task]
		if !ok {
			return invalid("policy %s: there is no task %q: there are %s", p.Name, p.Task, strings.Join(c.taskNames(), ", "))
		}
		if t.Repo && p.Repo == "" {
			return invalid("policy %s: task %s needs a repo", p.Name, p.Task)
		}
		if _, ok := c.repos[p.Repo]; p.Repo != "" && !ok {
			return invalid("policy %s: there is no repo %q: muster repo import %s IMAGE", p.Name, p.Repo, p.Repo)
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
			if !tags[name] {
				return invalid("ramdisk %s: there is no tag %q: apply it first", r.Name, name)
			}
		}
	}
	return nil
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

// evaluate runs every tag's rule on the node. A rule that can not be decided concerns its own tag only.
func (c *catalog) evaluate(n *Node) ([]TagResult, error) {
	env, err := environment(n)
	if err != nil {
		return nil, err
	}
	results := make([]TagResult, 0, len(c.tags))
	for _, t := range c.tags {
		r := t.program.Eval(env)
		results = append(results, TagResult{Name: t.Name, Verdict: r.Verdict.String(), Cause: r.Cause})
	}
	return results, nil
}

// candidates puts beside each policy what choose asks of it.
func (c *catalog) candidates(tx Tx) ([]candidate, error) {
	list := make([]candidate, 0, len(c.policies))
	for _, p := range c.policies {
		bound, err := tx.Count(NodeFilter{Policy: p.Name})
		if err != nil {
			return nil, err
		}
		cand := candidate{Policy: p, Bound: bound, Task: c.tasks[p.Task]}
		if r, ok := c.repos[p.Repo]; ok {
			cand.Repo = &r
		}
		list = append(list, cand)
	}
	return list, nil
}
