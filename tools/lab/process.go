package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A process is one power cycle.
type process struct {
	pid   int
	qmp   *qmp
	tpm   *process // nil without one; ends with QEMU
	ended chan struct{}
}

// start runs the command from a thread that lives as long as it: the kernel sends the parent death signal when the thread
// that forked ends, which may be long before the process does.
func (p *process) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how QEMU ended is of no use; what it said is in its log
			close(p.ended)
		}
	}()
	return <-started
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process by its id, which is its own until it has been waited for, and the one beside it.
func (p *process) kill() {
	if p == nil {
		return
	}
	if p.running() {
		_ = unix.Kill(p.pid, unix.SIGKILL) // it may have just ended
	}
	<-p.ended
	p.tpm.kill()
}

// socketPair gives both ends of a connection for QMP: a path would be bound to 107 bytes and could be taken by others.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	local, theirs, err := filePair("qmp")
	if err != nil {
		return nil, nil, err
	}
	ours, err = net.FileConn(local) // a copy
	local.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return ours, theirs, nil
}

// filePair gives both ends of a connection to hand to programs.
func filePair(name string) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}
