package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/boot"
	"muster/broker/hook"
	"muster/broker/rule"
)

// HookStatus is a hook and how it fares.
type HookStatus struct {
	Hook         Hook         `json:"hook"` // its secret hidden
	After        int64        `json:"after" doc:"every event up to this seq is settled"`
	Delivered    int64        `json:"delivered"`
	Dead         int          `json:"dead" doc:"dead letters that are kept"`
	Undecided    int64        `json:"undecided" doc:"events that where could not be decided on; they were not told"`
	UndecidedWhy string       `json:"undecided_why,omitempty"`
	Failing      *HookFailure `json:"failing,omitempty"`
}

// Hooks lists the hooks, by name.
func (b *Broker) Hooks(ctx context.Context) ([]HookStatus, error) {
	list := []HookStatus{}
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		objects, err := tx.Objects(KindHook)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if o, err = o.Hidden(); err != nil {
				return err
			}
			h, err := decode[Hook](o)
			if err != nil {
				return err
			}
			c, err := cursorOf(tx, h.Name)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			dead, err := lettersOf(tx, kindHookDead, h.Name)
			if err != nil {
				return err
			}
			list = append(list, HookStatus{h, c.After, c.Delivered, len(dead), c.Undecided, c.UndecidedWhy, c.Failing})
		}
		return nil
	})
	return list, err
}

// DeadLetters lists what a hook gave up, oldest first.
func (b *Broker) DeadLetters(ctx context.Context, name string) ([]DeadLetter, error) {
	list := []DeadLetter{}
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		if err := needHook(tx, name); err != nil {
			return err
		}
		letters, err := lettersOf(tx, kindHookDead, name)
		for _, o := range letters {
			l, err := decode[DeadLetter](o)
			if err != nil {
				return err
			}
			list = append(list, l)
		}
		return err
	})
	return list, err
}

func needHook(tx Tx, name string) error {
	_, err := tx.Object(KindHook, name)
	if errors.Is(err, ErrNotFound) {
		return notFound("there is no hook %q", name)
	}
	return err
}

// retriedHook is in the data of an event that tells the leading broker that somebody asked for dead letters at another.
const retriedHook = "hook"

// RetryHook has a hook told again what it gave up: the letter of one event, or all when seq is 0. An event that it
// tries right now is tried at once.
func (b *Broker) RetryHook(ctx context.Context, name string, seq int64, who string) (n int, err error) {
	b.hookRetries.Add(1)
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		if err := needHook(tx, name); err != nil {
			return nil, err
		}
		if n, err = moveLetters(tx, name, seq); err != nil {
			return nil, err
		}
		e := b.said(ctx, who, fmt.Sprintf("hook %s: %d dead %s to be tried again", name, n, plural(n, "letter")))
		if e.Data == nil {
			e.Data = map[string]string{}
		}
		e.Data[retriedHook] = name
		return nil, tx.Append(&e)
	})
	return n, err
}

func moveLetters(tx Tx, name string, seq int64) (int, error) {
	letters, err := lettersOf(tx, kindHookDead, name)
	if err != nil {
		return 0, err
	}
	if seq != 0 {
		letters = slices.DeleteFunc(letters, func(o Object) bool { return o.Name != letterName(name, seq) })
		if len(letters) == 0 {
			return 0, notFound("hook %s has no dead letter of event %d", name, seq)
		}
	}
	for _, o := range letters {
		if err := tx.DeleteObject(kindHookDead, o.Name); err != nil {
			return 0, err
		}
		o.Kind = kindHookAgain
		if err := tx.PutObject(o); err != nil {
			return 0, err
		}
	}
	return len(letters), nil
}

// HookTrial is what came of calling a hook for an operator to see.
type HookTrial struct {
	ID     string `json:"id"`
	TookMS int64  `json:"took_ms"`
	Answer string `json:"answer,omitempty"`
	Note   string `json:"note,omitempty"`
	Error  string `json:"error,omitempty"`
}

// TryHook calls a hook once with an event that never was. Its rule is asked; what it answers is shown and changes
// nothing.
func (b *Broker) TryHook(ctx context.Context, name, event, node string) (HookTrial, error) {
	h := b.cat.Load().hooks[name]
	if h == nil {
		return HookTrial{}, notFound("there is no hook %q", name)
	}
	event, ok := hookEventName(event)
	if !ok {
		return HookTrial{}, invalid("there is no such event: there are %s", strings.Join(HookEvents(), ", "))
	}
	n, err := b.node(ctx, node)
	if err != nil {
		return HookTrial{}, err
	}
	e := Event{Time: b.now(), Kind: hookEvents[event][0].kind, Node: n.ID, Who: "operator", Text: "a trial: this did not happen"}
	start := time.Now()
	a, asked, err := b.tell(ctx, h, event, e)
	t := HookTrial{ID: messageID(name, e), TookMS: time.Since(start).Milliseconds(), Answer: boot.Printable(string(a.Body)), Note: a.Note}
	switch {
	case err != nil:
		t.Error = oneLine(err)
	case asked.Verdict != rule.Yes:
		t.Note = "not called: where is " + asked.Verdict.String() + colon(asked.Cause)
	}
	return t, nil
}

var _ hookTarget = hook.Command{}
var _ hookTarget = (*hook.Webhook)(nil)
