package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of what is read of a console: a guest may write anything, without end and without line ends.
const (
	consoleChunk = 256 << 10 // read at once
	consoleLine  = 16 << 10  // taken as a line when no line end comes
	tailBytes    = 256 << 10 // looked at for the last lines
	errorLines   = 40        // of the console in an error
)

// consoleBeat is how often the console file is looked at; QEMU writes it without telling.
const consoleBeat = 50 * time.Millisecond

// errOff tells that there is nothing more to wait for.
var errOff = errors.New("machine is off")

// errStalled tells that the machine runs and its kernel does not: an emulated processor lost its timer.
var errStalled = errors.New("its kernel stalled, the emulator lost a timer: a fault of neither muster nor the test")

// lostTimer is what a kernel says then (kernel/rcu/tree_stall.h), and goes on saying.
const lostTimer = "kthread timer wakeup didn't happen"

func (m *Machine) stalled() bool { return strings.Contains(m.Tail(errorLines), lostTimer) }

// Console is the path of the file that holds everything the serial port said, over all power cycles, as it was sent.
func (m *Machine) Console() string { return m.path("console.log") }

// WaitConsole waits for a line that matches and returns it, without escape sequences. It looks from where the last
// matched line ended, at the start from the beginning, so that a line is found once and one that came early is not
// missed; a prompt without a line end is a line, too. It fails when ctx ends and when the machine is off and said
// nothing more; the error holds the last 40 lines. One caller at a time.
func (m *Machine) WaitConsole(ctx context.Context, re *regexp.Regexp) (string, error) {
	beat := time.NewTicker(consoleBeat)
	defer beat.Stop()
	for {
		running := m.Running() // before reading: what is written last is read after the end
		line, found, more, err := m.scanConsole(re)
		switch {
		case err != nil:
			return "", fmt.Errorf("read the console of %s: %w", m.config.Name, err)
		case found:
			return line, nil
		case more:
			if ctx.Err() == nil {
				continue
			}
		case !running:
			return "", m.consoleError(re, errOff)
		}
		select {
		case <-ctx.Done():
			return "", m.consoleError(re, context.Cause(ctx))
		case <-beat.C:
		}
	}
}

func (m *Machine) consoleError(re *regexp.Regexp, cause error) error {
	tail := m.Tail(errorLines)
	if tail == "" {
		tail = "(nothing)"
	}
	return fmt.Errorf("await %q on the console of %s: %w; its last lines:\n%s", re, m.config.Name, cause, tail)
}

// scanConsole looks at what has come since the remembered position, one chunk at most, and moves the position behind
// what was looked at; behind a line without an end only if it matched. more tells that another chunk may be there.
func (m *Machine) scanConsole(re *regexp.Regexp) (line string, found, more bool, err error) {
	m.scan.Lock()
	defer m.scan.Unlock()
	chunk, err := readAt(m.Console(), m.scanned, consoleChunk)
	if err != nil {
		return "", false, false, err
	}
	rest := chunk
	for len(rest) > 0 {
		raw, whole := firstLine(rest)
		line := printable(raw)
		matched := line != "" && re.MatchString(line)
		if !matched && !whole {
			break
		}
		rest = rest[len(raw):]
		m.scanned += int64(len(raw))
		if matched {
			return line, true, false, nil
		}
	}
	return "", false, len(chunk) == consoleChunk, nil
}

// Tail gives the last n lines of the console that hold anything, without escape sequences.
func (m *Machine) Tail(n int) string {
	f, err := os.Stat(m.Console())
	if err != nil {
		return ""
	}
	rest, err := readAt(m.Console(), max(0, f.Size()-tailBytes), tailBytes)
	if err != nil {
		return ""
	}
	var lines []string
	for len(rest) > 0 {
		raw, _ := firstLine(rest)
		rest = rest[len(raw):]
		if line := printable(raw); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// readAt reads up to limit bytes from offset. A file that is not there yet is empty.
func readAt(path string, offset int64, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, limit)
	n, err := f.ReadAt(b, offset)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// freshScreens begin a line wherever they stand: what a reset machine says first comes behind half a line of before.
var freshScreens = [][]byte{[]byte("\x1bc"), []byte("\x1b[2J")}

// firstLine cuts after the first line end: a line feed or, since firmware and loaders rewrite their lines, a carriage
// return; or before a fresh screen. whole is false when no end has come yet and the line may still grow.
func firstLine(b []byte) (line []byte, whole bool) {
	end := bytes.IndexAny(b, "\r\n") + 1
	for _, fresh := range freshScreens {
		if i := bytes.Index(b[min(1, len(b)):], fresh) + 1; i > 0 && (end == 0 || i < end) {
			end = i
		}
	}
	switch {
	case end > 0 && end <= consoleLine:
		return b[:end], true
	case len(b) >= consoleLine:
		return b[:consoleLine], true
	}
	return b, false
}

// endConsoleLine keeps what a machine says after a power cut off the half line of before.
func endConsoleLine(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = f.Write([]byte("\n"))
	}
	return err
}

// escapes are the sequences that terminals know (ECMA-48): control sequences, strings such as a title, and short ones.
// One that is cut off by the end of the line goes, too.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*(?:[@-~]|$)|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*(?:[0-~]|$))`)

// printable is a line as a person would read it: without escape sequences, control characters and what was rubbed out by
// backspaces, trimmed, valid UTF-8.
func printable(raw []byte) string {
	var line []rune
	for _, r := range string(escapes.ReplaceAll(raw, nil)) {
		switch {
		case r == '\b':
			line = line[:max(0, len(line)-1)]
		case r == '\t':
			line = append(line, ' ')
		case r >= ' ' && r != 0x7f && r != utf8.RuneError:
			line = append(line, r)
		}
	}
	return strings.TrimSpace(string(line))
}
