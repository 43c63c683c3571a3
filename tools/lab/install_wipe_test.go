package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

// keepPolicy takes every machine, whatever its disks hold, and leaves it in the ramdisk.
const keepPolicy = "kind: Policy\nname: keep\nmatch: all\ntask: discover-only\napproval: automatic\n"

// wipedDisks are what is cleaned, and one between them that is not; in fill, IMAGE stands for the path.
var wipedDisks = []struct {
	config DiskConfig
	named  bool
	fill   [][]string
}{
	{DiskConfig{SizeBytes: 512 * mib, Serial: "WIPEVIRTIO"}, true, [][]string{
		{"sgdisk", "--new=1:2048:526335", "--new=2:526336:0", "IMAGE"},
		{"mkfs.ext4", "-q", "-F", "-E", "offset=1048576", "IMAGE", "262144k"},
	}},
	{DiskConfig{SizeBytes: 256 * mib, Serial: "KEEPSATA", Bus: "sata"}, false, [][]string{{"mkfs.ext4", "-q", "-F", "-L", "precious", "IMAGE"}}},
	{DiskConfig{SizeBytes: 256 * mib, Serial: "WIPENVME", Bus: "nvme"}, true, [][]string{{"mkfs.btrfs", "-q", "IMAGE"}}},
}

