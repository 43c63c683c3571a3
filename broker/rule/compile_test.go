package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
)

func TestCompileRefuses(t *testing.T) {
	schema := newSchema(t)
	tests := []struct {
		name, rule string
		want       rule.Error
	}{
		{"a misspelt fact is refused and the nearest is named", `facts.memroy.total_bytes > 1`,
			rule.Error{Offset: 6, Line: 1, Column: 7, Msg: "unknown fact facts.memroy", Near: "facts.memory"}},
		{"a misspelt fact on the second line has its place there", "facts.tpm.present and\n  facts.memory.totl_bytes > 1",
			rule.Error{Offset: 37, Line: 2, Column: 16, Msg: "unknown fact facts.memory.totl_bytes", Near: "facts.memory.total_bytes"}},
		{"columns are characters and offsets are bytes", `"ä" == facts.sytem.serial`,
			rule.Error{Offset: 14, Line: 1, Column: 14, Msg: "unknown fact facts.sytem", Near: "facts.system"}},
		{"a fact of another section is found by its name", `facts.total_bytes > 1`,
			rule.Error{Offset: 6, Line: 1, Column: 7, Msg: "unknown fact facts.total_bytes", Near: "facts.memory.total_bytes"}},
		{"a fact without its root is found", `memory.total_bytes > 1`,
			rule.Error{Line: 1, Column: 1, Msg: "unknown fact memory", Near: "facts.memory"}},
		{"a misspelt root is found", `fact.arch == "x86_64"`,
			rule.Error{Line: 1, Column: 1, Msg: "unknown fact fact", Near: "facts"}},
		{"a misspelt unit is found", `facts.memory.total_bytes > 1 * Gib`,
			rule.Error{Offset: 31, Line: 1, Column: 32, Msg: "unknown name Gib", Near: "GiB"}},
		{"a misspelt function is found", `lenn(facts.disks) > 1`,
			rule.Error{Line: 1, Column: 1, Msg: "unknown function lenn", Near: "len"}},
		{"a misspelt field of the node is found", `node.protectd`,
			rule.Error{Offset: 5, Line: 1, Column: 6, Msg: "unknown fact node.protectd", Near: "node.protected"}},
		{"a fact like no other has no suggestion", `facts.qqqqqqqq == 1`,
			rule.Error{Offset: 6, Line: 1, Column: 7, Msg: "unknown fact facts.qqqqqqqq"}},
		{"an empty rule is refused", " \n",
			rule.Error{Line: 1, Column: 1, Msg: "the rule is empty; write true for a tag that every node carries"}},
		{"two letters that changed places are one error, even in a short word", `facts.cup.cores == 1`,
			rule.Error{Offset: 6, Line: 1, Column: 7, Msg: "unknown fact facts.cup", Near: "facts.cpu"}},
		{"a syntax error has its place", `facts.arch == `,
			rule.Error{Offset: 13, Line: 1, Column: 14, Msg: "unexpected token EOF"}},
		{"a number is no rule", `facts.cpu.cores`,
			rule.Error{Line: 1, Column: 1, Msg: "a rule is true or false; facts.cpu.cores is a number"}},
		{"a number is not compared with a string", `facts.cpu.cores > "4"`,
			rule.Error{Offset: 16, Line: 1, Column: 17, Msg: `cannot compare facts.cpu.cores (number) with "4" (string)`}},
		{"strings have no order, versions do", `facts.firmware.version < "2.9"`,
			rule.Error{Offset: 23, Line: 1, Column: 24, Msg: "< compares numbers; write version_less(x, y) for versions and dates"}},
		{"a list is not compared", `facts.disks == facts.nics`,
			rule.Error{Offset: 12, Line: 1, Column: 13, Msg: "facts.disks is a list; only numbers, strings and booleans can be compared"}},
		{"and joins booleans", `facts.arch and facts.tpm.present`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "and takes a boolean; facts.arch is a string"}},
		{"both sides of or are checked, whatever the order", `facts.tpm.present or facts.cpu.cores`,
			rule.Error{Offset: 18, Line: 1, Column: 19, Msg: "or takes a boolean; facts.cpu.cores is a number"}},
		{"a test is a boolean", `any(facts.disks, .name)`,
			rule.Error{Line: 1, Column: 1, Msg: "any takes a boolean; .name is a string"}},
		{"only a list has elements", `any(facts.memory, true)`,
			rule.Error{Offset: 18, Line: 1, Column: 19, Msg: "any takes a list; facts.memory is an object"}},
		{"an element stands in a test only", `.name == "sda"`,
			rule.Error{Line: 1, Column: 1, Msg: `unexpected token Operator(".")`}},
		{"a scalar has no members", `facts.arch.bits == 64`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "facts.arch is a string and has no member .bits"}},
		{"a list of two kinds is refused", `facts.arch in ["a", 1]`,
			rule.Error{Offset: 14, Line: 1, Column: 15, Msg: "a list holds one kind of value, not a string and a number"}},
		{"a list holds constants", `facts.arch in [facts.arch]`,
			rule.Error{Offset: 14, Line: 1, Column: 15, Msg: "a list holds constants only; write x == facts.arch or ..."}},
		{"the kind looked up is that of the list", `1 in facts.cpu.flags`,
			rule.Error{Offset: 2, Line: 1, Column: 3, Msg: "cannot find 1 (number) in a list of strings"}},
		{"a string contains strings, a list is asked with in", `facts.cpu.flags contains "avx"`,
			rule.Error{Offset: 16, Line: 1, Column: 17, Msg: "contains takes a string; facts.cpu.flags is a list (write x in facts.cpu.flags)"}},
		{"a pattern stands in the rule", `facts.arch matches facts.arch`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "matches takes a pattern in quotes on its right"}},
		{"a pattern is RE2", `facts.arch matches "(?=x)"`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "the pattern is not RE2: error parsing regexp: invalid or unsupported Perl syntax: `(?=`"}},
		{"a pattern is short", `facts.arch matches "` + strings.Repeat("a", 513) + `"`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "the pattern is longer than 512 bytes"}},
		{"a short pattern may be a large program", `facts.arch matches "(.{9}){99}(.{9}){99}(.{9}){99}"`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "the pattern is too large"}},
		{"a network is checked", `cidr_contains("10.0.0.0/99", "10.0.0.1")`,
			rule.Error{Line: 1, Column: 1, Msg: `"10.0.0.0/99" is not a network such as "10.0.0.0/8"`}},
		{"a MAC is checked", `any(facts.nics, mac_in(.mac, "52:54:0"))`,
			rule.Error{Offset: 16, Line: 1, Column: 17, Msg: `"52:54:0" is not a MAC such as "52:54:00:12:34:56" nor a maker's part of one such as "52:54:00"`}},
		{"known asks for facts", `known(1 == 1)`,
			rule.Error{Line: 1, Column: 1, Msg: "known takes a fact; 1 == 1 is none"}},
		{"a default has the kind of its fact", `default(facts.cpu.cores, "many") == 1`,
			rule.Error{Line: 1, Column: 1, Msg: "the default of facts.cpu.cores is a number, not a string"}},
		{"a function takes its number of arguments", `len() == 1`,
			rule.Error{Line: 1, Column: 1, Msg: "len takes 1 argument; write len(list or string)"}},
		{"a constant that cannot be computed is refused", `1 / 0 == 1`,
			rule.Error{Offset: 2, Line: 1, Column: 3, Msg: "1 / 0 divides by zero"}},
		{"nil is not known(x)", `facts.memory == nil`,
			rule.Error{Offset: 16, Line: 1, Column: 17, Msg: "there is no nil in a rule; write known(x) or not known(x)"}},
		{"there is no if", `facts.tpm.present ? true : false`,
			rule.Error{Offset: 31, Line: 1, Column: 32, Msg: "there is no if in a rule; write (a and x) or (not a and y)"}},
		{"?. is not needed", `facts?.arch == "x"`,
			rule.Error{Offset: 7, Line: 1, Column: 8, Msg: "there is no ?. in a rule; write a dot, an absent fact makes the rule undecided"}},
		{"?? is called default", `(facts.arch ?? "x") == "x"`,
			rule.Error{Offset: 12, Line: 1, Column: 13, Msg: "there is no ?? in a rule; write default(x, y)"}},
		{"there are no ranges", `facts.cpu.cores in 1..4`,
			rule.Error{Offset: 20, Line: 1, Column: 21, Msg: "there are no ranges in a rule; write x >= 1 and x <= 5"}},
		{"the rest of expr stays outside", `1 in map(facts.disks, .size_bytes)`,
			rule.Error{Offset: 5, Line: 1, Column: 6, Msg: "unknown function map"}},
		{"a fact cannot be called", `facts.arch.upper() == "X"`,
			rule.Error{Offset: 11, Line: 1, Column: 12, Msg: "a fact cannot be called"}},
		{"text that is not UTF-8 is refused", "facts.arch == \"\xff\"",
			rule.Error{Offset: 15, Line: 1, Column: 16, Msg: "the rule is not UTF-8 text"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := schema.Compile(test.rule)
			var got *rule.Error
			if !errors.As(err, &got) {
				t.Fatalf("Compile(%q) = %v; want an *Error", test.rule, err)
			}
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("Compile(%q): -want +got\n%s", test.rule, diff)
			}
		})
	}
}

