package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// A runCase is an order to run a script. Real processes keep real time, so these cases are no part of a made-up life:
// the order is obeyed directly.
type runCase struct {
	a     *Agent
	b     *testBroker
	s     *screen
	order facts.Order
}

func newRunCase(t *testing.T, script string) *runCase {
	t.Helper()
	a, b, s := newAgent(t)
	a.start()
	a.broker = &broker{base: a.Args.Server, key: a.Key, http: a.HTTP, now: a.Now}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("MUSTER_BOOT_KEY", "canary")
	program := []byte("#!/bin/sh\n" + script)
	b.files["/content/fw"] = program
	return &runCase{a, b, s, facts.Order{ID: 2, Kind: facts.OrderRun, Because: "stage firmware", Program: &facts.Program{
		Path: "/content/fw", SHA256: sha(program), SizeBytes: int64(len(program)), TimeoutSeconds: 60}}}
}

// needNamespaces skips where no PID namespace can be made: by an ordinary user, or in some containers.
func needNamespaces(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", ":")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Run(); err != nil {
		t.Skipf("PID namespaces: %v", err)
	}
}

func (c *runCase) run(t *testing.T) facts.Report {
	t.Helper()
	if err := c.a.obey(t.Context(), c.order); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	return c.b.last()
}

func TestRun(t *testing.T) {
	needNamespaces(t)
	for _, row := range []struct {
		name, script string
		change       func(*facts.Program)
		status       string
		exit         int // -1: absent
		message      string
		output       string // lines
	}{
		{"a program that works", "echo BIOS 2.19.1 written\n", nil, facts.StatusDone, 0, "exit status 0: BIOS 2.19.1 written", "BIOS 2.19.1 written"},
		{"one that says nothing", "", nil, facts.StatusDone, 0, "exit status 0", ""},
		{"arguments and variables are what they are", "echo \"$#\" \"$1\" \"$2\" \"$SLOT\"\n",
			func(p *facts.Program) {
				p.Args, p.Env = []string{"--flash; reboot", "a b"}, map[string]string{"SLOT": "$(id) `x`"}
			},
			facts.StatusDone, 0, "exit status 0: 2 --flash; reboot a b $(id) `x`", "2 --flash; reboot a b $(id) `x`"},
		{"T57: it does not see the agent's key, and it has its own directory", "env | grep -c canary\n[ \"$TMPDIR\" = \"$PWD\" ] && pwd | grep -c program; ls -ld . | cut -c1-10\n",
			nil, facts.StatusDone, 0, "exit status 0: drwx------", "0\n1\ndrwx------"},
		{"a program that fails", "echo this board is not known; echo giving up >&2; exit 3\n", nil,
			facts.StatusFailed, 3, "exit status 3: giving up", "this board is not known\ngiving up"},
		{"a status that is no failure", "exit 3\n", func(p *facts.Program) { p.OKStatus = []int{1, 3} }, facts.StatusDone, 3, "exit status 3", ""},
		{"a status that is one", "exit 2\n", func(p *facts.Program) { p.OKStatus = []int{1, 3} }, facts.StatusFailed, 2, "exit status 2", ""},
		{"what it prints cannot move a cursor", "printf 'a\\033[2Jb\\0\\n\\n50 %%\\r100 %%\\r\\n\\377\\376\\n'\n", nil, facts.StatusDone, 0, "exit status 0: 100 %", "a [2Jb\n50 %\n100 %"},
		{"one that never ends", "sleep 1000\n", func(p *facts.Program) { p.TimeoutSeconds = 1 },
			facts.StatusFailed, -1, "fw: killed with all that it started, because it did not end in 1.0 s", ""},
		{"one that will not hear that it should end", "trap '' TERM INT HUP; while :; do sleep 1000; done\n", func(p *facts.Program) { p.TimeoutSeconds = 1 },
			facts.StatusFailed, -1, "fw: killed with all that it started, because it did not end in 1.0 s", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newRunCase(t, row.script)
			if row.change != nil {
				row.change(c.order.Program)
			}
			got := c.run(t)
			if got.Status != row.status || got.Message != row.message {
				t.Errorf("report %s %q\nwant %s %q\n%s", got.Status, got.Message, row.status, row.message, c.s)
			}
			if exit := exitOf(got); exit != row.exit {
				t.Errorf("exit status %d; want %d", exit, row.exit)
			}
			if output := strings.Join(got.Output, "\n"); output != row.output {
				t.Errorf("output %q; want %q", output, row.output)
			}
		})
	}
}

