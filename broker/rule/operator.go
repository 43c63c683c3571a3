package rule

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// An operator stands between two terms.
type operator struct {
	sign    string // as it is printed
	binding int
	typ     *typ
	check   func(c *checker, at int, t *term) *Error
	eval    func(*run, *term) value
}

var operators = map[string]*operator{
	"or":         {"or", bindOr, boolType, checkLogic, evalOr},
	"||":         {"or", bindOr, boolType, checkLogic, evalOr},
	"and":        {"and", bindAnd, boolType, checkLogic, evalAnd},
	"&&":         {"and", bindAnd, boolType, checkLogic, evalAnd},
	"==":         {"==", bindCompare, boolType, checkEqual, evalEqual},
	"!=":         {"!=", bindCompare, boolType, checkEqual, evalNotEqual},
	"<":          {"<", bindCompare, boolType, checkOrder, evalLess},
	"<=":         {"<=", bindCompare, boolType, checkOrder, evalAtMost},
	">":          {">", bindCompare, boolType, checkOrder, evalGreater},
	">=":         {">=", bindCompare, boolType, checkOrder, evalAtLeast},
	"in":         {"in", bindCompare, boolType, checkIn, evalIn},
	"matches":    {"matches", bindCompare, boolType, checkMatches, evalMatches},
	"contains":   {"contains", bindCompare, boolType, checkString, evalContains},
	"startsWith": {"startsWith", bindCompare, boolType, checkString, evalStartsWith},
	"endsWith":   {"endsWith", bindCompare, boolType, checkString, evalEndsWith},
	"+":          {"+", bindAdd, numberType, checkNumber, evalPlus},
	"-":          {"-", bindAdd, numberType, checkNumber, evalLessBy},
	"*":          {"*", bindTimes, numberType, checkNumber, evalTimes},
	"/":          {"/", bindTimes, numberType, checkNumber, evalDivide},
}

