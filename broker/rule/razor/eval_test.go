package razor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
	"muster/broker/rule/razor"
)

// Rows are rules over facts; the answer is in the words of the manual.
func TestEval(t *testing.T) {
	tests := []struct{ name, facts, rule, want string }{
		{"and stops at the argument that is false", `{}`, `["and",false,[">",["num",["fact","x"]],1]]`, "no"},
		{"an error before that is the result", `{}`, `["and",[">",["num",["fact","x"]],1],false]`, `undecided: missing-fact at /1/1/1: there is no fact "x"`},
		{"or that never decides is false", `{}`, `["or",false,["=",1,2]]`, "no"},
		{"a path goes through lists and objects", `{"a":[{"b":5}]}`, `["=",["fact","a.0.b"],5]`, "yes"},
		{"an index before the start finds nothing", `{"a":[1,2]}`, `["in",["fact","a.-3","d"],"d"]`, "yes"},
		{"an index that is no word of an integer finds nothing", `{"a":[1,2]}`, `["in",["fact","a.+1","d"],"d"]`, "yes"},
		{"minus zero is no index", `{"a":[1,2]}`, `["in",["fact","a.-0","d"],"d"]`, "yes"},
		{"an index beyond all integers finds nothing", `{"a":[1,2]}`, `["in",["fact","a.99999999999999999999","d"],"d"]`, "yes"},
		{"false at the end of a path is found", `{"a":{"b":false}}`, `["not",["=",["fact","a.b"],false]]`, "no"},
		{"keys of an object may look like indexes and lengths", `{"a":{"0":{"length":7}}}`, `["=",["fact","a.0.length"],7]`, "yes"},
		{"nothing is below a length", `{"a":[1]}`, `["=",["fact","a.length.length",0],0]`, "yes"},
		{"a string has no length", `{"a":"xyz"}`, `["=",["fact","a.length",0],0]`, "yes"},
		{"dots in keys are found by the exact name only", `{"a":{"b.c":1},"a.b":{"c":1}}`, `["=",["fact","a.b.c",0],0]`, "yes"},
		{"dots at the end are dropped", `{"a":1}`, `["=",["fact","a.."],1]`, "yes"},
		{"dots at the start are not", `{"a":1}`, `["=",["fact",".a",0],0]`, "yes"},
		{"dots alone name nothing", `{"":1}`, `["=",["fact",".",0],0]`, "yes"},
		{"a path to a list finds nothing, even with a default", `{"a":{"b":[1]}}`, `["=",["fact","a.b",0],0]`, "yes"},
		{"the default is evaluated, needed or not", `{"a":1}`, `["=",["fact","a",["num","x"]],1]`, `undecided: not-a-number at /1/2: "x" is not a number`},
		{"in looks at all its arguments", `{"a":1}`, `["in",1,1,["fact","z"]]`, `undecided: missing-fact at /3: there is no fact "z"`},
		{"in without a rest is false", `{}`, `["in",1]`, "no"},
		{"null is in a list of null", `{"a":null}`, `["in",["fact","a"],1,null]`, "yes"},
		{"true is not 1", `{}`, `["or",["=",true,1],["=",null,0],["=","",null],["=","1",1]]`, "no"},
		{"strings are not normalised", "{}", `["=","\u00e9","e\u0301"]`, "no"},
		{"integers have no bounds", `{"a":123456789012345678901234567890}`, `["and",["=",["fact","a"],123456789012345678901234567890],[">",["num",["fact","a"]],123456789012345678901234567889],["=",["str",["fact","a"]],"123456789012345678901234567890"]]`, "yes"},
		{"integers and floats compare exactly", `{"a":9007199254740993}`, `["and",[">",["num",["fact","a"]],9007199254740992.0],["!=",["fact","a"],9007199254740993.0]]`, "yes"},
		{"a float beyond floats is greater than every number", `{}`, `["and",[">",["num","1e400"],1e308],["<",["num","-1e400"],-1e308],["=",1e400,["num","1e500"]]]`, "yes"},
		{"a tag that there is not", `{}`, `["=",["tag","a"],true]`, `undecided: missing-tag at /1: there is no tag "a"`},
		{"a state that there is not", `{}`, `["=",["state","other"],true]`, `undecided: missing-state at /1: there is no state "other"`},
		{"lower has no rule for a sigma at the end", `{}`, `["=",["lower","ΟΔΟΣ"],"οδοσ"]`, "yes"},
		{"lower of a dotted I is two characters", `{}`, `["=",["lower","İ"],"i̇"]`, "yes"},
		{"upper may lengthen", `{}`, `["=",["upper","ŉﬁ"],"ʼNFI"]`, "yes"},
		{"a MAC of another fact", `{"macaddress":"aa","m":"AA"}`, `["has_macaddress",["str",["fact","m"]]]`, "yes"},
		{"the name of the fact is in lower case", `{"MACADDRESS":"aa"}`, `["has_macaddress","aa"]`, "no"},
		{"only ASCII letters are folded", `{"macaddress":"\u212a"}`, `["has_macaddress","k"]`, "no"},
		{"a value that is no string is no MAC", `{"macaddress":1,"macaddress_a":["aa"]}`, `["has_macaddress_like","."]`, "no"},
		{"a node without facts has no MAC", `null`, `["not",["has_macaddress","aa"]]`, "yes"},
		{"a node without facts lacks each", `null`, `["=",["fact","a.b"],1]`, `undecided: missing-fact at /1: there is no fact "a.b"`},
		{"one of several patterns", `{"macaddress_b":"52:54:00:AA:00:01"}`, `["has_macaddress_like","^00","aa:00:01$"]`, "yes"},
		{"extra arguments have no effect but their errors", `{}`, `["=",1,1,["fact","z"]]`, `undecided: missing-fact at /3: there is no fact "z"`},
		{"^ and $ are at lines", `{}`, `["like","a\nb\nc","^b$"]`, "yes"},
		{"a point is no newline, but with s", `{}`, `["and",["not",["like","a\nb","a.b"]],["like","a\nb","(?s)a.b"]]`, "yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := judge(test.rule, &razor.Env{Facts: object(t, test.facts)}); got != test.want {
				t.Errorf("%s on %s\n got %s\nwant %s", test.rule, test.facts, got, test.want)
			}
		})
	}
}

