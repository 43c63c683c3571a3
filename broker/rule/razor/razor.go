package razor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster/broker/rule"
)

// A Code is the class of an error.
type Code string

// Codes of refusal, then of evaluation. BadJSON, TooLarge, Cycle at run time, Undecided, Incomplete and TooCostly are
// muster's own.
const (
	BadJSON         Code = "bad-json"
	TooLarge        Code = "too-large"
	Cycle           Code = "cycle"
	RootNotBoolean  Code = "root-not-boolean"
	ArgumentType    Code = "argument-type"
	TooFewArguments Code = "too-few-arguments"
	UnknownOperator Code = "unknown-operator"
	BadLiteral      Code = "bad-literal"
	BadRegex        Code = "bad-regex"

	MissingFact     Code = "missing-fact"
	MissingMetadata Code = "missing-metadata"
	MissingState    Code = "missing-state"
	MissingTag      Code = "missing-tag"
	NotScalar       Code = "not-scalar"
	NotANumber      Code = "not-a-number"
	Undecided       Code = "undecided"  // a tag in muster's language is
	Incomplete      Code = "incomplete" // the facts lack things that could decide otherwise
	TooCostly       Code = "too-costly"
)

// An Error is one fault of a rule, or what stopped an evaluation.
type Error struct {
	Code Code
	Path string // of the argument, such as /1/2; "" is the whole rule
	Msg  string
	Tag  string // that the rule refers to, when the error is in its rule; Path and Msg are of that
}

func (e *Error) Error() string {
	where := ""
	if e.Path != "" {
		where = " at " + e.Path
	}
	if e.Tag != "" {
		return fmt.Sprintf("tag %s: %s", e.Tag, e.Msg)
	}
	return fmt.Sprintf("%s%s: %s", e.Code, where, e.Msg)
}

// Errors are all faults of a rule, in reading order.
type Errors []*Error

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// A Program is a rule that has been checked. It is immutable and safe for concurrent use.
type Program struct {
	root     *term
	tags     map[string]string
	computes bool // the names of tags
	warnings []string
}

// String is the rule as compact JSON.
func (p *Program) String() string { return p.root.text() }

// Tags lists the tags that the rule names, sorted. Names that are computed are not among them.
func (p *Program) Tags() []string { return slices.Sorted(maps.Keys(p.tags)) }

// ComputesTags says that the rule may ask for any tag.
func (p *Program) ComputesTags() bool { return p.computes }

// TagPath is where the rule first names a tag.
func (p *Program) TagPath(tag string) string { return p.tags[tag] }

// Warnings say what is accepted and has no effect.
func (p *Program) Warnings() []string { return p.warnings }

// An Env is one node as rules see it. The tables are JSON trees, numbers as json.Number, int64 or float64.
type Env struct {
	Facts    map[string]any
	Metadata map[string]any
	State    map[string]any

	// Tag is what another tag says of the node; false when there is none of that name. If nil, there are no tags.
	Tag func(name string) (rule.Result, bool)
	// MACs says why there may be more macaddress facts than Facts holds; "" when there are not.
	MACs string
}

// Eval judges one node. It never fails: what cannot be judged is Undecided.
func (p *Program) Eval(env *Env) rule.Result {
	v, err := p.run(env)
	switch {
	case err != nil:
		return rule.Result{Verdict: rule.Undecided, Cause: err.Error(), Code: string(err.Code)}
	case v:
		return rule.Result{Verdict: rule.Yes}
	}
	return rule.Result{Verdict: rule.No}
}

func (p *Program) run(env *Env) (bool, *Error) {
	r := run{env: env}
	v, err := r.value(p.root)
	if err != nil {
		return false, err
	}
	yes, _ := v.(bool)
	return yes, nil
}

// Explain is Eval with the parts of the rule and what each came to, for people.
func (p *Program) Explain(env *Env) rule.Result {
	result := p.Eval(env)
	r := run{env: env}
	result.Parts = r.explain(nil, p.root)
	return result
}
