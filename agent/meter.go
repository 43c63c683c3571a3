package agent

import (
	"fmt"
	"time"
)

// A meter tells the console how far and how fast a long transfer is.
type meter struct {
	agent *Agent
	what  string
	all   int64
	began time.Time
	next  time.Time
}

// meterEvery is how often it does.
const meterEvery = 5 * time.Second

func newMeter(a *Agent, what string, all int64) *meter {
	now := a.Now()
	return &meter{agent: a, what: what, all: all, began: now, next: now.Add(meterEvery)}
}

func (m *meter) tell(done int64) {
	now := m.agent.Now()
	if now.Before(m.next) {
		return
	}
	m.next = now.Add(meterEvery)
	m.agent.Console.Printf("%s: %s of %s (%d%%), %s", m.what, size(done), size(m.all), done*100/m.all, m.speed(done, now))
}

func (m *meter) end() {
	now := m.agent.Now()
	m.agent.Console.Printf("%s: all %s in %s, %s", m.what, size(m.all), seconds(now.Sub(m.began)), m.speed(m.all, now))
}

func (m *meter) speed(done int64, now time.Time) string {
	return fmt.Sprintf("%.0f MB/s", float64(done)/1e6/max(now.Sub(m.began).Seconds(), 0.001))
}