// The tables of razor.md, section 2.4, and what lies between their lines. A number is said as str says it.
func TestNumOfString(t *testing.T) {
	tests := map[string]string{
		"+027": "27.0", " 027": "27.0", "027 ": "27.0", "027\n": "23", "-0B11": "-3", "027\n\n": "27.0", "-027": "-23", "00": "0", "0": "0.0",
		"0X1F": "31.0", "+0x1f": "31.0", "0x1.8p1": "3.0", "0x1.8": "1.5", "-0x1_0": "-16.0", "0x1P-1": "0.5",
		"1_0.5_0": "10.5", ".5e1": "5.0", "-.5": "-0.5", "08": "8.0", "010.5": "10.5", "1e1_0": "10000000000.0", "\t\v\f\r\n 7\t": "7.0",
		"1e400": "Infinity", "-1e400": "-Infinity", "1E+2": "100.0", "1e-400": "0.0", "-0": "-0.0", "0_7": "7.0",
		"0777777777777777777777777": "4722366482869645213695", "0b" + strings.Repeat("1", 65): "36893488147419103231",
		"1__0": "error", "_1": "error", "1_": "error", "0x_f": "error", "0x": "error", "0b12": "error", "0b": "error", "1.": "error",
		"1.e1": "error", "1e": "error", "1,000": "error", "4 2": "error", "- 5": "error", "1d": "error", "Infinity": "error",
		"\u00a042": "error", "": "error", " ": "error", ".": "error", "+": "error", "e5": "error", ".e5": "error", "1_.5": "error",
		"1._5": "error", "1\x0042": "error", "0x1.": "error", "0x.8": "error", "--1": "error", "٣": "error", "0b1_1": "error", "nan": "error", "0x1p": "error",
	}
	for text, want := range tests {
		rule := fmt.Sprintf(`["=",["str",["num",["str",["fact","n"]]]],%q]`, want)
		got := judge(rule, &razor.Env{Facts: map[string]any{"n": text}})
		if want == "error" && !strings.HasPrefix(got, "undecided: not-a-number at /1/1") || want != "error" && got != "yes" {
			t.Errorf("num of %q is not %s: %s", text, want, got)
		}
	}
}

func TestStr(t *testing.T) {
	tests := map[string]string{
		`null`: "", `true`: "true", `false`: "false", `5`: "5", `5.0`: "5.0", `-7`: "-7", `0.1`: "0.1", `1e2`: "100.0", `-0.0`: "-0.0",
		`0.0001`: "0.0001", `0.00001`: "1.0e-05", `999999999999999.0`: "999999999999999.0", `1e15`: "1.0e+15", `1.5e300`: "1.5e+300",
		`1234567890123456.0`: "1.234567890123456e+15", `12345678901234567890`: "12345678901234567890", `0.30000000000000004`: "0.30000000000000004",
		`"x"`: "x", `1.0e-7`: "1.0e-07", `123456.789`: "123456.789", `-1e400`: "-Infinity",
	}
	for literal, want := range tests {
		rule := fmt.Sprintf(`["=",["str",%s],%q]`, literal, want)
		if got := judge(rule, &razor.Env{}); got != "yes" {
			t.Errorf("%s: %s", rule, got)
		}
	}
}

