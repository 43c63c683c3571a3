package broker

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/facts"
)

// A Timeline says how far a node came in its newest run, how long each phase took, and where it is now. A run begins with
// the first packet of a boot, or with the order to install again, and ends when the node is active.
type Timeline struct {
	Node     string    `json:"node"`
	Hostname string    `json:"hostname,omitempty"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"`
	Phases   []Phase   `json:"phases"`
	Boots    int       `json:"boots" doc:"boot scripts given in the run; many, where a machine does not come up"`
	Now      *Stay     `json:"now,omitempty" doc:"where it is and what it waits for; absent when it waits for nothing"`
	Last     *Event    `json:"last,omitempty" doc:"the last thing that was seen"`
}

// A Phase is a part of a run that is over.
type Phase struct {
	Name  string    `json:"name"`
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	MS    int64     `json:"ms"`
}

// A Stay is the phase a node is in.
type Stay struct {
	Phase    string    `json:"phase"`
	Since    time.Time `json:"since"`
	MS       int64     `json:"ms"`
	WaitsFor string    `json:"waits_for"`
	Deadline time.Time `json:"deadline,omitzero"`
}

// milestones end the phases, in their order; what a run jumps over takes no time in it. waits is what a machine in the
// phase is waited for, where the node itself does not say.
var milestones = []struct {
	phase, waits string
	reached      func(*Event) bool
}{
	{"start", "", func(e *Event) bool { return protocol(e) }},
	{"firmware", "the firmware to fetch a boot file", func(e *Event) bool { return fetched(e) }},
	{"loader", "the loader to fetch the kernel", func(e *Event) bool { return fetched(e) && strings.Contains(e.Data["name"], "boot/f/") }},
	{"kernel", "the kernel to start the agent", nil}, // told by the agent, with the next
	{"facts", "the agent's first check-in", func(e *Event) bool { return e.Kind == EventCheckIn }},
	{"bound", "a policy that takes it", func(e *Event) bool { return e.Kind == EventBound }},
	{"written", "the disk to be written", func(e *Event) bool { return e.Kind == EventStage && (e.Who == "agent" || e.Who == "installer") }},
	{"first boot", "the installed system to call", func(e *Event) bool { return e.Kind == EventActive }},
}

// Places in the table that the run's own rules name.
const (
	atStart, atLoader, atKernel, atFacts = 0, 2, 3, 4
	atBound, atWritten, atActive         = 5, 6, 7
)

func protocol(e *Event) bool {
	return e.Kind == EventDHCP || e.Kind == EventTFTP || e.Kind == EventHTTP
}

func fetched(e *Event) bool {
	return (e.Kind == EventTFTP || e.Kind == EventHTTP) && e.Data["what"] != "miss" && e.Data["what"] != "refused"
}

// A run folds events, in their order, into milestones.
type run struct {
	at    int // the last milestone reached; -1: none
	times [8]time.Time
	boots int
	sent  bool // into an installer, whose boot is of this run
	last  *Event
}

func (r *run) see(e *Event) {
	r.last = e
	if r.begins(e) {
		*r = run{at: -1, last: e}
	}
	if e.Kind == EventOrder && r.at == atBound {
		r.sent = strings.HasPrefix(e.Text, "order "+facts.OrderReboot)
	}
	if e.Data["what"] == "script" {
		r.boots++
	}
	for i, m := range milestones {
		if i == atWritten && r.at < atBound {
			continue
		}
		if i <= r.at || m.reached == nil || !m.reached(e) || i == atActive && r.at < atStart {
			continue
		}
		if i == atFacts && r.at < atKernel {
			r.startedKernel(e)
		}
		r.at, r.times[i] = i, e.Time
	}
	if e.Kind == EventOperator && r.at < atStart {
		r.at, r.times[atStart] = atStart, e.Time // waits for the machine
	}
}

// startedKernel takes from the agent's word when the kernel began.
func (r *run) startedKernel(e *Event) {
	ms, err := strconv.ParseInt(e.Data["since_kernel_ms"], 10, 64)
	began := e.Time.Add(-time.Duration(ms) * time.Millisecond)
	if err == nil && ms > 0 && r.at >= atStart && began.After(r.times[r.at]) {
		r.at, r.times[atKernel] = atKernel, began
	}
}

// begins says that an event is the first of a new run: a boot after an agent was there, unless it is the boot of what was
// just written; and an operator's reinstall.
func (r *run) begins(e *Event) bool {
	again := e.Kind == EventOperator && (e.Text == "reinstall" || strings.HasPrefix(e.Text, "reinstall:"))
	return again || protocol(e) && r.at >= atFacts && r.at != atWritten && !(r.at == atBound && r.sent)
}

// phases are those that are over.
func (r *run) phases() []Phase {
	list := []Phase{}
	from := time.Time{}
	for i := range milestones {
		to := r.times[i]
		if to.IsZero() {
			continue
		}
		if !from.IsZero() {
			list = append(list, Phase{milestones[i].phase, from, to, to.Sub(from).Milliseconds()})
		}
		from = to
	}
	return list
}

// now says where the node is after the run.
func (r *run) now(n *Node, at time.Time) *Stay {
	i := r.at + 1
	if i == atKernel {
		i = atFacts // nobody sees the kernel begin
	}
	said := n.Hold != "" || n.Conflict != ""
	switch {
	case said:
	case r.at < atStart || n.State == Active:
		return nil
	case i > atFacts && waiting(n) == "":
		return nil
	}
	s := &Stay{Phase: milestones[min(max(i, 1), atActive)].phase, Since: n.Since, WaitsFor: waiting(n), Deadline: n.Deadline}
	if r.at >= atStart && !said {
		s.Since = r.times[r.at]
		if i <= atFacts || s.WaitsFor == "" {
			s.WaitsFor = milestones[min(i, atActive)].waits
		}
	}
	if i == atFacts+1 && n.Policy != "" {
		s.Phase, s.Since = string(n.State), n.Since // bound before this run
	}
	s.MS = at.Sub(s.Since).Milliseconds()
	return s
}

// Timeline folds the journal of a node.
func (b *Broker) Timeline(ctx context.Context, name string) (*Timeline, error) {
	var t *Timeline
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err := lookup(tx, name)
		if err != nil {
			return err
		}
		r := &run{at: -1}
		for f := (EventFilter{Node: n.ID, Limit: 1000}); ; {
			events, err := tx.Events(f)
			if err = cmp.Or(err, ctx.Err()); err != nil {
				return err
			}
			for i := range events {
				r.see(&events[i])
			}
			if len(events) < f.Limit {
				break
			}
			f.After = events[len(events)-1].Seq
		}
		t = &Timeline{Node: n.ID, Hostname: n.Hostname, State: n.State, Since: n.Since, Phases: r.phases(), Boots: r.boots,
			Now: r.now(n, b.now()), Last: r.last}
		return nil
	})
	return t, err
}

// PhaseNames lists the phases of a run, in their order.
func PhaseNames() []string {
	var names []string
	for _, m := range milestones[1:] {
		names = append(names, m.phase)
	}
	return slices.Clip(names)
}
