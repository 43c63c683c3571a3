// Package broker decides. It knows the nodes, evaluates tags, binds nodes to policies, keeps the provision states,
// and answers boot and agents alike from one decision. What Razor calls a broker is a handoff here; our broker is the
// server.
//
// Deciding is pure (decide, choose); every change of a node goes through one function (change) that writes the node
// and its events in one transaction, so that the journal explains every state.
package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/boot"
	"muster/boot/kargs"
	"muster/boot/pin"
	"muster/broker/rule"
	"muster/broker/task"
)

// Config says what a Broker works with.
type Config struct {
	Store    Store
	Key      Key
	BaseURL  string            // as boot loaders reach it, over plain HTTP
	AgentURL string            // as agents and installed systems reach it; if empty, BaseURL
	CA       *x509.Certificate // what agents are told to trust; if nil, AgentURL is plain HTTP
	Plain    bool              // BaseURL gives recipes, too, to loaders that can not verify CA
	Version  string            // of the program: another may read rules otherwise, and judges nodes anew
	Args     kargs.Line        // more kernel arguments for the ramdisk, e.g. console=ttyS0
	Menu     MenuConfig        // what may be chosen at a machine
	Now      func() time.Time  // if nil, time.Now
	Log      *slog.Logger      // if nil, slog.Default

	// Held says how large a stored file is, verifies the signature that goes with it (if not empty), and keeps both from
	// being swept. If nil, what ramdisks say of their files is believed.
	Held func(sum, signature string) (int64, error)
	// HeldTree makes sure that an install tree is stored, all of it, with these paths in it, and keeps it from being
	// swept. If nil, what repos say of their trees is believed.
	HeldTree func(sum string, paths []string) error
	// Verify makes iPXE verify ramdisks before it runs them: unsigned ones are refused to it. TrustOnly makes it run
	// nothing else from then on.
	Verify, TrustOnly bool

	// Tasks is a directory of tasks of the operator's own, a folder to a task; if nil, none.
	Tasks fs.FS
	// RepoFile reads a small file of a repo's tree, for tasks; if nil, none can be read.
	RepoFile func(r Repo, name string) (string, error)
	// Owner says who has a lease of ours on that address, zero for nobody; if nil, leases are another server's.
	Owner func(netip.Addr) boot.MAC
	// RecipesByAddress gives recipes at fixed URLs, to the machine that has the address or says that it has the MAC.
	RecipesByAddress bool

	// Strangers is the most machines kept that were seen booting and never checked in; if 0, 1000.
	Strangers int
	// KeepEvents is how long events stay in the journal; if 0, for ever. Of each node the last of each kind stays.
	KeepEvents time.Duration
	// Loop is how many times one install may start within LoopWindow before the node is held; if 0, 3 in 2 hours.
	Loop       int
	LoopWindow time.Duration

	// HookDir is the directory of commands that hooks may run; if empty, none.
	HookDir string
	// HookAllow are special addresses (loopback, link-local) that webhooks may call all the same.
	HookAllow []netip.Prefix
	// HookPause is how long a hook rests after its n-th failure in a row; if nil, 1 s, doubled up to 5 minutes, with jitter.
	HookPause func(n int) time.Duration
}

// Broker is the server's heart: a boot.Source, and what the API calls.
type Broker struct {
	cfg    Config
	schema *rule.Schema
	tasks  map[string]*task.Task
	cat    atomic.Pointer[catalog]
	catMu  sync.RWMutex // an update decides by one catalog: none is replaced while it runs
	bell   bell
	seen   chan boot.Sighting
	lost   atomic.Int64 // sightings dropped because the queue was full
	known  knownMACs
	heard  int64 // Seq of the last event of other brokers that was taken in

	hookRetries atomic.Int64 // how often an operator asked for dead letters
}

var _ boot.Source = (*Broker)(nil)

