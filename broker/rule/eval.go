package rule

import (
	"fmt"
	"strconv"
)

// budget is the most steps that one evaluation takes. A step is a term, a member of a list or some bytes of a string;
// a hundred thousand of them last about ten milliseconds, and a rule of people on a large machine takes a few hundred.
const budget = 100_000

const tooCostly = "too costly: more than 100000 steps"

// A run is one evaluation on one node.
type run struct {
	env     *Env
	element element
	steps   int
	spent   bool
	witness string // the element that decided the last any, all, none or one
}

// An element is the member of a list that a test looks at.
type element struct {
	raw   any
	list  string
	at    int
	lacks string // why things may be missing in it, "" when they are not
}

func (e element) name() string { return e.list + "[" + strconv.Itoa(e.at) + "]" }

// value evaluates a term. Once the budget is spent everything is unknown, and so is the verdict.
func (r *run) value(t *term) value {
	if t.folded {
		return t.konst
	}
	if !r.charge(1) {
		return unknown(tooCostly)
	}
	return t.eval(r, t)
}

// charge takes steps from the budget, and says whether there were enough.
func (r *run) charge(steps int) bool {
	if r.steps += steps; r.steps > budget {
		r.spent = true
	}
	return !r.spent
}

// want evaluates a term of which only a node can tell the kind.
func (r *run) want(t *term, k kind) value {
	v := r.value(t)
	if v.kind == k || v.isUnknown() {
		return v
	}
	return unknown(fmt.Sprintf("%s is %s, not %s", r.name(t), v.kind.withArticle(), k.withArticle()))
}

// name is how causes call a term: a fact of an element by its index.
func (r *run) name(t *term) string {
	switch {
	case t.shape != fact:
		return t.String()
	case t.ref.root == "":
		return r.element.name() + t.ref.tail
	}
	return t.ref.text
}

func evalConstant(_ *run, t *term) value { return t.konst }

// evalFact walks the tree of a root. What is not there is not known, whatever part of the path is missing. Of a list
// that lacks members no index is known: any of them may be another's.
func evalFact(r *run, t *term) value {
	raw, there, lacks := r.element.raw, true, r.element.lacks
	if t.ref.root != "" {
		raw, there = r.env.Roots[t.ref.root]
		lacks = ""
	}
	for i, s := range t.ref.path {
		raw, lacks = opened(raw, lacks)
		if !there || raw == nil || s.list && lacks != "" {
			return notKnown(r.name(t), lacks)
		}
		parent := raw
		if raw, there = s.of(parent); there {
			continue
		}
		if wrong := s.misplaced(parent); wrong != kindUnknown {
			return unknown(fmt.Sprintf("%s has no %s: it stands on %s", r.name(t), s, wrong.withArticle()))
		}
		if t.ref.falsy && lacks == "" && i == len(t.ref.path)-1 {
			return boolean(false)
		}
	}
	raw, lacks = opened(raw, lacks)
	if v, ok := scalar(raw); ok {
		return v // without a name, which is costly to write
	}
	if raw == nil {
		return notKnown(r.name(t), lacks)
	}
	v := fromTree(raw, r.name(t))
	if v.kind == kindList {
		v.more = lacks
	}
	return v
}

// of takes one step into a JSON tree.
func (s step) of(raw any) (any, bool) {
	switch x := raw.(type) {
	case map[string]any:
		next, ok := x[s.key]
		return next, ok && !s.list
	case map[string]string:
		next, ok := x[s.key]
		return next, ok && !s.list
	}
	v := fromTree(raw, "")
	at := s.index
	if at < 0 {
		at += v.items()
	}
	if !s.list || v.kind != kindList || at < 0 || at >= v.items() {
		return nil, false
	}
	return v.item(at).raw, true
}

// misplaced is the kind of a value that has no members of this sort; kindUnknown when the member is merely absent.
func (s step) misplaced(raw any) kind {
	got := fromTree(raw, "").kind
	if s.list && got == kindList || !s.list && got == kindObject {
		return kindUnknown
	}
	return got
}

// Kleene's three-valued logic. The cause of an unknown is that of the first operand that is one.

func evalNot(r *run, t *term) value { return not(r.want(t.args[0], kindBool)) }

func evalAnd(r *run, t *term) value {
	left := r.want(t.args[0], kindBool)
	if left.isNo() {
		return left
	}
	return and(left, r.want(t.args[1], kindBool))
}

func evalOr(r *run, t *term) value {
	left := r.want(t.args[0], kindBool)
	if left.isYes() {
		return left
	}
	return or(left, r.want(t.args[1], kindBool))
}

func not(v value) value {
	if v.isUnknown() {
		return v
	}
	return boolean(!v.known)
}

func and(a, b value) value {
	switch {
	case a.isNo() || b.isNo():
		return boolean(false)
	case a.isUnknown():
		return a
	}
	return b
}

