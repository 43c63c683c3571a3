package rule_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
)

// Rows are rules over a small document; the answer is in the words of the manual.
func TestEval(t *testing.T) {
	schema := newSchema(t)
	tests := []struct{ name, roots, rule, want string }{
		{"a node without facts decides nothing", `{}`, `facts.arch == "x86_64"`, "undecided: facts.arch is not known"},
		{"a node without facts may be decided by its state", `{"node":{"state":"active"}}`, `facts.arch == "x86_64" or node.state == "active"`, "yes"},
		{"an absent section makes its facts unknown", `{"facts":{}}`, `facts.memory.total_bytes > 1`, "undecided: facts.memory.total_bytes is not known"},
		{"null is not known", `{"facts":{"memory":null}}`, `facts.memory.total_bytes > 1`, "undecided: facts.memory.total_bytes is not known"},
		{"a null list is not known", `{"facts":{"disks":null}}`, `len(facts.disks) == 0`, "undecided: facts.disks is not known"},
		{"an empty list is known", `{"facts":{"disks":[]}}`, `len(facts.disks) == 0 and all(facts.disks, .removable) and none(facts.disks, true)`, "yes"},
		{"the cause is the fact that is absent, not the one before it", `{"facts":{"arch":"a"}}`, `facts.arch == "a" and facts.cpu.cores == 1`, `undecided: facts.cpu.cores is not known`},
		{"the cause is the first fact in reading order", `{}`, `facts.cpu.cores > 1 and facts.arch == "x"`, "undecided: facts.cpu.cores is not known"},
		{"the left side of a comparison comes first", `{}`, `facts.cpu.cores > facts.memory.slots`, "undecided: facts.cpu.cores is not known"},
		{"an absent plain boolean is false in an object that is there", `{"facts":{"disks":[{"name":"sda"}]}}`, `facts.disks[0].removable`, "no"},
		{"an absent plain boolean is unknown without its object", `{"facts":{"disks":[]}}`, `facts.disks[0].removable`, "undecided: facts.disks[0].removable is not known"},
		{"an absent boolean that may be unknown is", `{"facts":{"disks":[{"name":"sda"}]}}`, `facts.disks[0].rotational`, "undecided: facts.disks[0].rotational is not known"},
		{"a fact of the wrong kind is not guessed at", `{"facts":{"cpu":{"cores":"32"}}}`, `facts.cpu.cores > 1`, "undecided: facts.cpu.cores is a string, not a number"},
		{"a section of the wrong kind is not guessed at", `{"facts":{"cpu":7}}`, `facts.cpu.cores > 1`, "undecided: facts.cpu.cores has no .cores: it stands on a number"},
		{"a list of the wrong kind is not guessed at", `{"facts":{"disks":{"a":1}}}`, `any(facts.disks, true)`, "undecided: facts.disks is an object, not a list"},
		{"an element of the wrong kind is not guessed at", `{"facts":{"disks":[7]}}`, `any(facts.disks, .name == "a")`, "undecided: facts.disks[0].name has no .name: it stands on a number"},
		{"metadata of another kind does not quietly differ", `{"meta":{"u":17}}`, `meta.u != "17"`, "undecided: meta.u is a number, compared with a string"},
		{"metadata of another kind is not quietly missing from a list", `{"meta":{"u":17}}`, `meta.u in ["17"]`, "undecided: meta.u is a number, looked up among strings"},
		{"metadata that is not true or false is no condition", `{"meta":{"u":17}}`, `meta.u`, "undecided: meta.u is a number, not a boolean"},
		{"metadata lists may be mixed", `{"meta":{"l":[1,"a"]}}`, `"a" in meta.l`, "yes"},
		{"integers stay exact at 64 bits", `{"facts":{"memory":{"total_bytes":9007199254740993}}}`, `facts.memory.total_bytes == 9007199254740992`, "no"},
		{"integers and fractions compare exactly", `{"facts":{"memory":{"total_bytes":9007199254740993}}}`, `facts.memory.total_bytes > 9007199254740992.0`, "yes"},
		{"1 equals 1.0", `{"meta":{"n":1.0}}`, `meta.n == 1 and meta.n / 2 == 0.5`, "yes"},
		{"a number beyond 64 bits is still a number", `{"meta":{"n":123456789012345678901234567890}}`, `meta.n > 1`, "yes"},
		{"a number beyond floats is not known", `{"meta":{"n":1e999}}`, `meta.n > 1`, `undecided: meta.n is not a number: "1e999"`},
		{"sums that overflow go on as fractions", `{"meta":{"n":9223372036854775807}}`, `meta.n + 1 > meta.n and meta.n * 2 > meta.n and -meta.n - 2 < -meta.n`, "yes"},
		{"minus the least integer is positive", `{"meta":{"n":-9223372036854775808}}`, `-meta.n > 0 and meta.n / -1 > 0 and meta.n * -1 > 0`, "yes"},
		{"not is stronger than and", `{}`, `not false and true`, "yes"},
		{"count knows its lower bound", `{"meta":{"d":[{"a":true},{"a":true},{}]}}`, `count(meta.d, .a) >= 2`, "yes"},
		{"count knows its upper bound", `{"meta":{"d":[{"a":true},{"a":true},{}]}}`, `count(meta.d, .a) > 3`, "no"},
		{"count between its bounds is undecided", `{"meta":{"d":[{"a":true},{"a":true},{}]}}`, `count(meta.d, .a) == 3`, "undecided: meta.d[2].a is not known"},
		{"count outside its bounds differs", `{"meta":{"d":[{"a":true},{"a":true},{}]}}`, `count(meta.d, .a) != 1`, "yes"},
		{"two that pass are not one, whatever the third does", `{"meta":{"d":[{"a":true},{"a":true},{}]}}`, `one(meta.d, .a)`, "no"},
		{"one and an unclear one is undecided", `{"meta":{"d":[{"a":true},{}]}}`, `one(meta.d, .a)`, "undecided: meta.d[1].a is not known"},
		{"computing with an unclear count is undecided", `{"meta":{"d":[{"a":true},{}]}}`, `count(meta.d, .a) + 1 > 0`, "undecided: meta.d[1].a is not known"},
		{"an unclear element of a filter may pass a later test", `{"meta":{"d":[{"b":1},{"a":false,"b":2}]}}`, `any(filter(meta.d, .a), .b == 1)`, "undecided: meta.d[0].a is not known"},
		{"an unclear element of a filter may fail a later test for sure", `{"meta":{"d":[{"b":1},{"a":false,"b":2}]}}`, `any(filter(meta.d, .a), .b == 2)`, "no"},
		{"an unclear element of a filter is of no weight to all when it passes", `{"meta":{"d":[{"b":1}]}}`, `all(filter(meta.d, .a), .b == 1)`, "yes"},
		{"the length of an unclear filter has bounds", `{"meta":{"d":[{"a":true},{}]}}`, `len(filter(meta.d, .a)) < 3`, "yes"},
		{"the sum of an unclear filter is undecided", `{"meta":{"d":[{"a":true,"n":1},{"n":2}]}}`, `sum(filter(meta.d, .a), .n) < 9`, "undecided: meta.d[1].a is not known"},
		{"a filtered element keeps its index", `{"meta":{"d":[{"a":false},{"a":true}]}}`, `any(filter(meta.d, .a), .n == 1)`, "undecided: meta.d[1].n is not known"},
		{"an element of an element is named in full", `{"meta":{"d":[{"e":[{},{}]}]}}`, `all(meta.d, all(.e, .f))`, "undecided: meta.d[0].e[0].f is not known"},
		{"a member that is there decides in", `{"meta":{"l":[null,"a"]}}`, `"a" in meta.l`, "yes"},
		{"a member that is not known leaves in open", `{"meta":{"l":[null,"a"]}}`, `"b" in meta.l`, "undecided: meta.l[0] is not known"},
		{"default does not hide a false", `{"facts":{"tpm":{"present":false}}}`, `default(facts.tpm.present, true)`, "no"},
		{"default may be an empty list", `{}`, `len(default(facts.incomplete, [])) == 0`, "yes"},
		{"known is about the section too", `{"facts":{"bmc":{"present":false}}}`, `known(facts.bmc) and not known(facts.tpm) and not known(facts.bmc.firmware)`, "yes"},
		{"an address that is none is not quietly outside", `{"meta":{"ip":"host"}}`, `cidr_contains("10.0.0.0/8", meta.ip)`, `undecided: meta.ip is not an address: "host"`},
		{"an IPv6 network holds IPv6 addresses", `{"meta":{"ip":"2001:db8::1/64"}}`, `cidr_contains("2001:db8::/32", meta.ip) and not cidr_contains("10.0.0.0/8", meta.ip)`, "yes"},
		{"a MAC that is none is not quietly another", `{"meta":{"m":"?"}}`, `mac_in(meta.m, "52:54:00")`, `undecided: meta.m is not a MAC: "?"`},
		{"a MAC of another maker is not in", `{"meta":{"m":"52-54-01-00-00-00"}}`, `mac_in(meta.m, "52:54:00", "52:54:01:00:00:01")`, "no"},
		{"hexadecimal text is no decimal number", `{"meta":{"n":"0x10"}}`, `num(meta.n) > 1`, `undecided: meta.n is not a number: "0x10"`},
		{"infinity is no number", `{"meta":{"n":"inf"}}`, `num(meta.n) > 1`, `undecided: meta.n is not a number: "inf"`},
		{"the length of a string is in characters", `{"meta":{"s":"größe"}}`, `len(meta.s) == 5`, "yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := judge(schema, test.rule, decode(t, test.roots)); got != test.want {
				t.Errorf("%s on %s\n got %s\nwant %s", test.rule, test.roots, got, test.want)
			}
		})
	}
}

