package broker

import (
	"maps"
	"slices"
	"strings"
)

// A question is which tags a node is asked for, and what must be known of it for that.
type question struct {
	tags     []string // by name
	sections sections
}

// about is the question for those of these tags that there are. Their rules read what those of the tags read that they
// refer to.
func (c *catalog) about(tags []string) question {
	q := question{sections: sections{}}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		if c.programs[name] != nil {
			q.tags = append(q.tags, name)
		}
	}
	seen := map[string]bool{}
	for next := slices.Clone(tags); len(next) > 0; {
		name := next[0]
		next = next[1:]
		p := c.programs[name]
		if seen[name] || p == nil {
			continue
		}
		seen[name] = true
		q.sections = q.sections.and(sectionsOf(p))
		next = append(next, p.Tags()...)
	}
	return q
}

// reads are the sections for a rule that is no tag's.
func (c *catalog) reads(p program) sections { return sectionsOf(p).and(c.about(p.Tags()).sections) }

// An edition is the tags of before: a node that was judged by them is asked only what may be otherwise now.
type edition struct {
	rules string
	since question // tags whose rules changed, came or hang on such
}

// maxEditions is how many are told from strangers: a node that no change concerned is not written, and was judged by an
// edition of long ago.
const maxEditions = 32

// succeed has the catalog know what it changes of the one before.
func (c *catalog) succeed(old *catalog) {
	changed := c.dependents(c.unlike(old))
	for _, e := range append([]edition{{rules: old.rules}}, old.editions...) {
		known := e.rules == c.rules || slices.ContainsFunc(c.editions, func(x edition) bool { return x.rules == e.rules })
		if known || len(c.editions) == maxEditions {
			continue
		}
		e.since = c.about(append(slices.Clone(changed), e.since.tags...))
		c.editions = append(c.editions, e)
	}
}

// unlike are the tags that one of two catalogs has, and those of which they have different rules.
func (c *catalog) unlike(old *catalog) (names []string) {
	rules := map[string]Rule{}
	for _, t := range old.tags {
		rules[t.Name] = t.Rule
	}
	for _, t := range c.tags {
		if was, ok := rules[t.Name]; !ok || was != t.Rule {
			names = append(names, t.Name)
		}
		delete(rules, t.Name)
	}
	return append(names, slices.Collect(maps.Keys(rules))...)
}

// dependents are these tags, and those whose verdict hangs on one of them.
func (c *catalog) dependents(changed []string) []string {
	if len(changed) == 0 {
		return nil
	}
	askers := map[string][]string{}
	next := slices.Clone(changed)
	for name, p := range c.programs {
		for _, of := range p.Tags() {
			askers[of] = append(askers[of], name)
		}
		if r, ok := p.(razorRule); ok && r.ComputesTags() {
			next = append(next, name) // of any tag
		}
	}
	seen := map[string]bool{}
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		if !seen[name] {
			seen[name] = true
			next = append(next, askers[name]...)
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// sawOf is what a node's tags came from: which tags, and all that their rules can see of the node.
func (c *catalog) sawOf(n *Node) (string, error) {
	of, err := hashOf(n.FactsHash, viewOf(n), n.Meta)
	return c.rules + ":" + of, err
}

// asks is what is to be asked of the node, which sees it as it is: nothing when its tags came of the same, and all when
// it is another node now or was judged by tags that nobody remembers.
func (c *catalog) asks(n *Node, saw string) question {
	_, now, _ := strings.Cut(saw, ":")
	rules, then, _ := strings.Cut(n.TagsOf, ":")
	if now != then {
		return c.all
	}
	if rules == c.rules {
		return question{}
	}
	if i := slices.IndexFunc(c.editions, func(e edition) bool { return e.rules == rules }); i >= 0 {
		return c.editions[i].since
	}
	return c.all
}