func TestCompileBounds(t *testing.T) {
	schema := newSchema(t)
	tests := []struct{ name, rule, want string }{
		{"a long rule is refused", `true` + strings.Repeat(" ", 4096), "the rule is longer than 4096 bytes"},
		{"a rule of the longest length passes", `true` + strings.Repeat(" ", 4092), ""},
		{"many terms are refused", `true` + strings.Repeat(" or true", 500), "the rule is nested deeper than 64"},
		{"many terms in a list are refused", `1 in [` + strings.Repeat("1,", 1000) + `1]`, "the rule has more than 1000 terms"},
		{"deep brackets alone cost nothing", strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500), ""},
		{"deep not is refused", strings.Repeat("not ", 100) + "true", "the rule is nested deeper than 64"},
		{"a deep path is refused", `meta` + strings.Repeat(".a", 100) + ` == 1`, "the rule is nested deeper than 64"},
		{"four lists deep is refused", `any(meta.a, any(.b, any(.c, any(.d, # == 1))))`, "lists are looked into more than 3 deep"},
		{"chains of comparisons in tests do not explode", strings.Repeat("1 < count(meta.a, ", 3) + "true" + strings.Repeat(") < 3", 3), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := schema.Compile(test.rule)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Compile = %v; want %q", err, test.want)
			}
		})
	}
}

