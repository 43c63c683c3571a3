package razor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one rule. A list of a thousand MACs is below all of them.
const (
	maxSource = 32 << 10 // bytes
	maxTerms  = 4000
	maxDepth  = 64 // rules inside rules
)

// A term is one value of a rule: a call, or a literal.
type term struct {
	op   *operator // nil for a literal
	word string    // the operator as it was written
	args []*term
	path string
	raw  any // as it was decoded, for printing

	literal any            // nil, bool, string, int64, *big.Int or float64
	pattern *regexp.Regexp // of a literal string that stands for one
	weight  int            // steps that 16 bytes cost the pattern
}

// text is the term as compact JSON, with a blank behind each comma.
func (t *term) text() string {
	if t.op == nil {
		return encode(t.raw)
	}
	parts := []string{encode(t.word)}
	for _, arg := range t.args {
		parts = append(parts, arg.text())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// encode writes a literal. What was decoded can be encoded.
func encode(raw any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(raw); err != nil {
		return "?"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Is says that a rule is written in this language: as a JSON array.
func Is(src string) bool { return strings.HasPrefix(strings.TrimSpace(src), "[") }

// Compile parses and checks one rule. Its error is always of type Errors and holds all faults.
func Compile(src string) (*Program, error) {
	c := &checker{tags: map[string]string{}}
	raw, fault := decode(src)
	if fault != nil {
		return nil, Errors{fault}
	}
	list, ok := raw.([]any)
	if !ok {
		return nil, Errors{{Code: UnknownOperator, Msg: "a rule is a JSON array with an operator first"}}
	}
	root := c.call(list, "", 0)
	if root != nil {
		c.fit(root, boolean, nil)
	}
	if len(c.faults) > 0 {
		return nil, Errors(c.inOrder())
	}
	return &Program{root: root, tags: c.tags, computes: c.computes, warnings: c.warnings}, nil
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

// A checker collects the faults of one rule.
type checker struct {
	terms    int
	faults   []*Error
	warnings []string
	tags     map[string]string // name to the path where it is first named
	computes bool              // names of tags
}

func (c *checker) fault(code Code, path, format string, args ...any) {
	c.faults = append(c.faults, &Error{Code: code, Path: path, Msg: fmt.Sprintf(format, args...)})
}

// inOrder gives the faults of the whole before those of its parts, and those of a bound alone: behind it nothing was
// looked at.
func (c *checker) inOrder() []*Error {
	for _, f := range c.faults {
		if f.Code == TooLarge {
			return []*Error{f}
		}
	}
	return sortByPath(c.faults)
}

// call checks [operator, argument...]; nil when it has no meaning, so that its type is not known. What an operator takes
// is known only when there is one: the arguments of an unknown one are not looked at.
func (c *checker) call(list []any, path string, depth int) *term {
	if len(list) < 2 {
		c.fault(TooFewArguments, path, "a rule is an operator and at least one argument")
		return nil
	}
	word, ok := list[0].(string)
	op := operators[word]
	switch {
	case depth == maxDepth:
		c.fault(TooLarge, path, "rules are nested deeper than %d", maxDepth)
		return nil
	case !ok:
		c.fault(UnknownOperator, path, "%s is no operator; there are %s", clip(encode(list[0])), operatorNames())
		return nil
	case op == nil:
		c.fault(UnknownOperator, path, "there is no operator %s; there are %s", quote(word), operatorNames())
		return nil
	}
	t := &term{op: op, word: word, path: path, raw: list}
	if len(list)-1 < op.least {
		c.fault(TooFewArguments, path, "%s takes %d arguments", word, op.least)
	}
	for i, raw := range list[1:] {
		arg := c.argument(t, raw, i, depth)
		if arg == nil {
			arg = &term{raw: raw} // there is a fault already
		}
		t.args = append(t.args, arg)
		if op.most > 0 && i >= op.most {
			c.warnings = append(c.warnings, fmt.Sprintf("argument %d of %s has no effect, at %s", i+1, word, arg.path))
		}
	}
	c.refer(t)
	return t
}

// refer notes the tag that a call names.
func (c *checker) refer(t *term) {
	if t.op.names[0] != "tag" {
		return
	}
	name, ok := t.args[0].literal.(string)
	switch {
	case !ok:
		c.computes = true
	case c.tags[name] == "":
		c.tags[name] = t.args[0].path
	}
}

// argument checks one argument of t; nil when nothing can be said of it.
func (c *checker) argument(t *term, raw any, i, depth int) *term {
	path := t.path + "/" + strconv.Itoa(i+1)
	if c.terms++; c.terms > maxTerms {
		c.fault(TooLarge, path, "the rule has more than %d values", maxTerms)
		return nil
	}
	want := t.op.wants(i)
	switch raw := raw.(type) {
	case map[string]any:
		c.fault(BadLiteral, path, "an object is no argument")
		return nil
	case []any:
		arg := c.call(raw, path, depth+1)
		switch {
		case want == pattern:
			c.fault(BadRegex, path, "a pattern stands in the rule as a string, it is not computed")
		case arg != nil:
			c.fit(arg, want, t)
		}
		return arg
	}
	arg := &term{raw: raw, path: path, literal: literal(raw)}
	s, isText := arg.literal.(string)
	switch {
	case want == pattern && isText:
		c.compile(arg, s, t.op.foldsCase())
	case want == pattern || typeOf(arg.literal)&^want != 0:
		c.fault(ArgumentType, path, "%s is %s and %s takes %s", clip(encode(raw)), typeOf(arg.literal), t.word, want)
	}
	return arg
}

// fit checks that what a call gives may stand where want is wanted, and says what to write.
func (c *checker) fit(arg *term, want types, outer *term) {
	if arg.op.gives&^want == 0 {
		return
	}
	code, who := ArgumentType, "a rule is true or false"
	if outer == nil {
		code = RootNotBoolean
	} else {
		who = outer.word + " takes " + want.String()
	}
	verb, advice := "gives", ""
	if arg.op.gives == scalar {
		verb, advice = "may give", "; write "+converted(arg, want)
	}
	c.fault(code, arg.path, "%s %s %s and %s%s", arg.word, verb, arg.op.gives, who, advice)
}

// converted is a call that may give anything, brought to one type.
func converted(arg *term, want types) string {
	switch want {
	case boolean:
		return `["=", ` + clip(arg.text()) + `, true]`
	case number:
		return `["num", ` + clip(arg.text()) + `]`
	}
	return `["str", ` + clip(arg.text()) + `]`
}

// sortByPath brings faults into reading order, the whole before its parts.
func sortByPath(faults []*Error) []*Error {
	slices.SortStableFunc(faults, func(a, b *Error) int { return slices.Compare(steps(a.Path), steps(b.Path)) })
	return faults
}

func steps(path string) []int {
	var list []int
	for _, part := range strings.Split(path, "/") {
		i, _ := strconv.Atoi(part) // "" before the first is 0 in all
		list = append(list, i)
	}
	return list
}
