package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
)

// A Registration is a machine that an operator tells of, whether it has booted here or not.
type Registration struct {
	MACs         []string       `json:"macs,omitempty" maxItems:"64" doc:"of its NICs"`
	UUID         string         `json:"uuid,omitempty" maxLength:"64" doc:"of its SMBIOS"`
	Serial       string         `json:"serial,omitempty" maxLength:"256"`
	Manufacturer string         `json:"manufacturer,omitempty" maxLength:"256" doc:"whose the serial is, where that is to count"`
	Hostname     string         `json:"hostname,omitempty" maxLength:"253" doc:"no policy gives it another"`
	Meta         map[string]any `json:"meta,omitempty" doc:"for tags to read as meta.KEY"`
	Pin          string         `json:"pin,omitempty" maxLength:"63" doc:"the policy that alone may take the node"`
	Installed    any            `json:"installed,omitempty" doc:"true, or what installed it: it boots its disk, and no policy takes it"`
	Protected    *bool          `json:"protected,omitempty" doc:"false lets policies that ask for approval have it; true when not said"`
}

// MaxRegistrations is the most machines that one call registers.
const MaxRegistrations = 1000

// What became of a registration.
const (
	RegisteredNew       = "created"
	RegisteredChange    = "changed"
	RegisteredUnchanged = "unchanged"
)

// Registered is what became of one registration.
type Registered struct {
	Node     string   `json:"node"`
	Hostname string   `json:"hostname,omitempty"`
	State    State    `json:"state"`
	Result   string   `json:"result" enum:"created,changed,unchanged"`
	Warnings []string `json:"warnings,omitempty"`
}

// A claim is a registration that was checked.
type claim struct {
	Registration
	keys      Keys
	installed string // "" is not
	at        string // its place in the call
}

// fault says which field of a claim is wrong.
func (c *claim) fault(field, format string, a ...any) error {
	return &facts.FieldError{Path: strings.TrimSuffix(c.at+"."+field, "."), Msg: fmt.Sprintf(format, a...)}
}

func (c *claim) conflict(format string, a ...any) error {
	return conflict("%s: %s", c.at, fmt.Sprintf(format, a...))
}

// Register makes nodes of machines before they boot, all or none. One that is a node already is brought to what is said
// of it, as far as that is safe: the same again changes nothing, what nothing is said of stays, and what could touch a
// machine in use, or could mean several nodes, is refused.
func (b *Broker) Register(ctx context.Context, list []Registration, who string) (results []Registered, err error) {
	if len(list) == 0 || len(list) > MaxRegistrations {
		return nil, &facts.FieldError{Path: "nodes", Msg: fmt.Sprintf("%d of them: want 1 to %d in one call", len(list), MaxRegistrations)}
	}
	claims := make([]*claim, len(list))
	for i, r := range list {
		if claims[i], err = check(r, fmt.Sprintf("nodes[%d]", i)); err != nil {
			return nil, err
		}
	}
	err = b.update(ctx, func(tx Tx) (touched []string, err error) {
		results = make([]Registered, len(claims))
		told := map[string]string{} // by which claim, of each node
		for i := range claims {
			c := *claims[i]
			n, warnings, err := c.match(tx)
			if err != nil {
				return nil, err
			}
			result := RegisteredNew
			if n != nil && told[n.ID] != "" {
				return nil, c.conflict("it is the same machine as %s", told[n.ID])
			}
			if n == nil {
				n, err = b.create(ctx, tx, &c, who)
			} else {
				result, err = b.amend(ctx, tx, n, &c, who, &warnings)
			}
			if err != nil {
				return nil, err
			}
			told[n.ID] = c.at
			touched = append(touched, n.ID)
			results[i] = Registered{Node: n.ID, Hostname: n.Hostname, State: n.State, Result: result, Warnings: warnings}
		}
		return touched, nil
	})
	return results, err
}

// check takes ids by the same rules as those that machines show, and says of a bad one what is wrong with it.
func check(r Registration, at string) (*claim, error) {
	c := &claim{Registration: r, at: at}
	for i, s := range r.MACs {
		m, err := boot.ParseMAC(s)
		if err != nil {
			return nil, c.fault(fmt.Sprintf("macs[%d]", i), "%s", err)
		}
		if canonicalMAC(m) == "" {
			return nil, c.fault(fmt.Sprintf("macs[%d]", i), "%s is no NIC's own address: it tells no machine from another", m)
		}
		c.keys.MACs = append(c.keys.MACs, canonicalMAC(m))
	}
	slices.Sort(c.keys.MACs)
	c.keys.MACs = slices.Compact(c.keys.MACs)
	if r.UUID != "" {
		u, err := boot.ParseUUID(r.UUID)
		if err != nil {
			return nil, c.fault("uuid", "%s", err)
		}
		if c.keys.UUID = canonicalUUID(u); c.keys.UUID == "" {
			return nil, c.fault("uuid", "%s is a value that vendors leave in many machines: leave it out", u)
		}
	}
	c.keys.Serial = strings.ToLower(facts.CleanSerial(r.Serial))
	c.keys.Maker = strings.ToLower(facts.Clean(r.Manufacturer))
	switch {
	case r.Serial != "" && c.keys.Serial == "":
		return nil, c.fault("serial", "%q is a value that vendors leave in many machines: leave it out", r.Serial)
	case r.Manufacturer != "" && c.keys.Maker == "":
		return nil, c.fault("manufacturer", "%q is a value that vendors leave in many machines: leave it out", r.Manufacturer)
	case r.Manufacturer != "" && r.Serial == "":
		return nil, c.fault("manufacturer", "it says whose serial number it is, and there is none")
	case len(c.keys.MACs) == 0 && c.keys.UUID == "" && c.keys.Serial == "":
		return nil, c.fault("", "want a MAC, a UUID or a serial number that it is known by")
	}
	return c, c.checkRest()
}