func TestRefs(t *testing.T) {
	p, err := newSchema(t).Compile(`any(filter(facts.disks, .size_bytes > 1), .name == "sda") and
		len(facts.disks) > 1 and facts.custom["rack-row"] == "c" and meta.site.name == "a" and facts.nics[0].mac == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"facts.custom[\"rack-row\"]", "facts.disks", "facts.disks[].name", "facts.disks[].size_bytes", "facts.nics[0].mac", "meta.site.name"}
	if diff := cmp.Diff(want, p.Refs()); diff != "" {
		t.Errorf("Refs: -want +got\n%s", diff)
	}
}

// The canonical text has one spelling for each operator and no bracket too many or too few.
func TestString(t *testing.T) {
	schema := newSchema(t)
	tests := []struct{ rule, want string }{
		{"facts.arch == \"\uFFFD\"", "facts.arch == \"\uFFFD\""},
		{`!(facts.arch=='x')&&true||false`, `not (facts.arch == "x") and true or false`},
		{`facts.arch not in ["a"]`, `not (facts.arch in ["a"])`},
		{`(true or false) and true`, `(true or false) and true`},
		{`true or (false and true)`, `true or false and true`},
		{`true and (false and true)`, `true and (false and true)`},
		{`(1+2)*3 - -4 == 1 - (2 - 3)`, `(1 + 2) * 3 - -4 == 1 - (2 - 3)`},
		{`(true == false) == true`, `(true == false) == true`},
		{`not known(facts.bmc) == true`, `(not known(facts.bmc)) == true`},
		{`1 < facts.cpu.cores < 0x10`, `1 < facts.cpu.cores and facts.cpu.cores < 16`},
		{`any(facts.nics, any(.ipv4, # == "\u00e9\n"))`, `any(facts.nics, any(.ipv4, # == "é\n"))`},
		{`any(meta.a, #[0]["b c"].d == 1e3)`, `any(meta.a, #[0]["b c"].d == 1000.0)`},
		{"facts.arch == `a\"b` // a comment", `facts.arch == "a\"b"`},
		{`facts.memory.total_bytes >= +128 * GiB`, `facts.memory.total_bytes >= 128 * GiB`},
	}
	for _, test := range tests {
		p, err := schema.Compile(test.rule)
		if err != nil {
			t.Errorf("Compile(%q): %v", test.rule, err)
			continue
		}
		if p.String() != test.want {
			t.Errorf("Compile(%q).String() = %s; want %s", test.rule, p, test.want)
		}
	}
}
