package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"muster/agent/facts"
	"muster/broker"
)

// A stepCell is a task that installs nothing, on one firmware.
type stepCell struct {
	firmware Firmware
	policy   string                           // the policy's own lines, beside its name, match and approval
	good     string                           // the row's result when the machine did what it should
	machine  func(t *testing.T) MachineConfig // if nil, one whose disk says that it is started
	ramdisk  string                           // directory; if empty, the lab's
	loaders  []served                         // the operator's
	repo     string                           // path of what is imported as update
}

// stepsOnly skips a test that was not asked for.
func stepsOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("MUSTER_INSTALL") == "" {
		t.Skip("installs are tested with MUSTER_INSTALL=1 (make test-install)")
	}
}

// stepTable boots every cell.
func stepTable(t *testing.T, cells []stepCell, run func(ctx context.Context, t *testing.T, s *stage, c stepCell)) {
	t.Helper()
	for _, c := range cells {
		task := strings.Fields(c.policy)[1]
		t.Run(fmt.Sprintf("%s on %s", task, c.firmware), func(t *testing.T) {
			installRow(t, task, c.firmware, c.good)
			s := stepStage(t, c)
			if err := s.life.On(); err != nil {
				t.Fatal(err)
			}
			run(deadline(t), t, s, c)
		})
	}
}