// The whole table of Kleene's logic.
func TestKleene(t *testing.T) {
	schema := newSchema(t)
	roots := decode(t, `{"meta":{"yes":true,"no":false}}`)
	and := map[string]string{
		"yes yes": "yes", "yes no": "no", "yes u": "undecided",
		"no yes": "no", "no no": "no", "no u": "no",
		"u yes": "undecided", "u no": "no", "u u": "undecided",
	}
	flip := map[string]string{"yes": "no", "no": "yes", "undecided": "undecided", "u": "u"}
	for sides, want := range and {
		a, b, _ := strings.Cut(sides, " ")
		rules := map[string]string{
			fmt.Sprintf("meta.%s and meta.%s", a, b):            want,
			fmt.Sprintf("not (meta.%s and meta.%s)", a, b):      flip[want],
			fmt.Sprintf("meta.%s or meta.%s", flip[a], flip[b]): flip[want],
		}
		for src, want := range rules {
			if got, _, _ := strings.Cut(judge(schema, src, roots), ":"); got != want {
				t.Errorf("%s = %s; want %s", src, got, want)
			}
		}
	}
}

// Trees come from encoding/json with and without UseNumber, from Tree, and from code.
func TestEvalTakesEveryKindOfTree(t *testing.T) {
	p, err := newSchema(t).Compile(`facts.cpu.cores == 32 and "avx" in facts.cpu.flags and facts.custom.rack == "r12" and node.protected == false`)
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]map[string]any{
		"json.Number": {"cores": json.Number("32"), "flags": []any{"avx"}},
		"float64":     {"cores": 32.0, "flags": []any{"avx"}},
		"int64":       {"cores": int64(32), "flags": []string{"avx"}},
		"int":         {"cores": 32, "flags": []string{"avx"}},
	}
	for name, tree := range trees {
		roots := map[string]any{"facts": map[string]any{"cpu": tree, "custom": map[string]string{"rack": "r12"}}, "node": map[string]any{"protected": false}}
		if got := p.Eval(&rule.Env{Roots: roots}); got.Verdict != rule.Yes {
			t.Errorf("%s: %+v; want yes", name, got)
		}
	}
	got := p.Eval(&rule.Env{Roots: map[string]any{"facts": machine{}}})
	if want := "facts.cpu.cores has no .cores: it stands on a unknown"; got.Verdict != rule.Undecided || got.Cause == want {
		t.Errorf("a struct as root: %+v; want undecided", got)
	}
}

