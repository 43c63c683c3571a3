package razor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule/razor"
)

// Rows are refused with these faults, all of them and in reading order.
func TestCompileRefuses(t *testing.T) {
	names := "!= < <= = > >= and eq fact gt gte has_macaddress has_macaddress_like in like lower lt lte metadata neq not num or state str tag upper"
	tests := []struct {
		name, rule string
		want       []string
	}{
		{"an empty rule", `[]`, []string{"too-few-arguments: a rule is an operator and at least one argument"}},
		{"an empty rule inside", `["and",[],true]`, []string{"too-few-arguments at /1: a rule is an operator and at least one argument"}},
		{"an operator in capitals", `["AND",true]`, []string{`unknown-operator: there is no operator "AND"; there are ` + names}},
		{"an operator that is computed", `[["lower","AND"],true]`, []string{`unknown-operator: ["lower","AND"] is no operator; there are ` + names}},
		{"a rule that is no array", `{"and":true}`, []string{"unknown-operator: a rule is a JSON array with an operator first"}},
		{"all faults, whatever their order", `["or",["lower",1],["=",1,{}],["like","a",["str","b"]],"x"]`, []string{
			"argument-type at /1: lower gives a string and or takes a boolean",
			"argument-type at /1/1: 1 is a number and lower takes a string",
			"bad-literal at /2/2: an object is no argument",
			"bad-regex at /3/2: a pattern stands in the rule as a string, it is not computed",
			`argument-type at /4: "x" is a string and or takes a boolean`,
		}},
		{"the tenth argument comes behind the second", `["and",true,1,true,true,true,true,true,true,true,2]`, []string{
			"argument-type at /2: 1 is a number and and takes a boolean", "argument-type at /10: 2 is a number and and takes a boolean"}},
		{"a fact at the root", `["fact",["str","a"]]`, []string{`root-not-boolean: fact may give any scalar and a rule is true or false; write ["=", ["fact", ["str", "a"]], true]`}},
		{"a fact is no number", `[">",["fact","x"],1]`, []string{`argument-type at /1: fact may give any scalar and > takes a number; write ["num", ["fact", "x"]]`}},
		{"a fact is no string", `["=",["lower",["fact","x"]],"a"]`, []string{`argument-type at /1/1: fact may give any scalar and lower takes a string; write ["str", ["fact", "x"]]`}},
		{"a fact is no boolean", `["and",["fact","x"]]`, []string{`argument-type at /1: fact may give any scalar and and takes a boolean; write ["=", ["fact", "x"], true]`}},
		{"a number is no pattern", `["like","a",5]`, []string{"argument-type at /2: 5 is a number and like takes a pattern"}},
		{"further arguments are as the last", `["=",["state","installed",null],"x",{}]`, []string{
			"argument-type at /1/2: null is null and state takes a string", "bad-literal at /3: an object is no argument"}},
		{"a comparison needs both sides", `["<","a"]`, []string{"too-few-arguments: < takes 2 arguments", `argument-type at /1: "a" is a string and < takes a number`}},
		{"like needs a pattern", `["like","a"]`, []string{"too-few-arguments: like takes 2 arguments"}},
		{"text that is no JSON", `["and",true`, []string{"bad-json: byte 11: unexpected EOF"}},
		{"two rules", `["and",true] []`, []string{"bad-json: byte 14: there is more behind the rule"}},
		{"text that is not UTF-8", "[\"and\",\"\xff\"]", []string{"bad-json: the rule is not UTF-8 text"}},
		{"a long rule", `["and",true` + strings.Repeat(" ", 32<<10) + `]`, []string{"too-large: the rule is longer than 32768 bytes"}},
		{"many values", `["in"` + strings.Repeat(",1", 4001) + `]`, []string{"too-large at /4001: the rule has more than 4000 values"}},
		{"deep rules", strings.Repeat(`["not",`, 65) + "true" + strings.Repeat("]", 65), []string{"too-large at " + strings.Repeat("/1", 64) + ": rules are nested deeper than 64"}},
		{"a long pattern", `["like","a","` + strings.Repeat("a", 520) + `"]`, []string{"bad-regex at /2: the pattern is longer than 512 bytes"}},
		{"a large pattern", `["has_macaddress_like","(.{9}){99}(.{9}){99}(.{9}){99}"]`, []string{"bad-regex at /1: the pattern is too large"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := razor.Compile(test.rule)
			var faults razor.Errors
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

func TestCompileTakes(t *testing.T) {
	for _, src := range []string{
		strings.Repeat(`["not",`, 64) + "true" + strings.Repeat("]", 64),
		`["in"` + strings.Repeat(",1", 4000) + `]`,
		" [ \"and\" ,\n true ] ",
	} {
		if _, err := razor.Compile(src); err != nil {
			t.Errorf("Compile(%.60s) = %v", src, err)
		}
	}
}

func TestWarningsAndTags(t *testing.T) {
	p, err := razor.Compile(`["and", ["=", 1, 1, 2, ["tag", "b"]], ["not", ["=", ["tag", "a", "b"], ["tag", "b"]], true], ["in", 1, 2, 3]]`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"argument 3 of = has no effect, at /1/3", "argument 4 of = has no effect, at /1/4", "argument 2 of tag has no effect, at /2/1/1/2", "argument 2 of not has no effect, at /2/2"}
	if diff := cmp.Diff(want, p.Warnings()); diff != "" {
		t.Errorf("Warnings: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, p.Tags()); diff != "" {
		t.Errorf("Tags: -want +got\n%s", diff)
	}
	if got := p.TagPath("b"); got != "/1/4/1" {
		t.Errorf("TagPath(b) = %s; want /1/4/1", got)
	}
}

// Each construct of razor.md, section 2.5, and what surrounds it.
func TestPatterns(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{`(a)\1`, `no \1 (a back-reference)`}, {`(?<n>a)\k<n>`, `no \k`}, {`(?<n>a)\g<n>`, `no \g`}, {`(?=a)`, "no (?="}, {`a(?!b)`, "no (?!"},
		{`(?<=a)b`, "no (?<="}, {`(?<!a)b`, "no (?<!"}, {`(?>a)`, "no (?>"}, {`a*+`, "possessive"}, {`a++`, "possessive"}, {`a?+`, "possessive"},
		{`(?(1)a|b)`, "no (?("}, {`(?~a)`, "no (?~"}, {`\Ka`, `no \K`}, {`\Ga`, `no \G`}, {`\R`, `no \R`}, {`\X`, `no \X`},
		{`\h+`, "write [0-9a-fA-F]"}, {`\H`, "write [^0-9a-fA-F]"}, {`[\h:]`, "write 0-9a-fA-F"}, {`a\Z`, `write \n?\z`},
		{`\u00e9`, `write \x{XXXX}`}, {`\e`, `write \x1b`}, {`\cA`, `no \c`}, {`[\b]`, `write \x08`}, {`(?'n'a)`, "write (?<n>..)"}, {`(?#c)a`, "leave it out"},
		{`(?x)a`, "no (?x"}, {`(?ix:a)`, "no (?x"}, {`(?a)b`, "no (?a"}, {`(?d:b)`, "no (?d"}, {`(?u)b`, "no (?u"},
		{`a**`, "group around the inner"}, {`a+*`, "group around the inner"}, {`a{2}{3}`, "group around the inner"}, {`a{2}+`, "group around the inner"}, {`a{1,2}+`, "possessive"},
		{`a{1001}`, "not RE2"}, {`\p{Alpha}`, "write [[:alpha:]]"}, {`\P{alnum}`, "write [[:^alnum:]]"}, {`\p{^Upper}`, "write [[:^upper:]]"}, {`\P{^Upper}`, "write [[:upper:]]"},
		{`(?m)a.b`, "write (?s"}, {`(?im:a)`, "write (?s"}, {`(?i-m:a)`, "write (?s"}, {`a(?i)b|c`, "write (?i:..)"}, {`(a(?i)b)`, "write (?i:..)"},
		{`a{,3}`, "write {0,3}"}, {`[a-z&&[^b]]`, "no &&"}, {`[a[bc]]`, "no [ in a class"}, {`\Qa+b\E`, `no \Q`}, {`\pL`, `write \p{L}`}, {`\PL`, `write \P{L}`}, {`a{2}?`, "write (?:a{n})?"},
		{`*`, "not RE2"}, {`a)(b`, "not RE2"}, {`[a`, "not RE2"}, {`a\`, "not RE2"}, {`(`, "not RE2"}, {`\p{Nope}`, "not RE2"}, {`\y`, "not RE2"},

		{`(?i)abc`, ""}, {`(?i:a)b`, ""}, {`(?s)a.b`, ""}, {`(?P<n>a)`, ""}, {`(?<n>a)`, ""}, {`(?U)a+`, ""}, {`\x{e9}`, ""}, {`\x41`, ""}, {`a+?b*?c??`, ""}, {`a{2,3}?`, ""},
		{`a{2}b?`, ""}, {`(a{2})?`, ""}, {`\\1`, ""}, {`\\h`, ""}, {`[\\b]`, ""}, {`[[:alpha:]_-]`, ""}, {`[]a]`, ""}, {`[^]a]`, ""}, {`[a\]\[]`, ""}, {`[&a&]`, ""}, {`a{,}`, ""}, {`a{x}`, ""}, {`{`, ""},
		{`a{`, ""}, {`[*+?{,3}]`, ""}, {`\*+`, ""}, {`[a]+?`, ""}, {`(a|b)*|c+`, ""}, {`\bfoo\b`, ""}, {`\d\w\s\S\A\z`, ""}, {`\p{L}\p{Greek}`, ""}, {`^$`, ""}, {``, ""}, {`(?:a+)+`, ""}, {`\Z?`, `no \Z`}, {`[(?=]`, ""}, {`\(?=`, ""},
	}
	for _, test := range tests {
		_, err := razor.Compile(fmt.Sprintf(`["like","a",%s]`, jsonText(test.pattern)))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", test.pattern, err, test.want)
		}
		var faults razor.Errors
		if errors.As(err, &faults) && (len(faults) != 1 || faults[0].Code != razor.BadRegex || faults[0].Path != "/2") {
			t.Errorf("%s: %v; want bad-regex at /2", test.pattern, err)
		}
	}
}
