package rule

import (
	"fmt"
	"maps"
	"slices"
)

// A Verdict is what a rule says of a node. The zero value is No.
type Verdict int

// Verdicts. Undecided is neither: a fact that matters is not known.
const (
	No Verdict = iota
	Yes
	Undecided
)

func (v Verdict) String() string {
	switch v {
	case No:
		return "no"
	case Yes:
		return "yes"
	case Undecided:
		return "undecided"
	}
	return fmt.Sprintf("unknown (%d)", int(v))
}

// An Error says why a rule cannot be saved, and where.
type Error struct {
	Offset int    // bytes before the place
	Line   int    // from 1
	Column int    // characters, from 1
	Msg    string // without the place
	Near   string // what was probably meant, such as facts.memory; may be ""
}

func (e *Error) Error() string {
	near := ""
	if e.Near != "" {
		near = "; nearest is " + e.Near
	}
	return fmt.Sprintf("line %d, column %d: %s%s", e.Line, e.Column, e.Msg, near)
}

// faultAt is an error at a byte of the rule.
func (c *checker) faultAt(offset int, format string, args ...any) *Error {
	e := &Error{Offset: offset, Line: 1, Column: 1, Msg: fmt.Sprintf(format, args...)}
	for _, r := range c.src[:offset] {
		e.Column++
		if r == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}

// A Program is a rule that has been checked. It is immutable and safe for concurrent use.
type Program struct {
	root *term
	refs map[string]bool
	tags map[string]string
}

// String is the rule in its canonical form: compiling it gives the same program.
func (p *Program) String() string { return p.root.String() }

// Refs lists the facts that the rule reads, sorted: facts.disks, facts.disks[].transport.
func (p *Program) Refs() []string { return slices.Sorted(maps.Keys(p.refs)) }

// Tags lists the tags that the rule refers to, sorted.
func (p *Program) Tags() []string { return slices.Sorted(maps.Keys(p.tags)) }

// TagPath is where the rule first refers to a tag: line 1, column 5.
func (p *Program) TagPath(tag string) string { return p.tags[tag] }

// An Env is one node as rules see it, made once for all of them. Rules change nothing in it.
type Env struct {
	// Roots are JSON trees as Tree makes them, or as encoding/json decodes them, with or without UseNumber. A root that is
	// missing is not known. A section may be Incomplete.
	Roots map[string]any
	// Tag is what another tag says of the node; false when there is none of that name. If nil, there are no tags.
	Tag func(name string) (Result, bool)
}

// A Result is what a rule says of one node.
type Result struct {
	Verdict Verdict
	Cause   string // why the verdict is Undecided: the first fact that is not known; else ""
	Code    string // class of the cause, of rules in Razor's language: missing-fact; else ""
	Parts   []Part // from Explain only
}

// Eval judges one node. It never fails: what cannot be judged is Undecided, and so is a rule that would take more than
// 100000 steps.
func (p *Program) Eval(env *Env) Result {
	r := run{env: env}
	v := r.want(p.root, kindBool)
	if r.spent {
		v = unknown(tooCostly)
	}
	if v.isUnknown() {
		return Result{Verdict: Undecided, Cause: v.s}
	}
	return Result{Verdict: v.verdict()}
}

// Explain is Eval with the parts of the rule and what each came to, for people. It costs several times as much.
func (p *Program) Explain(env *Env) Result {
	result := p.Eval(env)
	r := run{env: env}
	result.Parts = r.explain(nil, p.root)
	return result
}
