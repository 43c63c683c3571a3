package rule

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// A checker builds the terms of one rule and refuses those that have no meaning. The place given to its methods is
// counted in characters from the start of the rule.
type checker struct {
	schema *Schema
	src    string
	terms  int
	depth  int
	scopes []scope // elements in reach, innermost last
	refs   map[string]bool
	tags   map[string]string // name to the place where it is first referred to
}

// A scope is the element that a test of any, all and so on looks at.
type scope struct {
	typ  *typ
	name string // facts.disks[]
}

// fault is an error at a character of the rule.
func (c *checker) fault(at int, format string, args ...any) *Error {
	offset := 0
	for ; at > 0 && offset < len(c.src); at-- {
		_, size := utf8.DecodeRuneInString(c.src[offset:])
		offset += size
	}
	return c.faultAt(offset, format, args...)
}

// new makes a term whose arguments are checked, and computes it at once when they are all constant.
func (c *checker) new(at int, t *term) (*term, *Error) {
	c.terms++
	if c.terms > maxTerms {
		return nil, c.fault(at, "the rule has more than %d terms", maxTerms)
	}
	if t.shape == fact || t.folded || t.live || c.varies(t) {
		return t, nil
	}
	r := run{}
	v := t.eval(&r, t)
	if v.isUnknown() {
		return nil, c.fault(at, "%s", v.s)
	}
	t.konst, t.folded = v, true
	return t, nil
}

func (c *checker) varies(t *term) bool {
	for _, arg := range t.args {
		if !arg.folded {
			return true
		}
	}
	return false
}

func (c *checker) literal(at int, v value, typ *typ) (*term, *Error) {
	return c.new(at, &term{shape: literal, typ: typ, konst: v, folded: true, eval: evalConstant})
}

// listing is a list of constants of one kind.
func (c *checker) listing(at int, args []*term) (*term, *Error) {
	typ := &typ{kind: kindList}
	var members []any
	for _, arg := range args {
		if !arg.folded || !arg.typ.scalar() {
			return nil, c.fault(at, "a list holds constants only; write x == %s or ...", arg)
		}
		if typ.elem != nil && typ.elem.kind != arg.typ.kind {
			return nil, c.fault(at, "a list holds one kind of value, not a %s and a %s", typ.elem.kind, arg.typ.kind)
		}
		typ.elem = arg.typ
		members = append(members, arg.konst.plain())
	}
	t := &term{shape: listing, typ: typ, args: args, folded: true, eval: evalConstant}
	t.konst = value{kind: kindList, data: members, s: t.String()}
	return c.new(at, t)
}

// plain is a scalar value as it stands in a JSON tree.
func (v value) plain() any {
	switch {
	case v.kind == kindBool:
		return v.known
	case v.kind == kindNumber && v.float:
		return v.f
	case v.kind == kindNumber:
		return v.i
	}
	return v.s
}

// name is a path from a root, or a unit.
func (c *checker) name(at int, root string, hops []hop) (*term, *Error) {
	if t := c.schema.roots[root]; t != nil {
		return c.fact(at, &ref{root: root, name: root}, t, hops)
	}
	if size, ok := units[root]; ok && len(hops) == 0 {
		return c.new(at, &term{shape: unit, word: root, typ: numberType, konst: integer(size), folded: true, eval: evalConstant})
	}
	return nil, c.unknownName(at, root, hops)
}

// element is a path from the element of the innermost list.
func (c *checker) element(at int, hops []hop) (*term, *Error) {
	if len(c.scopes) == 0 {
		return nil, c.fault(at, "# and . stand for the element of a list, inside any(list, ...)")
	}
	inner := c.scopes[len(c.scopes)-1]
	return c.fact(at, &ref{name: inner.name}, inner.typ, hops)
}

