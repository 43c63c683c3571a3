package inspection_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
	"muster/broker/rule/inspection"
)

// A vector is a line of testdata/inspector-rules.jsonl: what ironic-inspector or Ironic says of a rule.
type vector struct {
	ID        string            `json:"id"`
	Dialect   string            `json:"dialect"`
	Rules     []json.RawMessage `json:"rules"`
	Node      map[string]any    `json:"node"`
	Inventory map[string]any    `json:"inventory"`
	Expected  struct {
		Match   *bool  `json:"match"`
		InScope *bool  `json:"in_scope"`
		Error   string `json:"error"`
		When    string `json:"when"`
	} `json:"expected"`
	rule string
}

// refused are the vectors whose rules muster takes no part in, with the code of the refusal.
var refused = map[string]struct {
	code inspection.Code
	why  string
}{
	"v061": {inspection.BadPath, "a quirk: a template that names nothing is compared as its own text"},
	"v070": {inspection.BadValue, "a quirk, and one that differs between releases: null in a template is the word None"},
	"v089": {inspection.Actions, "a tag has no actions"},
	"v090": {inspection.Actions, "a tag has no actions"},
	"v092": {inspection.Actions, "a tag has no actions"},
	"v093": {inspection.Actions, "a tag has no actions"},
	"v101": {inspection.BadPath, "muster's inventory has no secrets that could be masked"},
}

// Each vector is reproduced, or its rule is refused when it is saved.
func TestVectors(t *testing.T) {
	vectors, node := readVectors(t)
	seen := 0
	for _, v := range vectors {
		env := environment(v, node)
		p, err := (*inspection.Schema)(nil).Compile(v.rule)
		if want, is := refused[v.ID]; is {
			seen++
			if got := codes(err); !slices.Equal(got, []string{string(want.code)}) {
				t.Errorf("%s: %s: codes %v; want %s, because %s", v.ID, v.rule, got, want.code, want.why)
			}
			continue
		}
		var want, got any
		switch {
		case v.Expected.When == "save":
			want, got = []string{v.Expected.Error}, codes(err)
		case err != nil:
			want, got = v.Expected, err.Error()
		case v.Expected.When == "run":
			result := p.Eval(env)
			want, got = rule.Undecided.String()+" "+v.Expected.Error, result.Verdict.String()+" "+result.Code
		default:
			yes := v.Expected.Match
			if yes == nil {
				yes = v.Expected.InScope
			}
			if yes == nil {
				t.Errorf("%s: nothing is expected", v.ID)
				continue
			}
			result := p.Eval(env)
			want, got = map[bool]rule.Verdict{true: rule.Yes, false: rule.No}[*yes], result.Verdict
			if result.Verdict == rule.Undecided {
				got = result.Cause
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s: -want +got\n%s", v.ID, v.rule, diff)
		}
	}
	if seen != len(refused) {
		t.Errorf("%d of the %d refused vectors are in the file", seen, len(refused))
	}
	t.Logf("%d vectors: %d reproduced or failed, %d refused", len(vectors), len(vectors)-seen, seen)
}

func codes(err error) []string {
	var faults inspection.Errors
	errors.As(err, &faults)
	var list []string
	for _, f := range faults {
		list = append(list, string(f.Code))
	}
	return list
}

// environment is the node that a vector speaks of.
func environment(v vector, whole *inspection.Env) *inspection.Env {
	env := *whole
	env.Data = maps.Clone(env.Data)
	if v.Inventory != nil {
		env.Data["inventory"] = v.Inventory
	}
	if v.Node != nil {
		env.Node = v.Node
	}
	return &env
}

// readVectors reads the first line, which describes the file and the node of all vectors, and the vectors.
func readVectors(t testing.TB) ([]vector, *inspection.Env) {
	t.Helper()
	raw, err := os.ReadFile("testdata/inspector-rules.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	var head struct {
		Count   int
		Context struct {
			Data, Node map[string]any
			Plugin     map[string]any `json:"plugin_data"`
		}
	}
	lines.Scan()
	decode(t, lines.Bytes(), &head)
	var vectors []vector
	for lines.Scan() {
		var v vector
		decode(t, lines.Bytes(), &v)
		v.rule = ruleOf(t, v, lines.Bytes())
		vectors = append(vectors, v)
	}
	if len(vectors) != head.Count || head.Count == 0 {
		t.Fatalf("read %d vectors; the file says %d", len(vectors), head.Count)
	}
	return vectors, &inspection.Env{Data: head.Context.Data, Node: head.Context.Node, Plugin: head.Context.Plugin}
}

// ruleOf is the rule as an operator writes it: the members of the vector that are a rule's.
func ruleOf(t testing.TB, v vector, line []byte) string {
	t.Helper()
	if len(v.Rules) > 0 {
		return string(v.Rules[0])
	}
	var all, own map[string]json.RawMessage
	decode(t, line, &all)
	own = map[string]json.RawMessage{}
	for _, name := range []string{"conditions", "actions", "scope"} {
		if m, ok := all[name]; ok {
			own[name] = m
		}
	}
	doc, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func decode(t testing.TB, doc []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%.200s: %v", doc, err)
	}
}
