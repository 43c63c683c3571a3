package broker

import (
	"slices"
	"strings"
	"time"
)

// A Window is a time of the week in which a policy may take nodes, by the clock of Zone. One whose To is not after its
// From ends the next day.
type Window struct {
	Days []string `json:"days,omitempty"` // mon to sun, of From; if empty, every day
	From string   `json:"from"`           // 22:00
	To   string   `json:"to"`             // 06:00; not itself in the window
	Zone string   `json:"zone,omitempty"` // an IANA name such as Europe/Berlin; if empty, UTC
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

func (w Window) check() error {
	for _, d := range w.Days {
		if !slices.Contains(weekdays, d) {
			return invalid("day %q: want one of %s", d, strings.Join(weekdays, ", "))
		}
	}
	for _, s := range []string{w.From, w.To} {
		if _, err := time.Parse("15:04", s); err != nil {
			return invalid("time %q: want hours and minutes such as 22:00", s)
		}
	}
	if _, err := time.LoadLocation(w.Zone); err != nil {
		return invalid("zone %q: want an IANA name such as Europe/Berlin: %s", w.Zone, err)
	}
	return nil
}

// open says whether the window is open. Where a clock is put forward or back, what the clock on the wall says counts.
func (w Window) open(now time.Time) bool {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return false // a zone that is gone from the system opens nothing
	}
	now = now.In(zone)
	clock, day := now.Format("15:04"), now.Weekday()
	switch {
	case w.From < w.To:
		return w.From <= clock && clock < w.To && w.on(day)
	case clock >= w.From:
		return w.on(day)
	}
	return clock < w.To && w.on((day+6)%7)
}

func (w Window) on(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[d])
}

func (w Window) String() string {
	s := w.From + "-" + w.To
	if len(w.Days) > 0 {
		s = strings.Join(w.Days, ",") + " " + s
	}
	if w.Zone != "" {
		s += " " + w.Zone
	}
	return s
}
