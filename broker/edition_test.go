package broker_test

import (
	"slices"
	"testing"

	"muster/broker"
	"muster/broker/store"
)

// TestAnotherVersionJudgesAnew has a tag on record that no rule gives, as if an older version had read the rule otherwise.
func TestAnotherVersionJudgesAnew(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := brokerOn(t, s, broker.Config{Version: "1"})
	mustApply(t, b, ramdiskDoc("default", "amd64", "")+"---\nkind: Tag\nname: many\nrule: len(facts.nics) > 1\n")
	n := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	if err := s.Update(t.Context(), func(tx broker.Tx) error {
		n, err := tx.Node(n.ID)
		if err != nil {
			return err
		}
		n.Tags = []broker.TagResult{{Name: "many", Verdict: "yes"}}
		return tx.PutNode(n)
	}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		version string
		carries bool
	}{{"1", true}, {"2", false}} {
		b := brokerOn(t, s, broker.Config{Version: tt.version})
		if err := b.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(node(t, b, n.ID).CarriedTags(), "many"); got != tt.carries {
			t.Errorf("after version %s it carries the tag: %t; want %t", tt.version, got, tt.carries)
		}
	}
}
