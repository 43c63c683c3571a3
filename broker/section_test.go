package broker

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker/rule"
)

func TestAGlanceIsForRulesOfSections(t *testing.T) {
	schema, err := newSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ rule, want string }{
		{"facts.memory.total_bytes > 2 * GiB", "memory"},
		{"any(facts.disks, .size_bytes > 1) and len(facts.nics) > 1", "disks nics"},
		{`facts.custom["rack"] == "r1" and facts.arch == "x86_64"`, "arch custom"},
		{`node.state == "active" or len(node.macs) > 1`, ""},
		{"node.efi", "the whole node"},
		{`meta.owner == "web"`, "the whole node"},
		{`tag("big") and facts.cpu.cores > 1`, "the whole node"},
		{`["=", ["fact", "processorcount"], 4]`, "the whole node"},
		{`{"conditions": []}`, "the whole node"},
	} {
		p, err := compileRule(schema, Rule(tt.rule))
		if err != nil {
			t.Fatal(err)
		}
		got := "the whole node"
		if g := glanceOf(p); g != nil {
			var names []string
			for _, name := range []string{"arch", "cpu", "custom", "disks", "memory", "nics"} {
				if g.sections[name] {
					names = append(names, name)
				}
			}
			if got = strings.Join(names, " "); len(g.sections) != len(names)+1 {
				t.Errorf("%s: sections %v", tt.rule, g.sections)
			}
		}
		if got != tt.want {
			t.Errorf("%s: reads %q; want %q", tt.rule, got, tt.want)
		}
	}
}

// TestAGlanceJudgesAsTheWholeNodeDoes asks the same of a machine with facts of every kind, and of one that told none.
func TestAGlanceJudgesAsTheWholeNodeDoes(t *testing.T) {
	schema, err := newSchema()
	if err != nil {
		t.Fatal(err)
	}
	planted := plantedFacts(t)
	planted.Custom = map[string]string{"rack": "r1"}
	found, err := Found(&planted)
	if err != nil {
		t.Fatal(err)
	}
	partly := planted
	partly.Incomplete = []string{"disks"}
	lacking, err := Found(&partly)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[rule.Verdict]int{}
	for _, text := range []string{
		"facts.memory.total_bytes > 2 * GiB", "facts.memory.total_bytes > 2000 * TiB", "any(facts.disks, .size_bytes > 1)", "len(facts.disks) == 0",
		`all(facts.nics, .mac != "")`, `facts.custom["rack"] == "r1"`, `facts.custom["row"] == "r1"`, "facts.schema == 1", `facts.system.product matches "(?i)r6"`,
		`node.state == "manageable"`, "node.protected", `len(node.macs) == 0`, `facts.firmware.mode == "efi"`, "facts.firmware.secure_boot == \"enabled\"", "any(facts.disks, .removable)",
	} {
		p, err := compileRule(schema, Rule(text))
		if err != nil {
			t.Fatal(err)
		}
		g := glanceOf(p)
		for name, f := range map[string]Facts{"planted": found, "lacking": lacking, "nothing": {}} {
			n := &Node{ID: "node1", State: Manageable, Protected: true, Facts: f, Keys: Keys{MACs: []string{"52:54:00:00:00:01"}}}
			env, err := (&catalog{}).environment(n, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := p.eval(env)
			listed := InList(n)
			listed.Facts = string(f.Fresh())
			got, unsure, err := g.judge(&listed)
			if err != nil || unsure != (name == "lacking" && strings.Contains(text, "disks")) {
				t.Errorf("%s of %s: unsure %t, %v", text, name, unsure, err)
			}
			verdicts[want.Verdict]++
			if diff := cmp.Diff(want, got); !unsure && diff != "" {
				t.Errorf("%s of %s (-whole +glance):\n%s", text, name, diff)
			}
		}
	}
	if len(verdicts) != 3 {
		t.Errorf("verdicts %v; want some of each", verdicts)
	}
}

// plantedFacts are of a machine with something of every kind.
func plantedFacts(t *testing.T) (f facts.Facts) {
	t.Helper()
	doc, err := os.ReadFile("../agent/facts/testdata/planted.json")
	if err == nil {
		err = json.Unmarshal(doc, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzSections compares with encoding/json, which decodes all of it, on documents as encoding/json writes them.
func FuzzSections(f *testing.F) {
	for _, seed := range []string{`{}`, ` { "a" : [1, {"b":"}"}] , "b":1234567890123456789 } `, `{"a":"\\\"","b":null}`, `{"x":{"a":1},"a":2.5e3}`, `[1]`, `{"a"`, `{"a":`, `{"a":1`,
		`{"a\u0062":1,"b":"<\u2028\ud83d\ude00"}`, `{"x":"`, ``, `{"a":12345678901234567890}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		of := sections{"a": true, "b": true}
		_, _ = of.in(string(doc))
		var all map[string]any
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		if d.Decode(&all) != nil || all == nil {
			return
		}
		doc, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(all, func(name string, _ any) bool { return !of[name] })
		want, err := rule.Tree(all)
		if err != nil {
			return // a number that no float64 holds
		}
		got, err := of.in(string(doc))
		if diff := cmp.Diff(want, any(got)); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", doc, err, diff)
		}
	})
}
