package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
)

// takeState keeps the state of a check-in. That other disks fail than did before is an event.
func (n *Node) takeState(s *facts.State, now time.Time) []Event {
	if s == nil {
		return nil
	}
	before := failing(n.FactsState)
	n.FactsState, n.FactsStateAt = s, now
	after := failing(s)
	if slices.Equal(before, after) {
		return nil
	}
	text := "no disk is failing any more"
	if len(after) > 0 {
		text = fmt.Sprintf("%d %s failing: %s", len(after), plural(len(after), "disk"), failingText(s, after))
	}
	return []Event{{Kind: EventHealth, Who: "agent", Text: text}}
}

// failing lists the ids of failing disks, in order.
func failing(s *facts.State) (ids []string) {
	if s == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(s.Disks)) {
		if s.Disks[id].Health == facts.HealthFailing {
			ids = append(ids, id)
		}
	}
	return ids
}

// failingText names the first few.
func failingText(s *facts.State, ids []string) string {
	const most = 4
	var words []string
	for _, id := range ids[:min(most, len(ids))] {
		words = append(words, fmt.Sprintf("%s (%s)", id, cmp.Or(strings.Join(s.Disks[id].Warnings, " "), "no cause told")))
	}
	if len(ids) > most {
		words = append(words, "...")
	}
	return strings.Join(words, ", ")
}
