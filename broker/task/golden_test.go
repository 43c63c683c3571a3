package task

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// each calls f with every shipped task that is not abstract, on every fixture.
func each(t *testing.T, f func(t *testing.T, task *Task, v Values, all []Rendered)) {
	tasks, err := shippedOnce()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		for _, fixture := range Fixtures() {
			if tasks[name].Abstract {
				continue
			}
			t.Run(name+"/"+fixture.Name, func(t *testing.T) {
				v, err := fixture.For(tasks[name])
				if err != nil {
					t.Fatal(err)
				}
				all, errs := tasks[name].RenderAll(v)
				if err := errors.Join(errs...); err != nil {
					t.Fatal(err)
				}
				f(t, tasks[name], v, all)
			})
		}
	}
}

// TestGolden holds every text of every shipped task against testdata/golden/TASK/NODE.
func TestGolden(t *testing.T) {
	root := filepath.Join("testdata", "golden")
	if *update {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	each(t, func(t *testing.T, task *Task, _ Values, all []Rendered) {
		for _, r := range all {
			file := filepath.Join(root, t.Name()[len("TestGolden/"):], r.Name)
			seen[file] = true
			if *update {
				put(t, file, 0o644, r.Text)
				continue
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("%v: go test ./broker/task -run Golden -update writes it", err)
			}
			if diff := cmp.Diff(string(want), r.Text); diff != "" {
				t.Errorf("%s (-want +got):\n%s", r.Name, diff)
			}
		}
	})
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !seen[path] {
			t.Errorf("%s is of no shipped task", path)
		}
		return err
	})
	if err != nil && !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
