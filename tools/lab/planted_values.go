package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A PlantedValue is one thing that a look at the planted machine must find.
type PlantedValue struct {
	Item string // as a person calls it: "SATA disk: rpm"
	Path string // where it is in the facts, as Select reads it
	Want any    // text, integer, truth, list of these; Between; Holding; nil: it must be absent
}

// Between is a wanted number that depends on the kernel.
type Between struct{ Min, Max int64 }

// Holding is a wanted text of which only a part is planted.
type Holding string

// Judge compares the value with what the facts hold. It is nil for what was planted; the error says path, got and want.
func (v PlantedValue) Judge(tree any) error {
	got, err := Select(tree, v.Path)
	if err != nil {
		return fmt.Errorf("%s: got none: %w; want %s", v.Path, err, v.Wanted())
	}
	if !v.fits(got) {
		return fmt.Errorf("%s: got %s; want %s", v.Path, text(got), v.Wanted())
	}
	return nil
}

func (v PlantedValue) fits(got any) bool {
	switch want := v.Want.(type) {
	case Between:
		n, ok := got.(json.Number)
		i, err := n.Int64()
		return ok && err == nil && want.Min <= i && i <= want.Max
	case Holding:
		s, ok := got.(string)
		return ok && strings.Contains(s, string(want))
	}
	return text(got) == text(v.Want)
}

// Wanted is what should be there, for people.
func (v PlantedValue) Wanted() string {
	switch want := v.Want.(type) {
	case nil:
		return "none"
	case Between:
		return fmt.Sprintf("%d to %d", want.Min, want.Max)
	case Holding:
		return fmt.Sprintf("a text with %q", string(want))
	}
	return text(v.Want)
}

// text is a value in JSON, which tells 7200 from "7200".
func text(v any) string {
	if v == nil {
		return "none"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tree is facts, or their state, as JSON has them, for Select.
func Tree(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("decode %T: %w", v, err)
	}
	return tree, nil
}

// Select gives the value at a path: names and, in lists, places, with dots between them. In a list, [NAME=VALUE] takes the
// one element whose NAME has that value, because order and kernel names are not the same at each boot; # is the length.
// Behind a table, [NAME] is a name that may hold dots.
// What is not there is nil; an element that is there twice, or not at all, is an error.
//
//	disks[serial=SATA0001].partitions[number=2].content.type
//	numa[id=1].distances.0
//	pci.#
func Select(tree any, path string) (any, error) {
	at := tree
	for rest := path; rest != ""; {
		var err error
		if at, rest, err = step(at, rest); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// step follows the first word of a path.
func step(at any, path string) (next any, rest string, err error) {
	if path[0] == '[' {
		condition, rest, ok := strings.Cut(path[1:], "]")
		if !ok {
			return nil, "", fmt.Errorf("select %q: no ] after [", path)
		}
		next, err := element(at, condition)
		return next, strings.TrimPrefix(rest, "."), err
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	word, rest := path[:end], strings.TrimPrefix(path[end:], ".")
	switch at := at.(type) {
	case map[string]any:
		return at[word], rest, nil
	case []any:
		if word == "#" {
			return json.Number(strconv.Itoa(len(at))), rest, nil
		}
		if i, err := strconv.Atoi(word); err == nil && 0 <= i && i < len(at) {
			return at[i], rest, nil
		}
	}
	return nil, rest, nil
}

// element is the one of a list that fulfils a condition, or the one of a table that has a name with dots.
func element(at any, condition string) (any, error) {
	if table, ok := at.(map[string]any); ok {
		return table[condition], nil
	}
	name, want, ok := strings.Cut(condition, "=")
	list, isList := at.([]any)
	if !ok || !isList && at != nil {
		return nil, fmt.Errorf("select [%s]: want [NAME=VALUE] behind a list", condition)
	}
	var found []any
	for _, e := range list {
		if got, err := Select(e, name); err == nil && fmt.Sprint(got) == want {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d of %d have %s", len(found), len(list), condition)
	}
	return found[0], nil
}
