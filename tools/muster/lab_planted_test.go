package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// muster lab planted judges facts of a file: what is there is found, what is not is named, and then it fails.
func TestLabPlantedNamesWhatIsMissing(t *testing.T) {
	file, again := filepath.Join(t.TempDir(), "facts.json"), filepath.Join(t.TempDir(), "again.json")
	const facts = `{"schema":1,"system":{"serial":"ABC1234"},"memory":{"total_bytes":2063802368,"dimms":[{"serial":"DSER0001","speed_mts":2400}]}}`
	if err := os.WriteFile(file, []byte(facts), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := labCommand()
	c.SetArgs([]string{"planted", "--facts", file, "--save", again})
	c.SetOut(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "planted values are not found") {
		t.Errorf("error %v; want how many are missing", err)
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		`found system: serial "ABC1234"`,
		`found memory: total_bytes 1992294400 to 2147483647`,
		`MISSING DIMM: speed_mts memory.dimms[serial=DSER0001].speed_mts: got 2400; want 2933`,
		`MISSING system: product system.product: got none; want "PowerEdge R640"`,
		`MISSING SATA disk: rpm disks[serial=SATA0001].rpm: got none: 0 of 0 have serial=SATA0001; want 7200`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if saved, err := os.ReadFile(again); err != nil || !bytes.Contains(saved, []byte("DSER0001")) {
		t.Errorf("saved facts %s, %v", saved, err)
	}
}

func TestLabPlantedRefusesSecureBoot(t *testing.T) {
	c := labCommand()
	c.SetArgs([]string{"planted", "--firmware", "secureboot"})
	c.SilenceUsage, c.SilenceErrors = true, true
	var usage usageError
	if err := c.ExecuteContext(t.Context()); !errors.As(err, &usage) {
		t.Errorf("error %v; want a wrong call", err)
	}
}
