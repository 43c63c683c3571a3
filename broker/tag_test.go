package broker

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// However a rule is written, it is kept as the same text.
func TestRuleIsKeptAsWritten(t *testing.T) {
	for _, tt := range []struct{ name, doc, want string }{
		{"text is text", `{"kind":"Tag","name":"a","rule":"facts.arch == \"x\""}`, `facts.arch == "x"`},
		{"a list in JSON", `{"kind":"Tag","name":"a","rule":["=", ["num", ["fact","a"]], 5.0]}`, `["=",["num",["fact","a"]],5.0]`},
		{"a list in text", `{"kind":"Tag","name":"a","rule":"[\"=\", 1, 1]"}`, `["=", 1, 1]`},
		{"a flow list in YAML", "kind: Tag\nname: a\nrule: [and, [=, [fact, a], b], [\">\", 2, 1]]", `["and",["=",["fact","a"],"b"],[">",2,1]]`},
		{"a block list in YAML", "kind: Tag\nname: a\nrule:\n- \"=\"\n- [fact, \"5\", null]\n- 5\n", `["=",["fact","5",null],5]`},
		{"numbers are as they are written", "kind: Tag\nname: a\nrule: [in, 5, 5.0, 1e3, -1.5E-7, 123456789012345678901234567890, 1e400, -0, \"1e3\", '5']",
			`["in",5,5.0,1e3,-1.5E-7,123456789012345678901234567890,1e400,-0,"1e3","5"]`},
		{"what only YAML calls a number has YAML's value", "kind: Tag\nname: a\nrule: [in, 0x10, 0o10, 1_000, +5]", `["in",16,8,1000,5]`},
		{"words of YAML", "kind: Tag\nname: a\nrule: [in, true, ~, null, yes, \"\\u00e9\"]", `["in",true,null,null,"yes","é"]`},
		{"an object stays one, to be refused", "kind: Tag\nname: a\nrule: [in, {a: 1}]", `["in",{"a":1}]`},
		{"a map in JSON", `{"kind":"Tag","name":"a","rule":{"conditions":[{"op":"gt","field":"cpus","value":5.0}]}}`, `{"conditions":[{"field":"cpus","op":"gt","value":5.0}]}`},
		{"a map in YAML", "kind: Tag\nname: a\nrule:\n  scope: ~\n  conditions:\n  - {op: \"!eq\", args: {values: [\"{node.name}\", '5', 5, 5.0, 1e3]}}\n",
			`{"conditions":[{"args":{"values":["{node.name}","5",5,5.0,1e3]},"op":"!eq"}],"scope":null}`},
		{"a map of one member", "kind: Tag\nname: a\nrule:\n  conditions:\n  - op: eq\n    field: cpus\n    value: 5.0\n  - loop: {a: 5.0}\n", `{"conditions":[{"field":"cpus","op":"eq","value":5.0},{"loop":{"a":5.0}}]}`},
		{"a map in text", "kind: Tag\nname: a\nrule: '{\"conditions\": []}'\n", `{"conditions": []}`},
		{"a block of text", "kind: Tag\nname: a\nrule: |\n  [\"=\", 1, 1.0]\n", "[\"=\", 1, 1.0]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := ParseObjects([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			var tag Tag
			if err := json.Unmarshal(objects[0].Doc, &tag); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(tag.Rule)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestDocumentsAreStillRefusedByPlace(t *testing.T) {
	for doc, want := range map[string]string{
		"kind: Tag\nname: a\nname: b\nrule: x":     "[3:1] mapping key \"name\" already defined at [2:1]",
		"kind: Tag\nname: a\nrule: [a, .inf]":      "document 1: Tag a: json: unsupported value: +Inf",
		"kind: Tag\nname: a\nrule: 7":              "document 1: Tag a: field rule: want string, not number",
		"kind: Tag\nname: a\nrule: x\nruel: [a]\n": "document 1: Tag a: unknown field \"ruel\"",
		"- kind: Tag":                  "document 1: [1:1] sequence was used where mapping is expected",
		"kind: Tag\nname: a\nrule: []": "",
	} {
		_, err := ParseObjects([]byte(doc))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if len(got) > len(want) {
			got = got[:len(want)]
		}
		if got != want {
			t.Errorf("%q\n got %s\nwant %s", doc, err, want)
		}
	}
}
