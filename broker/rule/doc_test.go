package rule_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"muster/broker/rule"
)

// example is a line of the manual: a rule, then what it says of testdata/node.json.
var example = regexp.MustCompile(`^//\t(.+?) +// (yes|no|undecided: .+|refused: .+)$`)

func TestManualExamplesAreTrue(t *testing.T) {
	schema, env := newSchema(t), &rule.Env{Roots: readNode(t), Tag: tagsOfManual}
	ran := 0
	for _, line := range manual(t) {
		found := example.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		ran++
		if got := judgeEnv(schema, found[1], env); got != found[2] {
			t.Errorf("%s\n got %s\nwant %s", found[1], got, found[2])
		}
	}
	if ran < 60 {
		t.Errorf("ran %d examples of the manual; want at least 60", ran)
	}
}

// tagsOfManual are what other tags say in the manual.
func tagsOfManual(name string) (rule.Result, bool) {
	r, ok := map[string]rule.Result{
		"storage": {Verdict: rule.Yes}, "old": {Verdict: rule.No},
		"bmc-ok": {Verdict: rule.Undecided, Cause: "facts.bmc.firmware is not known"},
	}[name]
	return r, ok
}

func judge(schema *rule.Schema, src string, roots map[string]any) string {
	return judgeEnv(schema, src, &rule.Env{Roots: roots})
}

// judgeEnv is the answer to a rule in the words of the manual.
func judgeEnv(schema *rule.Schema, src string, env *rule.Env) string {
	p, err := schema.Compile(src)
	if err != nil {
		return "refused: " + err.Error()
	}
	result := p.Eval(env)
	if result.Verdict == rule.Undecided {
		return "undecided: " + result.Cause
	}
	return result.Verdict.String()
}

func TestManualListsEveryFunctionOnce(t *testing.T) {
	var listed []string
	for _, line := range manual(t) {
		if usage, _, ok := strings.Cut(strings.TrimPrefix(line, "//\t"), "  "); ok && strings.HasPrefix(line, "//\t") && !example.MatchString(line) {
			listed = append(listed, usage)
		}
	}
	for _, usage := range rule.Usages() {
		if n := len(slices.DeleteFunc(slices.Clone(listed), func(s string) bool { return s != usage })); n != 1 {
			t.Errorf("the manual lists %s %d times; want once", usage, n)
		}
	}
}

func manual(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(source), "\n")
}
