package broker

import (
	"fmt"
	"slices"
	"strings"
)

// A view is what the store knows of the ids that were observed.
type view struct {
	Token   *Node   // whose token or key was shown; nil for none
	UUID    *Node   // that owns the UUID
	Swapped *Node   // that owns the UUID with its first three groups turned round
	MACs    []*Node // that own one or more of the MACs, oldest first
	Serial  []*Node // with that serial, oldest first
	Batch   bool    // the UUID is known to be one of several machines
}

// A verdict says what an observation is.
type verdict string

const (
	isNode     verdict = "match"
	isNew      verdict = "new"
	isReject   verdict = "reject"
	isConflict verdict = "conflict"
)

// A note is one thing to be told or done beside the verdict. Reason is a word such as mac-moved; Node is whom it
// concerns beside the machine itself, Value is the id.
type note struct {
	Reason string
	Node   *Node
	Value  string
}

// An outcome says which node an observation is.
type outcome struct {
	Verdict verdict
	Reason  string  // of a conflict or a reject
	Node    *Node   // of a match
	Merge   []*Node // sighted nodes that are the same machine
	Named   []*Node // by a conflict
	Hold    bool    // the node is in conflict with a locked one over a MAC
	Notes   []note
	Keys    Keys // of the machine, without what stays with others
}

