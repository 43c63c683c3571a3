package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A hookCursor is how far a hook has come in the journal, which is its queue: what happened stays there until it was
// told. It is written after some messages, not after each, so that a broker that is killed tells the last few again.
type hookCursor struct {
	From         int64        `json:"from"`  // where the hook began: tells it from another of its name
	After        int64        `json:"after"` // every event up to it is settled
	Failing      *HookFailure `json:"failing,omitempty"`
	Streak       int          `json:"streak,omitempty"` // failures in a row, of whatever events
	Delivered    int64        `json:"delivered"`
	Dead         int64        `json:"dead"`
	Undecided    int64        `json:"undecided"` // events whose node the rule could not be decided on
	UndecidedWhy string       `json:"undecided_why,omitempty"`
}

// HookFailure is the event that a hook tries again.
type HookFailure struct {
	Seq      int64     `json:"seq"`
	Event    string    `json:"event"`
	Node     string    `json:"node,omitempty"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	Next     time.Time `json:"next"`
	Error    string    `json:"error"`
}

// A DeadLetter is an event that a hook gave up.
type DeadLetter struct {
	Hook     string    `json:"hook"`
	Name     string    `json:"event"` // as hooks call it
	Event    Event     `json:"journal"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	At       time.Time `json:"at"`
}

// startHook lets a hook that was just created begin with the event after seq, that of its own creation.
func startHook(tx Tx, o Object, result string, seq int64) error {
	if o.Kind != KindHook || result != "created" {
		return nil
	}
	return putDoc(tx, kindHookCursor, o.Name, hookCursor{From: seq, After: seq})
}

// forgetHook takes away what a deleted hook leaves.
func forgetHook(tx Tx, name string) error {
	if err := tx.DeleteObject(kindHookCursor, name); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, kind := range []string{kindHookDead, kindHookAgain} {
		letters, err := lettersOf(tx, kind, name)
		if err != nil {
			return err
		}
		for _, o := range letters {
			if err := tx.DeleteObject(kind, o.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func putDoc(tx Tx, kind, name string, v any) error {
	o, err := encode(kind, name, v)
	if err != nil {
		return err
	}
	return tx.PutObject(o)
}

// lettersOf lists the letters of one hook, oldest first.
func lettersOf(tx Tx, kind, hook string) ([]Object, error) {
	all, err := tx.Objects(kind)
	var own []Object
	for _, o := range all {
		if strings.HasPrefix(o.Name, hook+"/") {
			own = append(own, o)
		}
	}
	return own, err
}

// letterName sorts by the event's number.
func letterName(hook string, seq int64) string { return fmt.Sprintf("%s/%019d", hook, seq) }

func buryOldest(tx Tx, name string) error {
	letters, err := lettersOf(tx, kindHookDead, name)
	for len(letters) > maxDeadLetters && err == nil {
		err = tx.DeleteObject(kindHookDead, letters[0].Name)
		letters = letters[1:]
	}
	return err
}

func (w *hookWorker) load(ctx context.Context) error {
	if w.loaded {
		return nil
	}
	err := w.b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		w.c, err = cursorOf(tx, w.name)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return errStopped // deleted
	}
	w.loaded, w.saved, w.told = err == nil, w.c.After, 0
	return err
}

func cursorOf(tx Tx, hook string) (hookCursor, error) {
	o, err := tx.Object(kindHookCursor, hook)
	if err != nil {
		return hookCursor{}, err
	}
	return decode[hookCursor](o)
}

// save writes the cursor alone.
func (w *hookWorker) save(ctx context.Context) error {
	return w.stored(w.b.cfg.Store.Update(ctx, func(tx Tx) error { return w.put(tx, w.c) }), hookJob{letter: "none"})
}

// stored keeps what a transaction wrote.
func (w *hookWorker) stored(err error, j hookJob) error {
	if err != nil {
		return err
	}
	if j.letter == "" {
		w.c.After = j.event.Seq
	}
	w.saved, w.told = w.c.After, 0
	return nil
}

// put writes a cursor, unless the hook is another by now or another broker has come further.
func (w *hookWorker) put(tx Tx, c hookCursor) error {
	was, err := cursorOf(tx, w.name)
	if errors.Is(err, ErrNotFound) || err == nil && (was.From != c.From || was.After > c.After) {
		return errStopped
	}
	if err != nil {
		return err
	}
	return putDoc(tx, kindHookCursor, w.name, c)
}
