package rule_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/expr-lang/expr"

	"muster/broker/rule"
)

// complete is a machine of which every fact that an author asks for is known.
const complete = `{
 "facts": {
  "arch": "x86_64", "incomplete": [],
  "system": {"manufacturer": "Dell Inc.", "product": "PowerEdge R640"},
  "cpu": {"cores": 32, "flags": ["avx", "avx2"]},
  "memory": {"total_bytes": 4000, "slots": 3},
  "tpm": {"present": true, "version_major": 2},
  "disks": [
   {"name": "sda", "size_bytes": 3, "transport": "sas", "rotational": true, "removable": false},
   {"name": "sdb", "size_bytes": 32, "transport": "nvme", "rotational": false, "removable": false},
   {"name": "sdc", "size_bytes": 4000, "transport": "sas", "rotational": false, "removable": true}],
  "nics": [
   {"name": "eno1", "speed_mbps": 3, "ipv4": ["sda"], "lldp": []},
   {"name": "eno2", "speed_mbps": 32, "ipv4": [], "lldp": [{"sys_name": "sas"}, {"sys_name": "x86_64"}]}]},
 "node": {"state": "available", "protected": true, "tags": ["sda", "avx"]}}`

// An author writes random rules that are valid and read facts of complete only.
type author struct {
	*rand.Rand
	elements []string // what # is, innermost last: disk, nic, neighbor, string
}

func (a *author) pick(words ...string) string { return words[a.IntN(len(words))] }

func (a *author) condition(depth int) string {
	if depth == 0 || len(a.elements) == 3 {
		return a.leaf()
	}
	switch a.IntN(8) {
	case 0, 1:
		return fmt.Sprintf("(%s and %s)", a.condition(depth-1), a.condition(depth-1))
	case 2, 3:
		return fmt.Sprintf("(%s or %s)", a.condition(depth-1), a.condition(depth-1))
	case 4:
		return fmt.Sprintf("not (%s)", a.condition(depth-1))
	case 5:
		return a.leaf()
	case 6:
		list, element := a.list(depth)
		return fmt.Sprintf("%s(%s, %s)", a.pick("any", "all", "none", "one"), list, a.test(element, depth-1))
	}
	return fmt.Sprintf("%s %s %s", a.number(depth), a.pick("<", "<=", ">", ">=", "==", "!="), a.number(depth))
}

// test is a condition with an element in reach.
func (a *author) test(element string, depth int) string {
	a.elements = append(a.elements, element)
	defer func() { a.elements = a.elements[:len(a.elements)-1] }()
	return a.condition(depth)
}

func (a *author) inner() string {
	if len(a.elements) == 0 {
		return ""
	}
	return a.elements[len(a.elements)-1]
}

func (a *author) list(depth int) (list, element string) {
	if len(a.elements) >= 2 {
		return a.pick("facts.cpu.flags", "node.tags", `["sda", "sas"]`), "string"
	}
	switch {
	case a.inner() == "nic" && a.IntN(2) == 0:
		return ".lldp", "neighbor"
	case a.inner() == "nic" && a.IntN(2) == 0:
		return ".ipv4", "string"
	case depth > 1 && len(a.elements) < 2 && a.IntN(3) == 0:
		return fmt.Sprintf("filter(facts.disks, %s)", a.test("disk", depth-2)), "disk"
	case a.IntN(2) == 0:
		return "facts.disks", "disk"
	}
	return "facts.nics", "nic"
}

func (a *author) leaf() string {
	if a.inner() == "disk" && a.IntN(2) == 0 {
		return a.pick(".rotational", ".removable")
	}
	switch a.IntN(6) {
	case 0:
		return a.pick("facts.tpm.present", "node.protected", "true", "false")
	case 1:
		return fmt.Sprintf("%s in %s", a.text(), a.pick("facts.cpu.flags", `["sas", "sda"]`, "facts.incomplete"))
	case 2:
		return fmt.Sprintf("%s matches %s", a.text(), a.pick(`"^s"`, `"(?i)DELL"`, `"a|b$"`))
	case 3:
		return fmt.Sprintf("%s %s %s", a.text(), a.pick("contains", "startsWith", "endsWith"), a.pick(`"s"`, `"a"`, `"64"`))
	case 4:
		return fmt.Sprintf("%s %s %s", a.number(0), a.pick("<", "<=", ">", ">=", "==", "!="), a.number(0))
	}
	return fmt.Sprintf("%s %s %s", a.text(), a.pick("==", "!="), a.text())
}

