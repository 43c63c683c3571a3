package peers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func shell(name, script string) Tool { return Tool{Name: name, Args: []string{"sh", "-c", script}} }

// Tools run in turns, each first to warm up; one that is not there is named, one that fails is measured.
func TestMeasureInTurns(t *testing.T) {
	diary := filepath.Join(t.TempDir(), "diary")
	tools := []Tool{
		shell("a", "echo a >> "+diary+"; echo out; echo said >&2"),
		{Name: "none", Args: []string{"no-such-inventory-tool"}},
		{Name: "b", Args: []string{"sh", "-c", "echo b >> " + diary + "; cat; exit 3"}, In: "from its input"},
	}
	r, err := measure(t.Context(), tools, 2, time.Hour, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	order, err := os.ReadFile(diary)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(string(order)), " "); got != "a b a b a b" {
		t.Errorf("tools ran in the order %s; want a b a b a b", got)
	}
	a, none, b := r.Tools[0], r.Tools[1], r.Tools[2]
	if string(a.Output) != "out\n" || a.Said != "said\n" || string(b.Output) != "from its input" {
		t.Errorf("outputs %q, %q and %q; want out, said and the input", a.Output, a.Said, b.Output)
	}
	if !strings.Contains(none.Absent, "no-such-inventory-tool") || len(none.Runs) != 0 {
		t.Errorf("absent tool: %q, %d runs", none.Absent, len(none.Runs))
	}
	runs := slices.Concat(a.Runs, b.Runs)
	if len(runs) != 4 {
		t.Errorf("%d runs of two tools in two rounds", len(runs))
	}
	for i, run := range runs {
		if run.Round != i%2+1 || run.Wall <= 0 || run.RSS <= 0 || run.Exit != i/2*3 {
			t.Errorf("run %d: %+v", i, run)
		}
	}
}

// Beyond its budget a tool runs no more; the run that warmed it up is then what there is.
func TestMeasureWithinTheBudget(t *testing.T) {
	r, err := measure(t.Context(), []Tool{shell("slow", "echo out")}, 5, 0, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if runs := r.Tools[0].Runs; len(runs) != 1 || runs[0].Round != 0 {
		t.Errorf("runs %+v; want the one of round 0", runs)
	}
}

func TestOutputIsBounded(t *testing.T) {
	l := limited{room: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := l.Write([]byte(s)); n != 3 || err != nil {
			t.Errorf("Write(%q) = %d, %v; want 3, nil", s, n, err)
		}
	}
	if diff := cmp.Diff("abcde", l.kept.String()); diff != "" {
		t.Errorf("kept: (-want +got)\n%s", diff)
	}
}
