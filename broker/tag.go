package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Tag is a named rule over facts, metadata and state.
type Tag struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Rule Rule   `json:"rule"`
}

// A Rule is the text of a rule: muster's language (package broker/rule), Razor's when it begins with [ (package
// broker/rule/razor), or Ironic's when it begins with { (package broker/rule/inspection). It may be written as the list
// or the map that it is, and is kept as text.
type Rule string

// UnmarshalJSON takes the text of a rule, the list that a rule in Razor's language is, or the map that one in Ironic's is.
func (r *Rule) UnmarshalJSON(doc []byte) error {
	if len(doc) == 0 || doc[0] != '[' && doc[0] != '{' {
		return json.Unmarshal(doc, (*string)(r))
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return fmt.Errorf("read rule: %w", err)
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // > stays what the operator wrote
	err := enc.Encode(tree)
	*r = Rule(strings.TrimSuffix(text.String(), "\n"))
	return err
}

// A document is one object as an operator wrote it.
type document map[string]any

// UnmarshalYAML reads an object. A rule that is a list or a map keeps its numbers as they are written: Razor and Ironic
// tell 5 from 5.0, Razor bounds no integer, and YAML's values do neither.
func (d *document) UnmarshalYAML(node ast.Node) error {
	var fields map[string]any
	if err := yaml.NodeToValue(node, &fields); err != nil {
		return err
	}
	if object, ok := node.(*ast.MappingNode); ok {
		for _, field := range object.Values {
			name := field.Key.GetToken().Value
			switch field.Value.(type) {
			case *ast.SequenceNode, *ast.MappingNode:
			default:
				continue
			}
			if !slices.Contains(ruleFields, name) {
				continue
			}
			var err error
			if fields[name], err = asWritten(field.Value); err != nil {
				return err
			}
		}
	}
	*d = fields
	return nil
}

// ruleFields are the fields of objects that hold rules.
var ruleFields = []string{"rule", "where"}

// jsonNumber is a number as JSON writes it (RFC 8259, section 6).
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// asWritten is the value of a node, in which what JSON writes as a number is one.
func asWritten(node ast.Node) (any, error) {
	switch n := node.(type) {
	case *ast.MappingNode:
		object := make(map[string]any, len(n.Values))
		for _, field := range n.Values {
			v, err := asWritten(field.Value)
			if err != nil {
				return nil, err
			}
			object[field.Key.GetToken().Value] = v
		}
		return object, nil
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for _, item := range n.Values {
			v, err := asWritten(item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
		if t := n.GetToken(); t.Type != token.DoubleQuoteType && t.Type != token.SingleQuoteType && jsonNumber.MatchString(t.Value) {
			return json.Number(t.Value), nil
		}
	}
	var v any
	return v, yaml.NodeToValue(node, &v)
}