// units are bytes. Disks are sold in decimal units, memory in binary ones.
var units = map[string]int64{
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// scalars evaluates both sides of an equation; they must turn out to be of one kind.
func (r *run) scalars(t *term) (a, b value) {
	a, b = r.value(t.args[0]), r.value(t.args[1])
	switch {
	case a.isUnknown() || b.isUnknown():
	case a.kind == kindList || a.kind == kindObject:
		a = unknown(fmt.Sprintf("%s is %s", r.name(t.args[0]), a.kind.withArticle()))
	case a.kind != b.kind:
		a = unknown(fmt.Sprintf("%s is %s, compared with %s", r.name(t.args[0]), a.kind.withArticle(), b.kind.withArticle()))
	}
	return a, b
}

func evalEqual(r *run, t *term) value {
	a, b := r.scalars(t)
	r.charge((len(a.s) + len(b.s)) / 64)
	return equal(a, b)
}

func evalNotEqual(r *run, t *term) value { return not(evalEqual(r, t)) }

// equal compares values of one kind; a count between bounds differs from what lies outside them.
func equal(a, b value) value {
	switch {
	case a.interval() && b.kind == kindNumber, b.interval() && a.kind == kindNumber:
		return not(or(less(a, b, false), less(b, a, false)))
	case a.isUnknown():
		return plainUnknown(a)
	case b.isUnknown():
		return plainUnknown(b)
	case a.kind == kindNumber:
		return boolean(compare(a, b) == 0)
	case a.kind == kindBool:
		return boolean(a.known == b.known)
	}
	return boolean(a.s == b.s)
}

// bounds are the least and the greatest number that a value may be.
func (v value) bounds() (low, high value, ok bool) {
	switch {
	case v.kind == kindNumber:
		return v, v, true
	case v.interval():
		return integer(v.i), integer(v.j), true
	}
	return v, v, false
}

// less is a < b, or a <= b when orEqual, for numbers and for counts between bounds.
func less(a, b value, orEqual bool) value {
	alow, ahigh, ok := a.bounds()
	if !ok {
		return plainUnknown(a)
	}
	blow, bhigh, ok := b.bounds()
	if !ok {
		return plainUnknown(b)
	}
	surely, possibly := compare(ahigh, blow), compare(alow, bhigh)
	switch {
	case surely < 0 || orEqual && surely == 0:
		return boolean(true)
	case possibly > 0 || !orEqual && possibly == 0:
		return boolean(false)
	case a.isUnknown():
		return plainUnknown(a)
	}
	return plainUnknown(b)
}

// plainUnknown drops the bounds of a count where they mean nothing.
func plainUnknown(v value) value { return unknown(v.s) }

// compare orders two numbers exactly, integers with fractions too.
func compare(a, b value) int {
	switch {
	case !a.float && !b.float:
		return cmpOrdered(a.i, b.i)
	case a.float && b.float:
		return cmpOrdered(a.f, b.f)
	}
	return a.exact().Cmp(b.exact())
}

func cmpOrdered[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (v value) exact() *big.Float {
	if v.float {
		return big.NewFloat(v.f)
	}
	return new(big.Float).SetInt64(v.i)
}

func (r *run) numbers(t *term) (a, b value) {
	return r.want(t.args[0], kindNumber), r.want(t.args[1], kindNumber)
}

func evalLess(r *run, t *term) value {
	a, b := r.numbers(t)
	return less(a, b, false)
}

func evalAtMost(r *run, t *term) value {
	a, b := r.numbers(t)
	return less(a, b, true)
}

func evalGreater(r *run, t *term) value {
	a, b := r.numbers(t)
	return reason(less(b, a, false), a)
}

func evalAtLeast(r *run, t *term) value {
	a, b := r.numbers(t)
	return reason(less(b, a, true), a)
}

// reason gives the left side's cause where the sides were swapped.
func reason(v, left value) value {
	if v.isUnknown() && left.isUnknown() {
		return plainUnknown(left)
	}
	return v
}

// evalIn is or over the equations with each member.
func evalIn(r *run, t *term) value {
	a := r.value(t.args[0])
	list := r.want(t.args[1], kindList)
	if list.isUnknown() {
		return list
	}
	result := boolean(false)
	for i := range list.items() {
		it := list.item(i)
		if !r.charge(1 + len(a.s)/64) {
			return unknown(tooCostly)
		}
		member, ok := scalar(it.raw)
		if !ok {
			member = fromTree(it.raw, element{list: list.s, at: it.at}.name())
		}
		result = or(result, and(it.belongs(), r.same(t, a, member)))
		if result.isYes() {
			break
		}
	}
	if missing, ok := list.missing(); ok {
		return or(result, missing)
	}
	return result
}

// same is equal for a member of which only the node can tell the kind.
func (r *run) same(t *term, a, b value) value {
	if a.isUnknown() || b.isUnknown() || a.kind == b.kind && a.kind != kindList && a.kind != kindObject {
		return equal(a, b)
	}
	return unknown(fmt.Sprintf("%s is %s, looked up among %ss", r.name(t.args[0]), a.kind.withArticle(), b.kind))
}

// strings evaluates both sides of a string operator and lets test answer when both are known.
func (r *run) strings(t *term, test func(a, b string) bool) value {
	a, b := r.want(t.args[0], kindString), r.want(t.args[1], kindString)
	switch {
	case a.isUnknown():
		return a
	case b.isUnknown():
		return b
	case !r.charge((len(a.s) + len(b.s)) / 64):
		return unknown(tooCostly)
	}
	return boolean(test(a.s, b.s))
}

func evalContains(r *run, t *term) value   { return r.strings(t, strings.Contains) }
func evalStartsWith(r *run, t *term) value { return r.strings(t, strings.HasPrefix) }
func evalEndsWith(r *run, t *term) value   { return r.strings(t, strings.HasSuffix) }

// evalMatches searches anywhere in the string. The pattern pays for its program on every byte.
func evalMatches(r *run, t *term) value {
	a := r.want(t.args[0], kindString)
	if a.isUnknown() {
		return a
	}
	if !r.charge(len(a.s) * t.weight / 16) {
		return unknown(tooCostly)
	}
	return boolean(t.pattern.MatchString(a.s))
}

func evalPlus(r *run, t *term) value { return plus(r.numbers(t)) }

func plus(a, b value) value {
	sum := a.i + b.i
	over := (sum > a.i) != (b.i > 0) && b.i != 0
	return arithmetic(a, b, sum, !over, a.real()+b.real())
}

func evalLessBy(r *run, t *term) value {
	a, b := r.numbers(t)
	difference := a.i - b.i
	over := (difference < a.i) != (b.i > 0) && b.i != 0
	return arithmetic(a, b, difference, !over, a.real()-b.real())
}

func evalTimes(r *run, t *term) value {
	a, b := r.numbers(t)
	product := a.i * b.i
	fits := a.i == 0 || product/a.i == b.i && !(a.i == -1 && b.i == math.MinInt64)
	return arithmetic(a, b, product, fits, a.real()*b.real())
}

// evalDivide gives an integer only when nothing is left over: 3 / 2 is 1.5.
func evalDivide(r *run, t *term) value {
	a, b := r.numbers(t)
	if !a.isUnknown() && !b.isUnknown() && b.real() == 0 {
		return unknown(fmt.Sprintf("%s divides by zero", t))
	}
	if b.i == 0 || b.i == -1 { // -1: the least integer has no positive twin
		return arithmetic(a, b, 0, false, a.real()/b.real())
	}
	return arithmetic(a, b, a.i/b.i, a.i%b.i == 0, a.real()/b.real())
}

func evalMinus(r *run, t *term) value {
	a := r.want(t.args[0], kindNumber)
	return arithmetic(integer(0), a, -a.i, a.i != math.MinInt64, -a.real())
}

// arithmetic picks the result: unknown, an exact integer, or a number with a fraction.
func arithmetic(a, b value, whole int64, exact bool, real float64) value {
	switch {
	case a.isUnknown():
		return plainUnknown(a)
	case b.isUnknown():
		return plainUnknown(b)
	case !a.float && !b.float && exact:
		return integer(whole)
	}
	return number(real, "the result")
}

func (v value) real() float64 {
	if v.float {
		return v.f
	}
	return float64(v.i)
}
