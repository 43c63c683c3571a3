package inspection

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one rule.
const (
	maxSource = 32 << 10 // bytes
	maxTests  = 1000     // conditions, each as often as its loop runs
)

// Is says that a rule is written in this language: as a JSON object.
func Is(src string) bool { return strings.HasPrefix(strings.TrimSpace(src), "{") }

// Compile parses and checks one rule. Its error is always of type Errors and holds all faults.
func (s *Schema) Compile(src string) (*Program, error) {
	raw, fault := decode(src)
	if fault != nil {
		return nil, Errors{fault}
	}
	object, ok := raw.(map[string]any)
	if !ok {
		return nil, Errors{{Code: NotAMap, Msg: "a rule is a map with conditions"}}
	}
	c := &checker{schema: s, program: &Program{}}
	c.rule(object)
	for _, f := range c.faults {
		if f.Code == TooLarge {
			return nil, Errors{f} // behind it nothing was looked at
		}
	}
	if len(c.faults) > 0 {
		return nil, Errors(c.faults)
	}
	return c.program, nil
}

// decode reads one JSON value and keeps its numbers as they are written.
func decode(src string) (any, *Error) {
	switch {
	case len(src) > maxSource:
		return nil, &Error{Code: TooLarge, Msg: fmt.Sprintf("the rule is longer than %d bytes", maxSource)}
	case !utf8.ValidString(src):
		return nil, &Error{Code: BadJSON, Msg: "the rule is not UTF-8 text"}
	}
	d := json.NewDecoder(strings.NewReader(src))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		at := int64(len(src))
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = syntax.Offset
		}
		return nil, &Error{Code: BadJSON, Msg: fmt.Sprintf("byte %d: %v", at, err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{Code: BadJSON, Msg: fmt.Sprintf("byte %d: there is more behind the rule", d.InputOffset())}
	}
	return raw, nil
}

// A checker makes a program of a rule and collects its faults.
type checker struct {
	schema  *Schema
	program *Program
	dialect string // of the conditions; "" when there are none
	tests   int
	faults  []*Error
}

