package inspection

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A step goes from a value to one or more inside it.
type step struct {
	name  string // of a member, when kind is member
	index int
	kind  stepKind
}

type stepKind int

const (
	member stepKind = iota
	index           // [0]
	items           // [*]
	values          // .*
)

// maxSteps is how long a path may be.
const maxSteps = 32

// jsonPath is one step of a path: a name, a name in quotes, an index, or all.
var jsonPath = regexp.MustCompile(`^(?:\.?([A-Za-z_@][A-Za-z0-9_@-]*)|\.?'([^']+)'|\.?"([^"]+)"|\[(\d{1,6})\]|(\[\*\])|(\.?\*)` +
	`|\[([A-Za-z_@][A-Za-z0-9_@-]*)\]|\['([^']+)'\]|\["([^"]+)"\])`)

// beyond are forms of JSONPath that are not read here.
var beyond = []struct{ sign, says string }{
	{"..", "`..` (any depth) is not supported: write the whole path"},
	{":", "slices such as [0:2] are not supported: write one condition for each index, or [*]"},
	{",", "several names in one step are not supported: write one condition for each"},
	{"|", "`|` is not supported: write one rule for each path"},
	{"&", "`&` is not supported: write one condition for each path"},
	{"`", "named operators in backticks are not supported: write the whole path"},
	{"?", "filters are not supported: use multiple"},
	{"[-", "indexes from the end are not supported: write the index from the start, or [*]"},
}

// parsePath reads a path as jsonpath-rw does; $ at the start may be left out. It is no path of RFC 9535: [*] of what is
// no list is the value itself, and names need no $.
func parsePath(src string) ([]step, error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(src, "$"), ".")
	if src == "$" {
		return nil, nil
	}
	var steps []step
	for rest != "" || len(steps) == 0 {
		found := jsonPath.FindStringSubmatch(rest)
		bare := len(steps) > 0 && found != nil && !strings.ContainsAny(found[0][:1], ".[")
		switch {
		case found == nil || bare:
			return nil, fmt.Errorf("path %s is not understood from %s: %s", quote(src), quote(rest), unread(rest))
		case len(steps) == maxSteps:
			return nil, fmt.Errorf("path %s has more than %d steps", quote(src), maxSteps)
		}
		steps = append(steps, stepOf(found))
		rest = rest[len(found[0]):]
	}
	return steps, nil
}

func stepOf(found []string) step {
	switch {
	case found[4] != "":
		i, _ := strconv.Atoi(found[4]) // six digits at most
		return step{kind: index, index: i}
	case found[5] != "":
		return step{kind: items}
	case found[6] != "":
		return step{kind: values}
	}
	return step{name: strings.Join([]string{found[1], found[2], found[3], found[7], found[8], found[9]}, "")}
}

// unread says why, as far as that can be told.
func unread(rest string) string {
	for _, b := range beyond {
		if strings.Contains(rest, b.sign) {
			return b.says
		}
	}
	return `write names and indexes as in inventory.disks[0].size or inventory.disks[*].size, odd names in quotes`
}

// find lists the values that a path leads to.
func find(tree any, steps []step) ([]any, error) {
	here := []any{tree}
	for _, s := range steps {
		var next []any
		for _, v := range here {
			inside, err := s.from(v)
			if err != nil {
				return nil, err
			}
			next = append(next, inside...)
		}
		here = next
	}
	for i, v := range here {
		here[i] = native(v)
	}
	return here, nil
}

// from takes one step. An index of what is no list fails in jsonpath-rw, or gives a letter; here it always fails.
func (s step) from(v any) ([]any, error) {
	object, _ := v.(map[string]any)
	list, isList := v.([]any)
	switch s.kind {
	case member:
		if inside, ok := object[s.name]; ok {
			return []any{inside}, nil
		}
	case values:
		var all []any
		for _, name := range slices.Sorted(maps.Keys(object)) {
			all = append(all, object[name])
		}
		return all, nil
	case items:
		if !isList {
			return []any{v}, nil
		}
		return list, nil
	case index:
		if !isList {
			return nil, fmt.Errorf("%s has no [%d]", typeName(native(v)), s.index)
		}
		if s.index < len(list) {
			return list[s.index : s.index+1], nil
		}
	}
	return nil, nil
}

// canonical is a path as a Schema names it, from its root.
func canonical(root string, steps []step) string {
	var b strings.Builder
	b.WriteString(root)
	for _, s := range steps {
		switch s.kind {
		case member:
			b.WriteString("." + s.name)
		case values:
			b.WriteString(".*")
		default:
			b.WriteString("[]")
		}
	}
	return b.String()
}
