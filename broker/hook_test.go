package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
	"muster/broker/store"
)

// hookRig is a broker whose hooks are called, with pauses too short to notice.
type hookRig struct {
	*broker.Broker
	dir  string // of the store
	log  bytes.Buffer
	stop func() // ends the broker, not the store
	kept *store.Store

	close func() error // of the store
}

func newHookRig(t *testing.T, cfg broker.Config) *hookRig {
	t.Helper()
	return openHookRig(t, t.TempDir(), cfg)
}

// openHookRig starts a broker on a store that may have been another's.
func openHookRig(t *testing.T, dir string, cfg broker.Config) *hookRig {
	t.Helper()
	r := &hookRig{dir: dir}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.kept = s
	cfg.Store, cfg.Key, cfg.BaseURL, cfg.Log = s, broker.Key{1}, "http://192.0.2.10:8080", slog.New(slog.NewTextHandler(&r.log, nil))
	cfg.HookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if cfg.HookPause == nil {
		cfg.HookPause = func(int) time.Duration { return time.Millisecond }
	}
	if r.Broker, err = broker.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	r.close = sync.OnceValue(s.Close)
	t.Cleanup(func() { r.stop(); _ = r.close() })
	mustApply(t, r.Broker, ramdiskDoc("default", "amd64", ""))
	return r
}

// machine registers the n-th machine, which the hooks hear of.
func (r *hookRig) machine(t *testing.T, n int) *broker.Record {
	t.Helper()
	m := fmt.Sprintf("52:54:00:bb:%02x:%02x", n>>8, n&255)
	return registered(t, r.Broker, m, &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: m, Bus: "pci"}}, Disks: []facts.Disk{{ID: "d", Name: "vda", SizeBytes: int64(n)}}})
}

// told is what a receiver heard.
type told struct {
	ID    string
	Event string
	Seq   int64
	Text  string
	Data  map[string]string
	Hook  struct{ Name string }
	Node  *struct {
		ID, Hostname, State string
		MACs, Tags          []string
		Metadata            map[string]any
		FactsHash           string `json:"facts_hash"`
		Hardware            string
	}
	Policy *struct{ Name, Task string }
}

// receiver is a program outside; what it heard comes by the channel, in order.
type receiver struct {
	url  string
	told chan told
}

// newReceiver answers as answer does; nil takes everything.
func newReceiver(t *testing.T, answer func(w http.ResponseWriter, n int)) *receiver {
	t.Helper()
	x := &receiver{told: make(chan told, 10_000)}
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var m told
		if err = errors.Join(err, json.Unmarshal(raw, &m)); err != nil || m.ID != r.Header.Get("webhook-id") {
			t.Errorf("a message with id %s: %s, %v", r.Header.Get("webhook-id"), raw, err)
		}
		x.told <- m
		if answer != nil {
			answer(w, int(n.Add(1)))
		}
	}))
	t.Cleanup(srv.Close)
	x.url = srv.URL
	return x
}

func hookDoc(name, url, more string) string {
	return fmt.Sprintf("kind: Hook\nname: %s\non: [node.registered]\nurl: %s\n%s---\n", name, url, more)
}

func TestAHookBeginsWithWhatHappensNext(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	r.machine(t, 1)
	x := newReceiver(t, nil)
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	n := r.machine(t, 2)
	got := <-x.told
	if got.Event != "node.registered" || got.Hook.Name != "cmdb" || got.Node == nil || got.Node.ID != n.ID || got.Policy != nil {
		t.Fatalf("told %+v", got)
	}
	if got.Node.State != "manageable" || got.Node.FactsHash != n.FactsHash || !slices.Equal(got.Node.MACs, n.Keys.MACs) || !strings.Contains(got.Node.Hardware, "1 disk") || !strings.HasPrefix(got.Text, "facts: ") {
		t.Errorf("told of the node %+v: %s", got.Node, got.Text)
	}
	events, err := r.Events(t.Context(), broker.EventFilter{Node: n.ID}, false)
	if err != nil || !slices.ContainsFunc(events, func(e broker.Event) bool { return e.Seq == got.Seq && e.Kind == broker.EventRegistered }) {
		t.Errorf("event %d is not in the journal of %s (%v)", got.Seq, n.ID, err)
	}
}

