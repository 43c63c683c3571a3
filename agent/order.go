package agent

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"muster/agent/facts"
)

// progressEvery is how often a long order is reported.
const progressEvery = 2 * time.Second

// maxMessage is the longest message of a report, in bytes; the wire takes 4 KiB.
const maxMessage = 2 << 10

// quietAfterChange lets a change of hardware come to rest before it is looked at.
const quietAfterChange = 2 * time.Second

// poll asks for orders and obeys them until the machine has to check in again: the broker does not know this boot
// any more, or there is something new to tell it, as after an order that changes what the machine is.
func (a *Agent) poll(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		o, again, err := a.nextOrder(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case again:
			return nil
		case err != nil && unknown(err):
			a.Console.Printf("the broker does not know this boot (%v); checking in again", err)
			return sleep(ctx, retryIn(1, nil))
		case err != nil:
			wait := retryIn(attempt, err)
			a.Console.Printf("%s%s: %v; attempt %d, next try in %s", a.broker.base, routeOrder, unwrapURL(err), attempt, seconds(wait))
			if err := sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		attempt = 0
		if o == nil {
			continue
		}
		if o.ID <= a.order { // it was obeyed: a broker that repeats it must not be asked in a tight loop
			if err := sleep(ctx, retryIn(1, nil)); err != nil {
				return err
			}
			continue
		}
		if err := a.obey(ctx, *o); err != nil {
			return err
		}
		if orders[o.Kind].anew {
			return nil
		}
	}
}

// unknown says whether the broker wants a check-in before anything else.
func unknown(err error) bool {
	code := refused(err)
	return code == http.StatusUnauthorized || code == http.StatusNotFound
}

// nextOrder waits for one order; nil when the broker has nothing new. again is true when meanwhile the
// machine changed: hardware, or what the switches say.
func (a *Agent) nextOrder(ctx context.Context) (o *facts.Order, again bool, err error) {
	one, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	began := a.Now()
	o = new(facts.Order)
	var ans answer
	told := make(chan error, 1)
	go func() {
		var err error
		ans, err = a.broker.call(one, "GET", routeOrder+"?after="+strconv.FormatInt(a.order, 10), nil, o)
		told <- err
	}()
	select { // a change that is not taken here stays where it is, for the next call; the broker repeats its order
	case <-a.Changed:
		cancel()
		<-told
		a.Console.Printf("hardware changed; looking again")
		return nil, true, sleep(ctx, quietAfterChange)
	case <-a.Heard:
		cancel()
		<-told
		a.Console.Printf("what LLDP says of the switch ports changed; looking again")
		return nil, true, nil
	case err = <-told:
	}
	if err != nil {
		return nil, false, err
	}
	if ans.code == http.StatusNoContent {
		if a.Now().Sub(began) < time.Second { // a broker that does not hold the poll
			err = sleep(ctx, retryIn(1, nil))
		}
		return nil, false, err
	}
	return o, false, nil
}

// closeOpenOrder reports the order in which an earlier agent of this boot died.
func (a *Agent) closeOpenOrder(ctx context.Context) error {
	if !a.open {
		return nil
	}
	return a.report(ctx, facts.Report{Order: a.order, Status: facts.StatusFailed, Message: "the agent was restarted in the middle of it"})
}

