package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/boot"
	"muster/boot/kargs"
)

// An Act is an operator's word about one node.
type Act struct {
	Verb   string         `json:"verb" doc:"one of broker.Verbs, or delete"`
	Wipe   bool           `json:"wipe,omitempty" doc:"reinstall, deploy, clean, provide: disks may lose what they hold, this once"`
	Method string         `json:"method,omitempty" doc:"clean, provide: how disks are wiped: auto, signatures, discard, secure, overwrite"`
	Disks  []string       `json:"disks,omitempty" maxItems:"500" doc:"clean, provide: ids, serials or WWNs of the disks to wipe; none: all but removable, USB and shared ones"`
	Policy string         `json:"policy,omitempty" maxLength:"63" doc:"pin: the policy that alone may take the node"`
	Meta   map[string]any `json:"meta,omitempty" doc:"meta: what is set"`
	Remove []string       `json:"remove,omitempty" maxItems:"200" doc:"meta: the keys that are removed"`
	Why    string         `json:"why,omitempty" maxLength:"200" doc:"for the journal"`
	Who    string         `json:"-"`
}

// acts is the table of what an operator can say.
var acts = map[string]func(*Broker, Tx, *Node, Act) ([]Event, error){
	"protect":   (*Broker).protect,
	"unprotect": (*Broker).unprotect,
	"hold":      (*Broker).hold,
	"release":   (*Broker).release,
	"pin":       (*Broker).pin,
	"unpin":     (*Broker).unpin,
	"meta":      (*Broker).noted,
	"resolve":   (*Broker).resolved,
	"reinstall": (*Broker).reinstall,
	"abort":     (*Broker).abort,
	"manage":    (*Broker).manage,
	"provide":   (*Broker).provide,
	"clean":     (*Broker).clean,
	"inspect":   (*Broker).inspect,
	"deploy":    (*Broker).deploy,
	"undeploy":  (*Broker).undeploy,
}

// Do carries out an operator's act on a node named by id, hostname or MAC.
func (b *Broker) Do(ctx context.Context, name string, a Act) (r *Record, err error) {
	a.Verb = cmp.Or(synonyms[a.Verb], a.Verb)
	f, ok := acts[a.Verb]
	switch {
	case slices.Contains(unsupported, a.Verb):
		return nil, invalid("verb %q is not supported: it needs Ironic's drivers", a.Verb)
	case !ok && a.Verb != "delete":
		return nil, invalid("verb %q: want one of %s or delete", a.Verb, strings.Join(slices.Sorted(maps.Keys(acts)), ", "))
	}
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := lookup(tx, name)
		if err != nil {
			return nil, err
		}
		if r, err = n.record(); err != nil {
			return nil, err
		}
		if a.Verb == "delete" {
			return []string{n.ID}, b.delete(ctx, tx, n, a)
		}
		events, err := f(b, tx, n, a)
		if err != nil {
			return nil, err
		}
		said := b.said(ctx, a.Who, a.Verb+colon(a.Why))
		err = b.change(tx, n, append([]Event{said}, events...)...)
		r.Node = *n
		return []string{n.ID}, err
	})
	return r, err
}

func (b *Broker) protect(_ Tx, n *Node, _ Act) ([]Event, error) {
	n.Protected = true
	return nil, nil
}

func (b *Broker) unprotect(tx Tx, n *Node, _ Act) ([]Event, error) {
	n.Protected = false
	return b.ask(tx, n)
}

func (b *Broker) hold(_ Tx, n *Node, a Act) ([]Event, error) {
	n.Hold, n.HeldBy = "by "+a.Who+colon(a.Why), a.Who
	return nil, nil
}

func (b *Broker) release(tx Tx, n *Node, _ Act) ([]Event, error) {
	if n.Hold == "" {
		return nil, conflict("node %s is not on hold", n.Title())
	}
	n.Hold, n.HeldBy, n.Starts = "", "", nil
	return b.ask(tx, n)
}

func (b *Broker) abort(_ Tx, n *Node, a Act) ([]Event, error) {
	e, err := b.asked(n, Abort, a.Who, "aborted by an operator")
	if err != nil {
		return nil, err
	}
	n.LastError = "aborted by an operator"
	return []Event{e, b.order(n, facts.OrderWait, n.LastError)}, nil
}

// reinstall starts the task of the node's policy from its first stage.
func (b *Broker) reinstall(tx Tx, n *Node, a Act) ([]Event, error) {
	cat := b.cat.Load()
	i := slices.IndexFunc(cat.policies, func(p Policy) bool { return p.Name == n.Policy })
	t := cat.taskOf(n)
	if i < 0 || t == nil || len(t.Stages) == 0 {
		return nil, conflict("node %s is bound to no policy that installs", n.Title())
	}
	if n.Hold != "" {
		return nil, conflict("node %s is on hold: %s", n.Title(), n.Hold)
	}
	p := cat.policies[i]
	r := cat.repos[n.Repo]
	var disk *facts.Disk
	if t.Disk {
		known, err := n.Facts.Whole()
		if err != nil {
			return nil, err
		}
		if disk, err = pickDisk(known, p.Disk, needs(t, &r), true); err != nil {
			return nil, conflict("node %s: %s", n.Title(), err)
		}
	}
	if disk != nil && !p.Wipe && !a.Wipe && (n.Installed != "" || n.InstallSeq > 0 || holds(*disk) != "") {
		return nil, conflict("disk %s of node %s holds data: say --wipe to lose it, this once", disk.Name, n.Title())
	}
	e, err := b.asked(n, Rebuild, a.Who, "reinstall")
	if err != nil {
		return nil, err
	}
	n.Installed, n.Starts, n.Stage = "", nil, 0
	begun, err := b.start(tx, n, t, disk, p.Wipe || a.Wipe)
	return append([]Event{e}, begun...), err
}

