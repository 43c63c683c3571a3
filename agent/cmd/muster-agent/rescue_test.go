package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"muster/agent"
)

// Without an sshd in the ramdisk the shell of the console is the door; one that is open is not opened again.
func TestRescueWithoutSSHD(t *testing.T) {
	if haveSSHD() == nil || findShell() == "" {
		t.Skip("this machine has an sshd where ramdisks have it, or no shell")
	}
	console := &agent.Console{W: os.Stderr, Uptime: func() time.Duration { return 0 }}
	r := &rescuer{args: agent.Args{Shell: true}, console: console} // a shell runs already: none is started here
	how, err := r.open(context.Background())
	if err != nil || how != findShell()+" runs on the console (this ramdisk has no "+sshProgram+": build it with --ssh-key)" {
		t.Errorf("open = %q, %v", how, err)
	}
	if again, err := r.open(context.Background()); again != how || err != nil {
		t.Errorf("open again = %q, %v; want %q", again, err, how)
	}
}

func TestAddressIsNoLoopback(t *testing.T) {
	if a := address(); strings.HasPrefix(a, "127.") || a == "" {
		t.Errorf("address %q", a)
	}
}
