package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"muster/broker/rule"
)

// sections are the parts of the facts that rules read: a question about memory decodes no PCI devices. nil is all of
// them.
type sections map[string]bool

// sectionsOf are what a rule reads itself, whatever the tags read that it refers to. Razor's names of facts are made of
// the whole.
func sectionsOf(p program) sections {
	own, ok := p.(ownRule)
	if !ok {
		return nil
	}
	of := sections{"incomplete": true}
	for _, ref := range own.Refs() {
		root, path, _ := strings.Cut(ref, ".")
		section, _, _ := strings.Cut(path, ".")
		section, _, _ = strings.Cut(section, "[")
		switch {
		case root != "facts":
		case section == "":
			return nil
		default:
			of[section] = true
		}
	}
	return of
}

// and is what both read.
func (of sections) and(more sections) sections {
	if of == nil || more == nil {
		return nil
	}
	both := maps.Clone(of)
	maps.Copy(both, more)
	return both
}

// in decodes these members of a JSON object, and passes over the others without a look at what is in them.
func (of sections) in(doc string) (map[string]any, error) {
	object := gjson.Parse(doc)
	if !object.IsObject() {
		return nil, errors.New("it is no JSON object")
	}
	found := make(map[string]any, len(of))
	object.ForEach(func(name, value gjson.Result) bool {
		if of[name.String()] {
			found[name.String()] = treeOf(value)
		}
		return len(found) < len(of)
	})
	return found, nil
}

// treeOf is a JSON value as rules read it (rule.Tree): integers of 64 bits stay exact.
func treeOf(v gjson.Result) any {
	switch {
	case v.IsObject():
		tree := map[string]any{}
		v.ForEach(func(name, member gjson.Result) bool {
			tree[name.String()] = treeOf(member)
			return true
		})
		return tree
	case v.IsArray():
		list := []any{}
		v.ForEach(func(_, item gjson.Result) bool {
			list = append(list, treeOf(item))
			return true
		})
		return list
	case v.Type == gjson.Number:
		if i, err := strconv.ParseInt(v.Raw, 10, 64); err == nil {
			return i
		}
	}
	return v.Value()
}

// incompleteOf are the sections among these of which a collector could not tell all.
func incompleteOf(facts map[string]any, among sections) (names []string) {
	list, _ := facts["incomplete"].([]any)
	for _, v := range list {
		if name, ok := v.(string); ok && (among == nil || among[name]) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// A glance is a rule that asks only for the lists' part of a node and for some sections of its facts. Most rules that
// people ask lists are such.
type glance struct {
	rule     *rule.Program
	sections sections
	node     bool // the rule reads it
}

// glanceOf gives nil for a rule that needs more: other tags, metadata, what lists do not have, or facts as a whole.
func glanceOf(p program) *glance {
	own, ok := p.(ownRule)
	of := sectionsOf(p)
	if !ok || of == nil || len(own.Tags()) > 0 {
		return nil
	}
	g := &glance{rule: own.Program, sections: of}
	for _, ref := range own.Refs() {
		switch root, path, _ := strings.Cut(ref, "."); {
		case root == "node" && path != "" && path != "efi":
			g.node = true
		case root != "facts":
			return nil
		}
	}
	return g
}

// judge is what the rule says; unsure means that the whole node must be asked: why a section is incomplete stands there.
func (g *glance) judge(s *Listed) (r rule.Result, unsure bool, err error) {
	doc := s.Facts
	if doc == "" {
		doc = `{"schema":0}` // every fact is unknown
	}
	known, err := g.sections.in(doc)
	if err != nil {
		return r, false, fmt.Errorf("read facts of node %s: %w", s.ID, err)
	}
	if len(incompleteOf(known, g.sections)) > 0 {
		return r, true, nil
	}
	roots := map[string]any{"facts": known}
	if !g.node {
		return g.rule.Eval(&rule.Env{Roots: roots}), false, nil
	}
	roots["node"], err = rule.Tree(viewOf(&Node{ID: s.ID, State: s.State, Hostname: s.Hostname, Policy: s.Policy, Installed: s.Installed,
		Protected: s.Protected, Keys: Keys{MACs: s.MACs}}))
	if err != nil {
		return r, false, fmt.Errorf("read node %s: %w", s.ID, err)
	}
	return g.rule.Eval(&rule.Env{Roots: roots}), false, nil
}
