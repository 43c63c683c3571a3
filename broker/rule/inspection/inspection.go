package inspection

import (
	"fmt"
	"strings"

	"muster/broker/rule"
)

// A Code is the class of an error.
type Code string

// Codes of refusal, then of evaluation. BadJSON, TooLarge, BadPath, BadValue, Actions, Incomplete and TooCostly are
// muster's own.
const (
	BadJSON            Code = "bad-json"
	TooLarge           Code = "too-large"
	NotAMap            Code = "not-a-map"
	NotAList           Code = "not-a-list"
	UnknownParameter   Code = "unknown-parameter"
	MissingArgument    Code = "missing-argument"
	UnknownOperator    Code = "unknown-operator"
	DoubleInversion    Code = "double-inversion"
	BadNetwork         Code = "bad-network"
	BadRegex           Code = "bad-regex"
	BadPath            Code = "bad-path"  // of a field or a template
	BadValue           Code = "bad-value" // that stands in the rule
	PriorityOutOfRange Code = "priority-out-of-range"
	Actions            Code = "actions" // which a tag has not

	CannotConvert Code = "cannot-convert"
	RuleFailed    Code = "rule-failed"
	Incomplete    Code = "incomplete" // the facts lack things that could decide otherwise
	TooCostly     Code = "too-costly"
)

// An Error is one fault of a rule, or what stopped an evaluation.
type Error struct {
	Code Code
	Path string // of the value, such as /conditions/0/value; "" is the whole rule
	Msg  string
}

func (e *Error) Error() string {
	switch {
	case e.Code == Incomplete:
		return e.Msg
	case e.Path == "":
		return fmt.Sprintf("%s: %s", e.Code, e.Msg)
	}
	return fmt.Sprintf("%s at %s: %s", e.Code, e.Path, e.Msg)
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

// A Schema says what rules may read. The zero value and nil know nothing of names: all may be read.
type Schema struct {
	// Inventory has each path of an inventory, and of what stands beside it (cpus, plugin_data.macs,
	// inventory.disks[].size; * is any name, at the end anything below), with the sections of facts that it is made from;
	// "" is one that is never known here.
	Inventory map[string]string
	// Node has what is known of a node (name, extra.*), and with what to write instead, what is something else here.
	Node map[string]string
}

// A Program is a rule that has been checked. It is immutable and safe for concurrent use.
type Program struct {
	conditions []*condition
	scope      string
	warnings   []string
}

// A condition is one of a rule.
type condition struct {
	text  string // compact JSON
	judge func(*run) (bool, *Error)
}

// String is the rule as compact JSON, without what has no effect.
func (p *Program) String() string {
	texts := make([]string, len(p.conditions))
	for i, c := range p.conditions {
		texts[i] = c.text
	}
	scope := ""
	if p.scope != "" {
		scope = `, "scope": ` + encode(p.scope)
	}
	return `{"conditions": [` + strings.Join(texts, ", ") + "]" + scope + "}"
}

// Tags and TagPath are of languages whose rules refer to other tags. In this one they do not.
func (p *Program) Tags() []string { return nil }

// TagPath is where the rule refers to a tag: nowhere.
func (p *Program) TagPath(string) string { return "" }

// Warnings say what is accepted and does not do what it seems to.
func (p *Program) Warnings() []string { return p.warnings }

// An Env is one node as rules see it. The tables are JSON trees, numbers as json.Number, int64 or float64;
// a value may be Unknown.
type Env struct {
	Data    map[string]any    // as ironic-inspector has it: inventory, and what stands beside it
	Plugin  map[string]any    // plugin_data of Ironic
	Node    map[string]any    // the node's record
	Lacking map[string]string // sections of facts that are not whole, with why
}

// Unknown stands in a tree for a value that the node has and nobody knows. The text says why.
type Unknown string

// Eval judges one node. It never fails: what cannot be judged is Undecided.
func (p *Program) Eval(env *Env) rule.Result {
	r := run{env: env}
	if p.scope != "" && !r.inScope(p.scope) {
		return rule.Result{Verdict: rule.No}
	}
	var gap *Error
	for _, c := range p.conditions {
		yes, err := c.judge(&r)
		switch {
		case err != nil && err.Code != Incomplete:
			return undecided(err)
		case err != nil && gap == nil:
			gap = err
		case err == nil && !yes:
			return rule.Result{Verdict: rule.No}
		}
	}
	if gap != nil {
		return undecided(gap)
	}
	return rule.Result{Verdict: rule.Yes}
}

func undecided(err *Error) rule.Result {
	return rule.Result{Verdict: rule.Undecided, Cause: err.Error(), Code: string(err.Code)}
}

// Explain is Eval with the conditions and what each came to, for people.
func (p *Program) Explain(env *Env) rule.Result {
	result := p.Eval(env)
	if p.scope != "" {
		r := run{env: env}
		verdict := rule.No
		if r.inScope(p.scope) {
			verdict = rule.Yes
		}
		result.Parts = append(result.Parts, rule.Part{Expr: `"scope": ` + encode(p.scope), Value: verdict.String()})
	}
	for _, c := range p.conditions {
		r := run{env: env, notes: true}
		result.Parts = append(result.Parts, rule.Part{Expr: c.text, Value: r.statement(c)})
	}
	return result
}

// statement is what a condition came to, with the values behind it.
func (r *run) statement(c *condition) string {
	yes, err := c.judge(r)
	if err != nil {
		return fmt.Sprintf("%s (%s)", rule.Undecided, err)
	}
	verdict := rule.No
	if yes {
		verdict = rule.Yes
	}
	if len(r.seen) == 0 {
		return verdict.String()
	}
	return fmt.Sprintf("%s (%s)", verdict, clip(strings.Join(r.seen, ", ")))
}

// budget is the most steps that one evaluation takes: values, and bytes of texts that patterns read.
const budget = 100_000

// A run is one evaluation on one node.
type run struct {
	env   *Env
	steps int
	notes bool     // that are wanted:
	seen  []string // values that were read, for people
}

func (r *run) charge(path string, steps int) *Error {
	if r.steps += steps; r.steps > budget {
		return &Error{Code: TooCostly, Path: path, Msg: fmt.Sprintf("more than %d steps", budget)}
	}
	return nil
}

// inScope says whether the node's inspection_scope is the rule's.
func (r *run) inScope(scope string) bool {
	properties, _ := r.env.Node["properties"].(map[string]any)
	return properties["inspection_scope"] == scope
}