// stepStage is a rack with the cell's machine, which the cell's policy takes whatever its disks hold.
func stepStage(t *testing.T, c stepCell) *stage {
	t.Helper()
	stages++
	r := upRack(t, fmt.Sprintf("mstep%d", stages))
	if c.ramdisk == "" {
		c.ramdisk = filepath.Join(labCache(), "ramdisk")
	}
	loaders := (&cellBoot{cell: cell{files: c.loaders}}).loaders(t)
	server, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: c.ramdisk, Args: append(r.ServeArgs(BIOS), "--loaders", loaders)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	if c.repo != "" {
		f, err := os.Open(c.repo)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := server.ImportImage(t.Context(), "update", f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Apply(t.Context(), []byte("kind: Policy\nname: step\nmatch: all\napproval: automatic\n"+c.policy)); err != nil {
		t.Fatal(err)
	}
	var config MachineConfig
	if c.machine != nil {
		config = c.machine(t)
	}
	config.Name, config.Firmware = "m", c.firmware
	if len(config.Disks) == 0 {
		config.Disks = []DiskConfig{{Path: speakingDisk(t, c.firmware)}}
	}
	m := addMachine(t, r, config)
	l, err := NewLife(t.Context(), server, m, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	return &stage{r, server, m, l}
}

// done waits until the node is active by its task, and gives it.
func (s *stage) done(ctx context.Context, t *testing.T) *broker.Record {
	t.Helper()
	e, err := s.life.Until(ctx, "the task to be done", func(e broker.Event) bool { return e.Kind == broker.EventActive || e.Kind == broker.EventFailed })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(e.Text, "is done") {
		t.Fatalf("the task ended so: %s\n%s", e.Text, s.machine.Tail(40))
	}
	n, err := s.server.Node(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	if n.State != broker.Active {
		t.Errorf("the node is %s after %q", n.State, e.Text)
	}
	return n
}

// says waits for a line of the machine's console.
func (s *stage) says(ctx context.Context, t *testing.T, re *regexp.Regexp) string {
	t.Helper()
	line, err := s.machine.WaitConsole(ctx, re)
	if err != nil {
		t.Fatalf("%v; the timeline:\n%s", err, s.life.Timeline())
	}
	return line
}

// diskNext restarts the machine, which must then start its disk.
func (s *stage) diskNext(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := s.machine.Reset(); err != nil {
		t.Fatal(err)
	}
	s.says(ctx, t, diskSays)
}

// memtestEFI is what memtestLinux is for UEFI.
var memtestEFI = served{"memtest.efi", memtestPlus, "boot/memtest86+x64.efi"}

// The memory test tests the machine's memory, and goes on to its next test; the boot after it is the disk's. On UEFI it
// asks the firmware for a display, and ends without one.
func TestLabInstallMemtest(t *testing.T) {
	stepsOnly(t)
	const policy = "task: memtest\nparams: {console: \"ttyS0,115200\"}\n"
	loaders := []served{memtestLinux, memtestEFI}
	small := func(*testing.T) MachineConfig {
		return MachineConfig{MemoryMiB: 384, Extra: []string{"-device", "VGA"}}
	}
	stepTable(t, []stepCell{
		{firmware: BIOS, policy: policy, good: "it tests", loaders: loaders, machine: small},
		{firmware: UEFI, policy: policy, good: "it tests", loaders: loaders, machine: small},
	}, func(ctx context.Context, t *testing.T, s *stage, _ stepCell) {
		s.done(ctx, t)
		for _, shown := range []string{`Memtest86\+ v6\.10`, `of 3[0-9]{2}MB\]`, `#[0-9]+ +\[`} {
			t.Log(s.says(ctx, t, regexp.MustCompile(shown)))
		}
		s.diskNext(ctx, t)
	})
}

// An installed system that muster never saw is taken as it is: its disk is started, and nothing was ever written to it.
func TestLabInstallLocal(t *testing.T) {
	stepsOnly(t)
	stepTable(t, []stepCell{
		{firmware: BIOS, policy: "task: local\n", good: "login", machine: debianMachine},
		{firmware: UEFI, policy: "task: local\n", good: "login", machine: debianMachine},
	}, func(ctx context.Context, t *testing.T, s *stage, _ stepCell) {
		s.done(ctx, t)
		s.says(ctx, t, regexp.MustCompile(`^debian login:`))
		if n, err := s.server.Node(ctx, s.life.MAC()); err != nil || n.State != broker.Active || n.InstallSeq != 0 {
			t.Errorf("in the end the node is %+v, %v; want active, and never installed", n, err)
		}
	})
}

// debianMachine has the lab's Debian on its disk, as another tool would have installed it.
func debianMachine(t *testing.T) MachineConfig {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "debian.raw")
	unpackImage(t, filepath.Join(labCache(), "image", debianImageName), disk, 2<<30)
	return MachineConfig{Disks: []DiskConfig{{Path: disk}}}
}

// rescueSSH is the discovery ramdisk with an sshd for the holder of a key.
func rescueSSH(t *testing.T) (ramdisk, key string) {
	t.Helper()
	deb, err := FetchKernel(t.Context(), filepath.Join(labCache(), "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ramdisk, key = filepath.Join(dir, "ramdisk"), filepath.Join(dir, "key")
	muster(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	muster(t, "ramdisk", "build", "--source", "../..", "--kernel", deb, "--modules", "vm", "--ssh-key", key+".pub", "-o", ramdisk)
	return ramdisk, key
}

// A person comes in with the ramdisk's key, to the host whose key the journal tells, and restarts the machine when the
// work is done: the disk is next.
func TestLabInstallRescue(t *testing.T) {
	stepsOnly(t)
	ramdisk, key := rescueSSH(t)
	stepTable(t, []stepCell{
		{firmware: BIOS, policy: "task: rescue\n", good: "ssh, then the disk", ramdisk: ramdisk},
		{firmware: UEFI, policy: "task: rescue\n", good: "ssh, then the disk", ramdisk: ramdisk},
	}, func(ctx context.Context, t *testing.T, s *stage, c stepCell) {
		n := s.done(ctx, t)
		open := regexp.MustCompile(`rescue done: ssh (root@10\.77\.[0-9.]+); host key (SHA256:\S+)`).FindStringSubmatch(s.life.Timeline())
		if open == nil {
			t.Fatalf("nobody is told how to come in:\n%s", s.life.Timeline())
		}
		known := filepath.Join(s.rack.Dir(), "known_hosts")
		ssh := func(words ...string) (string, error) {
			cmd := s.rack.Command(ctx, "ssh", append([]string{"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
				"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + known,
				"-o", "ConnectTimeout=60", "-o", "ConnectionAttempts=30", "-o", "ServerAliveInterval=5", open[1]}, words...)...)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		if out, err := ssh("cat", "/proc/cmdline", "/sys/class/block/vda/size"); err != nil || !strings.Contains(out, "muster.server=") || strings.Contains(out, "muster.sshd") {
			t.Errorf("ssh: %v\n%s\nwant the kernel's line, without muster.sshd", err, out)
		}
		if shown := muster(t, "ssh-keygen", "-l", "-f", known); !strings.Contains(shown, open[2]) {
			t.Errorf("the host key is %s; the journal said %s", shown, open[2])
		}
		if n.Order.Kind != facts.OrderWait {
			t.Errorf("while people are in it, its order is %s: %s", n.Order.Kind, n.Order.Because)
		}
		_, _ = ssh("shutdown", "reboot") // it says no farewell: the client gives up when the machine answers no more
		s.says(ctx, t, diskSays)
	})
}

// flasher is a maker's update: it says what it was given, and ends as it was told to.
const flasher = `package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	fmt.Printf("board %s, arguments %q\n", os.Getenv("BOARD"), os.Args[1:])
	status, _ := strconv.Atoi(os.Args[1])
	fmt.Fprintf(os.Stderr, "ends with %d\n", status)
	os.Exit(status)
}
`

// A program is run, and its end is the task's: done when its status is no failure, and then the disk is next; failed with
// its last lines, and then the ramdisk is.
func TestLabInstallFirmware(t *testing.T) {
	stepsOnly(t)
	source, program := filepath.Join(t.TempDir(), "flasher.go"), filepath.Join(t.TempDir(), "flasher")
	if err := os.WriteFile(source, []byte(flasher), 0o600); err != nil {
		t.Fatal(err)
	}
	muster(t, "go", "build", "-o", program, source)
	const policy = "task: firmware\nrepo: update\nparams: {args: [%q, \"a b\"], env: [BOARD=X11], ok: [\"3\"]}\n"
	stepTable(t, []stepCell{
		{firmware: BIOS, policy: fmt.Sprintf(policy, "0"), good: "status 0: done", repo: program},
		{firmware: UEFI, policy: fmt.Sprintf(policy, "3"), good: "status 3, which is ok: done", repo: program},
		{firmware: UEFI, policy: fmt.Sprintf(policy, "4"), good: "status 4: failed", repo: program},
	}, func(ctx context.Context, t *testing.T, s *stage, c stepCell) {
		status := c.good[len("status "):][:1]
		ended, err := s.life.Until(ctx, "the end of the program", func(e broker.Event) bool { return e.Kind == broker.EventReport && e.Data["output"] != "" })
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("board X11, arguments [%q \"a b\"]\nends with %s", status, status); ended.Data["output"] != want || ended.Data["exit_status"] != status {
			t.Errorf("the program ended with status %s, and said:\n%s\nwant:\n%s", ended.Data["exit_status"], ended.Data["output"], want)
		}
		if !strings.HasSuffix(c.good, "failed") {
			s.done(ctx, t)
			s.says(ctx, t, diskSays)
			return
		}
		if _, err := s.life.Until(ctx, "the failure", Kind(broker.EventFailed, "exit status 4: ends with 4")); err != nil {
			t.Fatal(err)
		}
		if err := s.machine.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.life.Until(ctx, "the ramdisk again", Kind(broker.EventOrder, "order wait: deploy failed: exit status 4")); err != nil {
			t.Fatal(err)
		}
	})
}
