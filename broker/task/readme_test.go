package task

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The README's table says of every task how far it was tried, as the task itself does.
func TestREADMEsTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z-]+) \|[^|]*\|([^|]*)\| (booted|validated|rendered) \|$`).FindAllStringSubmatch(string(text), -1) {
		says[m[1]] = strings.TrimSpace(strings.TrimSpace(m[2]) + " " + m[3])
	}
	tasks, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range tasks {
		if is.Abstract {
			continue
		}
		versions := strings.Join(is.Versions, ", ")
		if got, want := strings.TrimPrefix(strings.TrimSpace(says[name]), "any "), strings.TrimSpace(versions+" "+is.Seen); got != want {
			t.Errorf("README.md says %q of %s; task.yaml says %q", got, name, want)
		}
		delete(says, name)
	}
	for name := range says {
		t.Errorf("README.md has %s, which is no task", name)
	}
}
