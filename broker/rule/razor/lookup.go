package razor

import (
	"strconv"
	"strings"
)

// at walks a path with dots from the top. Only a string, a number or a boolean counts as found.
func at(table map[string]any, name string) (any, bool) {
	var here any = table
	for _, part := range parts(name) {
		next, ok := member(here, part)
		if !ok {
			return nil, false
		}
		here = next
	}
	v, ok := simple(here)
	return v, ok && v != nil
}

// parts splits at dots; empty ones at the end are dropped, as Ruby's split does.
func parts(name string) []string {
	name = strings.TrimRight(name, ".")
	if name == "" {
		return nil
	}
	return strings.Split(name, ".")
}

// member is one step of a path: a key of an object; an index of a list, or its length.
func member(here any, part string) (any, bool) {
	switch x := here.(type) {
	case map[string]any:
		next, ok := x[part]
		return next, ok
	case []any:
		if part == "length" {
			return int64(len(x)), true
		}
		i, ok := index(part, len(x))
		if !ok {
			return nil, false
		}
		return x[i], true
	}
	return nil, false
}

// index reads the index of a list of n; negative ones count from the end.
func index(part string, n int) (int, bool) {
	i, err := strconv.Atoi(part)
	if err != nil || strconv.Itoa(i) != part {
		return 0, false // 01, +1, -0
	}
	if i < 0 {
		i += n
	}
	return i, i >= 0 && i < n
}
