package noderange

import (
	"fmt"
	"slices"
	"strings"
)

// A Node is what a range can tell of a node.
type Node struct {
	ID        string
	Names     []string // in lower case, beside the id: whole hostname, MACs
	Short     string   // the hostname up to its first dot; any of Names of another node comes before it
	Carries   []string // tags
	Undecided []string // tags
}

// A Selection is the nodes that a range means.
type Selection struct {
	IDs []string // in the order of the nodes
	// Undecided are nodes that an undecided tag kept out, and which tag.
	Undecided map[string]string
}

// Select says which of the nodes, which are all that there are, the range means. tags are all tags that there are.
func (r *Range) Select(nodes []Node, tags []string) (Selection, error) {
	s := Selection{Undecided: map[string]string{}}
	if err := r.knowTags(tags); err != nil {
		return s, err
	}
	in, out := map[string]bool{}, map[string]bool{}
	byName := index(nodes)
	for _, t := range r.terms {
		taken, spared, err := t.pick(nodes, byName)
		if err != nil {
			return s, err
		}
		for id, tag := range spared {
			s.Undecided[id] = tag
			out[id] = out[id] || t.exclude
		}
		for _, id := range taken {
			in[id] = in[id] || !t.exclude
			out[id] = out[id] || t.exclude
		}
	}
	for _, n := range nodes {
		if in[n.ID] && !out[n.ID] {
			s.IDs = append(s.IDs, n.ID)
			delete(s.Undecided, n.ID) // another term takes it
		}
	}
	if len(s.IDs) == 0 {
		return s, fmt.Errorf("the exclusions leave no node")
	}
	return s, nil
}

func (r *Range) knowTags(tags []string) error {
	for _, t := range r.terms {
		for _, tag := range t.tags {
			if !slices.Contains(tags, tag) {
				return fmt.Errorf("%s: there is no tag %q", t.text, tag)
			}
		}
	}
	return nil
}

// named is who answers to a name: by its whole, or by the short form of a hostname.
type named struct{ whole, short []int }

func index(nodes []Node) map[string]named {
	m := map[string]named{}
	for i, n := range nodes {
		for _, name := range append([]string{n.ID}, n.Names...) {
			x := m[name]
			x.whole = append(x.whole, i)
			m[name] = x
		}
		if n.Short != "" {
			x := m[n.Short]
			x.short = append(x.short, i)
			m[n.Short] = x
		}
	}
	return m
}

// pick gives the ids that a term means, and those that it would mean were their tags decided.
func (t *term) pick(nodes []Node, byName map[string]named) (taken []string, undecided map[string]string, err error) {
	some, err := t.candidates(nodes, byName)
	if err != nil {
		return nil, nil, err
	}
	undecided = map[string]string{}
	for _, i := range some {
		switch has, tag := carries(nodes[i], t.tags); {
		case has:
			taken = append(taken, nodes[i].ID)
		case tag != "":
			undecided[nodes[i].ID] = tag
		}
	}
	if len(taken) == 0 && !t.exclude {
		text := ""
		if len(undecided) > 0 {
			text = fmt.Sprintf(" (undecided on %d)", len(undecided))
		}
		return nil, nil, fmt.Errorf("%s means no node%s", t.text, text)
	}
	return taken, undecided, nil
}

// carries says whether the node has all the tags; if that is not known, which tag is to blame.
func carries(n Node, tags []string) (has bool, undecided string) {
	for _, tag := range tags {
		switch {
		case slices.Contains(n.Carries, tag):
		case slices.Contains(n.Undecided, tag):
			undecided = tag
		default:
			return false, ""
		}
	}
	return undecided == "", undecided
}

func (t *term) candidates(nodes []Node, byName map[string]named) (some []int, err error) {
	if t.names != nil {
		return t.called(nodes, byName)
	}
	for i, n := range nodes {
		if t.match == nil || t.match.MatchString(n.ID) || n.Short != "" && t.match.MatchString(n.Short) || slices.ContainsFunc(n.Names, t.match.MatchString) {
			some = append(some, i)
		}
	}
	if len(some) == 0 && t.match != nil {
		return nil, fmt.Errorf("%s means no node: the expression has to match a whole name", t.text)
	}
	return some, nil
}

// called finds every name of the term. One that nobody has, or several, is an error.
func (t *term) called(nodes []Node, byName map[string]named) (some []int, err error) {
	var missing []string
	for _, name := range t.names {
		x := byName[name]
		found := x.whole
		if len(found) == 0 {
			found = x.short
		}
		switch len(found) {
		case 0:
			missing = append(missing, name)
		case 1:
			some = append(some, found[0])
		default:
			return nil, fmt.Errorf("%s is the name of %s and %s: say the id or the whole hostname", name, nodes[found[0]].ID, nodes[found[1]].ID)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no node is called %s (by id, hostname or MAC)", someOf(missing))
	}
	return some, nil
}

// someOf lists the first few names.
func someOf(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