// The names of Razor's hooks, and what our journal has to become each of them.
func TestHookEventsHaveRazorsNames(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, nil)
	mustApply(t, r.Broker, "kind: Hook\nname: all\non: [node-booted, node-registered, node-bound-to-policy, node-unbound-from-policy, node-facts-changed, node-install-finished, node-deleted, node-install-failed]\nurl: "+x.url+"\n---\nkind: Policy\nname: keep\nmatch: all\ntask: discover-only\nhostname: n{{.Seq}}.example.net\napproval: automatic\n")
	n := r.machine(t, 1)
	r.machine(t, 1) // the same: nothing happens
	if _, err := report(t.Context(), r.Broker, n.Keys.MACs[0], "", &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: n.Keys.MACs[0], Bus: "pci"}}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range 4 {
		if i == 3 {
			if _, err := r.Do(t.Context(), n.ID, broker.Act{Verb: "delete", Who: "tester"}); err != nil {
				t.Fatal(err)
			}
		}
		m := <-x.told
		got = append(got, m.Event)
		if m.Event == "node.bound" && (m.Policy == nil || m.Policy.Name != "keep" || m.Data["hostname"] != "n1.example.net") {
			t.Errorf("told of the policy %+v, %v", m.Policy, m.Data)
		}
		if m.Event == "node.unbound" && (m.Node == nil || m.Node.ID != n.ID || m.Data["hostname"] != "n1.example.net" || m.Data["mac"] != n.Keys.MACs[0]) {
			t.Errorf("told of the node that went %+v, %v", m.Node, m.Data)
		}
	}
	if diff := cmp.Diff([]string{"node.registered", "node.bound", "node.facts", "node.unbound"}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestANodeThatIsTakenBackIsUnbound(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, nil)
	mustApply(t, r.Broker, "kind: Hook\nname: h\non: [node.unbound]\nurl: "+x.url+"\n---\nkind: Policy\nname: keep\nmatch: all\ntask: discover-only\nhostname: n{{.Seq}}.example.net\napproval: automatic\n")
	n := r.machine(t, 1)
	if _, err := r.Do(t.Context(), n.ID, broker.Act{Verb: "undeploy", Who: "tester"}); err != nil {
		t.Fatal(err)
	}
	m := <-x.told
	if m.Event != "node.unbound" || m.Node.ID != n.ID || m.Policy != nil || m.Data["policy"] != "keep" || m.Data["hostname"] != "n1.example.net" {
		t.Errorf("told %+v of %+v: %v", m, m.Node, m.Data)
	}
}

// F27: what fails comes again as the same message, and what follows waits for it.
func TestF27AMessageIsToldUntilItIsTaken(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n <= 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	a, b := r.machine(t, 1), r.machine(t, 2)
	first := <-x.told
	for range 3 {
		if again := <-x.told; again.ID != first.ID || again.Node.ID != a.ID {
			t.Errorf("told %s of %s; want %s again", again.ID, again.Node.ID, first.ID)
		}
	}
	if next := <-x.told; next.ID == first.ID || next.Node.ID != b.ID {
		t.Errorf("told %s of %s; want another, of %s", next.ID, next.Node.ID, b.ID)
	}
}

// F18, P50
func TestF18OneHookWaitsForNoOther(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	release := make(chan struct{})
	hangs := newReceiver(t, func(http.ResponseWriter, int) { <-release })
	t.Cleanup(func() { close(release) })
	well := newReceiver(t, nil)
	mustApply(t, r.Broker, hookDoc("a-hangs", hangs.url, "")+hookDoc("well", well.url, ""))
	for n := range 5 {
		m := r.machine(t, n)
		if got := <-well.told; got.Node.ID != m.ID {
			t.Errorf("told of %s; want %s", got.Node.ID, m.ID)
		}
	}
	<-hangs.told
	if len(hangs.told) != 0 {
		t.Error("the second message did not wait for the first")
	}
}

