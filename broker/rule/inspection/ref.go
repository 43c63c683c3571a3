package inspection

import (
	"maps"
	"slices"
	"strings"
)

// A ref is what a rule reads of a node.
type ref struct {
	root     string // data, inventory, plugin_data, node
	steps    []step
	label    string   // as it is written in the rule
	sections []string // of facts that it is made from
	never    bool     // muster knows it of no node
	leaf     bool     // it is one value, as far as is known
	object   bool     // it has members, as far as is known
}

// ref resolves what a rule reads, and says what is known of it before any node is seen.
func (c *checker) ref(path, label, root string, steps []step) *ref {
	f := &ref{root: root, steps: steps, label: label}
	if c.schema == nil {
		return f
	}
	name := strings.TrimPrefix(canonical(root, steps), "data.")
	if root == "node" {
		c.node(path, label, strings.TrimPrefix(name, "node."))
		return f
	}
	found := false
	for known, sections := range c.schema.Inventory {
		switch covers(known, name) {
		case same:
			f.never, f.leaf = sections == "", true
		case apart:
			continue
		case above:
			rest := strings.TrimPrefix(known, name)
			f.object = f.object || rest != "[]"
		}
		found = true
		f.sections = append(f.sections, strings.Fields(sections)...)
	}
	slices.Sort(f.sections)
	f.sections = slices.Compact(f.sections)
	switch {
	case c.schema.Inventory == nil:
	case !found:
		c.warn(path, "%s is in no inventory that muster makes: it is missing on every node", quote(label))
	case f.never:
		c.warn(path, "%s is never known to muster: the condition is undecided on every node", quote(label))
	}
	return f
}

// node refuses what muster's record of a node has not, or has with another meaning.
func (c *checker) node(path, label, name string) {
	known := c.schema.Node == nil
	var there []string
	for _, pattern := range slices.Sorted(maps.Keys(c.schema.Node)) {
		advice, how := c.schema.Node[pattern], covers(pattern, name)
		if advice == "" {
			there = append(there, pattern)
		} else if how == same {
			c.fault(BadPath, path, "%s is something else in muster; %s", quote(label), advice)
		}
		known = known || how != apart
	}
	if !known {
		c.fault(BadPath, path, "a node of muster has no %s; there are %s", quote(label), strings.Join(there, " "))
	}
}

// How a path that is known lies to one that is read.
const (
	apart = iota
	above // what is read holds what is known
	same
)

// covers compares two canonical paths; * is any name, and at the end anything below.
func covers(known, read string) int {
	k, r := segments(known), segments(read)
	for i, part := range r {
		switch {
		case i == len(k):
			return apart
		case k[i] == "*" && i == len(k)-1:
			return same
		case k[i] != part && (k[i] != "*" || part == "[]") && (part != "*" || k[i] == "[]"):
			return apart
		}
	}
	if len(r) == len(k) {
		return same
	}
	return above
}

func segments(path string) []string {
	return strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
}

// read gives the values that a ref leads to. gap says why there may be others, or more of them.
func (r *run) read(path string, f *ref) (values []any, gap string, err *Error) {
	why := ""
	for _, section := range f.sections {
		if why = r.env.Lacking[section]; why != "" {
			break
		}
	}
	values, fail := find(r.tree(f.root), f.steps)
	if err := r.charge(path, 1+len(values)); err != nil {
		return nil, "", err
	}
	switch {
	case why != "" && (fail != nil || !f.survives()):
		return nil, why, nil
	case fail != nil:
		return nil, "", &Error{Code: RuleFailed, Path: path, Msg: f.label + ": " + fail.Error()}
	case f.never && len(values) == 0:
		return nil, f.label + " is never known to muster", nil
	case why != "" && len(values) > 0 && !f.spreads():
		why = ""
	}
	known := values[:0]
	for _, v := range values {
		if unknown, is := v.(Unknown); is {
			why = f.label + ": " + string(unknown)
			continue
		}
		known = append(known, v)
	}
	return known, why, nil
}

// survives says that what is found in a section that is not whole is true all the same: a list without a member may be
// another list, and what has index 0 another disk.
func (f *ref) survives() bool {
	return f.leaf && !slices.ContainsFunc(f.steps, func(s step) bool { return s.kind == index })
}

// spreads says that a ref may lead to several values.
func (f *ref) spreads() bool {
	return slices.ContainsFunc(f.steps, func(s step) bool { return s.kind == items || s.kind == values })
}

func (r *run) tree(root string) any {
	var tree any
	switch root {
	case "data":
		tree = r.env.Data
	case "inventory":
		tree = r.env.Data["inventory"]
	case "plugin_data":
		tree = r.env.Plugin
	case "node":
		tree = r.env.Node
	}
	return tree
}

// note keeps what was read for people, each once.
func (r *run) note(v any) {
	if r.notes {
		r.say(show(v))
	}
}

// absent notes that there is nothing to look at.
func (r *run) absent(f *ref) { r.say("there is no " + f.label) }

func (r *run) say(text string) {
	const most = 20
	if r.notes && len(r.seen) < most && !slices.Contains(r.seen, text) {
		r.seen = append(r.seen, text)
	}
}
