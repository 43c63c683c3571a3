package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"muster/boot"
	"muster/broker/hook"
	"muster/broker/rule"
)

const (
	hookBatch      = 256                   // events read at once
	hookSave       = 32                    // messages told between two writes of the cursor
	hookSkip       = 1000                  // events passed over between two writes of the cursor
	hookGather     = 50 * time.Millisecond // from the first event to reading them: a busy rack has thousands a second
	hookStandBy    = time.Second           // before a worker that could not go on begins again
	maxHookPause   = 5 * time.Minute       // between two attempts
	maxDeadLetters = 1000                  // of one hook; the oldest go
	leastAttempts  = 5                     // before an event is given up
)

// hookPause doubles from a second to maxHookPause. Half of it is chance, so that what failed together does not come
// back together.
func hookPause(n int) time.Duration {
	d := min(time.Second<<min(n-1, 9), maxHookPause)
	return d/2 + rand.N(d/2)
}

// keepHooks runs a worker for each hook, so that none waits for another. Of several brokers on one store, the one that
// leads calls the hooks.
func (b *Broker) keepHooks(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]context.CancelFunc{}
	for ctx.Err() == nil {
		rung := b.bell.hear("")
		hooks := b.cat.Load().hooks
		for name, stop := range running {
			if hooks[name] == nil {
				stop()
				delete(running, name)
			}
		}
		for name := range hooks {
			if running[name] == nil {
				own, stop := context.WithCancel(ctx)
				running[name] = stop
				wg.Go(func() { (&hookWorker{b: b, name: name}).run(own) })
			}
		}
		select {
		case <-ctx.Done():
		case <-rung:
		}
	}
}

// A hookWorker tells one hook its events, in order, one at a time.
type hookWorker struct {
	b      *Broker
	name   string
	loaded bool
	c      hookCursor
	saved  int64 // c.After as the store has it
	told   int   // messages since then

	tried   *compiledHook // as it was at the last attempt
	retries int64         // what b.hookRetries was then
}

// errStopped ends a turn without a fault: the hook is another by now, or another broker leads.
var errStopped = errors.New("the hook stopped")

func (w *hookWorker) run(ctx context.Context) {
	for ctx.Err() == nil {
		rung := w.b.bell.hear("")
		err := w.turn(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			select {
			case <-ctx.Done():
			case <-rung:
				pause(ctx, hookGather)
			}
		default:
			w.loaded = false // the store says where it goes on
			if !errors.Is(err, errStopped) {
				w.b.cfg.Log.Error("call hook", "hook", w.name, "err", err)
			}
			pause(ctx, hookStandBy)
		}
	}
	if w.loaded && w.told > 0 {
		if err := w.save(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, errStopped) {
			w.b.cfg.Log.Error("write the cursor of a hook", "hook", w.name, "err", err)
		}
	}
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// turn tells all that waits.
func (w *hookWorker) turn(ctx context.Context) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	if err := w.again(ctx); err != nil {
		return err
	}
	for {
		events, err := w.b.Events(ctx, EventFilter{After: w.c.After, Limit: hookBatch}, false)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := w.next(ctx, e); err != nil {
				return err
			}
		}
		if w.told > 0 || w.c.After-w.saved > hookSkip {
			if err := w.save(ctx); err != nil {
				return err
			}
		}
		if len(events) < hookBatch {
			return nil
		}
	}
}

// next settles the journal's next event.
func (w *hookWorker) next(ctx context.Context, e Event) error {
	if w.c.Failing != nil && w.c.Failing.Seq < e.Seq {
		w.c.Failing = nil // its event is in the journal no more
	}
	h := w.b.cat.Load().hooks[w.name]
	if h == nil {
		return errStopped
	}
	if h.hears(e) != "" {
		if err := w.deliver(ctx, hookJob{event: e}); err != nil {
			return err
		}
	}
	w.c.After = e.Seq
	if w.told < hookSave {
		return nil
	}
	return w.save(ctx)
}

// again tells the letters that an operator asked for.
func (w *hookWorker) again(ctx context.Context) error {
	var letters []Object
	err := w.b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		letters, err = lettersOf(tx, kindHookAgain, w.name)
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range letters {
		l, err := decode[DeadLetter](o)
		if err != nil {
			return err
		}
		if err := w.deliver(ctx, hookJob{event: l.Event, letter: o.Name}); err != nil {
			return err
		}
	}
	return nil
}

// A hookJob is an event to be told: the journal's next, or that of a letter.
type hookJob struct {
	event  Event
	letter string // "" for the journal's
}

// settle writes that the job is over.
func (w *hookWorker) settle(tx Tx, j hookJob) error {
	c := w.c
	if j.letter == "" {
		c.After = j.event.Seq
	} else if err := tx.DeleteObject(kindHookAgain, j.letter); err != nil {
		return err
	}
	return w.put(tx, c)
}