func TestWhatIsRefusedBecomesADeadLetter(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	var mended atomic.Bool
	x := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n <= 5 && !mended.Load() {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	a, b := r.machine(t, 1), r.machine(t, 2)
	for range 5 {
		if got := <-x.told; got.Node.ID != a.ID {
			t.Fatalf("told of %s", got.Node.ID)
		}
	}
	if got := <-x.told; got.Node.ID != b.ID {
		t.Fatalf("told of %s; want the next, %s", got.Node.ID, b.ID)
	}
	letters, err := r.DeadLetters(t.Context(), "cmdb")
	if err != nil || len(letters) != 1 || letters[0].Event.Node != a.ID || letters[0].Attempts != 5 || letters[0].Name != "node.registered" || !strings.Contains(letters[0].Error, "400 Bad Request") {
		t.Fatalf("dead letters %+v, %v", letters, err)
	}
	said := hookEvents(t, r.Broker, broker.EventHookDead)
	if len(said) != 1 || said[0].Node != a.ID || !strings.Contains(said[0].Text, "after 5 attempts: the answer is 400 Bad Request") {
		t.Errorf("the journal says %+v", said)
	}
	if _, err := r.RetryHook(t.Context(), "cmdb", 1, "tester"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("retry of a letter that is not there: %v", err)
	}
	mended.Store(true)
	if n, err := r.RetryHook(t.Context(), "cmdb", letters[0].Event.Seq, "tester"); n != 1 || err != nil {
		t.Errorf("RetryHook = %d, %v", n, err)
	}
	if got := <-x.told; got.Node.ID != a.ID || got.Seq != letters[0].Event.Seq {
		t.Errorf("told %+v; want the letter", got)
	}
	r.machine(t, 3)
	<-x.told // the letter before it is settled
	if letters, err := r.DeadLetters(t.Context(), "cmdb"); err != nil || len(letters) != 0 {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
}

// A receiver that never answers well is given up by time, one that says 410 at once.
func TestGivingUp(t *testing.T) {
	var now atomic.Int64
	r := newHookRig(t, broker.Config{Now: func() time.Time { return testTime.Add(time.Duration(now.Add(int64(time.Minute)))) }})
	down := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusInternalServerError) })
	gone := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusGone) })
	mustApply(t, r.Broker, hookDoc("down", down.url, "retry_for: 30m\n")+hookDoc("gone", gone.url, ""))
	r.machine(t, 1)
	for _, tt := range []struct {
		hook        string
		least, most int
	}{{"gone", 1, 1}, {"down", 5, 31}} {
		letters := waitLetters(t, r, tt.hook)
		if n := letters[0].Attempts; n < tt.least || n > tt.most {
			t.Errorf("%s was given up after %d attempts; want %d to %d", tt.hook, n, tt.least, tt.most)
		}
	}
	if err := r.DeleteObject(t.Context(), "Hook", "gone", "tester"); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r.Broker, hookDoc("gone", gone.url, ""))
	if letters, err := r.DeadLetters(t.Context(), "gone"); err != nil || len(letters) != 0 {
		t.Errorf("a hook made anew has the dead letters of another: %+v, %v", letters, err)
	}
}

var testTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// waitLetters waits for the journal to say that the hook gave up.
func waitLetters(t *testing.T, r *hookRig, hook string) []broker.DeadLetter {
	t.Helper()
	waitEvent(t, r, func(e broker.Event) bool { return e.Kind == broker.EventHookDead && e.Who == "hook "+hook })
	letters, err := r.DeadLetters(t.Context(), hook)
	if err != nil || len(letters) != 1 {
		t.Fatalf("dead letters of %s: %+v, %v", hook, letters, err)
	}
	return letters
}

