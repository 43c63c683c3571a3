package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"muster/agent"
	"muster/agent/facts"
)

var update = flag.Bool("update", false, "write the golden files anew")

func plantedLook(t *testing.T) agent.Probed {
	t.Helper()
	b, err := os.ReadFile("../../facts/testdata/planted.json")
	if err != nil {
		t.Fatal(err)
	}
	p := agent.Probed{Hash: "17d6", State: facts.State{UptimeMS: 12340, MemFreeBytes: 1843200000}, TimingMS: map[string]int64{"cpu": 3},
		Errors: []facts.ProbeError{{Collector: "tpm", Code: "timeout", Msg: "no answer: context deadline exceeded"}}}
	if err := json.Unmarshal(b, &p.Facts); err != nil {
		t.Fatal(err)
	}
	return p
}

// The whole table of the planted machine, as it was looked at: no line is wider than a terminal.
func TestTableOfThePlantedMachine(t *testing.T) {
	const golden = "testdata/planted.table"
	var out bytes.Buffer
	if err := printTable(&out, plantedLook(t), true); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// T23, T55: whatever is in the facts, a table has the lines that it has for harmless facts, and no byte that a
// terminal obeys.
func TestTableOfAHostileMachine(t *testing.T) {
	const evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\u200b\u2028\x9b31m\xff"
	harmless, hostile := plantedLook(t), plantedLook(t)
	hostile.Facts.System.Serial, hostile.Facts.Disks[0].Model, hostile.Facts.NICs[0].Name = evil, evil, evil
	hostile.Facts.Custom = map[string]string{"rack": evil, "role": evil, "site": evil}
	hostile.Facts.OEMStrings = []string{evil, evil}
	hostile.Errors[0].Msg, hostile.Facts.NICs[0].Driver = evil, "\u202ee1000e\u200b" // neither is a control character
	var plain, out bytes.Buffer
	if err := printTable(&plain, harmless, true); err != nil {
		t.Fatal(err)
	}
	if err := printTable(&out, hostile, true); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(out.String(), "\n"), strings.Count(plain.String(), "\n"); got != want {
		t.Errorf("%d lines; want %d", got, want)
	}
	for line := range strings.Lines(out.String()) {
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }); i >= 0 {
			t.Errorf("byte %d of %q", i, line)
		}
	}
}

func TestNarrowTerminal(t *testing.T) {
	var out bytes.Buffer
	s := screen{w: &out, width: 30, bold: true}
	s.pairs("cpu", [][]string{{"cpu.flags", "fpu vme de pse tsc msr pae mce cx8"}, {"cpu.model", strings.Repeat("x", 40)}})
	s.columns("disks", []string{"name", "model", "wwn"}, [][]string{{"sda", "PLANTEDHDD of a long name", ""}, {"sdb", "ü", ""}})
	s.columns("optical", []string{"name"}, [][]string{})
	s.columns("usb", []string{"port"}, nil)
	want := "\x1b[1mcpu\x1b[0m\n" +
		"  cpu.flags  fpu vme de pse\n             tsc msr pae mce\n             cx8\n  cpu.model  " + strings.Repeat("x", 40) + "\n" +
		"\x1b[1mdisks\x1b[0m\n  name  model\n  sda   PLANTEDHDD of a long n\n  sdb   ü\n" +
		"\x1b[1moptical\x1b[0m\n  none\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A list that nobody chose columns for is printed whole.
func TestStructsOfNoChosenColumns(t *testing.T) {
	var out bytes.Buffer
	list := []struct {
		ID    string `json:"id"`
		TempC int    `json:"temp_c,omitempty"`
		Good  *bool  `json:"good,omitempty"`
	}{{"naa.5", 35, new(bool)}, {"naa.6", 0, nil}}
	screen{w: &out}.structs("state.disks", reflect.ValueOf(list))
	if diff := cmp.Diff("state.disks\n  id     temp_c  good\n  naa.5  35 °C   no\n  naa.6\n", out.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"disk": " (did you mean disks?)", "nisc": " (did you mean nics?)", "cpus": " (did you mean cpu?)", "weather": "", "": " (did you mean pc?)"} {
		if got := nearest(name, []string{"disks", "nics", "cpu", "pc"}); got != want {
			t.Errorf("nearest(%q) = %q; want %q", name, got, want)
		}
	}
}
