package agent

import (
	"strings"
	"sync"

	"muster/agent/facts"
)

// What is kept of a program's output, and what of that is reported.
const (
	maxKept     = 64 << 10 // bytes
	maxLines    = 1000
	maxLineSaid = 1 << 10 // bytes of one line
)

// A tail keeps the last bytes that were written to it.
type tail struct {
	most int

	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if over := len(p) - t.most; over > 0 {
		p, t.buf = p[over:], t.buf[:0]
	}
	if over := len(t.buf) + len(p) - t.most; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

// lines are the last lines, made printable; of the first one the beginning may be lost. Carriage returns of progress
// bars end lines, too.
func (t *tail) lines() []string {
	t.mu.Lock()
	text := string(t.buf)
	t.mu.Unlock()
	var said []string
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = facts.Line(line, maxLineSaid); line != "" {
			said = append(said, line)
		}
	}
	return said[max(0, len(said)-maxLines):]
}

// last is the last line; "" when nothing was said.
func (t *tail) last() string {
	said := t.lines()
	if len(said) == 0 {
		return ""
	}
	return said[len(said)-1]
}
