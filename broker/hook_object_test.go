package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/broker"
)

const canarySecret = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"

// T11, T12: a canary in the secret is nowhere in the store's files and a backup of it, the API's answers, the journal and the log.
func TestT12TheSecretIsSealed(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusGone) })
	doc := hookDoc("cmdb", x.url, "secret: "+canarySecret+"\n")
	mustApply(t, r.Broker, doc)
	r.machine(t, 1)
	waitLetters(t, r, "cmdb")
	for _, tt := range []struct{ name, doc, want string }{
		{"the same", doc, "unchanged"},
		{"the one that is there", strings.Replace(doc, canarySecret, `"***"`, 1), "unchanged"},
		{"another", strings.Replace(doc, "Y2FuYXJ5\n", "Y2FuYXJ6\n", 1), "changed"},
	} {
		if got := mustApply(t, r.Broker, tt.doc); got[0].Result != tt.want {
			t.Errorf("%s: %s; want %s", tt.name, got[0].Result, tt.want)
		}
	}
	if _, err := apply(t, r.Broker, hookDoc("new", x.url, "secret: '***'\n")); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("*** without a secret: %v", err)
	}
	shownHook := hiddenObject(t, r.Broker, "Hook")
	if !strings.Contains(shownHook, `"secret":"***"`) {
		t.Errorf("the hook is shown as %s", shownHook)
	}
	hooks, err := r.Hooks(t.Context())
	events, err2 := r.Events(t.Context(), broker.EventFilter{}, false)
	letters, err3 := r.DeadLetters(t.Context(), "cmdb")
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	r.stop()
	var backup bytes.Buffer
	if err := r.kept.Backup(t.Context(), &backup, testTime); err != nil || !strings.Contains(backup.String(), "sealed:") {
		t.Fatalf("the backup is %s, %v", &backup, err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"objects": shownHook, "hooks": fmt.Sprintf("%+v", hooks), "journal": fmt.Sprint(events), "letters": fmt.Sprint(letters), "backup": backup.String(), "log": r.log.String()}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		shown[f] = string(raw)
	}
	for where, text := range shown {
		for _, canary := range []string{"canarycanary", "Y2FuYXJ5", "63616e617279", "sealed:sealed"} {
			if strings.Contains(text, canary) {
				t.Errorf("%s holds the secret (%s)", where, canary)
			}
		}
	}
}

// hiddenObject is the one object of a kind as it is shown.
func hiddenObject(t *testing.T, b *broker.Broker, kind string) string {
	t.Helper()
	objects, err := b.Objects(t.Context(), kind)
	if err != nil || len(objects) != 1 {
		t.Fatalf("Objects = %s, %v", objects, err)
	}
	o, err := objects[0].Hidden()
	if err != nil {
		t.Fatal(err)
	}
	return string(o.Doc)
}

func TestHooksThatAreRefused(t *testing.T) {
	dir := commands(t, map[string]string{"tell": "", "loose": ""})
	if err := os.Chmod(filepath.Join(dir, "loose"), 0o777); err != nil {
		t.Fatal(err)
	}
	r := newHookRig(t, broker.Config{HookDir: dir})
	for _, tt := range []struct{ name, doc, says string }{
		{"no events", "url: https://x/", "on: name the events"},
		{"an event that is none", "on: [node.exploded]\nurl: https://x/", `no event "node.exploded"`},
		{"neither url nor command", "on: [node.active]", "either url or command"},
		{"both", "on: [node.active]\nurl: https://x/\ncommand: [tell]", "either url or command"},
		{"a secret for a command", "on: [node.active]\ncommand: [tell]\nsecret: " + canarySecret, "belong to a url"},
		{"a secret that is none", "on: [node.active]\nurl: https://x/\nsecret: canary", "want whsec_"},
		{"sealed text", "on: [node.active]\nurl: https://x/\nsecret: sealed:Y2FuYXJ5", "want whsec_"},
		{"a url that is none", "on: [node.active]\nurl: x", "want https"},
		{"a rule that is none", "on: [node.active]\nurl: https://x/\nwhere: facts.disk > 1", "where: "},
		{"a timeout over the bound", "on: [node.active]\nurl: https://x/\ntimeout: 11m", "at most 10m"},
		{"a timeout that is none", "on: [node.active]\nurl: https://x/\ntimeout: 5", `want a duration such as "30m"`},
		{"a path", "on: [node.active]\ncommand: [/bin/sh, -c, id]", "without a path"},
		{"a file that others may change", "on: [node.active]\ncommand: [loose]", "others may change"},
		{"a field that is none", "on: [node.active]\nurl: https://x/\nheaders: {}", "headers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := broker.ParseObjects([]byte("kind: Hook\nname: h\n" + tt.doc + "\n"))
			if err == nil {
				_, err = r.Apply(t.Context(), objects, "tester")
			}
			if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v; want %q", err, tt.says)
			}
		})
	}
	if got := names(t, r.Broker, "Hook"); len(got) != 0 {
		t.Errorf("hooks %v were kept", got)
	}
}

func TestTryHookShowsAndChangesNothing(t *testing.T) {
	r := newHookRig(t, broker.Config{HookDir: commands(t, map[string]string{"rack": `echo '{"node":{"metadata":{"update":{"rack":"b7"}}}}'`, "bad": `echo oops >&2; exit 3`})})
	mustApply(t, r.Broker, "kind: Hook\nname: rack\non: [node.active]\ncommand: [rack]\n---\nkind: Hook\nname: bad\non: [node.active]\ncommand: [bad]\n---\nkind: Hook\nname: none\non: [node.active]\ncommand: [bad]\nwhere: len(facts.disks) > 7\n")
	id := r.machine(t, 1).ID
	for _, tt := range []struct{ hook, answer, note, err string }{
		{"rack", `{"node":{"metadata":{"update":{"rack":"b7"}}}}?`, "", ""}, {"bad", "", "", "run bad: exit status 3: oops"}, {"none", "", "not called: where is no", ""},
	} {
		got, err := r.TryHook(t.Context(), tt.hook, "node-install-finished", id)
		if err != nil || got.Answer != tt.answer || got.Note != tt.note || got.Error != tt.err {
			t.Errorf("TryHook(%s) = %+v, %v", tt.hook, got, err)
		}
	}
	if n := node(t, r.Broker, id); len(n.Meta) != 0 {
		t.Errorf("metadata %v", n.Meta)
	}
}

// The table in the README is what hooks can hear of.
func TestREADMENamesEveryHookEvent(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range broker.HookEvents() {
		if !bytes.Contains(readme, []byte("`"+name+"`")) {
			t.Errorf("README.md does not name %s", name)
		}
	}
}
