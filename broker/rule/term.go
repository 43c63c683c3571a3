package rule

import (
	"regexp"
	"strconv"
	"strings"
)

// A term is one node of a compiled rule. A front end (the text one is parse.go) reads its own notation and builds terms
// with the methods of checker, which hold every law of types; printing, evaluating and explaining know terms only. A
// second notation, such as Razor's JSON arrays, is another front end and touches nothing below.
type term struct {
	shape shape
	word  string // an operator's sign, a function's or unit's name
	typ   *typ
	args  []*term
	eval  func(*run, *term) value
	op    *operator // of an infix
	fn    *function // of a call

	konst   value          // of a literal, or of a term whose arguments are all literals
	folded  bool           // konst is the value on every node
	live    bool           // the node is asked, though all arguments are constant
	ref     *ref           // of a fact
	pattern *regexp.Regexp // of matches
	weight  int            // steps that 16 bytes cost the pattern
}

// A shape is how a term is written.
type shape uint8

const (
	literal shape = iota // 12, "r12", true
	unit                 // GiB
	listing              // ["a", "b"]
	fact                 // facts.memory.total_bytes
	prefix               // not x, -x
	infix                // x and y
	call                 // len(x)
)

// A ref is a fact that a rule reads.
type ref struct {
	root string // "" for the element that a function such as any looks at
	path []step
	name string // as the schema names it: facts.disks[].transport
	tail string // the path alone as it is written: .transport
	text string // root and tail
	// falsy facts are false when they are absent from an object that is there; see field.
	falsy bool
}

// A step goes from a value to its member: to a key, or to an index from the start, or from the end when negative.
type step struct {
	key   string
	index int
	list  bool
}

func (s step) String() string {
	switch {
	case s.list:
		return "[" + strconv.Itoa(s.index) + "]"
	case isIdentifier(s.key):
		return "." + s.key
	}
	return "[" + strconv.Quote(s.key) + "]"
}

// isIdentifier says that a key can be written with a dot before it.
func isIdentifier(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Binding strength of what stands around an operand; an operand that binds less is put in brackets. The figures are
// those of the parser, but for not: "not x == y" is read as "(not x) == y", so not prints its brackets there.
const (
	bindOr      = 10
	bindAnd     = 15
	bindNot     = 18
	bindCompare = 20
	bindAdd     = 30
	bindTimes   = 60
	bindMinus   = 90
	bindTight   = 1000
)

func (t *term) binding() int {
	switch t.shape {
	case prefix:
		if t.word == "not" {
			return bindNot
		}
		return bindMinus
	case infix:
		return t.op.binding
	}
	return bindTight
}

// String is the canonical text of a term: parsing it gives the term again.
func (t *term) String() string {
	var b strings.Builder
	t.print(&b)
	return b.String()
}

func (t *term) print(b *strings.Builder) {
	switch t.shape {
	case literal:
		b.WriteString(t.literal())
	case unit:
		b.WriteString(t.word)
	case fact:
		b.WriteString(t.ref.String())
	case listing:
		t.printArgs(b, "[", "]")
	case call:
		t.printArgs(b, t.word+"(", ")")
	case prefix:
		t.printPrefix(b)
	case infix:
		t.printInfix(b)
	}
}

func (t *term) printArgs(b *strings.Builder, open, shut string) {
	b.WriteString(open)
	for i, arg := range t.args {
		if i > 0 {
			b.WriteString(", ")
		}
		arg.print(b)
	}
	b.WriteString(shut)
}

func (t *term) printPrefix(b *strings.Builder) {
	if t.word == "not" {
		b.WriteString("not ")
		t.args[0].printIn(b, t.args[0].shape == infix)
		return
	}
	b.WriteString(t.word)
	t.args[0].printIn(b, t.args[0].binding() < bindTight)
}

func (t *term) printInfix(b *strings.Builder) {
	own := t.binding()
	left, right := t.args[0].binding(), t.args[1].binding()
	t.args[0].printIn(b, left < own || left == own && own == bindCompare)
	b.WriteString(" " + t.word + " ")
	t.args[1].printIn(b, right <= own)
}

func (t *term) printIn(b *strings.Builder, brackets bool) {
	if !brackets {
		t.print(b)
		return
	}
	b.WriteByte('(')
	t.print(b)
	b.WriteByte(')')
}

// literal is the full text of a constant; value.String would clip it.
func (t *term) literal() string {
	if t.konst.kind == kindString {
		return strconv.Quote(t.konst.s)
	}
	return t.konst.String()
}

func (r *ref) String() string {
	if r.root == "" && (r.tail == "" || r.tail[0] == '[') {
		return "#" + r.tail
	}
	return r.text
}
