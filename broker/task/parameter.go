package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Parameter is one value that a policy gives a task.
type Parameter struct {
	Summary  string   `yaml:"summary" json:"summary,omitempty"`
	Type     Type     `yaml:"type" json:"type"` // if empty, string
	Default  any      `yaml:"default" json:"default,omitempty"`
	Required bool     `yaml:"required" json:"required,omitempty"`
	Choices  []string `yaml:"choices" json:"choices,omitempty"` // of a string
}

// Type is the type of a parameter.
type Type string

// The types. A password is sealed in the store and shown to nobody: written out, or as crypt(3) hashes it ($6$...).
const (
	String   Type = "string"
	Text     Type = "text" // more than one line
	Int      Type = "int"
	Bool     Type = "bool"
	List     Type = "list" // of strings
	Password Type = "password"
)

// types are what a value of each must be, and what stands for one that is not given.
var types = map[Type]struct {
	want string
	none any
	is   func(v any) bool
}{
	String:   {"a string on one line", "", func(v any) bool { s, ok := v.(string); return ok && !strings.ContainsFunc(s, control) }},
	Text:     {"a text", "", func(v any) bool { s, ok := v.(string); return ok && !strings.ContainsRune(s, 0) }},
	Int:      {"a whole number", 0.0, whole},
	Bool:     {"true or false", false, func(v any) bool { _, ok := v.(bool); return ok }},
	List:     {"a list of strings", []any(nil), stringList},
	Password: {"a string on one line", "", func(v any) bool { s, ok := v.(string); return ok && !strings.ContainsFunc(s, control) }},
}

func control(r rune) bool { return r < 0x20 || r == 0x7f }

func whole(v any) bool {
	switch v := v.(type) {
	case float64:
		return v == float64(int64(v))
	case json.Number:
		_, err := v.Int64()
		return err == nil
	case int, int64, uint64:
		return true
	}
	return false
}

func stringList(v any) bool {
	list, ok := v.([]any)
	return ok && !slices.ContainsFunc(list, func(e any) bool { s, ok := e.(string); return !ok || strings.ContainsFunc(s, control) })
}

func (p Parameter) kind() Type {
	if p.Type == "" {
		return String
	}
	return p.Type
}

func (p Parameter) check(name string) error {
	t, ok := types[p.kind()]
	switch {
	case !ok:
		return fmt.Errorf("type %q: want one of %q", p.Type, slices.Sorted(maps.Keys(types)))
	case p.Summary == "":
		return errors.New("summary is missing")
	case p.Default != nil && (p.Required || p.kind() == Password):
		return errors.New("one that is required, or a password, has no default")
	case p.Default != nil && !t.is(p.Default):
		return fmt.Errorf("default: want %s", t.want)
	}
	return nil
}

// Secret says whether a parameter is shown to nobody.
func (p Parameter) Secret() bool { return p.kind() == Password }

// Params checks what a policy gives and fills in the defaults. An error names keys, never values.
func (t *Task) Params(given map[string]any) (map[string]any, error) {
	for _, k := range slices.Sorted(maps.Keys(given)) {
		p, ok := t.Parameters[k]
		if !ok {
			return nil, fmt.Errorf("params: task %s has no %q: it has %s", t.Name, k, strings.Join(slices.Sorted(maps.Keys(t.Parameters)), ", "))
		}
		if kind := types[p.kind()]; !kind.is(given[k]) {
			return nil, fmt.Errorf("params: %s: want %s", k, kind.want)
		}
		if len(p.Choices) > 0 && !slices.Contains(p.Choices, given[k].(string)) {
			return nil, fmt.Errorf("params: %s: want one of %s", k, strings.Join(p.Choices, ", "))
		}
	}
	all := map[string]any{}
	for k, p := range t.Parameters {
		v, ok := given[k]
		switch {
		case ok:
			all[k] = v
		case p.Required:
			return nil, fmt.Errorf("params: %s is missing: %s", k, p.Summary)
		case p.Default != nil:
			all[k] = p.Default
		default:
			all[k] = types[p.kind()].none
		}
	}
	return all, nil
}
