package inspection

import (
	"maps"
	"slices"
	"strings"
)

// A check judges one value of a field.
type check func(r *run, v any) (bool, *Error)

// inspectorOperators are those of ironic-inspector; nil is one that takes no value.
var inspectorOperators = map[string]func(c *checker, path, op string, value any) check{
	"eq": comparison, "ne": comparison, "lt": comparison, "gt": comparison, "le": comparison, "ge": comparison,
	"in-net":   inNetwork,
	"matches":  matching,
	"contains": matching,
	"is-empty": nil,
}

// inspectorMembers are what a condition of ironic-inspector may have.
var inspectorMembers = []string{"op", "field", "value", "multiple", "invert"}

// An inspectorTest is a condition of ironic-inspector.
type inspectorTest struct {
	path     string
	field    *ref
	check    check // nil for is-empty
	multiple string
	invert   bool
}

func (c *checker) inspectorCondition(path, word string, object map[string]any) func(*run) (bool, *Error) {
	t := &inspectorTest{path: path, multiple: c.choice(path, object["multiple"], "any", "all", "first"), invert: c.flag(path+"/invert", object["invert"])}
	if !c.count(path) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(inspectorMembers, name) && object[name] != nil {
			c.fault(UnknownParameter, path+"/"+name, "a condition of ironic-inspector has no %s; there are %s", quote(name), strings.Join(inspectorMembers, " "))
		}
	}
	prepare, known := inspectorOperators[word]
	value := object["value"]
	switch {
	case !known:
		c.fault(UnknownOperator, path+"/op", "there is no operator %s; there are %s%s", quote(word), operatorNames(inspector), inverted(word))
	case prepare == nil && value != nil:
		c.fault(UnknownParameter, path+"/value", "%s takes no value", word)
	case prepare != nil && value == nil:
		c.fault(MissingArgument, path+"/value", "%s takes a value", word)
	case prepare != nil:
		t.check = prepare(c, path+"/value", word, value)
	}
	t.field = c.field(path+"/field", object["field"])
	switch f := t.field; {
	case f == nil:
	case t.multiple == "first" && slices.ContainsFunc(f.steps, func(s step) bool { return s.kind == values }):
		c.fault(BadPath, path+"/field", "the first of .* depends on an order of members that muster does not keep; name the member")
	case f.object && (word == "matches" || word == "contains"):
		c.fault(BadPath, path+"/field", errObject, f.label)
	}
	return t.judge
}

// errObject is about what Python can print, in an order of members that muster does not keep.
const errObject = "%s is an object or a list of them, which has no text here; write the path of a member"

// inverted says how to invert, to those who know Ironic's way.
func inverted(word string) string {
	if strings.HasPrefix(word, "!") {
		return "; write invert: true beside it"
	}
	return ""
}

// field reads data://PATH, node://PATH or PATH.
func (c *checker) field(path string, raw any) *ref {
	src, ok := raw.(string)
	if !ok {
		c.fault(BadPath, path, "a field is a path such as inventory.cpu.count, not %s", typeName(native(raw)))
		return nil
	}
	root, rest, found := strings.Cut(src, "://")
	if !found {
		root, rest = "data", src
	}
	if root != "data" && root != "node" {
		c.fault(BadPath, path, "there is no scheme %s; there are data:// and node://", quote(root))
		return nil
	}
	steps, err := parsePath(rest)
	if err != nil {
		c.fault(BadPath, path, "%v", err)
		return nil
	}
	return c.ref(path, strings.TrimPrefix(src, "data://"), root, steps)
}

// choice reads one word of a few, the first by default.
func (c *checker) choice(path string, raw any, words ...string) string {
	if raw == nil {
		return words[0]
	}
	word, _ := raw.(string)
	if !slices.Contains(words, word) {
		c.fault(UnknownParameter, path+"/multiple", "multiple is one of %s, not %s", strings.Join(words, " "), show(native(raw)))
	}
	return word
}

func (c *checker) flag(path string, raw any) bool {
	yes, ok := raw.(bool)
	if raw != nil && !ok {
		c.fault(BadValue, path, "write true or false, not %s", show(native(raw)))
	}
	return yes
}

// number refuses integers beyond 64 bits, which facts do not have.
func (c *checker) number(path string, v any) any {
	v = native(v)
	if f, ok := v.(float64); ok && (f >= 1<<63 || f <= -1<<63) {
		c.fault(BadValue, path, "%s is beyond 64 bits", show(v))
	}
	return v
}

func comparison(c *checker, path, op string, raw any) check {
	value, relate := c.number(path, raw), relations[op]
	switch value.(type) {
	case []any, map[string]any:
		if op != "eq" && op != "ne" {
			c.fault(BadValue, path, "%s takes a number or a string, not %s", op, typeName(value))
		}
	}
	return func(_ *run, v any) (bool, *Error) {
		converted, ok := coerce(v, value)
		if !ok {
			return false, &Error{Code: CannotConvert, Path: path, Msg: show(v) + " is not a number, as " + show(value) + " is"}
		}
		yes, err := relate(converted, value)
		if err != nil {
			return false, &Error{Code: RuleFailed, Path: path, Msg: err.Error()}
		}
		return yes, nil
	}
}

// coerce brings a field to the type of the value that it is compared with, when that is a number. In Python true and
// false are integers.
func coerce(v, as any) (any, bool) {
	switch as.(type) {
	case float64:
		return float(v)
	case int64, bool:
		return integer(v)
	}
	return v, true
}

func inNetwork(c *checker, path, _ string, raw any) check {
	network := c.network(path, raw)
	return func(_ *run, v any) (bool, *Error) {
		yes, err := inNet(network, v)
		if err != nil {
			return false, &Error{Code: CannotConvert, Path: path, Msg: err.Error()}
		}
		return yes, nil
	}
}

func matching(c *checker, path, op string, raw any) check {
	m := c.pattern(path, raw, op == "matches")
	return func(r *run, v any) (bool, *Error) { return m.match(r, path, v) }
}

// judge folds what is said of the values of the field. When there may be others, only a yes of any and a no of all stand.
func (t *inspectorTest) judge(r *run) (bool, *Error) {
	found, gap, err := r.read(t.path, t.field)
	if err != nil {
		return false, err
	}
	if len(found) == 0 && gap == "" {
		r.absent(t.field)
		return t.check == nil && !t.invert, nil
	}
	yes := false
	for _, v := range found {
		r.note(v)
		if yes, err = t.one(r, v); err != nil {
			return false, err
		}
		if t.multiple == "first" || yes == (t.multiple == "any") {
			break
		}
	}
	decided := len(found) > 0 && (yes && t.multiple == "any" || !yes && t.multiple == "all")
	if gap != "" && !decided {
		return false, &Error{Code: Incomplete, Path: t.path, Msg: gap}
	}
	return yes, nil
}

// one judges one value.
func (t *inspectorTest) one(r *run, v any) (bool, *Error) {
	if t.check == nil {
		return isEmpty(v) != t.invert, nil
	}
	yes, err := t.check(r, v)
	return yes != t.invert, err
}
