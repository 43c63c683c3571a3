package broker_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

const installDocs = `kind: Task
name: site
files:
  task.yaml: |
    name: site
    summary: an installer for tests
    repo: tree
    disk: true
    min_disk: 1000
    parameters:
      root_password: {type: password, summary: of root}
      timezone: {summary: where it stands, default: UTC}
    recipes:
      - {name: answers.preseed}
    stages:
      - name: install
        step: kernel
        deadline: 1h
        args: ["auto=true", "url={{.File \"answers.preseed\" | arg}}", "{{if .Handoff}}never=1{{end}}"]
      - {name: first-boot, step: local, deadline: 10m}
  answers.preseed: |
    d-i passwd/root-password-crypted password {{.Crypt .Param.root_password | preseed}}
    d-i partman-auto/disk string {{.Disk.Path | preseed}}
    d-i time/zone string {{.Param.timezone | preseed}}
    d-i preseed/late_command string wget -O - {{.Done | sh}} {{.Log | sh}} {{.DoneNext | sh}}
---
kind: Repo
name: mirror
url: http://192.0.2.9/debian/
kernel: linux
initrds: [initrd.gz]
---
kind: Policy
name: web
match: all
task: site
repo: mirror
approval: automatic
params: {root_password: canary-of-root}
---
`

// clocked is a broker whose time the test moves.
func clocked(t *testing.T, cfg broker.Config) (*broker.Broker, *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	cfg.Now = func() time.Time { return now }
	b := bareBroker(t, cfg)
	mustApply(t, b, ramdiskDoc("default", "amd64", "")+"---\n"+installDocs)
	return b, &now
}

const installMAC = "52:54:00:dd:00:02"

func installFacts(m string) *facts.Facts {
	return &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: m, Bus: "pci"}},
		Disks: []facts.Disk{{ID: "naa.5000c500a1b2c3d4", Name: "sda", WWN: "naa.5000c500a1b2c3d4", SizeBytes: 1 << 30}}}
}

// booted is the boot script's step of a node that is being installed.
func bootedStep(t *testing.T, b *broker.Broker, m string) boot.Step {
	t.Helper()
	step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m), Kind: boot.KindIPXE})
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// fetchToken is the token in a step's url=.
func fetchToken(t *testing.T, s boot.Step) string {
	t.Helper()
	_, rest, ok := strings.Cut(s.Args.Get("url"), "/node/v1/install/")
	token, _, _ := strings.Cut(rest, "/")
	if !ok || token == "" {
		t.Fatalf("no token in %v", s.Args)
	}
	return token
}

func TestAnInstallByAnInstaller(t *testing.T) {
	b, _ := clocked(t, broker.Config{})
	n := registered(t, b, installMAC, installFacts(installMAC))
	if n.State != broker.WaitCallBack || n.Order.Kind != facts.OrderReboot {
		t.Fatalf("state %s, order %+v", n.State, n.Order)
	}
	step := bootedStep(t, b, installMAC)
	if step.Kind != boot.StepKernel || step.Kernel != "repo/mirror/linux" || fmt.Sprint(step.Initrds) != "[repo/mirror/initrd.gz]" || step.Args.Get("auto") != "true" || len(step.Args) != 2 {
		t.Fatalf("the installer's step: %+v", step)
	}
	text, err := b.Recipe(t.Context(), fetchToken(t, step), "answers.preseed", netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"password $6$", "string /dev/disk/by-id/wwn-0x5000c500a1b2c3d4\n", "/done/install' ", "/log/install' ", "/done/first-boot'\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "canary") {
		t.Errorf("the password stands in clear:\n%s", text)
	}
	_, rest, _ := strings.Cut(text, "/node/v1/install/")
	report, _, _ := strings.Cut(rest, "/")
	for _, call := range []struct {
		what  string
		do    func() error
		state broker.State
		stage int
	}{
		{"the first boot is told of before the install is over", func() error { return denied(b.EndStage(t.Context(), report, "first-boot", nil)) }, broker.WaitCallBack, 1},
		{"a phase", func() error { return b.PhaseInstall(t.Context(), report, "partition") }, broker.WaitCallBack, 1},
		{"a line of the log", func() error { return b.LogInstall(t.Context(), report, "install", "warn", "disk\x1b[31m is slow") }, broker.WaitCallBack, 1},
		{"the token of recipes ends nothing", func() error { return denied(b.EndStage(t.Context(), fetchToken(t, step), "install", nil)) }, broker.WaitCallBack, 1},
		{"the token of reports fetches nothing", func() error { return refusedRecipe(t, b, report) }, broker.WaitCallBack, 1},
		{"the end of the install", func() error { return b.EndStage(t.Context(), report, "install", nil) }, broker.WaitCallBack, 2},
		{"the same again", func() error { return denied(b.EndStage(t.Context(), report, "install", nil)) }, broker.WaitCallBack, 2},
		{"recipes after it", func() error { return refusedRecipe(t, b, fetchToken(t, step)) }, broker.WaitCallBack, 2},
		{"a log of the stage before", func() error { return denied(b.LogInstall(t.Context(), report, "install", "", "x")) }, broker.WaitCallBack, 2},
		{"the first boot", func() error { return b.EndStage(t.Context(), report, "first-boot", nil) }, broker.Active, 0},
		{"a failure after it", func() error { return denied(b.FailInstall(t.Context(), report, "first-boot", "late")) }, broker.Active, 0},
	} {
		if err := call.do(); err != nil {
			t.Errorf("%s: %v", call.what, err)
		}
		if n = node(t, b, n.ID); n.State != call.state || n.Stage != call.stage {
			t.Fatalf("%s: state %s, stage %d; want %s, %d", call.what, n.State, n.Stage, call.state, call.stage)
		}
	}
	if n.LastLog != "disk?[31m is slow" {
		t.Errorf("the last line is %q", n.LastLog)
	}
}

