package rule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// Limits of one rule. A rule of people is far below all of them.
const (
	maxSource  = 4096 // bytes
	maxTerms   = 1000
	maxDepth   = 64 // terms inside terms
	maxNesting = 3  // any inside any inside any
)

// Compile parses and checks one rule. Its error is always an *Error.
func (s *Schema) Compile(src string) (*Program, error) {
	c := &checker{schema: s, src: src, refs: map[string]bool{}, tags: map[string]string{}}
	root, fault := c.compile()
	if fault != nil {
		return nil, fault
	}
	return &Program{root: root, refs: c.refs, tags: c.tags}, nil
}

func (c *checker) compile() (*term, *Error) {
	if len(c.src) > maxSource {
		return nil, c.fault(maxSource, "the rule is longer than %d bytes", maxSource)
	}
	if strings.TrimSpace(c.src) == "" {
		return nil, c.fault(0, "the rule is empty; write true for a tag that every node carries")
	}
	for i, r := range c.src {
		if r == utf8.RuneError && !strings.HasPrefix(c.src[i:], string(utf8.RuneError)) {
			return nil, c.faultAt(i, "the rule is not UTF-8 text")
		}
	}
	tree, fault := c.parse()
	if fault != nil {
		return nil, fault
	}
	root, fault := c.lower(tree)
	if fault != nil {
		return nil, fault
	}
	if !root.typ.fits(kindBool) {
		return nil, c.fault(0, "a rule is true or false; %s is %s", root, root.typ.kind.withArticle())
	}
	return root, nil
}

// parse hands the text to expr. It is guarded: the parser is not ours, and the text is from outside.
func (c *checker) parse() (node ast.Node, fault *Error) {
	defer func() {
		if r := recover(); r != nil {
			node, fault = nil, c.fault(0, "the rule cannot be parsed: %v", r)
		}
	}()
	tree, err := parser.Parse(c.src)
	if err == nil {
		return tree.Node, nil
	}
	var where *file.Error
	if errors.As(err, &where) {
		return nil, c.fault(where.From, "%s", where.Message)
	}
	return nil, c.fault(0, "%v", err)
}

// lower turns expr's syntax tree into terms, or says which part of expr is not part of the rule language.
func (c *checker) lower(n ast.Node) (*term, *Error) {
	if n == nil {
		return nil, c.fault(0, "the rule is empty")
	}
	at := n.Location().From
	c.depth++
	defer func() { c.depth-- }()
	if c.depth > maxDepth {
		return nil, c.fault(at, "the rule is nested deeper than %d", maxDepth)
	}
	switch n := n.(type) {
	case *ast.IntegerNode:
		return c.literal(at, integer(int64(n.Value)), numberType)
	case *ast.FloatNode:
		return c.literal(at, number(n.Value, "the number"), numberType)
	case *ast.BoolNode:
		return c.literal(at, boolean(n.Value), boolType)
	case *ast.StringNode:
		return c.literal(at, text(n.Value), stringType)
	case *ast.ArrayNode:
		return c.lowerList(at, n)
	case *ast.IdentifierNode, *ast.PointerNode, *ast.MemberNode:
		return c.lowerName(n)
	case *ast.UnaryNode:
		return c.lowerUnary(at, n)
	case *ast.BinaryNode:
		return c.lowerBinary(at, n)
	case *ast.BuiltinNode:
		return c.lowerCall(at, n.Name, n.Arguments)
	case *ast.CallNode:
		name, ok := n.Callee.(*ast.IdentifierNode)
		if !ok {
			return nil, c.fault(at, "a fact cannot be called")
		}
		return c.lowerCall(at, name.Value, n.Arguments)
	}
	return nil, c.fault(at, "%s", foreign(n))
}

// foreign names what expr has and rules have not, with what to write instead.
func foreign(n ast.Node) string {
	switch n.(type) {
	case *ast.NilNode:
		return "there is no nil in a rule; write known(x) or not known(x)"
	case *ast.ConditionalNode:
		return "there is no if in a rule; write (a and x) or (not a and y)"
	case *ast.ChainNode:
		return "there is no ?. in a rule; write a dot, an absent fact makes the rule undecided"
	case *ast.VariableDeclaratorNode:
		return "there is no let in a rule"
	case *ast.SequenceNode:
		return "a rule is one expression; write and instead of ;"
	case *ast.SliceNode:
		return "there are no slices in a rule; write an index or any(list, ...)"
	case *ast.MapNode:
		return "there are no objects in a rule"
	case *ast.BytesNode:
		return "there are no bytes in a rule; write a string"
	}
	return "this is not part of a rule"
}

func (c *checker) lowerList(at int, n *ast.ArrayNode) (*term, *Error) {
	args, fault := c.lowerAll(n.Nodes)
	if fault != nil {
		return nil, fault
	}
	return c.listing(at, args)
}

