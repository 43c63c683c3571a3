package lab

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// consoleOf is a machine that is off and whose console says text.
func consoleOf(t *testing.T, text string) *Machine {
	t.Helper()
	m := &Machine{rack: &Rack{config: Config{Name: "r", Dir: t.TempDir()}}, config: MachineConfig{Name: "a"}}
	say(t, m, text)
	return m
}

func say(t *testing.T, m *Machine, text string) {
	t.Helper()
	f, err := os.OpenFile(m.Console(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestTailReadsAsAPersonWould(t *testing.T) {
	for _, tt := range []struct {
		name, raw, want string
	}{
		{"SeaBIOS clears the screen first", "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)\r\n\n\n", "SeaBIOS (version 1.16.2)"},
		{"OVMF places the cursor", "\x1b[2J\x1b[01;01H\x1b[=3h>>Start PXE over IPv4.\x1b[0m\x1b[37m\x1b[40m", ">>Start PXE over IPv4."},
		{"iPXE rubs out its prompt", "Ctrl-B...\b \b\b \b\b \bnet0: up", "Ctrl-Bnet0: up"},
		{"a line written over another is a line", "50 %\r100 %\r\ndone", "50 %\n100 %\ndone"},
		{"a reset in the middle of a line begins one", "Machine UU\x1bcSeaBIOS", "Machine UU\nSeaBIOS"},
		{"a title and a character set are not text", "\x1b]0;title\x07\x1b(Blogin: ", "login:"},
		{"an escape sequence that is cut off goes", "text\x1b[12", "text"},
		{"broken UTF-8 and control characters go", "a\xffb\x00c\td", "abc d"},
		{"nothing is nothing", "\r\n \r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, consoleOf(t, tt.raw).Tail(9)); diff != "" {
				t.Errorf("Tail of %q (-want +got):\n%s", tt.raw, diff)
			}
		})
	}
}

func TestStalledKernel(t *testing.T) {
	for _, tt := range []struct {
		console string
		want    bool
	}{
		{"", false},
		{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n", false}, // of a busy host, and soon over
		{"[   81.1] rcu: rcu_preempt kthread timer wakeup didn't happen for 5252 jiffies! g-847 f0x0\r\n[   81.2] rcu: Possible timer handling issue\r\n", true},
	} {
		if got := consoleOf(t, tt.console).stalled(); got != tt.want {
			t.Errorf("%q: stalled is %t; want %t", tt.console, got, tt.want)
		}
	}
}

func TestNothingComesOfAMachineThatStaysOff(t *testing.T) {
	l := &Life{Machine: consoleOf(t, "")}
	if err := l.dead(); err != nil {
		t.Errorf("off for a moment: %v", err)
	}
	l.off = l.off.Add(-2 * offForGood)
	if err := l.dead(); !errors.Is(err, errOff) {
		t.Errorf("off for two minutes: %v; want %v", err, errOff)
	}
}

func TestTailGivesTheLastLines(t *testing.T) {
	m := consoleOf(t, "one\ntwo\n\nthree\n")
	if got, want := m.Tail(2), "two\nthree"; got != want {
		t.Errorf("Tail(2) = %q; want %q", got, want)
	}
	if got := (&Machine{rack: &Rack{config: Config{Dir: t.TempDir()}}}).Tail(2); got != "" {
		t.Errorf("Tail without a console = %q; want nothing", got)
	}
}

func TestWaitConsoleFindsEachLineOnce(t *testing.T) {
	m := consoleOf(t, "boot 1\nlogin: ")
	boot, login := regexp.MustCompile(`^boot \d`), regexp.MustCompile(`login:$`)
	wait := func(re *regexp.Regexp, want string) {
		t.Helper()
		if got, err := m.WaitConsole(t.Context(), re); got != want || err != nil {
			t.Errorf("WaitConsole(%q) = %q, %v; want %q", re, got, err, want)
		}
	}
	wait(boot, "boot 1")
	wait(login, "login:") // a prompt, without a line end
	say(t, m, "root\nboot 2\nlogin: ")
	wait(boot, "boot 2")
	wait(login, "login:")
	_, err := m.WaitConsole(t.Context(), login)
	if err == nil || !strings.Contains(err.Error(), "machine is off") || !strings.HasSuffix(err.Error(), "boot 1\nlogin: root\nboot 2\nlogin:") {
		t.Errorf("WaitConsole at the end = %v; want that the machine is off, and the last lines", err)
	}
}

func TestWaitConsoleSeesALineAsItComes(t *testing.T) {
	m := consoleOf(t, "half a ")
	m.run = &process{ended: make(chan struct{})} // on
	got := make(chan string)
	go func() {
		line, _ := m.WaitConsole(t.Context(), regexp.MustCompile(`^half a line$`))
		got <- line
	}()
	time.Sleep(2 * consoleBeat)
	say(t, m, "line\n")
	if line := <-got; line != "half a line" {
		t.Errorf("WaitConsole = %q; want the whole line", line)
	}
	ctx, cancel := context.WithTimeout(t.Context(), consoleBeat)
	defer cancel()
	if _, err := m.WaitConsole(ctx, regexp.MustCompile(`never`)); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("WaitConsole beyond its time = %v; want so", err)
	}
}

func TestWaitConsoleIsBoundedOnEndlessLines(t *testing.T) {
	m := consoleOf(t, strings.Repeat("x", 3*consoleChunk)+"\nend\n")
	if got, err := m.WaitConsole(t.Context(), regexp.MustCompile(`end`)); got != "end" {
		t.Errorf("WaitConsole = %q, %v; want end", got, err)
	}
	if got := m.Tail(99); len(got) > tailBytes+tailBytes/consoleLine {
		t.Errorf("Tail gives %d bytes; want at most %d", len(got), tailBytes)
	}
}

func TestPowerCutEndsTheLine(t *testing.T) {
	m := consoleOf(t, "")
	for _, text := range []string{"half", "whole\n", "last"} {
		if err := endConsoleLine(m.Console()); err != nil {
			t.Fatal(err)
		}
		say(t, m, text)
	}
	if got, want := m.Tail(9), "half\nwhole\nlast"; got != want {
		t.Errorf("console = %q; want %q", got, want)
	}
}

// FuzzConsole: whatever a guest sends is cut into lines that add up to it and that a terminal can be shown.
func FuzzConsole(f *testing.F) {
	f.Add([]byte("\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\n\n"))
	f.Add([]byte("a\b\b\b\x1b"))
	f.Add([]byte("\x1b]0;never ended"))
	f.Add([]byte("\x1b\x1b[[\xff\r\r\x1b[2J\x1bc\x1bc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var sum int
		for rest := b; len(rest) > 0; {
			raw, _ := firstLine(rest)
			if len(raw) == 0 || len(raw) > consoleLine {
				t.Fatalf("firstLine(%q) gives %d bytes", rest, len(raw))
			}
			sum += len(raw)
			rest = rest[len(raw):]
			line := printable(raw)
			if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("printable(%q) = %q", raw, line)
			}
		}
		if sum != len(b) {
			t.Errorf("lines of %q have %d bytes; want %d", b, sum, len(b))
		}
	})
}
