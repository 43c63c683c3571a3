package broker

import (
	"fmt"
	"strings"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

// A stageOrder is what a stage has the agent do beside writing an image, which has rows of its own in begin and render.
type stageOrder struct {
	does  string                                                                            // for people
	keeps func(b *Broker, n *Node, s task.Stage) error                                      // puts into n.Order what must not change until it is done; may be nil
	fill  func(b *Broker, n *Node, s task.Stage, v task.Values, o *facts.Order) (err error) // may be nil
	after string                                                                            // the order when the task has ended with it
}

// stageOrders is the table; a new order is one row.
var stageOrders = map[string]stageOrder{
	facts.OrderWipe:   {does: "wipes its disks", keeps: (*Broker).keepDisks, fill: (*Broker).fillWipe, after: facts.OrderWait},
	facts.OrderRun:    {does: "runs a program", fill: (*Broker).fillProgram, after: facts.OrderReboot},
	facts.OrderRescue: {does: "lets people in", after: facts.OrderWait},
}

// give makes the order of a stage, the first time or after the machine was restarted under it.
func (b *Broker) give(n *Node, s task.Stage) ([]Event, error) {
	row, disks := stageOrders[s.Order], n.Order.Disks
	if held, err := b.countStart(n); held != nil || err != nil {
		return held, err
	}
	n.InstallSeq++
	n.WipeOnce = false
	e := b.order(n, s.Order, fmt.Sprintf("policy %s %s", n.Policy, row.does))
	n.Order.Disks = disks
	if row.keeps != nil && disks == nil {
		if err := row.keeps(b, n, s); err != nil {
			return b.failNode(n, "broker", err.Error())
		}
	}
	return []Event{e}, nil
}

// keepDisks names the disks that are wiped, once: one that comes later is not among them.
func (b *Broker) keepDisks(n *Node, s task.Stage) error {
	p := b.cat.Load().policyOf(n)
	if p == nil {
		return fmt.Errorf("policy %s is gone", n.Policy)
	}
	params, err := b.params(n, b.cat.Load().taskOf(n), p, false)
	if err != nil {
		return err
	}
	known, err := n.Facts.Whole()
	if err != nil {
		return err
	}
	disks, err := wipeDisks(known, p.Disk, func(guard string) bool { return s.Lifts(params, guard) })
	for _, d := range disks {
		n.Order.Disks = append(n.Order.Disks, *targetOf(&d))
	}
	return err
}

// wipeDisks are those that fit the hints and that no guard keeps which is not lifted: the agent would refuse the whole
// order for one.
func wipeDisks(f *facts.Facts, h DiskHints, lifts func(guard string) bool) (fit []facts.Disk, err error) {
	if f == nil || f.Disks == nil {
		return nil, fmt.Errorf("its disks are not known")
	}
	var why []string
	for _, d := range f.Disks {
		bare := d
		bare.Removable = false // which is a guard here
		no := misfit(bare, h, 0)
		for _, g := range facts.Guards {
			if held := g.Holds(d); no == "" && held != "" && !lifts(g.Name) {
				no = held
			}
		}
		if no != "" {
			why = append(why, d.Name+" "+no)
			continue
		}
		fit = append(fit, d)
	}
	if len(fit) == 0 {
		return nil, fmt.Errorf("no disk fits (%s)", orNone(why))
	}
	return fit, nil
}

func (b *Broker) fillWipe(n *Node, s task.Stage, v task.Values, o *facts.Order) error {
	o.Wipe = s.WipeOrder(v, n.Order.Disks)
	return nil
}

func (b *Broker) fillProgram(n *Node, s task.Stage, v task.Values, o *facts.Order) (err error) {
	r, ok := b.cat.Load().repos[n.Repo]
	switch {
	case !ok:
		return fmt.Errorf("repo %s is gone", n.Repo)
	case r.Compression != "none":
		return fmt.Errorf("repo %s is packed (%s): a program is run as it is", n.Repo, r.Compression)
	}
	o.Program, err = s.ProgramOrder(v, r.SHA256, r.SizeBytes)
	return err
}

// renderStageOrder is render for the rows of stageOrders. What can not be filled is told to the agent in place of it.
func (b *Broker) renderStageOrder(n *Node, o facts.Order) (facts.Order, error) {
	row, t := stageOrders[o.Kind], b.cat.Load().taskOf(n)
	s := currentStage(n, t)
	if s == nil || s.Order != o.Kind {
		return facts.Order{ID: o.ID, Kind: facts.OrderWait, Because: "its task has not this stage any more"}, nil
	}
	if row.fill == nil {
		return o, nil
	}
	v, err := b.values(n, t, s.Name, true)
	if err == nil {
		err = row.fill(b, n, *s, v, &o)
	}
	if err != nil {
		return facts.Order{ID: o.ID, Kind: facts.OrderWait, Because: err.Error()}, nil
	}
	return o, nil
}

// ended says how a task ended: most leave an installed system.
func ended(n *Node, s *task.Stage) Event {
	text := " is installed and runs from its own disk"
	if s.Order != "" || s.Ends != "" {
		text = ": task " + n.Task + " is done"
	}
	return Event{Kind: EventActive, Text: n.Title() + text}
}

// bootEnds is how long after its start a stage ends that can not call: loaders ask again for what they start.
const bootEnds = oneStart

// starts says whether a sighting shows that the machine starts a stage that ends with its boot. A loader's script does; of
// the local disk, which firmware may be told of before any script, all that firmware asks does.
func starts(s boot.Sighting, stage *task.Stage) bool {
	if s.What == "miss" {
		return false
	}
	script := s.What == "script" || strings.Contains(s.Name, "pxelinux.cfg/") || strings.HasPrefix(s.Name, "muster/grub/")
	return script || stage.Step == boot.StepLocal && s.Client.Kind != boot.KindUnknown
}

// bootedOnce takes the boot of a stage that ends with it.
func (b *Broker) bootedOnce(n *Node, s boot.Sighting) {
	stage := currentStage(n, b.cat.Load().taskOf(n))
	if stage == nil || stage.Ends != task.EndBoot || n.State != WaitCallBack || !n.BootedOnce.IsZero() || !starts(s, stage) {
		return
	}
	n.BootedOnce = b.now()
	n.Deadline = n.BootedOnce.Add(bootEnds)
}

// overdue is what becomes of a node that is past its deadline.
func (b *Broker) overdue(n *Node, why string) ([]Event, error) {
	if n.State == WaitCallBack && !n.BootedOnce.IsZero() {
		return b.endStage(n, "broker")
	}
	return b.failNode(n, "broker", why)
}