func (c *claim) checkRest() (err error) {
	c.Hostname = strings.ToLower(c.Hostname)
	if c.Hostname != "" {
		if err := checkHostname(c.Hostname); err != nil {
			return c.fault("hostname", "%s", err)
		}
	}
	if err := checkMeta(c.Meta); err != nil {
		return c.fault("meta", "%s", err)
	}
	switch v := c.Installed.(type) {
	case nil:
	case bool:
		if v {
			c.installed = installedUnsaid
		}
	case string:
		if c.installed = strings.TrimSpace(v); len(c.installed) > maxCell || boot.Printable(c.installed) != c.installed {
			return c.fault("installed", "want true, or at most %d printable ASCII characters that say by what", maxCell)
		}
	default:
		return c.fault("installed", "want true, or text that says by what")
	}
	if c.installed != "" && c.Protected != nil && !*c.Protected {
		return c.fault("protected", "a machine that is installed is protected: say it of one that a policy may take")
	}
	return nil
}

// installedUnsaid stands where nobody said what installed a machine; rules read it as node.installed.
const installedUnsaid = "registered"

// installedBy says why an active node boots its disk.
func installedBy(n *Node) string {
	switch {
	case n.Policy != "":
		return "installed by policy " + n.Installed
	case n.Installed == installedUnsaid:
		return "registered as installed"
	}
	return "registered as installed: " + n.Installed
}

// create makes the node of a machine that nobody knew.
func (b *Broker) create(ctx context.Context, tx Tx, c *claim, who string) (*Node, error) {
	n, err := b.newNode(tx, c.keys)
	if err != nil {
		return nil, err
	}
	n.LastSeen, n.Ahead = time.Time{}, true
	if c.installed != "" {
		n.State, n.Installed = Active, c.installed
	}
	if c.Protected != nil {
		n.Protected = *c.Protected
	}
	if _, err := b.describe(tx, n, c); err != nil {
		return nil, err
	}
	e := b.said(ctx, who, "registered before it was seen: "+c.String())
	e.Kind = EventAdded
	return n, b.change(tx, n, e)
}

// String is the claim in one line.
func (c *claim) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"MAC", strings.Join(c.keys.MACs, " ")}, {"UUID", c.keys.UUID}, {"serial", c.keys.Serial},
		{"hostname", c.Hostname}, {"meta", short(metaText(c.Meta))}, {"pinned to", c.Pin}, {"installed:", c.installed}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if c.Protected != nil && !*c.Protected {
		parts = append(parts, "not protected")
	}
	return strings.Join(parts, ", ")
}

// describe notes what is said of a node beside its ids, and tells what that changed.
func (b *Broker) describe(tx Tx, n *Node, c *claim) (changes []string, err error) {
	for _, part := range []func(Tx, *Node, *claim) (string, error){b.nameIt, b.noteIt, b.pinIt} {
		change, err := part(tx, n, c)
		if err != nil {
			return nil, err
		}
		if change != "" {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// nameIt gives the hostname to one node only, and not to one that was installed under another.
func (b *Broker) nameIt(tx Tx, n *Node, c *claim) (string, error) {
	if c.Hostname == "" || c.Hostname == n.GivenName {
		return "", nil
	}
	if n.Policy != "" && c.Hostname != n.Hostname {
		return "", c.conflict("node %s was named by policy %s: it has to be taken back first (muster node undeploy %s)", n.Title(), n.Policy, n.ID)
	}
	same, err := tx.Nodes(NodeFilter{Hostname: c.Hostname})
	if err != nil {
		return "", err
	}
	for _, other := range same { // those whose name goes on after a dot are others
		if other.ID != n.ID && other.Hostname == c.Hostname {
			return "", c.conflict("hostname %s is that of node %s, which has MAC %s", c.Hostname, other.ID, cmp.Or(strings.Join(other.Keys.MACs, " "), "unknown"))
		}
	}
	was := n.Hostname
	n.Hostname, n.GivenName = c.Hostname, c.Hostname
	return changed("hostname", was, c.Hostname), nil
}

func (b *Broker) noteIt(_ Tx, n *Node, c *claim) (string, error) {
	before := metaText(n.Meta)
	if err := n.note(c.Meta, nil); err != nil {
		return "", c.fault("meta", "%s", err)
	}
	if metaText(n.Meta) == before {
		return "", nil
	}
	return "meta " + short(metaText(c.Meta)), nil
}

func (b *Broker) pinIt(_ Tx, n *Node, c *claim) (string, error) {
	switch {
	case c.Pin == "" || c.Pin == n.Pin:
		return "", nil
	case !slices.ContainsFunc(b.cat.Load().policies, func(p Policy) bool { return p.Name == c.Pin }):
		return "", c.fault("pin", "there is no policy %q", c.Pin)
	case n.Policy != "" && n.Policy != c.Pin:
		return "", c.conflict("node %s is bound to policy %s: it has to be taken back first (muster node undeploy %s)", n.Title(), n.Policy, n.ID)
	}
	was := n.Pin
	n.Pin = c.Pin
	return changed("pin", was, c.Pin), nil
}

func changed(what, was, is string) string {
	if was == "" {
		return what + " " + is
	}
	return fmt.Sprintf("%s %s, was %s", what, is, was)
}
