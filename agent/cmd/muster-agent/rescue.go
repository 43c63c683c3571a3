package main

import (
	"context"
	"fmt"
	"net"

	"muster/agent"
)

// A rescuer lets people in: by the sshd when the ramdisk holds one and keys for it, else by a shell on the console. What
// the kernel line or an earlier order opened stays open.
type rescuer struct {
	args    agent.Args
	console *agent.Console
	doors   string // that are open, as said to the broker
}

func (r *rescuer) open(ctx context.Context) (how string, err error) {
	if r.doors == "" {
		r.doors, err = r.first(ctx)
	}
	return r.doors, err
}

func (r *rescuer) first(ctx context.Context) (string, error) {
	missing := haveSSHD()
	shell := findShell()
	switch {
	case missing == nil && r.args.SSHD:
		return fmt.Sprintf("ssh root@%s; the console said the host key", address()), nil
	case missing == nil:
		fingerprint, err := writeHostKey(hostKeyFile)
		if err != nil {
			return "", err
		}
		go serveSSHD(ctx, r.console)
		return fmt.Sprintf("ssh root@%s; host key %s", address(), fingerprint), nil
	case shell == "":
		return "", fmt.Errorf("%w; and there is no shell", missing)
	case !r.args.Shell:
		go serveShell(ctx, shell, r.console)
	}
	return fmt.Sprintf("%s runs on the console (%v)", shell, missing), nil
}

// address is the first IPv4 address that others may reach.
func address() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "this machine"
}
