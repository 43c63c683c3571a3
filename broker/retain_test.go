package broker_test

import (
	"slices"
	"testing"
	"time"

	"muster/broker"
)

// What is older than wanted goes, in as many steps as it takes, and the journal still says how each node came to be what
// it is.
func TestTheJournalIsKeptForSoLong(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	b := bareBroker(t, broker.Config{Now: func() time.Time { return now }, KeepEvents: 30 * 24 * time.Hour})
	mustApply(t, b, ramdiskDoc("default", "amd64", "")+tenOfAll)
	arrive(t, b, 1)
	for range 1500 {
		if err := b.Tell(t.Context(), "noise", "old"); err != nil {
			t.Fatal(err)
		}
	}
	before := kindsOf(t, b, "node1")
	now = now.AddDate(0, 0, 31)
	if err := b.Tell(t.Context(), "noise", "new"); err != nil {
		t.Fatal(err)
	}
	gone, err := b.Forget(t.Context())
	if err != nil || gone < 1500 {
		t.Errorf("%d events are gone, %v; want all the noise", gone, err)
	}
	if after := kindsOf(t, b, "node1"); !slices.Equal(before, after) {
		t.Errorf("kinds of events of the node: %v; want %v as before", after, before)
	}
	if gone, err := b.Forget(t.Context()); err != nil || gone != 0 {
		t.Errorf("again %d are gone, %v; want none", gone, err)
	}
}

// kindsOf lists the kinds of events of a node.
func kindsOf(t *testing.T, b *broker.Broker, node string) (kinds []string) {
	t.Helper()
	events, err := b.Events(t.Context(), broker.EventFilter{Node: node}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
