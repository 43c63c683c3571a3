package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster/broker"
)

// TestRevisions: two operators change one object; the second is told, and nothing of his is taken.
func TestRevisions(t *testing.T) {
	b := bareBroker(t, broker.Config{})
	mustApply(t, b, bigTag)
	read, err := b.Object(t.Context(), broker.KindTag, "big")
	if err != nil {
		t.Fatal(err)
	}
	changed := func(rule, rev string) error {
		_, err := apply(t, b, "kind: Tag\nname: big\nrev: "+rev+"\nrule: "+rule+"\n---\nkind: Tag\nname: other-"+rev+"\nrule: 1 == 1\n")
		return err
	}
	if err := changed("len(facts.disks) >= 3", read.Rev()); err != nil {
		t.Fatal(err)
	}
	now, err := b.Object(t.Context(), broker.KindTag, "big")
	if err != nil {
		t.Fatal(err)
	}
	err = changed("len(facts.disks) >= 4", read.Rev())
	if !errors.Is(err, broker.ErrConflict) || !strings.Contains(err.Error(), read.Rev()) || !strings.Contains(err.Error(), now.Rev()) {
		t.Errorf("the second change: %v; want a conflict that names %s and %s", err, read.Rev(), now.Rev())
	}
	if err := b.DeleteObject(t.Context(), broker.KindTag, "big", "tester"); err != nil {
		t.Fatal(err)
	}
	if err := changed("len(facts.disks) >= 4", now.Rev()); !errors.Is(err, broker.ErrConflict) || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("a change of what is gone: %v", err)
	}
	if got := names(t, b, broker.KindTag); !slices.Equal(got, []string{"other-" + read.Rev()}) {
		t.Errorf("tags %v", got)
	}
}

// TestT47Documents: what a file may not have.
func TestT47Documents(t *testing.T) {
	lol := `a: &a ["lol","lol","lol","lol"]` + "\n"
	for c := 'b'; c <= 'i'; c++ {
		lol += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1)
	}
	for _, tt := range []struct{ name, text, says string }{
		{"a name twice", bigTag + "---\n" + bigTag, "document 2: Tag big stands in the file already, in document 1"},
		{"a key twice", "kind: Tag\nname: a\nrule: 1 == 1\nrule: 1 == 2\n", "[4:1]"},
		{"a key of a key twice", "kind: Policy\nname: a\nmatch: all\ntask: x\ndisk: {model: a, model: b}\n", "[5:18]"},
		{"an unknown field", "kind: Tag\nname: a\nrule: 1 == 1\ncolour: red\n", `unknown field "colour"`},
		{"a field of another case", "kind: Tag\nname: a\nRule: 1 == 1\n", `unknown field "Rule"`},
		{"anchors that explode", lol, "line 1: YAML anchors and aliases are not read"},
		{"an anchor in a flow mapping", "kind: Tag\nname: a\nrule: 1 == 1\nx: {y: &z 1}\n", "line 4: YAML anchors"},
		{"an alias behind a key", "kind: Tag\nname: a\nrule: 1 == 1\nx: *z # 1\n", "line 4: YAML anchors"},
		{"a merge key", "kind: Tag\nname: a\n? <<\n: {rule: x}\n", `unknown field "<<"`},
		{"brackets without end", "kind: Tag\nname: a\nrule: " + strings.Repeat("[", 50_000), "line 3: nested deeper than 32"},
		{"dashes without end", strings.Repeat("- ", 50_000), "line 1: nested deeper than 32"},
		{"question marks without end", strings.Repeat("? ", 50_000), "line 1: nested deeper than 32"},
		{"steps without end", stairs(700), `kind ""`},
		{"a document that is a list", "- a\n", "document 1:"},
		{"a rev that is no text", "kind: Tag\nname: a\nrule: 1 == 1\nrev: 12\n", "Tag a: field rev"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := broker.ParseObjects([]byte(tt.text))
			if err == nil || !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%d objects, %v; want %s", len(objects), err, tt.says)
			}
		})
	}
	for _, text := range []string{"---\n" + bigTag, bigTag + "---\n---\n" + strings.Replace(bigTag, "big", "two", 1), "---\n---\n" + bigTag, bigTag + "---\n# nothing\n---\n" + strings.Replace(bigTag, "big", "two", 1)} {
		objects, err := broker.ParseObjects([]byte(text))
		if want := strings.Count(text, "kind:"); err != nil || len(objects) != want {
			t.Errorf("%q: %d objects, %v; want %d", text, len(objects), err, want)
		}
	}
	if objects, err := broker.ParseObjects([]byte("kind: Tag\nname: a\nrule: facts.cpu.cores * 2 > 4 && 1 == 1 # &x *y\n")); err != nil || len(objects) != 1 {
		t.Errorf("a rule with & and *: %v", err)
	}
}

// stairs is a mapping in a mapping in a mapping, as deep as the limit of bytes lets it be.
func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
