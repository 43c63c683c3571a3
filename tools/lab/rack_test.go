package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// upRack makes a rack that is gone after the test. It needs root, QEMU and the wish: MUSTER_LAB=1.
func upRack(t *testing.T, name string) *Rack {
	t.Helper()
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("MUSTER_LAB=1 is not set")
	}
	if err := checkHost(hostRequirements); err != nil {
		t.Skip(err)
	}
	r, err := Up(t.Context(), Config{Name: name, Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func addMachine(t *testing.T, r *Rack, c MachineConfig) *Machine {
	t.Helper()
	m, err := r.Machine(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// networkTried is what each firmware says on the serial port once it has asked the network in vain.
var networkTried = map[Firmware]*regexp.Regexp{
	BIOS:       regexp.MustCompile(`No more network devices`),
	UEFI:       regexp.MustCompile(`failed to load Boot0080 "Network 0"`),
	SecureBoot: regexp.MustCompile(`failed to load Boot0080 "Network 0"`),
}

// diskTried is what each says when it turns to an empty disk.
var diskTried = map[Firmware]*regexp.Regexp{
	BIOS:       regexp.MustCompile(`Booting from Hard Disk`),
	UEFI:       regexp.MustCompile(`failed to load Boot0081 "Disk"`),
	SecureBoot: regexp.MustCompile(`failed to load Boot0081 "Disk"`),
}

// TestFirmwareTriesNetworkThenDisk switches on a machine for each firmware, all at once, in a rack without any server.
func TestFirmwareTriesNetworkThenDisk(t *testing.T) {
	r := upRack(t, "mustert0")
	for i, fw := range Firmwares {
		m := addMachine(t, r, MachineConfig{
			Name: string(fw), Firmware: fw, MemoryMiB: 256,
			Serial: "ABC,123", Manufacturer: "Dell Inc.", Product: "R640",
			Disks: []DiskConfig{{SizeBytes: 64 << 20, Bus: []string{"virtio", "nvme", "sata"}[i]}},
		})
		t.Run(string(fw), func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			if err := m.On(); err != nil {
				t.Fatal(err)
			}
			ctx := deadline(t)
			for _, want := range []*regexp.Regexp{networkTried[fw], diskTried[fw]} {
				line, err := m.WaitConsole(ctx, want)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%5.1f s: %s", time.Since(start).Seconds(), line)
			}
			if err := m.Off(); err != nil || m.Running() {
				t.Errorf("Off() = %v, Running() = %v; want nil, false", err, m.Running())
			}
		})
	}
}

// TestMachineObeysItsButtons drives one machine through its switches; SeaBIOS says its name at once.
func TestMachineObeysItsButtons(t *testing.T) {
	r := upRack(t, "mustert1")
	m := addMachine(t, r, MachineConfig{Name: "a", MemoryMiB: 128, MACs: []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}})
	ctx := deadline(t)
	banner := regexp.MustCompile(`^SeaBIOS \(version`)
	sees := func(what string) {
		t.Helper()
		if _, err := m.WaitConsole(ctx, banner); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	if err := m.Reset(); err == nil {
		t.Error("Reset() of a machine that is off = nil; want an error")
	}
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	sees("On")
	if err := m.On(); err == nil {
		t.Error("a second On() = nil; want an error")
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	sees("Reset")
	for _, plugged := range []bool{false, true} {
		if err := m.SetLink(1, plugged); err != nil {
			t.Error(err)
		}
	}
	status, err := m.QMP(ctx, "query-status", nil)
	if err != nil || !strings.Contains(string(status), `"running"`) {
		t.Errorf("query-status = %s, %v; want running", status, err)
	}
	pid := m.run.pid
	if err := m.Off(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("QEMU %d is there after Off", pid)
	}
	if _, err := m.WaitConsole(ctx, banner); err == nil || !strings.Contains(err.Error(), "machine is off") || !strings.Contains(err.Error(), "SeaBIOS") {
		t.Errorf("WaitConsole on a machine that is off: %v; want so, with its last lines", err)
	}
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	sees("On again")
	if _, err := m.QMP(ctx, "quit", nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(ctx); err != nil || m.Running() {
		t.Errorf("Wait() = %v, Running() = %v; want the end of QEMU to be seen", err, m.Running())
	}
	log, err := os.ReadFile(m.Console())
	if got := strings.Count(string(log), "SeaBIOS (version"); err != nil || got != 3 {
		t.Errorf("the console shows %d starts, %v; want 3", got, err)
	}
}

// TestMachineThatCannotStartSaysWhy: QEMU's own words are in the error.
func TestMachineThatCannotStartSaysWhy(t *testing.T) {
	r := upRack(t, "mustert2")
	m := addMachine(t, r, MachineConfig{Name: "a", Extra: []string{"-device", "no-such-device"}})
	if err := m.On(); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("On() = %v; want QEMU's words about no-such-device", err)
	}
	if m.Running() {
		t.Error("Running() = true; want false")
	}
}

// TestRackIsReachedFromThisProcess: a server inside, a client outside, and the host's own network between them.
func TestRackIsReachedFromThisProcess(t *testing.T) {
	r := upRack(t, "mustert3")
	ctx := deadline(t)
	var inside net.Listener
	if err := r.Do(func() (err error) {
		inside, err = net.Listen("tcp", net.JoinHostPort(r.Addr().String(), "0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	go server.Serve(inside)
	t.Cleanup(func() { server.Close() })

	client := http.Client{Transport: &http.Transport{DialContext: r.DialContext, DisableKeepAlives: true}}
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+inside.Addr().String(), nil)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "hello" || err != nil {
		t.Errorf("GET = %q, %v; want hello", body, err)
	}
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", inside.Addr().String()); err == nil {
		conn.Close()
		t.Error("the server is reached from the host's network, too; want it inside alone")
	}
	if _, err := r.DialContext(ctx, "tcp", "localhost:1"); err == nil || !strings.Contains(err.Error(), "literal address") {
		t.Errorf("DialContext of a name = %v; want literal address", err)
	}
	out, err := r.Command(ctx, "ip", "-o", "link").Output()
	if names := linkNames(string(out)); err != nil || len(names) != 2 || names[0] != "lo" || names[1] != Bridge {
		t.Errorf("interfaces = %q, %v; want lo and %s", names, err, Bridge)
	}
}

// TestCommandEndsWithItsGroup: what a command started goes when its context ends.
func TestCommandEndsWithItsGroup(t *testing.T) {
	r := upRack(t, "mustert4")
	ctx, cancel := context.WithCancel(deadline(t))
	cmd := r.Command(ctx, "sh", "-c", "sleep 1000 & echo up; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, 3))
	if pids, err := processesIn(r.Name()); len(pids) != 2 || err != nil {
		t.Errorf("processes of the rack = %v, %v; want the shell and its sleep", pids, err)
	}
	cancel()
	cmd.Wait()
	if pids := remaining(r.Name(), 0); len(pids) != 0 {
		t.Errorf("processes of the rack = %v; want none", pids)
	}
}

// remaining waits until no more processes than that are left, for a minute at most, and gives those that are.
func remaining(rack string, most int) (pids []int) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // a kill needs its moment
		if pids, _ = processesIn(rack); len(pids) <= most || time.Now().After(end) {
			return pids
		}
	}
}

// TestDownLeavesNothing: neither namespace nor process, whether a rack is taken down or its process is killed.
func TestDownLeavesNothing(t *testing.T) {
	const name = "mustert5"
	r := upRack(t, name)
	m := addMachine(t, r, MachineConfig{Name: "a", MemoryMiB: 64})
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	stray := r.Command(t.Context(), "setsid", "sleep", "1000")
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	go stray.Wait()
	if _, err := Up(t.Context(), r.config); err == nil || !strings.Contains(err.Error(), "holds it") {
		t.Errorf("a second Up() = %v; want that this process holds it", err)
	}
	pid := m.run.pid
	for range 2 {
		if err := r.Down(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(namespaceDir, name)); err == nil {
		t.Error("the namespace is there after Down")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("QEMU %d is there after Down", pid)
	}
	if _, err := r.Machine(MachineConfig{Name: "b"}); err == nil {
		t.Error("Machine() after Down = nil; want an error")
	}
}

// TestKilledRunIsCleanedUp kills a process that holds a rack with a machine and a stray, and takes the name over.
func TestKilledRunIsCleanedUp(t *testing.T) {
	const name = "mustert6"
	if dir := os.Getenv("MUSTER_LAB_VICTIM"); dir != "" {
		victim(t, name, dir)
		return
	}
	upRack(t, name).Down() // only to skip where it cannot be
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledRunIsCleanedUp$")
	child.Env = append(os.Environ(), "MUSTER_LAB_VICTIM="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	if pids, err := processesIn(name); len(pids) != 2 || err != nil {
		t.Errorf("processes of the rack = %v, %v; want QEMU and the stray", pids, err)
	}
	child.Process.Kill()
	child.Wait()
	if pids := remaining(name, 1); len(pids) > 1 {
		t.Errorf("processes after the kill = %v; want the stray alone", pids)
	}
	r := upRack(t, name)
	if pids, err := processesIn(name); len(pids) != 0 || err != nil {
		t.Errorf("processes of the new rack = %v, %v; want none", pids, err)
	}
	if out, err := r.Command(t.Context(), "ip", "-o", "link").Output(); len(linkNames(string(out))) != 2 {
		t.Errorf("interfaces of the new rack = %s, %v; want lo and the bridge", out, err)
	}
}

func victim(t *testing.T, name, dir string) {
	r, err := Up(t.Context(), Config{Name: name, Dir: dir, Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	m := addMachine(t, r, MachineConfig{Name: "a", MemoryMiB: 64})
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	// The stray says when it has left the group of what started it, which ends then.
	const stray = "mkfifo $0; setsid sh -c 'echo out >$0; exec sleep 1000' $0 & read word <$0"
	if err := r.Command(t.Context(), "sh", "-c", stray, filepath.Join(dir, "stray")).Run(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("up")
	select {}
}

func TestUpRefusesBadConfigs(t *testing.T) {
	prefix := netip.MustParsePrefix("10.77.0.1/24")
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"a name with a slash is refused", Config{Name: "a/b", Dir: "x", Prefix: prefix}, `name a rack "a/b"`},
		{"a name too long for an interface is refused", Config{Name: "muster-lab-1", Dir: "x", Prefix: prefix}, "1 to 10"},
		{"a missing directory is refused", Config{Name: "a", Prefix: prefix}, "no directory"},
		{"the network itself is no address", Config{Name: "a", Dir: "x", Prefix: netip.MustParsePrefix("10.77.0.0/24")}, "inside its network"},
		{"IPv6 is refused", Config{Name: "a", Dir: "x", Prefix: netip.MustParsePrefix("fd00::1/64")}, "IPv4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.c.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check() = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestCheckHostNamesAllThatIsMissing(t *testing.T) {
	no, yes := func() bool { return false }, func() bool { return true }
	err := checkHost([]requirement{
		{what: "root", fix: "run as root", met: no},
		{what: "ip", pkg: "iproute2", met: yes},
		{what: "qemu", pkg: "qemu-system-x86", met: no},
		{what: "OVMF", pkg: "ovmf", met: no},
	})
	const want = "make a rack here: missing root, qemu, OVMF: run as root; apt-get install --no-install-recommends qemu-system-x86 ovmf"
	if err == nil || err.Error() != want {
		t.Errorf("checkHost() = %v\nwant %s", err, want)
	}
	if err := checkHost([]requirement{{what: "ip", met: yes}}); err != nil {
		t.Errorf("checkHost() with all there = %v; want nil", err)
	}
}
