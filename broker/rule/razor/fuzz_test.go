package razor_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"muster/broker/rule"
	"muster/broker/rule/razor"
)

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// An author writes random rules that are valid, over the facts of whole.
type author struct{ *rand.Rand }

func (a author) pick(words ...string) string { return words[a.IntN(len(words))] }

const whole = `{"a":1,"b":"x","c":{"d":[1,2.5,"x"],"e":null},"f":true,"n":"16","macaddress":"aa","macaddress_b":"bb"}`

func (a author) boolean(depth int) string {
	if depth == 0 {
		return a.pick("true", "false", `["has_macaddress","AA","cc"]`, `["has_macaddress_like","^b"]`, `["=",["tag","t"],true]`)
	}
	switch a.IntN(8) {
	case 0, 1:
		return fmt.Sprintf(`["and",%s,%s]`, a.boolean(depth-1), a.boolean(depth-1))
	case 2, 3:
		return fmt.Sprintf(`["or",%s,%s]`, a.boolean(depth-1), a.boolean(depth-1))
	case 4:
		return fmt.Sprintf(`["not",%s]`, a.boolean(depth-1))
	case 5:
		return fmt.Sprintf(`["%s",%s,%s]`, a.pick("=", "!=", "in"), a.scalar(depth-1), a.scalar(depth-1))
	case 6:
		return fmt.Sprintf(`["%s",%s,%s]`, a.pick("<", "<=", ">", ">="), a.number(depth-1), a.number(depth-1))
	}
	return fmt.Sprintf(`["like",%s,"%s"]`, a.text(depth-1), a.pick("^x", "1", "", "(?i)A"))
}

func (a author) scalar(depth int) string {
	switch a.IntN(5) {
	case 0:
		return a.number(depth)
	case 1:
		return a.text(depth)
	case 2:
		return a.boolean(depth)
	}
	return a.pick("null", "1", "2.5", `"x"`, a.fact(), `["metadata","m"]`, `["state","installed"]`)
}

func (a author) fact() string {
	return fmt.Sprintf(`["fact","%s"]`, a.pick("a", "b", "c", "c.d.0", "c.d.-1", "c.d.length", "c.e", "f", "n", "z", "macaddress"))
}

func (a author) number(depth int) string {
	if depth == 0 {
		return a.pick("1", "2.5", "16")
	}
	return fmt.Sprintf(`["num",%s]`, a.scalar(depth-1))
}

func (a author) text(depth int) string {
	if depth == 0 {
		return a.pick(`"x"`, `"1"`, `"16"`)
	}
	return fmt.Sprintf(`["%s",%s]`, "str", a.scalar(depth-1))
}

// A rule that says yes or no read nothing that was missing: with more facts it says the same. has_macaddress, whose no
// is about facts that are not there, is told of the gap by Env.MACs.
func TestTakingFactsAwayNeverTurnsAVerdict(t *testing.T) {
	verdicts := map[rule.Verdict]int{}
	for i := range 5000 {
		r := rand.New(rand.NewPCG(5, uint64(i)))
		src := author{r}.boolean(4)
		p, err := razor.Compile(src)
		if err != nil {
			t.Fatalf("Compile(%s): %v", src, err)
		}
		tag := func(v rule.Verdict) func(string) (rule.Result, bool) {
			return func(string) (rule.Result, bool) { return rule.Result{Verdict: v, Cause: "?"}, true }
		}
		env := &razor.Env{Facts: object(t, whole), Metadata: map[string]any{"m": "x"}, State: map[string]any{"installed": nil}, Tag: tag(rule.Yes)}
		all := p.Eval(env)
		for _, name := range slices.Sorted(maps.Keys(env.Facts)) {
			if r.IntN(4) == 0 {
				delete(env.Facts, name)
				env.MACs = "interfaces are missing"
			}
		}
		if r.IntN(4) == 0 {
			env.Metadata = nil
		}
		if r.IntN(4) == 0 {
			env.Tag = tag(rule.Undecided)
		}
		some := p.Eval(env)
		verdicts[some.Verdict]++
		switch {
		case some.Verdict == rule.Undecided && (some.Cause == "" || some.Code == ""):
			t.Fatalf("%s is undecided without a cause: %+v", src, some)
		case some.Verdict != rule.Undecided && some.Verdict != all.Verdict:
			t.Fatalf("%s turned from %v (%s) to %v on %v", src, all.Verdict, all.Cause, some.Verdict, env.Facts)
		}
	}
	for _, v := range []rule.Verdict{rule.Yes, rule.No, rule.Undecided} {
		if verdicts[v] < 500 {
			t.Errorf("verdicts %v: the rules are not worth much", verdicts)
		}
	}
}

// FuzzRazor gives any text as a rule and any JSON as facts: no panic, and the printed rule is the rule.
func FuzzRazor(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(string(v.Rule), jsonText(v.Facts))
	}
	for i := range 20 {
		f.Add(author{rand.New(rand.NewPCG(6, uint64(i)))}.boolean(4), whole)
	}
	f.Add(`["=",["str",-0.0],["num","0b11"]]`, `{"a":{"b":[[],{}]}}`)
	f.Add(`["like","x","[\\b&&[a]](?i)a{,3}\\p{Alpha}"]`, `{}`)
	f.Fuzz(func(t *testing.T, src, doc string) {
		p, err := razor.Compile(src)
		if err != nil {
			return
		}
		var facts map[string]any
		d := json.NewDecoder(strings.NewReader(doc))
		d.UseNumber()
		_ = d.Decode(&facts) // facts that are none are none
		env := &razor.Env{Facts: facts, Metadata: facts, State: facts}
		got := p.Explain(env)
		again, err := razor.Compile(p.String())
		if err != nil {
			if len(p.String()) > 32<<10 {
				return // blanks made it longer than a rule may be
			}
			t.Fatalf("Compile(%q) prints %q: %v", src, p, err)
		}
		if p.String() != again.String() || again.Eval(env).Cause != got.Cause || again.Eval(env).Verdict != got.Verdict {
			t.Fatalf("%q is %+v, but as %q it is %+v", src, got, p, again.Eval(env))
		}
	})
}
