package agent

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxLine is the longest console line, in bytes: a serial line at 9600 baud takes half a second for it.
const maxLine = 480

// A Console prints short lines for the person in front of the machine, each with the seconds since the kernel
// started. u-root's init gives its child an output that reaches every console= of the kernel line.
type Console struct {
	W      io.Writer
	Uptime func() time.Duration // since the kernel started
	Debug  bool                 // print Debugf lines too

	mu sync.Mutex
}

// Printf prints one line. Bytes that could move a cursor or change a terminal become "?".
func (c *Console) Printf(format string, args ...any) {
	if c == nil || c.W == nil {
		return
	}
	line := fmt.Sprintf("muster [%6.2fs] %s", c.Uptime().Seconds(), plain(fmt.Sprintf(format, args...)))
	line = cut(line, maxLine)
	c.mu.Lock()
	defer c.mu.Unlock()
	io.WriteString(c.W, line+"\n") // nobody can be told that the console is gone
}

// Debugf is Printf when muster.debug was asked for.
func (c *Console) Debugf(format string, args ...any) {
	if c != nil && c.Debug {
		c.Printf(format, args...)
	}
}

// plain is s in printable ASCII on one line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r < 0x20, r > 0x7e:
			return '?'
		}
		return r
	}, s)
}

// cut shortens ASCII text to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-3] + "..."
}

// seconds says a duration as people read it: 1.2 s, 45 s, 3 min.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// size says a number of bytes in decimal units, as disks are sold: size(480e9) is "480.0 GB".
func size(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}