func exitOf(r facts.Report) int {
	if r.ExitStatus == nil {
		return -1
	}
	return *r.ExitStatus
}

// Programs that must never be executed: they would leave a mark.
func TestProgramsThatAreNotRun(t *testing.T) {
	for _, row := range []struct {
		name    string
		change  func(c *runCase)
		message string
	}{
		{"no program", func(c *runCase) { c.order.Program = nil }, "the order to run names no program"},
		{"no sum", func(c *runCase) { c.order.Program.SHA256 = "" }, `"" is no SHA-256 sum`},
		{"no time limit", func(c *runCase) { c.order.Program.TimeoutSeconds = 0 }, "a time limit of 0 s; 1 to 86400 are taken"},
		{"a time limit that would wrap", func(c *runCase) { c.order.Program.TimeoutSeconds = 1 << 60 }, "a time limit of 1152921504606846976 s; 1 to 86400 are taken"},
		{"no size", func(c *runCase) { c.order.Program.SizeBytes = 0 }, "a program of 0 bytes; 1 to 2147483648 are taken"},
		{"more than fits", func(c *runCase) { c.order.Program.SizeBytes = 1 << 40 }, "a program of 1099511627776 bytes; 1 to 2147483648 are taken"},
		{"a NUL", func(c *runCase) { c.order.Program.Args = []string{"a\x00b"} }, `argument "a\x00b" holds a NUL`},
		{"a variable whose name is none", func(c *runCase) { c.order.Program.Env = map[string]string{"A=B": "x"} }, `variable "A=B" is none`},
		{"too many words", func(c *runCase) { c.order.Program.Args = make([]string, 257) }, "257 arguments and 0 variables; at most 256 of each are taken"},
		{"T32: one whose sum lies", func(c *runCase) { c.order.Program.SHA256 = strings.Repeat("0", 64) },
			"program sha256 is SUM; the broker promised " + strings.Repeat("0", 64)},
		{"one that is longer than promised", func(c *runCase) { c.order.Program.SizeBytes-- },
			`fetch the program: read "/content/fw" at byte 0: the file changed on the broker while it was read: it has SIZE bytes; LESS were promised`},
		{"one that is not there", func(c *runCase) { c.order.Program.Path = "/content/none" },
			`fetch the program: read "/content/none" at byte 0: 404 Not Found: 404 page not found`},
		{"T53: a path that leads to another host", func(c *runCase) { c.order.Program.Path = "//evil.test/fw" },
			`fetch the program: read "//evil.test/fw" at byte 0: 404 Not Found: 404 page not found`},
		{"one while another hangs in the kernel", func(c *runCase) { c.a.hung = "bios" },
			"bios hangs in the kernel; power-cycle the machine before another one is run"},
		{"no room", func(c *runCase) {
			c.a.Tmpfs = func(string) (func() error, error) { return nil, errors.New("out of memory") }
		},
			"make a place for the program: out of memory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mark := filepath.Join(t.TempDir(), "ran")
			c := newRunCase(t, "touch "+mark+"\n")
			sum, n := c.order.Program.SHA256, c.order.Program.SizeBytes
			row.change(c)
			want := strings.NewReplacer("SUM", sum, "SIZE", fmt.Sprint(n), "LESS", fmt.Sprint(n-1)).Replace(row.message)
			if got := c.run(t); got.Status != facts.StatusFailed || got.Message != want {
				t.Errorf("report %s %q\nwant failed %q", got.Status, got.Message, want)
			}
			if _, err := os.Stat(mark); err == nil {
				t.Error("it was run")
			}
			for _, call := range c.b.calls {
				if strings.Contains(call, "evil.test/fw") && !strings.HasPrefix(call, "GET //evil") {
					t.Errorf("another host was asked: %s", call)
				}
			}
		})
	}
}

