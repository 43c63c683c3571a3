package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"muster/agent/facts"
)

// A program of customDir has this long, in beats: those of which a host keeps its guest do not come, and are not the
// program's. Who else holds its pipe has as long again.
const (
	programDeadline = 2 * time.Second
	programBeats    = 20
)

// programEnv is all that a program is told: the agent's own environment holds the key of this boot. /bbin is where
// u-root keeps its commands.
var programEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin", "HOME=/", "LC_ALL=C"}

// runProgram gives what a program prints, at most maxFactSet bytes, without standard input. A program that fails says
// nothing. When it ends, or its time does, its process group is killed; a process that has left the group lives on,
// but is not waited for.
func (m machine) runProgram(ctx context.Context, file *os.File) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &boundedOutput{limit: maxFactSet, over: cancel}
	said := &boundedOutput{limit: maxMsg, over: func() {}}
	// By its descriptor, which is what was looked at, and so that a program below another root lies inside of it.
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3")
	cmd.Args = []string{file.Name()}
	cmd.ExtraFiles = []*os.File{file}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", programEnv, out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = m.programTime
	stop := m.keepMoving(cancel)
	defer stop()
	err := cmd.Start()
	if err != nil {
		return nil, unwrapPath(err)
	}
	err = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind; mostly nobody
	switch {
	case out.full:
		return nil, errTooMuch
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no end: %w", context.DeadlineExceeded)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("its output stays open: %w", context.DeadlineExceeded)
	case err != nil:
		return nil, fmt.Errorf("%w: %s", err, facts.Line(said.bytes.String(), maxMsg))
	}
	if out.bytes.Len() == 0 { // one that has nothing to say prints a remark
		return nil, errNothing
	}
	return out.bytes.Bytes(), nil
}

// keepMoving tells those who watch for silence that something is under way, until its program ends or has had its beats,
// which it calls over for.
func (m machine) keepMoving(over func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		beat := time.NewTicker(m.programTime / programBeats)
		defer beat.Stop()
		for range programBeats {
			select {
			case <-beat.C:
				m.steps.Add(1)
			case <-done:
				return
			}
		}
		over()
	}()
	return func() { close(done) }
}

var errNothing = malformed{errors.New("printed nothing")}

// A boundedOutput keeps the first bytes that are written to it, and calls over when there are more.
type boundedOutput struct {
	bytes bytes.Buffer
	limit int
	full  bool
	over  func()
}

func (o *boundedOutput) Write(p []byte) (int, error) {
	if room := o.limit - o.bytes.Len(); len(p) > room {
		o.bytes.Write(p[:room])
		o.full = true
		o.over()
		return len(p), nil // taken and forgotten, until the program is dead
	}
	return o.bytes.Write(p)
}
