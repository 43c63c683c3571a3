package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"muster/broker/hook"
	"muster/broker/task"
)

// A Hook tells a program outside of events: by a signed POST to URL, or by running Command on the server.
type Hook struct {
	Kind    string        `json:"kind"`
	Name    string        `json:"name"`
	On      []string      `json:"on"`                // names of hookEvents
	URL     string        `json:"url,omitempty"`     // https, or http where the network may read along
	Command []string      `json:"command,omitempty"` // a file of the server's directory of hooks, and its arguments
	Where   Rule          `json:"where,omitempty"`   // over the node, as a tag's; if empty, every node
	Secret  string        `json:"secret,omitempty"`  // whsec_..., signs what is POSTed; sealed in the store, *** elsewhere
	CA      string        `json:"ca,omitempty"`      // PEM that the URL's certificate leads to; if empty, the system's
	Timeout task.Duration `json:"timeout,omitempty"` // of one attempt; if 0, 60 s
	// RetryFor is how long one event is tried before it becomes a dead letter; if 0, an hour.
	RetryFor task.Duration `json:"retry_for,omitempty"`
}

// Kinds of a hook's objects. The last three are the broker's own: operators see what is in them, and never write them.
const (
	KindHook       = "Hook"
	kindHookCursor = "HookCursor"
	kindHookDead   = "HookDead"  // letters that were given up, NAME/SEQ
	kindHookAgain  = "HookAgain" // letters that an operator asked to be tried again
)

// hiddenSecret stands for a secret wherever one is read; applied, it means the one that is there.
const hiddenSecret = "***"

// A hookEvent is what hooks call an event of the journal.
type hookEvent struct {
	kind     string            // of the event
	with     map[string]string // values that its data has; "" is any
	synonyms []string          // Razor's name
}

// hookEvents is the table of what a hook can hear of.
var hookEvents = map[string][]hookEvent{
	"node.sighted":    {{kind: EventSighted}},
	"node.added":      {{kind: EventAdded}},
	"node.booted":     {{kind: EventHTTP, with: map[string]string{"what": "script"}, synonyms: []string{"node-booted"}}},
	"node.registered": {{kind: EventRegistered, synonyms: []string{"node-registered"}}},
	"node.facts":      {{kind: EventFacts, synonyms: []string{"node-facts-changed"}}},
	"node.hardware":   {{kind: EventHardware}},
	"node.health":     {{kind: EventHealth}},
	"node.conflict":   {{kind: EventConflict}},
	"node.bound":      {{kind: EventBound, synonyms: []string{"node-bound-to-policy"}}},
	"node.unbound":    {{kind: EventUnbound, synonyms: []string{"node-unbound-from-policy"}}, {kind: EventDeleted, with: map[string]string{"policy": ""}}},
	"node.state":      {{kind: EventState}},
	"node.stage":      {{kind: EventStage}},
	"node.active":     {{kind: EventActive, synonyms: []string{"node-install-finished"}}},
	"node.failed":     {{kind: EventFailed, synonyms: []string{"node-install-failed"}}},
	"node.deleted":    {{kind: EventDeleted, synonyms: []string{"node-deleted"}}},
}

// HookEvents lists the names of events that a hook can hear of.
func HookEvents() []string { return slices.Sorted(maps.Keys(hookEvents)) }

// hookEventName reads a name, or Razor's word for it.
func hookEventName(said string) (string, bool) {
	if _, ok := hookEvents[said]; ok {
		return said, true
	}
	for name, list := range hookEvents {
		if slices.ContainsFunc(list, func(h hookEvent) bool { return slices.Contains(h.synonyms, said) }) {
			return name, true
		}
	}
	return "", false
}

func (h hookEvent) is(e Event) bool {
	if e.Kind != h.kind {
		return false
	}
	for k, want := range h.with {
		if got, ok := e.Data[k]; !ok || want != "" && got != want {
			return false
		}
	}
	return true
}

// hears gives the hook's name for the event, "" when it does not concern it.
func (h *Hook) hears(e Event) string {
	for _, said := range h.On {
		name, _ := hookEventName(said)
		if slices.ContainsFunc(hookEvents[name], func(x hookEvent) bool { return x.is(e) }) {
			return name
		}
	}
	return ""
}

// Bounds of a hook's times.
const (
	maxHookTimeout  = 10 * time.Minute
	maxHookRetryFor = 7 * 24 * time.Hour
)

func (h *Hook) check() error {
	switch {
	case len(h.On) == 0:
		return invalid("on: name the events: %s", strings.Join(HookEvents(), ", "))
	case (h.URL == "") == (len(h.Command) == 0):
		return invalid("want either url or command")
	case h.URL == "" && (h.Secret != "" || h.CA != ""):
		return invalid("secret and ca belong to a url")
	case time.Duration(h.Timeout) > maxHookTimeout:
		return invalid("timeout: at most %s", maxHookTimeout)
	case time.Duration(h.RetryFor) > maxHookRetryFor:
		return invalid("retry_for: at most %s", maxHookRetryFor)
	case len(h.Command) > 64:
		return invalid("command: at most 64 words")
	}
	for _, said := range h.On {
		if _, ok := hookEventName(said); !ok {
			return invalid("on: there is no event %q: there are %s", said, strings.Join(HookEvents(), ", "))
		}
	}
	if strings.ContainsRune(strings.Join(h.Command, ""), 0) {
		return invalid("command: a word holds a zero byte")
	}
	return h.checkSecret()
}

