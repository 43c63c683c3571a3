package agent

import (
	"crypto/x509"
	"net/http"
	"time"
)

// maxSkew is the difference to the broker's clock that is left alone: two machines with NTP differ by less, and a
// certificate or a log line does not care.
const maxSkew = 60 * time.Second

// raiseClock sets a clock that is before the build of this program to that time, as an empty battery leaves it.
func (a *Agent) raiseClock() {
	if a.SetClock == nil || a.Built.IsZero() || !a.Now().Before(a.Built) {
		return
	}
	was := a.Now()
	if err := a.SetClock(a.Built); err != nil {
		a.Console.Printf("set the clock: %v", err)
		return
	}
	a.Console.Printf("the clock said %s; set to %s, when this agent was built", was.UTC().Format(time.DateTime), a.Built.UTC().Format(time.DateTime))
}

// compareClock takes the skew (local time minus broker's) from an answer's Date header, which was right half a round
// trip before it arrived, and steps a clock that is far off. It says whether it stepped.
func (a *Agent) compareClock(answered http.Header, sent, got time.Time) bool {
	date, err := http.ParseTime(answered.Get("Date"))
	if err != nil {
		return false
	}
	right := date.Add(got.Sub(sent) / 2)
	skew := got.Sub(right)
	if a.stepped {
		return false // what is told from now on is how wrong it was
	}
	ms := skew.Milliseconds()
	a.skew = &ms
	if skew.Abs() <= maxSkew || a.SetClock == nil {
		return false
	}
	a.stepped = true
	if err := a.SetClock(right); err != nil {
		a.Console.Printf("set the clock: %v", err)
		return false
	}
	a.Console.Printf("the clock was %s off; set to the broker's", seconds(skew.Abs()))
	return true
}

// judgeAt is the time at which a broker's certificate is judged. A machine's clock may be off by decades in either
// direction, and the broker, which could tell by how much, is only believed after this. So a clock outside the days of
// the certificate counts as the nearest of them: who can show a certificate under the pinned CA is the broker, if not
// today's. One thing is certain: what ended before this agent was built is over.
func (a *Agent) judgeAt(leaf *x509.Certificate) time.Time {
	now := a.Now()
	if now.Before(a.Built) {
		now = a.Built
	}
	switch {
	case now.Before(leaf.NotBefore):
		return leaf.NotBefore
	case now.After(leaf.NotAfter) && leaf.NotAfter.After(a.Built):
		return leaf.NotAfter
	}
	return now
}
