package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// A checker walks a template and keeps the first fault.
type checker struct {
	tree   *parse.Tree
	format format
	parts  map[string]string
	within string // name of the template
	line   string // from its beginning to the node, values as {{}}
	err    error
}

func (c *checker) fault(n parse.Node, format string, args ...any) {
	if c.err == nil {
		at, what := c.tree.ErrorContext(n)
		c.err = fmt.Errorf("%s: %s: %s", at, what, fmt.Sprintf(format, args...))
	}
}

func (c *checker) list(l *parse.ListNode, loops int) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		c.node(n, loops)
	}
}

func (c *checker) node(n parse.Node, loops int) {
	switch n := n.(type) {
	case *parse.TextNode:
		c.text(n)
	case *parse.ActionNode:
		c.action(n)
	case *parse.IfNode:
		c.branch(&n.BranchNode, loops)
	case *parse.WithNode:
		c.branch(&n.BranchNode, loops)
	case *parse.RangeNode:
		c.loop(n, loops+1)
	case *parse.TemplateNode:
		c.part(n)
	case *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
	default:
		c.fault(n, "is not understood")
	}
}

// part lets a template take in one of its parts; parts take in none, so that none takes in itself.
func (c *checker) part(n *parse.TemplateNode) {
	if _, ok := c.parts[n.Name]; !ok {
		c.fault(n, "there is no part %q: there are %q", n.Name, slices.Sorted(maps.Keys(c.parts)))
	}
	if _, inPart := c.parts[c.within]; inPart {
		c.fault(n, "a part takes in no other")
	}
	if n.Pipe != nil {
		c.pipe(n.Pipe)
	}
}

func (c *checker) branch(n *parse.BranchNode, loops int) {
	c.pipe(n.Pipe)
	c.list(n.List, loops)
	c.list(n.ElseList, loops)
}

// loop lets a template go through a list that is a field, and two more inside it: their sizes are bounded, a number's
// is not.
func (c *checker) loop(n *parse.RangeNode, loops int) {
	only := false
	if len(n.Pipe.Cmds) == 1 && len(n.Pipe.Cmds[0].Args) == 1 {
		switch over := n.Pipe.Cmds[0].Args[0].(type) {
		case *parse.FieldNode:
			only = true
		case *parse.VariableNode:
			only = len(over.Ident) > 1 // $.Node.Tags; a variable alone may be a number
		}
	}
	if !only || loops > 2 {
		c.fault(n, "range goes over a field such as .Node.Tags, at most two deep")
	}
	c.branch(&n.BranchNode, loops)
}

// text takes in what stands before the next value, and refuses it when that would stand in quotes that are the text's
// own: there they are not ended by a value's, and $() or " in it would be read.
func (c *checker) text(n *parse.TextNode) {
	s := string(n.Text)
	if at := strings.LastIndexByte(s, '\n'); at >= 0 {
		c.line = s[at+1:]
	} else {
		c.line += s
	}
	if c.format.open == nil {
		return
	}
	if in := c.format.open(s); in != "" {
		c.fault(n, "%s is not closed before a value or a condition comes: values bring their own quotes", in)
	}
}

// action checks what is printed: its last command quotes, and the format can have a value there.
func (c *checker) action(n *parse.ActionNode) {
	c.pipe(n.Pipe)
	if len(n.Pipe.Decl) > 0 {
		return // prints nothing
	}
	last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1]
	f, ok := last.Args[0].(*parse.IdentifierNode)
	switch {
	case ok && f.Ident == "fail":
	case !ok || c.format.quotes[f.Ident] == nil:
		c.fault(n, "a value is printed as it is: write {{ ... | %s}}", strings.Join(slices.Sorted(maps.Keys(c.format.quotes)), " or "))
	case c.format.at != nil && !c.format.at(f.Ident, c.line):
		c.fault(n, "{{ ... | %s}} stands for a whole value, and here it is a part of one", f.Ident)
	}
	c.line += "{{}}"
}

// pipe checks the functions that are called.
func (c *checker) pipe(p *parse.PipeNode) {
	for _, cmd := range p.Cmds {
		for _, a := range cmd.Args {
			switch a := a.(type) {
			case *parse.IdentifierNode:
				if functions[a.Ident] == nil && c.format.quotes[a.Ident] == nil && !slices.Contains(builtins, a.Ident) {
					c.fault(a, "there is no function %s here", a.Ident)
				}
			case *parse.PipeNode:
				c.pipe(a)
			case *parse.ChainNode:
				c.fault(a, "is not understood")
			}
		}
	}
}
