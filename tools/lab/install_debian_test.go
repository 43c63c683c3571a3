package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"muster/broker"
)

// debianInstaller is where the package debian-installer-12-netboot-amd64 has its kernel and initrd.
const debianInstaller = "/usr/lib/debian-installer/images/12/amd64/text"

// installerPolicy has no mirror to install from: the udebs that the installer loads after its preseed can not all be had.
const installerPolicy = `kind: Policy
name: installer
match: all
task: debian
repo: d-i
hostname: web{{.Seq}}.example.net
approval: automatic
params: {root_password: canary-of-root, mirror_host: "10.77.0.1:9", console: "ttyS0,115200n8"}
`

// TestLabInstallDebian boots Debian's own installer by the shipped task, up to where it would load the rest of itself: it
// fetches its preseed, runs early_command, tells its phases, and is given up with a reason when it asks for a mirror.
func TestLabInstallDebian(t *testing.T) {
	if os.Getenv("MUSTER_INSTALL") == "" {
		t.Skip("installs are tested with MUSTER_INSTALL=1 (make test-install)")
	}
	if _, err := os.Stat(debianInstaller); err != nil {
		t.Fatalf("%v: apt-get install debian-installer-12-netboot-amd64", err)
	}
	for _, f := range []Firmware{BIOS, UEFI} {
		t.Run(string(f), func(t *testing.T) {
			installRow(t, "debian", f, "d-i, up to the mirror it cannot reach")
			s := namedStage(t, "minst", f, Policies[:strings.Index(Policies, "---")], DiskConfig{SizeBytes: 16 << 30, Serial: "LABDISK1"})
			ctx := deadline(t)
			began := time.Now()
			imported := exec.CommandContext(ctx, "../../bin/muster", "repo", "import", "d-i", debianInstaller)
			imported.Env = append(os.Environ(), "MUSTER_SERVER=unix:"+s.server.Socket())
			if out, err := imported.CombinedOutput(); err != nil {
				t.Fatalf("repo import: %v\n%s", err, out)
			}
			if _, err := s.server.Apply(ctx, []byte(installerPolicy)); err != nil {
				t.Fatal(err)
			}
			if err := s.life.On(); err != nil {
				t.Fatal(err)
			}
			for _, want := range []struct{ kind, text string }{
				{broker.EventBound, "policy installer"}, {broker.EventHTTP, "repo/d-i/"}, {broker.EventRecipe, "preseed.cfg"},
				{broker.EventRecipe, "early.sh"}, {broker.EventPhase, "start"},
			} {
				if _, err := s.life.Until(ctx, fmt.Sprintf("%s of %s", want.kind, want.text), Kind(want.kind, want.text)); err != nil {
					t.Fatal(err)
				}
				t.Logf("%6.0f s  %s %s", time.Since(began).Seconds(), want.kind, want.text)
			}
			failed, err := s.life.Until(ctx, "the installer to be given up", Kind(broker.EventFailed, ""))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%6.0f s  %s", time.Since(began).Seconds(), failed.Text)
			if !strings.Contains(failed.Text, "mirror does not support the specified release") {
				t.Errorf("it was given up for %q", failed.Text)
			}
			if text := s.life.Timeline(); strings.Contains(text, "canary") {
				t.Errorf("the journal has the password:\n%s", text)
			}
		})
	}
}
