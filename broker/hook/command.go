package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Command runs a program of one directory: the message on its standard input, its words as they stand, no shell.
type Command struct {
	Dir  string   // that the server's configuration names
	Argv []string // the first is a file name in Dir
}

// fileName is a name that is no path and no option.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$`)

// Check says why the command would not be run: the program must be a file of Dir, and neither may be for others to
// change, since it runs with the broker's rights.
func (c Command) Check() error {
	if c.Dir == "" {
		return errors.New("this server runs no commands: name a directory of them, muster serve --hooks DIR")
	}
	if len(c.Argv) == 0 || !fileName.MatchString(c.Argv[0]) {
		return fmt.Errorf("command: want the name of a file in %s first, without a path", c.Dir)
	}
	for _, path := range []string{c.Dir, filepath.Join(c.Dir, c.Argv[0])} {
		if err := owned(path); err != nil {
			return fmt.Errorf("command %s: %w", c.Argv[0], err)
		}
	}
	return nil
}

// owned refuses what is not the broker's or root's alone, and anything but a directory or an executable file.
func owned(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	mode := st.Mode()
	switch {
	case !ok || sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs neither to root nor to the user that runs muster", path)
	case !mode.IsDir() && (!mode.IsRegular() || mode.Perm()&0o100 == 0):
		return fmt.Errorf("%s is not an executable file", path)
	case mode.Perm()&0o022 != 0:
		return fmt.Errorf("others may change %s: chmod go-w it", path)
	}
	return nil
}

// environment is all that a command inherits.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

// errLoud ends a command that says more than is read.
var errLoud = fmt.Errorf("it said more than %d bytes and was killed (%w)", MaxAnswer, ErrRefused)

// Call runs the command until it ends, ctx does, or it says too much; then it and all that it started are killed.
func (c Command) Call(ctx context.Context, m Message) (Answer, error) {
	if err := c.Check(); err != nil {
		return Answer{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := &bounded{left: MaxAnswer, over: func() { stop(errLoud) }}
	said := &bounded{left: 1 << 10}
	cmd := exec.CommandContext(ctx, filepath.Join(c.Dir, c.Argv[0]), c.Argv[1:]...)
	cmd.Dir, cmd.Env = c.Dir, environment
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(m.Body), out, said
	err := runGroup(cmd)
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return Answer{}, fmt.Errorf("no end in time, killed: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return Answer{}, context.Cause(ctx)
	case err != nil:
		return Answer{}, fmt.Errorf("run %s: %w%s", c.Argv[0], err, lastLine(said.kept.String()))
	}
	return Answer{Body: out.kept.Bytes()}, nil
}

// lastLine is what a command said last of its trouble.
func lastLine(said string) string {
	said = strings.TrimSpace(said)
	if said = said[strings.LastIndexByte(said, '\n')+1:]; said != "" {
		return ": " + said
	}
	return ""
}

// runGroup runs a command as the leader of a process group, which ends with it.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g := &group{}
	cmd.Cancel = g.kill
	cmd.WaitDelay = time.Second // a child that left the group may still hold the pipes
	g.mu.Lock()
	err := cmd.Start()
	if err == nil {
		g.leader = cmd.Process.Pid
	}
	g.mu.Unlock()
	if err != nil {
		return err
	}
	// The leader is not reaped before its group is killed: until then nobody else can have its number.
	for unix.Waitid(unix.P_PID, g.leader, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	g.end()
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// A group is the processes that a command started, itself among them.
type group struct {
	mu     sync.Mutex
	leader int // 0: not started, or reaped
}

func (g *group) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leader == 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(-g.leader, syscall.SIGKILL)
}

// end kills what the leader left behind; nobody is killed by its number from then on.
func (g *group) end() {
	_ = g.kill() // a group of one that has ended: nobody is there to be killed
	g.mu.Lock()
	g.leader = 0
	g.mu.Unlock()
}

// bounded keeps the first bytes that are written; over is told once when there are more. The buffer is not embedded:
// its ReadFrom would take all.
type bounded struct {
	kept bytes.Buffer
	left int
	over func()
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.left)]
	b.left -= len(keep)
	b.kept.Write(keep)
	if len(keep) < len(p) && b.over != nil {
		b.over()
		b.over = nil
	}
	return len(p), nil
}
