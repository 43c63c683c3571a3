package task

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
	"mvdan.cc/sh/v3/syntax"

	"muster/boot/kargs"
)

// A token is one element of a text's structure, as a parser of its format reads it. Two texts of one structure have the
// same kinds in the same order.
type token struct{ kind, text string }

// readers give the structure of a text, by its format.
var readers = map[string]func(string) ([]token, error){
	"sh": shellTokens, "ks": kickstartTokens, "preseed": preseedTokens, "yaml": yamlTokens, "json": jsonTokens, "xml": xmlTokens,
	"ps": powerShellTokens, "text": lineTokens, "cmd": lineTokens, "step": stepTokens, "esxi": esxiTokens,
}

func tokens(format, text string) ([]token, error) {
	read, ok := readers[format]
	if !ok {
		return nil, fmt.Errorf("no test reads the format %s", format)
	}
	list, err := read(text)
	if err != nil {
		return nil, err
	}
	return unpacked(list)
}

// unpacked reads the scripts and documents that stand in values as data URLs.
func unpacked(list []token) (all []token, err error) {
	for _, t := range list {
		packed, isData := strings.CutPrefix(t.text, "data:;base64,")
		switch {
		case isData:
			text, err := base64.StdEncoding.DecodeString(packed)
			if err != nil {
				return nil, fmt.Errorf("%.60s: %w", t.text, err)
			}
			format := "sh"
			if !strings.HasPrefix(string(text), "#!/bin/") {
				if format = "json"; !json.Valid(text) {
					all = append(all, token{t.kind + " of text", string(text)})
					continue
				}
			}
			inner, err := tokens(format, string(text))
			if err != nil {
				return nil, err
			}
			all = append(append(all, token{t.kind + " of " + format, ""}), inner...)
		default:
			all = append(all, t)
		}
	}
	return all, nil
}

// esxiTokens reads a kickstart of ESXi, whose sections end where the next begins.
func esxiTokens(text string) ([]token, error) {
	var out strings.Builder
	open := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "%") {
			if open {
				out.WriteString("%end\n")
			}
			open = true
		}
		out.WriteString(line)
	}
	if open {
		out.WriteString("\n%end\n")
	}
	return kickstartTokens(out.String())
}

// shellTokens reads a script: commands, operators and words as they nest. A word without expansions is what the shell
// makes of it, however it is quoted.
func shellTokens(text string) (list []token, err error) {
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("a zero byte")
	}
	const cr = "\ue00d" // the parser drops carriage returns at the ends of lines, as no shell does
	f, err := syntax.NewParser(syntax.KeepComments(true)).Parse(strings.NewReader(strings.ReplaceAll(text, "\r", cr)), "")
	if err != nil {
		return nil, err
	}
	add := func(kind, text string) { list = append(list, token{kind, strings.ReplaceAll(text, cr, "\r")}) }
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case nil:
			add("end", "")
		case *syntax.Comment:
			add("comment", n.Text)
		case *syntax.Word:
			if s, ok := static(n); ok {
				add("word", s)
				return false
			}
			add("expansion", "")
		case *syntax.Lit:
			add("literal", n.Value)
		case *syntax.SglQuoted:
			add("quoted", n.Value)
		case *syntax.BinaryCmd:
			add("command "+n.Op.String(), "")
		case *syntax.Redirect:
			add("redirect "+n.Op.String(), "")
		default:
			add(fmt.Sprintf("%T", n), "")
		}
		return true
	})
	return list, nil
}

// static is the word's value, when it has no expansion.
func static(w *syntax.Word) (string, bool) {
	var s strings.Builder
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			s.WriteString(unescaped.ReplaceAllString(part.Value, "$1"))
		case *syntax.SglQuoted:
			if part.Dollar {
				return "", false
			}
			s.WriteString(part.Value)
		case *syntax.DblQuoted:
			for _, inner := range part.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok {
					return "", false
				}
				s.WriteString(unescapedInQuotes.ReplaceAllString(lit.Value, "$1"))
			}
		default:
			return "", false
		}
	}
	return s.String(), true
}

var (
	unescaped         = regexp.MustCompile(`(?s)\\(.)`)
	unescapedInQuotes = regexp.MustCompile("\\\\([$`\"\\\\])")
)