// New reads the stored objects. Busy states begin and end within one transaction, so that a stop leaves none behind;
// waiting states are kept, with deadlines that go on.
func New(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.AgentURL == "" {
		cfg.AgentURL = cfg.BaseURL
	}
	if cfg.HookPause == nil {
		cfg.HookPause = hookPause
	}
	cfg.Strangers = orDefault(cfg.Strangers, 1000)
	cfg.Loop = orDefault(cfg.Loop, 3)
	cfg.LoopWindow = orDefault(cfg.LoopWindow, 2*time.Hour)
	schema, err := newSchema()
	if err != nil {
		return nil, err
	}
	tasks, err := task.Shipped()
	if err == nil && cfg.Tasks != nil {
		tasks, err = task.LoadAll(cfg.Tasks, tasks)
	}
	if err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, schema: schema, tasks: tasks, seen: make(chan boot.Sighting, 4096)}
	b.bell.ring = map[string]chan struct{}{}
	b.known.all, b.known.ahead = map[string]bool{}, map[string]bool{}
	err = cfg.Store.Update(ctx, func(tx Tx) error {
		if err := b.meetKey(tx); err != nil {
			return err
		}
		cat, err := b.loadCatalog(tx)
		if err != nil {
			return err
		}
		b.cat.Store(cat)
		started := Event{Time: b.now(), Kind: EventStarted, Text: "the broker started", Who: "broker"}
		err = tx.Append(&started)
		b.heard = started.Seq
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	if err := b.checkMenu(); err != nil {
		return nil, err
	}
	return b, b.loadKnown(ctx)
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// Tell writes into the journal what concerns the broker itself.
func (b *Broker) Tell(ctx context.Context, kind, text string) error {
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		return tx.Append(&Event{Time: b.now(), Kind: kind, Text: text, Who: "broker"})
	})
	if err != nil {
		return fmt.Errorf("write into the journal: %w", err)
	}
	return nil
}

// Run keeps the journal of sightings and the deadlines until ctx ends, and takes part in what other brokers do.
func (b *Broker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { b.keepSightings(ctx) })
	wg.Go(func() { b.keepFollowing(ctx) })
	wg.Go(func() { b.keepLeading(ctx) })
	wg.Wait()
	return nil
}

func (b *Broker) now() time.Time { return b.cfg.Now().UTC().Truncate(time.Millisecond) }

// change is the one way a node changes: its events and its new form in one transaction.
func (b *Broker) change(tx Tx, n *Node, events ...Event) error {
	n.Rev++
	if err := tx.PutNode(n); err != nil {
		return err
	}
	b.known.learn(n)
	for i := range events {
		e := events[i]
		e.Node = n.ID
		if e.Time.IsZero() {
			e.Time = b.now()
		}
		if err := tx.Append(&e); err != nil {
			return err
		}
	}
	return nil
}

