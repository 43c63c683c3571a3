package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Where iproute2 keeps named namespaces (ip-netns(8)).
const namespaceDir = "/run/netns"

// lockRack takes the name for this process. The kernel gives it back when the process ends, however it ends.
func lockRack(name string) (*os.File, error) {
	path := "/run/muster-lab-" + name + ".lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock rack %q: %w", name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 16)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		return nil, fmt.Errorf("lock rack %q: process %s holds it: take another name or end that process", name, strings.TrimSpace(string(holder[:n])))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock rack %q: %w", name, err)
	}
	return f, nil
}

// makeNamespace makes the namespace and a bridge in it that forwards at once and floods multicast: the rack is small and
// a snooping bridge would drop what firmware sends before it joins a group.
func makeNamespace(ctx context.Context, name string, prefix netip.Prefix) error {
	for _, args := range [][]string{
		{"netns", "add", name},
		{"-n", name, "link", "set", "lo", "up"},
		{"-n", name, "link", "add", Bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"},
		{"-n", name, "addr", "add", prefix.String(), "brd", "+", "dev", Bridge},
		{"-n", name, "link", "set", Bridge, "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// addTap makes a port of the bridge for one NIC. It stays, without carrier, while the machine is off.
func addTap(ctx context.Context, name, tap string) error {
	for _, args := range [][]string{
		{"-n", name, "tuntap", "add", "dev", tap, "mode", "tap"},
		{"-n", name, "link", "set", "dev", tap, "master", Bridge},
		{"-n", name, "link", "set", "dev", tap, "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// removeNamespace ends every process in the namespace and removes it with all its interfaces. None is no error.
// Interfaces are deleted one by one first: a namespace lives, nameless, as long as a socket in it, and would keep them.
func removeNamespace(name string) error {
	if _, err := os.Stat(filepath.Join(namespaceDir, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	errs := []error{endProcesses(ctx, name)}
	links, err := exec.CommandContext(ctx, "ip", "-n", name, "-o", "link", "show").Output()
	if err != nil {
		// The name of a namespace whose mount has gone, as after a reboot of a container: only the name can be removed.
		return errors.Join(ip(ctx, "netns", "del", name))
	}
	for _, link := range linkNames(string(links)) {
		if link != "lo" {
			errs = append(errs, ip(ctx, "-n", name, "link", "del", "dev", link))
		}
	}
	errs = append(errs, ip(ctx, "netns", "del", name))
	return errors.Join(errs...)
}

// linkNames reads the second word of each line of `ip -o link show`: "3: tap0@if2: <BROADCAST,...".
func linkNames(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); len(words) > 1 {
			name, _, _ := strings.Cut(strings.TrimSuffix(words[1], ":"), "@")
			names = append(names, name)
		}
	}
	return names
}

// endProcesses kills, by their ids, the processes whose network is the namespace, and waits until they are gone.
func endProcesses(ctx context.Context, name string) error {
	for {
		pids, err := processesIn(name)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d of rack %q: %w", pid, name, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the processes %v of rack %q: %w", pids, name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// processesIn lists the processes of the namespace, this one excepted. A process that has ended and waits for its
// parent has no namespace any more and is not listed.
func processesIn(name string) ([]int, error) {
	want, err := os.Stat(filepath.Join(namespaceDir, name))
	if err != nil {
		return nil, fmt.Errorf("list the processes of rack %q: %w", name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the processes of rack %q: %w", name, err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if got, err := os.Stat(filepath.Join("/proc", e.Name(), "ns", "net")); err == nil && os.SameFile(want, got) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Command is exec.CommandContext for a program inside the rack. The program leads a process group of its own, all of
// which is killed when ctx ends, and dies with this process. It must be started from a goroutine whose thread lives on:
// any that has not called runtime.LockOSThread does.
func (r *Rack) Command(ctx context.Context, name string, arg ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", r.config.Name, name}, arg...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Do calls f on a thread inside the rack's namespace. Sockets that f makes itself, not in goroutines it starts, belong to
// the rack and stay in it when used elsewhere: net.Listen and net.ListenPacket on a literal address do so.
func (r *Rack) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer close(done) // also when f calls runtime.Goexit
		done <- r.inside(f)
	}()
	return <-done
}

// inside leaves the thread locked, so that it ends with its goroutine, only when it cannot be brought back: ending a
// thread kills the processes that were started from it with a parent death signal.
func (r *Rack) inside(f func() error) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("enter rack %q: %w", r.config.Name, err)
	}
	defer home.Close()
	rack, err := os.Open(filepath.Join(namespaceDir, r.config.Name))
	if err != nil {
		return fmt.Errorf("enter rack %q: %w", r.config.Name, err)
	}
	defer rack.Close()

	runtime.LockOSThread()
	if err := unix.Setns(int(rack.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter rack %q: %w", r.config.Name, err)
	}
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// DialContext connects to an address inside the rack; it fits http.Transport.DialContext. The address must be literal:
// the rack has no name server.
func (r *Rack) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial %q inside rack %q: want a literal address and port: %w", addr, r.config.Name, err)
	}
	var conn net.Conn
	err := r.Do(func() (err error) {
		d := net.Dialer{FallbackDelay: -1}
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}
