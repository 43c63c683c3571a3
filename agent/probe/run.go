package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// collect runs collectors side by side and gives their outcomes in the order of the collectors. One that is late is
// left behind: a read that the kernel does not end cannot be stopped, and its answer goes into a channel that has
// room for it and no reader.
func collect(ctx context.Context, m machine, picked []collector, deadline time.Duration) []outcome {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answers := make(chan outcome, len(picked))
	start := time.Now()
	for i, c := range picked {
		go func() {
			section, err := attempt(func() (section, error) { return c.run(ctx, m) })
			answers <- outcome{i, c.name, section, err, time.Since(start)}
		}()
	}
	done := make([]outcome, len(picked))
	for i, c := range picked {
		done[i] = outcome{i, c.name, nil, fmt.Errorf("no answer: %w", context.DeadlineExceeded), deadline}
	}
	for range picked {
		select {
		case o := <-answers:
			done[o.index] = o
		case <-ctx.Done():
			for len(answers) > 0 {
				o := <-answers
				done[o.index] = o
			}
			return done
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
// failed or was late have an error and no answer. It leaves a quarter of the time until the deadline of ctx to the
// caller, so that one stuck device costs its own facts and not those of its neighbours.
func each[T any](ctx context.Context, names []string, f func(name string) (T, error)) ([]T, []error) {
	type answer struct {
		index int
		value T
		err   error
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*3/4)
		defer cancel()
	}
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
wait:
	for range names {
		select {
		case a := <-answers:
			got[a.index] = &a
		case <-ctx.Done():
			break wait
		}
	}
	var values []T
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
	switch {
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
