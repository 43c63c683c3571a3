package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/broker"
)

// These tests are whole machines on real firmware. They run with MUSTER_LAB=1 (make test-lab), as root, on what
// `muster lab build` left in MUSTER_CACHE. They wait for events; the deadline only ends what hangs.
const lifeDeadline = 15 * time.Minute

// stage is a rack with a server and one machine that is off.
type stage struct {
	rack    *Rack
	server  *Server
	machine *Machine
	life    *Life
}

var stages int

// labCache is where muster lab build left its things.
func labCache() string {
	if cache := os.Getenv("MUSTER_CACHE"); cache != "" {
		return cache
	}
	return "../../.cache"
}

// labStage makes a rack of its own for the test. Everything in it ends with the test.
func labStage(t *testing.T, f Firmware, policies string, disk DiskConfig, args ...string) *stage {
	t.Helper()
	return namedStage(t, "mlife", f, policies, disk, args...)
}

// namedStage is a labStage whose rack's name begins so: two programs that make racks at the same time name them apart.
func namedStage(t *testing.T, name string, f Firmware, policies string, disk DiskConfig, args ...string) *stage {
	t.Helper()
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 (make test-lab)")
	}
	cache := labCache()
	stages++
	r, err := Up(t.Context(), Config{Name: fmt.Sprintf("%s%d", name, stages), Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	if len(args) == 0 {
		args = r.ServeArgs(f)
	}
	s, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: filepath.Join(cache, "ramdisk"), Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	image, err := os.Open(filepath.Join(cache, "image", debianImageName))
	if err != nil {
		t.Fatalf("%v: make test-lab builds it", err)
	}
	defer image.Close()
	if _, err := s.ImportImage(t.Context(), "debian-12", image); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), []byte(policies)); err != nil {
		t.Fatal(err)
	}
	m, err := r.Machine(MachineConfig{Name: string(f), Firmware: f, Serial: "LAB0001", Disks: []DiskConfig{disk}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLife(t.Context(), s, m, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	return &stage{r, s, m, l}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), lifeDeadline, fmt.Errorf("not within %s", lifeDeadline))
	t.Cleanup(cancel)
	return ctx
}

var blankDisk = DiskConfig{SizeBytes: 4 << 30, Serial: "LABDISK1"}

