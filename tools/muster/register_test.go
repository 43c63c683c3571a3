package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
)

// TestFlagsAreForWhatAFileDoesNotSay: what a machine says of itself stays.
func TestFlagsAreForWhatAFileDoesNotSay(t *testing.T) {
	yes := true
	f := registerFlags{one: broker.Registration{Pin: "web"}, meta: []string{"rack=r12", "cores=32"}, installed: "razor", unprotected: true}
	if err := f.said(); err != nil {
		t.Fatal(err)
	}
	own := broker.Registration{Pin: "db", Meta: map[string]any{"rack": "r1"}, Installed: "by hand", Protected: &yes}
	bare := broker.Registration{Installed: false}
	f.complete(&own)
	f.complete(&bare)
	want := []broker.Registration{
		{Pin: "db", Meta: map[string]any{"rack": "r1", "cores": 32.0}, Installed: "by hand", Protected: &yes},
		{Pin: "web", Meta: map[string]any{"rack": "r12", "cores": 32.0}, Installed: "razor", Protected: new(bool)}}
	if diff := cmp.Diff(want, []broker.Registration{own, bare}); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	if bare.Meta["rack"] = "r2"; f.one.Meta["rack"] != "r12" {
		t.Error("two machines share their metadata")
	}
}

// TestCallsAreWhatTheServerTakes: neither too many machines nor too many bytes, and every machine once, in order.
func TestCallsAreWhatTheServerTakes(t *testing.T) {
	for _, tt := range []struct {
		machines, bytes int
		want            []int
	}{
		{1, 10, []int{1}}, {1000, 10, []int{1000}}, {1001, 10, []int{1000, 1}}, {2500, 10, []int{1000, 1000, 500}}, {5, 500_000, []int{2, 2, 1}}, {2, 3_000_000, []int{1, 1}},
	} {
		var nodes []broker.Registration
		for i := range tt.machines {
			nodes = append(nodes, broker.Registration{Serial: fmt.Sprint("SN", i), Meta: map[string]any{"x": strings.Repeat("x", tt.bytes)}})
		}
		calls, err := callsOf(nodes)
		var got []int
		var all []broker.Registration
		for _, c := range calls {
			got, all = append(got, len(c)), append(all, c...)
		}
		if err != nil || !cmp.Equal(tt.want, got) || !cmp.Equal(nodes, all) {
			t.Errorf("%d machines of %d bytes are calls of %v, %v; want %v", tt.machines, tt.bytes, got, err, tt.want)
		}
	}
}

// TestALongFileThatIsRefused: the machine is named by its place in the file, and what was registered before it by number.
func TestALongFileThatIsRefused(t *testing.T) {
	file := &broker.RegistrationFile{Places: make([]string, 1500)}
	for i := range file.Places {
		file.Places[i] = fmt.Sprint("line ", i+1)
	}
	for text, want := range map[string]string{
		"nodes[7].macs[0]: no":           "line 1008: macs[0]: no; of its call nothing was registered, and 1000 machines before",
		"nodes[0]: same":                 "line 1001: same; of its call nothing was registered, and 1000 machines before",
		"the store is away":              "the store is away (1000 machines were registered before it)",
		"nodes[500]: too far":            "nodes[500]: too far",
		"nodes[9999999999999999999]: no": "nodes[9999999999999999999]: no (1000 machines were registered before it)",
	} {
		if got := refused(fmt.Errorf("%s", text), file, 1000).Error(); got != want {
			t.Errorf("%s is told as %q; want %q", text, got, want)
		}
	}
}