// A program that prints without end costs no more memory than what is kept, and its last words are reported.
func TestEndlessOutputIsBounded(t *testing.T) {
	needNamespaces(t)
	c := newRunCase(t, "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i; done; exit 9\n")
	got := c.run(t)
	if got.Status != facts.StatusFailed || len(got.Output) != maxLines || got.Output[maxLines-1] != "line 40000" || got.Output[0] != "line 39001" {
		t.Errorf("report %s %q with %d lines", got.Status, got.Message, len(got.Output))
	}
	c = newRunCase(t, "yes | tr -d '\\n'\n")
	c.order.Program.TimeoutSeconds = 1
	if got := c.run(t); got.Status != facts.StatusFailed || len(got.Output) > 1 || len(got.Output) == 1 && len(got.Output[0]) != maxLineSaid {
		t.Errorf("report %s with %d lines of output; want one, cut", got.Status, len(got.Output))
	}
}

func TestTail(t *testing.T) {
	whole := []byte(strings.Repeat("0123456789abcde\n", 20))
	for _, step := range []int{1, 3, 16, 99, 100, 101, 320} {
		w := &tail{most: 100}
		for b := whole; len(b) > 0; {
			n, err := w.Write(b[:min(step, len(b))])
			if n != min(step, len(b)) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			b = b[n:]
		}
		if want := whole[len(whole)-100:]; !bytes.Equal(w.buf, want) || cap(w.buf) > 400 {
			t.Errorf("in steps of %d it keeps %q, with room for %d; want %q", step, w.buf, cap(w.buf), want)
		}
	}
}

// A held FIFO tells whether somebody still has it open, without waiting: its read end gives the end of file, or EAGAIN.
type held struct {
	path string
	fd   int
}

