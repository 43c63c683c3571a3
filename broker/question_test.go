package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// TestAskingLessSaysTheSame changes tags at random, and has machines judged now and then: what is kept of their tags and
// asked anew, from some sections of their facts, must be what asking for all of them on the whole facts gives.
func TestAskingLessSaysTheSame(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := map[string]string{}
		c := compiled(t, rules)
		nodes := askedNodes(t)
		all, less := 0, 0
		for range 60 {
			changeRules(r, rules)
			next := compiled(t, rules)
			next.succeed(c)
			c = next
			for _, n := range nodes {
				switch r.IntN(4) {
				case 0:
					continue // nobody asks: its tags stay those of an older edition
				case 1:
					n.Meta = map[string]any{"rack": fmt.Sprint(r.IntN(3))}
				}
				tags, saw, err := c.carried(n)
				if err != nil {
					t.Fatal(err)
				}
				if len(c.asks(n, saw).tags) < len(c.tags) {
					less++
				}
				all++
				stranger := &Node{ID: n.ID, State: n.State, Meta: n.Meta, FactsHash: n.FactsHash, Errors: n.Errors, Facts: n.Facts}
				whole := *c
				whole.all.sections = nil
				want, _, err := whole.carried(stranger)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, tags); diff != "" {
					t.Fatalf("seed %d, node %s, rules %v (-all +less):\n%s", seed, n.ID, rules, diff)
				}
				if r.IntN(2) == 0 {
					n.Tags, n.TagsOf = tags, saw
				}
			}
		}
		if less < all/3 || less == all {
			t.Errorf("seed %d: %d of %d times less than all was asked", seed, less, all)
		}
	}
}

// changeRules makes, changes or takes away a tag. Each refers only to those before it.
func changeRules(r *rand.Rand, rules map[string]string) {
	at := r.IntN(12)
	name, before := fmt.Sprintf("t%02d", at), fmt.Sprintf("t%02d", r.IntN(max(at, 1)))
	texts := []string{
		fmt.Sprintf("facts.memory.total_bytes > %d * GiB", 1<<r.IntN(12)),
		fmt.Sprintf("any(facts.disks, .size_bytes > %d * GB)", r.IntN(4000)),
		fmt.Sprintf("meta.rack == \"%d\" and known(facts.system)", r.IntN(3)),
		fmt.Sprintf(`["=",["metadata","rack"],"%d"]`, r.IntN(3)),
		fmt.Sprintf(`[">",["num",["fact","processorcount"]],%d]`, r.IntN(40)),
		fmt.Sprintf(`{"conditions":[{"op":"eq","field":"node://extra.rack","value":"%d"},{"op":"gt","field":"inventory.disks[*].size","value":%d000000000}]}`, r.IntN(3), r.IntN(4000)),
		`len(facts.incomplete) > 0 or known(facts.nics)`,
	}
	if at > 0 {
		texts = append(texts, fmt.Sprintf("not tag(%q)", before), fmt.Sprintf("tag(%q) or len(facts.nics) > %d", before, r.IntN(9)), fmt.Sprintf(`["=",["tag",%q],true]`, before),
			fmt.Sprintf(`["=",["tag",["lower",%q]],%t]`, before, r.IntN(2) == 0))
	}
	if i := r.IntN(len(texts) + 1); i < len(texts) {
		rules[name] = texts[i]
	} else {
		delete(rules, name)
	}
}

// askedNodes are machines as a store gives them: one that told all, one that could not tell of its disks, one that told
// nothing.
func askedNodes(t *testing.T) (nodes []*Node) {
	t.Helper()
	planted := plantedFacts(t)
	partly := planted
	partly.Incomplete = []string{"disks"}
	for _, f := range []*facts.Facts{&planted, &partly, nil} {
		n := &Node{ID: fmt.Sprintf("node%d", len(nodes)+1), State: Manageable}
		if f != nil {
			n.Facts = Told(f)
			n.FactsHash = n.Facts.Hash
			n.Errors = []facts.ProbeError{{Collector: "disks", Code: "timeout", Msg: "sdb: no answer"}}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func TestWhoHangsOnAChange(t *testing.T) {
	c := compiled(t, map[string]string{"a": "node.protected", "b": `tag("a")`, "c": `["=",["tag","b"],true]`, "d": "node.protected", "e": `["=",["tag",["lower","D"]],true]`})
	for _, tt := range []struct {
		changed, want string
	}{
		{"a", "[a b c e]"}, {"c", "[c e]"}, {"d", "[d e]"}, {"gone", "[e gone]"},
	} {
		if got := fmt.Sprint(slices.Sorted(slices.Values(c.dependents([]string{tt.changed})))); got != tt.want {
			t.Errorf("on %s hang %s; want %s", tt.changed, got, tt.want)
		}
	}
	if got := c.dependents(nil); len(got) > 0 {
		t.Errorf("on nothing hang %v", got)
	}
}

func TestWhatAQuestionReads(t *testing.T) {
	c := compiled(t, map[string]string{"memory": "facts.memory.total_bytes > 1", "disks": "len(facts.disks) > 1", "both": `tag("memory") and tag("disks")`,
		"razor": `["=",["fact","is_virtual"],"x"]`, "whole": `tag("razor")`, "ironic": `{"conditions":[]}`, "none": "node.protected"})
	for _, tt := range []struct{ tag, want string }{
		{"memory", "[incomplete memory]"}, {"both", "[disks incomplete memory]"}, {"razor", "all"}, {"ironic", "all"}, {"whole", "all"}, {"none", "[incomplete]"},
	} {
		got := "all"
		if of := c.about([]string{tt.tag}).sections; of != nil {
			got = fmt.Sprint(slices.Sorted(maps.Keys(of)))
		}
		if got != tt.want {
			t.Errorf("%s reads %s; want %s", tt.tag, got, tt.want)
		}
	}
}
