package inspection_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule/inspection"
)

// names are what the rules of these tests may read.
var names = &inspection.Schema{
	Inventory: map[string]string{
		"inventory.cpu.count": "cpu", "inventory.cpu.flags[]": "cpu", "inventory.disks[].size": "disks", "inventory.disks[].wwn": "disks",
		"inventory.hostname": "", "inventory.interfaces[].client_id": "", "cpus": "cpu", "all_interfaces.*.pxe": "nics boot",
		"root_disk.*": "disks", "plugin_data.root_disk.*": "disks",
	},
	Node: map[string]string{"name": "", "extra.*": "", "extra.cpus": "write data://cpus"},
}

func cond(members string) string { return `{"conditions":[{` + members + `}]}` }

// Rows are refused with these faults, all of them.
func TestCompileRefuses(t *testing.T) {
	const ops, ironicOps = "contains eq ge gt in-net is-empty le lt matches ne", "contains eq gt in-net is-empty is-false is-none is-true lt matches one-of, each with ! before it, too"
	tests := []struct {
		name, rule string
		want       []string
	}{
		{"text that is no JSON", `{"conditions": [}`, []string{"bad-json: byte 17: invalid character '}' looking for beginning of value"}},
		{"text that ends early", `{"conditions": [`, []string{"bad-json: byte 16: unexpected EOF"}},
		{"two rules", `{} {}`, []string{"bad-json: byte 4: there is more behind the rule"}},
		{"text that is not UTF-8", "{\"scope\": \"\xff\"}", []string{"bad-json: the rule is not UTF-8 text"}},
		{"a list", `[]`, []string{"not-a-map: a rule is a map with conditions"}},
		{"a long rule", `{"scope": "` + strings.Repeat("x", 32<<10) + `"}`, []string{"too-large: the rule is longer than 32768 bytes"}},
		{"a member that no rule has", `{"condition": []}`, []string{`unknown-parameter at /condition: a rule has no "condition"; there are actions conditions description phase priority scope sensitive uuid`}},
		{"conditions that are no list", `{"conditions": {"op": "eq"}}`, []string{"not-a-list at /conditions: conditions are a list, not an object"}},
		{"a condition that is no map", `{"conditions": ["eq"]}`, []string{"not-a-map at /conditions/0: a condition is a map, not a string"}},
		{"a condition of no form", cond(`"op":"eq"`), []string{"missing-argument at /conditions/0: a condition has a field (ironic-inspector) or args (Ironic)"}},
		{"conditions of two forms", `{"conditions":[{"op":"is-empty","field":"a"},{"op":"is-empty","args":["a"]}]}`,
			[]string{"unknown-parameter at /conditions/1: this condition is one of Ironic and others are of ironic-inspector; write all in one form"}},
		{"a scope in Ironic's form", `{"scope":"lab","conditions":[{"op":"is-empty","args":["a"]}]}`, []string{"unknown-parameter at /scope: rules of Ironic have no scope"}},
		{"a priority in ironic-inspector's", `{"priority":1,"conditions":[{"op":"is-empty","field":"a"}]}`, []string{"unknown-parameter at /priority: rules of ironic-inspector have no priority"}},
		{"a scope that is no text", `{"scope":["lab"]}`, []string{"bad-value at /scope: a scope is a string, not a list"}},
		{"priorities", `{"priority":-1}`, []string{"priority-out-of-range at /priority: a priority is an integer from 0 to 9999, not -1"}},
		{"a priority that is no integer", `{"priority":1.0}`, []string{"priority-out-of-range at /priority: a priority is an integer from 0 to 9999, not 1.0"}},
		{"another phase", `{"phase":"early"}`, []string{`bad-value at /phase: "early" is no phase; there is main`}},
		{"actions of either form, each with what muster has", `{"actions":[{"action":"fail","message":"x"},{"op":"api-call","args":{}},{"op":"brew"},7]}`, []string{
			`actions at /actions/0: a tag does nothing, so leave "fail" out; write the tag in not_tags of the policies that shall not take such nodes`,
			`actions at /actions/1: a tag does nothing, so leave "api-call" out; save a hook whose where asks for the tag`,
			`actions at /actions/2: a tag does nothing, so leave "brew" out; a tag's rule has conditions only`,
			`actions at /actions/3: a tag does nothing, so leave "" out; a tag's rule has conditions only`}},
		{"actions that are no list", `{"actions":{}}`, []string{"not-a-list at /actions: actions are a list, not an object"}},

		{"no operator", cond(`"field":"cpus"`), []string{"missing-argument at /conditions/0/op: a condition has an op; there are " + ops}},
		{"an operator of Ironic in ironic-inspector's form", cond(`"op":"!eq","field":"cpus","value":1`), []string{`unknown-operator at /conditions/0/op: there is no operator "!eq"; there are ` + ops + "; write invert: true beside it"}},
		{"an operator of ironic-inspector in Ironic's form", cond(`"op":"ge","args":[[1]]`), []string{`unknown-operator at /conditions/0/op: there is no operator "ge"; there are ` + ironicOps}},
		{"all faults of a condition", cond(`"op":"in-net","field":7,"value":"10","multiple":"last","invert":"yes","loop":[]`), []string{
			`unknown-parameter at /conditions/0/multiple: multiple is one of any all first, not "last"`,
			`bad-value at /conditions/0/invert: write true or false, not "yes"`,
			`unknown-parameter at /conditions/0/loop: a condition of ironic-inspector has no "loop"; there are op field value multiple invert`,
			`bad-network at /conditions/0/value: "10" is no network; write it as 10.0.0.0/8 or fd00::/64`,
			"bad-path at /conditions/0/field: a field is a path such as inventory.cpu.count, not a number"}},
		{"a value where none is", cond(`"op":"is-empty","field":"cpus","value":1`), []string{"unknown-parameter at /conditions/0/value: is-empty takes no value"}},
		{"no value where one is", cond(`"op":"eq","field":"cpus","value":null`), []string{"missing-argument at /conditions/0/value: eq takes a value"}},
		{"a list has no order", cond(`"op":"lt","field":"cpus","value":[1]`), []string{"bad-value at /conditions/0/value: lt takes a number or a string, not a list"}},
		{"a number beyond 64 bits", cond(`"op":"lt","field":"cpus","value":9223372036854775808`), []string{"bad-value at /conditions/0/value: 9.223372036854776e+18 is beyond 64 bits"}},
		{"a pattern that is no text", cond(`"op":"contains","field":"cpus","value":5`), []string{"bad-regex at /conditions/0/value: a pattern is a string, not a number"}},
		{"an empty pattern", cond(`"op":"matches","field":"cpus","value":""`), []string{"bad-regex at /conditions/0/value: an empty pattern fails on every node; write is-empty, or .*"}},
		{"another scheme", cond(`"op":"is-empty","field":"http://x"`), []string{`bad-path at /conditions/0/field: there is no scheme "http"; there are data:// and node://`}},
		{"a node's member that muster has not", cond(`"op":"is-empty","field":"node://driver_info.x"`), []string{`bad-path at /conditions/0/field: a node of muster has no "node://driver_info.x"; there are extra.* name`}},
		{"a node's member that is another", cond(`"op":"is-empty","field":"node://extra.cpus"`), []string{`bad-path at /conditions/0/field: "node://extra.cpus" is something else in muster; write data://cpus`}},
		{"the first of an object", cond(`"op":"eq","field":"all_interfaces.*.pxe","value":true,"multiple":"first"`), []string{"bad-path at /conditions/0/field: the first of .* depends on an order of members that muster does not keep; name the member"}},
		{"the text of an object", cond(`"op":"contains","field":"inventory.disks","value":"x"`), []string{"bad-path at /conditions/0/field: inventory.disks is an object or a list of them, which has no text here; write the path of a member"}},

		{"args that are text", cond(`"op":"eq","args":"x"`), []string{"not-a-map at /conditions/0/args: args are a map or a list, not a string"}},
		{"args that are not there", cond(`"op":"!in-net"`), []string{"missing-argument at /conditions/0/args: in-net takes address", "missing-argument at /conditions/0/args: in-net takes subnet"}},
		{"more args than there are", cond(`"op":"is-true","args":[1,2]`), []string{`unknown-parameter at /conditions/0/args/1: is-true takes no "1"; there are value`}},
		{"values one by one", cond(`"op":"eq","args":["a","b"]`), []string{"not-a-list at /conditions/0/args/values: values are a list, not a string", `bad-value at /conditions/0/args/force_strings: write true or false, not "b"`}},
		{"nested values", cond(`"op":"eq","args":[[["a"],{}]]`), []string{"bad-value at /conditions/0/args/values/0: a list is no value here; write a string, a number, true, false or null",
			"bad-value at /conditions/0/args/values/1: an object is no value here; write a string, a number, true, false or null"}},
		{"invert in Ironic's form", cond(`"op":"eq","args":[[1,1]],"invert":true`), []string{`unknown-parameter at /conditions/0/invert: a condition of Ironic has no "invert"; there are op args loop multiple, and ! before an operator inverts it`}},
		{"a loop over text", cond(`"op":"eq","args":[[1,1]],"loop":"x"`), []string{"not-a-list at /conditions/0/loop: a loop is over a list or a map, not a string"}},
		{"an item outside of a loop", cond(`"op":"is-true","args":["{item}"]`), []string{`bad-path at /conditions/0/args/value: "{item}" stands outside of a loop; write loop: beside args`}},
		{"an item without the member", cond(`"op":"is-true","args":["{item[a]}"],"loop":[{"a":1},{"b":1}]`), []string{`bad-path at /conditions/0/args/value: "{item[a]}" is not in an object of the loop`}},
		{"an item that is an object", cond(`"op":"is-true","args":["{item}"],"loop":{"a":1}`), []string{`bad-path at /conditions/0/args/value: "{item}" is an object; name one of its members`}},
		{"an item with a template", cond(`"op":"is-true","args":["{item}"],"loop":["{node.name}"]`), []string{`bad-path at /conditions/0/args/value: "{node.name}" of the loop has braces, which Ironic reads twice; write the template in args`}},
		{"a pattern of an item is checked", cond(`"op":"matches","args":["{node.name}","{item}"],"loop":["a","a)"]`), []string{"bad-regex at /conditions/0/args/regex: the pattern is not RE2: error parsing regexp: unexpected ): `a)`"}},
		{"a pattern of a node", cond(`"op":"matches","args":["x","{node.name}"]`), []string{"bad-regex at /conditions/0/args/regex: regex stands in the rule as it is, and is not read of a node; write it out", "bad-regex at /conditions/0/args/regex: an empty pattern fails on every node; write is-empty, or .*"}},
		{"a network that is a number", cond(`"op":"in-net","args":["x",5]`), []string{"bad-network at /conditions/0/args/subnet: 5 is no network; write it as 10.0.0.0/8 or fd00::/64"}},
		{"a node's name in brackets", cond(`"op":"is-true","args":["{node[name]}"]`), []string{`bad-path at /conditions/0/args/value: "{node[name]}" names nothing in Ironic; write {node.name}`}},
		{"a second name behind a dot", cond(`"op":"is-true","args":["{node.extra.rack}"]`), []string{`bad-path at /conditions/0/args/value: "{node.extra.rack}" names nothing in Ironic; write {node.extra[rack]}`}},
		{"a whole inventory", cond(`"op":"is-true","args":["{inventory}"]`), []string{`bad-path at /conditions/0/args/value: "{inventory}" is an object; name one of its members, as in {inventory[cpu][count]}`}},
		{"an object in it", cond(`"op":"is-true","args":["{inventory[disks][0]}"]`), []string{`bad-path at /conditions/0/args/value: "{inventory[disks][0]}" is an object or a list of them, which has no text here; write the path of a member`}},
		{"another root", cond(`"op":"is-true","args":["{data[cpus]}"]`), []string{`bad-path at /conditions/0/args/value: there is no "{data[cpus]}"; there are {inventory[..]}, {plugin_data[..]}, {node.name}, in a loop {item}, and {{ for a brace`}},
		{"a format", cond(`"op":"is-true","args":["{inventory[cpu][count]:>5}"]`), []string{`bad-path at /conditions/0/args/value: "{inventory[cpu][count]:>5}" has a conversion or a format, which are not supported; write names only, as in {inventory[cpu][count]}`}},
		{"a template beside braces", cond(`"op":"is-true","args":["{node.name}{2}"]`), []string{"bad-path at /conditions/0/args/value: a string with templates has other braces, too, so that Ironic would leave it as it is; write {{ and }} for those"}},
		{"a secret", cond(`"op":"is-true","args":["{inventory[bmc][password]}"]`), []string{`bad-path at /conditions/0/args/value: "{inventory[bmc][password]}" is a secret, which Ironic shows to rules as *** and muster does not have`}},
		{"many tests", cond(`"op":"is-true","args":[1],"loop":[` + strings.Repeat("1,", 1000) + `1]`), []string{"too-large at /conditions/0: the rule has more than 1000 tests, which are its conditions, each as often as its loop runs"}},
		{"many conditions", `{"conditions":[` + strings.Repeat(`{"op":"is-empty","field":"a"},`, 1000) + `{"op":"is-empty","field":"a"}]}`, []string{"too-large at /conditions/1000: the rule has more than 1000 tests, which are its conditions, each as often as its loop runs"}},
		{"a long pattern", cond(`"op":"contains","field":"cpus","value":"` + strings.Repeat("a", 520) + `"`), []string{"bad-regex at /conditions/0/value: the pattern is longer than 512 bytes"}},
		{"a large pattern", cond(`"op":"contains","field":"cpus","value":"(.{9}){99}(.{9}){99}(.{9}){99}"`), []string{"bad-regex at /conditions/0/value: the pattern is too large"}},
		{"a long path", cond(`"op":"is-empty","field":"` + strings.Repeat("a.", 32) + `a"`), []string{`bad-path at /conditions/0/field: path "` + strings.Repeat("a.", 32) + `a" has more than 32 steps`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := names.Compile(test.rule)
			var faults inspection.Errors
			errors.As(err, &faults)
			var got []string
			for _, f := range faults {
				got = append(got, f.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Compile(%.200s): -want +got\n%s", test.rule, diff)
			}
		})
	}
}

// Rows are taken, with these warnings.
func TestWarnings(t *testing.T) {
	for _, test := range []struct{ name, rule, want string }{
		{"nothing to say", cond(`"op":"eq","field":"inventory.cpu.count","value":1`), ""},
		{"no conditions", `{}`, ""},
		{"members without a value", `{"scope":null,"priority":null,"phase":"main","sensitive":false,"uuid":"x","description":"x","actions":[]}`, ""},
		{"a priority", `{"priority":9999}`, "a priority has no effect: tags have no order, at /priority"},
		{"a path that no inventory has", cond(`"op":"eq","field":"inventory.gpu.count","value":1`), `"inventory.gpu.count" is in no inventory that muster makes: it is missing on every node, at /conditions/0/field`},
		{"a name behind a name", cond(`"op":"eq","field":"inventory.cpu.count.x","value":1`), `"inventory.cpu.count.x" is in no inventory that muster makes: it is missing on every node, at /conditions/0/field`},
		{"members of a list", cond(`"op":"eq","field":"inventory.disks.*.size","value":1`), `"inventory.disks.*.size" is in no inventory that muster makes: it is missing on every node, at /conditions/0/field`},
		{"a path that muster never knows", cond(`"op":"is-true","args":["{inventory[hostname]}"]`), `"inventory[hostname]" is never known to muster: the condition is undecided on every node, at /conditions/0/args/value`},
		{"a text of a list of texts", cond(`"op":"contains","field":"inventory.cpu.flags","value":"'vmx'"`), ""},
		{"anything below", cond(`"op":"eq","field":"root_disk.anything.at[0].all","value":1`), ""},
		{"any name", cond(`"op":"eq","field":"all_interfaces.eth0.pxe","value":true`), ""},
		{"all names", cond(`"op":"eq","field":"$.all_interfaces.*.pxe","value":true`), ""},
		{"a part of what is known", cond(`"op":"is-empty","field":"all_interfaces.eth0"`), ""},
		{"alternatives of which one is held to the end", cond(`"op":"matches","field":"cpus","value":"a|(b|c)"`), `matches holds only the last alternative of "a|(b|c)$" to the end of the text; write (?:a|b), at /conditions/0/value`},
		{"alternatives in a group", cond(`"op":"matches","field":"cpus","value":"(?:a|b)\\|"`), ""},
		{"alternatives anywhere", cond(`"op":"contains","field":"cpus","value":"a|b"`), ""},
		{"multiple without a loop", cond(`"op":"is-true","args":[1],"multiple":"all"`), "multiple has no effect without a loop, at /conditions/0/multiple"},
		{"a template that a number is held against", cond(`"op":"eq","args":[["{inventory[cpu][count]}",1]]`), "a template gives a string, which no number is equal to: write force_strings: true, at /conditions/0/args"},
		{"an order of texts", cond(`"op":"lt","args":[["{inventory[cpu][count]}",1],true]`), `texts are compared, of which "9" comes behind "16": to compare numbers write {op: lt, field: inventory.cpu.count, value: 16}, at /conditions/0/args`},
		{"the same in a loop, once", cond(`"op":"lt","args":[["{inventory[cpu][count]}","{item}"]],"loop":[1,2]`), `texts are compared, of which "9" comes behind "16": to compare numbers write {op: lt, field: inventory.cpu.count, value: 16}, at /conditions/0/args`},
	} {
		p, err := names.Compile(test.rule)
		if err != nil {
			t.Errorf("%s: Compile(%s): %v", test.name, test.rule, err)
			continue
		}
		if got := strings.Join(p.Warnings(), "; "); got != test.want {
			t.Errorf("%s: Warnings of %s\n got %s\nwant %s", test.name, test.rule, got, test.want)
		}
	}
}

// Paths as jsonpath-rw reads them lead to these values; the others are refused with a word on what to write.
func TestPaths(t *testing.T) {
	env := &inspection.Env{}
	decode(t, []byte(`{"a": {"b-c": [1, 2, [3, 4]], "d e": {"x": 5, "y": 6}, "@f": "text"}, "n": null}`), &env.Data)
	for _, test := range []struct{ path, want string }{
		{"a.b-c[0]", "1"}, {"$.a.b-c[0]", "1"}, {"a[b-c][1]", "2"}, {"a['b-c'][1]", "2"}, {`a["d e"].x`, "5"}, {"a.'d e'.x", "5"}, {`'a'."d e".y`, "6"},
		{"a.b-c[*]", "1, 2, [3,4]"}, {"a.b-c[*][*]", "1, 2, 3, 4"}, {"a.b-c[2][1]", "4"}, {"a.@f", `"text"`}, {"a.@f[*]", `"text"`}, {"a.'d e'.*", "5, 6"}, {"*.@f", `"text"`},
		{"n", "null"}, {"n[*]", "null"}, {"a.b-c[3]", "there is no a.b-c[3]"}, {"a.z", "there is no a.z"}, {"a.b-c.x", "there is no a.b-c.x"}, {"a.@f.x", "there is no a.@f.x"}, {"a.@f.*", "there is no a.@f.*"}, {"a.b-c.*", "there is no a.b-c.*"},
		{"a.@f[0]", "rule-failed at /conditions/0: a.@f[0]: a string has no [0]"}, {"a[0]", "rule-failed at /conditions/0: a[0]: an object has no [0]"}, {"n[0]", "rule-failed at /conditions/0: n[0]: null has no [0]"},
		{"", "write names"}, {"$", "an object"}, {".a", ""}, {"a..b", "any depth"}, {"a.b-c[0:2]", "slices"}, {"a.b,c", "several names"}, {"a|n", "`|`"}, {"a&n", "`&`"}, {"a.`parent`", "backticks"}, {"a[?(@.x)]", "filters"}, {"a[-1]", "from the end"},
		{"a b", "write names"}, {"a*", "write names"}, {"a.", "write names"}, {"a[", "write names"}, {"a[1234567]", "write names"}, {"a.0", "write names"}, {"a''", "write names"}, {"a$", "write names"},
	} {
		src := cond(fmt.Sprintf(`"op":"eq","field":%q,"value":"no such","multiple":"all","invert":true`, test.path))
		p, err := (*inspection.Schema)(nil).Compile(src)
		if err != nil {
			if test.want == "" || !strings.Contains(err.Error(), "bad-path at /conditions/0/field: path "+fmt.Sprintf("%q", test.path)) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v; want %s", test.path, err, test.want)
			}
			continue
		}
		got := p.Explain(env).Parts[0].Value
		if i := strings.Index(got, "("); i >= 0 {
			got = strings.TrimSuffix(got[i+1:], ")")
		}
		if test.want != "" && got != test.want {
			t.Errorf("%s leads to %s; want %s", test.path, got, test.want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct{ known, read, want string }{
		{"a.b", "a.b", "same"}, {"a.b", "a", "above"}, {"a.b", "a.b.c", "apart"}, {"a.b", "b", "apart"}, {"ab", "a", "apart"},
		{"a[].b", "a[].b", "same"}, {"a[].b", "a", "above"}, {"a[].b", "a[]", "above"}, {"a[].b", "a.b", "apart"}, {"a[].b", "a.*.b", "apart"},
		{"a.*.b", "a.x.b", "same"}, {"a.*.b", "a.*.b", "same"}, {"a.*.b", "a[].b", "apart"}, {"a.*.b", "a.x", "above"}, {"a.x.b", "a.*.b", "same"},
		{"a.*", "a", "above"}, {"a.*", "a.x", "same"}, {"a.*", "a.x.y[].z", "same"}, {"a.*", "b.x", "apart"},
	} {
		if got := inspection.Covers(test.known, test.read); got != test.want {
			t.Errorf("%s lies %s to %s; want %s", test.known, got, test.read, test.want)
		}
	}
}

// Validity does not depend on the order of conditions, nor on what stands beside a fault.
func TestAllFaultsWhateverTheOrder(t *testing.T) {
	conditions := []string{`{"op":"eq","field":"a..b","value":1}`, `{"op":"nope","field":"a"}`, `{"op":"matches","field":"a","value":"("}`, `{"op":"is-empty","field":"a"}`}
	var want []string
	for i := range conditions {
		turned := slices.Concat(conditions[i:], conditions[:i])
		_, err := names.Compile(`{"conditions":[` + strings.Join(turned, ",") + `]}`)
		got := codes(err)
		slices.Sort(got)
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" || len(want) != 3 {
			t.Errorf("from condition %d: -want +got\n%s", i, diff)
		}
	}
}
