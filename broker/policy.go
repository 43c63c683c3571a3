package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

// Policy binds the nodes that carry all its tags to a task. Policies are asked in the order of Order, then Name.
type Policy struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Order    int      `json:"order,omitempty"` // lower is asked first; 0 means 100
	Tags     []string `json:"tags,omitempty"`  // all of them
	NotTags  []string `json:"not_tags,omitempty"`
	Nodes    []string `json:"nodes,omitempty"` // if given, only these: ids, MACs or serial numbers
	Match    string   `json:"match,omitempty"` // "all": wanted in place of tags and nodes, said aloud
	Enabled  *bool    `json:"enabled,omitempty"`
	Windows  []Window `json:"windows,omitempty"`  // if given, nodes are taken only while one of them is open
	Max      int      `json:"max,omitempty"`      // most nodes bound at once; 0: no limit
	Approval string   `json:"approval,omitempty"` // "required" (default): protected nodes are left alone; "automatic"

	// OnUndecided "hold" asks no later policy about a node while a tag of this one is undecided on it and none is
	// denied. The default, "pass", goes on to the next.
	OnUndecided string `json:"on_undecided,omitempty"`

	Task     string         `json:"task"`
	Repo     string         `json:"repo,omitempty"`
	Params   map[string]any `json:"params,omitempty"`   // of the task; passwords are sealed in the store, *** elsewhere
	Ramdisk  string         `json:"ramdisk,omitempty"`  // that its nodes boot; if empty, chosen by their tags
	Hostname string         `json:"hostname,omitempty"` // template: {{.Seq}} counts the policy's nodes, {{.ID}} is the node
	Meta     map[string]any `json:"meta,omitempty"`     // given to the node when it is bound; what it has already stays
	Wipe     bool           `json:"wipe,omitempty"`     // the chosen disk may hold data, which is lost
	Disk     DiskHints      `json:"disk,omitzero"`
	Handoff  string         `json:"handoff,omitempty"` // what takes over after the install

	// Limits of an install, in place of the broker's and the task's; 0 switches one off.
	MaxStarts    *int           `json:"max_starts,omitempty"`    // of one stage within the broker's loop window
	StageTimeout *task.Duration `json:"stage_timeout,omitempty"` // from a stage's begin to its end
}

func (p *Policy) check() error {
	switch {
	case len(p.Tags) == 0 && len(p.Nodes) == 0 && p.Match != "all":
		return invalid("no tags: it would take every node; add tags or nodes, or say match: all")
	case len(p.Tags)+len(p.Nodes) > 0 && p.Match != "":
		return invalid("match: %s beside tags or nodes: keep one", p.Match)
	case p.Approval != "" && p.Approval != "required" && p.Approval != "automatic":
		return invalid("approval %q: want required or automatic", p.Approval)
	case p.OnUndecided != "" && p.OnUndecided != "pass" && p.OnUndecided != "hold":
		return invalid("on_undecided %q: want pass or hold", p.OnUndecided)
	case p.Max < 0 || p.Order < 0 || p.MaxStarts != nil && *p.MaxStarts < 0:
		return invalid("max, max_starts and order may not be negative")
	case p.Task == "":
		return invalid("task is missing")
	}
	for i, w := range p.Windows {
		if err := w.check(); err != nil {
			return fmt.Errorf("windows[%d]: %w", i, err)
		}
	}
	if err := p.Disk.check(); err != nil {
		return err
	}
	if err := checkMeta(p.Meta); err != nil {
		return err
	}
	_, err := hostname(p.Hostname, "node1", 1)
	return err
}

// A PolicyLine says of one policy why it takes a node or does not.
type PolicyLine struct {
	Policy string `json:"policy"`
	Wins   bool   `json:"wins,omitempty"`
	Why    string `json:"why"`
}

// A candidate is a policy with what choose needs to know beside it.
type candidate struct {
	Policy
	Bound int        // nodes it has now
	Now   time.Time  // for its windows
	Task  *task.Task // nil when there is none of that name
	Repo  *Repo      // nil when there is none of that name
}

// choose asks the policies in order and gives the first that takes the node, with a line for each. Pure.
func choose(n *Node, policies []candidate) (win *candidate, disk *facts.Disk, lines []PolicyLine) {
	for i := range policies {
		p := &policies[i]
		if win != nil {
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "not asked: policy " + win.Name + " was first"})
			continue
		}
		d, no := p.takes(n)
		if why := p.holds(n, no); why != "" {
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "holds the node for itself: " + why})
			for _, later := range policies[i+1:] {
				lines = append(lines, PolicyLine{Policy: later.Name, Why: "not asked: policy " + p.Name + " holds the node"})
			}
			return nil, nil, lines
		}
		if no != nil {
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "passed over: " + no.Error()})
			continue
		}
		win, disk = p, d
		lines = append(lines, PolicyLine{Policy: p.Name, Wins: true, Why: p.because(n)})
	}
	return win, disk, lines
}

