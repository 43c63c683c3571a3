package agent

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// steady is how long an agent must have lived for its end not to count as one in a row.
const steady = 10 * time.Minute

// wordsBytes of what a dying agent said are kept for the broker.
const wordsBytes = 4 << 10

// Supervise runs the agent as a child process and starts it again, with a longer and longer pause, when it ends (F48).
// The parent is what init waits for: if it returned, the kernel would panic. start makes the child's command; cause is
// how the one before ended, "" at first. Supervise adds to the command's Stderr only.
func Supervise(ctx context.Context, c *Console, start func(cause string) *exec.Cmd) error {
	cause := ""
	for attempt := 1; ; attempt++ {
		cmd := start(cause)
		last := &words{}
		cmd.Stderr = last
		began := time.Now()
		err := cmd.Run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > steady {
			attempt = 1
		}
		cause = causeOf(err, last.String())
		wait := retryIn(attempt, nil)
		c.Printf("the agent ended: %s; starting it again in %s", cause, seconds(wait))
		if text := last.String(); text != "" {
			c.Printf("its last words: %s", text)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// causeOf says in one line why a child ended: its panic, else its exit status.
func causeOf(err error, said string) string {
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return strings.TrimSpace(line)
		}
	}
	if err == nil {
		return "it returned"
	}
	return fmt.Sprint(err)
}

// words keeps the first wordsBytes written to it: a Go panic begins with its cause.
type words struct {
	mu  sync.Mutex
	buf []byte
}

func (t *words) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[:min(len(p), wordsBytes-len(t.buf))]...)
	return len(p), nil
}

func (t *words) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