func TestEvalIsBounded(t *testing.T) {
	list := make([]any, 3000)
	for i := range list {
		list[i] = strings.Repeat("a", 500)
	}
	roots := map[string]any{"meta": map[string]any{"l": list, "s": strings.Repeat("a", 1<<22)}}
	for _, src := range []string{
		`all(meta.l, any(meta.l, # == "b") or true)`,
		`count(meta.l, count(meta.l, # == "b") > 0) == 0`,
		`any(meta.l, # matches "(a|aa)*(a|aa)*b")`,
		`meta.s matches "(x+x+)+y"`,
		`default(sum(meta.l, sum(meta.l, 1)), 1) == 1`,
		`any(meta.l, any(meta.l, not (# in meta.l)))`,
	} {
		p, err := newSchema(t).Compile(src)
		if err != nil {
			t.Errorf("Compile(%q): %v", src, err)
			continue
		}
		want := rule.Result{Verdict: rule.Undecided, Cause: "too costly: more than 100000 steps"}
		if diff := cmp.Diff(want, p.Eval(&rule.Env{Roots: roots})); diff != "" {
			t.Errorf("%s: -want +got\n%s", src, diff)
		}
		if got := p.Explain(&rule.Env{Roots: roots}); got.Verdict != rule.Undecided {
			t.Errorf("Explain(%s) = %+v; want undecided", src, got)
		}
	}
}

