package inspection_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
	"muster/broker/rule/inspection"
)

// Rows are the forms of values that decide, on the node of the manual.
func TestEval(t *testing.T) {
	env := manualNode(t)
	env.Data["big"], env.Data["half"], env.Data["words"], env.Data["yes"] = int64(9007199254740993), 0.5, []any{"b", "a"}, true
	for _, test := range []struct{ name, condition, want string }{
		{"numbers are exact", `"op":"gt","field":"big","value":9007199254740992`, "yes"},
		{"an integer cuts a fraction off", `"op":"eq","field":"half","value":0`, "yes"},
		{"a float does not", `"op":"eq","field":"half","value":0.0`, "no"},
		{"texts are compared by their characters", `"op":"lt","field":"inventory.bmc_address","value":"9"`, "yes"},
		{"text has no order with a number", `"op":"lt","field":"cpus","value":"9"`, `undecided: rule-failed at /conditions/0/value: there is no order between 32 and "9"`},
		{"lists are equal", `"op":"eq","field":"words","value":["b","a"]`, "yes"},
		{"or not", `"op":"ne","field":"words","value":["a","b"]`, "yes"},
		{"true is 1", `"op":"ge","field":"yes","value":1`, "yes"},
		{"a field becomes an integer for true", `"op":"eq","field":"cpus","value":true`, "no"},
		{"null is no number", `"op":"eq","field":"inventory.disks[1].wwn","value":5`, "undecided: cannot-convert at /conditions/0/value: null is not a number, as 5 is"},
		{"null has a text", `"op":"matches","field":"inventory.disks[1].wwn","value":"None"`, "yes"},
		{"a list has a text", `"op":"contains","field":"words","value":"^\\['b', 'a']$"`, "yes"},
		{"an object has none", `"op":"contains","field":"inventory.cpu","value":"x"`, "undecided: rule-failed at /conditions/0/value: this is an object or a list of them, which has no text here; write the path of a member"},
		{"no address", `"op":"in-net","field":"cpus","value":"::/0"`, "undecided: cannot-convert at /conditions/0/value: 32 is no address"},
		{"any ends at the first yes, before what fails", `"op":"ge","field":"inventory.disks[*].wwn","value":0`, `undecided: cannot-convert at /conditions/0/value: "0x5" is not a number, as 0 is`},
		{"all ends at the first no", `"op":"eq","field":"inventory.disks[*].wwn","value":"x","multiple":"all"`, "no"},
		{"first looks at no other", `"op":"eq","field":"inventory.disks[*].wwn","value":"0x5","multiple":"first"`, "yes"},
		{"a null is a value", `"op":"eq","field":"inventory.disks[1].wwn","value":"x","invert":true`, "yes"},
		{"and empty", `"op":"is-empty","field":"inventory.disks[*].wwn"`, "yes"},

		{"a chain", `"op":"lt","args":{"values":[1,2,2]}`, "no"},
		{"of values that no order is between", `"op":"gt","args":{"values":[1,"a"]}`, `undecided: rule-failed at /conditions/0/args: there is no order between 1 and "a"`},
		{"ends at the first no", `"op":"gt","args":{"values":[1,2,"a"]}`, "no"},
		{"true is 1 in a chain, too", `"op":"eq","args":{"values":[true,1,1.0]}`, "yes"},
		{"but not as text", `"op":"eq","args":{"values":[true,1],"force_strings":true}`, "no"},
		{"templates in a text", `"op":"eq","args":[["{inventory[cpu][count]}x{inventory[disks][0][size]} {{}}","32x500 {}"]]`, "yes"},
		{"a part of a text that is missing leaves all of it", `"op":"eq","args":[["{node.name}{inventory[gpu]}","{{node.name}}{{inventory[gpu]}}"]]`, "yes"},
		{"braces alone are themselves", `"op":"eq","args":[["}{","}}{{"]]`, "yes"},
		{"an address that is missing", `"op":"in-net","args":["{inventory[x]}","::/0"]`, `undecided: rule-failed at /conditions/0/args/address: "{inventory[x]}" is no address`},
		{"none of no values", `"op":"one-of","args":["x"]`, "no"},
		{"a number is not its text", `"op":"one-of","args":["{inventory[cpu][count]}",[32]]`, "no"},
		{"one of templates", `"op":"one-of","args":["r12",["x","{node.name}"]]`, "yes"},
		{"null in a template is empty", `"op":"!is-empty","args":["{inventory[disks][1][wwn]}"]`, "no"},
		{"nothing is empty", `"op":"is-empty","args":[null]`, "yes"},
		{"none", `"op":"is-none","args":[null]`, "yes"},
		{"the word None is not", `"op":"is-none","args":["None"]`, "no"},
		{"true", `"op":"is-true","args":[true]`, "yes"}, {"a number", `"op":"is-true","args":[0.5]`, "yes"}, {"zero", `"op":"is-true","args":[0]`, "no"},
		{"a word", `"op":"is-true","args":["YES"]`, "yes"}, {"another word", `"op":"is-true","args":["on"]`, "no"}, {"null is not true", `"op":"is-true","args":[null]`, "no"},
		{"false", `"op":"is-false","args":[false]`, "yes"}, {"zero is false", `"op":"is-false","args":[0.0]`, "yes"}, {"one is not", `"op":"is-false","args":[1]`, "no"},
		{"a word for false", `"op":"is-false","args":["No"]`, "yes"}, {"null is false", `"op":"is-false","args":[null]`, "yes"}, {"an empty text is not", `"op":"is-false","args":[""]`, "no"},

		{"any of a loop", `"op":"eq","args":[["{item}",1]],"loop":[2,1,3]`, "yes"},
		{"all of a loop", `"op":"eq","args":[["{item}",1]],"loop":[1,1,3],"multiple":"all"`, "no"},
		{"the last of a loop", `"op":"eq","args":[["{item}",1]],"loop":[1,1,3],"multiple":"last"`, "no"},
		{"the last of another", `"op":"eq","args":[["{item}",1]],"loop":[3,3,1],"multiple":"last"`, "yes"},
		{"first is any", `"op":"eq","args":[["{item}",1]],"loop":[2,1,3],"multiple":"first"`, "yes"},
		{"first of none", `"op":"eq","args":[["{item}",1]],"loop":[2,3],"multiple":"first"`, "no"},
		{"each is inverted, not all", `"op":"!eq","args":[["{item}",1]],"loop":[2,1]`, "yes"},
		{"any makes all tests, the failing too", `"op":"in-net","args":["{item}","::/0"],"loop":["::1","x"]`, `undecided: rule-failed at /conditions/0/args/address: "x" is no address`},
		{"first does not", `"op":"in-net","args":["{item}","::/0"],"loop":["::1","x"],"multiple":"first"`, "yes"},
		{"members of items", `"op":"matches","args":["{item[a]}","{item[b]}.?"],"loop":[{"a":"x","b":"x"},{"a":1.0,"b":"1"}]`, "yes"},
		{"a loop over a map is made once", `"op":"eq","args":[["{item[a][0]}","5"]],"loop":{"a":[5]},"multiple":"last"`, "yes"},
		{"an empty loop is none", `"op":"eq","args":[[1,1.0]],"loop":[]`, "yes"},
	} {
		if got := judge(cond(test.condition), env); got != test.want {
			t.Errorf("%s: %s\n got %s\nwant %s", test.name, test.condition, got, test.want)
		}
	}
}

