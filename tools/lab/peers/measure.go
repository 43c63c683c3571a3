package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Record is what was measured on one machine.
type Record struct {
	Kernel string            `json:"kernel"`
	CPUs   int               `json:"cpus"`
	Names  map[string]string `json:"names"` // kernel names of disks, partitions and NICs to their sysfs paths
	Tools  []Measured        `json:"tools"`
}

// Measured is one tool on one machine. Runs are in the order of the rounds.
type Measured struct {
	Name   string `json:"name"`
	Runs   []Run  `json:"runs"`
	Output []byte `json:"output"` // of the last run
	Said   string `json:"said,omitempty"`
	Absent string `json:"absent,omitempty"` // why it was not run
}

// A Run is one run of a tool.
type Run struct {
	Round int           `json:"round"` // 0 is the one that warms up
	Wall  time.Duration `json:"wall_ns"`
	CPU   time.Duration `json:"cpu_ns"`  // user and system, of the tool and of what it waited for
	RSS   int64         `json:"rss_kib"` // the peak of the largest process
	Exit  int           `json:"exit"`
}

// Bounds of one run: a tool that hangs must not take the others with it.
const (
	runLimit    = 3 * time.Minute
	outputLimit = 16 << 20
	saidLimit   = 2 << 10
)

// Measure runs every tool that is there once to warm up and then once per round, in turns, so that what else happens on
// the machine meets all alike. A tool that has taken longer than the budget in all its runs leaves the later rounds out,
// and if it did so while it warmed up, that run counts: emulated, some take minutes. only names tools; if empty, all.
// progress is told of each run.
func Measure(ctx context.Context, rounds int, budget time.Duration, only []string, progress func(string)) (*Record, error) {
	tools := slices.DeleteFunc(slices.Clone(Tools), func(t Tool) bool { return len(only) > 0 && !slices.Contains(only, t.Name) })
	return measure(ctx, tools, rounds, budget, progress)
}

func measure(ctx context.Context, tools []Tool, rounds int, budget time.Duration, progress func(string)) (*Record, error) {
	r := &Record{Names: kernelNames("/"), CPUs: runtime.NumCPU()}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = strings.TrimSpace(string(b))
	}
	for _, t := range tools {
		m := Measured{Name: t.Name}
		if _, err := exec.LookPath(t.Args[0]); err != nil {
			m.Absent = err.Error()
		}
		r.Tools = append(r.Tools, m)
	}
	spent := make([]time.Duration, len(tools))
	for round := range rounds + 1 {
		for i, t := range tools {
			m := &r.Tools[i]
			if m.Absent != "" || spent[i] > budget {
				continue
			}
			run, err := m.run(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("run %s, round %d: %w", t.Name, round, err)
			}
			progress(fmt.Sprintf("round %d: %-12s %8.3f s", round, t.Name, run.Wall.Seconds()))
			spent[i] += run.Wall
			run.Round = round
			if round > 0 || spent[i] > budget {
				m.Runs = append(m.Runs, run)
			}
		}
	}
	return r, nil
}

// run runs the tool once. An exit status is part of the record, not an error: ohai fails where a plugin does.
func (m *Measured) run(parent context.Context, t Tool) (Run, error) {
	ctx, cancel := context.WithTimeoutCause(parent, runLimit, fmt.Errorf("not done within %s", runLimit))
	defer cancel()
	out, said := limited{room: outputLimit}, limited{room: saidLimit}
	cmd := exec.CommandContext(ctx, t.Args[0], t.Args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(t.In), &out, &said
	cmd.WaitDelay = time.Second
	start := time.Now()
	err := cmd.Run()
	run := Run{Wall: time.Since(start)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return run, err
	}
	if ctx.Err() != nil {
		return run, context.Cause(ctx)
	}
	s := cmd.ProcessState
	run.CPU, run.Exit = s.UserTime()+s.SystemTime(), s.ExitCode()
	if use, ok := s.SysUsage().(*syscall.Rusage); ok {
		run.RSS = use.Maxrss // KiB, getrusage(2)
	}
	m.Output, m.Said = out.kept.Bytes(), said.kept.String()
	return run, nil
}

// limited keeps the first bytes of what is written and takes the rest.
type limited struct {
	kept bytes.Buffer
	room int
}

func (l *limited) Write(p []byte) (int, error) {
	l.kept.Write(p[:min(len(p), l.room-l.kept.Len())])
	return len(p), nil
}

// kernelNames tells where in the device tree the disks, partitions and NICs of this boot hang: names change from boot
// to boot, places do not.
func kernelNames(root string) map[string]string {
	names := map[string]string{}
	for _, class := range []string{"block", "net"} {
		links, _ := filepath.Glob(filepath.Join(root, "sys/class", class, "*"))
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil {
				names[filepath.Base(link)] = target
			}
		}
	}
	return names
}
