package broker

import (
	"bytes"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// documents reads the YAML or JSON documents of a file. An empty one is an empty map.
func documents(data []byte) ([]document, error) {
	tokens := lexer.Tokenize(string(filled(data)))
	if err := plainYAML(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, invalid("%s", yaml.FormatError(err, false, true))
	}
	docs := make([]document, len(file.Docs))
	for i, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if err := yaml.NodeToValue(d.Body, &docs[i]); err != nil {
			return nil, invalid("document %d: %s", i+1, yaml.FormatError(err, false, true))
		}
	}
	return docs, nil
}

// filled writes {} into documents that hold nothing: the parser takes an empty one for the end of the file, and leaves
// out what comes after it. Lines stay where they are.
func filled(data []byte) []byte {
	lines := bytes.Split(data, []byte("\n"))
	empty := -1 // marker of a document that has held nothing so far
	for i, l := range lines {
		word := bytes.TrimSpace(l)
		begins := bytes.HasPrefix(l, []byte("---")) && (len(l) == 3 || l[3] == ' ' || l[3] == '\t' || l[3] == '\r')
		if begins && empty >= 0 {
			lines[empty] = []byte("--- {}")
		}
		switch rest := bytes.TrimSpace(bytes.TrimPrefix(word, []byte("---"))); {
		case begins && (len(rest) == 0 || rest[0] == '#'):
			empty = i
		case begins || len(word) > 0 && word[0] != '#':
			empty = -1
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

// maxDepth is how deep a document may be nested.
const maxDepth = 32

// plainYAML refuses what makes a small file explode, before it is parsed: anchors, aliases, merge keys, and nesting
// that a parser follows level by level.
func plainYAML(tokens token.Tokens) error {
	flow, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return invalid("line %d: YAML anchors and aliases are not read: write the values out", line)
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if flow > maxDepth || entries > maxDepth {
			return invalid("line %d: nested deeper than %d", line, maxDepth)
		}
	}
	return nil
}
