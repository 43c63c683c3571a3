package broker

import (
	"time"

	"muster/agent/facts"
	"muster/broker/task"
)

// A Node is a machine known to the broker. Everything in it is the outcome of the events of its journal.
type Node struct {
	ID        string    `json:"id"`
	Rev       int64     `json:"rev"` // rises with every change
	Created   time.Time `json:"created"`
	LastSeen  time.Time `json:"last_seen"`
	Keys      Keys      `json:"keys"`
	State     State     `json:"state"`
	Since     time.Time `json:"since"` // of the state
	Deadline  time.Time `json:"deadline,omitzero"`
	LastError string    `json:"last_error,omitempty"`

	// Protected nodes are taken by no policy that asks for approval; every node starts so.
	Protected bool   `json:"protected"`
	Hold      string `json:"hold,omitempty"`    // why the broker installs it no more until an operator releases it
	HeldBy    string `json:"held_by,omitempty"` // "broker" for a loop, else the operator
	WipeOnce  bool   `json:"wipe_once,omitempty"`
	// Ahead nodes were registered by an operator before their machines said anything.
	Ahead bool `json:"ahead,omitempty"`
	// Conflict says why the broker does not know which machine this is. No policy takes the node until an operator
	// resolves it.
	Conflict string `json:"conflict,omitempty"`

	Facts     Facts     `json:"facts,omitzero"`
	FactsHash string    `json:"facts_hash,omitempty"` // as agents tell it; "" asks them for the whole
	HWHash    string    `json:"hw_hash,omitempty"`    // of Facts, without what is not hardware
	FactsAt   time.Time `json:"facts_at,omitzero"`
	// FactsState is what goes with the facts and changes from minute to minute, of the last check-in; no rule sees it.
	FactsState   *facts.State `json:"facts_state,omitempty"`
	FactsStateAt time.Time    `json:"facts_state_at,omitzero"`

	Errors []facts.ProbeError `json:"errors,omitempty"`
	Meta   map[string]any     `json:"meta,omitempty"`
	Tags   []TagResult        `json:"tags,omitempty"`    // those that hold and those that are undecided
	TagsOf string             `json:"tags_of,omitempty"` // hash of all that Tags came from

	Pin         string        `json:"pin,omitempty"` // the one policy that may take the node, whatever its tags
	Policy      string        `json:"policy,omitempty"`
	Task        string        `json:"task,omitempty"`
	Repo        string        `json:"repo,omitempty"`
	Hostname    string        `json:"hostname,omitempty"`
	GivenName   string        `json:"given_name,omitempty"` // hostname that an operator registered; no policy gives another
	Stage       int           `json:"stage,omitempty"`      // 1 is the first stage of the task; 0 none
	Installed   string        `json:"installed,omitempty"`  // policy that installed it; of a node in no policy, what an operator registered
	InstalledAt time.Time     `json:"installed_at,omitzero"`
	InstallSeq  int64         `json:"install_seq,omitempty"` // rises with every install; its tokens hold it
	Target      *facts.Target `json:"target,omitempty"`      // the disk that the install was given
	Disk        ChosenDisk    `json:"disk,omitzero"`         // the same, as its task names it
	BootMAC     string        `json:"boot_mac,omitempty"`    // of the NIC that booted before the install
	Phase       string        `json:"phase,omitempty"`       // how far the installer says it is
	LastLog     string        `json:"last_log,omitempty"`    // the last line that it told
	Logs        int           `json:"logs,omitempty"`        // how many lines it told
	// Queued is since when it waits for its repo to have room; QueuedWipe whether its disk may lose what it holds then.
	Queued     time.Time   `json:"queued,omitzero"`
	QueuedWipe bool        `json:"queued_wipe,omitempty"`
	BootedOnce time.Time   `json:"booted_once,omitzero"` // that a stage was started that ends with its boot
	Starts     []time.Time `json:"starts,omitempty"`     // of the stage, for the loop limit

	Wiping *Wiping `json:"wiping,omitempty"` // of a node in cleaning

	Boot  BootKeys `json:"boot"`
	Order OrderRef `json:"order"`
}

// ChosenDisk is the disk of an install.
type ChosenDisk task.Disk

// Keys are the hardware ids a node is found by, canonical and without bogus values.
type Keys struct {
	MACs   []string `json:"macs,omitempty"`
	UUID   string   `json:"uuid,omitempty"`
	Serial string   `json:"serial,omitempty"`
	// Maker is the manufacturer, in lower case: a serial number is one of his.
	Maker string `json:"manufacturer,omitempty"`
	// SharedUUID is what the machine shows as its UUID and others show too: it finds no node.
	SharedUUID string `json:"shared_uuid,omitempty"`
}

// TagResult is what a tag's rule gave on the node. Rules that gave no are not kept.
type TagResult struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"` // yes, undecided
	Cause   string `json:"cause,omitempty"`
}

// BootKeys hold no secret: tokens are derived from Seq and the server's key, and of the agent's key only the hash is
// kept.
type BootKeys struct {
	Seq     int64  `json:"seq"`      // of the token that the next boot script carries
	Traded  int64  `json:"traded"`   // last token traded for a boot key
	KeyHash string `json:"key_hash"` // sha256 of the key of the running agent
	Kind    string `json:"kind,omitempty"`
	EFI     bool   `json:"efi,omitempty"`
	CPU     string `json:"cpu,omitempty"` // as ramdisks say it: amd64, arm64
	// What its firmware and loader said of themselves, before any ramdisk ran.
	Arch     string   `json:"arch,omitempty"`
	NIC      string   `json:"nic,omitempty"`  // vvvv:dddd of the PCI card it boots by
	IPXE     string   `json:"ipxe,omitempty"` // version that iPXE says
	Features []string `json:"features,omitempty"`
	Addr     string   `json:"addr,omitempty"`
	Version  string   `json:"agent_version,omitempty"`
	UpMS     int64    `json:"up_ms,omitempty"`   // kernel start to facts accepted
	SkewMS   int64    `json:"skew_ms,omitempty"` // what its clock was ahead of the broker's, where that was told
}

// OrderRef is the order that the agent has, or has carried out; the order itself is rendered when it is asked for.
type OrderRef struct {
	ID      int64          `json:"id"`
	Kind    string         `json:"kind"`
	Because string         `json:"because,omitempty"`
	Status  string         `json:"status,omitempty"` // as reported: started, done, failed
	Target  *facts.Target  `json:"target,omitempty"`
	Wipe    bool           `json:"wipe,omitempty"`
	Disks   []facts.Target `json:"disks,omitempty"` // to be wiped
	Done    int64          `json:"done_bytes,omitempty"`
	All     int64          `json:"all_bytes,omitempty"`
}

// tag is what a tag's rule gave on the node.
func (n *Node) tag(name string) TagResult {
	for _, t := range n.Tags {
		if t.Name == name {
			return t
		}
	}
	return TagResult{Name: name, Verdict: "no"}
}

// CarriedTags lists the tags that hold.
func (n *Node) CarriedTags() []string {
	var names []string
	for _, t := range n.Tags {
		if t.Verdict == "yes" {
			names = append(names, t.Name)
		}
	}
	return names
}

// Title is the hostname when there is one, else the id.
func (n *Node) Title() string {
	if n.Hostname != "" {
		return n.Hostname
	}
	return n.ID
}
