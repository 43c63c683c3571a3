package inspection_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"muster/broker/rule"
	"muster/broker/rule/inspection"
)

// example is a line of the manual: a rule, then what it says of the node that the manual describes.
var example = regexp.MustCompile(`^//\t(\{.+\}) +// (yes|no|undecided: .+|refused: .+)$`)

func TestManualExamplesAreTrue(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	env := manualNode(t)
	ran, rules := 0, 0
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(line, "//\t{") {
			rules++
		}
		found := example.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if found == nil {
			continue
		}
		ran++
		if got := judge(found[1], env); got != found[2] {
			t.Errorf("%s\n got %s\nwant %s", found[1], got, found[2])
		}
	}
	if ran < 25 || ran != rules {
		t.Errorf("ran %d of the %d examples of the manual; want all of at least 25", ran, rules)
	}
}

// manualNode is what the manual says that its node is.
func manualNode(t testing.TB) *inspection.Env {
	env := &inspection.Env{}
	decode(t, []byte(`{"cpus": 32, "inventory": {"bmc_address": "10.20.0.17", "cpu": {"architecture": "x86_64", "count": 32},
		"disks": [{"name": "/dev/sda", "size": 500, "wwn": "0x5"}, {"name": "/dev/sdb", "size": 4000, "wwn": null}],
		"system_vendor": {"product_name": "PowerEdge R640"}}}`), &env.Data)
	decode(t, []byte(`{"name": "r12", "extra": {"rack": "b7"}, "properties": {"inspection_scope": "lab"}}`), &env.Node)
	return env
}

// judge is the answer to a rule in the words of the manual.
func judge(src string, env *inspection.Env) string {
	p, err := (*inspection.Schema)(nil).Compile(src)
	if err != nil {
		return "refused: " + err.Error()
	}
	result := p.Eval(env)
	if result.Verdict == rule.Undecided {
		return "undecided: " + result.Cause
	}
	return result.Verdict.String()
}
