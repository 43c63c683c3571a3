package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
)

// installPolicies are the rack's policies, with parameters of the image task for the one that wins.
func installPolicies(params string) string { return Policies + "params: {" + params + "}\n" }

// A cell of the table is one install on one firmware, ended one way.
type installCell struct {
	firmware Firmware
	then     string // firmware or kexec
	cut      bool   // the link, while the image is written
	handoff  bool   // to a script, which fails once
}

// task is the row's name.
func (c installCell) task() string {
	name := "image, by " + c.then
	if c.cut {
		name += ", link cut"
	}
	if c.handoff {
		name += ", handoff"
	}
	return name
}

// The image task as it is: written, fitted to a larger disk, left through the firmware or by kexec, and grown at its first
// boot, each time up to a login prompt.
func TestLabInstallImage(t *testing.T) {
	if os.Getenv("MUSTER_INSTALL") == "" {
		t.Skip("installs are tested with MUSTER_INSTALL=1 (make test-install)")
	}
	for _, c := range []installCell{
		{firmware: BIOS, then: "firmware"}, {firmware: BIOS, then: "kexec", handoff: true}, {firmware: UEFI, then: "firmware"},
		{firmware: UEFI, then: "kexec"}, {firmware: SecureBoot, then: "kexec"}, {firmware: BIOS, then: "firmware", cut: true},
	} {
		t.Run(fmt.Sprintf("%s on %s", c.task(), c.firmware), func(t *testing.T) {
			installRow(t, c.task(), c.firmware, "its system asks for a login")
			c.run(t)
		})
	}
}

func (c installCell) run(t *testing.T) {
	policies := installPolicies("grow: last, then: " + c.then)
	if c.handoff {
		policies += "handoff: enrol\n---\n" + enrol
	}
	s := namedStage(t, "minst", c.firmware, policies, blankDisk)
	ctx := deadline(t)
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	if c.cut {
		cutLink(ctx, t, s)
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
	console, err := os.ReadFile(s.machine.Console())
	if err != nil {
		t.Fatal(err)
	}
	if kexec := bytes.Contains(console, []byte("muster [")) && bytes.Contains(console, []byte(" by boot/grub/grub.cfg: ")); kexec != (c.then == "kexec") {
		t.Errorf("a kernel was loaded by kexec: %t", kexec)
	}
	if asked := askedAgain(s.life.Events); asked != (c.then == "firmware") {
		t.Errorf("after the write, a loader asked what to start: %t", asked)
	}
	checkGrown(t, s)
	if c.handoff {
		checkHandoff(t, s, node)
	}
	if c.firmware != BIOS {
		checkBootEntry(t, s)
	}
}

// handoffSecret may be seen by the script of the handoff only.
const handoffSecret = "canary-4711-canary"

// enrol is a handoff to a server that is not ready at the first call.
const enrol = `kind: Handoff
name: enrol
type: script
config:
  secret: ` + handoffSecret + `
  script: |
    #!/bin/sh
    [ -e /root/tried ] || { touch /root/tried; echo "the server is not ready"; exit 7; }
    echo "enrolled $MUSTER_HOSTNAME with a secret of ${#MUSTER_SECRET} letters"
`

// checkHandoff wants the end of the second run in the journal, and the secret nowhere.
func checkHandoff(t *testing.T, s *stage, n *broker.Record) {
	t.Helper()
	var ran []string
	for _, e := range s.life.Events {
		if e.Kind == broker.EventHandoff && e.Data["status"] != "" {
			ran = append(ran, e.Data["status"]+": "+strings.TrimSpace(e.Data["log"]))
		}
	}
	want := []string{"7: the server is not ready", fmt.Sprintf("0: enrolled %s with a secret of %d letters", n.Hostname, len(handoffSecret))}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("runs of the handoff (-want +got):\n%s", diff)
	}
	for _, path := range []string{s.machine.Console(), s.server.Log()} {
		if said, err := os.ReadFile(path); err != nil || bytes.Contains(said, []byte(handoffSecret)) {
			t.Errorf("the secret is in %s, %v", path, err)
		}
	}
	if said := fmt.Sprintf("%+v", s.life.Events); strings.Contains(said, handoffSecret) {
		t.Error("the secret is in the journal")
	}
}