func (a *author) text() string {
	switch element := a.inner(); {
	case element == "string" && a.IntN(2) == 0:
		return "#"
	case element == "neighbor" && a.IntN(2) == 0:
		return ".sys_name"
	case element == "disk" && a.IntN(2) == 0:
		return a.pick(".name", ".transport")
	}
	return a.pick("facts.arch", "facts.system.manufacturer", "facts.disks[-1].transport", "node.state", `"sas"`, `"x86_64"`)
}

func (a *author) number(depth int) string {
	if depth > 0 && len(a.elements) < 3 {
		switch list, element := a.list(depth); a.IntN(4) {
		case 0:
			return fmt.Sprintf("count(%s, %s)", list, a.test(element, depth-1))
		case 1:
			return fmt.Sprintf("len(%s)", list)
		case 2:
			return fmt.Sprintf("(%s %s %s)", a.number(depth-1), a.pick("+", "-", "*"), a.number(depth-1))
		}
	}
	switch element := a.inner(); {
	case element == "disk" && a.IntN(2) == 0:
		return ".size_bytes"
	case element == "nic" && a.IntN(2) == 0:
		return ".speed_mbps"
	}
	if len(a.elements) < 2 && a.IntN(8) == 0 {
		return "sum(facts.disks, .size_bytes)"
	}
	return a.pick("facts.cpu.cores", "facts.memory.total_bytes", "facts.memory.slots", "1", "3", "32", "2.5")
}

// forget takes random facts out of a tree. Plain booleans stay: a rule may not tell their absence from false.
func forget(r *rand.Rand, tree any) {
	switch x := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(x)) {
			if key != "removable" && r.IntN(8) == 0 {
				delete(x, key)
				continue
			}
			forget(r, x[key])
		}
	case []any:
		for i := range x {
			forget(r, x[i])
		}
	}
}

const randomRules = 4000

// expr's own machine is the second opinion: on facts that are all known it and we must agree.
func TestAgreesWithExprWhenAllFactsAreKnown(t *testing.T) {
	schema, roots, verdicts := newSchema(t), decode(t, complete), map[rule.Verdict]int{}
	for name, root := range roots {
		tree, err := rule.Tree(root)
		if err != nil {
			t.Fatal(err)
		}
		roots[name] = tree
	}
	for i := range randomRules {
		a := author{Rand: rand.New(rand.NewPCG(1, uint64(i)))}
		src := a.condition(4)
		p, err := schema.Compile(src)
		if err != nil {
			t.Fatalf("Compile(%q): %v", src, err)
		}
		got := p.Eval(&rule.Env{Roots: roots})
		verdicts[got.Verdict]++
		want, err := expr.Eval(src, roots)
		if err != nil {
			t.Fatalf("expr.Eval(%q): %v", src, err)
		}
		if (got.Verdict == rule.Yes) != (want == true) || got.Verdict == rule.Undecided {
			t.Fatalf("%s = %v (%s); expr says %v", src, got.Verdict, got.Cause, want)
		}
	}
	if verdicts[rule.Yes] < randomRules/5 || verdicts[rule.No] < randomRules/5 {
		t.Errorf("verdicts %v: the rules are not worth much", verdicts)
	}
}

