package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
)

const (
	// cleanTimeout is how long a clean may go without a word from the machine, which has to boot the ramdisk first.
	cleanTimeout = 30 * time.Minute
	// cleanStarts is how many times the wipe of one clean is ordered: a machine that restarts in it again is not well.
	cleanStarts = 3
)

// A Wiping is what a node in cleaning loses.
type Wiping struct {
	Wipe   facts.Wipe `json:"wipe"`
	Disks  []string   `json:"disks"`  // their names, for people
	End    Verb       `json:"end"`    // where it leads: manage after a manual clean, done on the way to available
	Starts int        `json:"starts"` // how many times it was ordered
}

// provide makes a node available; its disks are wiped on the way when the operator says so.
func (b *Broker) provide(tx Tx, n *Node, a Act) ([]Event, error) {
	e, err := b.asked(n, Provide, a.Who, a.Why)
	if err != nil {
		return nil, err
	}
	if a.Wipe {
		return b.beginClean(n, a, e, done)
	}
	ready, err := b.move(n, done, "broker", "there is nothing to clean")
	if err != nil {
		return nil, err
	}
	more, err := b.ask(tx, n)
	return append([]Event{e, ready}, more...), err
}

// clean is a manual clean: it ends where it began. Disks that hold nothing need none; what they hold is lost only by an
// operator's word, this once.
func (b *Broker) clean(_ Tx, n *Node, a Act) ([]Event, error) {
	e, err := b.asked(n, Clean, a.Who, a.Why)
	if err != nil {
		return nil, err
	}
	if a.Wipe {
		return b.beginClean(n, a, e, Manage)
	}
	if n.Facts.Known() && n.Facts.InUse != "" {
		return nil, conflict("node %s: %s: say --wipe to lose it, this once", n.Title(), n.Facts.InUse)
	}
	back, err := b.move(n, Manage, "broker", "there is nothing to clean")
	return []Event{e, back}, err
}

// beginClean orders the wipe.
func (b *Broker) beginClean(n *Node, a Act, asked Event, end Verb) ([]Event, error) {
	switch {
	case n.Protected:
		return nil, conflict("node %s is protected: its disks are kept (muster node unprotect %s)", n.Title(), n.ID)
	case n.Hold != "":
		return nil, conflict("node %s is on hold: %s", n.Title(), n.Hold)
	case n.Conflict != "":
		return nil, conflict("node %s: ids in conflict: %s", n.Title(), n.Conflict)
	}
	known, err := n.Facts.Whole()
	if err != nil {
		return nil, err
	}
	c, err := planClean(n, known, a)
	if err != nil {
		return nil, err
	}
	c.End, n.Wiping = end, c
	return append([]Event{asked}, b.orderWipe(n, a.Who+" cleans it")), nil
}

// planClean chooses the disks: those that the operator names, whatever guards them, or all that nothing guards.
func planClean(n *Node, known *facts.Facts, a Act) (*Wiping, error) {
	c := &Wiping{Wipe: facts.Wipe{Method: a.Method}}
	if a.Method == "" {
		c.Wipe.Method = facts.WipeAuto
	}
	if !slices.Contains(facts.WipeMethods, c.Wipe.Method) {
		return nil, invalid("method %q: want one of %s", a.Method, strings.Join(facts.WipeMethods, ", "))
	}
	if known == nil || known.Disks == nil {
		return nil, conflict("node %s: its disks are not known", n.Title())
	}
	for _, name := range a.Disks {
		if !slices.ContainsFunc(known.Disks, func(d facts.Disk) bool { return isCalled(d, name) }) {
			return nil, invalid("node %s has no disk %q (by id, serial or WWN)", n.Title(), name)
		}
	}
	var left []string
	for _, d := range known.Disks {
		named := slices.ContainsFunc(a.Disks, func(name string) bool { return isCalled(d, name) })
		switch why := keepsFromWipe(d, named); {
		case len(a.Disks) > 0 && !named:
		case why != "" && named:
			return nil, conflict("disk %s of node %s %s", d.Name, n.Title(), why)
		case why != "":
			left = append(left, d.Name+" "+why)
		default:
			c.Wipe.Disks, c.Disks = append(c.Wipe.Disks, *targetOf(&d)), append(c.Disks, d.Name)
		}
	}
	if len(c.Disks) == 0 {
		return nil, conflict("node %s has no disk to wipe (%s); name one with --disk to wipe it all the same", n.Title(), orNone(left))
	}
	if len(a.Disks) > 0 {
		for _, g := range facts.Guards {
			c.Wipe.Lift = append(c.Wipe.Lift, g.Name)
		}
	}
	return c, nil
}

// isCalled compares what stays when a machine boots again: a kernel's name may be another disk's then.
func isCalled(d facts.Disk, name string) bool {
	return name != "" && (d.ID == name || d.Serial == name || d.WWN == name)
}

// keepsFromWipe says why a disk is not wiped, or "". Guards do not keep one that is named.
func keepsFromWipe(d facts.Disk, named bool) string {
	switch {
	case d.ReadOnly:
		return "is read-only"
	case d.Dup:
		return "shares its id with another disk"
	}
	for _, g := range facts.Guards {
		if why := g.Holds(d); why != "" && !named {
			return why
		}
	}
	return ""
}

// cleans says whether the node's disks are being wiped.
func (n *Node) cleans() bool { return n.State == Cleaning && n.Wiping != nil }

// orderWipe gives the agent the order; it may still have to boot.
func (b *Broker) orderWipe(n *Node, why string) Event {
	n.Wiping.Starts++
	n.Deadline = b.now().Add(cleanTimeout)
	return b.order(n, facts.OrderWipe, fmt.Sprintf("%s: %s of %s", why, n.Wiping.Wipe.Method, strings.Join(n.Wiping.Disks, ", ")))
}

// rewipe gives the order again after the machine was restarted under it.
func (b *Broker) rewipe(n *Node) ([]Event, error) {
	if n.Wiping.Starts >= cleanStarts && n.Order.Status != "" {
		return b.failNode(n, "broker", fmt.Sprintf("the machine was restarted in the middle of its wipe %d times", n.Wiping.Starts))
	}
	if n.Order.Status == "" { // nobody has taken it yet
		n.Wiping.Starts--
	}
	return []Event{b.orderWipe(n, "the machine was started")}, nil
}

// wiped takes what the agent says of the wipe.
func (b *Broker) wiped(n *Node, r *facts.Report) ([]Event, error) {
	events, err := b.reported(n, r)
	if err != nil {
		return nil, err
	}
	n.Deadline = b.now().Add(cleanTimeout)
	var more []Event
	switch r.Status {
	case facts.StatusFailed:
		more, err = b.failNode(n, "agent", boot.Printable(r.Message))
	case facts.StatusDone:
		var e Event
		if e, err = b.move(n, n.Wiping.End, "agent", "its disks are wiped"); err == nil {
			// What they hold now comes with the agent's next check-in, and the policies are asked then.
			more = []Event{e, b.order(n, facts.OrderWait, "its disks are wiped")}
		}
	default:
		return events, nil
	}
	n.Wiping = nil
	return append(events, more...), err
}