func (c *checker) fault(code Code, path, format string, args ...any) {
	c.faults = append(c.faults, &Error{Code: code, Path: path, Msg: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(path, format string, args ...any) {
	if said := fmt.Sprintf(format, args...) + ", at " + path; !slices.Contains(c.program.warnings, said) {
		c.program.warnings = append(c.program.warnings, said)
	}
}

// The two dialects.
const (
	inspector = "ironic-inspector"
	ironic    = "Ironic"
)

// members are what a rule may have, with the dialect that has it; "" is both.
var members = map[string]struct {
	dialect string
	check   func(*checker, any)
}{
	"conditions":  {"", (*checker).conditions},
	"actions":     {"", (*checker).actions},
	"uuid":        {"", nil},
	"description": {"", nil},
	"scope":       {inspector, (*checker).scope},
	"priority":    {ironic, (*checker).priority},
	"phase":       {ironic, (*checker).phase},
	"sensitive":   {ironic, nil},
}

func (c *checker) rule(object map[string]any) {
	c.dialect = dialectOf(object["conditions"])
	for _, name := range slices.Sorted(maps.Keys(object)) {
		m, known := members[name]
		switch {
		case !known:
			c.fault(UnknownParameter, "/"+name, "a rule has no %s; there are %s", quote(name), names(members))
		case m.dialect != "" && c.dialect != "" && m.dialect != c.dialect:
			c.fault(UnknownParameter, "/"+name, "rules of %s have no %s", c.dialect, name)
		case m.check != nil && object[name] != nil:
			m.check(c, object[name])
		}
	}
}

// dialectOf is the form of the first condition that has one.
func dialectOf(raw any) string {
	list, _ := raw.([]any)
	for _, item := range list {
		if d := formOf(item); d != "" {
			return d
		}
	}
	return ""
}

// formOf tells the dialect of a condition by its members.
func formOf(raw any) string {
	object, _ := raw.(map[string]any)
	op, _ := object["op"].(string)
	_, args := object["args"]
	_, loop := object["loop"]
	_, field := object["field"]
	switch {
	case field:
		return inspector
	case args || loop || strings.Contains(op, "!"):
		return ironic
	}
	return ""
}

func (c *checker) conditions(raw any) {
	list, ok := raw.([]any)
	if !ok {
		c.fault(NotAList, "/conditions", "conditions are a list, not %s", typeName(native(raw)))
		return
	}
	for i, item := range list {
		path := "/conditions/" + strconv.Itoa(i)
		object, ok := item.(map[string]any)
		switch form := formOf(item); {
		case c.tests > maxTests:
			return
		case !ok:
			c.fault(NotAMap, path, "a condition is a map, not %s", typeName(native(item)))
		case form == "":
			c.fault(MissingArgument, path, "a condition has a field (ironic-inspector) or args (Ironic)")
		case form != c.dialect:
			c.fault(UnknownParameter, path, "this condition is one of %s and others are of %s; write all in one form", form, c.dialect)
		default:
			c.condition(path, object)
		}
	}
}

// condition checks one condition in the form of the dialect.
func (c *checker) condition(path string, object map[string]any) {
	word, ok := object["op"].(string)
	if !ok {
		c.fault(MissingArgument, path+"/op", "a condition has an op; there are %s", operatorNames(c.dialect))
		return
	}
	var judge func(*run) (bool, *Error)
	if c.dialect == inspector {
		judge = c.inspectorCondition(path, word, object)
	} else {
		judge = c.ironicCondition(path, word, object)
	}
	c.program.conditions = append(c.program.conditions, &condition{text: conditionText(object), judge: judge})
}

// count bounds what one rule may cost to check.
func (c *checker) count(path string) bool {
	if c.tests++; c.tests > maxTests {
		c.fault(TooLarge, path, "the rule has more than %d tests, which are its conditions, each as often as its loop runs", maxTests)
		return false
	}
	return true
}

// operatorNames lists a dialect's operators for an error.
func operatorNames(dialect string) string {
	if dialect == inspector {
		return names(inspectorOperators)
	}
	return names(ironicOperators) + ", each with ! before it, too"
}

func names[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), " ")
}

// conditionText writes the members in the order that people do.
func conditionText(object map[string]any) string {
	var parts []string
	for _, name := range []string{"op", "field", "args", "value", "loop", "multiple", "invert"} {
		if v, ok := object[name]; ok {
			parts = append(parts, encode(name)+": "+encode(v))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// instead is what muster has for an action, by its name in either dialect.
var instead = map[string]string{
	"add-trait":             "the tag stands for the trait: policies ask for it in tags",
	"remove-trait":          "the tag stands for the trait: policies pass its nodes over by not_tags",
	"set-capability":        "the tag stands for the capability: policies ask for it in tags",
	"unset-capability":      "the tag stands for the capability: policies pass its nodes over by not_tags",
	"set-attribute":         "write meta in the policy that asks for the tag",
	"extend-attribute":      "write meta in the policy that asks for the tag",
	"del-attribute":         "leave the value out of meta",
	"fail":                  "write the tag in not_tags of the policies that shall not take such nodes",
	"log":                   "save a hook whose where asks for the tag",
	"api-call":              "save a hook whose where asks for the tag",
	"set-plugin-data":       "save a tag for it: rules read other tags in muster's own language",
	"extend-plugin-data":    "save a tag for it: rules read other tags in muster's own language",
	"unset-plugin-data":     "save a tag for it: rules read other tags in muster's own language",
	"set-port-attribute":    "muster has no ports",
	"extend-port-attribute": "muster has no ports",
	"del-port-attribute":    "muster has no ports",
}

// actions refuses them: a tag holds or does not, and does nothing.
func (c *checker) actions(raw any) {
	list, ok := raw.([]any)
	if !ok {
		c.fault(NotAList, "/actions", "actions are a list, not %s", typeName(native(raw)))
		return
	}
	for i, item := range list {
		object, _ := item.(map[string]any)
		word, ok := object["action"].(string)
		if !ok {
			word, _ = object["op"].(string)
		}
		advice := instead[word]
		if advice == "" {
			advice = "a tag's rule has conditions only"
		}
		c.fault(Actions, "/actions/"+strconv.Itoa(i), "a tag does nothing, so leave %s out; %s", quote(word), advice)
	}
}

func (c *checker) scope(raw any) {
	scope, ok := raw.(string)
	if !ok {
		c.fault(BadValue, "/scope", "a scope is a string, not %s", typeName(native(raw)))
	}
	c.program.scope = scope
}

func (c *checker) priority(raw any) {
	n, ok := native(raw).(int64)
	switch {
	case !ok || n < 0 || n > 9999:
		c.fault(PriorityOutOfRange, "/priority", "a priority is an integer from 0 to 9999, not %s", show(native(raw)))
	case n != 0:
		c.warn("/priority", "a priority has no effect: tags have no order")
	}
}

func (c *checker) phase(raw any) {
	if raw != "main" {
		c.fault(BadValue, "/phase", "%s is no phase; there is main", show(native(raw)))
	}
}
