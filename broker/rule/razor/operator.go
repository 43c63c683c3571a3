package razor

import (
	"slices"
	"strings"
)

// types is a set of the types that a value may have.
type types uint8

const (
	null types = 1 << iota
	boolean
	number
	str
	pattern // a literal string that is a regular expression

	scalar = null | boolean | number | str
)

// typeNames are how errors call what an argument takes.
var typeNames = map[types]string{null: "null", boolean: "a boolean", number: "a number", str: "a string",
	pattern: "a pattern", scalar: "any scalar"}

func (t types) String() string { return typeNames[t] }

// An operator is a row of Razor's table. The last type of takes is also that of all further arguments; most is how many
// have a meaning, 0 is all of them.
type operator struct {
	names []string
	takes []types
	least int
	most  int
	gives types

	// decides marks and, or: the arguments are evaluated one by one until one is this value.
	decides *bool
	apply   func(*run, *term, []any) (any, *Error)
}

var yes, no = true, false

var operators = byName(
	operator{names: []string{"and"}, takes: []types{boolean}, least: 1, gives: boolean, decides: &no},
	operator{names: []string{"or"}, takes: []types{boolean}, least: 1, gives: boolean, decides: &yes},
	operator{names: []string{"not"}, takes: []types{boolean}, least: 1, most: 1, gives: boolean, apply: applyNot},
	operator{names: []string{"fact"}, takes: []types{str, scalar}, least: 1, most: 2, gives: scalar, apply: applyFact},
	operator{names: []string{"metadata"}, takes: []types{str, scalar}, least: 1, most: 2, gives: scalar, apply: applyMetadata},
	operator{names: []string{"state"}, takes: []types{str, str}, least: 1, most: 2, gives: scalar, apply: applyState},
	operator{names: []string{"tag"}, takes: []types{str}, least: 1, most: 1, gives: scalar, apply: applyTag},
	operator{names: []string{"eq", "="}, takes: []types{scalar}, least: 1, most: 2, gives: boolean, apply: applyEqual},
	operator{names: []string{"neq", "!="}, takes: []types{scalar}, least: 1, most: 2, gives: boolean, apply: applyNotEqual},
	operator{names: []string{"in"}, takes: []types{scalar}, least: 1, gives: boolean, apply: applyIn},
	operator{names: []string{"like"}, takes: []types{str, pattern}, least: 2, most: 2, gives: boolean, apply: applyLike},
	operator{names: []string{"gt", ">"}, takes: []types{number}, least: 2, most: 2, gives: boolean, apply: applyOrder(func(c int) bool { return c > 0 })},
	operator{names: []string{"gte", ">="}, takes: []types{number}, least: 2, most: 2, gives: boolean, apply: applyOrder(func(c int) bool { return c >= 0 })},
	operator{names: []string{"lt", "<"}, takes: []types{number}, least: 2, most: 2, gives: boolean, apply: applyOrder(func(c int) bool { return c < 0 })},
	operator{names: []string{"lte", "<="}, takes: []types{number}, least: 2, most: 2, gives: boolean, apply: applyOrder(func(c int) bool { return c <= 0 })},
	operator{names: []string{"num"}, takes: []types{scalar}, least: 1, most: 1, gives: number, apply: applyNum},
	operator{names: []string{"str"}, takes: []types{scalar}, least: 1, most: 1, gives: str, apply: applyStr},
	operator{names: []string{"lower"}, takes: []types{str}, least: 1, most: 1, gives: str, apply: applyLower},
	operator{names: []string{"upper"}, takes: []types{str}, least: 1, most: 1, gives: str, apply: applyUpper},
	operator{names: []string{"has_macaddress"}, takes: []types{str}, least: 1, gives: boolean, apply: applyMAC},
	operator{names: []string{"has_macaddress_like"}, takes: []types{pattern}, least: 1, gives: boolean, apply: applyMACLike},
)

func byName(list ...operator) map[string]*operator {
	named := map[string]*operator{}
	for _, op := range list {
		for _, name := range op.names {
			named[name] = &op
		}
	}
	return named
}

// operatorNames lists the operators for an error.
func operatorNames() string {
	var names []string
	for name := range operators {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// wants is what argument i takes, from 0.
func (op *operator) wants(i int) types { return op.takes[min(i, len(op.takes)-1)] }

// foldsCase says that the operator's patterns ignore case.
func (op *operator) foldsCase() bool { return op.names[0] == "has_macaddress_like" }
