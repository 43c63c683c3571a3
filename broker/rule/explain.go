package rule

import "fmt"

// A Part is one statement of a rule with what it came to on a node.
type Part struct {
	Expr  string // the statement, or an operand of one that has to be computed
	Value string // "no (2 < 12)", "2", "undecided (facts.memory.total_bytes is not known)"
}

// explain appends the parts of the boolean skeleton: what and, or and not join, each part once. Nothing is cut short
// here, so that the reader sees every statement.
func (r *run) explain(parts []Part, t *term) []Part {
	if t.word == "and" || t.word == "or" || t.word == "not" && t.shape == prefix {
		for _, arg := range t.args {
			parts = r.explain(parts, arg)
		}
		return parts
	}
	return addPart(r.operands(parts, t), t.String(), r.statement(t))
}

func addPart(parts []Part, expr, value string) []Part {
	for _, p := range parts {
		if p.Expr == expr {
			return parts
		}
	}
	return append(parts, Part{expr, value})
}

// operands are the sides of a comparison that no fact shows by itself, such as len(facts.disks).
func (r *run) operands(parts []Part, t *term) []Part {
	if t.shape != infix {
		return parts
	}
	for _, arg := range t.args {
		if !arg.folded && arg.shape != fact {
			parts = addPart(parts, arg.String(), r.operand(arg))
		}
	}
	return parts
}

func (r *run) operand(t *term) string {
	v := r.value(t)
	if v.isUnknown() && v.ranged {
		return fmt.Sprintf("%s (%s)", v, v.s)
	}
	if v.isUnknown() {
		return fmt.Sprintf("unknown (%s)", v.s)
	}
	return v.String()
}

// statement is the verdict of a part with the values behind it.
func (r *run) statement(t *term) string {
	r.witness = ""
	v := r.want(t, kindBool)
	verdict := v.verdict()
	detail := v.s
	if verdict != Undecided {
		detail = r.detail(t, verdict)
	}
	if detail == "" {
		return verdict.String()
	}
	return fmt.Sprintf("%s (%s)", verdict, detail)
}

// opposites turns a comparison that does not hold into the one that does.
var opposites = map[string]string{"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}

func (r *run) detail(t *term, verdict Verdict) string {
	if t.shape == call && t.fn.each {
		return r.witnessed(t)
	}
	if t.shape == call && t.word != "known" {
		return r.seen(t)
	}
	if t.shape != infix {
		return ""
	}
	left, right := r.value(t.args[0]), r.value(t.args[1])
	sign := t.word
	if opposites[sign] == "" {
		return left.String()
	}
	if verdict == No {
		sign = opposites[sign]
	}
	return fmt.Sprintf("%s %s %s", left, sign, right)
}

// seen is the first argument that is not the same on every node.
func (r *run) seen(t *term) string {
	for _, arg := range t.args {
		if !arg.folded {
			return r.value(arg).String()
		}
	}
	return ""
}

// witnessed names the element that decided, else how many there were to look at.
func (r *run) witnessed(t *term) string {
	if r.witness != "" {
		return r.witness
	}
	list := r.value(t.args[0])
	if t.word == "one" {
		return fmt.Sprintf("%s of %d", evalCount(r, t), list.items())
	}
	if t.word == "all" {
		return fmt.Sprintf("each of %d", list.items())
	}
	return fmt.Sprintf("none of %d", list.items())
}
