package broker

import (
	"muster/agent/facts"
)

// synonyms are Ironic's other words for verbs.
var synonyms = map[string]string{"deleted": "undeploy", "active": "deploy", "deploy complete": "deploy", "rebuild": "reinstall"}

// unsupported are Ironic's verbs that need its drivers.
var unsupported = []string{"adopt", "rescue", "unrescue", "unhold", "service"}

// manage makes a node known: what it says of itself must be on record, and agree.
func (b *Broker) manage(tx Tx, n *Node, a Act) ([]Event, error) {
	from := n.State
	e, err := b.asked(n, Manage, a.Who, a.Why)
	if err != nil || from != Enroll {
		return []Event{e}, err
	}
	if !n.Facts.Known() {
		failed, err := b.move(n, fail, "broker", "nothing is known of the machine yet: it has to boot the ramdisk")
		return []Event{e, failed}, err
	}
	known, err := b.move(n, done, "broker", "")
	if err != nil {
		return nil, err
	}
	more, err := b.ask(tx, n)
	return append([]Event{e, known}, more...), err
}

// inspect has the machine boot the ramdisk and report anew.
func (b *Broker) inspect(_ Tx, n *Node, a Act) ([]Event, error) {
	e, err := b.asked(n, Inspect, a.Who, a.Why)
	if err != nil {
		return nil, err
	}
	waits, err := b.move(n, wait, "broker", "for the machine to boot the ramdisk")
	if err != nil {
		return nil, err
	}
	n.Deadline = b.now().Add(inspectTimeout)
	return []Event{e, waits, b.order(n, facts.OrderReboot, "an operator asked for an inspection")}, nil
}

// deploy has the policies take the node now, or starts a failed install again.
func (b *Broker) deploy(tx Tx, n *Node, a Act) ([]Event, error) {
	if n.State == DeployFailed {
		return b.reinstall(tx, n, a)
	}
	if n.State != Available {
		return nil, illegal(n, Deploy)
	}
	events, err := b.ask(tx, n)
	if err != nil {
		return nil, err
	}
	if n.Policy == "" {
		return nil, conflict("no policy takes node %s (muster explain %s says why)", n.Title(), n.ID)
	}
	return events, nil
}

// undeploy takes the node from its policy. Its disk stays as it is, and it is protected: what takes it next must say so.
// A node that its policy only keeps is where it was.
func (b *Broker) undeploy(_ Tx, n *Node, a Act) ([]Event, error) {
	why := "taken from policy " + n.Policy + "; its disk was left as it is"
	unbound := []Event{{Kind: EventUnbound, Who: a.Who, Text: why, Data: lastWords(n)}}
	if n.Policy == "" {
		why, unbound = "registered as installed no more; its disk was left as it is", nil
	}
	kept := n.Policy != "" && (n.State == Manageable || n.State == Available)
	var events []Event
	if !kept {
		e, err := b.asked(n, Delete, a.Who, a.Why)
		if err != nil {
			return nil, err
		}
		cleaned, err := b.walk(n, "broker", why, Clean, done)
		if err != nil {
			return nil, err
		}
		events = append([]Event{e}, cleaned...)
	}
	n.Policy, n.Task, n.Repo, n.Hostname, n.Installed, n.Stage, n.Starts = "", "", "", n.GivenName, "", 0, nil
	n.Protected, n.WipeOnce, n.Hold, n.HeldBy = true, false, "", ""
	return append(append(events, unbound...), b.order(n, facts.OrderWait, why)), nil
}

// pin leaves the node to one policy, whatever its tags say.
func (b *Broker) pin(tx Tx, n *Node, a Act) ([]Event, error) {
	if a.Policy == "" {
		return nil, invalid("which policy? muster node pin NODE --policy NAME")
	}
	if _, err := tx.Object(KindPolicy, a.Policy); err != nil {
		return nil, invalid("there is no policy %q", a.Policy)
	}
	if n.Policy != "" && n.Policy != a.Policy {
		return nil, conflict("node %s is bound to policy %s: take it back first (muster node undeploy %s)", n.Title(), n.Policy, n.ID)
	}
	n.Pin = a.Policy
	return b.ask(tx, n)
}

func (b *Broker) unpin(tx Tx, n *Node, _ Act) ([]Event, error) {
	n.Pin = ""
	return b.ask(tx, n)
}

// noted changes what operators know of the node; its tags are asked again.
func (b *Broker) noted(tx Tx, n *Node, a Act) ([]Event, error) {
	if err := n.note(a.Meta, a.Remove); err != nil {
		return nil, err
	}
	return b.ask(tx, n)
}
