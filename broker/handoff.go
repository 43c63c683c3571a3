package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"muster/boot"
	"muster/broker/handoff"
)

// Handoff is what takes over after an install: a type that comes with muster and its configuration, or a template of
// the operator's own.
type Handoff struct {
	Kind       string                       `json:"kind"`
	Name       string                       `json:"name"`
	Type       string                       `json:"type,omitempty"`       // a shipped one
	Parameters map[string]handoff.Parameter `json:"parameters,omitempty"` // of Template
	Template   string                       `json:"template,omitempty"`   // package broker/handoff is its language
	Config     map[string]string            `json:"config,omitempty"`     // secrets are sealed in the store, *** elsewhere
}

// KindHandoff is the kind of handoffs; policies name them.
const KindHandoff = "Handoff"

// maxHandoffLog is the most that is kept of what a handoff said.
const maxHandoffLog = 4 << 10

func (h *Handoff) check() error {
	switch {
	case (h.Type == "") == (h.Template == ""):
		return invalid("want either type (%s) or template", strings.Join(handoffTypes(), ", "))
	case h.Type != "" && len(h.Parameters) > 0:
		return invalid("parameters belong to a template; those of type %s are its own", h.Type)
	}
	t, err := h.form()
	if err != nil {
		return invalid("%s", err)
	}
	if err := t.Check(h.Config); err != nil {
		return invalid("%s", err)
	}
	for _, k := range slices.Sorted(maps.Keys(h.Config)) {
		if err := checkShown(h.Config[k]); err != nil && !t.Parameters[k].Secret {
			return invalid("config: %s: %s", k, err)
		}
	}
	return nil
}

// checkShown takes a value that readers see, who see no secrets.
func checkShown(v string) error {
	u, err := url.Parse(v)
	switch {
	case v == hiddenSecret, strings.Contains(v, "://"+hiddenSecret+"@"):
		return fmt.Errorf("%s stands for what was hidden: write it out", hiddenSecret)
	case err == nil && u.User != nil && u.Scheme != "ssh":
		return errors.New("a user and password in it would be shown to readers: give them by a parameter that is secret")
	}
	return nil
}

// shippedHandoffs are read once: they are part of the program.
var shippedHandoffs = sync.OnceValues(handoff.Shipped)

func handoffTypes() []string {
	types, _ := shippedHandoffs() // form tells the error
	return slices.Sorted(maps.Keys(types))
}

// form is the type of a handoff, or that of its own template.
func (h *Handoff) form() (*handoff.Type, error) {
	if h.Type == "" {
		return handoff.New(h.Name, h.Parameters, h.Template)
	}
	types, err := shippedHandoffs()
	if err != nil {
		return nil, err
	}
	if t := types[h.Type]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("there is no type %q: there are %s", h.Type, strings.Join(handoffTypes(), ", "))
}

