package broker_test

import (
	"strings"
	"testing"

	"muster/agent/facts"
	"muster/boot"
)

// The hash of facts stands for them as long as it is that of the facts the broker has.
func TestTheBrokerAsksForFactsItDoesNotHave(t *testing.T) {
	b := newBroker(t)
	key := strings.Repeat("k", 32)
	whole := machineWith(uuidA, "52:54:00:00:00:01")
	hash, err := whole.Hash()
	if err != nil {
		t.Fatal(err)
	}
	in := facts.CheckIn{V: 1, Token: token(t, b, boot.Client{MAC: mac(t, "52:54:00:00:00:01")}), BootID: "boot"}
	for i, step := range []struct {
		hash  string
		facts *facts.Facts
		want  bool
	}{
		{hash, nil, true}, // a new machine
		{hash, whole, false},
		{hash, nil, false},
		{strings.Repeat("0", 64), nil, true},
		{"", nil, true}, // an agent that could not make one
		{hash, nil, false},
	} {
		in.Seq++
		in.FactsHash, in.Facts = step.hash, step.facts
		reply, err := b.CheckIn(t.Context(), key, &in)
		if err != nil {
			t.Fatal(err)
		}
		if reply.WantFacts != step.want {
			t.Errorf("check-in %d: want_facts %t; want %t", i, reply.WantFacts, step.want)
		}
		if got := node(t, b, reply.Node); i > 0 && (got.FactsHash != hash || len(got.HWHash) != 64) {
			t.Errorf("check-in %d: facts_hash %q, hw_hash %q", i, got.FactsHash, got.HWHash)
		}
	}
}
