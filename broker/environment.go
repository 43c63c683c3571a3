package broker

import (
	"fmt"
	"slices"

	"muster/agent/facts"
	"muster/broker/rule"
	"muster/broker/rule/inspection"
	"muster/broker/rule/razor"
)

// A program is a tag's rule, compiled. There are three languages, of which two may refer to tags of all.
type program interface {
	Tags() []string            // that it refers to
	TagPath(tag string) string // where it does
	Warnings() []string
	eval(*environment) rule.Result
	explain(*environment) rule.Result
}

type (
	ownRule    struct{ *rule.Program }
	razorRule  struct{ *razor.Program }
	ironicRule struct{ *inspection.Program }
)

func (p ownRule) Warnings() []string                    { return nil }
func (p ownRule) eval(e *environment) rule.Result       { return p.Eval(&e.own) }
func (p ownRule) explain(e *environment) rule.Result    { return p.Explain(&e.own) }
func (p razorRule) eval(e *environment) rule.Result     { return p.Eval(e.razor()) }
func (p razorRule) explain(e *environment) rule.Result  { return p.Explain(e.razor()) }
func (p ironicRule) eval(e *environment) rule.Result    { return p.Eval(e.ironic()) }
func (p ironicRule) explain(e *environment) rule.Result { return p.Explain(e.ironic()) }

// compileRule reads a rule in the language it is written in.
func compileRule(schema *rule.Schema, src Rule) (program, error) {
	switch text := string(src); {
	case razor.Is(text):
		p, err := razor.Compile(text)
		if err != nil {
			return nil, err
		}
		return razorRule{p}, nil
	case inspection.Is(text):
		p, err := ironicNames.Compile(text)
		if err != nil {
			return nil, err
		}
		return ironicRule{p}, nil
	}
	p, err := schema.Compile(string(src))
	if err != nil {
		return nil, err
	}
	return ownRule{p}, nil
}

// nodeView is what rules may read as `node`.
type nodeView struct {
	ID        string   `json:"id"`
	State     string   `json:"state"`
	Hostname  string   `json:"hostname"`
	Policy    string   `json:"policy"`
	Installed string   `json:"installed"`
	Protected bool     `json:"protected"`
	EFI       bool     `json:"efi"`
	MACs      []string `json:"macs"`
}

func viewOf(n *Node) nodeView {
	return nodeView{ID: n.ID, State: string(n.State), Hostname: n.Hostname, Policy: n.Policy, Installed: n.Installed,
		Protected: n.Protected, EFI: n.Boot.EFI, MACs: n.Keys.MACs}
}

// newSchema is the environment of tag rules.
func newSchema() (*rule.Schema, error) {
	return rule.NewSchema(map[string]any{"facts": facts.Facts{}, "node": nodeView{}, "meta": map[string]any{}})
}

// An environment is one node as the rules of all tags see it. It is made once; a tag is judged when it is first asked
// for, so that those that others refer to come before them.
type environment struct {
	node    *Node
	known   *facts.Facts // for rules of Razor; nil: nothing is, or none of them is asked
	tags    map[string]program
	own     rule.Env
	razors  *razor.Env      // made when the first rule of that language asks
	ironics *inspection.Env // likewise
	results map[string]rule.Result
}

// environment gives a node's values to the rules of the catalog's tags, and to any other that reads no more than these
// sections.
func (c *catalog) environment(n *Node, of sections) (*environment, error) {
	e := &environment{node: n, tags: c.programs, results: make(map[string]rule.Result, len(c.tags))}
	known, err := n.Facts.tree(of)
	if err == nil && of == nil {
		e.known, err = n.Facts.Whole()
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.ID, err)
	}
	for _, section := range incompleteOf(known, nil) {
		known[section] = rule.Incomplete{Tree: known[section], Why: n.lacking(section)}
	}
	e.own = rule.Env{Roots: map[string]any{"facts": known}, Tag: e.judge}
	meta := n.Meta
	if meta == nil {
		meta = map[string]any{}
	}
	for root, v := range map[string]any{"node": viewOf(n), "meta": meta} {
		if e.own.Roots[root], err = rule.Tree(v); err != nil {
			return nil, fmt.Errorf("read %s of node %s: %w", root, n.ID, err)
		}
	}
	return e, nil
}

// judge is what a tag says of the node; false when there is no such tag. Saved rules do not refer to each other in a
// circle, but for a tag whose name one of Razor's rules computes.
func (e *environment) judge(tag string) (rule.Result, bool) {
	p, ok := e.tags[tag]
	if !ok {
		return rule.Result{}, false
	}
	if r, ok := e.results[tag]; ok {
		return r, true
	}
	e.results[tag] = rule.Result{Verdict: rule.Undecided, Cause: "it refers to itself", Code: string(razor.Cycle)}
	r := p.eval(e)
	e.results[tag] = r
	return r, true
}

// razor is the node as Razor shows it: facts flat, as Facter 2 names them.
func (e *environment) razor() *razor.Env {
	if e.razors != nil {
		return e.razors
	}
	n := e.node
	e.razors = &razor.Env{Metadata: map[string]any{}, State: map[string]any{"installed": nil}, Tag: e.judge}
	if meta, ok := e.own.Roots["meta"].(map[string]any); ok {
		e.razors.Metadata = meta
	}
	switch {
	case n.Installed != "":
		e.razors.State["installed"] = n.Installed
	case n.Protected && n.Policy == "":
		e.razors.State["installed"] = "+protected"
	}
	e.razors.Facts, e.razors.MACs = e.razorFacts()
	return e.razors
}

// razorFacts are the flat facts, custom ones as custom.NAME, and why there may be more MACs than these. What sums up a
// section that is incomplete is left out: a list of some disks reads like a list of all.
func (e *environment) razorFacts() (flat map[string]any, macs string) {
	f := e.known
	if f == nil {
		return nil, "facts are not known"
	}
	flat = f.Facter()
	if len(f.Custom) > 0 {
		custom := make(map[string]any, len(f.Custom))
		for k, v := range f.Custom {
			custom[k] = v
		}
		flat["custom"] = custom
	}
	for _, section := range f.Incomplete {
		for _, name := range sums[section] {
			delete(flat, name)
		}
	}
	switch {
	case slices.Contains(f.Incomplete, "nics"):
		macs = e.node.lacking("nics")
	case f.NICs == nil:
		macs = "facts.nics is not known"
	}
	return flat, macs
}

// sums are the flat facts that say something of a whole section. Which interface stands for the machine is known only
// when all are.
var sums = map[string][]string{
	"disks":   {"blockdevices"},
	"optical": {"blockdevices"},
	"nics":    {"interfaces", "macaddress", "ipaddress", "netmask"},
}

// lacking says of a section that it is incomplete, and what its collector said.
func (n *Node) lacking(section string) string {
	why := "facts." + section + " is incomplete"
	var said []facts.ProbeError
	for _, e := range n.Errors {
		if e.Collector == section {
			said = append(said, e)
		}
	}
	if len(said) == 0 {
		return why
	}
	why += ": " + said[0].Code + ": " + facts.Line(said[0].Msg, 160)
	if len(said) > 1 {
		why += fmt.Sprintf(" (and %d more)", len(said)-1)
	}
	return why
}
