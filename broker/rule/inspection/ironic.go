package inspection

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A test is a condition of Ironic, once: for one item of its loop, or without one.
type test func(*run) (bool, *Error)

// An ironicOperator is a row of Ironic's table: its arguments in the order that a list of them has, first those that
// there must be.
type ironicOperator struct {
	required, optional []string
	prepare            func(a *arguments, op string) test
}

var ironicOperators = map[string]ironicOperator{
	"eq":       {[]string{"values"}, []string{"force_strings"}, chain},
	"lt":       {[]string{"values"}, []string{"force_strings"}, chain},
	"gt":       {[]string{"values"}, []string{"force_strings"}, chain},
	"in-net":   {[]string{"address", "subnet"}, nil, addressInNet},
	"matches":  {[]string{"value", "regex"}, nil, search},
	"contains": {[]string{"value", "regex"}, nil, search},
	"one-of":   {[]string{"value"}, []string{"values"}, oneOf},
	"is-empty": {[]string{"value"}, nil, empty},
	"is-none":  {[]string{"value"}, nil, none},
	"is-true":  {[]string{"value"}, nil, truth(true, "yes", "true")},
	"is-false": {[]string{"value"}, nil, truth(false, "no", "false")},
}

var ironicMembers = []string{"op", "args", "loop", "multiple"}

// An ironicTest is a condition of Ironic.
type ironicTest struct {
	tests    []test
	invert   bool
	multiple string
}

func (c *checker) ironicCondition(path, word string, object map[string]any) func(*run) (bool, *Error) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(ironicMembers, name) {
			c.fault(UnknownParameter, path+"/"+name, "a condition of Ironic has no %s; there are %s, and ! before an operator inverts it", quote(name), strings.Join(ironicMembers, " "))
		}
	}
	t := &ironicTest{multiple: c.choice(path, object["multiple"], "any", "all", "first", "last")}
	word = strings.TrimSpace(word)
	if strings.Count(word, "!") > 1 {
		c.fault(DoubleInversion, path+"/op", "%s inverts twice; write one ! or none", quote(word))
		return nil
	}
	t.invert = strings.HasPrefix(word, "!")
	word = strings.TrimSpace(strings.TrimPrefix(word, "!"))
	op, known := ironicOperators[word]
	if !known {
		c.fault(UnknownOperator, path+"/op", "there is no operator %s; there are %s", quote(word), operatorNames(ironic))
		return nil
	}
	args := c.named(path+"/args", word, op, object["args"])
	loop := c.loop(path+"/loop", object["loop"])
	if loop[0] == nil && object["multiple"] != nil {
		c.warn(path+"/multiple", "multiple has no effect without a loop")
	}
	for before := len(c.faults); args != nil && len(c.faults) == before && len(loop) > 0; loop = loop[1:] {
		if c.count(path) {
			t.tests = append(t.tests, op.prepare(&arguments{c, path + "/args", args, loop[0]}, word))
		}
	}
	return t.judge
}

