package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/agent"
	"muster/agent/probe"
)

// kernelLine is the line of an iPXE script that starts the ramdisk; its end is what the kernel gets.
var kernelLine = regexp.MustCompile(`(?m)^kernel --name kernel \S+ (.*?)(?: \|\| .*)?$`)

// agent runs the real agent on the machine below a directory until it waits for orders: agent DIR SCRIPT. The kernel
// line is that of the boot script. Negated, it runs until it has told why it does not get through.
func agentCmd(ts *testscript.TestScript, neg bool, args []string) {
	root := ts.MkAbs(args[0])
	m := kernelLine.FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("%s starts no kernel", args[1])
	}
	ts.Check(os.WriteFile(filepath.Join(root, "proc/cmdline"), []byte(m[1]+"\n"), 0o600))
	a, err := agent.ReadArgs(root)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	end := "waiting for an order"
	if neg {
		end = "next try in"
	}
	console := &console{end: end, cancel: cancel}
	err = (&agent.Agent{
		Args: a, Version: agent.Version, Key: agent.NewKey(), Root: root,
		Console: &agent.Console{W: console, Uptime: agent.Uptime},
		Probe: func(ctx context.Context, only ...string) agent.Probed {
			r := probe.Run(ctx, probe.Options{Root: root, BootMAC: a.BootMAC, Custom: a.Custom, Only: only, Deadline: 15 * time.Second})
			hash, err := r.Facts.Hash()
			ts.Check(err)
			return agent.Probed{Facts: r.Facts, Hash: hash, State: r.State, Errors: r.Errors, TimingMS: r.TimingMS}
		},
	}).Run(ctx)
	ts.Stdout().Write([]byte(console.String()))
	if !errors.Is(err, context.Canceled) {
		ts.Fatalf("the agent ended with %v:\n%s", err, console)
	}
}

// A console ends something when it says what is looked for.
type console struct {
	mu     sync.Mutex
	b      bytes.Buffer
	end    string
	cancel func()
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.b.Write(p)
	if strings.Contains(c.b.String(), c.end) {
		c.cancel()
	}
	return n, err
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}