// checkSecret takes a secret as an operator writes it, or *** for the one that is there. Sealed text is the store's.
func (h *Hook) checkSecret() error {
	if h.Secret == "" || h.Secret == hiddenSecret {
		return nil
	}
	if _, err := hook.ParseSecret(h.Secret); err != nil {
		return invalid("%s", err)
	}
	return nil
}

func (h *Hook) timeout() time.Duration { return orDefault(time.Duration(h.Timeout), time.Minute) }

func (h *Hook) retryFor() time.Duration { return orDefault(time.Duration(h.RetryFor), time.Hour) }

// compiledHook is a hook that can be called.
type compiledHook struct {
	Hook
	where  program // nil: every node
	target hookTarget
}

// A hookTarget takes messages.
type hookTarget interface {
	Call(ctx context.Context, m hook.Message) (hook.Answer, error)
}

var errNoSecret = errors.New("secret *** means the one that is there, and there is none")

// loadHooks compiles the stored hooks; one that is as it was stays the same. One that cannot be called, because the
// server's configuration changed under it, stops neither the others nor the server.
func (b *Broker) loadHooks(tx Tx) (map[string]*compiledHook, error) {
	list, err := all[Hook](tx, KindHook)
	if err != nil {
		return nil, err
	}
	var before map[string]*compiledHook
	if cat := b.cat.Load(); cat != nil {
		before = cat.hooks
	}
	hooks := map[string]*compiledHook{}
	for _, h := range list {
		if was := before[h.Name]; was != nil && reflect.DeepEqual(was.Hook, h) {
			hooks[h.Name] = was
			continue
		}
		c, err := b.compileHook(h)
		if err != nil {
			return nil, invalid("hook %s: %s", h.Name, err)
		}
		hooks[h.Name] = c
	}
	return hooks, nil
}

func (b *Broker) compileHook(h Hook) (*compiledHook, error) {
	c := &compiledHook{Hook: h}
	var err error
	if h.Where != "" {
		if c.where, err = compileRule(b.schema, h.Where); err != nil {
			return nil, fmt.Errorf("where: %w", err)
		}
	}
	if c.target, err = b.hookTarget(h); c.target == nil {
		c.target = brokenTarget{err}
	}
	return c, nil
}

// hookTarget is what a stored hook calls.
func (b *Broker) hookTarget(h Hook) (hookTarget, error) {
	if h.URL == "" {
		c := hook.Command{Dir: b.cfg.HookDir, Argv: h.Command}
		return c, c.Check() // which Call asks again: a file that is mended is run
	}
	var secret hook.Secret
	if h.Secret != "" {
		text, err := b.cfg.Key.unseal(sealName(h.Name), h.Secret)
		if err != nil {
			return nil, err
		}
		if secret, err = hook.ParseSecret(text); err != nil {
			return nil, err
		}
	}
	return hook.NewWebhook(h.URL, secret, h.CA, b.cfg.HookAllow)
}

// brokenTarget is called in place of what is not as it was when the hook was applied.
type brokenTarget struct{ err error }

func (t brokenTarget) Call(context.Context, hook.Message) (hook.Answer, error) {
	return hook.Answer{}, t.err
}

func sealName(hook string) string { return KindHook + "/" + hook }

// prepare checks what only the server knows of an object that is applied, and seals its secrets.
func (b *Broker) prepare(tx Tx, o Object) (Object, error) {
	switch o.Kind {
	case KindHook:
		return b.prepareHook(tx, o)
	case KindHandoff:
		return b.prepareHandoff(tx, o)
	case KindPolicy:
		return b.preparePolicy(tx, o)
	}
	return o, nil
}

func (b *Broker) prepareHook(tx Tx, o Object) (Object, error) {
	h, err := decode[Hook](o)
	if err != nil {
		return o, err
	}
	if h.Secret, err = b.sealSecret(tx, h); err != nil {
		return o, fmt.Errorf("hook %s: %w", h.Name, err)
	}
	if _, err := b.compileHook(h); err != nil {
		return o, invalid("hook %s: %s", h.Name, err)
	}
	if _, err := b.hookTarget(h); err != nil {
		return o, invalid("hook %s: %s", h.Name, err)
	}
	return encode(o.Kind, o.Name, h)
}

func (b *Broker) sealSecret(tx Tx, h Hook) (string, error) {
	old, err := tx.Object(KindHook, h.Name)
	if errors.Is(err, ErrNotFound) {
		return b.sealOrKeep(sealName(h.Name), h.Secret, "")
	}
	if err != nil {
		return "", err
	}
	was, err := decode[Hook](old)
	if err != nil {
		return "", err
	}
	return b.sealOrKeep(sealName(h.Name), h.Secret, was.Secret)
}

// Hidden is an object as it is shown: without the secrets that are sealed in it, which the store keeps for nobody to
// read. Its Rev is another's: a change is made to that of the object.
func (o Object) Hidden() (Object, error) {
	switch o.Kind {
	case KindHook:
		return hiddenHook(o)
	case KindHandoff:
		return hiddenHandoff(o)
	case KindPolicy:
		return hiddenPolicy(o)
	}
	return o, nil
}

func hiddenHook(o Object) (Object, error) {
	h, err := decode[Hook](o)
	if err != nil || h.Secret == "" {
		return o, err
	}
	h.Secret = hiddenSecret
	return encode(o.Kind, o.Name, h)
}
