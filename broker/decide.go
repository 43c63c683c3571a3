package broker

import (
	"fmt"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

// A Decision is what a node boots next, and why.
type Decision struct {
	Step    boot.StepKind `json:"step"`
	Because string        `json:"because"`
}

// decide says what a node boots next. It is pure: the boot path, explain and render all ask it. t is the task of the
// node's policy, nil when it has none.
func decide(n *Node, t *task.Task) Decision {
	stage := currentStage(n, t)
	switch {
	case n.Hold != "":
		return Decision{boot.StepRamdisk, "on hold: " + n.Hold}
	case n.Conflict != "" && n.locked():
		return Decision{boot.StepLocal, "ids in conflict: " + n.Conflict}
	case n.Conflict != "":
		return Decision{boot.StepRamdisk, "ids in conflict: " + n.Conflict}
	case n.State == Active:
		return Decision{boot.StepLocal, "installed by policy " + n.Installed}
	case stage != nil && (n.State == Deploying || n.State == WaitCallBack):
		return Decision{stage.Step, fmt.Sprintf("policy %s, stage %d of %d: %s", n.Policy, n.Stage, len(t.Stages), stage.Name)}
	case n.State == DeployFailed, n.State == CleanFailed, n.State == InspectFailed, n.State == Error:
		return Decision{boot.StepRamdisk, fmt.Sprintf("%s: %s", n.State, n.LastError)}
	case n.Facts == nil:
		return Decision{boot.StepRamdisk, "nothing is known of this machine yet"}
	case n.Protected && n.Policy == "" && diskInUse(n.Facts) != "":
		return Decision{boot.StepLocal, "protected, and " + diskInUse(n.Facts)}
	case n.Policy != "" && t == nil:
		return Decision{boot.StepRamdisk, fmt.Sprintf("policy %s: there is no task %q any more", n.Policy, n.Task)}
	case n.Policy != "":
		return Decision{boot.StepRamdisk, "policy " + n.Policy + " keeps it in the ramdisk"}
	}
	return Decision{boot.StepRamdisk, "no policy has taken it yet"}
}

// currentStage is the stage of the task that the node is in, or nil.
func currentStage(n *Node, t *task.Task) *task.Stage {
	if t == nil || n.Stage < 1 || n.Stage > len(t.Stages) {
		return nil
	}
	return &t.Stages[n.Stage-1]
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
		if no != "" {
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "passed over: " + no})
			continue
		}
		win, disk = p, d
		lines = append(lines, PolicyLine{Policy: p.Name, Wins: true, Why: p.because(n)})
	}
	return win, disk, lines
}

func (p *candidate) because(n *Node) string {
	if p.Match == "all" {
		return "takes every node (match: all)"
	}
	return "node has " + plural(len(p.Tags), "tag") + " " + strings.Join(p.Tags, ", ")
}

// takes gives the reason why not, or "" and, for a task that writes one, the disk.
func (p *candidate) takes(n *Node) (*facts.Disk, string) {
	if no := p.wants(n); no != "" {
		return nil, no
	}
	switch {
	case n.Protected && p.Approval != "automatic":
		return nil, "node is protected and the policy asks for approval (muster node unprotect, or approval: automatic)"
	case p.Max > 0 && p.Bound >= p.Max:
		return nil, fmt.Sprintf("full (%d of %d)", p.Bound, p.Max)
	case !p.Task.Repo:
		return nil, ""
	}
	d, err := pickDisk(n.Facts, p.Disk, p.Repo.RawBytes, p.Wipe || n.WipeOnce)
	if err != nil {
		return nil, err.Error()
	}
	return d, ""
}

// wants checks everything but capacity, protection and disks.
func (p *candidate) wants(n *Node) string {
	switch {
	case p.Disabled:
		return "disabled"
	case p.Task == nil:
		return fmt.Sprintf("there is no task %q", p.Policy.Task)
	case p.Task.Repo && p.Repo == nil:
		return fmt.Sprintf("there is no repo %q", p.Policy.Repo)
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
	return ""
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

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// pickDisk chooses the disk for an image by hints: of those that fit, the smallest, then the first. A disk that
// holds data is only taken with wipe.
func pickDisk(f *facts.Facts, h DiskHints, need int64, wipe bool) (*facts.Disk, error) {
	if f == nil || f.Disks == nil {
		return nil, fmt.Errorf("its disks are not known")
	}
	var fit []facts.Disk
	var why []string
	for _, d := range f.Disks {
		if no := misfit(d, h, need); no != "" {
			why = append(why, d.Name+" "+no)
			continue
		}
		fit = append(fit, d)
	}
	if len(fit) == 0 {
		return nil, fmt.Errorf("no disk fits (%s)", orNone(why))
	}
	slices.SortStableFunc(fit, func(a, b facts.Disk) int {
		switch {
		case a.SizeBytes < b.SizeBytes:
			return -1
		case a.SizeBytes > b.SizeBytes:
			return 1
		}
		return 0
	})
	if data := holds(fit[0]); data != "" && !wipe {
		return nil, fmt.Errorf("disk %s holds %s and the policy does not say wipe: true", fit[0].Name, data)
	}
	return &fit[0], nil
}

func orNone(why []string) string {
	if len(why) == 0 {
		return "it has none"
	}
	return strings.Join(why, "; ")
}

// misfit says why a disk does not fit the hints, or "".
func misfit(d facts.Disk, h DiskHints, need int64) string {
	switch {
	case d.ReadOnly:
		return "is read-only"
	case d.Removable:
		return "is removable"
	case d.Dup:
		return "shares its id with another disk"
	case d.SizeBytes < need:
		return fmt.Sprintf("has %d bytes, the image needs %d", d.SizeBytes, need)
	case h.MinBytes > 0 && d.SizeBytes < h.MinBytes:
		return "is smaller than min_bytes"
	case h.MaxBytes > 0 && d.SizeBytes > h.MaxBytes:
		return "is larger than max_bytes"
	case h.Rotational != nil && (d.Rotational == nil || *d.Rotational != *h.Rotational):
		return fmt.Sprintf("is not known to have rotational %t", *h.Rotational)
	}
	for _, c := range []struct{ what, want, got string }{
		{"model", h.Model, d.Model}, {"serial", h.Serial, d.Serial}, {"wwn", h.WWN, d.WWN},
		{"transport", h.Transport, d.Transport}, {"path", h.Path, d.Path},
	} {
		if c.want != "" && !strings.EqualFold(c.want, c.got) {
			return fmt.Sprintf("has %s %q", c.what, c.got)
		}
	}
	return ""
}

// holds says what data a disk has on it, or "".
func holds(d facts.Disk) string {
	switch {
	case len(d.Partitions) > 0:
		return fmt.Sprintf("%d %s", len(d.Partitions), plural(len(d.Partitions), "partition"))
	case d.Content != nil:
		return "a file system or the like (" + d.Content.Type + ")"
	case d.Table != "":
		return "a partition table (" + d.Table + ")"
	}
	return ""
}

// diskInUse names the first disk that holds data, or "".
func diskInUse(f *facts.Facts) string {
	for _, d := range f.Disks {
		if h := holds(d); h != "" && !d.Removable {
			return "disk " + d.Name + " holds " + h
		}
	}
	return ""
}