// update runs f in a transaction and wakes whoever waits for the nodes it names or for any event.
func (b *Broker) update(ctx context.Context, f func(Tx) (touched []string, err error)) error {
	b.catMu.RLock()
	defer b.catMu.RUnlock()
	var touched []string
	err := b.cfg.Store.Update(ctx, func(tx Tx) (err error) {
		if err = b.current(tx); err == nil {
			touched, err = f(tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	b.bell.wake(touched)
	return nil
}

// move takes the node along one edge of the state table.
func (b *Broker) move(n *Node, v Verb, who, why string) (Event, error) {
	to, ok := n.State.next(v)
	if !ok {
		return Event{}, illegal(n, v)
	}
	from := n.State
	n.State, n.Since, n.Deadline = to, b.now(), time.Time{}
	if v == fail {
		n.LastError = why
	} else if v != wait && v != resume && v != done {
		n.LastError = ""
	}
	return Event{Kind: EventState, Text: fmt.Sprintf("%s -> %s", from, to) + colon(why), Who: who,
		Data: map[string]string{"from": string(from), "to": string(to), "verb": string(v)}}, nil
}

// asked is move for a verb that an operator gave: only an operator's edges are open to it.
func (b *Broker) asked(n *Node, v Verb, who, why string) (Event, error) {
	if !slices.Contains(n.State.Legal(), string(v)) {
		return Event{}, illegal(n, v)
	}
	return b.move(n, v, who, why)
}

func illegal(n *Node, v Verb) error {
	return &IllegalVerb{Node: n.Title(), State: n.State, Verb: v, Legal: n.State.Legal()}
}

// walk takes the node along several edges; all are recorded.
func (b *Broker) walk(n *Node, who, why string, verbs ...Verb) ([]Event, error) {
	var events []Event
	for _, v := range verbs {
		e, err := b.move(n, v, who, why)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// Next implements boot.Source. A machine that is seen for the first time becomes a node, protected and unknown.
func (b *Broker) Next(ctx context.Context, c boot.Client) (boot.Step, error) {
	n, err := b.find(ctx, c)
	if errors.Is(err, ErrNotFound) {
		if c.MAC.IsZero() && (c.Kind == boot.KindPXELINUX || c.Kind == boot.KindGRUB) {
			return boot.Step{}, boot.ErrNotFound // a UUID in a name: its loader has other names for the machine
		}
		n, err = b.sight(ctx, c)
	}
	switch {
	case errors.Is(err, ErrDenied):
		return boot.Step{Kind: boot.StepRefuse, Text: err.Error(), Because: err.Error()}, nil
	case err != nil:
		return boot.Step{}, err
	}
	return b.offer(n, c, b.step(n, c)), nil
}

// step renders the decision for a node.
func (b *Broker) step(n *Node, c boot.Client) boot.Step {
	d, r, _ := b.next(n, c)
	s := boot.Step{Kind: d.Step, Because: n.Title() + ": " + d.Because}
	if d.Step == boot.StepRefuse {
		s.Text = d.Because
	}
	if d.installs() {
		installer, err := b.installStep(n)
		if err != nil {
			b.cfg.Log.Error("render the installer's step", "node", n.ID, "err", err)
			return boot.Step{Kind: boot.StepRefuse, Because: s.Because, Text: "the installer can not be given: " + err.Error()}
		}
		installer.Because = s.Because
		return installer
	}
	if r != nil {
		b.load(&s, r)
		s.Args = kargs.Line{kargs.Set("muster.server", b.cfg.AgentURL)}
		if b.cfg.CA != nil {
			s.Args = append(s.Args, kargs.Set("muster.ca", pin.Of(b.cfg.CA).String()))
		}
		s.Args = append(s.Args, kargs.Set("muster.token", b.cfg.Key.token(scopeBoot, n.ID, n.Boot.Seq)))
		s.Args = append(append(s.Args, b.cfg.Args...), kargs.Parse(r.Args)...)
	}
	return s
}

func (b *Broker) find(ctx context.Context, c boot.Client) (n *Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err = known(tx, clientKeys(c))
		return err
	})
	return n, err
}

// sight makes a node of a machine that asks what to boot.
func (b *Broker) sight(ctx context.Context, c boot.Client) (n *Node, err error) {
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		n, err = b.findOrSight(tx, c)
		return nil, err
	})
	return n, err
}

// findOrSight gives the machine's node, a new one when it has none. Only so many are kept that never checked in.
func (b *Broker) findOrSight(tx Tx, c boot.Client) (*Node, error) {
	keys := clientKeys(c)
	o, err := recognize(tx, keys)
	switch {
	case err != nil:
		return nil, err
	case o.Verdict == isNode && o.Hold:
		o.Reason, o.Named = "mac-conflict", append([]*Node{o.Node}, holders(o)...)
		return o.Node, b.mark(tx, o.Named[:1], o.text(keys))
	case o.Verdict == isNode:
		return o.Node, nil
	case o.Verdict == isConflict:
		return o.Named[0], b.mark(tx, o.Named, o.text(keys))
	}
	keys = o.Keys
	if len(keys.MACs) == 0 {
		return nil, &classed{ErrDenied, "this machine shows no hardware id of its own"}
	}
	known, err := tx.Count(NodeFilter{State: Enroll})
	if err != nil {
		return nil, err
	}
	if known -= b.known.expected(); known >= b.cfg.Strangers {
		return nil, &classed{ErrDenied, fmt.Sprintf("%d machines were seen that never checked in; no more are taken", known)}
	}
	n, err := b.newNode(tx, keys)
	if err != nil {
		return nil, err
	}
	n.Boot.Kind, n.Boot.EFI, n.Boot.CPU = string(c.Kind), c.Arch.EFI(), ramdiskArchs[c.Arch]
	return n, b.change(tx, n, Event{Kind: EventSighted, Who: "broker", Text: fmt.Sprintf("a new machine: MAC %s, %s", c.MAC, c.Arch)})
}

func (b *Broker) newNode(tx Tx, keys Keys) (*Node, error) {
	seq, err := tx.Counter("node")
	if err != nil {
		return nil, err
	}
	now := b.now()
	return &Node{ID: fmt.Sprintf("node%d", seq), Created: now, LastSeen: now, Keys: keys, State: Enroll, Since: now,
		Protected: true, Boot: BootKeys{Seq: 1}, Order: OrderRef{Kind: "wait"}}, nil
}

// bell wakes those who wait for a node. The empty name is any node.
type bell struct {
	mu   sync.Mutex
	ring map[string]chan struct{}
}

// hear gives a channel that is closed at the next change of the node.
func (b *bell) hear(node string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.ring[node]
	if !ok {
		c = make(chan struct{})
		b.ring[node] = c
	}
	return c
}

// waiting names the nodes that somebody waits for.
func (b *bell) waiting() (nodes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.ring {
		if n != "" {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (b *bell) wake(nodes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range append(nodes, "") {
		if c, ok := b.ring[n]; ok {
			close(c)
			delete(b.ring, n)
		}
	}
}
