package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"muster/agent/facts"
)

// look finds the nodes that have any of the ids.
func look(tx Tx, token *Node, k Keys) (v view, err error) {
	v.Token = token
	if token != nil && slices.ContainsFunc(k.MACs, func(m string) bool { return slices.Contains(token.Keys.MACs, m) }) {
		v.MACs = []*Node{token} // it need not be read again
	}
	for _, m := range k.MACs {
		if slices.ContainsFunc(v.MACs, func(n *Node) bool { return slices.Contains(n.Keys.MACs, m) }) {
			continue // a MAC has one node
		}
		n, err := orNil(tx.NodeByKey(KeyMAC, m))
		if err != nil {
			return v, err
		}
		if n != nil && !holdsNode(v.MACs, n) {
			v.MACs = append(v.MACs, n)
		}
	}
	slices.SortStableFunc(v.MACs, func(a, b *Node) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	switch {
	case k.UUID == "":
	case token != nil && token.Keys.UUID == k.UUID:
		v.UUID = token
	default:
		if v.UUID, err = orNil(tx.NodeByKey(KeyUUID, k.UUID)); err != nil {
			return v, err
		}
	}
	if k.UUID != "" && v.UUID == nil {
		if v.Swapped, err = orNil(tx.NodeByKey(KeyUUID, swappedUUID(k.UUID))); err != nil {
			return v, err
		}
		batch, err := tx.NodesSharing(KeySharedUUID, k.UUID)
		if err != nil {
			return v, err
		}
		v.Batch = len(batch) > 0
	}
	if k.Serial != "" {
		v.Serial, err = tx.NodesSharing(KeySerial, k.Serial)
	}
	return v, err
}

func orNil(n *Node, err error) (*Node, error) {
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return n, err
}

// recognize says which node a booting machine is. Nothing is written of what a boot protocol shows beside a mark for a
// conflict: whoever can send a packet can show any id.
func recognize(tx Tx, k Keys) (outcome, error) {
	v, err := look(tx, nil, k)
	if err != nil {
		return outcome{}, err
	}
	return resolve(v, k), nil
}

// known is the node of a booting machine when nothing has to be written for it; else ErrNotFound.
func known(tx Tx, k Keys) (*Node, error) {
	o, err := recognize(tx, k)
	switch {
	case err != nil:
		return nil, err
	case o.Verdict == isNode && (!o.Hold || o.Node.Conflict != ""):
		return o.Node, nil
	case o.Verdict == isConflict && marked(o.Named):
		return o.Named[0], nil
	}
	return nil, notFound("no node has these hardware ids")
}

func marked(nodes []*Node) bool {
	return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.Conflict == "" })
}

// mark writes a conflict to the nodes it names, once: until an operator resolves it, more of the same is no news.
func (b *Broker) mark(tx Tx, nodes []*Node, text string) error {
	for _, n := range nodes {
		if n.Conflict != "" {
			continue
		}
		n.Conflict = text
		if err := b.change(tx, n, Event{Kind: EventConflict, Who: "broker", Text: text}); err != nil {
			return err
		}
	}
	return nil
}

// holders are the nodes that keep a MAC of the outcome's machine.
func holders(o outcome) (nodes []*Node) {
	for _, x := range o.Notes {
		if x.Reason == "mac-conflict" && !holdsNode(nodes, x.Node) {
			nodes = append(nodes, x.Node)
		}
	}
	return nodes
}

// disown takes a UUID from the node that owned it: it is one of several machines, and finds none of them any more.
func (b *Broker) disown(tx Tx, n *Node, uuid string) error {
	n.Keys.UUID, n.Keys.SharedUUID = "", uuid
	return b.change(tx, n, Event{Kind: EventConflict, Who: "broker", Data: map[string]string{"old": uuid},
		Text: "another machine has UUID " + uuid + " too: this node is found by its MACs from now on"})
}