// String is the outcome in one line.
func (o outcome) String() string {
	head := string(o.Verdict)
	switch o.Verdict {
	case isNode:
		head += " " + o.Node.ID
	case isReject:
		head += " " + o.Reason
	case isConflict:
		head += " " + o.Reason + " " + strings.Join(nodeIDs(o.Named), ",")
	}
	parts := []string{head}
	for _, m := range o.Merge {
		parts = append(parts, "merge "+m.ID)
	}
	if o.Hold {
		parts = append(parts, "hold "+o.Node.ID)
	}
	for _, n := range o.Notes {
		s := n.Reason
		if n.Node != nil {
			s += " " + n.Node.ID
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func (o *outcome) note(reason string, n *Node, value string) {
	o.Notes = append(o.Notes, note{reason, n, value})
}

func nodeIDs(nodes []*Node) []string {
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

// registered nodes have had facts, or an operator's word; the others were only seen by a boot protocol.
func (n *Node) registered() bool { return n.Facts.Known() || n.Ahead }

// locked nodes are bound or installed: nothing is taken from them, and in doubt they boot their disk.
func (n *Node) locked() bool { return n.Policy != "" || n.Installed != "" }

// resolve says which node shows the ids k, or that nobody can know. It is pure: the boot path and check-ins ask it.
// A token decides; then the UUID, the MACs, the serial. Two registered nodes are never made one.
func resolve(v view, k Keys) outcome {
	if v.Token != nil {
		if o, ok := resolveToken(v, k); ok {
			return o
		}
		token := v.Token
		v.Token = nil
		if o := resolve(v, k); o.Verdict == isNew {
			return o
		}
		return conflictOf("token-mismatch", token)
	}
	if len(k.MACs) == 0 && k.UUID == "" && k.Serial == "" {
		return outcome{Verdict: isReject, Reason: "no-identity"}
	}
	o := outcome{Keys: k}
	o.readSwapped(&v)
	o.dropShared(&v)
	registered := slices.DeleteFunc(slices.Clone(v.MACs), func(n *Node) bool { return !n.registered() })
	switch {
	case v.UUID != nil && (v.UUID.registered() || len(registered) == 0):
		return o.byUUID(v)
	case v.UUID != nil: // sighted with this UUID, and a registered node has its MAC
		v.MACs = append(slices.DeleteFunc(slices.Clone(v.MACs), func(n *Node) bool { return n.ID == v.UUID.ID }), v.UUID)
	}
	switch {
	case len(registered) > 1:
		return conflictOf("many", registered...)
	case len(v.MACs) > 0:
		return o.byMAC(v, registered)
	case len(v.Serial) > 0:
		return o.bySerial(v)
	}
	o.Verdict = isNew
	return o
}

// readSwapped takes the swapped UUID for the right one when a MAC or the serial is of the same node.
func (o *outcome) readSwapped(v *view) {
	if s := v.Swapped; v.UUID == nil && s != nil && (holdsNode(v.MACs, s) || holdsNode(v.Serial, s)) {
		v.UUID, o.Keys.UUID = s, s.Keys.UUID
		o.note("uuid-swapped", nil, s.Keys.UUID)
	}
}

// dropShared takes away a UUID that is no key: a node with one of the MACs shows it as shared, or nobody owns it any
// more because several do, or its owner is plainly another machine.
func (o *outcome) dropShared(v *view) {
	shared := v.UUID == nil && v.Batch || slices.ContainsFunc(v.MACs, func(n *Node) bool {
		return o.Keys.UUID != "" && n.Keys.SharedUUID == o.Keys.UUID
	})
	if u := v.UUID; !shared && u != nil && !holdsNode(v.MACs, u) && serialsDiffer(u.Keys, o.Keys) {
		o.note("uuid-shared", u, o.Keys.UUID)
		shared = true
	}
	if shared {
		v.UUID, o.Keys.UUID, o.Keys.SharedUUID = nil, "", o.Keys.UUID
	}
}

// byUUID: the owner of the UUID. Who else has its MACs is merged when only sighted, loses them when free, and keeps
// them when locked.
func (o outcome) byUUID(v view) outcome {
	o.Verdict, o.Node = isNode, v.UUID
	for _, other := range v.MACs {
		switch {
		case other.ID == o.Node.ID:
		case !other.registered():
			o.Merge = append(o.Merge, other)
		default:
			o.Hold = o.Hold || other.locked()
			o.takeMACs(other)
		}
	}
	o.addMACs(v)
	return o
}

// takeMACs moves the MACs from a registered node that is free, or leaves them with one that is locked.
func (o *outcome) takeMACs(other *Node) {
	for _, m := range o.Keys.MACs {
		if !slices.Contains(other.Keys.MACs, m) {
			continue
		}
		if other.locked() {
			o.note("mac-conflict", other, m)
		} else {
			o.note("mac-moved", other, m)
		}
	}
	if other.locked() {
		o.Keys.MACs = slices.DeleteFunc(slices.Clone(o.Keys.MACs), func(m string) bool { return slices.Contains(other.Keys.MACs, m) })
	}
}

// byMAC: the registered owner of the MACs, or the oldest sighted one, when neither UUID nor serial speaks against it.
func (o outcome) byMAC(v view, registered []*Node) outcome {
	main := v.MACs[0]
	if len(registered) == 1 {
		main = registered[0]
	}
	uuidOpen := o.Keys.UUID == "" || main.Keys.UUID == "" || o.Keys.UUID == main.Keys.UUID
	switch differ := serialsDiffer(main.Keys, o.Keys); {
	case uuidOpen && differ:
		return conflictOf("serial-mismatch", main)
	case uuidOpen:
		if main.Keys.UUID == "" && o.Keys.UUID != "" {
			o.note("adopts uuid", nil, o.Keys.UUID)
		}
	case differ:
		o.Verdict = isNew
		o.takeMACs(main)
		return o
	case !serialsEqual(main.Keys, o.Keys):
		return conflictOf("uuid-mismatch", main)
	default:
		o.note("uuid-changed", nil, o.Keys.UUID)
	}
	o.Verdict, o.Node = isNode, main
	o.Merge = slices.DeleteFunc(slices.Clone(v.MACs), func(n *Node) bool { return n.ID == main.ID })
	o.addMACs(v)
	return o
}

// bySerial: the one node with the serial, when one of both shows no UUID; else a machine that shares it.
func (o outcome) bySerial(v view) outcome {
	same := slices.DeleteFunc(slices.Clone(v.Serial), func(n *Node) bool { return !serialsEqual(n.Keys, o.Keys) })
	if len(same) == 1 && (o.Keys.UUID == "" || same[0].Keys.UUID == "") && o.Keys.SharedUUID == "" {
		o.Verdict, o.Node = isNode, same[0]
		o.note("nic-replaced", nil, strings.Join(o.Keys.MACs, " "))
		return o
	}
	o.Verdict = isNew
	for _, n := range same {
		o.note("serial-shared", n, o.Keys.Serial)
	}
	return o
}

// resolveToken: the token says which node it is, the ids may only add keys or raise an event. It is not believed when
// serial and UUID both speak against it; nor does it decide (ok is false) for a machine that has neither a MAC nor the
// serial of the node: that one got the token by a UUID that several machines share.
func resolveToken(v view, k Keys) (o outcome, ok bool) {
	t := v.Token
	if !t.Facts.Known() {
		if o, ok := resolveExpected(v, k); ok {
			return o, true
		}
	}
	o = outcome{Verdict: isNode, Node: t, Keys: k}
	if v.Swapped != nil && v.Swapped.ID == t.ID {
		o.Keys.UUID = t.Keys.UUID
		o.note("uuid-swapped", nil, t.Keys.UUID)
	}
	uuidsDiffer := t.Keys.UUID != "" && o.Keys.UUID != "" && t.Keys.UUID != o.Keys.UUID
	if t.registered() && serialsDiffer(t.Keys, k) {
		switch {
		case uuidsDiffer:
			return conflictOf("token-mismatch", t), true
		case !holdsNode(v.MACs, t) && t.Keys.UUID != "" && t.Keys.UUID == o.Keys.UUID:
			return outcome{}, false
		}
	}
	for _, other := range v.MACs {
		if other.ID != t.ID {
			o.mergeOrNote(other, "mac-duplicate")
		}
	}
	switch u := v.UUID; {
	case u != nil && u.ID != t.ID && !holdsNode(o.Merge, u):
		o.mergeOrNote(u, "uuid-duplicate")
	case u == nil && v.Batch:
		o.Keys.UUID, o.Keys.SharedUUID = "", o.Keys.UUID
	case uuidsDiffer:
		o.note("uuid-changed", nil, o.Keys.UUID)
	case t.Keys.UUID == "" && o.Keys.UUID != "":
		o.note("adopts uuid", nil, o.Keys.UUID)
	}
	o.addMACs(v)
	return o, true
}

// mergeOrNote takes over a node that was only sighted; what a registered one owns stays there.
func (o *outcome) mergeOrNote(other *Node, reason string) {
	if !other.registered() {
		o.Merge = append(o.Merge, other)
		return
	}
	if reason == "uuid-duplicate" {
		o.note(reason, other, o.Keys.UUID)
		o.Keys.UUID, o.Keys.SharedUUID = "", o.Keys.UUID
		return
	}
	o.Keys.MACs = slices.DeleteFunc(slices.Clone(o.Keys.MACs), func(m string) bool {
		taken := slices.Contains(other.Keys.MACs, m)
		if taken {
			o.note(reason, other, m)
		}
		return taken
	})
}

// addMACs notes the MACs that nobody had.
func (o *outcome) addMACs(v view) {
	for _, m := range o.Keys.MACs {
		has := func(n *Node) bool { return slices.Contains(n.Keys.MACs, m) }
		if !has(o.Node) && !slices.ContainsFunc(v.MACs, has) {
			o.note("adds mac", nil, m)
		}
	}
}

func conflictOf(reason string, named ...*Node) outcome {
	return outcome{Verdict: isConflict, Reason: reason, Named: named}
}

func holdsNode(nodes []*Node, n *Node) bool {
	return slices.ContainsFunc(nodes, func(o *Node) bool { return o.ID == n.ID })
}

// serialsEqual and serialsDiffer: both are false when a serial is not known. A serial is the manufacturer's, where
// both sides know him.
func serialsEqual(a, b Keys) bool {
	return a.Serial != "" && a.Serial == b.Serial && (a.Maker == "" || b.Maker == "" || a.Maker == b.Maker)
}

func serialsDiffer(a, b Keys) bool {
	return a.Serial != "" && b.Serial != "" && !serialsEqual(a, b)
}

// text says what a conflict is about, for the journal and the node's record.
func (o outcome) text(k Keys) string {
	ids := strings.Join(o.Keys.MACs, " ")
	if ids == "" {
		ids = strings.Join(k.MACs, " ")
	}
	s := fmt.Sprintf("%s: a machine with MAC %s", o.Reason, ids)
	if k.UUID != "" {
		s += ", UUID " + k.UUID
	}
	if k.Serial != "" {
		s += ", serial " + k.Serial
	}
	return s + " is not plainly " + strings.Join(nodeIDs(o.Named), " or ")
}
