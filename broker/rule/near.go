package rule

import (
	"maps"
	"slices"
	"strings"
)

// Bounds of the list of names that suggestions are taken from; a schema may contain itself.
const (
	maxPaths     = 4096
	maxPathDepth = 6
)

// A path is a fact by its full name and by its last word.
type path struct{ name, last string }

func appendPaths(paths []path, name, last string, t *typ, depth int) []path {
	if len(paths) >= maxPaths || depth > maxPathDepth {
		return paths
	}
	paths = append(paths, path{name, last})
	for t.kind == kindList {
		name, t = name+"[]", t.element()
	}
	for _, key := range slices.Sorted(maps.Keys(t.fields)) {
		paths = appendPaths(paths, name+step{key: key}.String(), key, t.fields[key].typ, depth+1)
	}
	return paths
}

// unknownFact refuses a member that an object has not, and names the nearest one it has.
func (c *checker) unknownFact(at int, base string, t *typ, s step) *Error {
	fault := c.fault(at, "unknown fact %s%s", base, s)
	if key := nearest(s.key, slices.Sorted(maps.Keys(t.fields))); key != "" {
		fault.Near = base + step{key: key}.String()
	} else {
		fault.Near = c.elsewhere(s.key)
	}
	return fault
}

// unknownName refuses the first word of a path: a root, a unit, or a fact written without its root.
func (c *checker) unknownName(at int, word string, hops []hop) *Error {
	known := append(slices.Sorted(maps.Keys(c.schema.roots)), slices.Sorted(maps.Keys(units))...)
	fault := c.fault(at, "unknown fact %s", word)
	if len(hops) == 0 {
		fault.Msg = "unknown name " + word
	}
	if fault.Near = nearest(word, known); fault.Near == "" {
		fault.Near = c.elsewhere(word)
	}
	return fault
}

func (c *checker) unknownFunction(at int, name string) *Error {
	fault := c.fault(at, "unknown function %s", name)
	fault.Near = nearest(name, slices.Sorted(maps.Keys(functions)))
	return fault
}

// elsewhere finds a fact by its last word anywhere in the schema; the shortest name wins.
func (c *checker) elsewhere(word string) string {
	if name := c.shortest(word); name != "" {
		return name
	}
	var words []string
	for _, p := range c.schema.paths {
		words = append(words, p.last)
	}
	return c.shortest(nearest(word, words))
}

func (c *checker) shortest(last string) string {
	best := ""
	for _, p := range c.schema.paths {
		if p.last == last && (best == "" || strings.Count(p.name, ".") < strings.Count(best, ".")) {
			best = p.name
		}
	}
	return best
}

// nearest is the word with the fewest typing errors between it and the one written; "" when none is near: a word may
// have one error, and one more for each four letters.
func nearest(word string, among []string) string {
	best, least := "", 2+len(word)/4
	for _, candidate := range among {
		if gap := len(word) - len(candidate); gap >= least || -gap >= least {
			continue
		}
		if d := distance(word, candidate); d < least && d < len(word) {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, change or swap with their neighbour (optimal string alignment).
func distance(a, b string) int {
	before, last, row := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