func denied(err error) error {
	if errors.Is(err, broker.ErrDenied) {
		return nil
	}
	return fmt.Errorf("%v; want a refusal", err)
}

func refusedRecipe(t *testing.T, b *broker.Broker, token string) error {
	text, err := b.Recipe(t.Context(), token, "answers.preseed", netip.Addr{})
	if text != "" {
		return fmt.Errorf("%d bytes were given", len(text))
	}
	return denied(err)
}

// T9: a recipe is for the token of the boot that fetches it, in its time, and for the address that has the lease.
func TestT9RecipesAreForTheInstallUnderWay(t *testing.T) {
	lease := boot.MAC{}
	b, now := clocked(t, broker.Config{Owner: func(netip.Addr) boot.MAC { return lease }})
	n := registered(t, b, installMAC, installFacts(installMAC))
	token := fetchToken(t, bootedStep(t, b, installMAC))
	get := func() error {
		_, err := b.Recipe(t.Context(), token, "answers.preseed", netip.MustParseAddr("192.0.2.77"))
		return err
	}
	lease = mac(t, "52:54:00:dd:00:99")
	if err := denied(get()); err != nil {
		t.Errorf("for another's address: %v", err)
	}
	lease = mac(t, installMAC)
	if err := get(); err != nil {
		t.Errorf("for its own: %v", err)
	}
	for _, wrong := range []string{"", "node1", n.ID + ".1.00", strings.Replace(token, n.ID+".", n.ID+"9.", 1), token + "0", strings.Repeat("x", 200)} {
		if _, err := b.Recipe(t.Context(), wrong, "answers.preseed", netip.Addr{}); denied(err) != nil {
			t.Errorf("token %q: %v", wrong, err)
		}
	}
	if _, err := b.Recipe(t.Context(), token, "task.yaml", netip.Addr{}); denied(err) != nil {
		t.Errorf("a file that is no recipe: %v", err)
	}
	if _, err := b.Do(t.Context(), n.ID, broker.Act{Verb: "hold", Who: "t"}); err != nil {
		t.Fatal(err)
	}
	if err := denied(get()); err != nil {
		t.Errorf("on hold: %v", err)
	}
	if _, err := b.Do(t.Context(), n.ID, broker.Act{Verb: "release", Who: "t"}); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(16 * time.Minute)
	if err := denied(get()); err != nil {
		t.Errorf("16 minutes later: %v", err)
	}
	token = fetchToken(t, bootedStep(t, b, installMAC))
	if err := get(); err != nil {
		t.Errorf("a boot later: %v", err)
	}
}

// What is shown of a policy before it has the node is what the node gets by it.
func TestARecipeIsSeenBeforeAnyPolicyHasTheNode(t *testing.T) {
	b, _ := clocked(t, broker.Config{})
	mustApply(t, b, strings.Replace(installDocs, "approval: automatic\n", "approval: required\nhostname: web{{.Seq}}.example.net\nmeta: {timezone: Asia/Tokyo}\n", 1))
	n := registered(t, b, installMAC, installFacts(installMAC))
	if _, _, err := b.ShowRecipe(t.Context(), n.ID, "", "answers.preseed"); !errors.Is(err, broker.ErrNotFound) || !strings.Contains(err.Error(), "name a policy") {
		t.Errorf("without a policy: %v", err)
	}
	if _, _, err := b.ShowRecipe(t.Context(), n.ID, "none", "answers.preseed"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("by a policy that is not there: %v", err)
	}
	before, names, err := b.ShowRecipe(t.Context(), n.ID, "web", "answers.preseed")
	if err != nil || fmt.Sprint(names) != "[answers.preseed]" || !strings.Contains(before, "time/zone string Asia/Tokyo\n") {
		t.Fatalf("by the policy: %v, %v\n%s", names, err, before)
	}
	if again := node(t, b, n.ID); again.Policy != "" || again.Rev != n.Rev || again.Meta != nil {
		t.Errorf("a look changed the node: %+v", again.Node)
	}
	if _, err := b.Do(t.Context(), n.ID, broker.Act{Verb: "unprotect", Who: "t"}); err != nil {
		t.Fatal(err)
	}
	after, _, err := b.ShowRecipe(t.Context(), n.ID, "", "answers.preseed")
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("bound, it gets another (-before +after): %v\n%s", err, diff)
	}
}

