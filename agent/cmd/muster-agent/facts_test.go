package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"muster/agent"
	"muster/agent/facts"
)

func plantFile(t *testing.T, root, name, content string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestFactsInEachForm(t *testing.T) {
	root := tree(t)
	plantFile(t, root, "etc/muster/facts.d/row", "#!/bin/sh\necho row=7\n", 0o755)
	plantFile(t, root, "etc/muster/facts.d/unit.json", `{"unit":"3 <b>","rack":"other"}`, 0o644)
	for _, tt := range []struct {
		args string
		want []string
		not  []string
	}{
		{"-o json", []string{`"unit": "3 <b>"`, `"rack": "b7"`}, []string{`"row"`, "shadowed"}},
		{"-o json --programs --errors", []string{`"row": "7"`, `"code": "shadowed"`}, []string{`"denied"`}},
		{"-o json --errors", []string{`"code": "denied"`}, []string{`"row"`}},
		{"-o yaml --only custom", []string{"custom:\n  \"rack\": \"b7\"\n  \"unit\": \"3 <b>\"\n"}, []string{"{"}},
		{"-o table --programs", []string{"custom.row", "7"}, nil},
		{"-o facter", []string{`"manufacturer": "Dell Inc."`, `"serialnumber": "ABC [2J1"`}, []string{`"system"`}},
		{"-o ironic --errors", []string{`"product_name": "R640"`, `"error": "`}, []string{`"system"`}},
		{"-o ironic --only system", []string{`"product_name": "R640"`}, []string{`"error"`}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			late := func() bool { return strings.Contains(tt.args, "--programs") && !strings.Contains(out.String(), "row") }
			for end := time.Now().Add(time.Minute); ; { // a program has 2 s, which a busy machine may need to start it
				out.Reset()
				if err := run(t.Context(), append([]string{"facts", "--root", root}, strings.Fields(tt.args)...), &out, &errs); err != nil {
					t.Fatalf("%v\n%s", err, &errs)
				}
				if !late() || time.Now().After(end) {
					break
				}
			}
			for _, s := range tt.want {
				if !strings.Contains(out.String(), s) {
					t.Errorf("no %q in\n%s", s, &out)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(out.String(), s) {
					t.Errorf("%q in\n%s", s, &out)
				}
			}
		})
	}
}

// The table ends with the disks that say how they are, and with the sensors, hostile names in quotes.
func TestHealthInTheTable(t *testing.T) {
	temp := int64(31)
	p := agent.Probed{
		Facts: facts.Facts{Schema: 1, Disks: []facts.Disk{{ID: "naa.5", Name: "sda"}, {ID: "virtio-1", Name: "vda"}}},
		State: facts.State{
			Disks: map[string]facts.DiskHealth{
				"naa.5":        {Health: facts.HealthFailing, Warnings: []string{"threshold"}, TempC: &temp},
				"naa.6\x1b[2J": {Health: facts.HealthOK},
			},
			Temps: []facts.Temperature{{Sensor: "coretemp", Label: "Core 0", TempC: 54}, {Sensor: "acpitz", TempC: -5}},
		},
	}
	var out bytes.Buffer
	if err := printers["table"](&out, p, false); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(out.String(), "disks health\n")
	const want = `  name  id              health
  sda   naa.5           FAILING (threshold), 31 C
        "naa.6\x1b[2J"  ok
temps
  sensor    label   temp_c
  coretemp  Core 0  54 °C
  acpitz            -5 °C
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s\n%s", diff, &out)
	}
}

// A YAML library reads from our YAML what a JSON library reads from the same document.
func TestYAMLIsTheSameDocument(t *testing.T) {
	const doc = `{"schema":1,"a":[],"b":{},"no":"no","y":[[1,2],[{"k":"v","l":[true,false]}],"x"],"3":"1e3","date":"2024-03-14",
		"text":"a: b # c \" \\ ' ü \u007f \u2028 \n- x","null_":"null","tilde":"~","on":"0x10","n":-7,"big":9007199254740993,"":"empty",
		"colon: key":{"- x":"  lead"},"true":true,"smilë":"\ud83d\ude00"}`
	planted, err := os.ReadFile("../../facts/testdata/planted.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{doc, string(planted)} {
		d := json.NewDecoder(strings.NewReader(doc))
		d.UseNumber()
		var tree any
		if err := d.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := printYAML(&out, tree); err != nil {
			t.Fatal(err)
		}
		var read any
		if err := yaml.Unmarshal(out.Bytes(), &read); err != nil {
			t.Fatalf("%v in\n%s", err, &out)
		}
		back, err := json.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		d = json.NewDecoder(bytes.NewReader(back))
		d.UseNumber()
		var got any
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree, got); diff != "" {
			t.Errorf("-want +got\n%s\n%s", diff, &out)
		}
	}
}

// childRoot tells this test's own binary, run as nobody, which tree to read.
const childRoot = "MUSTER_TEST_ROOT"

// An ordinary user gets what he may read, and the names of what he may not.
func TestFactsAsAnOrdinaryUser(t *testing.T) {
	if root := os.Getenv(childRoot); root != "" {
		if err := run(t.Context(), []string{"facts", "--errors", "--root", root}, os.Stdout, os.Stderr); err != nil {
			t.Fatal(err)
		}
		os.Exit(0) // without what package testing would print
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become nobody")
	}
	root, err := os.MkdirTemp("", "muster-nobody") // t.TempDir is below a directory for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	plantFile(t, root, "sys/class/dmi/id/sys_vendor", "Dell Inc.\n", 0o444)
	plantFile(t, root, "sys/class/dmi/id/product_serial", "ABC1234\n", 0o400)
	plantFile(t, root, "sys/firmware/dmi/tables/DMI", "\x7f\x04\x00\x7f\x00\x00", 0o400)
	plantFile(t, root, "etc/muster/facts.d/secret.txt", "a=1\n", 0o400)
	self := filepath.Join(root, "self")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	plantFile(t, root, "self", string(b), 0o755)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFactsAsAnOrdinaryUser$")
	cmd.Dir, cmd.Env = "/", []string{childRoot + "=" + root}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("root of a user namespace can not become nobody")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got wholeLook
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if diff := cmp.Diff(&facts.System{Manufacturer: "Dell Inc."}, got.Facts.System); diff != "" {
		t.Errorf("system: -want +got\n%s", diff)
	}
	denied := map[string]bool{}
	for _, e := range got.Errors {
		if e.Code == "denied" {
			denied[e.Collector] = true
		}
	}
	for _, name := range []string{"system", "oem_strings", "slots", "custom"} {
		if !denied[name] {
			t.Errorf("%s is not denied: %v", name, got.Errors)
		}
	}
}
