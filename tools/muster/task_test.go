package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// taskFolder writes a task into a new directory, file by file.
func taskFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

const ownTask = "name: own\nsummary: ours\nextends: debian\nparameters:\n  rack: {summary: where it stands}\nrecipes:\n  - {name: more.sh}\n"

func TestTaskLint(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []fault
	}{
		{"one that extends a shipped task", map[string]string{"own/task.yaml": ownTask, "own/more.sh": "echo {{.Param.rack | sh}}\n"}, []fault{}},
		{"the folder of one task itself", map[string]string{"task.yaml": ownTask, "more.sh": "echo {{.Param.rack | sh}}\n"}, []fault{}},
		{"a value that is not quoted", map[string]string{"own/task.yaml": ownTask, "own/more.sh": "\necho {{.Param.rack}}\n"}, []fault{
			{Task: "own", File: "more.sh", Line: 2, Error: "printed as it is"}}},
		{"a parameter that is not there, on each node", map[string]string{"own/task.yaml": ownTask, "own/more.sh": "\n\necho {{.Param.row | sh}}\n"}, []fault{
			{Task: "own", Node: "bios-sata", File: "more.sh", Line: 3, Error: "no entry for key"},
			{Task: "own", Node: "uefi-nvme-static", File: "more.sh", Line: 3, Error: "no entry for key"},
			{Task: "own", Node: "arm64-virtio-https", File: "more.sh", Line: 3, Error: "no entry for key"}}},
		{"a value that one node's format can not hold", map[string]string{"own/task.yaml": "name: own\nsummary: s\nrecipes:\n  - {name: a.cmd}\n", "own/a.cmd": "echo {{.Policy | word}}\n"}, []fault{
			{Task: "own", Node: "uefi-nvme-static", File: "a.cmd", Line: 1, Error: "want letters"}}},
		{"an unknown word in task.yaml", map[string]string{"own/task.yaml": "name: own\nsumary: s\n"}, []fault{{Task: "own", File: "task.yaml", Line: 2, Error: "sumary"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := called(t, "task", "lint", taskFolder(t, tt.files), "-o", "json")
			var got lintResult
			if err := json.Unmarshal([]byte(out), &got); err != nil || (code == 0) != (len(tt.want) == 0) {
				t.Fatalf("%d, %v\n%s%s", code, err, out, errOut)
			}
			if len(tt.want) == 0 && (got.Texts < 12 || len(got.Tasks) != 1) {
				t.Errorf("%d texts of %v were rendered", got.Texts, got.Tasks)
			}
			same := cmp.Comparer(func(a, b fault) bool {
				texts := strings.Contains(a.Error, b.Error) || strings.Contains(b.Error, a.Error)
				a.Error, b.Error = "", ""
				return texts && a == b
			})
			if diff := cmp.Diff(tt.want, got.Faults, same); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTaskCommandsAreRead(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"task", "list"}, 0, []string{"TASK", "debian", "12,13", "amd64,arm64", "tree", "install Debian by its own installer"}},
		{[]string{"task", "show", "rhel"}, 0, []string{"stage      install", "within 1h30m0s", "recipe     ks.cfg", "plain|lvm, else plain", "root_password"}},
		{[]string{"task", "lint", "suse"}, 0, []string{"ok: 6 texts of suse"}},
		{[]string{"task", "show", "beos"}, 1, []string{`there is no task "beos": there are coreos, debian`}},
		{[]string{"task", "lint", "beos"}, 1, []string{"beos is neither a directory nor a task"}},
		{[]string{"task", "lint", t.TempDir()}, 1, []string{"no folder with a task.yaml"}},
		{[]string{"task", "lint", taskFolder(t, map[string]string{"own/task.yaml": ownTask, "own/more.sh": "{{.Param.rack}}\n"})}, 1, []string{"more.sh", "printed as it is", "1 faults"}},
	} {
		code, out, errOut := called(t, tt.args...)
		for _, w := range tt.want {
			if code != tt.code || !strings.Contains(out+errOut, w) {
				t.Errorf("muster %s = %d, want %q in\n%s%s", strings.Join(tt.args, " "), code, w, out, errOut)
			}
		}
	}
	if _, out, _ := called(t, "task", "list"); strings.Contains(out, "first-boot ") {
		t.Errorf("a task that is there to be extended only is listed:\n%s", out)
	}
}
