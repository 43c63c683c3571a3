package broker

import (
	"encoding/json"
	"errors"
	"fmt"

	"muster/agent/facts"
	"muster/broker/rule"
)

// Facts are what an agent found of a node. The whole is large and asked for seldom: the node holds the gist of it, and
// the store reads the rest where it is wanted. The zero value is a node of which nothing is known.
type Facts struct {
	*Gist
	whole *facts.Facts           // when it is in memory
	doc   []byte                 // its JSON, when that is
	read  func() ([]byte, error) // doc, from where the node came from; nil: from nowhere
	fresh bool                   // no store has them yet

	hardware string // HardwareHash, of facts that were just found
}

// A Gist is what boots, lists and hooks ask of facts. It is made when the facts come: who changes what it says adds a
// step to the store's schemas that makes it anew.
type Gist struct {
	Hash         string `json:"hash"`
	Arch         string `json:"arch,omitempty"`
	Hardware     string `json:"hardware,omitempty"` // Summary
	InUse        string `json:"in_use,omitempty"`   // the disk that holds data, and what; "" when none does
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	SecureBoot   bool   `json:"secure_boot,omitempty"`
}

// Found makes a node's facts of what its agent found.
func Found(f *facts.Facts) (Facts, error) {
	hash, hardware, err := f.Hashes()
	doc, err2 := json.Marshal(f)
	if err := errors.Join(err, err2); err != nil {
		return Facts{}, fmt.Errorf("facts: %w", err)
	}
	g := &Gist{Hash: hash, Arch: f.Arch, Hardware: Summary(f), InUse: diskInUse(f)}
	if s := f.System; s != nil {
		g.Manufacturer, g.Product = s.Manufacturer, s.Product
	}
	if f.Firmware != nil {
		g.SecureBoot = f.Firmware.SecureBoot == "enabled"
	}
	return Facts{Gist: g, whole: f, doc: doc, fresh: true, hardware: hardware}, nil
}

// Known says that an agent has told facts.
func (f *Facts) Known() bool { return f.Gist != nil }

// Equal says that both are of the same facts, wherever the whole of them is.
func (f Facts) Equal(g Facts) bool {
	return f.Known() == g.Known() && (!f.Known() || *f.Gist == *g.Gist)
}

// Whole gives all of them, and nil when nothing is known. What is known and can not be read, such as after the end of
// the transaction that the node came from, is an error.
func (f *Facts) Whole() (*facts.Facts, error) {
	if !f.Known() || f.whole != nil {
		return f.whole, nil
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	whole := &facts.Facts{}
	if err := json.Unmarshal(f.doc, whole); err != nil {
		return nil, fmt.Errorf("read facts %s: %w", f.Hash, err)
	}
	f.whole = whole
	return whole, nil
}

// load takes the JSON into memory.
func (f *Facts) load() (err error) {
	switch {
	case f.doc != nil:
		return nil
	case f.read == nil:
		return fmt.Errorf("read facts %s: they came without their store", f.Hash)
	}
	if f.doc, err = f.read(); err != nil {
		return fmt.Errorf("read facts %s: %w", f.Hash, err)
	}
	return nil
}

// tree is what rules read of these sections. What is not known is absent.
func (f *Facts) tree(of sections) (map[string]any, error) {
	if !f.Known() {
		return map[string]any{"schema": int64(0)}, nil
	}
	if of != nil && f.whole == nil {
		if err := f.load(); err != nil {
			return nil, err
		}
	}
	if of != nil && f.doc != nil {
		tree, err := of.in(string(f.doc))
		if err != nil {
			return nil, fmt.Errorf("read facts %s: %w", f.Hash, err)
		}
		return tree, nil
	}
	whole, err := f.Whole()
	if err != nil {
		return nil, err
	}
	tree, err := rule.Tree(*whole)
	if err != nil {
		return nil, fmt.Errorf("read facts %s: %w", f.Hash, err)
	}
	return tree.(map[string]any), nil // a struct's
}

// ReadBy is for a Store: read gives the JSON of the facts with the gist's hash, and fails when there are others by now.
func (f *Facts) ReadBy(read func() ([]byte, error)) { f.read = read }

// Fresh is for a Store: the JSON that it is to keep; nil when it has it.
func (f *Facts) Fresh() []byte {
	if !f.fresh {
		return nil
	}
	return f.doc
}

// A Record is a node with all of its facts: what the API shows, and what a backup has.
type Record struct {
	Node
	Facts *facts.Facts `json:"facts,omitempty"`
}

// record reads what a node has not at hand.
func (n *Node) record() (*Record, error) {
	whole, err := n.Facts.Whole()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.ID, err)
	}
	return &Record{*n, whole}, nil
}

// Parted is the node of a record, with the facts as ones that no store has.
func (r *Record) Parted() (*Node, error) {
	n := r.Node
	if r.Facts == nil {
		return &n, nil
	}
	var err error
	if n.Facts, err = Found(r.Facts); err != nil {
		return nil, fmt.Errorf("node %s: %w", n.ID, err)
	}
	return &n, nil
}
