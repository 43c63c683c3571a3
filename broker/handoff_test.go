package broker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

const handoffDocs = `kind: Handoff
name: site
parameters:
  server: {required: true}
  key: {required: true, secret: true}
template: |
  #!/bin/sh
  join {{.Config.server | sh}} {{.Config.key | sh}} {{.Node.Hostname | sh}} {{.Node.Metadata | json | sh}} {{.Policy | sh}}
config: {server: "it's", key: canary-of-the-key}
---
kind: Repo
name: debian
sha256: "0000000000000000000000000000000000000000000000000000000000000000"
size_bytes: 10
raw_bytes: 10
compression: none
---
kind: Policy
name: web
match: all
task: image
repo: debian
approval: automatic
hostname: web{{.Seq}}.example.net
handoff: site
---
`

// installing gives a node that was written and boots its disk, and the token of its first boot.
func installing(t *testing.T, b *broker.Broker) (*broker.Record, string) {
	t.Helper()
	const m = "52:54:00:dd:00:01"
	n := registered(t, b, m, &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: m, Bus: "pci"}}, Disks: []facts.Disk{{ID: "d", Name: "vda", SizeBytes: 1 << 30}}})
	reply, err := report(t.Context(), b, m, "", n.Facts)
	if err != nil || reply.Order.Image == nil {
		t.Fatalf("order %+v, %v", reply, err)
	}
	var token, script string
	for _, f := range reply.Order.Image.Files {
		switch f.Path {
		case "/etc/muster/token":
			token = strings.TrimSpace(f.Content)
		case "/usr/local/sbin/muster-first-boot":
			script = f.Content
		}
	}
	if !strings.Contains(script, "stage='first-boot'\n") || !strings.Contains(script, "/node/v1/handoff/$stage") || strings.Contains(fmt.Sprint(reply.Order.Image.Files), "canary") {
		t.Errorf("the first boot fetches no handoff, or the disk has its secret:\n%s", script)
	}
	return n, token
}

// T9: the script with its secrets is given for the token of the install, in the stage that asks for it, and to no one
// else; every refusal is the same.
func TestT9AHandoffIsFetchedWhileItsStageRuns(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, handoffDocs)
	n, token := installing(t, b)
	refused := func(when, token, stage string) {
		t.Helper()
		if text, err := b.Handoff(t.Context(), token, stage); !errors.Is(err, broker.ErrDenied) || text != "" || err.Error() != "no such node or token" {
			t.Errorf("%s: Handoff = %q, %v", when, text, err)
		}
		if err := b.ReportHandoff(t.Context(), token, stage, "0", ""); !errors.Is(err, broker.ErrDenied) || err.Error() != "no such node or token" {
			t.Errorf("%s: ReportHandoff = %v", when, err)
		}
	}
	refused("while the disk is written", token, "first-boot")
	wrote(t, b, n)
	refused("no token", "", "first-boot")
	refused("another stage", token, "write")
	refused("another token", token[:len(token)-1]+"x", "first-boot")
	want := "#!/bin/sh\njoin 'it'\\''s' 'canary-of-the-key' 'web1.example.net' '{}' 'web'\n"
	if text, err := b.Handoff(t.Context(), token, "first-boot"); err != nil || text != want {
		t.Errorf("Handoff = %q, %v; want %q", text, err, want)
	}
	if text, err := b.ShowHandoff(t.Context(), n.ID); err != nil || text != strings.Replace(want, "canary-of-the-key", "***", 1) {
		t.Errorf("ShowHandoff = %q, %v", text, err)
	}
	if err := b.ReportHandoff(t.Context(), token, "first-boot", "3\x1b[2J", "one\ntwo \x1b[2J"+strings.Repeat("x", 300)); err != nil {
		t.Fatal(err)
	}
	if got := node(t, b, n.ID); got.State != broker.WaitCallBack || !strings.HasPrefix(got.LastError, "handoff site ended with status 3?[2J: two ?[2Jxxx") {
		t.Errorf("after a failure the node is %s: %s", got.State, got.LastError)
	}
	if err := b.ReportHandoff(t.Context(), token, "first-boot", "0", ""); err != nil {
		t.Fatal(err)
	}
	if err := b.EndStage(t.Context(), token, "first-boot", nil); err != nil {
		t.Fatal(err)
	}
	refused("when the install is over", token, "first-boot")
	if got := node(t, b, n.ID); got.State != broker.Active || got.LastError != "" {
		t.Errorf("the node is %s: %s", got.State, got.LastError)
	}
	var said []string
	for _, e := range hookEvents(t, b, broker.EventHandoff) {
		said = append(said, e.Text[:min(40, len(e.Text))])
	}
	if diff := cmp.Diff([]string{"handoff site was fetched", "handoff site ended with status 3?[2J: tw", "handoff site is done"}, said); diff != "" {
		t.Errorf("the journal (-want +got):\n%s", diff)
	}
}

