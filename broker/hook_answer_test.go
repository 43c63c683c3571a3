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
		update map[string]any
		remove []string
		warn   []string
	}{
		{"silence", " \n", nil, nil, nil},
		{"an empty object", "{}", nil, nil, nil},
		{"values keep their types", `{"node":{"metadata":{"update":{"a":"b","n":20261127001,"f":1e3,"t":true,"l":["a",1]}}}}`,
			map[string]any{"a": "b", "n": 20261127001.0, "f": 1000.0, "t": true, "l": []any{"a", 1.0}}, nil, nil},
		{"values of other kinds", `{"node":{"metadata":{"update":{"a":null,"b":[[1]],"c":{}}}}}`, map[string]any{}, nil,
			[]string{`"node.metadata.update.a": meta.a: want a string, a number, a boolean, or a list of these`, `"node.metadata.update.b": meta.b: want a string, a number, a boolean, or a list of these`, `"node.metadata.update.c": meta.c: want a string, a number, a boolean, or a list of these`}},
		{"two lines", `{"node":{"metadata":{"update":{"a":"b\nc","l":["\u001b"]}}}}`, map[string]any{}, nil,
			[]string{`"node.metadata.update.a": meta.a: want text of one line, without control characters`, `"node.metadata.update.l": meta.l: want text of one line, without control characters`}},
		{"a value that is too long", `{"node":{"metadata":{"update":{"a":"` + strings.Repeat("x", maxMetaBytes) + `"}}}}`, map[string]any{}, nil,
			[]string{`"node.metadata.update.a": meta.a is longer than 4096 bytes`}},
		{"a name that is an escape sequence", `{"node":{"metadata":{"update":{"\u001b[2J":"x"}}}}`, map[string]any{}, nil,
			[]string{`"node.metadata.update.?[2J": meta key "\x1b[2J": want a letter first, then letters, digits, dash and underscore, at most 64`}},
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
	n := &Node{Meta: map[string]any{"old": "1"}}
	a := hookAnswer{update: map[string]any{}, remove: []string{"old", "old", "none"}}
	for i := range maxMetaKeys + 3 {
		a.update[fmt.Sprintf("k%04d", i)] = "v"
	}
	said := a.applyTo(n)
	if len(n.Meta) != maxMetaKeys || len(a.warn) != 3 || !strings.HasPrefix(said, "removed old, set k0000, ") || n.Meta["old"] != nil {
		t.Errorf("%d values, warned %q, said %.40s", len(n.Meta), a.warn, said)
	}
	b := hookAnswer{update: map[string]any{"k0000": "v"}, remove: []string{"none"}}
	if said := b.applyTo(n); said != "" {
		t.Errorf("nothing changed, and it said %q", said)
	}
	c := hookAnswer{update: map[string]any{"k0000": "w"}, remove: []string{"k0000"}}
	if said := c.applyTo(n); said != "set k0000" || n.Meta["k0000"] != "w" {
		t.Errorf("what is set and removed is %v, and it said %q", n.Meta["k0000"], said)
	}
	old := &Node{Meta: map[string]any{"not a key": "1"}}
	if said := c.applyTo(old); said != "" || len(old.Meta) != 1 || len(c.warn) != 1 {
		t.Errorf("metadata that was out of its bounds is %v; said %q, warned %q", old.Meta, said, c.warn)
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
		if len(n.Meta) > maxMetaKeys || len(a.warn) > 9 {
			t.Errorf("%d values, %d warnings", len(n.Meta), len(a.warn))
		}
		for k, v := range n.Meta {
			if checkMeta(map[string]any{k: v}) != nil || strings.ContainsAny(fmt.Sprint(v), "\n\r\x1b\x00") {
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