func newHeld(t *testing.T) held {
	t.Helper()
	h := held{path: filepath.Join(t.TempDir(), "fifo")}
	if err := unix.Mkfifo(h.path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(h.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	h.fd = fd
	return h
}

// said is what was written to it, and whether all who had it open are gone.
func (h held) said(t *testing.T) (text string, gone bool) {
	t.Helper()
	for b := make([]byte, 4096); ; {
		n, err := unix.Read(h.fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return text, false
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return text, true
		}
		text += string(b[:n])
	}
}

// Whatever a program leaves behind is gone when its order has ended: children, those of sessions of their own, and those
// whose parent is gone.
func TestNothingOutlivesAProgram(t *testing.T) {
	needNamespaces(t)
	for _, row := range []struct {
		name, script string
		limit        int64 // seconds; a program that is killed too early to have said anything is given twice as long
		status       string
	}{
		{"a child", "sleep 1000 & exit 0", 60, facts.StatusDone},
		{"one that forks away into a session of its own", "setsid sh -c 'sleep 1000 & sleep 1000' & exit 0", 60, facts.StatusDone},
		{"one that forks away and closes its output", "setsid sleep 1000 >/dev/null 2>&1 & exit 1", 60, facts.StatusFailed},
		{"all of a program that is killed", "setsid sleep 1000 & sleep 1000", 1, facts.StatusFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHeld(t)
			c := newRunCase(t, fmt.Sprintf("exec 9>%s\necho up >&9\n%s\n", h.path, row.script))
			for text := ""; text == ""; row.limit *= 2 {
				c.order.ID++
				c.order.Program.TimeoutSeconds = row.limit
				if got := c.run(t); got.Status != row.status {
					t.Fatalf("report %s %q; want %s", got.Status, got.Message, row.status)
				}
				var gone bool
				if text, gone = h.said(t); !gone {
					t.Fatalf("it said %q, and not all of it is gone", text)
				}
			}
		})
	}
}

// An agent that ends takes its program with it, even when it is killed itself: the next one may be ordered to run another.
func TestProgramDiesWithItsAgent(t *testing.T) {
	needNamespaces(t)
	if path := os.Getenv("MUSTER_TEST_FIFO"); path != "" { // the agent that is killed
		c := newRunCase(t, fmt.Sprintf("exec 9>%s\necho up >&9\nsetsid sleep 1000 &\nsleep 1000\n", path))
		t.Fatal(c.a.obey(t.Context(), c.order))
	}
	h := newHeld(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestProgramDiesWithItsAgent$")
	cmd.Env = append(os.Environ(), "MUSTER_TEST_FIFO="+h.path, "TMPDIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, h, func(text string, _ bool) bool { return text == "up\n" })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	await(t, h, func(_ string, gone bool) bool { return gone })
}

// await polls the FIFO until done is true; the test's own time limit ends it otherwise.
func await(t *testing.T, h held, done func(text string, gone bool) bool) {
	t.Helper()
	for text := ""; ; {
		more, gone := h.said(t)
		if text += more; done(text, gone) {
			return
		}
		fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 100)
	}
}

// The end of the agent's life ends a program without a report: nobody is there to send it.
func TestProgramEndsWithTheLife(t *testing.T) {
	needNamespaces(t)
	h := newHeld(t)
	c := newRunCase(t, fmt.Sprintf("exec 9>%s\necho up >&9\nsleep 1000\n", h.path))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.a.obey(ctx, c.order) }()
	await(t, h, func(text string, _ bool) bool { return text == "up\n" })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("obey ended with %v", err)
	}
	if _, gone := h.said(t); !gone {
		t.Error("the program lives on")
	}
}

// A long program is told of on the way.
func TestProgramProgress(t *testing.T) {
	needNamespaces(t)
	told := make(chan facts.Report, 100)
	c := newRunCase(t, "echo erasing; read go <$GO; echo done\n")
	goOn := newHeld(t)
	c.order.Program.Env = map[string]string{"GO": goOn.path}
	c.b.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != routeReport {
			return false
		}
		rep, err := facts.DecodeReport(r.Body)
		if err != nil {
			t.Error(err)
			return false
		}
		if rep.Status == facts.StatusProgress {
			told <- *rep
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	go func() {
		for rep := range told { // the first may come before the program has said anything
			if !strings.HasPrefix(rep.Message, "running for ") {
				t.Errorf("progress %q", rep.Message)
			}
			if strings.HasSuffix(rep.Message, ": erasing") {
				break
			}
		}
		if err := os.WriteFile(goOn.path, []byte("go\n"), 0); err != nil {
			t.Error(err)
		}
	}()
	if err := c.a.obey(t.Context(), c.order); err != nil {
		t.Fatal(err)
	}
}

// The place of a program is a file system of its own, gone with whatever it left there.
func TestTmpfs(t *testing.T) {
	needNamespaces(t)
	c := newRunCase(t, "echo x >left; stat -f -c %T .\n")
	var mounted string
	c.a.Tmpfs = func(dir string) (func() error, error) {
		mounted = dir
		unmount, err := mountTmpfs(dir)
		if err != nil {
			t.Skip(err)
		}
		return unmount, nil
	}
	if got := c.run(t); got.Status != facts.StatusDone || got.Message != "exit status 0: tmpfs" {
		t.Errorf("report %s %q", got.Status, got.Message)
	}
	if _, err := os.Stat(mounted); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", mounted, err)
	}
}

// A program that does not die is not waited for without end.
func TestHungProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := awaitEnd(ctx, time.Millisecond, make(chan error))
	if !errors.Is(err, errHangs) {
		t.Errorf("awaitEnd = %v", err)
	}
}