func TestExplain(t *testing.T) {
	schema, roots := newSchema(t), readNode(t)
	tests := []struct {
		name, rule string
		want       rule.Result
	}{
		{"a statement that fails shows why, and the rest is shown too", `len(facts.disks) >= 12 and facts.memory.total_bytes >= 128 * GiB`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{
				{Expr: "len(facts.disks)", Value: "3"},
				{Expr: "len(facts.disks) >= 12", Value: "no (3 < 12)"},
				{Expr: "facts.memory.total_bytes >= 128 * GiB", Value: "yes (201863462912 >= 137438953472)"},
			}}},
		{"an undecided statement names its fact", `facts.bmc.firmware == "1" or not (facts.arch == "x86_64")`,
			rule.Result{Verdict: rule.Undecided, Cause: "facts.bmc.firmware is not known", Parts: []rule.Part{
				{Expr: `facts.bmc.firmware == "1"`, Value: "undecided (facts.bmc.firmware is not known)"},
				{Expr: `facts.arch == "x86_64"`, Value: `yes ("x86_64" == "x86_64")`},
			}}},
		{"an element that decides is named", `any(facts.disks, .transport == "nvme") and all(facts.disks, .size_bytes > TB)`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{
				{Expr: `any(facts.disks, .transport == "nvme")`, Value: "yes (facts.disks[1])"},
				{Expr: `all(facts.disks, .size_bytes > TB)`, Value: "no (facts.disks[2])"},
			}}},
		{"lists in which nothing decides are counted", `any(facts.disks, .size_bytes > 9 * TB) or all(facts.disks, .size_bytes > 1) and one(facts.disks, .size_bytes > 1)`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{
				{Expr: `any(facts.disks, .size_bytes > 9 * TB)`, Value: "no (none of 3)"},
				{Expr: `all(facts.disks, .size_bytes > 1)`, Value: "yes (each of 3)"},
				{Expr: `one(facts.disks, .size_bytes > 1)`, Value: "no (3 of 3)"},
			}}},
		{"an unclear count shows its bounds", `count(facts.disks, .rotational) >= 2`,
			rule.Result{Verdict: rule.Undecided, Cause: "facts.disks[2].rotational is not known", Parts: []rule.Part{
				{Expr: "count(facts.disks, .rotational)", Value: "1 to 2 (facts.disks[2].rotational is not known)"},
				{Expr: "count(facts.disks, .rotational) >= 2", Value: "undecided (facts.disks[2].rotational is not known)"},
			}}},
		{"calls and plain facts show what they saw", `facts.system.product matches "^R" or known(facts.bmc) or facts.tpm.present or version_less(facts.firmware.version, "2")`,
			rule.Result{Verdict: rule.Yes, Parts: []rule.Part{
				{Expr: `facts.system.product matches "^R"`, Value: `no ("PowerEdge R640")`},
				{Expr: `known(facts.bmc)`, Value: "no"},
				{Expr: `facts.tpm.present`, Value: "yes"},
				{Expr: `version_less(facts.firmware.version, "2")`, Value: `no ("2.10.2")`},
			}}},
		{"the same statement is shown once", `facts.cpu.cores > 4 and not (facts.cpu.cores > 4)`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{{Expr: "facts.cpu.cores > 4", Value: "yes (32 > 4)"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := schema.Compile(test.rule)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, p.Explain(&rule.Env{Roots: roots})); diff != "" {
				t.Errorf("Explain(%s): -want +got\n%s", test.rule, diff)
			}
			got := p.Eval(&rule.Env{Roots: roots})
			if got.Verdict != test.want.Verdict || got.Cause != test.want.Cause {
				t.Errorf("Eval(%s) = %+v; want what Explain says", test.rule, got)
			}
		})
	}
}

func BenchmarkEval(b *testing.B) {
	schema, roots := newSchema(b), readNode(b)
	p, err := schema.Compile(`len(facts.disks) >= 2 and facts.memory.total_bytes >= 128 * GiB and any(facts.disks, .transport == "nvme" and .size_bytes > 1 * TB)`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Eval(&rule.Env{Roots: roots})
	}
}
