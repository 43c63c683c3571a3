package agent

import (
	"context"
	"fmt"
	"os"
	"strings"

	"muster/agent/facts"
)

// Routes of the broker for agents.
const (
	routeCheckIn = "/node/v1/checkin"
	routeOrder   = "/node/v1/order"
	routeReport  = "/node/v1/report"
)

// checkIn looks at the machine, tells the broker, and obeys the order in its answer. Facts travel only when the
// broker does not have them.
func (a *Agent) checkIn(ctx context.Context) error {
	began := a.Now()
	p := a.Probe(ctx)
	took := a.Now().Sub(began)
	a.Console.Printf("%s (probed in %s)", summary(p.Facts), seconds(took))
	for _, e := range p.Errors {
		a.Console.Debugf("not read: %s: %s: %s", e.Collector, e.Code, e.Msg)
	}
	reply, err := a.sendCheckIn(ctx, p, p.Hash != a.known)
	if err != nil {
		return err
	}
	for tries := 1; reply.WantFacts; tries++ {
		if tries > 1 { // a broker that never has enough must not be flooded
			if err := sleep(ctx, retryIn(tries, nil)); err != nil {
				return err
			}
		}
		if reply, err = a.sendCheckIn(ctx, p, true); err != nil {
			return err
		}
	}
	a.known = p.Hash
	a.Console.Printf("%s", introduce(reply))
	if err := a.closeOpenOrder(ctx); err != nil {
		return err
	}
	return a.obey(ctx, reply.Order)
}

// sendCheckIn posts one check-in until it is answered, and once more when the answer showed a clock that was far off,
// so that the broker learns of it.
func (a *Agent) sendCheckIn(ctx context.Context, p Probed, whole bool) (facts.CheckInReply, error) {
	for {
		c := a.envelope(p, whole)
		var reply facts.CheckInReply
		ans, err := a.insist(ctx, "POST", routeCheckIn, c, &reply, nil)
		if err != nil {
			return reply, err
		}
		a.Cause = "" // it was told
		if !a.compareClock(ans.header, ans.sent, ans.got) {
			return reply, nil
		}
		whole = reply.WantFacts
	}
}

// envelope makes the next check-in. The token goes with every one: the broker trades it for the boot key at the
// first that reaches it, which need not be the first that was sent.
func (a *Agent) envelope(p Probed, whole bool) facts.CheckIn {
	a.seq++
	a.remember()
	state := p.State
	state.ClockSkewMS = a.skew
	c := facts.CheckIn{
		V:         facts.Version,
		Token:     a.Args.Token,
		BootID:    a.bootID(),
		Seq:       a.seq,
		Agent:     facts.Agent{Version: a.Version},
		FactsHash: p.Hash,
		State:     &state,
		Errors:    p.Errors,
		TimingMS:  p.TimingMS,
	}
	if whole {
		c.Facts = &p.Facts
	}
	if a.Cause != "" {
		c.Errors = append(c.Errors[:len(c.Errors):len(c.Errors)], facts.ProbeError{Collector: "agent", Code: "panic", Msg: cut(plain(a.Cause), maxMessage)})
	}
	return c
}

// bootID is the kernel's random id of this boot.
func (a *Agent) bootID() string {
	b, err := os.ReadFile(a.path("proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// introduce says who the broker takes this machine for.
func introduce(r facts.CheckInReply) string {
	s := "checked in as node " + r.Node
	if r.Name != "" {
		s += " (" + r.Name + ")"
	}
	if len(r.Tags) > 0 {
		s += "; tags " + strings.Join(r.Tags, " ")
	} else {
		s += "; no tag holds"
	}
	if r.Policy != "" {
		return s + "; policy " + r.Policy
	}
	return s + "; no policy"
}

// summary is the machine in one line; what is not known is left out.
func summary(f facts.Facts) string {
	var parts []string
	if f.System != nil {
		if name := strings.TrimSpace(f.System.Manufacturer + " " + f.System.Product); name != "" {
			parts = append(parts, name)
		}
		if f.System.Serial != "" {
			parts = append(parts, "serial "+f.System.Serial)
		}
	}
	if f.CPU != nil && f.CPU.Threads > 0 {
		parts = append(parts, plural(f.CPU.Threads, "CPU"))
	}
	if f.Memory != nil && f.Memory.TotalBytes > 0 {
		parts = append(parts, fmt.Sprintf("%d MiB memory", f.Memory.TotalBytes>>20))
	}
	if f.Disks != nil {
		parts = append(parts, plural(len(f.Disks), "disk")+diskSizes(f.Disks))
	}
	if f.NICs != nil {
		parts = append(parts, plural(len(f.NICs), "NIC"))
	}
	if len(f.Incomplete) > 0 {
		parts = append(parts, "not complete: "+strings.Join(f.Incomplete, " "))
	}
	if len(parts) == 0 {
		return "nothing is known of this machine"
	}
	return strings.Join(parts, ", ")
}

// diskSizes lists the first disks.
func diskSizes(disks []facts.Disk) string {
	const most = 4
	var s []string
	for _, d := range disks[:min(most, len(disks))] {
		s = append(s, d.Name+" "+size(d.SizeBytes))
	}
	switch {
	case len(s) == 0:
		return ""
	case len(disks) > most:
		s = append(s, "...")
	}
	return " (" + strings.Join(s, ", ") + ")"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