func waitEvent(t *testing.T, r *hookRig, is func(broker.Event) bool) broker.Event {
	t.Helper()
	for after := int64(0); ; {
		events, err := r.Events(t.Context(), broker.EventFilter{After: after}, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if after = e.Seq; is(e) {
				return e
			}
		}
	}
}

func hookEvents(t *testing.T, b *broker.Broker, kind string) (list []broker.Event) {
	t.Helper()
	events, err := b.Events(t.Context(), broker.EventFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

func TestAHookThatIsMendedIsTriedAtOnce(t *testing.T) {
	r := newHookRig(t, broker.Config{HookPause: func(int) time.Duration { return time.Hour }})
	down := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusInternalServerError) })
	well := newReceiver(t, nil)
	mustApply(t, r.Broker, hookDoc("cmdb", down.url, ""))
	n := r.machine(t, 1)
	first := <-down.told
	mustApply(t, r.Broker, hookDoc("cmdb", well.url, ""))
	if got := <-well.told; got.ID != first.ID || got.Node.ID != n.ID {
		t.Errorf("told %+v; want %s", got, first.ID)
	}
}

func TestWhereChoosesNodes(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, owner)
	mustApply(t, r.Broker, hookDoc("big", x.url, "where: facts.disks[0].size_bytes > 10 and facts.disks[0].rotational\n"))
	for n, rotational := range []*bool{new(true), nil, new(false), new(true)} {
		m := fmt.Sprintf("52:54:00:cc:00:%02x", n)
		registered(t, r.Broker, m, &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: m, Bus: "pci"}},
			Disks: []facts.Disk{{ID: "d", Name: "vda", SizeBytes: 10 + int64(n), Rotational: rotational}}})
	}
	if got := <-x.told; got.Node.MACs[0] != "52:54:00:cc:00:03" {
		t.Errorf("told of %v; want the fourth only", got.Node.MACs)
	}
	waitEvent(t, r, isMetadata)
	list, err := r.Hooks(t.Context())
	if err != nil || len(list) != 1 || list[0].Delivered != 1 || list[0].Undecided != 1 || !strings.Contains(list[0].UndecidedWhy, "rotational") {
		t.Errorf("Hooks = %+v, %v", list, err)
	}
}

// A hook's rule is in any of the three languages, and may ask for tags.
func TestWhereIsWrittenAsTags(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, nil)
	mustApply(t, r.Broker, "kind: Tag\nname: third\nrule: facts.disks[0].size_bytes == 3\n---\n"+
		hookDoc("own", x.url, "where: tag('third')\n")+hookDoc("razors", x.url, "where: [and, [has_macaddress, \"52:54:00:bb:00:03\"], [\"=\", 5.0, 5.0]]\n")+
		hookDoc("thirds", x.url, "where:\n  conditions:\n  - {op: eq, field: 'inventory.interfaces[*].mac_address', value: \"52:54:00:bb:00:03\"}\n  - {op: ge, field: 'inventory.disks[0].size', value: 3.0}\n"))
	for n := range 4 {
		r.machine(t, n)
	}
	var got []string
	for range 3 {
		m := <-x.told
		got = append(got, m.Hook.Name+" "+m.Node.MACs[0])
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"own 52:54:00:bb:00:03", "razors 52:54:00:bb:00:03", "thirds 52:54:00:bb:00:03"}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if list, err := r.Hooks(t.Context()); err != nil || list[1].Hook.Where != `["and",["has_macaddress","52:54:00:bb:00:03"],["=",5.0,5.0]]` {
		t.Errorf("the rule is kept as %+v, %v; want its numbers as they were written", list, err)
	} else if want := `{"conditions":[{"field":"inventory.interfaces[*].mac_address","op":"eq","value":"52:54:00:bb:00:03"},{"field":"inventory.disks[0].size","op":"ge","value":3.0}]}`; string(list[2].Hook.Where) != want {
		t.Errorf("the rule is kept as %s; want %s", list[2].Hook.Where, want)
	}
}

