package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
	"muster/broker"
)

// TestK2KeysOfTwoNodes: the MAC of one node and the UUID of another in one request. No id moves, and what is bound
// boots its disk until somebody looked.
func TestK2KeysOfTwoNodes(t *testing.T) {
	b := newBroker(t)
	one := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	two := registered(t, b, "b", machineWith(uuidB, "52:54:00:aa:00:03"))
	mustApply(t, b, "kind: Policy\nname: all\nmatch: all\ntask: discover-only\napproval: automatic\n")
	for range 2 {
		step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:aa:00:01"), UUID: uuid(t, uuidB)})
		if err != nil || step.Kind != boot.StepLocal || !strings.Contains(step.Because, "mac-conflict") {
			t.Fatalf("step %q because %q, %v; want the disk, for a mac-conflict", step.Kind, step.Because, err)
		}
	}
	for _, before := range []*broker.Record{one, two} {
		if diff := cmp.Diff(before.Keys, node(t, b, before.ID).Keys); diff != "" {
			t.Errorf("the ids of %s changed (-before +after):\n%s", before.ID, diff)
		}
	}
	if texts := conflicts(t, b, two.ID); len(texts) != 1 || !strings.Contains(texts[0], one.ID) || !strings.Contains(texts[0], two.ID) {
		t.Errorf("conflicts %q; want one that names both", texts)
	}
}

// TestK4ANewMAC: a machine with a known UUID and serial has another card.
func TestK4ANewMAC(t *testing.T) {
	b := newBroker(t)
	before := registered(t, b, "a", withSerial(machineWith(uuidA, "52:54:00:aa:00:01"), "ABC1234"))
	c := boot.Client{MAC: mac(t, "52:54:00:aa:00:02"), UUID: uuid(t, uuidA), Serial: "ABC1234"}
	reply, err := report(t.Context(), b, "b", token(t, b, c), withSerial(machineWith(uuidA, "52:54:00:aa:00:02"), "ABC1234"))
	if err != nil || reply.Node != before.ID {
		t.Fatalf("it is %+v, %v; want %s", reply, err, before.ID)
	}
	if macs := node(t, b, before.ID).Keys.MACs; !slices.Equal(macs, []string{"52:54:00:aa:00:01", "52:54:00:aa:00:02"}) {
		t.Errorf("MACs %q; want the new one beside the old", macs)
	}
	events, err := b.Events(t.Context(), broker.EventFilter{Node: before.ID}, false)
	if err != nil || !slices.ContainsFunc(events, func(e broker.Event) bool { return strings.Contains(e.Text, "NIC 52:54:00:aa:00:02 came") }) {
		t.Errorf("no event tells of the card: %+v, %v", events, err)
	}
}

// TestK5OneSerialOfTwentyNodes: the blades of a chassis show its serial, and no UUID.
func TestK5OneSerialOfTwentyNodes(t *testing.T) {
	b := newBroker(t)
	for i := range 20 {
		registered(t, b, fmt.Sprint("blade", i), withSerial(machineWith("", fmt.Sprintf("52:54:00:aa:00:%02x", i)), "CHASSIS1"))
	}
	if nodes, err := b.Nodes(t.Context()); err != nil || len(nodes) != 20 {
		t.Errorf("%d nodes, %v; want 20", len(nodes), err)
	}
}
