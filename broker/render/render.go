// Package render is the language of everything that muster writes for another program to read: recipes of installers,
// files of installed systems, scripts of handoffs. It is text/template with one law: each value that is printed ends in
// a function that quotes it for the file's format, as in {{.Node.Hostname | sh}}. A template that prints a value
// otherwise is refused when it is read, and a value that the format can not hold fails the rendering: no hardware,
// name or metadata becomes a command, a key or an element (T18).
//
// What a template may do is closed: fields and methods of the values it is given, the functions below, if, with, and
// range over a list that is a field, three deep. It can not loop, call or grow without bound.
//
//	sh       one word of a POSIX shell; a list as JSON                      formats sh, ks, preseed
//	ks       one word of a kickstart line (pykickstart splits as shlex)     format ks
//	preseed  the rest of a debconf line                                     format preseed
//	yaml     a scalar or a list in flow style, as JSON                      format yaml
//	json     a value as JSON                                                format json
//	xml      character data or an attribute's value                        format xml
//	ps       a PowerShell string                                            format ps
//	arg      a value on a kernel's command line                             format arg
//	line     text without control characters                               format text
//	word     letters, digits and ._:/@+,=~[]- only                          formats text, cmd, ks
//
// Anywhere in a pipe: json, join LIST SEPARATOR, append LIST TEXT..., base64, has LIST VALUE, fail TEXT (ends the
// rendering with that error), address and netmask of an address with its prefix length, and and, or, not, eq, ne, len,
// index of text/template.
package render

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// Bounds of what is written and rendered, in bytes.
const (
	MaxTemplate = 64 << 10
	MaxOutput   = 1 << 20
)

// A Template is a text that was read and found safe.
type Template struct{ of *template.Template }

// Parse reads a template in a format (see Formats). parts are other texts in the same format that it may take in, as in
// {{template "part" .}}.
func Parse(format, text string, parts map[string]string) (*Template, error) {
	f, ok := formats[format]
	if !ok {
		return nil, fmt.Errorf("format %q: want one of %s", format, strings.Join(Formats(), ", "))
	}
	t := template.New("template").Option("missingkey=error").Funcs(functions)
	t.Funcs(f.quotes)
	trees := map[string]*parse.Tree{}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		part, err := read(t.New(name), parts[name])
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", name, err)
		}
		trees[name] = part.Tree
	}
	if _, err := read(t, text); err != nil {
		return nil, err
	}
	for _, each := range t.Templates() {
		if was, part := trees[each.Name()]; each != t && (!part || was != each.Tree) {
			return nil, errors.New("define and block are not read: a template is one text")
		}
	}
	for _, each := range t.Templates() {
		c := checker{tree: each.Tree, format: f, parts: parts, within: each.Name()}
		c.list(each.Root, 0)
		if c.err != nil {
			return nil, c.err
		}
	}
	return &Template{t}, nil
}

func read(t *template.Template, text string) (*template.Template, error) {
	if len(text) > MaxTemplate {
		return nil, fmt.Errorf("it has over %d bytes", MaxTemplate)
	}
	if _, err := t.Parse(text); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

// Execute renders, at most MaxOutput bytes.
func (t *Template) Execute(values any) (string, error) {
	w := &bounded{left: MaxOutput}
	if err := t.of.Execute(w, values); err != nil {
		var refusal Refusal
		if errors.As(err, &refusal) {
			return "", refusal // in the words of its author: where it stands helps nobody
		}
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return w.text.String(), nil
}

// bounded is a buffer that a template can not fill without end.
type bounded struct {
	text strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("what is rendered is over %d bytes", MaxOutput)
	}
	return b.text.Write(p)
}
