package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

func TestTimelineSaysWhereANodeIs(t *testing.T) {
	var seq int64
	at := func(sec int, kind, who, text string, data ...string) broker.Event {
		seq++
		e := broker.Event{Seq: seq, Time: epoch.Add(time.Duration(sec) * time.Second), Kind: kind, Who: who, Text: text, Data: map[string]string{}}
		for i := 0; i+1 < len(data); i += 2 {
			e.Data[data[i]] = data[i+1]
		}
		return e
	}
	boots := []broker.Event{
		at(0, "dhcp", "dhcp", "discover", "what", "discover"),
		at(1, "dhcp", "dhcp", "ack", "what", "ack"),
		at(2, "tftp", "tftp", "file undionly.kpxe", "what", "file", "name", "undionly.kpxe"),
		at(4, "http", "http", "script boot/ipxe", "what", "script", "name", "boot/ipxe"),
		at(5, "http", "http", "file boot/f/00/vmlinuz", "what", "file", "name", "boot/f/00/vmlinuz"),
	}
	agent := []broker.Event{
		at(20, broker.EventCheckIn, "agent", "boot 1", "since_kernel_ms", "8000"),
		at(20, broker.EventRegistered, "agent", "facts"),
	}
	installs := []broker.Event{
		at(30, broker.EventBound, "broker", "policy web"),
		at(90, broker.EventStage, "agent", "stage write is done"),
	}
	local := []broker.Event{
		at(95, "dhcp", "dhcp", "discover", "what", "discover"),
		at(99, "http", "http", "script boot/ipxe", "what", "script", "name", "boot/ipxe"),
	}
	active := []broker.Event{at(120, broker.EventActive, "installer", "installed")}
	known := broker.Told(&facts.Facts{})
	for _, tt := range []struct {
		name  string
		event [][]broker.Event
		node  broker.Node
		want  []string
	}{
		{"firmware fetches nothing", [][]broker.Event{boots[:2]}, broker.Node{State: broker.Enroll}, []string{"now firmware since 0: the firmware to fetch a boot file", "boots 0"}},
		{"the loader is not asked further", [][]broker.Event{boots[:4]}, broker.Node{State: broker.Enroll}, []string{"firmware 2", "now loader since 2: the loader to fetch the kernel", "boots 1"}},
		{"the kernel does not come up", [][]broker.Event{boots}, broker.Node{State: broker.Enroll}, []string{"firmware 2", "loader 3", "now facts since 5: the agent's first check-in", "boots 1"}},
		{"nobody takes it", [][]broker.Event{boots, agent}, broker.Node{State: broker.Manageable, Facts: known}, []string{"firmware 2", "loader 3", "kernel 7", "facts 8", "now bound since 20: a policy that takes it", "boots 1"}},
		{"it writes", [][]broker.Event{boots, agent, installs[:1]}, broker.Node{State: broker.WaitCallBack, Policy: "web", Facts: known, Order: broker.OrderRef{Kind: "write_image", Done: 1, All: 4}},
			[]string{"firmware 2", "loader 3", "kernel 7", "facts 8", "bound 10", "now written since 30: the agent: 25 % written", "boots 1"}},
		{"it does not come back", [][]broker.Event{boots, agent, installs, local[:1]}, broker.Node{State: broker.WaitCallBack, Policy: "web", Facts: known, Stage: 2, Deadline: epoch},
			[]string{"firmware 2", "loader 3", "kernel 7", "facts 8", "bound 10", "written 60", "now first boot since 90: the end of stage 2, at the latest at 00:00:00", "boots 1"}},
		{"it is done", [][]broker.Event{boots, agent, installs, local, active}, broker.Node{State: broker.Active, Policy: "web", Facts: known},
			[]string{"firmware 2", "loader 3", "kernel 7", "facts 8", "bound 10", "written 60", "first boot 30", "boots 2"}},
		{"it is on hold", [][]broker.Event{boots, agent}, broker.Node{State: broker.Manageable, Facts: known, Hold: "by alice", Since: epoch.Add(20 * time.Second)},
			[]string{"firmware 2", "loader 3", "kernel 7", "facts 8", "now bound since 20: an operator's release", "boots 1"}},
		{"it boots in circles", [][]broker.Event{boots, boots[3:], boots[3:]}, broker.Node{State: broker.Enroll}, []string{"firmware 2", "loader 3", "now facts since 5: the agent's first check-in", "boots 3"}},
		{"an active one boots its disk", [][]broker.Event{boots, agent, installs, local, active, local}, broker.Node{State: broker.Active, Policy: "web", Facts: known}, []string{"firmware 4", "boots 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			phases, stay, n := broker.Phases(slices.Concat(tt.event...), &tt.node, epoch.Add(1000*time.Second))
			var got []string
			for _, p := range phases {
				got = append(got, fmt.Sprintf("%s %d", p.Name, p.MS/1000))
			}
			if stay != nil {
				got = append(got, fmt.Sprintf("now %s since %.0f: %s", stay.Phase, stay.Since.Sub(epoch).Seconds(), stay.WaitsFor))
			}
			if diff := cmp.Diff(tt.want, append(got, fmt.Sprintf("boots %d", n))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
