package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// Bounds of a program and of what it may be told.
const (
	maxProgram      = 2 << 30 // bytes; it lies in memory
	maxProgramTime  = 24 * time.Hour
	maxProgramWords = 256 // arguments, and variables
)

// programGrace is how long a killed program may take to be gone. One of its processes may hang in the kernel, in a
// command to a device that does not answer, and then nothing ends it but the power switch.
const programGrace = 30 * time.Second

// runProgram obeys an order of that kind: fetch, compare, run, and leave nothing of it behind.
func (a *Agent) runProgram(ctx context.Context, o facts.Order) (facts.Report, error) {
	if err := checkProgram(o.Program); err != nil {
		return facts.Report{}, err
	}
	if a.hung != "" {
		return facts.Report{}, fmt.Errorf("%s hangs in the kernel; power-cycle the machine before another one is run", a.hung)
	}
	p := *o.Program
	dir, free, err := a.privateDir()
	if err != nil {
		return facts.Report{}, err
	}
	defer free()
	began := a.Now()
	file, err := a.fetchProgram(ctx, dir, p)
	if err != nil {
		return facts.Report{}, err
	}
	fetched := a.Now()
	said := &tail{most: maxKept}
	stop := a.progress(ctx, func() facts.Report {
		return facts.Report{Order: o.ID, Status: facts.StatusProgress,
			Message: cut(plain(fmt.Sprintf("running for %s: %s", seconds(a.Now().Sub(fetched)), said.last())), maxMessage)}
	})
	status, err := a.execute(ctx, p, file, said)
	stop()
	r := facts.Report{Output: said.lines(), TimingMS: map[string]int64{
		"fetch": fetched.Sub(began).Milliseconds(), "run": a.Now().Sub(fetched).Milliseconds()}}
	if err != nil {
		return r, fmt.Errorf("%s: %w%s", path.Base(p.Path), err, colon(said.last()))
	}
	r.ExitStatus, r.Message = &status, cut(plain(fmt.Sprintf("exit status %d%s", status, colon(said.last()))), maxMessage)
	if status != 0 && !slices.Contains(p.OKStatus, status) {
		return r, errors.New(r.Message)
	}
	return r, nil
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkProgram refuses orders that make no sense.
func checkProgram(p *facts.Program) error {
	switch {
	case p == nil || p.Path == "":
		return errors.New("the order to run names no program")
	case len(p.SHA256) != 2*sha256.Size:
		return fmt.Errorf("%q is no SHA-256 sum", p.SHA256)
	case p.SizeBytes <= 0 || p.SizeBytes > maxProgram:
		return fmt.Errorf("a program of %d bytes; 1 to %d are taken", p.SizeBytes, maxProgram)
	case p.TimeoutSeconds <= 0 || p.TimeoutSeconds > int64(maxProgramTime/time.Second):
		return fmt.Errorf("a time limit of %d s; 1 to %d are taken", p.TimeoutSeconds, int64(maxProgramTime/time.Second))
	case len(p.Args) > maxProgramWords || len(p.Env) > maxProgramWords:
		return fmt.Errorf("%d arguments and %d variables; at most %d of each are taken", len(p.Args), len(p.Env), maxProgramWords)
	}
	for _, word := range p.Args {
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("argument %q holds a NUL", word)
		}
	}
	for name, value := range p.Env {
		if !variableName.MatchString(name) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("variable %q is none", name)
		}
	}
	return nil
}

// privateDir is a directory of a file system in memory, gone with all that is in it when free is called.
func (a *Agent) privateDir() (dir string, free func(), err error) {
	if dir, err = os.MkdirTemp("", "program"); err != nil {
		return "", nil, err
	}
	unmount := func() error { return nil }
	if a.Tmpfs != nil {
		if unmount, err = a.Tmpfs(dir); err != nil {
			return "", nil, errors.Join(fmt.Errorf("make a place for the program: %w", err), os.Remove(dir))
		}
	}
	return dir, func() {
		if err := errors.Join(unmount(), os.RemoveAll(dir)); err != nil {
			a.Console.Printf("remove the program: %v", err)
		}
	}, nil
}

// fetchProgram gives the file once its sum is right; before, nobody may execute it.
func (a *Agent) fetchProgram(ctx context.Context, dir string, p facts.Program) (string, error) {
	name := filepath.Join(dir, "program")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s := a.newStream(ctx, p.Path, p.SizeBytes)
	defer s.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), s); err != nil {
		return "", fmt.Errorf("fetch the program: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, p.SHA256) {
		return "", fmt.Errorf("program sha256 is %s; the broker promised %s", got, strings.ToLower(p.SHA256))
	}
	// A child that was forked while the file was open holds it open until its exec, and no file is executed that somebody
	// may write to. Nothing is between fork and exec under this lock.
	syscall.ForkLock.Lock()
	err = errors.Join(f.Chmod(0o500), f.Close())
	syscall.ForkLock.Unlock()
	a.Console.Printf("running %s %q, %s, for at most %s", p.Path, p.Args, size(p.SizeBytes), seconds(time.Duration(p.TimeoutSeconds)*time.Second))
	return name, err
}

// programEnv is what a program is told beside its own variables: the agent's environment holds the key of this boot.
var programEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin", "HOME=/", "LC_ALL=C"}

// execute runs a program to its end or to its deadline and gives its exit status. It is the first process of a PID
// namespace: when it ends, is killed, or the agent dies, the kernel kills whatever it started, sessions of their own
// included (pid_namespaces(7)).
func (a *Agent) execute(ctx context.Context, p facts.Program, file string, out io.Writer) (int, error) {
	limit := time.Duration(p.TimeoutSeconds) * time.Second
	one, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(one, file, p.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(file), out, out
	cmd.Env = append(slices.Clone(programEnv), "TMPDIR="+cmd.Dir)
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		cmd.Env = append(cmd.Env, name+"="+p.Env[name])
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = programGrace
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent at the end of the thread that started the program
		ended <- cmd.Run()
	}()
	err := awaitEnd(one, programGrace, ended)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, errHangs):
		a.hung = path.Base(p.Path)
		return 0, err
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case one.Err() != nil:
		return 0, fmt.Errorf("killed with all that it started, because it did not end in %s", seconds(limit))
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 0, err
}

// errHangs is a program that cannot be killed.
var errHangs = errors.New("killed, but it hangs in the kernel; power-cycle the machine")

// awaitEnd gives how a program ended; one that was killed has so long to go.
func awaitEnd(ctx context.Context, grace time.Duration, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case err := <-ended:
		return err
	case <-t.C:
		return errHangs
	}
}
