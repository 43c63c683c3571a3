package handoff

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// install is the template of that name: a shell function that installs the first package that there is.
//
//go:embed install.sh
var install string

// functions are all that a template may call; what text/template has beyond builtins could burn time or memory, or
// print without quoting.
var (
	functions = template.FuncMap{"sh": shellWord, "json": jsonText, "join": join}
	builtins  = []string{"and", "or", "not", "eq", "ne", "len", "index"}
)

// shellWord quotes for POSIX sh (2.2.2): between single quotes nothing has a meaning but the single quote.
func shellWord(v any) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("a value holds a zero byte, which no word of a shell can")
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

// text is a value as people write it: numbers without an exponent, and nothing for what is not there.
func text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []any, []string:
		return jsonText(v)
	}
	return fmt.Sprint(v), nil
}

// join puts a separator between the members of a list.
func join(list any, separator string) (string, error) {
	switch list := list.(type) {
	case nil:
		return "", nil
	case []string:
		return strings.Join(list, separator), nil
	case []any:
		words := make([]string, len(list))
		for i, v := range list {
			var err error
			if words[i], err = text(v); err != nil {
				return "", err
			}
		}
		return strings.Join(words, separator), nil
	}
	return "", fmt.Errorf("join of %T: want a list", list)
}

func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// parseText reads a template and refuses what could print a value unquoted or run without end.
func parseText(text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("it has over %d bytes", maxTemplate)
	}
	t := template.New("run").Option("missingkey=error").Funcs(functions)
	if _, err := t.New("install").Parse(install); err != nil {
		return nil, err
	}
	if _, err := t.Parse(text); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	if n := len(t.Templates()); n != 2 || t.Lookup("install").Root.String() != install {
		return nil, errors.New("define and block are not read: the template is one text")
	}
	c := checker{tree: t.Tree}
	c.list(t.Root, 0)
	return t, c.err
}

// A checker walks a template and keeps the first fault.
type checker struct {
	tree *parse.Tree
	last string // the text before the node
	err  error
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
		c.last = string(n.Text)
	case *parse.ActionNode:
		c.action(n)
	case *parse.IfNode:
		c.branch(&n.BranchNode, loops)
	case *parse.WithNode:
		c.branch(&n.BranchNode, loops)
	case *parse.RangeNode:
		c.loop(n, loops+1)
	case *parse.TemplateNode:
		if n.Name != "install" {
			c.fault(n, "there is no template but install")
		}
	case *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
	default:
		c.fault(n, "is not understood")
	}
}

func (c *checker) branch(n *parse.BranchNode, loops int) {
	c.pipe(n.Pipe)
	c.list(n.List, loops)
	c.list(n.ElseList, loops)
}

// loop lets a template go through a list of the node's, and one more inside it: their sizes are bounded, a number's is
// not.
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

// action checks what is printed: its last command is sh, and no quote stands before it.
func (c *checker) action(n *parse.ActionNode) {
	c.pipe(n.Pipe)
	if len(n.Pipe.Decl) > 0 {
		return // prints nothing
	}
	last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1]
	if f, ok := last.Args[0].(*parse.IdentifierNode); !ok || f.Ident != "sh" {
		c.fault(n, "a value is printed as it is: write {{ ... | sh}}")
	}
	if strings.HasSuffix(c.last, "'") || strings.HasSuffix(c.last, `"`) {
		c.fault(n, "sh quotes by itself: no quote goes before it")
	}
	c.last = ""
}

// pipe checks the functions that are called.
func (c *checker) pipe(p *parse.PipeNode) {
	for _, cmd := range p.Cmds {
		for _, a := range cmd.Args {
			switch a := a.(type) {
			case *parse.IdentifierNode:
				if _, own := functions[a.Ident]; !own && !slices.Contains(builtins, a.Ident) {
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
