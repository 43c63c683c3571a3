package inspection

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An argument is a value of args: as it stands in the rule, or a string with templates.
type argument struct {
	path    string
	literal any
	parts   []part // when there are templates
	source  string
}

// A part of a template is text, or what is read.
type part struct {
	text string
	ref  *ref
}

var (
	// braces are what str.format of Python takes apart: doubled braces, fields, braces that are neither, text.
	braces = regexp.MustCompile(`\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+`)
	// quantifier is what a pattern has in braces. In Ironic it makes the whole string stay as it is.
	quantifier = regexp.MustCompile(`^\{[0-9]*,?[0-9]*\}$`)
	field      = regexp.MustCompile(`^\{(inventory|plugin_data|node|item)((?:\.\w+|\[[^\[\]{}]+\])*)\}$`)
	rooted     = regexp.MustCompile(`^\{(inventory|plugin_data|node|item)\b`)
	access     = regexp.MustCompile(`\.(\w+)|\[([^\[\]]+)\]`)
)

// secrets are what Ironic shows to rules as ***.
var secrets = []string{"password", "auth_token", "bmc_password"}

// argument reads a value of args. item is what the loop is at.
func (c *checker) argument(path string, raw any, item *loopItem) *argument {
	a := &argument{path: path, literal: c.number(path, raw)}
	switch v := a.literal.(type) {
	case []any, map[string]any:
		c.fault(BadValue, path, "%s is no value here; write a string, a number, true, false or null", typeName(v))
	case string:
		if err := c.template(a, v, item); err != nil {
			c.fault(BadPath, path, "%v", err)
		}
	}
	return a
}

var errBraces = errors.New("a string with templates has other braces, too, so that Ironic would leave it as it is; write {{ and }} for those")

// template takes a string apart as str.format of Python does. A string in which braces stand for something else, such
// as the pattern [0-9]{2}, stays as it is in Ironic.
func (c *checker) template(a *argument, src string, item *loopItem) error {
	a.source = src
	var plain strings.Builder
	templates, other := false, false
	for _, word := range braces.FindAllString(src, -1) {
		switch {
		case word == "{{" || word == "}}":
			word = word[:1]
			fallthrough
		case !strings.ContainsAny(word, "{}"):
			plain.WriteString(word)
			a.parts = append(a.parts, part{text: word})
		case rooted.MatchString(word):
			p, err := c.part(a.path, word, item)
			if err != nil {
				return err
			}
			templates = true
			a.parts = append(a.parts, p)
		case quantifier.MatchString(word) || len(word) == 1:
			other = true
		default:
			return fmt.Errorf("there is no %s; there are {inventory[..]}, {plugin_data[..]}, {node.name}, in a loop {item}, and {{ for a brace", quote(word))
		}
	}
	switch {
	case templates && other:
		return errBraces
	case !templates && !other:
		a.literal = plain.String()
	}
	if !templates {
		a.parts = nil
	}
	return nil
}

// part reads one template. The names of an inventory stand in brackets, the first one of a node behind a dot: what is
// written in another way stays as it is in Ironic, and matches nothing.
func (c *checker) part(path, word string, item *loopItem) (part, error) {
	found := field.FindStringSubmatch(word)
	if found == nil {
		return part{}, fmt.Errorf("%s has a conversion or a format, which are not supported; write names only, as in {inventory[cpu][count]}", quote(word))
	}
	root := found[1]
	var steps []step
	for i, a := range access.FindAllStringSubmatch(found[2], -1) {
		name := a[1] + a[2]
		switch {
		case (a[1] != "") != (root == "node" && i == 0):
			return part{}, fmt.Errorf("%s names nothing in Ironic; write %s", quote(word), spelled(root, found[2]))
		case slices.Contains(secrets, name):
			return part{}, fmt.Errorf("%s is a secret, which Ironic shows to rules as *** and muster does not have", quote(word))
		}
		if n, err := strconv.ParseUint(name, 10, 16); err == nil {
			steps = append(steps, step{kind: index, index: int(n)})
			continue
		}
		steps = append(steps, step{name: name})
	}
	switch {
	case root == "item":
		s, err := item.text(word, steps)
		return part{text: s}, err
	case len(steps) == 0:
		return part{}, fmt.Errorf("%s is an object; name one of its members, as in {inventory[cpu][count]}", quote(word))
	case len(steps) > maxSteps:
		return part{}, fmt.Errorf("%s has more than %d names", quote(word), maxSteps)
	}
	f := c.ref(path, strings.Trim(word, "{}"), root, steps)
	if f.object {
		return part{}, fmt.Errorf(errObject, quote(word))
	}
	return part{ref: f}, nil
}

// spelled is a template as Ironic wants it.
func spelled(root, names string) string {
	s := "{" + root
	for i, a := range access.FindAllStringSubmatch(names, -1) {
		if root == "node" && i == 0 {
			s += "." + a[1] + a[2]
		} else {
			s += "[" + a[1] + a[2] + "]"
		}
	}
	return s + "}"
}

// value is an argument on a node. missing says that what a template names is not there: in Ironic the string stays as
// it is then.
func (a *argument) value(r *run) (v any, missing bool, err *Error) {
	if a.parts == nil {
		return a.literal, false, nil
	}
	var b strings.Builder
	for _, p := range a.parts {
		if p.ref == nil {
			b.WriteString(p.text)
			continue
		}
		found, gap, err := r.read(a.path, p.ref)
		switch {
		case err != nil:
			return nil, false, err
		case gap != "":
			return nil, false, &Error{Code: Incomplete, Path: a.path, Msg: gap}
		case len(found) == 0:
			r.absent(p.ref)
			return a.source, true, nil
		}
		r.note(found[0])
		s, ok := text(found[0])
		if !ok {
			return nil, false, &Error{Code: RuleFailed, Path: a.path, Msg: fmt.Sprintf(errObject, p.ref.label)}
		}
		b.WriteString(s)
	}
	return b.String(), false, nil
}

// reads says that an argument is read of a node, and so is a string, always.
func (a *argument) reads() bool {
	return slices.ContainsFunc(a.parts, func(p part) bool { return p.ref != nil })
}

// A loopItem is what {item} stands for; nil outside of a loop.
type loopItem struct{ value any }

// text is what a template of the item comes to. It is known when the rule is saved.
func (l *loopItem) text(word string, steps []step) (string, error) {
	if l == nil {
		return "", fmt.Errorf("%s stands outside of a loop; write loop: beside args", quote(word))
	}
	found, err := find(l.value, steps)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s is not in %s of the loop", quote(word), show(l.value))
	}
	s, ok := text(found[0])
	switch {
	case !ok:
		return "", fmt.Errorf("%s is an object; name one of its members", quote(word))
	case strings.ContainsAny(s, "{}"):
		return "", fmt.Errorf("%s of the loop has braces, which Ironic reads twice; write the template in args", quote(s))
	}
	return s, nil
}
