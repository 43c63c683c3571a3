package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// amend brings a node to what is said of its machine, and tells in the journal what that changed.
func (b *Broker) amend(ctx context.Context, tx Tx, n *Node, c *claim, who string, warnings *[]string) (result string, err error) {
	changes := c.teach(n, warnings)
	described, err := b.describe(tx, n, c)
	if err != nil {
		return "", err
	}
	changes = append(changes, described...)
	protection, err := c.protect(n)
	if err != nil {
		return "", err
	}
	changes = append(changes, protection...)
	installed, events, err := b.installIt(n, c, who)
	if err != nil {
		return "", err
	}
	if changes = append(changes, installed...); len(changes) == 0 {
		return RegisteredUnchanged, nil
	}
	asked, err := b.ask(tx, n)
	if err != nil {
		return "", err
	}
	said := b.said(ctx, who, "registered: "+strings.Join(changes, ", "))
	return RegisteredChange, b.change(tx, n, append(append([]Event{said}, events...), asked...)...)
}

// teach adds ids to a node whose agent never spoke. One that has found its own knows better: more are told as a warning.
func (c *claim) teach(n *Node, warnings *[]string) (changes []string) {
	k := &n.Keys
	for _, id := range c.unknown(n) {
		if n.Facts.Known() {
			*warnings = append(*warnings, fmt.Sprintf("node %s has not found %s, which is not taken", n.Title(), id))
			continue
		}
		changes = append(changes, id)
	}
	if n.Facts.Known() {
		return nil
	}
	k.MACs = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(k.MACs), c.keys.MACs...))))
	if k.UUID == "" && k.SharedUUID == "" {
		k.UUID = c.keys.UUID
	}
	if k.Serial == "" {
		k.Serial, k.Maker = c.keys.Serial, c.keys.Maker
	}
	if !n.Ahead {
		n.Ahead = true
		changes = append(changes, "it is the machine that was seen booting")
	}
	return changes
}

// unknown lists the ids of a claim that its node has not.
func (c *claim) unknown(n *Node) (ids []string) {
	for _, m := range c.keys.MACs {
		if !slices.Contains(n.Keys.MACs, m) {
			ids = append(ids, "MAC "+m)
		}
	}
	if u := c.keys.UUID; u != "" && u != n.Keys.UUID && u != n.Keys.SharedUUID {
		ids = append(ids, "UUID "+u)
	}
	if s := c.keys.Serial; s != "" && s != n.Keys.Serial {
		ids = append(ids, "serial "+s)
	}
	return ids
}

// protect never takes the protection from a machine that is known: a policy could begin with it at once.
func (c *claim) protect(n *Node) ([]string, error) {
	switch {
	case c.Protected == nil || *c.Protected == n.Protected:
		return nil, nil
	case *c.Protected:
		n.Protected = true
		return []string{"protected"}, nil
	case n.Facts.Known() || n.locked():
		return nil, c.conflict("node %s is known and protected: approve it by muster node unprotect %s", n.Title(), n.ID)
	}
	n.Protected = false
	return []string{"not protected"}, nil
}

// installIt makes a node that no policy has one that was installed elsewhere. The way there is of the edges that a policy
// takes, and its disk is not touched on it.
func (b *Broker) installIt(n *Node, c *claim, who string) (changes []string, events []Event, err error) {
	way, possible := toActive[n.State]
	switch {
	case c.installed == "" || c.installed == n.Installed:
		return nil, nil, nil
	case n.Policy != "":
		return nil, nil, c.conflict("node %s is bound to policy %s, which says what is installed", n.Title(), n.Policy)
	case !possible:
		return nil, nil, c.conflict("node %s is %s: it can be registered as installed in enroll, manageable and available", n.Title(), n.State)
	}
	if events, err = b.walk(n, who, "registered as installed", way...); err != nil {
		return nil, nil, err
	}
	was := n.Installed
	n.Installed, n.Protected = c.installed, true
	return []string{changed("installed:", was, c.installed)}, events, nil
}

// toActive is how a node comes to be active without an install.
var toActive = map[State][]Verb{
	Enroll:     {Manage, done, Provide, done, Deploy, done},
	Manageable: {Provide, done, Deploy, done},
	Available:  {Deploy, done},
	Active:     nil,
}

// metaText is metadata in one line, bounded.
func metaText(meta map[string]any) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		v, err := json.Marshal(meta[k])
		if err != nil {
			continue // checkMeta has encoded it
		}
		parts = append(parts, k+"="+string(v))
	}
	return strings.Join(parts, " ")
}