// deliver tries until the message is taken or given up.
func (w *hookWorker) deliver(ctx context.Context, j hookJob) error {
	for {
		if err := w.rest(ctx, j); err != nil {
			return err
		}
		h := w.b.cat.Load().hooks[w.name]
		if h == nil || ctx.Err() != nil {
			return errStopped
		}
		name := h.hears(j.event)
		if name == "" {
			return w.passed(ctx, j)
		}
		w.tried, w.retries = h, w.b.hookRetries.Load()
		a, asked, err := w.b.tell(ctx, h, name, j.event)
		switch {
		case err == nil && asked.Verdict != rule.Yes:
			if asked.Verdict == rule.Undecided {
				w.told++ // so that it is written soon
				w.c.Undecided++
				w.c.UndecidedWhy = fmt.Sprintf("%s of %s: %s", name, j.event.Node, asked.Cause)
			}
			return w.passed(ctx, j)
		case err == nil:
			return w.taken(context.WithoutCancel(ctx), j, a)
		case ctx.Err() != nil:
			return errStopped // the broker ends, or the hook was deleted: it did not fail
		}
		if w.failed(h, name, j.event, err) {
			return w.giveUp(ctx, name, j)
		}
		if err := w.save(ctx); err != nil {
			return err
		}
	}
}

// rest waits for the next attempt. A hook that was applied anew since the last one, or whose letters an operator asked
// for, is tried at once.
func (w *hookWorker) rest(ctx context.Context, j hookJob) error {
	f := w.c.Failing
	if f == nil || f.Seq != j.event.Seq {
		return nil
	}
	t := time.NewTimer(min(f.Next.Sub(w.b.now()), maxHookPause)) // the clock may have been set back
	defer t.Stop()
	for {
		rung := w.b.bell.hear("")
		if w.b.cat.Load().hooks[w.name] != w.tried || w.b.hookRetries.Load() != w.retries {
			return nil
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-t.C:
			return nil
		case <-rung:
		}
	}
}

// tell asks the hook's rule and calls it once. What is wrong with this server is an error of its own.
func (b *Broker) tell(ctx context.Context, h *compiledHook, name string, e Event) (hook.Answer, rule.Result, error) {
	var n *Node
	var asked rule.Result
	cat := b.cat.Load()
	err := b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		if n, err = nodeOf(tx, e); err == nil {
			asked, err = h.wants(cat, n)
		}
		return err
	})
	if err != nil || asked.Verdict != rule.Yes {
		return hook.Answer{}, asked, err
	}
	m, err := b.hookMessage(h, name, e, n)
	if err != nil {
		return hook.Answer{}, asked, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout())
	defer cancel()
	a, err := h.target.Call(ctx, m)
	return a, asked, err
}

// passed settles an event that the hook is not told of.
func (w *hookWorker) passed(ctx context.Context, j hookJob) error {
	w.c.Failing = nil
	if j.letter == "" {
		return nil
	}
	return w.b.cfg.Store.Update(ctx, func(tx Tx) error { return w.settle(tx, j) })
}

// taken settles a message that was taken, with what its answer asks for.
func (w *hookWorker) taken(ctx context.Context, j hookJob, a hook.Answer) error {
	w.c.Failing, w.c.Streak = nil, 0
	w.c.Delivered++
	w.told++
	answer := readHookAnswer(a.Body)
	if a.Note != "" {
		answer.warnf("%s", a.Note)
	}
	if j.letter == "" && len(answer.update)+len(answer.remove)+len(answer.warn) == 0 {
		return nil
	}
	err := w.b.update(ctx, func(tx Tx) ([]string, error) {
		if err := w.settle(tx, j); err != nil {
			return nil, err
		}
		return w.b.answered(tx, w.name, j.event, answer)
	})
	return w.stored(err, j)
}

// failed counts a failure and says whether it was the last.
func (w *hookWorker) failed(h *compiledHook, name string, e Event, err error) (over bool) {
	now := w.b.now()
	f := w.c.Failing
	if f == nil || f.Seq != e.Seq || f.Since.After(now) { // a clock that was set back gives the time anew
		f = &HookFailure{Seq: e.Seq, Since: now}
	}
	w.c.Streak++
	w.c.Failing = &HookFailure{Seq: e.Seq, Event: name, Node: e.Node, Attempts: f.Attempts + 1, Since: f.Since,
		Next: now.Add(w.b.cfg.HookPause(w.c.Streak)), Error: oneLine(err)}
	switch f = w.c.Failing; {
	case errors.Is(err, hook.ErrGone):
		return true
	case errors.Is(err, hook.ErrRefused):
		return f.Attempts >= leastAttempts
	}
	return f.Attempts >= leastAttempts && now.Sub(f.Since) >= h.retryFor()
}

// giveUp puts the event aside as a dead letter, and the journal says so.
func (w *hookWorker) giveUp(ctx context.Context, name string, j hookJob) error {
	f := w.c.Failing
	w.c.Failing = nil
	w.c.Dead++
	l := DeadLetter{Hook: w.name, Name: name, Event: j.event, Attempts: f.Attempts, Error: f.Error, At: w.b.now()}
	err := w.b.update(ctx, func(tx Tx) ([]string, error) {
		if err := w.settle(tx, j); err != nil {
			return nil, err
		}
		if err := putDoc(tx, kindHookDead, letterName(w.name, j.event.Seq), l); err != nil {
			return nil, err
		}
		if err := buryOldest(tx, w.name); err != nil {
			return nil, err
		}
		return nil, tx.Append(&Event{Time: l.At, Node: j.event.Node, Kind: EventHookDead, Who: "hook " + w.name,
			Text: fmt.Sprintf("gave up %s (event %d) after %d attempts: %s (muster hook retry %s)", name, j.event.Seq, f.Attempts, f.Error, w.name)})
	})
	return w.stored(err, j)
}

// oneLine is an error as a table shows it.
func oneLine(err error) string {
	return boot.Printable(strings.Join(strings.Fields(err.Error()), " "))
}
