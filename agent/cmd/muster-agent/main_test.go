package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/agent/facts"
)

// tree is a machine of which only a little can be read.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/cmdline":                    "quiet BOOTIF=01-52-54-00-aa-00-01 muster.fact.rack=b7\n",
		"sys/class/dmi/id/sys_vendor":     "Dell Inc.\n",
		"sys/class/dmi/id/product_name":   "R640\n",
		"sys/class/dmi/id/product_serial": "ABC\x1b[2J1\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFacts(t *testing.T) {
	var out, errs bytes.Buffer
	args := []string{"facts", "--root", tree(t), "--only", "system", "--errors"}
	if err := run(t.Context(), args, &out, &errs); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &errs)
	}
	var got struct {
		Facts facts.Facts `json:"facts"`
		Hash  string      `json:"facts_hash"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	if got.Facts.System == nil || got.Facts.System.Product != "R640" || len(got.Hash) != 64 {
		t.Errorf("facts %s", &out)
	}
}

func TestFactsTable(t *testing.T) {
	var out, errs bytes.Buffer
	if err := run(t.Context(), []string{"facts", "-o", "table", "--root", tree(t)}, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "system.product") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("table:\n%s", &out)
	}
}

func TestCommandLine(t *testing.T) {
	for _, row := range []struct {
		args   string
		status int
		says   string // in stdout or stderr
	}{
		{"--version", 0, "muster-agent "},
		{"--help", 0, "usage: muster-agent"},
		{"facts -h", 0, "muster-agent facts --only disks,nics -o yaml"},
		{"facts --only disks,disk", 2, `--only: there is no collector "disk" (did you mean disks?); there are kernel, system,`},
		{"facts --root /does/not/exist", 1, "--root: stat /does/not/exist: no such file or directory"},
		{"facts disks", 2, `there are no other words; got "disks"`},
		{"reboot", 2, `there is no command "reboot"`},
		{"facts -o xml", 2, "-o takes json, yaml, table, facter or ironic"},
		{"facts --no", 2, "flag provided but not defined"},
	} {
		var out, errs bytes.Buffer
		got := status(run(t.Context(), strings.Fields(row.args), &out, &errs), &errs)
		if got != row.status || !strings.Contains(out.String()+errs.String(), row.says) {
			t.Errorf("muster-agent %s: status %d, says %q%q; want %d, %q", row.args, got, &out, &errs, row.status, row.says)
		}
	}
}
