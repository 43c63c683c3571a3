package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"muster/agent/facts"
)

const (
	maxErrors = 32  // reported by one collector
	maxMsg    = 256 // bytes of one error
)

// An outcome is the answer of a collector, or that there was none.
type outcome struct {
	index   int
	name    string
	section section
	err     error
	took    time.Duration
}

// A slow machine is not a hung one: a deadline counts from the last file that any collector read, and ends for good
// after this many deadlines. (Eight emulated processors on a loaded host needed nine seconds for what takes 0.1.)
const mostDeadlines = 8

// collect runs collectors side by side and gives their outcomes in the order of the collectors. One that is late is
// left behind: a read that the kernel does not end cannot be stopped, and its answer goes into a channel that has
// room for it and no reader.
func collect(ctx context.Context, m machine, picked []collector, deadline time.Duration) []outcome {
	ctx, cancel := context.WithTimeout(ctx, mostDeadlines*deadline)
	defer cancel()
	answers := make(chan outcome, len(picked))
	m.patience = deadline / 2
	start := time.Now()
	for i, c := range picked {
		own := m
		own.odd = new(oddities)
		go func() {
			section, err := attempt(func() (section, error) { return c.run(ctx, own) })
			answers <- outcome{i, c.name, section, errors.Join(err, own.odd.all()), time.Since(start)}
		}()
	}
	done := make([]outcome, len(picked))
	for i, c := range picked {
		done[i] = outcome{i, c.name, nil, fmt.Errorf("no answer: %w", context.DeadlineExceeded), 0}
	}
	quiet := newQuiet(m.steps, deadline)
	defer quiet.beat.Stop()
	for left := len(picked); left > 0; {
		select {
		case o := <-answers:
			done[o.index] = o
			m.steps.Add(1)
			left--
		case <-quiet.beat.C:
			if quiet.still() {
				return giveUp(done, start)
			}
		case <-ctx.Done():
			return giveUp(done, start)
		}
	}
	return done
}

// quietBeats is how many beats without movement are silence: a quiet looks often, because what hangs costs from its last
// movement, not from the look after it.
const quietBeats = 16

// A quiet counts beats, not time. A host that stops its guest for seconds lets the clock run on while nothing can move;
// the beats that were missed then do not come (time.Ticker drops them), and nobody is given up for it.
type quiet struct {
	steps *atomic.Int64 // what moves
	beat  *time.Ticker
	seen  int64
	beats int // without movement
}

func newQuiet(steps *atomic.Int64, after time.Duration) *quiet {
	return &quiet{steps: steps, beat: time.NewTicker(max(1, after/quietBeats)), seen: steps.Load()}
}

// still says, at a beat, that nothing has moved for long enough.
func (q *quiet) still() bool {
	q.beats++
	if now := q.steps.Load(); now != q.seen {
		q.seen, q.beats = now, 0
	}
	return q.beats >= quietBeats
}

// giveUp notes how long the collectors without an answer were waited for.
func giveUp(done []outcome, start time.Time) []outcome {
	for i := range done {
		if done[i].took == 0 {
			done[i].took = time.Since(start)
		}
	}
	return done
}

// panicked is the error that a panic becomes.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprint(p.value) }

// attempt turns a panic in f into an error.
func attempt[T any](f func() (T, error)) (got T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked{v}
		}
	}()
	return f()
}

// each calls f for every name, at most 16 at once, and gives the answers in the order of the names. Names whose f
// failed, or did not answer while nothing moved for the patience of m, have an error and no answer: one stuck device
// costs its own facts and not those of its neighbours.
func each[T any](ctx context.Context, m machine, names []string, f func(name string) (T, error)) ([]T, []error) {
	type answer struct {
		index int
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(names))
	room := make(chan struct{}, 16)
	for i, name := range names {
		go func() {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-room }()
			value, err := attempt(func() (T, error) { return f(name) })
			answers <- answer{i, value, err}
		}()
	}
	got := make([]*answer, len(names))
	quiet := newQuiet(m.steps, m.patience)
	defer quiet.beat.Stop()
wait:
	for left := len(names); left > 0; {
		select {
		case a := <-answers:
			got[a.index] = &a
			left--
		case <-quiet.beat.C:
			if quiet.still() {
				break wait
			}
		case <-ctx.Done():
			break wait
		}
	}
	m.steps.Add(1) // the collector goes on
	var values []T
	if len(names) == 0 {
		values = []T{} // that there is none is known
	}
	var errs []error
	for i, a := range got {
		switch {
		case a == nil:
			errs = append(errs, fmt.Errorf("%s: no answer: %w", names[i], context.DeadlineExceeded))
		case a.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", names[i], a.err))
		default:
			values = append(values, a.value)
		}
	}
	return values, errs
}

// incomplete marks an error after which the section is there but lacks things: it is named in Facts.Incomplete.
type incomplete struct{ error }

func (e incomplete) Unwrap() error { return e.error }

// partial is err as incomplete, if there is one.
func partial(err error) error {
	if err == nil {
		return nil
	}
	return incomplete{err}
}

// malformed marks an error about bytes that do not have the form they should have.
type malformed struct{ error }

func (e malformed) Unwrap() error { return e.error }

// take writes a section into the result, and what went wrong.
func (r *Result) take(o outcome) {
	r.TimingMS[o.name] = o.took.Milliseconds()
	if o.section != nil {
		o.section(&r.Facts, &r.State)
	}
	errs := split(o.err)
	for i, err := range errs {
		if i == maxErrors {
			r.report(o.name, "io", fmt.Sprintf("%d more", len(errs)-i))
			break
		}
		r.report(o.name, code(err), err.Error())
	}
	var lacks incomplete
	if o.err != nil && (o.section == nil || errors.As(o.err, &lacks)) {
		r.markIncomplete(o.name)
	}
}

// fail is take for a collector that could not start.
func (r *Result) fail(name string, err error) {
	r.report(name, code(err), err.Error())
	r.markIncomplete(name)
}

func (r *Result) report(collector, code, msg string) {
	r.Errors = append(r.Errors, facts.ProbeError{Collector: collector, Code: code, Msg: facts.Line(msg, maxMsg)})
}

func (r *Result) markIncomplete(name string) {
	if volatile[name] {
		return
	}
	if i, found := slices.BinarySearch(r.Facts.Incomplete, name); !found {
		r.Facts.Incomplete = slices.Insert(r.Facts.Incomplete, i, name)
	}
}

// split takes errors.Join apart.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if lacks, ok := err.(incomplete); ok {
		return split(lacks.error)
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, split(e)...)
		}
		return all
	}
	return []error{err}
}

// code is the class of an error, for machines.
func code(err error) string {
	var bug panicked
	var form malformed
	var refused *customError
	switch {
	case errors.As(err, &refused):
		return refused.code
	case errors.As(err, &bug):
		return "panic"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	case errors.As(err, &form):
		return "parse"
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.Is(err, fs.ErrPermission):
		return "denied"
	}
	return "io"
}