// fact walks a path through the schema.
func (c *checker) fact(at int, r *ref, t *typ, hops []hop) (*term, *Error) {
	for _, h := range hops {
		next, falsy, fault := c.member(r, t, h)
		if fault != nil {
			return nil, fault
		}
		r.path = append(r.path, h.step)
		r.name, r.tail = r.name+h.String(), r.tail+h.String()
		r.falsy, t = falsy, next
	}
	r.text = r.root + r.tail
	c.refs[r.name] = true
	return c.new(at, &term{shape: fact, typ: t, ref: r, eval: evalFact})
}

// member is the type one step further.
func (c *checker) member(r *ref, t *typ, h hop) (next *typ, falsy bool, fault *Error) {
	switch {
	case t.kind == kindAny:
		return anyType, false, nil
	case t.kind == kindList && h.list:
		return t.element(), false, nil
	case t.kind == kindObject && !h.list && t.fields == nil:
		return t.element(), false, nil
	case t.kind == kindObject && !h.list:
		if f := t.fields[h.key]; f != nil {
			return f.typ, f.falsy, nil
		}
		return nil, false, c.unknownFact(h.at, r.name, t, h.step)
	case t.kind == kindList:
		return nil, false, c.fault(h.at, "%s is a list; write any(%s, %s ...) or %s[0]%s", r.name, r.name, h, r.name, h)
	}
	return nil, false, c.fault(h.at, "%s is %s and has no member %s", r.name, t.kind.withArticle(), h)
}

func (c *checker) prefix(at int, sign string, x *term) (*term, *Error) {
	switch sign {
	case "!", "not":
		if !x.typ.fits(kindBool) {
			return nil, c.fault(at, "not takes a boolean; %s is %s (write not (x == y), with brackets)", x, x.typ.kind.withArticle())
		}
		return c.new(at, &term{shape: prefix, word: "not", typ: boolType, args: []*term{x}, eval: evalNot})
	}
	if !x.typ.fits(kindNumber) {
		return nil, c.fault(at, "%s takes a number; %s is %s", sign, x, x.typ.kind.withArticle())
	}
	if sign == "+" {
		return x, nil
	}
	return c.new(at, &term{shape: prefix, word: "-", typ: numberType, args: []*term{x}, eval: evalMinus})
}

func (c *checker) infix(at int, sign string, left, right *term) (*term, *Error) {
	op := operators[sign]
	t := &term{shape: infix, word: op.sign, op: op, typ: op.typ, args: []*term{left, right}, eval: op.eval}
	if fault := op.check(c, at, t); fault != nil {
		return nil, fault
	}
	return c.new(at, t)
}

func (c *checker) call(at int, fn *function, args []*term) (*term, *Error) {
	t := &term{shape: call, word: fn.name, fn: fn, typ: fn.typ, args: args, eval: fn.eval}
	if fault := fn.check(c, at, t); fault != nil {
		return nil, fault
	}
	return c.new(at, t)
}

// enter puts the element of a list in reach of the test that follows; leave takes it away.
func (c *checker) enter(at int, fn *function, list *term) *Error {
	if !list.typ.fits(kindList) {
		return c.fault(at, "%s takes a list; %s is %s", fn.name, list, list.typ.kind.withArticle())
	}
	if len(c.scopes) == maxNesting {
		return c.fault(at, "lists are looked into more than %d deep", maxNesting)
	}
	c.scopes = append(c.scopes, scope{typ: list.typ.element(), name: c.listName(list) + "[]"})
	return nil
}

func (c *checker) leave() { c.scopes = c.scopes[:len(c.scopes)-1] }

// listName is where the elements come from: filter(facts.disks, ...) gives elements of facts.disks.
func (c *checker) listName(t *term) string {
	for t.shape == call && (t.word == "filter" || t.word == "default") {
		t = t.args[0]
	}
	if t.shape == fact {
		return t.ref.name
	}
	return t.String()
}

func (c *checker) wantAll(at int, t *term, k kind) *Error {
	for _, arg := range t.args {
		if fault := c.want(at, t, arg, k); fault != nil {
			return fault
		}
	}
	return nil
}

