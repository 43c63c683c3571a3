package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadHookAnswer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   string
		update map[string]string
		remove []string
		warn   []string
	}{
		{"silence", " \n", nil, nil, nil},
		{"an empty object", "{}", nil, nil, nil},
		{"values become text, numbers as they are written", `{"node":{"metadata":{"update":{"a":"b","n":20261127001,"f":1e3,"t":true}}}}`,
			map[string]string{"a": "b", "n": "20261127001", "f": "1e3", "t": "true"}, nil, nil},
		{"values of other kinds", `{"node":{"metadata":{"update":{"a":null,"b":[1],"c":{}}}}}`, map[string]string{}, nil,
			[]string{`"node.metadata.update.a": want a string, number or boolean`, `"node.metadata.update.b": want a string, number or boolean`, `"node.metadata.update.c": want a string, number or boolean`}},
		{"two lines", `{"node":{"metadata":{"update":{"a":"b\nc"}}}}`, map[string]string{}, nil, []string{`"node.metadata.update.a": want one line of at most 1024 bytes`}},
		{"a name that is an escape sequence", `{"node":{"metadata":{"update":{"\u001b[2J":"x"}}}}`, map[string]string{}, nil,
			[]string{`"node.metadata.update.?[2J": want a letter first, then letters, digits, dot, dash, underscore, at most 63`}},
		{"remove that is no list", `{"node":{"metadata":{"remove":"a"}}}`, nil, nil, []string{`"node.metadata.remove": want a list of names`}},
		{"no object", `[1]`, nil, nil, []string{`"": want an object`}},
		{"null", `{"node":null}`, nil, nil, []string{`"node": want an object`}},
		{"no JSON", "ok\x1b[2J", nil, nil, []string{"the answer is no JSON: ok?[2J"}},
		{"two values", `{} {}`, nil, nil, []string{"the answer is no JSON: {} {}"}},
		{"Razor's configuration", `{"hook":{"configuration":{"update":{"a":1}}},"node":{"metadata":{"clear":true}}}`, nil, nil,
			[]string{`"hook" is not understood`, `"node.metadata.clear" is not understood`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := readHookAnswer([]byte(tt.body))
			if diff := cmp.Diff([]any{tt.update, tt.remove, tt.warn}, []any{a.update, a.remove, a.warn}); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetadataIsBounded(t *testing.T) {
	n := &Node{Meta: map[string]string{"old": "1"}}
	a := hookAnswer{update: map[string]string{}, remove: []string{"old", "old", "none"}}
	for i := range maxMeta + 3 {
		a.update[fmt.Sprintf("k%04d", i)] = "v"
	}
	said := a.applyTo(n)
	if len(n.Meta) != maxMeta || len(a.warn) != 3 || !strings.HasPrefix(said, "removed old, set k0000, ") || n.Meta["old"] != "" {
		t.Errorf("%d values, warned %q, said %.40s", len(n.Meta), a.warn, said)
	}
	b := hookAnswer{update: map[string]string{"k0000": "v"}, remove: []string{"none"}}
	if said := b.applyTo(n); said != "" {
		t.Errorf("nothing changed, and it said %q", said)
	}
}

func FuzzReadHookAnswer(f *testing.F) {
	f.Add([]byte(`{"node":{"metadata":{"update":{"rack":"b7","n":1},"remove":["a"]}}}`))
	f.Add([]byte(`{"node":{"metadata":{"update":{"` + strings.Repeat("a", 70) + `":"\u0000"}}}}`))
	f.Add([]byte(strings.Repeat(`{"node":`, 2000)))
	f.Fuzz(func(t *testing.T, body []byte) {
		a := readHookAnswer(body)
		n := &Node{}
		a.applyTo(n)
		if len(n.Meta) > maxMeta || len(a.warn) > 9 {
			t.Errorf("%d values, %d warnings", len(n.Meta), len(a.warn))
		}
		for k, v := range n.Meta {
			if !metaKey.MatchString(k) || len(v) > maxMetaValue || strings.ContainsAny(v, "\n\r\x1b\x00") {
				t.Errorf("metadata %q = %q", k, v)
			}
		}
		for _, w := range a.warn {
			if strings.ContainsFunc(w, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Errorf("warning %q", w)
			}
		}
	})
}
