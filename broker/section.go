package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"muster/broker/rule"
)

// A glance is what a rule reads of a node when it needs the lists' part of it and some sections of its facts: a
// question about memory decodes no PCI devices. Most rules that people ask lists are such.
type glance struct {
	rule     *rule.Program
	sections map[string]bool // of the facts
}

// glanceOf gives nil for a rule that needs more: other tags, metadata, what lists do not have, facts as a whole, or
// Razor's names of them.
func glanceOf(p program) *glance {
	own, ok := p.(ownRule)
	if !ok || len(own.Tags()) > 0 {
		return nil
	}
	g := &glance{own.Program, map[string]bool{"incomplete": true}}
	for _, ref := range own.Refs() {
		root, path, _ := strings.Cut(ref, ".")
		section, _, _ := strings.Cut(path, ".")
		section, _, _ = strings.Cut(section, "[")
		switch {
		case root == "facts" && section != "":
			g.sections[section] = true
		case root != "node" || section == "efi":
			return nil
		}
	}
	return g
}

// judge is what the rule says; unsure means that the whole node must be asked: why a section is incomplete stands there.
func (g *glance) judge(s *Listed) (r rule.Result, unsure bool, err error) {
	doc := s.Facts
	if doc == nil {
		doc = []byte(`{"schema":0}`) // every fact is unknown
	}
	known, err := sectionsOf(doc, g.sections)
	if err != nil {
		return r, false, fmt.Errorf("read facts of node %s: %w", s.ID, err)
	}
	if known["incomplete"] != nil {
		return r, true, nil
	}
	node, err := rule.Tree(viewOf(&Node{ID: s.ID, State: s.State, Hostname: s.Hostname, Policy: s.Policy, Installed: s.Installed,
		Protected: s.Protected, Keys: Keys{MACs: s.MACs}}))
	if err != nil {
		return r, false, fmt.Errorf("read node %s: %w", s.ID, err)
	}
	return g.rule.Eval(&rule.Env{Roots: map[string]any{"facts": known, "node": node}}), false, nil
}

var errNoObject = errors.New("it is no JSON object")

// sectionsOf decodes some members of a JSON object, and passes over the others without a look at what is in them.
func sectionsOf(doc []byte, want map[string]bool) (map[string]any, error) {
	found := make(map[string]any, len(want))
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(doc, blanks), []byte("{"))
	for ok && len(found) < len(want) {
		rest = bytes.TrimLeft(rest, blanks)
		if len(rest) > 0 && rest[0] == '}' {
			return found, nil
		}
		end := stringEnd(rest)
		if end == 0 {
			return nil, errNoObject
		}
		key := string(rest[1 : end-1])
		if rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest[end:], blanks), []byte(":")); !ok {
			return nil, errNoObject
		}
		end = valueEnd(rest)
		if want[key] {
			d := json.NewDecoder(bytes.NewReader(rest[:end]))
			d.UseNumber()
			var tree any
			if err := d.Decode(&tree); err != nil {
				return nil, fmt.Errorf("section %s: %w", key, err)
			}
			found[key] = tree
		}
		rest = bytes.TrimPrefix(rest[end:], []byte(","))
	}
	if !ok {
		return nil, errNoObject
	}
	return found, nil
}

const blanks = " \t\r\n" // RFC 8259, section 2

// stringEnd is where the string that text begins with is over; 0 when it is none.
func stringEnd(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// valueEnd is where the value that text begins with is over, at the comma or bracket behind it.
func valueEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			end := stringEnd(text[i:])
			if end == 0 {
				return len(text)
			}
			i += end - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(text)
}