// A machine whose stage was given up is done after all: it is handed over as one that was in time.
func TestAHandoffMayBeLate(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, handoffDocs)
	n, token := installing(t, b)
	wrote(t, b, n)
	if err := b.Walk(t.Context(), n.ID, "fail"); err != nil {
		t.Fatal(err)
	}
	text, err := b.Handoff(t.Context(), token, "first-boot")
	err2 := b.ReportHandoff(t.Context(), token, "first-boot", "0", "")
	err3 := b.EndStage(t.Context(), token, "first-boot", nil)
	if err := errors.Join(err, err2, err3); err != nil || !strings.Contains(text, "canary-of-the-key") {
		t.Errorf("Handoff = %q, %v", text, err)
	}
	if got := node(t, b, n.ID); got.State != broker.Active || got.LastError != "" {
		t.Errorf("the node is %s: %s", got.State, got.LastError)
	}
}

// wrote has the agent report that the disk is written.
func wrote(t *testing.T, b *broker.Broker, n *broker.Record) {
	t.Helper()
	n = node(t, b, n.ID)
	if err := b.Report(t.Context(), fmt.Sprintf("%-32s", n.Keys.MACs[0]), &facts.Report{Order: n.Order.ID, Status: facts.StatusDone}); err != nil {
		t.Fatal(err)
	}
}

// T11, T12
func TestT12TheSecretsOfAHandoffAreSealed(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	mustApply(t, r.Broker, handoffDocs)
	for _, doc := range []string{handoffDocs, strings.Replace(handoffDocs, "canary-of-the-key", `"***"`, 1)} {
		if got := mustApply(t, r.Broker, doc); got[0].Result != "unchanged" {
			t.Errorf("applied again: %v", got)
		}
	}
	if _, err := apply(t, r.Broker, strings.Replace(strings.Replace(handoffDocs, "name: site", "name: other", 1), "canary-of-the-key", `"***"`, 1)); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("*** without a secret: %v", err)
	}
	if shown := hiddenObject(t, r.Broker, "Handoff"); !strings.Contains(shown, `"key":"***"`) || !strings.Contains(shown, `"server":"it's"`) {
		t.Errorf("the handoff is shown as %s", shown)
	}
	installing(t, r.Broker)
	r.stop()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err != nil || strings.Contains(string(raw), "canary") {
			t.Errorf("%s holds the secret (%v)", f, err)
		}
	}
	if strings.Contains(r.log.String(), "canary") {
		t.Error("the log holds the secret")
	}
}

func TestHandoffsThatAreRefused(t *testing.T) {
	b := newBroker(t)
	for _, tt := range []struct{ name, doc, says string }{
		{"neither type nor template", "", "either type (ansible-pull, noop, puppet, salt, script) or template"},
		{"both", "type: noop\ntemplate: exit 0", "either type"},
		{"a type that is none", "type: chef", `no type "chef"`},
		{"parameters of a type", "type: noop\nparameters: {a: {}}", "belong to a template"},
		{"a configuration that lacks something", "type: puppet\nconfig: {environment: x}", "server is missing"},
		{"what a reader was shown", "type: puppet\nconfig: {server: '***'}", "server: *** stands for what was hidden"},
		{"what a reader was shown of a URL", "type: ansible-pull\nconfig: {url: 'ssh://***@git.example.net/x'}", "url: *** stands for what was hidden"},
		{"a password in a URL", "type: ansible-pull\nconfig: {url: 'https://a:canary@git.example.net/x'}", "url: a user and password in it"},
		{"a value printed as it is", "template: 'echo {{.Node.ID}}'", "printed as it is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := broker.ParseObjects([]byte("kind: Handoff\nname: h\n" + tt.doc + "\n")); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v; want %q", err, tt.says)
			}
		})
	}
	for name, doc := range map[string]string{`no handoff "h"`: "kind: Policy\nname: p\nmatch: all\ntask: image\nrepo: debian\nhandoff: h\n", "runs no handoff": "kind: Handoff\nname: h\ntype: noop\n---\nkind: Policy\nname: p\nmatch: all\ntask: discover-only\nhandoff: h\n"} {
		if _, err := apply(t, b, strings.Replace(handoffDocs, "handoff: site", "", 1)+doc); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustApply(t, b, handoffDocs)
	if err := b.DeleteObject(t.Context(), "Handoff", "site", "tester"); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "policy web") {
		t.Errorf("delete: %v", err)
	}
}
