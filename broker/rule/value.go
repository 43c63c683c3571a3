package rule

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A kind is what a value is. kindAny is only the type of a fact whose kind is not known before a node is seen.
type kind uint8

const (
	kindUnknown kind = iota
	kindAny
	kindBool
	kindNumber
	kindString
	kindList
	kindObject
)

var kindNames = [...]string{"unknown", "any", "boolean", "number", "string", "list", "object"}

func (k kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("unknown (%d)", uint8(k))
}

// withArticle is for sentences: "is a number".
func (k kind) withArticle() string {
	if k == kindObject {
		return "an object"
	}
	return "a " + k.String()
}

// Incomplete stands in a tree for a section of which some could not be read. What is there is true, but anything may be
// missing below it: members of lists, which are then lower bounds, and of objects, which are then not known.
type Incomplete struct {
	Tree any
	Why  string // a clause that names the section: facts.disks is incomplete: timeout: sdb: no answer
}

// opened is what stands in a tree, and why it may lack things: lacks is that of what it stands in.
func opened(raw any, lacks string) (any, string) {
	if section, ok := raw.(Incomplete); ok {
		return section.Tree, section.Why
	}
	return raw, lacks
}

// A value is what a term is worth on one node.
type value struct {
	kind  kind
	float bool    // a number in f, not in i
	known bool    // of a bool: its truth
	f     float64 // a number with a fraction, finite
	i, j  int64   // a number is i; a count that is not known is at least i and, when ranged, at most j
	// ranged marks an unknown that still has the bounds i and j, such as a count over disks of which one is unclear.
	ranged bool
	s      string // the text of a string, the name of a list, the cause of an unknown
	more   string // of a list: why more may belong to it; "" when it is whole
	data   any    // a list: []any, []string or []item; an object: its map
}

// An item is a member of a list that filter has passed through.
type item struct {
	raw   any
	at    int    // index in the list it came from
	doubt string // why it is not sure that the item belongs to the list; "" when it does
}

func boolean(b bool) value       { return value{kind: kindBool, known: b} }
func integer(i int64) value      { return value{kind: kindNumber, i: i} }
func text(s string) value        { return value{kind: kindString, s: s} }
func unknown(cause string) value { return value{kind: kindUnknown, s: cause} }
func (v value) isYes() bool      { return v.kind == kindBool && v.known }
func (v value) isNo() bool       { return v.kind == kindBool && !v.known }
func (v value) isUnknown() bool  { return v.kind == kindUnknown }
func (v value) interval() bool   { return v.isUnknown() && v.ranged }
func between(i, j int64, why string) value {
	if i == j {
		return integer(i)
	}
	return value{kind: kindUnknown, ranged: true, i: i, j: j, s: why}
}

// notKnown is a fact that is absent. lacks says why more may be there than was seen.
func notKnown(name, lacks string) value {
	if lacks != "" {
		return unknown(name + " is not known (" + lacks + ")")
	}
	return unknown(name + " is not known")
}

// atLeast is a count of which only the lower bound is known.
func atLeast(i int64, why string) value { return between(i, math.MaxInt64, why) }

// number makes a value of a float; a result that is not finite has no meaning to a rule.
func number(f float64, name string) value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return unknown(name + " is too large")
	}
	return value{kind: kindNumber, float: true, f: f}
}

// verdict is what a boolean value says of a node.
func (v value) verdict() Verdict {
	switch {
	case v.isYes():
		return Yes
	case v.isNo():
		return No
	}
	return Undecided
}

// scalar reads a member of a JSON tree that needs no name: a boolean, a string or a number.
func scalar(raw any) (value, bool) {
	switch x := raw.(type) {
	case bool:
		return boolean(x), true
	case string:
		return text(x), true
	case int64:
		return integer(x), true
	case int:
		return integer(int64(x)), true
	case float64:
		v := number(x, "")
		return v, !v.isUnknown()
	}
	return value{}, false
}

// fromTree reads any member of a JSON tree. JSON null is a fact that is not known.
func fromTree(raw any, name string) value {
	if v, ok := scalar(raw); ok {
		return v
	}
	switch x := raw.(type) {
	case nil:
		return notKnown(name, "")
	case float64:
		return number(x, name)
	case json.Number:
		return fromNumber(x, name)
	case []any, []string, []item:
		return value{kind: kindList, data: x, s: name}
	case map[string]any, map[string]string:
		return value{kind: kindObject, data: x}
	}
	return unknown(fmt.Sprintf("%s is a Go %T, not a JSON tree", name, raw))
}

// fromNumber keeps integers of 64 bits exact.
func fromNumber(n json.Number, name string) value {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return integer(i)
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return unknown(fmt.Sprintf("%s is not a number: %q", name, clip(string(n))))
	}
	return number(f, name)
}

// items is the length of a list, and item its member i.
func (v value) items() int {
	switch data := v.data.(type) {
	case []any:
		return len(data)
	case []string:
		return len(data)
	case []item:
		return len(data)
	}
	return 0
}

func (v value) item(i int) item {
	switch data := v.data.(type) {
	case []any:
		return item{raw: data[i], at: i}
	case []string:
		return item{raw: data[i], at: i}
	case []item:
		return data[i]
	}
	return item{}
}

// String is the value as an operator reads it.
func (v value) String() string {
	switch v.kind {
	case kindBool:
		return strconv.FormatBool(v.known)
	case kindNumber:
		if v.float {
			return formatFloat(v.f)
		}
		return strconv.FormatInt(v.i, 10)
	case kindString:
		return strconv.Quote(clip(v.s))
	case kindList:
		return fmt.Sprintf("a list of %d", v.items())
	case kindObject:
		return "an object"
	}
	switch {
	case v.ranged && v.j == math.MaxInt64:
		return fmt.Sprintf("at least %d", v.i)
	case v.ranged:
		return fmt.Sprintf("%d to %d", v.i, v.j)
	}
	return "unknown"
}

// formatFloat writes a number so that it reads back as one with a fraction.
func formatFloat(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if strings.ContainsAny(s, ".e") {
		return s
	}
	return s + ".0"
}

// clip bounds a fact's text in causes and parts: facts are written by machines that are not trusted.
func clip(s string) string {
	const most = 80
	runes := 0
	for i := range s {
		if runes == most {
			return s[:i] + "..."
		}
		runes++
	}
	return s
}