func (c *checker) lowerAll(nodes []ast.Node) ([]*term, *Error) {
	args := make([]*term, 0, len(nodes))
	for _, n := range nodes {
		arg, fault := c.lower(n)
		if fault != nil {
			return nil, fault
		}
		args = append(args, arg)
	}
	return args, nil
}

// A hop is one step of a written path, with its place in the text.
type hop struct {
	step
	at int
}

// lowerName reads a whole path, such as facts.disks[0].name, .transport or GiB.
func (c *checker) lowerName(n ast.Node) (*term, *Error) {
	var hops []hop
	for {
		at := n.Location().From
		switch base := n.(type) {
		case *ast.IdentifierNode:
			return c.name(at, base.Value, reversed(hops))
		case *ast.PointerNode:
			if base.Name != "" {
				return nil, c.fault(at, "there is no #%s in a rule; # is the element", base.Name)
			}
			return c.element(at, reversed(hops))
		case *ast.MemberNode:
			if base.Optional {
				return nil, c.fault(at, "%s", foreign(&ast.ChainNode{}))
			}
			s, fault := c.readStep(base)
			if fault != nil {
				return nil, fault
			}
			hops = append(hops, hop{s, at})
			n = base.Node
		default:
			return nil, c.fault(at, "only a fact has members; write any(list, ...) to look into a list")
		}
		if len(hops) > maxDepth {
			return nil, c.fault(at, "the rule is nested deeper than %d", maxDepth)
		}
	}
}

func reversed(hops []hop) []hop {
	forward := make([]hop, 0, len(hops))
	for i := len(hops) - 1; i >= 0; i-- {
		forward = append(forward, hops[i])
	}
	return forward
}

func (c *checker) readStep(n *ast.MemberNode) (step, *Error) {
	property, sign := n.Property, 1
	if minus, ok := property.(*ast.UnaryNode); ok && minus.Operator == "-" {
		property, sign = minus.Node, -1
	}
	switch p := property.(type) {
	case *ast.StringNode:
		if sign == 1 {
			return step{key: p.Value}, nil
		}
	case *ast.IntegerNode:
		return step{index: sign * p.Value, list: true}, nil
	}
	return step{}, c.fault(n.Location().From, "what stands in [ ] is a number or a string in quotes")
}

func (c *checker) lowerUnary(at int, n *ast.UnaryNode) (*term, *Error) {
	x, fault := c.lower(n.Node)
	if fault != nil {
		return nil, fault
	}
	return c.prefix(at, n.Operator, x)
}

func (c *checker) lowerBinary(at int, n *ast.BinaryNode) (*term, *Error) {
	if operators[n.Operator] == nil {
		return nil, c.fault(at, "%s", foreignOperator(n.Operator))
	}
	left, fault := c.lower(n.Left)
	if fault != nil {
		return nil, fault
	}
	right, fault := c.lower(n.Right)
	if fault != nil {
		return nil, fault
	}
	return c.infix(at, n.Operator, left, right)
}

func foreignOperator(sign string) string {
	if sign == "??" {
		return "there is no ?? in a rule; write default(x, y)"
	}
	if sign == ".." {
		return "there are no ranges in a rule; write x >= 1 and x <= 5"
	}
	return fmt.Sprintf("there is no operator %s in a rule", sign)
}

func (c *checker) lowerCall(at int, name string, nodes []ast.Node) (*term, *Error) {
	fn := functions[name]
	if fn == nil {
		return nil, c.unknownFunction(at, name)
	}
	if len(nodes) < fn.least || fn.most > 0 && len(nodes) > fn.most {
		return nil, c.fault(at, "%s takes %s; write %s", name, fn.arity(), fn.usage)
	}
	var args []*term
	for i, n := range nodes {
		arg, fault := c.lowerArg(fn, i, n, args)
		if fault != nil {
			return nil, fault
		}
		args = append(args, arg)
	}
	return c.call(at, fn, args)
}

// lowerArg reads the test of a function such as any with the list's element in reach.
func (c *checker) lowerArg(fn *function, i int, n ast.Node, before []*term) (*term, *Error) {
	body, test := n.(*ast.PredicateNode)
	if !test {
		return c.lower(n)
	}
	if i != 1 || !fn.each {
		return nil, c.fault(n.Location().From, "%s takes no test", fn.name)
	}
	if fault := c.enter(n.Location().From, fn, before[0]); fault != nil {
		return nil, fault
	}
	defer c.leave()
	return c.lower(body.Node)
}

// arity says how many arguments a function takes.
func (fn *function) arity() string {
	switch {
	case fn.most == fn.least && fn.least == 1:
		return "1 argument"
	case fn.most == fn.least:
		return strconv.Itoa(fn.least) + " arguments"
	case fn.most > 0:
		return fmt.Sprintf("%d or %d arguments", fn.least, fn.most)
	}
	return fmt.Sprintf("at least %d arguments", fn.least)
}