// Unknown is not false: when facts are taken away a verdict may become undecided, but never the opposite.
func TestTakingFactsAwayNeverTurnsAVerdict(t *testing.T) {
	schema, undecided, decided := newSchema(t), 0, 0
	for i := range randomRules {
		r := rand.New(rand.NewPCG(2, uint64(i)))
		a := author{Rand: r}
		src := a.condition(4)
		p, err := schema.Compile(src)
		if err != nil {
			t.Fatalf("Compile(%q): %v", src, err)
		}
		roots := decode(t, complete)
		all := p.Eval(&rule.Env{Roots: roots})
		forget(r, map[string]any{"facts": roots["facts"], "node": roots["node"]})
		some := p.Explain(&rule.Env{Roots: roots})
		if some.Verdict == rule.Undecided {
			undecided++
			if some.Cause == "" {
				t.Fatalf("%s is undecided without a cause", src)
			}
			continue
		}
		if decided++; some.Verdict != all.Verdict {
			t.Fatalf("%s turned from %v to %v on %v", src, all.Verdict, some.Verdict, roots)
		}
	}
	if undecided < randomRules/10 || decided < randomRules/10 {
		t.Errorf("%d undecided, %d decided: the rules are not worth much", undecided, decided)
	}
}

// The canonical text is the rule: it compiles to itself and says the same.
func TestCanonicalTextIsTheRule(t *testing.T) {
	schema, roots := newSchema(t), decode(t, complete)
	for i := range randomRules {
		a := author{Rand: rand.New(rand.NewPCG(3, uint64(i)))}
		checkRoundTrip(t, schema, a.condition(4), roots)
	}
}

func checkRoundTrip(t *testing.T, schema *rule.Schema, src string, roots map[string]any) {
	t.Helper()
	p, err := schema.Compile(src)
	if err != nil {
		return
	}
	again, err := schema.Compile(p.String())
	if err != nil {
		if len(p.String()) > 4096 {
			return // brackets and spaces made it longer than a rule may be
		}
		t.Fatalf("Compile(%q) prints %q: %v", src, p, err)
	}
	if p.String() != again.String() || !slices.Equal(p.Refs(), again.Refs()) || !rule.Same(p, again) {
		t.Fatalf("Compile(%q) prints %q, which prints %q", src, p, again)
	}
	if a, b := p.Explain(&rule.Env{Roots: roots}), again.Explain(&rule.Env{Roots: roots}); a.Verdict != b.Verdict || a.Cause != b.Cause || !slices.Equal(a.Parts, b.Parts) {
		t.Fatalf("%q is %+v, but as %q it is %+v", src, a, p, b)
	}
}

// FuzzRule gives any text as a rule and any JSON as a node: no panic, no long run, and print is the inverse of parse.
func FuzzRule(f *testing.F) {
	for i := range 20 {
		a := author{Rand: rand.New(rand.NewPCG(4, uint64(i)))}
		f.Add(a.condition(3), complete)
	}
	for _, src := range []string{
		`len(facts.disks) >= 12 and facts.memory.total_bytes >= 128 * GiB`,
		`any(facts.nics, any(.ipv4, cidr_contains("10.0.0.0/8", #)))`,
		`"\u00e9\x00\U0001F600" in ["a", '\'', ` + "`b`" + `]`, // escapes print as what they mean
		`any(meta.l, #["a b"][-1].c == 1e-7) // comment`,       // a path with every kind of step
		`--1 == +1 and !true || not false`,                     // signs in a row
		`1 < 2 <= 3 != false`,                                  // a chain, then an equation
		`meta.in == 1 and meta.not == 2 and meta["a.b"] == 3`,  // operators as keys
		`-9223372036854775808 == -9223372036854775807 - 1`,     // the least integer is no literal
		`0.1e-300 * 1e-300 == 0 and 1e300 * 1e300 > 1`,         // too small, too large
		`if true { true } else { false }`, `let x = 1; x == 1`, `a?.b[1:2]`, `{"a": 1}.a`, `#`, `.`, `::len("a")`, `b"x"`,
	} {
		f.Add(src, `{"facts":{"disks":[{"name":1e400},null,7]},"meta":{"l":[[],{}],"in":"x"}}`)
	}
	schema := newSchema(f)
	f.Fuzz(func(t *testing.T, src, doc string) {
		if len(doc) > 1<<16 {
			return
		}
		var roots map[string]any
		if tree, err := rule.ReadTree(doc); err == nil {
			roots, _ = tree.(map[string]any)
		}
		checkRoundTrip(t, schema, src, roots)
	})
}
