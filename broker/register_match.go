package broker

import (
	"fmt"
	"slices"
	"strings"
)

// match finds the node that a claim is about, nil when there is none yet. Ids that belong to several nodes, or speak
// against each other, are an operator's to look at: nothing is moved and nothing merged.
func (c *claim) match(tx Tx) (n *Node, warnings []string, err error) {
	v, err := look(tx, nil, c.keys)
	if err != nil {
		return nil, nil, err
	}
	o := resolve(v, c.keys)
	switch {
	case o.Verdict == isConflict:
		return nil, nil, c.conflict("%s", o.text(c.keys))
	case len(o.Merge) > 0:
		return nil, nil, c.conflict("its ids are those of nodes %s: delete those that it is not, or let it boot, which makes them one",
			strings.Join(nodeIDs(append([]*Node{o.Node}, o.Merge...)), " and "))
	case o.Node != nil && o.replaced(c.keys):
		o = outcome{Verdict: isNew, Keys: c.keys, Notes: []note{{"serial-shared", o.Node, c.keys.Serial}}}
	}
	for _, x := range o.Notes {
		switch {
		case x.Reason == "serial-shared":
			warnings = append(warnings, fmt.Sprintf("node %s has serial %s too, and other MACs: it is taken for another machine", x.Node.Title(), x.Value))
		case x.Node != nil:
			return nil, nil, c.conflict("%s is of node %s", x.Value, x.Node.ID)
		case x.Reason == "uuid-changed":
			return nil, nil, c.conflict("node %s has its MAC and serial, and UUID %s", o.Node.ID, o.Node.Keys.UUID)
		}
	}
	for _, other := range v.Serial {
		if o.Node != nil && other.ID != o.Node.ID && other.bySerialAlone(c.keys) {
			return nil, nil, c.conflict("its ids are those of nodes %s and %s: delete the one that it is not", o.Node.ID, other.ID)
		}
	}
	if o.Node != nil && serialsDiffer(o.Node.Keys, c.keys) {
		return nil, nil, c.conflict("node %s has serial %s", o.Node.ID, o.Node.Keys.Serial)
	}
	c.keys = o.Keys
	return o.Node, warnings, nil
}

// replaced says that only a serial number speaks for the node, which has other MACs: of a machine that reports, a card was
// replaced; of a list, it may as well be the other half of a twin.
func (o outcome) replaced(k Keys) bool {
	return len(k.MACs) > 0 && len(o.Node.Keys.MACs) > 0 &&
		slices.ContainsFunc(o.Notes, func(x note) bool { return x.Reason == "nic-replaced" })
}

// resolveExpected says that the machine behind a token, which was only seen booting so far, is one that an operator
// registered by other ids: by another of its NICs, by a serial that no boot protocol shows, by a UUID in the other order
// of bytes. Its node was made for want of them, and is merged into the registered one.
func resolveExpected(v view, k Keys) (o outcome, ok bool) {
	switch expected := v.expected(k); {
	case len(expected) > 1:
		return conflictOf("many", expected...), true
	case len(expected) == 0 || expected[0].ID == v.Token.ID:
		return outcome{}, false
	default:
		o = outcome{Verdict: isNode, Node: expected[0], Keys: k, Merge: []*Node{v.Token}}
	}
	n := o.Node
	if n.Keys.UUID != "" && k.UUID != "" && n.Keys.UUID == swappedUUID(k.UUID) {
		o.Keys.UUID = n.Keys.UUID
		o.note("uuid-swapped", nil, n.Keys.UUID)
	}
	switch {
	case serialsDiffer(n.Keys, k):
		return conflictOf("serial-mismatch", n), true
	case n.Keys.UUID != "" && o.Keys.UUID != "" && n.Keys.UUID != o.Keys.UUID && !serialsEqual(n.Keys, k):
		return conflictOf("uuid-mismatch", n), true
	}
	for _, other := range v.MACs {
		if other.ID != n.ID && other.ID != v.Token.ID {
			o.mergeOrNote(other, "mac-duplicate")
		}
	}
	if u := v.UUID; u != nil && u.ID != n.ID && u.ID != v.Token.ID && !holdsNode(o.Merge, u) {
		o.mergeOrNote(u, "uuid-duplicate")
	}
	o.addMACs(v)
	return o, true
}

// expected are the nodes that were registered, whose machines never reported, and that the ids may mean. A serial alone
// means a node that was registered by nothing but it.
func (v view) expected(k Keys) (nodes []*Node) {
	add := func(n *Node) {
		if n != nil && n.Ahead && !n.Facts.Known() && !holdsNode(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	add(v.Token)
	add(v.UUID)
	add(v.Swapped)
	for _, n := range v.MACs {
		add(n)
	}
	for _, n := range v.Serial {
		if n.bySerialAlone(k) {
			add(n)
		}
	}
	return nodes
}

// bySerialAlone says that the node is known by the serial of the ids, and by nothing else.
func (n *Node) bySerialAlone(k Keys) bool {
	return len(n.Keys.MACs) == 0 && n.Keys.UUID == "" && serialsEqual(n.Keys, k)
}

// arrive has a registered node go on as the machine that another node was made for when it booted.
func (n *Node) arrive(seen *Node) *Node {
	n.Boot, n.LastSeen = seen.Boot, seen.LastSeen
	n.Order.ID = max(n.Order.ID, seen.Order.ID)
	return n
}
