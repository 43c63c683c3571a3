package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// parseCustom reads what a program printed: a JSON object, or lines name=value.
func parseCustom(b []byte) (found []customFact, refused []error, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return parseCustomJSON(b)
	}
	return parseCustomText(b)
}

// parseCustomText reads lines name=value. Blank lines and lines that begin with # say nothing; blanks around the name
// and the value are not part of them.
func parseCustomText(b []byte) (found []customFact, refused []error, err error) {
	if !utf8.Valid(b) {
		return nil, nil, errNotUTF8
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			refused = append(refused, malformed{fmt.Errorf("line %d: want name=value", n)})
			continue
		}
		found = append(found, customFact{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return found, refused, nil
}

// parseCustomJSON reads one flat object. Strings, numbers and booleans are values, numbers as they are written.
func parseCustomJSON(b []byte) (found []customFact, refused []error, err error) {
	switch {
	case !utf8.Valid(b):
		return nil, nil, errNotUTF8
	case !json.Valid(b):
		return nil, nil, malformed{errors.New("want one JSON object")}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, malformed{errors.New("want one JSON object")}
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, nil, malformed{err}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, nil, malformed{err}
		}
		value, ok := scalarText(raw)
		if !ok {
			refused = append(refused, malformed{fmt.Errorf("custom fact %.64q: want a string, a number or a boolean", name)})
			continue
		}
		found = append(found, customFact{fmt.Sprint(name), value})
	}
	return found, refused, nil
}

// parseCustomYAML reads one flat mapping. Scalars are values as they are written; an alias is none, so that nothing
// grows while it is read.
func parseCustomYAML(b []byte) (found []customFact, refused []error, err error) {
	if !utf8.Valid(b) {
		return nil, nil, errNotUTF8
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil, nil // remarks and blank lines
	case err != nil:
		return nil, nil, malformed{err}
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, nil, errNotYAML
	}
	top := doc.Content[0]
	switch {
	case top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null":
		return nil, nil, nil
	case top.Kind != yaml.MappingNode:
		return nil, nil, errNotYAML
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, value := top.Content[i], top.Content[i+1]
		if name.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode || value.ShortTag() == "!!null" {
			refused = append(refused, malformed{fmt.Errorf("line %d: custom fact %.64q: want a string, a number or a boolean", name.Line, name.Value)})
			continue
		}
		found = append(found, customFact{name.Value, value.Value})
	}
	return found, refused, nil
}

var errNotYAML = malformed{errors.New("want one YAML mapping")}

var errNotUTF8 = malformed{errors.New("want UTF-8")}

// scalarText is a JSON scalar as text; ok is false for null, an array or an object.
func scalarText(raw json.RawMessage) (s string, ok bool) {
	switch raw[0] {
	case '"':
		return s, json.Unmarshal(raw, &s) == nil
	case '{', '[', 'n':
		return "", false
	}
	return string(raw), true
}

// breaksLine is true for what facts.Validate refuses in any text: control characters, line and paragraph separators.
func breaksLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