// named brings args into the form of a map; nil when there is a fault.
func (c *checker) named(path, word string, op ironicOperator, raw any) map[string]any {
	known := slices.Concat(op.required, op.optional)
	args, ok := raw.(map[string]any)
	if list, positional := raw.([]any); positional {
		args, ok = map[string]any{}, true
		for i, v := range list {
			name := strconv.Itoa(i)
			if i < len(known) {
				name = known[i]
			}
			args[name] = v
		}
	}
	if !ok && raw != nil {
		c.fault(NotAMap, path, "args are a map or a list, not %s", typeName(native(raw)))
		return nil
	}
	before := len(c.faults)
	for _, name := range op.required {
		if _, ok := args[name]; !ok {
			c.fault(MissingArgument, path, "%s takes %s", word, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.Contains(known, name) {
			c.fault(UnknownParameter, path+"/"+name, "%s takes no %s; there are %s", word, quote(name), strings.Join(known, " "))
		}
	}
	if len(c.faults) > before {
		return nil
	}
	return args
}

// loop lists what {item} is, one after the other; one nil without a loop, as with an empty one.
func (c *checker) loop(path string, raw any) []*loopItem {
	switch loop := raw.(type) {
	case nil:
	case map[string]any:
		if len(loop) > 0 {
			return []*loopItem{{loop}}
		}
	case []any:
		items := make([]*loopItem, len(loop))
		for i, v := range loop {
			items[i] = &loopItem{native(v)}
		}
		if len(loop) > 0 {
			return items
		}
	default:
		c.fault(NotAList, path, "a loop is over a list or a map, not %s", typeName(native(raw)))
	}
	return []*loopItem{nil}
}

// judge folds the tests of a loop. Ironic makes all of them, but for first, which ends at the first yes; a test that
// can not be decided leaves the answer to the others.
func (t *ironicTest) judge(r *run) (bool, *Error) {
	var gap *Error
	yeses, noes, last := 0, 0, false
	for _, test := range t.tests {
		yes, err := test(r)
		if err != nil && err.Code != Incomplete {
			return false, err
		}
		if err != nil || t.multiple == "last" {
			gap = err
		}
		last = err == nil && yes != t.invert
		switch {
		case last:
			yeses++
		case err == nil:
			noes++
		}
		if last && t.multiple == "first" {
			break
		}
	}
	switch {
	case t.multiple == "all" && (noes > 0 || gap == nil):
		return noes == 0, nil
	case t.multiple == "last" && gap == nil:
		return last, nil
	case t.multiple != "all" && t.multiple != "last" && (yeses > 0 || gap == nil):
		return yeses > 0, nil
	}
	return false, gap
}

// arguments are those of one test.
type arguments struct {
	c    *checker
	path string
	args map[string]any
	item *loopItem
}

func (a *arguments) value(name string) *argument {
	return a.c.argument(a.path+"/"+name, a.args[name], a.item)
}

func (a *arguments) values(name string) []*argument {
	raw, given := a.args[name]
	list, ok := raw.([]any)
	if given && !ok {
		a.c.fault(NotAList, a.path+"/"+name, "%s are a list, not %s", name, typeName(native(raw)))
	}
	all := make([]*argument, len(list))
	for i, v := range list {
		all[i] = a.c.argument(a.path+"/"+name+"/"+strconv.Itoa(i), v, a.item)
	}
	return all
}

// literal is an argument that is known when the rule is saved; what is not a string is left to who asks.
func (a *arguments) literal(name string, code Code) any {
	v := a.value(name)
	switch {
	case v.reads():
		a.c.fault(code, v.path, "%s stands in the rule as it is, and is not read of a node; write it out", name)
		return ""
	case v.parts == nil:
		return v.literal
	}
	var b strings.Builder
	for _, p := range v.parts {
		b.WriteString(p.text)
	}
	return b.String()
}

// chain compares each value with the next. In a loop they are compared as text, always.
func chain(a *arguments, op string) test {
	list, relate := a.values("values"), relations[op]
	force := a.c.flag(a.path+"/force_strings", a.args["force_strings"]) || a.item != nil
	a.mixed(op, list, force)
	return func(r *run) (bool, *Error) {
		values := make([]any, len(list))
		for i, v := range list {
			var err *Error
			if values[i], _, err = v.value(r); err != nil {
				return false, err
			}
			if force {
				values[i], _ = text(values[i]) // a scalar has one
			}
		}
		for i := 1; i < len(values); i++ {
			yes, err := relate(values[i-1], values[i])
			switch {
			case err != nil:
				return false, &Error{Code: RuleFailed, Path: a.path, Msg: err.Error()}
			case !yes:
				return false, nil
			}
		}
		return true, nil
	}
}

// mixed speaks of numbers beside templates, which give strings.
func (a *arguments) mixed(op string, list []*argument, force bool) {
	reads := slices.ContainsFunc(list, (*argument).reads)
	numbers := slices.ContainsFunc(list, func(v *argument) bool { return exact(v.literal) != nil })
	const numeric = "to compare numbers write {op: %s, field: inventory.cpu.count, value: 16}"
	switch {
	case !reads:
	case op == "eq" && numbers && !force:
		a.c.warn(a.path, "a template gives a string, which no number is equal to: write force_strings: true")
	case numbers && !force:
		a.c.fault(BadValue, a.path, "a template gives a string, which has no order with a number; "+numeric, op)
	case op != "eq":
		a.c.warn(a.path, "texts are compared, of which \"9\" comes behind \"16\": "+numeric, op)
	}
}

func addressInNet(a *arguments, _ string) test {
	address, network := a.value("address"), a.c.network(a.path+"/subnet", a.literal("subnet", BadNetwork))
	return func(r *run) (bool, *Error) {
		v, _, err := address.value(r)
		if err != nil {
			return false, err
		}
		yes, fail := inNet(network, v)
		if fail != nil {
			return false, &Error{Code: RuleFailed, Path: address.path, Msg: fail.Error()}
		}
		return yes, nil
	}
}

func search(a *arguments, op string) test {
	value, m := a.value("value"), a.c.pattern(a.path+"/regex", a.literal("regex", BadRegex), op == "matches")
	return func(r *run) (bool, *Error) {
		v, _, err := value.value(r)
		if err != nil {
			return false, err
		}
		return m.match(r, value.path, v)
	}
}

func oneOf(a *arguments, _ string) test {
	value, list := a.value("value"), a.values("values")
	return func(r *run) (bool, *Error) {
		v, _, err := value.value(r)
		if err != nil {
			return false, err
		}
		for _, one := range list {
			w, _, err := one.value(r)
			if err != nil {
				return false, err
			}
			if equal(v, w) {
				return true, nil
			}
		}
		return false, nil
	}
}

// empty takes the text None for empty: a template of null has become that.
func empty(a *arguments, _ string) test {
	value := a.value("value")
	return func(r *run) (bool, *Error) {
		v, missing, err := value.value(r)
		s, _ := text(v)
		return missing || slices.Contains([]string{"", "None", "[]", "{}"}, s), err
	}
}

// none is about null in the rule itself. A template gives text: whether that can be none has changed between releases
// of Ironic.
func none(a *arguments, _ string) test {
	value := a.value("value")
	if value.parts != nil {
		a.c.fault(BadValue, value.path, "a template gives a string, which is not null in one release of Ironic and may be in the next; write is-empty")
	}
	return func(*run) (bool, *Error) { return value.literal == nil, nil }
}

// truth is is-true and is-false: a boolean, a number that is 0 or not, or one of two words. Null is false.
func truth(want bool, words ...string) func(*arguments, string) test {
	return func(a *arguments, _ string) test {
		value := a.value("value")
		return func(r *run) (bool, *Error) {
			v, _, err := value.value(r)
			switch x := v.(type) {
			case nil:
				return !want, err
			case string:
				return slices.Contains(words, strings.ToLower(x)), err
			default:
				return !equal(x, int64(0)) == want, err
			}
		}
	}
}