// adopt gives the node the ids its agent found. An id of a machine that was only seen booting is taken over with its
// record; an id of another registered node stays there, and both are told.
func (b *Broker) adopt(tx Tx, n *Node, o outcome) (events []Event, err error) {
	for _, m := range o.Merge {
		if err := tx.DeleteNode(m.ID); err != nil {
			return nil, err
		}
		events = append(events, merged(m, o.Keys))
		o.Keys.MACs = append(slices.Clone(o.Keys.MACs), m.Keys.MACs...)
	}
	for _, x := range o.Notes {
		kind, duplicate := strings.CutSuffix(x.Reason, "-duplicate")
		switch {
		case duplicate:
			e := Event{Kind: EventConflict, Who: "broker", Text: fmt.Sprintf("nodes %s and %s both have %s %s; it stays with %s", n.ID, x.Node.ID, kind, x.Value, x.Node.ID)}
			other, err := tx.Node(x.Node.ID) // as the last note left it
			if err != nil {
				return nil, err
			}
			if err := b.change(tx, other, e); err != nil {
				return nil, err
			}
			events = append(events, e)
		case x.Reason == "uuid-changed":
			events = append(events, Event{Kind: EventFacts, Who: "broker", Text: fmt.Sprintf("UUID changed from %s to %s", n.Keys.UUID, x.Value),
				Data: map[string]string{"old": n.Keys.UUID, "new": x.Value}})
		}
	}
	n.Keys.MACs = append(n.Keys.MACs, o.Keys.MACs...)
	slices.Sort(n.Keys.MACs)
	n.Keys.MACs = slices.Compact(n.Keys.MACs)
	if o.Keys.UUID != "" {
		n.Keys.UUID = o.Keys.UUID
	}
	if n.Keys.UUID != o.Keys.SharedUUID {
		n.Keys.SharedUUID = o.Keys.SharedUUID
	}
	if o.Keys.Serial != "" {
		n.Keys.Serial, n.Keys.Maker = o.Keys.Serial, o.Keys.Maker
	}
	return events, nil
}

// merged tells by which id a sighted node was known to be the same machine.
func merged(m *Node, k Keys) Event {
	by := "uuid " + m.Keys.UUID
	for _, mac := range m.Keys.MACs {
		if slices.Contains(k.MACs, mac) {
			by = "mac " + mac
		}
	}
	return Event{Kind: EventSighted, Who: "broker", Data: map[string]string{"merged": m.ID, "macs": strings.Join(m.Keys.MACs, " "), "uuid": m.Keys.UUID},
		Text: fmt.Sprintf("is the same machine as %s (%s), which is merged into it", m.ID, by)}
}

// doubt answers an agent whose machine is not plainly the node of its token: it waits, nothing of its report is kept,
// and its token is not traded.
func (b *Broker) doubt(tx Tx, n *Node, o outcome, k Keys) (*facts.CheckInReply, error) {
	for i, named := range o.Named { // admit may have changed its copy
		clean, err := tx.Node(named.ID)
		if err != nil {
			return nil, err
		}
		o.Named[i] = clean
	}
	text := o.text(k)
	if err := b.mark(tx, o.Named, text); err != nil {
		return nil, err
	}
	return &facts.CheckInReply{Node: n.ID, Order: facts.Order{ID: n.Order.ID, Kind: facts.OrderWait,
		Because: "ids in conflict: " + text}}, nil
}

// split makes a node of its own of a machine that got another's token because both show one UUID.
func (b *Broker) split(tx Tx, n *Node, o outcome) (*Node, error) {
	fresh, err := b.newNode(tx, Keys{})
	if err != nil {
		return nil, err
	}
	fresh.Boot = n.Boot
	fresh.Boot.Traded, fresh.Boot.Seq = 1, 2
	for _, x := range o.Notes {
		if x.Reason != "uuid-shared" {
			continue
		}
		owner, err := tx.Node(x.Node.ID) // without the key that admit wrote to its copy
		if err != nil {
			return nil, err
		}
		if owner.Boot.KeyHash == n.Boot.KeyHash { // a running agent that was taken for the owner's
			owner.Boot.KeyHash = ""
		}
		if err := b.disown(tx, owner, x.Value); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// resolved is an operator's word that the machine at the node's MACs is this node: what is known of its UUID and
// serial is forgotten, and learned from its next report.
func (b *Broker) resolved(tx Tx, n *Node, _ Act) ([]Event, error) {
	if n.Conflict == "" {
		return nil, conflict("node %s is in no conflict", n.Title())
	}
	old := map[string]string{"uuid": n.Keys.UUID, "serial": n.Keys.Serial}
	e := Event{Kind: EventConflict, Who: "broker", Data: old, Text: "resolved: UUID and serial are learned anew from the machine's next report"}
	n.Conflict, n.Keys.UUID, n.Keys.Serial, n.Keys.Maker, n.Keys.SharedUUID = "", "", "", "", ""
	n.FactsHash = ""
	bound, err := b.bind(tx, n)
	return append([]Event{e}, bound...), err
}