func kickstartTokens(text string) (list []token, err error) {
	k := parseKickstart(text)
	if k.open {
		return nil, errors.New("a section is not closed")
	}
	for _, c := range k.commands {
		list = append(list, token{"command", ""})
		for _, w := range c {
			list = append(list, token{"word", w})
		}
	}
	for _, s := range k.sections {
		list = append(list, token{"section", s.head})
		read := shellTokens
		if strings.HasPrefix(s.head, "%packages") || strings.Contains(s.head, "python") {
			read = lineTokens
		}
		inside, err := read(s.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.head, err)
		}
		list = append(list, inside...)
	}
	return list, nil
}

var preseedLine = regexp.MustCompile(`^(\S+)\s+(\S+)\s+(\S+)(?:\s(.*))?$`)

// preseedTokens reads as debconf-set-selections does: a backslash at its end takes in the next line; a line is an owner,
// a question, a type, and all that follows one blank.
func preseedTokens(text string) (list []token, err error) {
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", ""), "\n") {
		if line = strings.TrimLeft(line, " \t"); line == "" || strings.HasPrefix(line, "#") {
			list = append(list, token{"comment", line})
			continue
		}
		m := preseedLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %q", line)
		}
		list = append(list, token{"answer " + m[1] + " " + m[2] + " " + m[3], ""})
		if !strings.HasSuffix(m[2], "_command") {
			list = append(list, token{"value", m[4]})
			continue
		}
		inside, err := shellTokens(m[4])
		if err != nil {
			return nil, err
		}
		list = append(list, inside...)
	}
	return list, nil
}

func yamlTokens(text string) (list []token, err error) {
	var doc yaml.Node
	d := yaml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("more than one document: %w", err)
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		list = append(list, token{fmt.Sprintf("%d %s %s %d", n.Kind, n.Tag, n.Anchor, len(n.Content)), n.Value})
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(&doc)
	return list, nil
}

func jsonTokens(text string) (list []token, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		s := fmt.Sprint(t)
		if _, ok := t.(json.Delim); ok {
			list = append(list, token{s, ""})
		} else {
			list = append(list, token{fmt.Sprintf("%T", t), s})
		}
	}
}

func xmlTokens(text string) (list []token, err error) {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			list = append(list, token{fmt.Sprintf("<%s %d>", t.Name, len(t.Attr)), ""})
			for _, a := range t.Attr {
				list = append(list, token{"attribute " + a.Name.Space + " " + a.Name.Local, a.Value})
			}
		case xml.EndElement:
			list = append(list, token{"</" + t.Name.Local + ">", ""})
		case xml.CharData:
			list = append(list, token{"text", string(t)})
		default:
			list = append(list, token{fmt.Sprintf("%T", t), fmt.Sprint(t)})
		}
	}
}

// powerShellTokens splits at strings in single quotes, of which PowerShell knows five, two of them in a row being one
// (about_Quoting_Rules); what stands between them is code.
func powerShellTokens(text string) (list []token, err error) {
	const quotes = "'\u2018\u2019\u201a\u201b"
	var code, s strings.Builder
	in, double := false, false
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		quote := strings.ContainsRune(quotes, r)
		switch {
		case in && quote && i+1 < len(runes) && strings.ContainsRune(quotes, runes[i+1]):
			s.WriteRune(r)
			i++
		case in && quote:
			list = append(list, token{"string", s.String()})
			s.Reset()
			in = false
		case in:
			s.WriteRune(r)
		case r == '"':
			double = !double
			code.WriteRune(r)
		case quote && !double && !inComment(code.String()):
			list = append(list, token{"code " + code.String(), ""})
			code.Reset()
			in = true
		default:
			code.WriteRune(r)
		}
	}
	if in {
		return nil, errors.New("a string is not closed")
	}
	return append(list, token{"code " + code.String(), ""}), nil
}

func inComment(code string) bool {
	line := code[strings.LastIndexByte(code, '\n')+1:]
	return strings.HasPrefix(strings.TrimSpace(line), "#")
}

// lineTokens is for what is read by lines; every reader ends them at another character.
func lineTokens(text string) (list []token, err error) {
	for _, line := range strings.FieldsFunc(text+"\n.", func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) }) {
		list = append(list, token{"line", line})
	}
	return list, nil
}

// stepTokens reads the command line as the kernel does; the other lines are names of files.
func stepTokens(text string) (list []token, err error) {
	for _, line := range strings.Split(text, "\n") {
		word, isArg := strings.CutPrefix(line, "arg ")
		if !isArg {
			list = append(list, token{"line", line})
			continue
		}
		for _, a := range kargs.Parse(word) {
			list = append(list, token{fmt.Sprintf("arg %s %t", a.Key, a.Flag), a.Value})
		}
	}
	return list, nil
}