// obey does one order, once, and reports how it ended. The error it gives is the end of ctx.
func (a *Agent) obey(ctx context.Context, o facts.Order) error {
	if o.ID <= a.order && o.Kind != facts.OrderWait {
		return nil
	}
	if o.Kind == facts.OrderWait || o.Kind == "" {
		a.order = max(a.order, o.ID)
		a.Console.Printf("waiting for an order: %s", because(o))
		return nil
	}
	a.Console.Printf("order %d: %s: %s", o.ID, o.Kind, because(o))
	a.order, a.open = o.ID, true
	a.remember()
	act, ok := orders[o.Kind]
	if !ok {
		return a.fail(ctx, o, facts.Report{}, fmt.Errorf("order kind %q is not known to agent %s; refused", o.Kind, a.Version))
	}
	a.tryReport(ctx, facts.Report{Order: o.ID, Status: facts.StatusStarted})
	var r facts.Report
	err := guard(func() (err error) { r, err = act.prepare(a, ctx, o); return err })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return a.fail(ctx, o, r, err)
	}
	r.Order, r.Status = o.ID, facts.StatusDone
	if err := a.report(ctx, r); err != nil {
		return err
	}
	leave, how := act.leave, o.Kind+" now"
	if then := a.then; then != nil {
		a.then, leave, how = nil, func(*Agent) error { return then() }, "leaving for the system that was written"
	}
	if leave == nil {
		return nil
	}
	a.Console.Printf("%s", how)
	if err := leave(a); err != nil { // it worked only if this line is never reached
		return a.fail(ctx, o, facts.Report{}, err)
	}
	return nil
}

func because(o facts.Order) string {
	if o.Because == "" {
		return "no reason given"
	}
	return o.Because
}

// fail reports the end of an order that was not done, with what r tells of it beside the cause.
func (a *Agent) fail(ctx context.Context, o facts.Order, r facts.Report, cause error) error {
	a.Console.Printf("order %d: %s failed: %v", o.ID, o.Kind, cause)
	r.Order, r.Status, r.Message = o.ID, facts.StatusFailed, cut(plain(cause.Error()), maxMessage)
	return a.report(ctx, r)
}

// A deed is how one kind of order is obeyed: prepare does what can fail and be reported, leave ends this boot after
// "done" has reached the broker.
type deed struct {
	prepare func(a *Agent, ctx context.Context, o facts.Order) (facts.Report, error)
	leave   func(a *Agent) error
	anew    bool // the machine is another one afterwards: it checks in again, with what it is now
}

// orders is the closed set (T53): nothing else is obeyed.
var orders = map[string]deed{
	facts.OrderReboot:     {prepare: nothing, leave: func(a *Agent) error { return a.Reboot() }},
	facts.OrderPoweroff:   {prepare: nothing, leave: func(a *Agent) error { return a.Poweroff() }},
	facts.OrderKexec:      {prepare: (*Agent).loadKernel, leave: func(a *Agent) error { return a.Kexec() }},
	facts.OrderWriteImage: {prepare: (*Agent).writeImage},
	facts.OrderWipe:       {prepare: (*Agent).wipeDisks, anew: true},
	facts.OrderRun:        {prepare: (*Agent).runProgram, anew: true},
	facts.OrderRescue:     {prepare: (*Agent).rescue},
}

func nothing(*Agent, context.Context, facts.Order) (facts.Report, error) { return facts.Report{}, nil }

// report delivers the end of an order, for as long as it takes: a machine that reboots without it would be given the
// same order again. A broker that lost this boot is checked in with first; one that refuses the report itself is told
// to the console and not asked again.
func (a *Agent) report(ctx context.Context, r facts.Report) error {
	final := func(err error) bool { return refused(err) != 0 && !transient(refused(err)) }
	var err error
	for range 3 {
		_, err = a.insist(ctx, "POST", routeReport, r, nil, final)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || !unknown(err) {
			break
		}
		if _, err := a.sendCheckIn(ctx, Probed{Hash: a.known}, false); err != nil {
			return err
		}
	}
	if err != nil {
		a.Console.Printf("the broker refuses the report of order %d: %v", r.Order, err)
	}
	a.open = false
	a.remember()
	return nil
}

// tryReport sends a report that nobody needs.
func (a *Agent) tryReport(ctx context.Context, r facts.Report) {
	one, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := a.broker.call(one, "POST", routeReport, r, nil); err != nil {
		a.Console.Debugf("report %s of order %d: %v", r.Status, r.Order, unwrapURL(err))
	}
}

// progress reports f's answer every two seconds until the function it gives is called.
func (a *Agent) progress(ctx context.Context, f func() facts.Report) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sleep(ctx, progressEvery) == nil {
			a.tryReport(ctx, f())
		}
	}()
	return func() { cancel(); <-ended }
}