// What was told is not told again by a broker that ended well; what happened without one is.
func TestTheJournalIsTheQueue(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, owner)
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	r.machine(t, 1)
	first := <-x.told
	waitEvent(t, r, isMetadata)
	r.stop()
	n := r.machine(t, 2)
	r2 := restart(t, r, broker.Config{})
	if got := <-x.told; got.Node.ID != n.ID || got.ID == first.ID {
		t.Errorf("told %+v; want what happened meanwhile", got)
	}
	if err := r2.DeleteObject(t.Context(), "Hook", "cmdb", "tester"); err != nil {
		t.Fatal(err)
	}
	r2.machine(t, 3)
	mustApply(t, r2.Broker, hookDoc("cmdb", x.url, ""))
	n = r2.machine(t, 4)
	if got := <-x.told; got.Node.ID != n.ID {
		t.Errorf("told of %s; a hook made anew begins with %s", got.Node.ID, n.ID)
	}
}

// restart opens the store of a broker that ended.
func restart(t *testing.T, r *hookRig, cfg broker.Config) *hookRig {
	t.Helper()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	return openHookRig(t, r.dir, cfg)
}

// commands writes executables for hooks.
func commands(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnAnswerChangesMetadata(t *testing.T) {
	dir := commands(t, map[string]string{
		"rack": `cat >/dev/null; echo '{"node":{"metadata":{"update":{"rack":"b7","unit":12,"old":"x","no good":"x"},"remove":["old"]},"power":1},"hook":{}}'`,
		"bad":  `echo '{"node":'`,
	})
	r := newHookRig(t, broker.Config{HookDir: dir})
	mustApply(t, r.Broker, "kind: Tag\nname: in-b7\nrule: meta.rack == \"b7\"\n---\nkind: Policy\nname: keep\ntags: [in-b7]\ntask: discover-only\napproval: automatic\n---\n"+
		"kind: Hook\nname: rack\non: [node.registered]\ncommand: [rack]\n---\nkind: Hook\nname: bad\non: [node.registered]\ncommand: [bad]\n")
	id := r.machine(t, 1).ID
	waitEvent(t, r, func(e broker.Event) bool { return e.Kind == broker.EventMetadata && e.Who == "hook rack" })
	waitEvent(t, r, func(e broker.Event) bool { return e.Kind == broker.EventHookWarning && e.Who == "hook bad" })
	n := node(t, r.Broker, id)
	if diff := cmp.Diff(map[string]any{"rack": "b7", "unit": 12.0, "old": "x"}, n.Meta); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if n.Policy != "keep" || !slices.Equal(n.CarriedTags(), []string{"in-b7"}) {
		t.Errorf("the node has tags %v and policy %q", n.CarriedTags(), n.Policy)
	}
	want := map[string]string{"hook rack": `"hook" is not understood; "node.metadata.update.no good": meta key "no good": want a letter first, then letters, digits, dash and underscore, at most 64; "node.power" is not understood`,
		"hook bad": `the answer is no JSON: {"node":?`}
	for _, e := range hookEvents(t, r.Broker, broker.EventHookWarning) {
		if e.Node != id || e.Text != want[e.Who] {
			t.Errorf("%s warns of %s: %s\nwant %s", e.Who, e.Node, e.Text, want[e.Who])
		}
	}
	r.stop()
	r = restart(t, r, broker.Config{HookDir: dir}) // settled with the answer: not told again
	if list, err := r.Hooks(t.Context()); err != nil || list[0].Delivered != 1 || list[1].Delivered != 1 {
		t.Errorf("Hooks = %+v, %v", list, err)
	}
}

// owner answers so that the journal says when the message is settled.
func owner(w http.ResponseWriter, _ int) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"node":{"metadata":{"update":{"owner":"ops"}}}}`)
}

func isMetadata(e broker.Event) bool { return e.Kind == broker.EventMetadata }

func TestAWebhooksAnswerCounts(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, owner)
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	id := r.machine(t, 1).ID
	waitEvent(t, r, isMetadata)
	if n := node(t, r.Broker, id); n.Meta["owner"] != "ops" {
		t.Errorf("metadata %v", n.Meta)
	}
}
