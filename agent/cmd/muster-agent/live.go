package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"muster/agent"
	"muster/agent/probe"
)

// The child is told these two by its environment, which only root can read.
const (
	envKey   = "MUSTER_BOOT_KEY"
	envCause = "MUSTER_LAST_END"
)

// memoryFile remembers, within this boot, what a restarted agent must know. /tmp is a file system of its own; the one
// that the ramdisk was unpacked into is full on a machine of 128 MB.
const memoryFile = "/tmp/muster/agent.json"

// probeDeadline bounds one look at the machine; each collector has its own, shorter one.
const probeDeadline = 15 * time.Second

// live is the parent: it keeps an agent running, whatever happens to it.
func live(ctx context.Context, stdout io.Writer) error {
	args, err := agent.ReadArgs("/")
	console := &agent.Console{W: stdout, Uptime: agent.Uptime, Debug: args.Debug}
	if err != nil {
		console.Printf("%v", err) // the child says what is missing
	}
	console.Printf("muster-agent %s", agent.Version)
	if args.Shell {
		go shell(ctx, console)
	}
	if args.SSHD {
		go sshd(ctx, console)
	}
	key := agent.NewKey()
	return agent.Supervise(ctx, console, func(cause string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "loop")
		cmd.Args[0] = "muster-agent" // by which a busybox knows what to be
		cmd.Env = append(os.Environ(), envKey+"="+key, envCause+"="+cause)
		cmd.Stdin, cmd.Stdout = os.Stdin, stdout // the console's, for a shell that an order opens
		return cmd
	})
}

// loop is the child: one agent.
func loop(ctx context.Context, stdout io.Writer) error {
	args, err := agent.ReadArgs("/")
	if err != nil {
		return err
	}
	console := &agent.Console{W: stdout, Uptime: agent.Uptime, Debug: args.Debug}
	neighbors, err := probe.ListenNeighbors(ctx) // before any link is up: most switches speak first when it comes
	if err != nil {
		console.Printf("%v; the switch ports stay unknown", err)
	}
	wait := args.LLDPWait
	a := &agent.Agent{
		Args:    args,
		Version: agent.Version,
		Built:   agent.NotBefore,
		Key:     os.Getenv(envKey),
		Cause:   os.Getenv(envCause),
		Memory:  memoryFile,
		Console: console,
		Heard:   neighbors.Changed(),
		Probe: func(ctx context.Context, only ...string) agent.Probed {
			return look(ctx, probe.Options{Root: "/", BootMAC: args.BootMAC, Custom: args.Custom, Only: only}, func(r *probe.Result) {
				neighbors.Wait(ctx, wait)
				wait = 0 // later looks are made because somebody spoke
				neighbors.AddTo(r)
			})
		},
	}
	a.Rescue = (&rescuer{args: args, console: console}).open
	if a.Key == "" {
		a.Key = agent.NewKey()
	}
	if err := a.Here(); err != nil {
		return err
	}
	a.Console.Debugf("the loop begins")
	return a.Run(ctx)
}

// look probes the machine; last adds what is read after everything else.
func look(ctx context.Context, o probe.Options, last func(*probe.Result)) agent.Probed {
	o.Deadline = probeDeadline
	r := probe.Run(ctx, o)
	last(&r)
	p := agent.Probed{Facts: r.Facts, State: r.State, Errors: r.Errors, TimingMS: r.TimingMS}
	if o.Root == "/" {
		p.State.UptimeMS = agent.Uptime().Milliseconds()
	}
	var err error
	if p.Hash, err = p.Facts.Hash(); err != nil {
		p.Hash = "" // the broker computes its own
	}
	return p
}

// shell offers a shell on the console, for as long as the machine lives.
func shell(ctx context.Context, console *agent.Console) {
	name := findShell()
	if name == "" {
		console.Printf("muster.shell: this ramdisk has no shell")
		return
	}
	console.Printf("muster.shell: %s runs on this console", name)
	serveShell(ctx, name, console)
}

// findShell is the ramdisk's shell, or "".
func findShell() string {
	for _, name := range []string{"/bbin/gosh", "/bin/gosh", "/bin/sh"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return ""
}

func serveShell(ctx context.Context, name string, console *agent.Console) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, name)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			console.Printf("%s: %v", name, err)
		}
		time.Sleep(time.Second)
	}
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "muster-agent %s (%s, %s/%s)\n", agent.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