func (p *candidate) because(n *Node) string {
	switch {
	case n.Pin == p.Name:
		return "node is pinned to it"
	case p.Match == "all":
		return "takes every node (match: all)"
	case len(p.Tags) == 0:
		return "node is one of its nodes"
	}
	return "node has " + plural(len(p.Tags), "tag") + " " + strings.Join(p.Tags, ", ")
}

// takes gives the reason why not or, for a task that writes one, the disk.
func (p *candidate) takes(n *Node) (*facts.Disk, error) {
	if no := p.wants(n); no != "" {
		return nil, errors.New(no)
	}
	switch {
	case n.Protected && p.Approval != "automatic":
		return nil, errors.New("node is protected and the policy asks for approval (muster node unprotect, or approval: automatic)")
	case p.Max > 0 && p.Bound >= p.Max:
		return nil, fmt.Errorf("full (%d of %d)", p.Bound, p.Max)
	}
	with := *n
	if err := with.inherit(p.Meta); err != nil {
		return nil, err
	}
	switch {
	case !p.Task.Disk:
		return nil, nil
	case p.Task.Wipes():
		return nil, p.wipes(n)
	}
	known, err := n.Facts.Whole()
	if err != nil {
		return nil, err
	}
	return pickDisk(known, p.Disk, needs(p.Task, p.Repo), p.Wipe || n.WipeOnce)
}

// holds says why no later policy may have a node that this one, for the reason no, does not take; or "".
func (p *candidate) holds(n *Node, no error) string {
	if t := p.undecided(n); t != nil && p.OnUndecided == "hold" {
		return "tag " + t.Name + " undecided" + colon(t.Cause)
	}
	if errors.Is(no, errAlike) {
		return no.Error()
	}
	return ""
}

// wipes says why a task that destroys what disks hold may not have the node.
func (p *candidate) wipes(n *Node) error {
	if !p.Wipe && !n.WipeOnce {
		return fmt.Errorf("task %s destroys what disks hold and the policy does not say wipe: true", p.Task.Name)
	}
	known, err := n.Facts.Whole()
	if err != nil {
		return err
	}
	_, err = wipeDisks(known, p.Disk, func(string) bool { return true })
	return err
}

// wants checks everything but capacity, protection and disks. A node that is pinned to the policy needs no tags.
func (p *candidate) wants(n *Node) string {
	switch {
	case p.Enabled != nil && !*p.Enabled:
		return "not enabled"
	case n.Pin != "" && n.Pin != p.Name:
		return "node is pinned to policy " + n.Pin
	case p.Task == nil:
		return fmt.Sprintf("there is no task %q", p.Policy.Task)
	case p.Task.Repo != task.RepoNone && p.Repo == nil:
		return fmt.Sprintf("there is no repo %q", p.Policy.Repo)
	}
	if n.Pin == p.Name {
		return p.closed()
	}
	if len(p.Nodes) > 0 && !slices.ContainsFunc(p.Nodes, n.named) {
		return "node is none of its nodes"
	}
	for _, name := range p.Tags {
		if no := n.lacks(name); no != "" {
			return no
		}
	}
	for _, name := range p.NotTags {
		if t := n.tag(name); t.Verdict != "no" {
			return fmt.Sprintf("not_tags: tag %s is %s%s", name, t.Verdict, colon(t.Cause))
		}
	}
	return p.closed()
}

// closed says that none of the policy's windows is open, or "".
func (p *candidate) closed() string {
	if len(p.Windows) == 0 || slices.ContainsFunc(p.Windows, func(w Window) bool { return w.open(p.Now) }) {
		return ""
	}
	var all []string
	for _, w := range p.Windows {
		all = append(all, w.String())
	}
	return "it takes nodes at " + strings.Join(all, ", ") + " only"
}

// undecided is the first tag on which it hangs whether an enabled policy wants the node, or nil.
func (p *candidate) undecided(n *Node) *TagResult {
	if p.Enabled != nil && !*p.Enabled || n.Pin != "" || len(p.Nodes) > 0 && !slices.ContainsFunc(p.Nodes, n.named) || p.closed() != "" {
		return nil
	}
	var first *TagResult
	for _, name := range p.Tags {
		switch t := n.tag(name); t.Verdict {
		case "no":
			return nil
		case "undecided":
			first = cmp.Or(first, &t)
		}
	}
	for _, name := range p.NotTags {
		switch t := n.tag(name); t.Verdict {
		case "yes":
			return nil
		case "undecided":
			first = cmp.Or(first, &t)
		}
	}
	return first
}

// named says whether a node is meant by its id, one of its MACs or its serial number.
func (n *Node) named(name string) bool {
	if mac, err := boot.ParseMAC(name); err == nil && slices.Contains(n.Keys.MACs, mac.String()) {
		return true
	}
	return n.ID == name || n.Keys.Serial != "" && strings.EqualFold(n.Keys.Serial, name)
}

// lacks says why a node does not carry a tag, or "".
func (n *Node) lacks(tag string) string {
	switch t := n.tag(tag); t.Verdict {
	case "yes":
		return ""
	case "undecided":
		return "tag " + tag + " undecided" + colon(t.Cause)
	}
	return "node has not tag " + tag
}
