package razor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"muster/broker/rule"
)

// budget is the most steps that one evaluation takes: values, and bytes of strings that patterns read.
const budget = 100_000

// A run is one evaluation on one node.
type run struct {
	env   *Env
	steps int
}

func (r *run) charge(t *term, steps int) *Error {
	if r.steps += steps; r.steps > budget {
		return &Error{Code: TooCostly, Path: t.path, Msg: fmt.Sprintf("more than %d steps", budget)}
	}
	return nil
}

// value evaluates a term. All arguments of a call come before it, but for those of and and or.
func (r *run) value(t *term) (any, *Error) {
	if err := r.charge(t, 1); err != nil {
		return nil, err
	}
	switch {
	case t.op == nil:
		return t.literal, nil
	case t.op.decides != nil:
		return r.logic(t)
	}
	args := make([]any, len(t.args))
	for i, arg := range t.args {
		v, err := r.value(arg)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	return t.op.apply(r, t, args)
}

// logic is and and or, which stop at the argument that decides.
func (r *run) logic(t *term) (any, *Error) {
	for _, arg := range t.args {
		v, err := r.value(arg)
		if err != nil {
			return nil, err
		}
		if v == *t.op.decides {
			return v, nil
		}
	}
	return !*t.op.decides, nil
}

func applyNot(_ *run, _ *term, args []any) (any, *Error) { return args[0] != true, nil }

func applyFact(r *run, t *term, args []any) (any, *Error) {
	return find(t, r.env.Facts, args, "fact", MissingFact, NotScalar)
}

func applyMetadata(r *run, t *term, args []any) (any, *Error) {
	return find(t, r.env.Metadata, args, "metadata", MissingMetadata, NotScalar)
}

func applyState(r *run, t *term, args []any) (any, *Error) {
	return find(t, r.env.State, args, "state", MissingState, "")
}

// find looks a name up: exactly, then as a path, then the default. An exact name that holds a list or an object is an
// error of the class composite, if there is one.
func find(t *term, table map[string]any, args []any, what string, missing, composite Code) (any, *Error) {
	name, _ := args[0].(string)
	if raw, ok := table[name]; ok {
		v, ok := simple(raw)
		switch {
		case ok:
			return v, nil
		case composite == "":
			return raw, nil
		}
		return nil, &Error{Code: composite, Path: t.path, Msg: fmt.Sprintf("%s %s is %s", what, quote(name), show(raw))}
	}
	if strings.Contains(name, ".") {
		if v, ok := at(table, name); ok {
			return v, nil
		}
	}
	if len(args) > 1 {
		return args[1], nil
	}
	return nil, &Error{Code: missing, Path: t.path, Msg: fmt.Sprintf("there is no %s %s", what, quote(name))}
}

// applyTag gives what another tag says of the node; its error is the error of this one, too.
func applyTag(r *run, t *term, args []any) (any, *Error) {
	name, _ := args[0].(string)
	var result rule.Result
	ok := false
	if r.env.Tag != nil {
		result, ok = r.env.Tag(name)
	}
	switch {
	case !ok:
		return nil, &Error{Code: MissingTag, Path: t.path, Msg: fmt.Sprintf("there is no tag %s", quote(name))}
	case result.Verdict != rule.Undecided:
		return result.Verdict == rule.Yes, nil
	case result.Code == "":
		result.Code = string(Undecided)
	}
	return nil, &Error{Code: Code(result.Code), Path: t.path, Tag: clip(name), Msg: result.Cause}
}

func applyEqual(_ *run, _ *term, args []any) (any, *Error) { return equal(args[0], second(args)), nil }

func applyNotEqual(_ *run, _ *term, args []any) (any, *Error) {
	return !equal(args[0], second(args)), nil
}

// second is the right side of an equation; without one it is null.
func second(args []any) any {
	if len(args) > 1 {
		return args[1]
	}
	return nil
}

func applyIn(_ *run, _ *term, args []any) (any, *Error) {
	return slices.ContainsFunc(args[1:], func(v any) bool { return equal(args[0], v) }), nil
}

func applyOrder(holds func(int) bool) func(*run, *term, []any) (any, *Error) {
	return func(_ *run, t *term, args []any) (any, *Error) {
		c, ok := compare(args[0], args[1])
		if !ok {
			return nil, &Error{Code: NotANumber, Path: t.path, Msg: "there is no order between these"}
		}
		return holds(c), nil
	}
}

func applyNum(_ *run, t *term, args []any) (any, *Error) {
	if typeOf(args[0]) == number {
		if _, ok := compare(args[0], args[0]); ok {
			return args[0], nil
		}
	}
	if s, ok := args[0].(string); ok {
		if n, ok := toNumber(s); ok {
			return n, nil
		}
	}
	return nil, &Error{Code: NotANumber, Path: t.path, Msg: show(args[0]) + " is not a number"}
}

func applyStr(_ *run, t *term, args []any) (any, *Error) {
	if _, ok := simple(args[0]); !ok && exact(args[0]) == nil {
		return nil, &Error{Code: NotScalar, Path: t.path, Msg: show(args[0]) + " has no form as a string"}
	}
	return text(args[0]), nil
}

func applyLower(r *run, t *term, args []any) (any, *Error) {
	return r.convert(t, args[0], cases.Lower(language.Und, cases.HandleFinalSigma(false)))
}

func applyUpper(r *run, t *term, args []any) (any, *Error) {
	return r.convert(t, args[0], cases.Upper(language.Und))
}

func (r *run) convert(t *term, v any, c cases.Caser) (any, *Error) {
	s, _ := v.(string)
	if err := r.charge(t, len(s)/16); err != nil {
		return nil, err
	}
	return c.String(s), nil
}

func applyLike(r *run, t *term, args []any) (any, *Error) {
	s, _ := args[0].(string)
	return r.matches(t.args[1], s)
}

func (r *run) matches(pattern *term, s string) (bool, *Error) {
	if err := r.charge(pattern, 1+len(s)*pattern.weight/16); err != nil {
		return false, err
	}
	return pattern.pattern.MatchString(s), nil
}

func applyMAC(r *run, t *term, args []any) (any, *Error) {
	return r.someMAC(t, func(mac string) (bool, *Error) {
		for _, arg := range args {
			if want, _ := arg.(string); equalASCII(mac, want) {
				return true, nil
			}
		}
		return false, r.charge(t, len(args))
	})
}

func applyMACLike(r *run, t *term, _ []any) (any, *Error) {
	return r.someMAC(t, func(mac string) (bool, *Error) {
		for _, pattern := range t.args {
			if hit, err := r.matches(pattern, mac); hit || err != nil {
				return hit, err
			}
		}
		return false, nil
	})
}

// someMAC says whether a fact whose name begins with macaddress passes. No is certain only when all of them are there.
func (r *run) someMAC(t *term, passes func(mac string) (bool, *Error)) (any, *Error) {
	for _, name := range slices.Sorted(maps.Keys(r.env.Facts)) {
		mac, ok := r.env.Facts[name].(string)
		if !ok || !strings.HasPrefix(name, "macaddress") {
			continue
		}
		if hit, err := passes(mac); hit || err != nil {
			return hit, err
		}
	}
	if r.env.MACs != "" {
		return nil, &Error{Code: Incomplete, Path: t.path, Msg: r.env.MACs}
	}
	return false, nil
}

// equalASCII ignores the case of ASCII letters only.
func equalASCII(a, b string) bool {
	return len(a) == len(b) && strings.Map(lowerASCII, a) == strings.Map(lowerASCII, b)
}

func lowerASCII(c rune) rune {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