func or(a, b value) value {
	switch {
	case a.isYes() || b.isYes():
		return boolean(true)
	case a.isUnknown():
		return a
	}
	return b
}

// each shows the elements of a list to visit, until it says that it has seen enough. It returns the list itself when
// that is not known.
func (r *run) each(list *term, visit func(it item) bool) (value, bool) {
	v := r.want(list, kindList)
	if v.isUnknown() {
		return v, false
	}
	outer := r.element
	defer func() { r.element = outer }()
	for i := range v.items() {
		it := v.item(i)
		r.element = element{raw: it.raw, list: v.s, at: it.at, lacks: v.more}
		if !r.charge(1) {
			return unknown(tooCostly), false
		}
		if !visit(it) {
			break
		}
	}
	return v, true
}

// missing is a member that a list may lack: it may pass any test and fail it.
func (v value) missing() (value, bool) { return unknown(v.more), v.more != "" }

// belongs says whether an item is surely in its list.
func (it item) belongs() value {
	if it.doubt != "" {
		return unknown(it.doubt)
	}
	return boolean(true)
}

// evalAny is or over the elements; evalAll is and; evalNone is not any.
func evalAny(r *run, t *term) value {
	result := boolean(false)
	list, ok := r.each(t.args[0], func(it item) bool {
		result = or(result, and(it.belongs(), r.want(t.args[1], kindBool)))
		return r.decides(result.isYes())
	})
	if !ok {
		return list
	}
	if missing, ok := list.missing(); ok {
		return or(result, missing)
	}
	return result
}

func evalAll(r *run, t *term) value {
	result := boolean(true)
	list, ok := r.each(t.args[0], func(it item) bool {
		result = and(result, or(not(it.belongs()), r.want(t.args[1], kindBool)))
		return r.decides(result.isNo())
	})
	if !ok {
		return list
	}
	if missing, ok := list.missing(); ok {
		return and(result, missing)
	}
	return result
}

func evalNone(r *run, t *term) value { return not(evalAny(r, t)) }

// decides notes the element that settles the answer, and says whether to go on.
func (r *run) decides(settled bool) bool {
	r.witness = ""
	if settled {
		r.witness = r.element.name()
	}
	return !settled
}

func evalOne(r *run, t *term) value { return equal(evalCount(r, t), integer(1)) }

// evalCount knows the bounds of a count even when some elements are unclear.
func evalCount(r *run, t *term) value {
	var sure, unclear int64
	cause := ""
	list, ok := r.each(t.args[0], func(it item) bool {
		switch v := and(it.belongs(), r.want(t.args[1], kindBool)); {
		case v.isYes():
			sure++
		case v.isUnknown():
			unclear++
			cause = first(cause, v.s)
		}
		return true
	})
	if !ok {
		return list
	}
	if list.more != "" {
		return atLeast(sure, first(cause, list.more))
	}
	return between(sure, sure+unclear, cause)
}

func first(cause, next string) string {
	if cause != "" {
		return cause
	}
	return next
}

// evalFilter keeps the elements that pass, and those that may pass with their doubt.
func evalFilter(r *run, t *term) value {
	kept := []item{}
	list, ok := r.each(t.args[0], func(it item) bool {
		v := and(it.belongs(), r.want(t.args[1], kindBool))
		if v.isUnknown() {
			it.doubt = v.s
		}
		if !v.isNo() {
			kept = append(kept, it)
		}
		return true
	})
	if !ok {
		return list
	}
	return value{kind: kindList, data: kept, s: list.s, more: list.more}
}

// evalSum adds; one unclear element makes the sum unknown, as does one that may be missing: it may be negative.
func evalSum(r *run, t *term) value {
	sum := integer(0)
	list, ok := r.each(t.args[0], func(it item) bool {
		v := r.want(t.args[1], kindNumber)
		if it.doubt != "" {
			v = unknown(it.doubt)
		}
		sum = plus(sum, v)
		return !sum.isUnknown()
	})
	if !ok {
		return list
	}
	if missing, ok := list.missing(); ok {
		return plus(sum, missing)
	}
	return sum
}

// evalLen is the number of members of a list, or of characters of a string.
func evalLen(r *run, t *term) value {
	v := r.value(t.args[0])
	switch v.kind {
	case kindUnknown:
		return value{kind: kindUnknown, s: v.s}
	case kindString:
		r.charge(len(v.s) / 64)
		return integer(int64(len([]rune(v.s))))
	case kindList:
		return r.listLen(v)
	}
	return unknown(fmt.Sprintf("%s is %s and has no length", r.name(t.args[0]), v.kind.withArticle()))
}

func (r *run) listLen(v value) value {
	most := int64(v.items())
	sure, cause := most, ""
	items, _ := v.data.([]item)
	for _, it := range items {
		if it.doubt != "" {
			sure--
			cause = first(cause, it.doubt)
		}
	}
	if v.more != "" {
		return atLeast(sure, first(cause, v.more))
	}
	return between(sure, most, cause)
}
