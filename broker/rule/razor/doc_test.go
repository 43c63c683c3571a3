package razor_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"muster/broker/rule"
	"muster/broker/rule/razor"
)

// example is a line of the manual: a rule, then what it says of the node that the manual describes.
var example = regexp.MustCompile(`^//\t(\[.+\]) +// (yes|no|undecided: .+|refused: .+)$`)

func TestManualExamplesAreTrue(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	env := &razor.Env{
		Facts:    object(t, `{"a": 1, "b": {"c": "x"}, "d": null, "l": [1, 2], "macaddress_eth0": "52:54:00:AA:00:01"}`),
		Metadata: object(t, `{"rack": "r12"}`), State: object(t, `{"installed": "web"}`),
	}
	ran := 0
	for line := range strings.Lines(string(source)) {
		found := example.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if found == nil {
			continue
		}
		ran++
		if got := judge(found[1], env); got != found[2] {
			t.Errorf("%s\n got %s\nwant %s", found[1], got, found[2])
		}
	}
	if ran < 25 {
		t.Errorf("ran %d examples of the manual; want at least 25", ran)
	}
}

// judge is the answer to a rule in the words of the manual.
func judge(src string, env *razor.Env) string {
	p, err := razor.Compile(src)
	if err != nil {
		return "refused: " + err.Error()
	}
	result := p.Eval(env)
	if result.Verdict == rule.Undecided {
		return "undecided: " + result.Cause
	}
	return result.Verdict.String()
}

func object(t testing.TB, doc string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}