// What sections of facts lack makes a condition undecided, unless what is known decides.
func TestLackingSections(t *testing.T) {
	env := manualNode(t)
	env.Lacking = map[string]string{"disks": "disks are incomplete", "boot": "boot is not known"}
	for _, test := range []struct{ name, rule, want string }{
		{"any that is", cond(`"op":"gt","field":"inventory.disks[*].size","value":1000`), "yes"},
		{"any that is not so far", cond(`"op":"gt","field":"inventory.disks[*].size","value":5000`), "undecided: disks are incomplete"},
		{"all that are so far", cond(`"op":"gt","field":"inventory.disks[*].size","value":100,"multiple":"all"`), "undecided: disks are incomplete"},
		{"all that are not", cond(`"op":"gt","field":"inventory.disks[*].size","value":1000,"multiple":"all"`), "no"},
		{"the first may be another", cond(`"op":"gt","field":"inventory.disks[*].size","value":1,"multiple":"first"`), "undecided: disks are incomplete"},
		{"as is what has an index", cond(`"op":"gt","field":"inventory.disks[0].size","value":1`), "undecided: disks are incomplete"},
		{"the whole list is another", cond(`"op":"is-empty","field":"inventory.disks"`), "undecided: disks are incomplete"},
		{"what is missing may be there", cond(`"op":"is-empty","field":"root_disk.size"`), "undecided: disks are incomplete"},
		{"a section beside it is whole", cond(`"op":"eq","field":"cpus","value":32`), "yes"},
		{"one of two sections", cond(`"op":"is-empty","field":"all_interfaces.eth0.pxe"`), "undecided: boot is not known"},
		{"what is never known", cond(`"op":"is-empty","field":"inventory.hostname"`), "undecided: inventory.hostname is never known to muster"},
		{"nor in a list of what is", cond(`"op":"is-empty","field":"inventory.interfaces[*].client_id"`), "undecided: inventory.interfaces[*].client_id is never known to muster"},
		{"an error before a gap is the answer", `{"conditions":[{"op":"gt","field":"cpus","value":"a"},{"op":"is-empty","field":"inventory.disks"}]}`, `undecided: rule-failed at /conditions/0/value: there is no order between 32 and "a"`},
		{"an error behind a gap, too", `{"conditions":[{"op":"is-empty","field":"inventory.disks"},{"op":"gt","field":"cpus","value":"a"}]}`, `undecided: rule-failed at /conditions/1/value: there is no order between 32 and "a"`},
		{"a no behind a gap decides", `{"conditions":[{"op":"is-empty","field":"inventory.disks"},{"op":"gt","field":"cpus","value":99}]}`, "no"},
		{"the first gap is the cause", `{"conditions":[{"op":"is-empty","field":"inventory.disks"},{"op":"is-empty","field":"inventory.hostname"}]}`, "undecided: disks are incomplete"},

		{"a template", cond(`"op":"is-empty","args":["{inventory[disks][0][size]}"]`), "undecided: disks are incomplete"},
		{"any of a loop that is", cond(`"op":"one-of","args":["{item}",["b","{inventory[hostname]}"]],"loop":["a","b"]`), "yes"},
		{"any of a loop that is not so far", cond(`"op":"one-of","args":["{item}",["c","{inventory[hostname]}"]],"loop":["a","b"]`), "undecided: inventory[hostname] is never known to muster"},
		{"all of a loop that are not", cond(`"op":"!one-of","args":["{item}",["b","{inventory[hostname]}"]],"loop":["a","b"],"multiple":"all"`), "no"},
		{"all of a loop that are so far", cond(`"op":"one-of","args":["{item}",["b","{inventory[hostname]}"]],"loop":["a","b"],"multiple":"all"`), "undecided: inventory[hostname] is never known to muster"},
		{"the last of a loop is known", cond(`"op":"one-of","args":["{item}",["b","{inventory[hostname]}"]],"loop":["a","b"],"multiple":"last"`), "yes"},
		{"or is not", cond(`"op":"one-of","args":["{item}",["b","{inventory[hostname]}"]],"loop":["b","a"],"multiple":"last"`), "undecided: inventory[hostname] is never known to muster"},
	} {
		p, err := names.Compile(test.rule)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		r := p.Eval(env)
		got := r.Verdict.String()
		if r.Cause != "" {
			got += ": " + r.Cause
		}
		if got != test.want {
			t.Errorf("%s: %s\n got %s\nwant %s", test.name, test.rule, got, test.want)
		}
	}
}