func TestLabLife(t *testing.T) {
	for _, f := range []Firmware{BIOS, UEFI, SecureBoot} {
		t.Run(string(f), func(t *testing.T) {
			s := labStage(t, f, Policies, blankDisk)
			t.Parallel()
			ctx := deadline(t)
			if err := s.life.On(); err != nil {
				t.Fatal(err)
			}
			node, err := s.life.Installed(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.life.CheckRoot(node.Hostname); err != nil {
				t.Error(err)
			}
			checkInstalled(t, s, node, f)
			for _, p := range s.life.Parts() {
				t.Logf("%7.1fs  %s", p.Took.Seconds(), p.Name)
			}
			// From now on every power-on is the disk's.
			if err := s.machine.Off(); err != nil {
				t.Fatal(err)
			}
			if err := s.life.On(); err != nil {
				t.Fatal(err)
			}
			if err := s.life.Login(ctx, node); err != nil {
				t.Fatal(err)
			}
			again, err := s.server.Node(ctx, node.ID)
			if err != nil || again.State != broker.Active || again.InstallSeq != node.InstallSeq {
				t.Errorf("after a power cycle: %v %s, %d installs; want active and %d", err, again.State, again.InstallSeq, node.InstallSeq)
			}
		})
	}
}

func checkInstalled(t *testing.T, s *stage, n *broker.Record, f Firmware) {
	t.Helper()
	if n.State != broker.Active || n.Policy != "lab" || n.Installed != "lab" || n.Hostname != "lab001.example.net" {
		t.Errorf("node is %s by policy %q, installed %q, named %q", n.State, n.Policy, n.Installed, n.Hostname)
	}
	if n.Facts.System == nil || n.Facts.System.Serial != "LAB0001" {
		t.Errorf("facts.system is %+v; want the serial LAB0001", n.Facts.System)
	}
	if len(n.Facts.Disks) != 1 || n.Facts.Disks[0].Serial != "LABDISK1" || n.Facts.Disks[0].SizeBytes != 4<<30 {
		t.Errorf("facts.disks is %+v; want LABDISK1 of 4 GiB", n.Facts.Disks)
	}
	mode := map[Firmware]string{BIOS: "bios", UEFI: "uefi", SecureBoot: "uefi"}[f]
	if n.Facts.Firmware == nil || n.Facts.Firmware.Mode != mode || (f == SecureBoot) != (n.Facts.Firmware.SecureBoot == "enabled") {
		t.Errorf("facts.firmware is %+v on %s", n.Facts.Firmware, f)
	}
	said, err := os.ReadFile(s.machine.Console())
	if err != nil {
		t.Fatal(err)
	}
	if enforced := bytes.Contains(said, []byte("Kernel is locked down from EFI Secure Boot")); enforced != (f == SecureBoot) {
		t.Errorf("the kernel says that it is locked down by Secure Boot: %t, on %s", enforced, f)
	}
	x, err := s.server.Explain(t.Context(), n.ID)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"policy":"ceph-osd","why":"passed over: node has not tag storage-heavy"`, `"policy":"lab","wins":true`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("explain lacks %s: %s", want, text)
		}
	}
}

// An image that changed on its way is never booted, and both sums are told.
func TestLabImageDiffers(t *testing.T) {
	s := labStage(t, BIOS, Policies, blankDisk)
	t.Parallel()
	ctx := deadline(t)
	promised := promiseAnother(t, s)
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.life.Until(ctx, "the end of the write", func(e broker.Event) bool {
		return e.Kind == broker.EventFailed || e.Kind == broker.EventStage
	}); err != nil {
		t.Fatal(err)
	}
	n, err := s.server.Node(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	if n.State != broker.DeployFailed || !strings.Contains(n.LastError, promised) || !regexp.MustCompile(`[0-9a-f]{64}.*[0-9a-f]{64}`).MatchString(n.LastError) {
		t.Errorf("node is %s: %q; want deploy failed with both sums, one %s", n.State, n.LastError, promised)
	}
	if head := readHead(t, s.machine.Disk(0)); !bytes.Equal(head, make([]byte, len(head))) {
		t.Error("the disk has a boot sector or partition table after a failed write")
	}
	if err := s.machine.Reset(); err != nil {
		t.Fatal(err)
	}
	e, err := s.life.Until(ctx, "the agent again", Kind(broker.EventOrder, "order wait: deploy failed"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("next boot: %s", e.Text)
}

// promiseAnother makes the repo promise a sum that its bytes do not have, and gives that sum.
func promiseAnother(t *testing.T, s *stage) string {
	t.Helper()
	images, err := filepath.Glob(filepath.Join(s.server.Images(), "*.img"))
	if err != nil || len(images) != 1 {
		t.Fatalf("images %v, %v", images, err)
	}
	sum := strings.TrimSuffix(filepath.Base(images[0]), ".img")
	wrong := strings.Repeat("0", 8) + sum[8:]
	if err := os.Rename(images[0], filepath.Join(s.server.Images(), wrong+".img")); err != nil {
		t.Fatal(err)
	}
	var repo broker.Repo
	var docs []json.RawMessage
	if err := s.server.Get(t.Context(), "/api/v1/objects/Repo", &docs); err != nil || len(docs) != 1 {
		t.Fatalf("repos %s, %v", docs, err)
	}
	if err := json.Unmarshal(docs[0], &repo); err != nil {
		t.Fatal(err)
	}
	repo.SHA256 = wrong
	doc, err := json.Marshal(repo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.server.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	return wrong
}

func readHead(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(f, head); err != nil {
		t.Fatal(err)
	}
	return head
}

// The broker is killed while the image is written, and started again: the machine still ends installed.
func TestLabBrokerKilled(t *testing.T) {
	s := labStage(t, BIOS, Policies, blankDisk)
	t.Parallel()
	ctx := deadline(t)
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	// Any part: on a fast machine few reports come, each after 2 s.
	if _, err := s.life.Until(ctx, "a part of the image", func(e broker.Event) bool {
		return regexp.MustCompile(`^write_image: write the image [1-9]0 %`).MatchString(e.Text)
	}); err != nil {
		t.Fatal(err)
	}
	s.server.Kill()
	pause(ctx, 3*time.Second)
	if err := s.server.Start(); err != nil {
		t.Fatal(err)
	}
	node, err := s.life.Installed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.life.CheckRoot(node.Hostname); err != nil {
		t.Error(err)
	}
	if node.InstallSeq != 1 {
		t.Errorf("the disk was written %d times; want once", node.InstallSeq)
	}
}

// A disk that holds partitions is not touched unless the policy says so. A second machine in the rack at the same
// time has no disk and a clock of 2099, and is known all the same: its certificates are judged by the right time (F44).
func TestLabDiskWithDataIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "used.raw")
	if err := os.WriteFile(path, usedDisk(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 4<<30); err != nil {
		t.Fatal(err)
	}
	s := labStage(t, BIOS, Policies, DiskConfig{Path: path, Serial: "USED1"})
	t.Parallel()
	ctx := deadline(t)
	second, err := s.rack.Machine(MachineConfig{Name: "second", MemoryMiB: 512, Extra: []string{"-rtc", "base=2099-01-01T00:00:00"}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewLife(ctx, s.server, second, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Life{s.life, other} {
		if err := l.On(); err != nil {
			t.Fatal(err)
		}
	}
	// It is protected and its disk holds data: it gives its facts and goes back to its own disk.
	if _, err := s.life.Until(ctx, "an order", Kind(broker.EventOrder, "order reboot: protected, and disk vda holds 1 partition")); err != nil {
		t.Fatal(err)
	}
	x, err := s.server.Explain(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	if why := x.Policies[1].Why; why != "passed over: disk vda holds 1 partition and the policy does not say wipe: true" {
		t.Errorf("policy lab: %s", why)
	}
	if !bytes.Equal(readHead(t, path)[:len(usedDisk())], usedDisk()) {
		t.Error("the disk was touched")
	}
	if _, err := other.Until(ctx, "the second machine's facts", Kind(broker.EventRegistered, "0 disks")); err != nil {
		t.Error(err)
	}
	if e, err := other.Until(ctx, "word of its clock", Kind(broker.EventClock, "")); err != nil || !regexp.MustCompile(`\d{5} days ahead`).MatchString(e.Text) {
		t.Errorf("its clock of 2099: %v, %q", err, e.Text)
	}
}

// usedDisk is the head of a disk with one MBR partition of type Linux.
func usedDisk() []byte {
	b := make([]byte, 512)
	copy(b[446:], []byte{0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0x10, 0})
	b[510], b[511] = 0x55, 0xaa
	return b
}

// Beside a DHCP server on another host, muster adds the boot fields and gives no address.
func TestLabProxy(t *testing.T) {
	const keep = "kind: Policy\nname: keep\nmatch: all\ntask: discover-only\napproval: automatic\n"
	s := labStage(t, UEFI, Policies, blankDisk, "--dhcp", "proxy", "--kernel-args", "console=ttyS0")
	t.Parallel()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Skip("no dnsmasq: apt-get install dnsmasq-base")
	}
	ctx := deadline(t)
	for _, p := range []string{"lab", "ceph-osd"} {
		if err := s.server.Do(ctx, http.MethodDelete, "/api/v1/objects/Policy/"+p, nil, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.server.Apply(ctx, []byte(keep)); err != nil {
		t.Fatal(err)
	}
	startSiteDHCP(t, s.rack, "dnsmasq", "", false)
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.life.Until(ctx, "the ramdisk to be kept", Kind(broker.EventOrder, "order wait: policy keep keeps it in the ramdisk")); err != nil {
		t.Fatal(err)
	}
	n, err := s.server.Node(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	if ip := n.Facts.NICs[0].IPv4; len(ip) != 1 || !strings.HasPrefix(ip[0], "10.77.0.15") {
		t.Errorf("the machine has %v; want an address of the other server's pool, 10.77.0.150-159", ip)
	}
}