func (c *checker) want(at int, t, arg *term, k kind) *Error {
	if arg.typ.fits(k) {
		return nil
	}
	return c.fault(at, "%s takes %s; %s is %s", t.word, k.withArticle(), arg, arg.typ.kind.withArticle())
}

func checkLogic(c *checker, at int, t *term) *Error  { return c.wantAll(at, t, kindBool) }
func checkNumber(c *checker, at int, t *term) *Error { return c.wantAll(at, t, kindNumber) }

func checkString(c *checker, at int, t *term) *Error {
	if t.args[0].typ.kind == kindList {
		return c.fault(at, "%s takes a string; %s is a list (write x in %s)", t.word, t.args[0], t.args[0])
	}
	return c.wantAll(at, t, kindString)
}

func checkOrder(c *checker, at int, t *term) *Error {
	for _, arg := range t.args {
		if arg.typ.kind == kindString {
			other := t.args[0]
			if other == arg {
				other = t.args[1]
			}
			if other.typ.kind == kindString {
				return c.fault(at, "%s compares numbers; write version_less(x, y) for versions and dates", t.word)
			}
			return c.mismatch(at, t.args[0], t.args[1])
		}
	}
	return c.wantAll(at, t, kindNumber)
}

func checkEqual(c *checker, at int, t *term) *Error {
	left, right := t.args[0], t.args[1]
	for _, arg := range t.args {
		if !arg.typ.scalar() {
			return c.fault(at, "%s is %s; only numbers, strings and booleans can be compared", arg, arg.typ.kind.withArticle())
		}
	}
	if !left.typ.fits(right.typ.kind) {
		return c.mismatch(at, left, right)
	}
	return nil
}

func (c *checker) mismatch(at int, left, right *term) *Error {
	return c.fault(at, "cannot compare %s (%s) with %s (%s)", left, left.typ.kind, right, right.typ.kind)
}

func checkIn(c *checker, at int, t *term) *Error {
	left, list := t.args[0], t.args[1]
	if !list.typ.fits(kindList) {
		return c.fault(at, "in takes a list on its right; %s is %s", list, list.typ.kind.withArticle())
	}
	if !left.typ.scalar() || !list.typ.element().scalar() {
		return c.fault(at, "only numbers, strings and booleans can be looked up in a list; write any(%s, ...)", list)
	}
	if !left.typ.fits(list.typ.element().kind) {
		return c.fault(at, "cannot find %s (%s) in a list of %ss", left, left.typ.kind, list.typ.element().kind)
	}
	return nil
}

// Bounds of a pattern: bytes of its text and instructions of its program (a{1000} is short text and a long program).
const (
	maxPattern      = 512
	maxInstructions = 2000
)

// checkMatches compiles the pattern, so that a wrong one is refused when the rule is saved.
func checkMatches(c *checker, at int, t *term) *Error {
	if fault := c.want(at, t, t.args[0], kindString); fault != nil {
		return fault
	}
	pattern := t.args[1]
	if !pattern.folded || pattern.konst.kind != kindString {
		return c.fault(at, "matches takes a pattern in quotes on its right")
	}
	var err error
	if t.pattern, t.weight, err = CompilePattern(pattern.konst.s); err != nil {
		return c.fault(at, "%v", err)
	}
	return nil
}

// CompilePattern makes a pattern, unless it is too long or too large. weight is the steps that 16 bytes cost it.
func CompilePattern(src string) (pattern *regexp.Regexp, weight int, err error) {
	if len(src) > maxPattern {
		return nil, 0, fmt.Errorf("the pattern is longer than %d bytes", maxPattern)
	}
	parsed, err := syntax.Parse(src, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("the pattern is not RE2: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxInstructions {
		return nil, 0, errors.New("the pattern is too large")
	}
	if pattern, err = regexp.Compile(src); err != nil {
		return nil, 0, fmt.Errorf("the pattern is not RE2: %w", err)
	}
	return pattern, 1 + len(program.Inst)/8, nil
}