// What other tags say: in Razor's language, in muster's, and not at all.
func TestTag(t *testing.T) {
	env := &razor.Env{Tag: func(name string) (rule.Result, bool) {
		r, ok := map[string]rule.Result{
			"yes": {Verdict: rule.Yes}, "no": {},
			"bad":  {Verdict: rule.Undecided, Code: "not-a-number", Cause: `not-a-number at /1/1: "x" is not a number`},
			"ours": {Verdict: rule.Undecided, Cause: "facts.bmc.firmware is not known"},
		}[name]
		return r, ok
	}}
	tests := []struct {
		rule string
		want rule.Result
	}{
		{`["=",["tag","yes"],true]`, rule.Result{Verdict: rule.Yes}},
		{`["=",["tag","no"],true]`, rule.Result{Verdict: rule.No}},
		{`["=",["tag",["lower","YES"]],true]`, rule.Result{Verdict: rule.Yes}},
		{`["not",["=",["tag","bad"],true]]`, rule.Result{Verdict: rule.Undecided, Code: "not-a-number", Cause: `tag bad: not-a-number at /1/1: "x" is not a number`}},
		{`["!=",["tag","ours"],true]`, rule.Result{Verdict: rule.Undecided, Code: "undecided", Cause: `tag ours: facts.bmc.firmware is not known`}},
		{`["or",["=",["tag","Yes"],true],true]`, rule.Result{Verdict: rule.Undecided, Code: "missing-tag", Cause: `missing-tag at /1/1: there is no tag "Yes"`}},
	}
	for _, test := range tests {
		p, err := razor.Compile(test.rule)
		if err != nil {
			t.Errorf("Compile(%s): %v", test.rule, err)
			continue
		}
		if diff := cmp.Diff(test.want, p.Eval(env)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.rule, diff)
		}
	}
}

// Unknown is not false: where interfaces could not be read, that no MAC fits is not known.
func TestMissingInterfacesLeaveMACsOpen(t *testing.T) {
	env := &razor.Env{Facts: map[string]any{"macaddress_eth0": "52:54:00:aa:00:01"}, MACs: "facts.nics is incomplete: timeout: eth1"}
	for src, want := range map[string]string{
		`["has_macaddress","52:54:00:AA:00:01"]`:         "yes",
		`["has_macaddress","52:54:00:aa:00:02"]`:         "undecided: incomplete: facts.nics is incomplete: timeout: eth1",
		`["not",["has_macaddress_like","^52:54:01"]]`:    "undecided: incomplete at /1: facts.nics is incomplete: timeout: eth1",
		`["or",["=",1,1],["has_macaddress_like","^ff"]]`: "yes",
	} {
		if got := judge(src, env); got != want {
			t.Errorf("%s = %s; want %s", src, got, want)
		}
	}
}

func TestEvalIsBounded(t *testing.T) {
	facts := map[string]any{"s": strings.Repeat("a", 1<<20)}
	for i := range 4000 {
		facts[fmt.Sprintf("macaddress_%d", i)] = "52:54:00:00:00:00"
	}
	var macs strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&macs, `,"52:54:00:01:%02x:%02x"`, i>>8, i&255)
	}
	for _, src := range []string{
		`["like",["str",["fact","s"]],"(x+x+)+y"]`,
		`["has_macaddress"` + macs.String() + `]`,
		`["has_macaddress_like"` + strings.ReplaceAll(macs.String(), ":", ".*:") + `]`,
		`["or"` + strings.Repeat(`,["=",["lower",["upper",["str",["fact","s"]]]],"b"]`, 100) + `]`,
	} {
		if got := judge(src, &razor.Env{Facts: facts}); !strings.HasPrefix(got, "undecided: too-costly") {
			t.Errorf("%.60s = %.200s; want too costly", src, got)
		}
	}
}

func TestExplain(t *testing.T) {
	env := &razor.Env{Facts: object(t, `{"p":"PowerEdge R640","n":"16","macaddress":"aa"}`)}
	tests := []struct {
		name, rule string
		want       rule.Result
	}{
		{"every statement is shown, those behind the one that decides, too", `["and",["like",["str",["fact","p"]],"^Pro"],["not",[">=",["num",["fact","n"]],8]],["=",["fact","z"],1]]`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{
				{Expr: `["like", ["str", ["fact", "p"]], "^Pro"]`, Value: `no ("PowerEdge R640")`},
				{Expr: `[">=", ["num", ["fact", "n"]], 8]`, Value: `yes (16.0 >= 8)`},
				{Expr: `["=", ["fact", "z"], 1]`, Value: `undecided (missing-fact at /3/1: there is no fact "z")`},
			}}},
		{"a comparison that fails shows why", `["or",["=",["fact","p"]],["in",["fact","n"],"8","4"],["<",["num",["fact","n"]],2.5],["has_macaddress","bb"]]`,
			rule.Result{Verdict: rule.No, Parts: []rule.Part{
				{Expr: `["=", ["fact", "p"]]`, Value: `no ("PowerEdge R640" != null)`},
				{Expr: `["in", ["fact", "n"], "8", "4"]`, Value: `no ("16")`},
				{Expr: `["<", ["num", ["fact", "n"]], 2.5]`, Value: `no (16.0 >= 2.5)`},
				{Expr: `["has_macaddress", "bb"]`, Value: `no`},
			}}},
		{"the same statement is shown once", `["and",["=",["fact","n"],"16"],["=",["fact","n"],"16"],true]`,
			rule.Result{Verdict: rule.Yes, Parts: []rule.Part{{Expr: `["=", ["fact", "n"], "16"]`, Value: `yes ("16" = "16")`}, {Expr: "true", Value: "yes"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := razor.Compile(test.rule)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, p.Explain(env)); diff != "" {
				t.Errorf("Explain(%s): -want +got\n%s", test.rule, diff)
			}
		})
	}
}
