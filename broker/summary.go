package broker

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/broker/rule"
)

// A NodeSummary is what a list has of a node: bounded, and without its facts.
type NodeSummary struct {
	ID        string    `json:"id"`
	Rev       int64     `json:"rev"`
	Hostname  string    `json:"hostname,omitempty"`
	State     State     `json:"state"`
	Since     time.Time `json:"since"`
	Deadline  time.Time `json:"deadline,omitzero"`
	Waiting   string    `json:"waiting,omitempty" doc:"what it waits for"`
	Protected bool      `json:"protected"`
	Hold      string    `json:"hold,omitempty"`
	Conflict  string    `json:"conflict,omitempty"`
	LastError string    `json:"last_error,omitempty"`
	Policy    string    `json:"policy,omitempty"`
	Installed string    `json:"installed,omitempty"`
	Order     string    `json:"order,omitempty"`
	Tags      []string  `json:"tags,omitempty" doc:"carried"`
	Undecided []string  `json:"undecided,omitempty" doc:"tags that are undecided"`
	MAC       string    `json:"mac,omitempty"`
	UUID      string    `json:"uuid,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	Addr      string    `json:"addr,omitempty"`
	Hardware  string    `json:"hardware,omitempty"`
	LastSeen  time.Time `json:"last_seen"`
	Created   time.Time `json:"created"`
}

// maxCell bounds each text of a summary.
const maxCell = 200

func short(s string) string {
	if r := []rune(s); len(r) > maxCell {
		return string(r[:maxCell-1]) + "…"
	}
	return s
}

// Brief gives the summary of a node.
func Brief(n *Node) NodeSummary {
	s := NodeSummary{ID: n.ID, Rev: n.Rev, Hostname: n.Hostname, State: n.State, Since: n.Since, Deadline: n.Deadline,
		Waiting: short(waiting(n)), Protected: n.Protected, Hold: short(n.Hold), Conflict: short(n.Conflict), LastError: short(n.LastError),
		Policy: n.Policy, Installed: n.Installed, Order: strings.TrimSpace(n.Order.Kind + " " + n.Order.Status), Tags: n.CarriedTags(),
		UUID: n.Keys.UUID, Serial: short(n.Keys.Serial), Addr: n.Boot.Addr, LastSeen: n.LastSeen, Created: n.Created}
	for _, t := range n.Tags {
		if t.Verdict == rule.Undecided.String() {
			s.Undecided = append(s.Undecided, t.Name)
		}
	}
	if len(n.Keys.MACs) > 0 {
		s.MAC = n.Keys.MACs[0]
	}
	if n.Facts.Known() {
		s.Hardware = short(n.Facts.Hardware)
	}
	return s
}

// A Listed is what lists, their filters and ranges read of a node. The store keeps it beside the node: who changes what
// it says adds a step to the store's schemas that makes it anew.
type Listed struct {
	NodeSummary
	MACs   []string `json:"macs,omitempty"`   // all of them
	Causes []string `json:"causes,omitempty"` // of Undecided

	Facts string `json:"-"` // their JSON, for a ListFilter that asks for them; "": none are known
}

// InList gives what lists have of a node.
func InList(n *Node) Listed {
	l := Listed{NodeSummary: Brief(n), MACs: n.Keys.MACs}
	for _, t := range n.Tags {
		if t.Verdict == rule.Undecided.String() {
			l.Causes = append(l.Causes, t.Cause)
		}
	}
	return l
}

// SortedBy is what a list sorts the node by, as text whose bytes have the order.
func (s *NodeSummary) SortedBy(key string) string { return sortKeys[key](s) }

// sortKeys are what lists may be sorted by. Times are texts of one length.
var sortKeys = map[string]func(*NodeSummary) string{
	"created":  func(s *NodeSummary) string { return instant(s.Created) },
	"hostname": func(s *NodeSummary) string { return s.Hostname },
	"state":    func(s *NodeSummary) string { return string(s.State) },
	"since":    func(s *NodeSummary) string { return instant(s.Since) },
	"seen":     func(s *NodeSummary) string { return instant(s.LastSeen) },
	"policy":   func(s *NodeSummary) string { return s.Policy },
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000") }

// SortKeys lists what nodes may be sorted by.
func SortKeys() []string { return slices.Sorted(maps.Keys(sortKeys)) }

// A cursor is the last node of a page. It is opaque to callers, and bound to the order it was made in.
type cursor struct {
	Sort string `json:"s,omitempty"`
	Key  string `json:"k,omitempty"`
	ID   string `json:"i"`
}

func (c cursor) String() string {
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // three strings
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseCursor(text, sort string) (c cursor, err error) {
	if text == "" {
		return cursor{Sort: sort}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &c) != nil || c.ID == "" || c.Sort != sort {
		return c, invalid("after %q: want next of the page before, with the same sort", text)
	}
	return c, nil
}

// compare orders by key, then by id as ids were given out.
func (c cursor) compare(z cursor) int {
	by := strings.Compare(c.Key, z.Key)
	if strings.HasPrefix(c.Sort, "-") {
		by = -by
	}
	return cmp.Or(by, cmp.Compare(len(c.ID), len(z.ID)), strings.Compare(c.ID, z.ID))
}