// T12: a password is in the store sealed, and nowhere else: neither what operators read nor the journal has it.
func TestT12PasswordsOfPoliciesAreSealed(t *testing.T) {
	b, _ := clocked(t, broker.Config{})
	n := registered(t, b, installMAC, installFacts(installMAC))
	if _, err := b.Recipe(t.Context(), fetchToken(t, bootedStep(t, b, installMAC)), "answers.preseed", netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	shown, names, err := b.ShowRecipe(t.Context(), n.ID, "", "answers.preseed")
	if err != nil || fmt.Sprint(names) != "[answers.preseed]" || !strings.Contains(shown, "root-password-crypted password ***\n") || strings.Contains(shown, "$6$") {
		t.Errorf("shown: %v, %v\n%s", names, err, shown)
	}
	_, step, err := b.Step(t.Context(), n.ID)
	if err != nil || !strings.Contains(step.Args.Get("url"), "/install/HIDDEN/") {
		t.Errorf("the step as it is shown: %v, %v", step.Args, err)
	}
	events, err := b.Events(t.Context(), broker.EventFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	o, err := b.Object(t.Context(), broker.KindPolicy, "web")
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := o.Hidden()
	if err != nil {
		t.Fatal(err)
	}
	token := fetchToken(t, bootedStep(t, b, installMAC))
	for what, text := range map[string]string{"the journal": fmt.Sprint(events), "the store": string(o.Doc), "what is shown": string(hidden.Doc)} {
		if strings.Contains(text, "canary") || strings.Contains(text, token[:len(token)-4]) {
			t.Errorf("%s has a secret:\n%s", what, text)
		}
	}
	if !strings.Contains(string(o.Doc), "sealed:") || !strings.Contains(string(hidden.Doc), `"***"`) {
		t.Errorf("the store has %s, shown is %s", o.Doc, hidden.Doc)
	}
	mustApply(t, b, strings.ReplaceAll(installDocs, "canary-of-root", `"***"`))
	if again, err := b.Object(t.Context(), broker.KindPolicy, "web"); err != nil || string(again.Doc) != string(o.Doc) {
		t.Errorf("*** did not keep what was there: %s, %v", again.Doc, err)
	}
}

// A task that can not be rendered for a node fails before the machine is sent anywhere.
func TestARecipeThatCanNotBeRenderedTouchesNoDisk(t *testing.T) {
	b, _ := clocked(t, broker.Config{})
	mustApply(t, b, strings.ReplaceAll(installDocs, "timezone: {summary: where it stands, default: UTC}", "timezone: {type: text, summary: where it stands, default: \"a\\nb\"}"))
	n := registered(t, b, installMAC, installFacts(installMAC))
	if n.State != broker.DeployFailed || !strings.Contains(n.LastError, "answers.preseed") || !strings.Contains(n.LastError, "more than one line") || n.Order.Kind != facts.OrderWait {
		t.Errorf("state %s, order %s, %q", n.State, n.Order.Kind, n.LastError)
	}
	if step := bootedStep(t, b, installMAC); step.Kind != boot.StepRamdisk {
		t.Errorf("it boots %s", step.Kind)
	}
}

// A repo serves so many at once; the others wait in the ramdisk and begin in the order in which they came.
func TestInstallsWaitForTheirTurn(t *testing.T) {
	b, now := clocked(t, broker.Config{})
	mustApply(t, b, strings.Replace(installDocs, "kernel: linux\n", "kernel: linux\ninstalls: 1\n", 1))
	var nodes []*broker.Record
	for i := range 3 {
		m := fmt.Sprintf("52:54:00:dd:01:%02x", i)
		f := installFacts(m)
		nodes = append(nodes, registered(t, b, m, f))
		*now = now.Add(time.Second)
	}
	turn := func(i int) (kind boot.StepKind, waits string) {
		n := node(t, b, nodes[i].ID)
		return bootedStep(t, b, n.Keys.MACs[0]).Kind, n.Order.Because
	}
	for i, want := range []struct {
		kind  boot.StepKind
		waits string
	}{{boot.StepKernel, "boots a kernel of its own"}, {boot.StepRamdisk, "place 1 in the queue"}, {boot.StepRamdisk, "place 2 in the queue"}} {
		if kind, waits := turn(i); kind != want.kind || !strings.Contains(waits, want.waits) {
			t.Errorf("node %d: %s, %q; want %s, %q", i, kind, waits, want.kind, want.waits)
		}
	}
	if _, err := b.Do(t.Context(), nodes[0].ID, broker.Act{Verb: "abort", Who: "t"}); err != nil {
		t.Fatal(err)
	}
	if err := b.TakeTurns(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kind, _ := turn(1); kind != boot.StepKernel {
		t.Errorf("the second does not begin: %s", kind)
	}
	if kind, _ := turn(2); kind != boot.StepRamdisk {
		t.Errorf("the third begins too: %s", kind)
	}
}