// askedAgain says whether firmware or a loader asked between the end of the write and the call of the installed system.
// UEFI is told by DHCP alone to boot its disk.
func askedAgain(events []broker.Event) bool {
	written := false
	for _, e := range events {
		switch {
		case Kind(broker.EventReport, "write_image done")(e):
			written = true
		case e.Kind == broker.EventActive:
			return false
		case written && (e.Kind == broker.EventTFTP || e.Data["what"] == "script" || e.Kind == broker.EventDHCP && strings.Contains(e.Text, "boot your disk")):
			return true
		}
	}
	return false
}

// cutLink takes the machine's cable out in the middle of the image, for longer than the agent waits for a byte.
func cutLink(ctx context.Context, t *testing.T, s *stage) {
	t.Helper()
	if _, err := s.life.Until(ctx, "a part of the image", func(e broker.Event) bool {
		return regexp.MustCompile(`^write_image: write the image [1-9]0 %`).MatchString(e.Text)
	}); err != nil {
		t.Fatal(err)
	}
	tap := s.machine.taps[0]
	for _, state := range []string{"down", "up"} {
		if out, err := s.rack.Command(ctx, "ip", "link", "set", tap, state).CombinedOutput(); err != nil {
			t.Fatalf("ip link set %s %s: %v: %s", tap, state, err, out)
		}
		if state == "down" {
			pause(ctx, 45*time.Second)
		}
	}
	if _, err := s.machine.WaitConsole(ctx, regexp.MustCompile(`stopped at byte \d+: .*; attempt \d+, going on in`)); err != nil {
		t.Error(err)
	}
}

// checkGrown reads the machine's disk: the last partition ends where the disk does, and so does the file system in it.
func checkGrown(t *testing.T, s *stage) {
	t.Helper()
	f, err := os.Open(s.machine.Disk(0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 512)
	if _, err := f.ReadAt(header, st.Size()-512); err != nil || string(header[:8]) != "EFI PART" {
		t.Errorf("no backup table at the end of the disk: %q, %v", header[:8], err)
	}
	out, err := s.rack.Command(t.Context(), "sgdisk", "-v", "-i", fmt.Sprint(debianRoot.number), s.machine.Disk(0)).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("No problems found")) {
		t.Errorf("sgdisk -v: %v: %s", err, out)
	}
	// The image's own systemd-repart takes what the agent left for the last MiB's boundary.
	var last int64
	if m := regexp.MustCompile(`Last sector: (\d+)`).FindSubmatch(out); m != nil {
		fmt.Sscan(string(m[1]), &last)
	}
	if last < st.Size()/512-2*2048 {
		t.Errorf("the last partition ends at sector %d; the disk has %d", last, st.Size()/512)
	}
	console, err := os.ReadFile(s.machine.Console())
	if err != nil || !regexp.MustCompile(`partition \d+ is as large as disk vda now`).Match(console) {
		t.Errorf("the agent did not grow the partition: %v", err)
	}
	super := make([]byte, 1024) // fs/ext4/ext4.h: struct ext4_super_block
	if _, err := f.ReadAt(super, int64(debianRoot.first)*sectorBytes+1024); err != nil {
		t.Fatal(err)
	}
	if size := int64(binary.LittleEndian.Uint32(super[4:])) << (10 + binary.LittleEndian.Uint32(super[24:])); size < st.Size()*9/10 {
		t.Errorf("the root file system has %d bytes of the disk's %d", size, st.Size())
	}
}

// checkBootEntry reads the firmware's own memory.
func checkBootEntry(t *testing.T, s *stage) {
	t.Helper()
	if err := s.machine.Off(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(s.machine.path("vars.fd"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := openVarStore(image)
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string][]byte{}
	if err := v.walk(func(at int, name string) {
		from := at + varHeaderSize + int(binary.LittleEndian.Uint32(v.bytes[at+36:]))
		vars[name] = v.bytes[from : from+int(binary.LittleEndian.Uint32(v.bytes[at+40:]))]
	}); err != nil {
		t.Fatal(err)
	}
	var ours []string
	for name, data := range vars {
		if strings.HasPrefix(name, "Boot0") && strings.Contains(fromUTF16(data[6:]), "muster: debian-12") {
			ours = append(ours, name)
		}
	}
	if len(ours) != 1 || !strings.Contains(fromUTF16(vars[ours[0]]), `\EFI\debian\shimx64.efi`) {
		t.Errorf("the firmware has the entries %q of muster; want one that starts shim", ours)
	}
	t.Logf("boot order % x, entries %q", vars["BootOrder"], ours)
}