// A machine with three disks of which an operator names two: on these wipefs finds nothing afterwards, and the third is
// byte for byte what it was, by this clean and by one that its disk refuses.
func TestLabInstallWipe(t *testing.T) {
	s := cleanStage(t, "mwipe", keepPolicy)
	installRow(t, "clean, of two disks of three", BIOS, "wiped; the third as it was")
	ctx := deadline(t)
	before := diskSum(t, s.machine.Disk(1))
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.life.Until(ctx, "the ramdisk to be kept", Kind(broker.EventOrder, "order wait: policy keep keeps it")); err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, d := range wipedDisks {
		if d.named {
			named = append(named, d.config.Serial)
		}
	}
	s.act(t, broker.Act{Verb: "clean", Wipe: true, Disks: named})
	ended, err := s.life.Until(ctx, "the end of the clean", func(e broker.Event) bool { return e.Data["from"] == string(broker.Cleaning) })
	if err != nil {
		t.Fatal(err)
	}
	if ended.Data["to"] != string(broker.Manageable) {
		t.Fatalf("the clean ended so: %s\n%s", ended.Text, s.life.Timeline())
	}
	// What the disks hold now is known without another boot.
	if _, err := s.life.Until(ctx, "the new facts", Kind(broker.EventFacts, "")); err != nil {
		t.Fatal(err)
	}
	n, err := s.server.Node(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range n.Facts.Disks {
		if holds := d.Table != "" || d.Content != nil || len(d.Partitions) > 0; holds != (d.Serial == "KEEPSATA") {
			t.Errorf("facts of disk %s after the clean: %+v", d.Name, d)
		}
	}
	// The erase of an ATA disk is not used: its clean fails, says what to do, and has touched nothing.
	s.act(t, broker.Act{Verb: "clean", Wipe: true, Method: facts.WipeSecure, Disks: []string{"KEEPSATA"}})
	if ended, err = s.life.Until(ctx, "the end of the second clean", func(e broker.Event) bool { return e.Kind == broker.EventFailed }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ended.Text, "use discard for an SSD, overwrite for a hard disk; no disk was touched") {
		t.Errorf("the second clean ended so: %s", ended.Text)
	}
	if err := s.machine.Off(); err != nil {
		t.Fatal(err)
	}
	for i, d := range wipedDisks {
		if left := wipefs(t, s.machine.Disk(i)); (left == "") != d.named {
			t.Errorf("disk %s: wipefs finds %q", d.config.Serial, left)
		}
	}
	if left := blkid(t, s.machine.Disk(0), mib, 256*mib); left != "" {
		t.Errorf("in what was the first partition blkid finds %s", left)
	}
	if after := diskSum(t, s.machine.Disk(1)); after != before {
		t.Errorf("the disk that nobody named changed: %s, was %s", after, before)
	}
}

// scrapPolicy wipes one disk of what it takes, whatever else is there.
const scrapPolicy = "kind: Policy\nname: scrap\nmatch: all\ntask: wipe\nwipe: true\ndisk: {serial: WIPENVME}\napproval: automatic\n"

// The task wipe on a machine of three disks: the one that fits the policy's hints holds nothing afterwards, the others are
// byte for byte what they were, and the node is active in the ramdisk.
func TestLabInstallWipeTask(t *testing.T) {
	s := cleanStage(t, "mscrap", scrapPolicy)
	installRow(t, "wipe, of one disk of three", BIOS, "wiped; the others as they were")
	ctx := deadline(t)
	before := []string{diskSum(t, s.machine.Disk(0)), diskSum(t, s.machine.Disk(1))}
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.life.Until(ctx, "the end of the task", Kind(broker.EventActive, "")); err != nil {
		t.Fatal(err)
	}
	if err := s.machine.Off(); err != nil {
		t.Fatal(err)
	}
	if left := wipefs(t, s.machine.Disk(2)); left != "" {
		t.Errorf("wipefs finds %q", left)
	}
	if diff := cmp.Diff(before, []string{diskSum(t, s.machine.Disk(0)), diskSum(t, s.machine.Disk(1))}); diff != "" {
		t.Errorf("disks that fit no hint (-before +after):\n%s", diff)
	}
}

// cleanStage is a rack with one machine whose disks hold something.
func cleanStage(t *testing.T, name, policy string) *stage {
	t.Helper()
	if os.Getenv("MUSTER_INSTALL") == "" {
		t.Skip("installs are tested with MUSTER_INSTALL=1 (make test-install)")
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
	server, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: filepath.Join(labCache(), "ramdisk"), Args: r.ServeArgs(BIOS)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	if _, err := server.Apply(t.Context(), []byte(policy)); err != nil {
		t.Fatal(err)
	}
	c := MachineConfig{Name: "full", Serial: "WIPE0001"}
	for _, d := range wipedDisks {
		c.Disks = append(c.Disks, d.config)
	}
	m, err := r.Machine(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range wipedDisks {
		for _, words := range d.fill {
			runOn(t, m.Disk(i), words)
		}
		if wipefs(t, m.Disk(i)) == "" {
			t.Fatalf("wipefs finds nothing on disk %s before", d.config.Serial)
		}
	}
	l, err := NewLife(t.Context(), server, m, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	return &stage{r, server, m, l}
}

func runOn(t *testing.T, image string, words []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), words[0])
	for _, w := range words[1:] {
		cmd.Args = append(cmd.Args, strings.ReplaceAll(w, "IMAGE", image))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
}

// act says an operator's word about the stage's machine.
func (s *stage) act(t *testing.T, a broker.Act) {
	t.Helper()
	if _, err := s.server.Act(t.Context(), s.life.MAC(), a); err != nil {
		t.Fatal(err)
	}
}

// wipefs is what that program finds on a disk.
func wipefs(t *testing.T, image string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "wipefs", "--no-act", "--parsable", image).CombinedOutput()
	if err != nil {
		t.Fatalf("wipefs: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// blkid is what that program finds in a part of a disk; it ends with 2 when that is nothing.
func blkid(t *testing.T, image string, off, n int64) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "blkid", "--probe", "--offset", fmt.Sprint(off), "--size", fmt.Sprint(n), image).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
		t.Fatalf("blkid: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func diskSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hexSum(h)
}

// A commander is a broker with orders and files for one machine.
type commander struct {
	files map[string][]byte

	mu      sync.Mutex
	orders  []facts.Order
	reports []facts.Report // but those of progress
}

// ServeHTTP implements http.Handler.
func (c *commander) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	file, serves := c.files[r.URL.Path]
	switch {
	case serves:
		_, _ = w.Write(file)
	case r.URL.Path == "/node/v1/checkin":
		_ = json.NewEncoder(w).Encode(facts.CheckInReply{Node: "run", Order: facts.Order{Kind: facts.OrderWait}})
	case r.URL.Path == "/node/v1/order" && len(c.orders) > 0:
		_ = json.NewEncoder(w).Encode(c.orders[0])
		c.orders = c.orders[1:]
	case r.URL.Path == "/node/v1/report":
		rep, err := facts.DecodeReport(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if rep.Status != facts.StatusProgress {
			c.reports = append(c.reports, *rep)
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// said is what the machine reported of an order at last.
func (c *commander) said(order int64) (last facts.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reports {
		if r.Order == order {
			last = r
		}
	}
	last.TimingMS = nil
	return last
}

// Programs in the real ramdisk, whose /bin/sh is gosh and gives scripts no arguments: one that works, one that fails, one that has to be killed with what it started, and one
// that is another than promised. Each is reported before the next is run; the last order switches the machine off.
func TestLabInstallRun(t *testing.T) {
	if os.Getenv("MUSTER_INSTALL") == "" {
		t.Skip("installs are tested with MUSTER_INSTALL=1 (make test-install)")
	}
	installRow(t, "programs, as firmware runs", "kernel", "reported; killed; refused")
	c := &commander{files: map[string][]byte{}}
	zero, three := 0, 3
	rows := []struct {
		script string
		limit  int64
		want   facts.Report
	}{
		{"#!/bin/sh\necho flashing slot $SLOT\necho done\n", 60, facts.Report{Status: facts.StatusDone, Message: "exit status 0: done",
			ExitStatus: &zero, Output: []string{"flashing slot 7", "done"}}},
		{"#!/bin/sh\necho this board is not known\nexit 3\n", 60, facts.Report{Status: facts.StatusFailed, Message: "exit status 3: this board is not known",
			ExitStatus: &three, Output: []string{"this board is not known"}}},
		{"#!/bin/sh\n/bin/sh -c 'while true; do true; done' &\nwhile true; do true; done\n", 2, facts.Report{Status: facts.StatusFailed,
			Message: "NAME: killed with all that it started, because it did not end in 2.0 s"}},
		{"#!/bin/sh\necho never\n", 60, facts.Report{Status: facts.StatusFailed, Message: "program sha256 is SUM; the broker promised LIE"}},
	}
	for i, row := range rows {
		sum := sha256.Sum256([]byte(row.script))
		name := hex.EncodeToString(sum[:])
		c.files["/content/"+name] = []byte(row.script)
		p := &facts.Program{Path: "/content/" + name, SHA256: name, SizeBytes: int64(len(row.script)), TimeoutSeconds: row.limit,
			Env: map[string]string{"SLOT": "7"}}
		if strings.Contains(row.want.Message, "LIE") {
			p.SHA256 = strings.Repeat("0", 64)
		}
		names := strings.NewReplacer("NAME", name, "SUM", name, "LIE", strings.Repeat("0", 64))
		rows[i].want.Message, rows[i].want.Order = names.Replace(row.want.Message), int64(i+1)
		c.orders = append(c.orders, facts.Order{ID: int64(i + 1), Kind: facts.OrderRun, Because: "a test", Program: p})
	}
	c.orders = append(c.orders, facts.Order{ID: int64(len(rows) + 1), Kind: facts.OrderPoweroff, Because: "the test is over"})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c}
	go func() { _ = server.Serve(l) }() // until it is closed
	defer server.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	images, _ := filepath.Glob(filepath.Join(labCache(), "ramdisk", "ramdisk.cpio*"))
	if len(images) != 1 {
		t.Fatalf("ramdisks %q; want one: make test-lab builds it", images)
	}
	b := aloneBoot{emulator: emulatesX64, kernel: filepath.Join(labCache(), "ramdisk", "vmlinuz"), ramdisk: images[0], mib: 512,
		args:  "quiet no_timer_check muster.token=run muster.server=http://10.0.2.2:" + port,
		there: regexp.MustCompile(`poweroff now`)}
	if _, err := b.run(t, 5*time.Minute); err != nil {
		t.Fatalf("%v; it reported %+v", err, c.reports)
	}
	for _, row := range rows {
		got := c.said(row.want.Order)
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("report of order %d (-want +got):\n%s", row.want.Order, diff)
		}
	}
}