func (b *Broker) delete(ctx context.Context, tx Tx, n *Node, a Act) error {
	switch n.State {
	case Enroll, Manageable, Available, InspectFailed, CleanFailed, DeployFailed:
	default:
		return conflict("node %s is %s: its record can be deleted in enroll, manageable, available and the failed states", n.Title(), n.State)
	}
	if err := tx.DeleteNode(n.ID); err != nil {
		return err
	}
	e := b.said(ctx, a.Who, "the record was deleted"+colon(a.Why))
	e.Node, e.Kind = n.ID, EventDeleted
	words := lastWords(n)
	maps.Copy(words, e.Data)
	e.Data = words
	return tx.Append(&e)
}

// lookup finds a node by id, MAC or hostname.
func lookup(tx Tx, name string) (*Node, error) {
	n, err := tx.Node(name)
	if !errors.Is(err, ErrNotFound) {
		return n, err
	}
	if mac, err := boot.ParseMAC(name); err == nil {
		if n, err = tx.NodeByKey(KeyMAC, mac.String()); !errors.Is(err, ErrNotFound) {
			return n, err
		}
	}
	if name != "" { // which would choose all
		nodes, err := tx.Nodes(NodeFilter{Hostname: name, Limit: 1})
		if err != nil || len(nodes) > 0 {
			return first(nodes), err
		}
	}
	return nil, notFound("there is no node %q (by id, hostname or MAC)", name)
}

func first(nodes []*Node) *Node {
	if len(nodes) == 0 {
		return nil
	}
	return nodes[0]
}

// Node gives a node by id, hostname or MAC, with its facts.
func (b *Broker) Node(ctx context.Context, name string) (r *Record, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err := lookup(tx, name)
		if err == nil {
			r, err = n.record()
		}
		return err
	})
	return r, err
}

// node is Node without what the store keeps beside it.
func (b *Broker) node(ctx context.Context, name string) (n *Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err = lookup(tx, name)
		return err
	})
	return n, err
}

// Nodes lists all nodes, oldest first.
func (b *Broker) Nodes(ctx context.Context) (nodes []*Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		nodes, err = tx.Nodes(NodeFilter{})
		return err
	})
	return nodes, err
}

// Events gives events of the journal; when there are none yet it waits until ctx ends for the first.
func (b *Broker) Events(ctx context.Context, f EventFilter, follow bool) (events []Event, err error) {
	for {
		rung := b.bell.hear("")
		err = b.cfg.Store.View(context.WithoutCancel(ctx), func(tx Tx) error {
			events, err = tx.Events(f)
			return err
		})
		if err != nil || len(events) > 0 || !follow {
			return events, err
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-rung:
		}
	}
}

// Machine says what hardware a client is, as far as the facts of its node tell.
func (b *Broker) Machine(c boot.Client) boot.Machine {
	n, err := b.find(context.Background(), c)
	if err != nil || !n.Facts.Known() {
		return boot.Machine{}
	}
	return boot.Machine{Vendor: n.Facts.Manufacturer, Product: n.Facts.Product, SecureBoot: n.Facts.SecureBoot}
}

// clientOf is the client that a node was last seen as, without its MAC.
func clientOf(n *Node) boot.Client {
	c := boot.Client{Kind: boot.Kind(n.Boot.Kind)}
	switch {
	case n.Boot.CPU == "arm64":
		c.Arch = boot.ArchARM64
	case n.Boot.EFI:
		c.Arch = boot.ArchX64
	}
	return c
}

// Step says what a node would boot next as the client it was last seen as, without a token that works.
func (b *Broker) Step(ctx context.Context, name string) (boot.Client, boot.Step, error) {
	n, err := b.node(ctx, name)
	if err != nil {
		return boot.Client{}, boot.Step{}, err
	}
	c := clientOf(n)
	if len(n.Keys.MACs) > 0 {
		if c.MAC, err = boot.ParseMAC(n.Keys.MACs[0]); err != nil {
			return c, boot.Step{}, fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	s := b.offer(n, c, b.step(n, c))
	hideToken(s.Args)
	for i := range s.Inject {
		s.Inject[i].URL = installURL.ReplaceAllString(s.Inject[i].URL, "${1}"+hiddenToken)
	}
	s.Chain = installURL.ReplaceAllString(s.Chain, "${1}"+hiddenToken)
	if s.Menu != nil {
		for _, e := range s.Menu.Entries {
			hideToken(e.Step.Args)
		}
	}
	return c, s, nil
}

// hideToken takes the tokens out of a command line: muster's own, and those in URLs of recipes.
func hideToken(l kargs.Line) {
	for i, a := range l {
		if a.Key == "muster.token" {
			l[i].Value = hiddenToken
		}
		l[i].Value = installURL.ReplaceAllString(l[i].Value, "${1}"+hiddenToken)
	}
}

// installURL is where a token stands in a URL.
var installURL = regexp.MustCompile(`(/node/v1/install/)[^/]+`)