// An evaluation ends, whatever the rule and the facts.
func TestCostIsBounded(t *testing.T) {
	env := &inspection.Env{Data: map[string]any{"text": strings.Repeat("x", 1<<22), "list": make([]any, 1<<17)}}
	for _, condition := range []string{`"op":"contains","field":"text","value":"(a|b|c|d|e|f)+y"`, `"op":"is-empty","field":"list[*]","invert":true`} {
		if got := judge(cond(condition), env); !strings.HasPrefix(got, "undecided: too-costly at /conditions/0") || !strings.HasSuffix(got, ": more than 100000 steps") {
			t.Errorf("%s is %s; want too-costly", condition, got)
		}
	}
}

func TestExplain(t *testing.T) {
	p, err := names.Compile(`{"scope":"lab","conditions":[{"value":1000,"op":"gt","field":"inventory.disks[*].size","multiple":"all"},{"op":"is-empty","field":"inventory.gpu","invert":true}]}`)
	if err != nil {
		t.Fatal(err)
	}
	q, err := names.Compile(`{"conditions":[{"op":"!eq","args":{"values":["{inventory[cpu][count]}","{item}"]},"loop":[16,32],"multiple":"all"},{"op":"is-empty","args":["{inventory[hostname]}"]},{"op":"is-true","args":[true]},
		{"op":"contains","args":["{inventory[gpu]}<b>","x"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	got := p.Explain(manualNode(t))
	got.Parts = append(got.Parts, q.Explain(manualNode(t)).Parts...)
	want := rule.Result{Verdict: rule.No, Parts: []rule.Part{
		{Expr: `"scope": "lab"`, Value: "yes"},
		{Expr: `{"op": "gt", "field": "inventory.disks[*].size", "value": 1000, "multiple": "all"}`, Value: "no (500)"},
		{Expr: `{"op": "is-empty", "field": "inventory.gpu", "invert": true}`, Value: "no (there is no inventory.gpu)"},
		{Expr: `{"op": "!eq", "args": {"values":["{inventory[cpu][count]}","{item}"]}, "loop": [16,32], "multiple": "all"}`, Value: "no (32)"},
		{Expr: `{"op": "is-empty", "args": ["{inventory[hostname]}"]}`, Value: "undecided (inventory[hostname] is never known to muster)"},
		{Expr: `{"op": "is-true", "args": [true]}`, Value: "yes"},
		{Expr: `{"op": "contains", "args": ["{inventory[gpu]}<b>","x"]}`, Value: "no (there is no inventory[gpu])"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	const text = `{"conditions": [{"op": "gt", "field": "inventory.disks[*].size", "value": 1000, "multiple": "all"}, {"op": "is-empty", "field": "inventory.gpu", "invert": true}], "scope": "lab"}`
	if p.String() != text {
		t.Errorf("String is %s\nwant %s", p, text)
	}
}
