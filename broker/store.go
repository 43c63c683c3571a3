package broker

import (
	"context"
	"time"
)

// Store keeps nodes, objects and the journal, of one broker or of several. What Update has returned without an error
// survives a power cut. Updates are serial: each sees all that were before it and nothing of one under way, and the Seq
// of events rises in the order of commits. A store that is away or full gives ErrBusy, and heals without a restart.
// Implementations are tested by broker/store/storetest.
type Store interface {
	// View runs f on a consistent snapshot. f must not keep its Tx.
	View(ctx context.Context, f func(Tx) error) error
	// Update runs f and commits all that it did, or nothing when it returns an error. f may be run again, so it has
	// no effects outside the Tx; no other f of this Store runs meanwhile. With ErrBusy it may be unknown whether the
	// commit came through.
	Update(ctx context.Context, f func(Tx) error) error
	// Follow gives f what other brokers on the store append to the journal after an event, in order and soon after the
	// commit; it may give what this broker appended too. It returns nil when ctx ends, else what went wrong, f's error
	// included: the caller asks again from the last event that f took.
	Follow(ctx context.Context, after int64, f func([]Event) error) error
	// Lead waits until this broker is the one of all on the store that does what one does for all, runs f, and returns
	// when f does. f's context ends with ctx, or when leading may have been lost: another broker may lead some seconds
	// before this one knows, so what f writes is decided anew in each Update.
	Lead(ctx context.Context, f func(context.Context)) error
	Close() error
}

// Tx is a transaction of a Store. Values go in and out as copies: the caller owns what it gets.
type Tx interface {
	// A Node that it gives reads its facts while the transaction lasts.
	Node(id string) (*Node, error)                        // ErrNotFound
	NodeByKey(kind KeyKind, v string) (*Node, error)      // ErrNotFound
	NodesSharing(kind KeyKind, v string) ([]*Node, error) // oldest first; none is no error
	Nodes(NodeFilter) ([]*Node, error)                    // in the order they were created
	List(ListFilter) ([]Listed, error)                    // what lists have of nodes, without reading the rest
	NodeIDs() ([]string, error)                           // of all nodes, in the order they were created
	Count(NodeFilter) (int, error)
	PutNode(*Node) error        // with its facts, when they are new; ErrConflict when one of its keys belongs to another node
	DeleteNode(id string) error // its events stay

	Object(kind, name string) (Object, error) // ErrNotFound
	Objects(kind string) ([]Object, error)    // by name
	PutObject(Object) error
	DeleteObject(kind, name string) error // ErrNotFound
	Revision() (int64, error)             // of the objects that operators write (IsKind): another one after each change of any

	Append(*Event) error // gives it its Seq, greater than all before
	Events(EventFilter) ([]Event, error)
	// Forget looks at the first limit events after one and deletes those that happened before a time, except the last of
	// each kind of a node that is there, or of no node: the journal goes on to explain what is. It gives the Seq to go on
	// after, 0 when nothing older follows, and how many are gone.
	Forget(after int64, limit int, before time.Time) (next int64, gone int, err error)
	Counter(name string) (int64, error) // one more than the last time, from 1
}

// NodeFilter chooses nodes; an empty field chooses all.
type NodeFilter struct {
	State  State
	Policy string
	// Hostname chooses the nodes with this one, whole or up to a dot.
	Hostname string
	After    string // only nodes made after the one with this id, which may be gone: ids rise, node9, node10; Count does not ask
	Limit    int    // the first so many; if 0, all; Count does not ask
}

// ListFilter chooses nodes of a list, and their order.
type ListFilter struct {
	NodeFilter
	States []State  // any of them; none: all
	Tags   []string // all of them, carried or undecided
	Facts  bool     // with the facts of each
	Sort   string   // one of SortKeys, "-" in front for the other way round; if empty, as they were created
	Key    string   // what the node After is sorted by; its place stays where it was when it is gone
}

// KeyKind says which hardware id a key is.
type KeyKind string

// The kinds of keys. A value belongs to at most one node.
const (
	KeyMAC  KeyKind = "mac"
	KeyUUID KeyKind = "uuid"
	KeyBoot KeyKind = "bootkey" // sha256 of a running agent's key
)

// The kinds of keys that several nodes may have.
const (
	KeySerial     KeyKind = "serial"      // both sleds of a twin may show the serial of their chassis
	KeySharedUUID KeyKind = "shared-uuid" // one UUID burnt into a whole batch
)

// Indexed lists the keys that a Store finds a node by.
func (n *Node) Indexed() map[KeyKind][]string {
	keys := map[KeyKind][]string{KeyMAC: n.Keys.MACs}
	if n.Keys.UUID != "" {
		keys[KeyUUID] = []string{n.Keys.UUID}
	}
	if n.Boot.KeyHash != "" {
		keys[KeyBoot] = []string{n.Boot.KeyHash}
	}
	return keys
}

// Shared lists the keys that a Store finds a node by, beside others that have them too.
func (n *Node) Shared() map[KeyKind][]string {
	keys := map[KeyKind][]string{}
	if n.Keys.Serial != "" {
		keys[KeySerial] = []string{n.Keys.Serial}
	}
	if n.Keys.SharedUUID != "" {
		keys[KeySharedUUID] = []string{n.Keys.SharedUUID}
	}
	return keys
}

// An Object is what an operator applied: a tag, a policy, a repo. Doc is its JSON in canonical form.
type Object struct {
	Kind string
	Name string
	Doc  []byte
	Was  string // Rev that a change is made to; if empty, whatever there is. No store keeps it.
}