// secrets lists the parameters that are secret and given.
func (h *Handoff) secrets(t *handoff.Type) (keys []string) {
	for _, k := range slices.Sorted(maps.Keys(h.Config)) {
		if t.Parameters[k].Secret && h.Config[k] != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// compiledHandoff is a handoff that can be rendered.
type compiledHandoff struct {
	Handoff
	form *handoff.Type
}

func loadHandoffs(tx Tx) (map[string]compiledHandoff, error) {
	list, err := all[Handoff](tx, KindHandoff)
	if err != nil {
		return nil, err
	}
	compiled := map[string]compiledHandoff{}
	for _, h := range list {
		t, err := h.form()
		if err != nil {
			return nil, invalid("handoff %s: %s", h.Name, err)
		}
		compiled[h.Name] = compiledHandoff{h, t}
	}
	return compiled, nil
}

func sealedKey(handoff, key string) string { return KindHandoff + "/" + handoff + "/" + key }

// prepareHandoff seals the secrets of a handoff that is applied.
func (b *Broker) prepareHandoff(tx Tx, o Object) (Object, error) {
	h, err := decode[Handoff](o)
	if err != nil {
		return o, err
	}
	t, err := h.form()
	if err != nil {
		return o, invalid("handoff %s: %s", h.Name, err)
	}
	old := Handoff{}
	if was, err := tx.Object(o.Kind, o.Name); err == nil {
		if old, err = decode[Handoff](was); err != nil {
			return o, err
		}
	} else if !errors.Is(err, ErrNotFound) {
		return o, err
	}
	for _, k := range h.secrets(t) {
		if h.Config[k], err = b.sealOrKeep(sealedKey(h.Name, k), h.Config[k], old.Config[k]); err != nil {
			return o, fmt.Errorf("handoff %s: %s: %w", h.Name, k, err)
		}
	}
	return encode(o.Kind, o.Name, h)
}

// sealOrKeep seals a secret as an operator wrote it; *** is the one that is there.
func (b *Broker) sealOrKeep(name, said, was string) (string, error) {
	switch {
	case said == "":
		return "", nil
	case said != hiddenSecret:
		return b.cfg.Key.seal(name, said)
	case !strings.HasPrefix(was, sealed):
		return "", invalid("%s", errNoSecret)
	}
	return was, nil
}

// hiddenHandoff is a handoff as operators read it.
func hiddenHandoff(o Object) (Object, error) {
	h, err := decode[Handoff](o)
	if err != nil {
		return o, err
	}
	t, err := h.form()
	if err != nil {
		return o, err
	}
	for _, k := range h.secrets(t) {
		h.Config[k] = hiddenSecret
	}
	return encode(o.Kind, o.Name, h)
}

// handoffOf is the name of the handoff that follows the node's install, "" for none.
func (c *catalog) handoffOf(n *Node) string {
	if p := c.policyOf(n); p != nil {
		return p.Handoff
	}
	return ""
}

// renderHandoff makes the script for a node; with open its secrets are in it, else ***.
func (b *Broker) renderHandoff(n *Node, open bool) (string, error) {
	cat := b.cat.Load()
	h, ok := cat.handoffs[cat.handoffOf(n)]
	if !ok {
		return "", notFound("no handoff follows the install of node %s", n.Title())
	}
	config := maps.Clone(h.Config)
	for _, k := range h.secrets(h.form) {
		config[k] = hiddenSecret
		if !open {
			continue
		}
		var err error
		if config[k], err = b.cfg.Key.unseal(sealedKey(h.Name, k), h.Config[k]); err != nil {
			return "", fmt.Errorf("handoff %s: %s: %w", h.Name, k, err)
		}
	}
	meta := n.Meta
	if meta == nil {
		meta = map[string]any{} // {} as JSON, not null
	}
	text, err := h.form.Render(handoff.Values{Server: b.cfg.AgentURL, Policy: n.Policy, Config: config,
		Node: handoff.Node{ID: n.ID, Hostname: n.Title(), Tags: n.CarriedTags(), Metadata: meta}})
	if err != nil {
		return "", fmt.Errorf("render handoff %s for node %s: %w", h.Name, n.ID, err)
	}
	return text, nil
}

// ShowHandoff renders the script that a node's installed system would get, its secrets hidden.
func (b *Broker) ShowHandoff(ctx context.Context, name string) (string, error) {
	n, err := b.node(ctx, name)
	if err != nil {
		return "", err
	}
	return b.renderHandoff(n, false)
}

// Handoff gives an installed system its script, for the token of the stage that its first boot ends and only while that
// stage runs; "" when there is none (any more).
func (b *Broker) Handoff(ctx context.Context, token, stage string) (text string, err error) {
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := b.ofStage(tx, token, stage)
		if err != nil {
			return nil, err
		}
		name := b.cat.Load().handoffOf(n)
		if name == "" {
			text = ""
			return nil, nil
		}
		if text, err = b.renderHandoff(n, true); err != nil {
			return nil, err
		}
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, Event{Kind: EventHandoff, Who: "installer", Text: "handoff " + name + " was fetched"})
	})
	return text, err
}

// ReportHandoff takes how a handoff ended: its exit status and the last it said. It may run again; the stage's end is a
// call of its own.
func (b *Broker) ReportHandoff(ctx context.Context, token, stage, status, log string) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := b.ofStage(tx, token, stage)
		if err != nil {
			return nil, err
		}
		e := Event{Kind: EventHandoff, Who: "installer", Data: map[string]string{"status": boot.Printable(status), "log": printableLines(log)}}
		e.Text = fmt.Sprintf("handoff %s ended with status %s", b.cat.Load().handoffOf(n), boot.Printable(status))
		if status == "0" {
			e.Text, n.LastError = fmt.Sprintf("handoff %s is done", b.cat.Load().handoffOf(n)), ""
		} else {
			e.Text += colon(lastLine(e.Data["log"]))
			n.LastError = e.Text
		}
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, e)
	})
}

// printableLines is text of a machine for people: its lines, without what a terminal obeys, the last of it.
func printableLines(s string) string {
	s = s[max(0, len(s)-maxHandoffLog):]
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = boot.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }
