package razor

import (
	"fmt"

	"muster/broker/rule"
)

// explain appends the parts that and, or and not join, each once. Nothing is cut short here, so that the reader sees
// every statement.
func (r *run) explain(parts []rule.Part, t *term) []rule.Part {
	if t.op != nil && (t.op.decides != nil || t.op.names[0] == "not") {
		for _, arg := range t.args {
			parts = r.explain(parts, arg)
		}
		return parts
	}
	expr := t.text()
	for _, p := range parts {
		if p.Expr == expr {
			return parts
		}
	}
	return append(parts, rule.Part{Expr: expr, Value: r.statement(t)})
}

// statement is what a part came to, with the values behind it.
func (r *run) statement(t *term) string {
	v, err := r.value(t)
	if err != nil {
		return fmt.Sprintf("%s (%s)", rule.Undecided, err)
	}
	verdict := rule.No
	if v == true {
		verdict = rule.Yes
	}
	if seen := r.seen(t, verdict); seen != "" {
		return fmt.Sprintf("%s (%s)", verdict, seen)
	}
	return verdict.String()
}

// signs are the comparisons as they are said when they hold, and when they do not.
var signs = map[string][2]string{"eq": {"=", "!="}, "neq": {"!=", "="}, "gt": {">", "<="}, "gte": {">=", "<"},
	"lt": {"<", ">="}, "lte": {"<=", ">"}}

// seen is what a statement looked at: both sides of a comparison, else the first argument. Its arguments were evaluated
// before, without an error.
func (r *run) seen(t *term, verdict rule.Verdict) string {
	if t.op == nil || t.op.names[0] == "has_macaddress" || t.op.foldsCase() {
		return ""
	}
	left, _ := r.value(t.args[0])
	sign, ok := signs[t.op.names[0]]
	if !ok {
		return show(left)
	}
	var right any
	if len(t.args) > 1 {
		right, _ = r.value(t.args[1])
	}
	said := sign[0]
	if verdict == rule.No {
		said = sign[1]
	}
	return fmt.Sprintf("%s %s %s", show(left), said, show(right))
}
