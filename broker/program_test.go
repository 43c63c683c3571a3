package broker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

func TestTold(t *testing.T) {
	three := 3
	long := strings.Repeat("x", 1000)
	for _, row := range []struct {
		name   string
		report facts.Report
		want   map[string]string
	}{
		{"nothing", facts.Report{Message: "exit status 0"}, map[string]string{}},
		{"a program", facts.Report{Message: "exit status 3", ExitStatus: &three, Output: []string{"a", "b"}, TimingMS: map[string]int64{"run": 12}},
			map[string]string{"exit_status": "3", "output": "a\nb", "run_ms": "12"}},
		{"a long message is kept whole", facts.Report{Message: long}, map[string]string{"message": long}},
		{"the last lines that fit", facts.Report{Output: []string{strings.Repeat("f", 100), long, long, long, long, "last"}},
			map[string]string{"output": strings.Join([]string{long, long, long, long, "last"}, "\n")}},
		{"a line that does not", facts.Report{Output: []string{strings.Repeat("y", maxOutput), "last"}}, map[string]string{"output": "last"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, told(&row.report)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}
