package broker_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

// TestF44TheJournalHasTheSkew: a clock that was far off is told once a boot, however often the agent says it.
func TestF44TheJournalHasTheSkew(t *testing.T) {
	const second, day = int64(1000), int64(86400_000)
	for _, tt := range []struct {
		name string
		says []int64 // milliseconds of the check-ins of one boot
		want []string
	}{
		{"a right clock", []int64{59 * second, -59 * second}, nil},
		{"an hour ahead, said twice", []int64{3600 * second, 3600 * second}, []string{"the machine's clock was 3600 s ahead"}},
		{"from 1970", []int64{0, -20700 * day}, []string{"the machine's clock was 20700 days behind"}},
		{"a liar's", []int64{math.MinInt64}, []string{"the machine's clock was 106751991167 days behind"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBroker(t)
			c := boot.Client{MAC: mac(t, "52:54:00:00:00:01")}
			for _, key := range []string{"0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"} { // two boots
				in := &facts.CheckIn{V: 1, Token: token(t, b, c), BootID: "b", Facts: &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: c.MAC.String(), Bus: "pci"}}}}
				for _, ms := range tt.says {
					in.State = &facts.State{ClockSkewMS: &ms}
					if _, err := b.CheckIn(t.Context(), key, in); err != nil {
						t.Fatal(err)
					}
				}
			}
			events, err := b.Events(t.Context(), broker.EventFilter{}, false)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range events {
				if e.Kind == broker.EventClock {
					got = append(got, e.Text)
				}
			}
			if diff := cmp.Diff(append(tt.want, tt.want...), got); diff != "" {
				t.Errorf("journal (-want +got):\n%s", diff)
			}
		})
	}
}
