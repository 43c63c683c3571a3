package hook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// script writes an executable for /bin/sh and gives the command that runs it.
func script(t *testing.T, text string, args ...string) Command {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tell")
	// Another test's fork may hold a file that was just written open: exec would say "text file busy" (golang/go#22315).
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return Command{Dir: dir, Argv: append([]string{"tell"}, args...)}
}

// ended waits until a killed process is gone: the signal is sent, its delivery is the kernel's.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Errorf("process %d still runs (%v)", pid, err)
		}
		return
	}
}

// pids makes a pipe named pids by which a script tells whom it started; it waits there until they are read.
func pids(t *testing.T, c Command) (read func() []int) {
	t.Helper()
	path := filepath.Join(c.Dir, "pids")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() (list []int) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		for _, word := range strings.Fields(string(raw)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Error(err)
			}
			list = append(list, pid)
		}
		return list
	}
}

func TestWhatCommandsAnswer(t *testing.T) {
	t.Setenv("MUSTER_TOKEN", "canary")
	big := Message{Body: []byte(strings.Repeat("x", 1<<20))}
	for _, tt := range []struct {
		name string
		text string
		m    Message
		want string
		says string
	}{
		{"what it prints is its answer", "cat", message, string(message.Body), ""},
		{"silence is an answer", "exit 0", message, "", ""},
		{"it need not read what it is told", "echo '{}'", big, "{}\n", ""},
		{"it may close what it is told", "exec <&-; echo '{}'", big, "{}\n", ""},
		{"an exit status is a failure, with the last it said", "echo first >&2; echo no such host >&2; echo '{}'; exit 3", message, "", "run tell: exit status 3: no such host"},
		{"so is death", "kill -TERM $$", message, "", "signal: terminated"},
		{"what it says of its trouble has no end", "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", message, "", "exit status 1: xxxx"},
		{"it inherits nothing", `[ -z "$MUSTER_TOKEN$HOME" ] && echo "$PATH"`, message, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := script(t, tt.text).Call(t.Context(), tt.m)
			if string(got.Body) != tt.want || tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Call = %q, %v; want %q, %q", got.Body, err, tt.want, tt.says)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestT22NoShellReadsTheWords(t *testing.T) {
	hostile := []string{"$(touch /tmp/x)", "`id`", "a b", "; rm -rf /", "\"'\\", "-n", "*", "\n", "$HOME", "é\x1b[2J"}
	got, err := script(t, `for a; do printf '%s|' "$a"; done; cat`, hostile...).Call(t.Context(), Message{Body: []byte("$(id)")})
	if want := strings.Join(hostile, "|") + "|$(id)"; err != nil || string(got.Body) != want {
		t.Errorf("Call = %q, %v; want %q", got.Body, err, want)
	}
}

// F18
func TestF18ACommandEndsWithAllThatItStarted(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		says string
	}{
		{"it hangs, and so does its child", `sleep 1000 & echo $! $$ >pids; sleep 1000`, "no end in time, killed"},
		{"it hears no signal", `trap '' TERM HUP INT; echo $$ >pids; while :; do sleep 1000; done`, "no end in time, killed"},
		{"it floods", `echo $$ >pids; exec yes`, "said more than 65536 bytes"},
		{"its child floods, whatever it does itself", `yes & echo $! $$ >pids; sleep 1000`, "said more than 65536 bytes"},
		{"it floods its errors", `echo $$ >pids; exec yes >&2`, "no end in time, killed"},
		{"it ends and leaves a child that holds its output", `sleep 1000 & echo $! $$ >pids; echo '{}'`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := script(t, tt.text)
			started := pids(t, c)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			all := make(chan []int, 1)
			go func() {
				all <- started()
				if strings.Contains(tt.says, "no end") {
					cancel(context.DeadlineExceeded)
				}
			}()
			got, err := c.Call(ctx, message)
			if tt.says == "" && (err != nil || string(got.Body) != "{}\n") || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Call = %q, %v; want %q", got.Body, err, tt.says)
			}
			for _, pid := range <-all {
				ended(t, pid)
			}
		})
	}
}

// A child that made a session of its own is out of reach; it may hold the output for as long as it wants.
func TestADaemonDoesNotHoldTheHook(t *testing.T) {
	c := script(t, `setsid sh -c 'echo $$ >pids; exec sleep 1000' & while [ ! -e go ]; do sleep 0.01; done; echo '{}'`)
	started := pids(t, c)
	all := make(chan []int, 1)
	go func() {
		list := started()
		if err := os.WriteFile(filepath.Join(c.Dir, "go"), nil, 0o600); err != nil {
			t.Error(err)
		}
		all <- list
	}()
	got, err := c.Call(t.Context(), message)
	if err != nil || string(got.Body) != "{}\n" {
		t.Errorf("Call = %q, %v", got.Body, err)
	}
	for _, pid := range <-all {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("the daemon is gone: %v", err)
		}
	}
}

func TestCommandsThatAreNotRun(t *testing.T) {
	good := script(t, "touch ran")
	for _, tt := range []struct {
		name   string
		argv   []string
		change func(dir string) error
		says   string
	}{
		{"a path", []string{"../tell"}, nil, "without a path"},
		{"an absolute path", []string{"/bin/true"}, nil, "without a path"},
		{"a dot", []string{"."}, nil, "without a path"},
		{"an option", []string{"-tell"}, nil, "without a path"},
		{"nothing", nil, nil, "without a path"},
		{"a file that is not there", []string{"other"}, nil, "no such file"},
		{"a file that others may change", []string{"tell"}, func(dir string) error { return os.Chmod(dir+"/tell", 0o757) }, "others may change"},
		{"a directory that others may change", []string{"tell"}, func(dir string) error { return os.Chmod(dir, 0o777) }, "others may change"},
		{"a file that is not executable", []string{"tell"}, func(dir string) error { return os.Chmod(dir+"/tell", 0o644) }, "not an executable"},
		{"a link out of the directory", []string{"link"}, func(dir string) error { return os.Symlink("/bin/true", dir+"/link") }, "not an executable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := script(t, "touch ran")
			c.Argv = tt.argv
			if tt.change != nil {
				if err := tt.change(c.Dir); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Call(t.Context(), message); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Call = %v; want %q", err, tt.says)
			}
			if _, err := os.Stat(c.Dir + "/ran"); err == nil {
				t.Error("it ran")
			}
		})
	}
	if err := (Command{Argv: []string{"tell"}}).Check(); err == nil || !strings.Contains(err.Error(), "runs no commands") {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := good.Call(t.Context(), message); err != nil {
		t.Errorf("the good one: %v", err)
	}
}
