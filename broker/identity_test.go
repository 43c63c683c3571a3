package broker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/store"
	"muster/broker/store/storetest"
)

// newBroker makes a broker on a store of its own, with a ramdisk for everybody of amd64.
func newBroker(t *testing.T) *broker.Broker {
	t.Helper()
	b := bareBroker(t, broker.Config{})
	mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	return b
}

// bareBroker makes a broker that was told nothing yet.
func bareBroker(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	if *onPostgres {
		list, _ := several(t, storetest.StartPostgres(t), 1, cfg)
		return list[0]
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return brokerOn(t, s, cfg)
}

// ramdiskDoc is a ramdisk whose files have sums of their own, with more lines of YAML.
func ramdiskDoc(name, arch, more string) string {
	sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name+s))) }
	return fmt.Sprintf("kind: Ramdisk\nname: %s\narch: %s\nkernel: {name: vmlinuz, sha256: %s, size_bytes: 1}\ninitrds: [{name: ramdisk, sha256: %s, size_bytes: 1}]\n%s---\n",
		name, arch, sum("kernel"), sum("initrd"), more)
}

func mac(t *testing.T, s string) boot.MAC {
	t.Helper()
	m, err := boot.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func uuid(t *testing.T, s string) boot.UUID {
	t.Helper()
	u, err := boot.ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// token is the boot token in the script of a machine.
func token(t *testing.T, b *broker.Broker, c boot.Client) string {
	t.Helper()
	step, err := b.Next(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := step.Args.Lookup("muster.token")
	if !ok {
		t.Fatalf("the step of %s has no token: %+v", c.MAC, step)
	}
	return v
}

// report checks a machine in: it boots with its first MAC and finds these facts.
func report(ctx context.Context, b *broker.Broker, key, token string, f *facts.Facts) (*facts.CheckInReply, error) {
	return b.CheckIn(ctx, fmt.Sprintf("%-32s", key), &facts.CheckIn{V: 1, Token: token, BootID: "boot", Facts: f})
}

func registered(t *testing.T, b *broker.Broker, key string, f *facts.Facts) *broker.Record {
	t.Helper()
	reply, err := report(t.Context(), b, key, token(t, b, boot.Client{MAC: mac(t, f.NICs[0].MAC)}), f)
	if err != nil {
		t.Fatal(err)
	}
	return node(t, b, reply.Node)
}

func node(t *testing.T, b *broker.Broker, name string) *broker.Record {
	t.Helper()
	n, err := b.Node(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func machineWith(uuid string, macs ...string) *facts.Facts {
	f := &facts.Facts{Schema: 1, System: &facts.System{UUID: uuid}}
	for i, m := range macs {
		f.NICs = append(f.NICs, facts.NIC{Name: fmt.Sprintf("eth%d", i), MAC: m, Bus: "pci"})
	}
	return f
}

func conflicts(t *testing.T, b *broker.Broker, node string) (texts []string) {
	t.Helper()
	events, err := b.Events(t.Context(), broker.EventFilter{Node: node}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == broker.EventConflict {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

const (
	uuidA = "4c4c4544-0042-3510-8052-c1c04f4e3132"
	uuidB = "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"
)

// TestMACsThatAreNoIdentity (T4, K3): the goldens of facts 5.2.
func TestMACsThatAreNoIdentity(t *testing.T) {
	b := newBroker(t)
	for _, m := range []string{"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "02:00:00:00:00:00", "fa:4b:7f:00:00:01"} {
		step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m), UUID: uuid(t, uuidA)})
		if err != nil || step.Kind != boot.StepRefuse {
			t.Errorf("MAC %s: step %q, %v; want to be refused", m, step.Kind, err)
		}
	}
	for _, m := range []string{"52:54:00:AA:00:01", "fa:16:3e:00:00:01", "02:00:00:00:00:01"} {
		step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m)})
		if err != nil || step.Kind != boot.StepRamdisk {
			t.Errorf("MAC %s: step %q, %v; want the ramdisk", m, step.Kind, err)
			continue
		}
		if n := node(t, b, m); !slices.Equal(n.Keys.MACs, []string{strings.ToLower(m)}) || !n.Protected || n.State != broker.Enroll {
			t.Errorf("MAC %s made %+v, protected %v", m, n.Keys, n.Protected)
		}
	}
	if nodes, err := b.Nodes(t.Context()); err != nil || len(nodes) != 3 {
		t.Errorf("%d nodes, %v; want 3", len(nodes), err)
	}
}

// TestUUIDsThatAreNoIdentity (T4, K1): the goldens of facts 5.2. Each machine is one by its MAC.
func TestUUIDsThatAreNoIdentity(t *testing.T) {
	b := newBroker(t)
	for i, u := range []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "fefefefe-fefe-fefe-fefe-fefefefefefe", "03000200-0400-0500-0006-000700080009",
		"00020003-0004-0005-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc", "12345678-1234-5678-1234-567812345678", "00112233-4455-6677-8899-aabbccddeeff",
		"11111111-2222-3333-4444-555555555555", "4c4c4544-0000-2010-8020-80c04f202020", "8a95d198-7f46-11e5-bf8b-08002704d48e"} {
		for j := range 2 {
			m := fmt.Sprintf("52:54:00:00:%02x:%02x", i, j)
			if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m), UUID: uuid(t, u)}); err != nil {
				t.Fatal(err)
			}
			if n := node(t, b, m); n.Keys.UUID != "" || !slices.Equal(n.Keys.MACs, []string{m}) {
				t.Errorf("UUID %s made %+v; want a node by its MAC alone", u, n.Keys)
			}
		}
	}
	const m = "52:54:00:00:ff:01"
	if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m), UUID: uuid(t, strings.ToUpper(uuidA))}); err != nil {
		t.Fatal(err)
	}
	if n := node(t, b, m); n.Keys.UUID != uuidA {
		t.Errorf("a good UUID made %+v", n.Keys)
	}
}

// TestKeysOfFacts: a USB NIC is no identity, ids are canonical, each MAC is there once.
func TestKeysOfFacts(t *testing.T) {
	b := newBroker(t)
	f := machineWith("{"+strings.ToUpper(uuidA)+"}", "52:54:00:aa:00:02", "52:54:00:aa:00:01", "52:54:00:aa:00:01", "00:00:00:00:00:00")
	f.NICs = append(f.NICs, facts.NIC{Name: "usb0", MAC: "52:54:00:aa:00:99", Bus: "usb"})
	f.System.Serial = "ABC1234"
	want := broker.Keys{MACs: []string{"52:54:00:aa:00:01", "52:54:00:aa:00:02"}, UUID: uuidA, Serial: "abc1234"}
	if diff := cmp.Diff(want, registered(t, b, "a", f).Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// TestASightedNodeIsMerged (facts 5.3, golden 10): both NICs of a machine booted before its agent told that they are
// one machine.
func TestASightedNodeIsMerged(t *testing.T) {
	b := newBroker(t)
	for _, m := range []string{"52:54:00:aa:00:01", "52:54:00:aa:00:02"} {
		if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, m)}); err != nil {
			t.Fatal(err)
		}
	}
	other := node(t, b, "52:54:00:aa:00:02").ID
	n := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01", "52:54:00:aa:00:02"))
	nodes, err := b.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || len(n.Keys.MACs) != 2 {
		t.Fatalf("%d nodes, keys %+v, %v; want one with both MACs", len(nodes), n.Keys, err)
	}
	events, err := b.Events(t.Context(), broker.EventFilter{Node: n.ID}, false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events, func(e broker.Event) bool {
		return strings.Contains(e.Text, "is the same machine as "+other+" (mac 52:54:00:aa:00:02)")
	}) {
		t.Errorf("no event tells of the merge: %+v", events)
	}
	if step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:aa:00:02")}); err != nil || !strings.HasPrefix(step.Because, n.ID+":") {
		t.Errorf("the second NIC boots %+v, %v; want the step of %s", step, err, n.ID)
	}
}

// TestT3FactsTakeNoIdsOfAnotherNode: the id stays where it is, the other record too, and both journals tell.
func TestT3FactsTakeNoIdsOfAnotherNode(t *testing.T) {
	b := newBroker(t)
	a := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	thief := registered(t, b, "b", machineWith(uuidA, "52:54:00:aa:00:03", "52:54:00:aa:00:01"))
	after := node(t, b, a.ID)
	after.Rev = a.Rev // the conflict is written at both
	if diff := cmp.Diff(a, after); diff != "" {
		t.Errorf("the record of the other node changed (-before +after):\n%s", diff)
	}
	if !slices.Equal(thief.Keys.MACs, []string{"52:54:00:aa:00:03"}) || thief.Keys.UUID != "" {
		t.Errorf("the thief has %+v", thief.Keys)
	}
	for _, id := range []string{a.ID, thief.ID} {
		texts := strings.Join(conflicts(t, b, id), "\n")
		if !strings.Contains(texts, "both have mac 52:54:00:aa:00:01; it stays with "+a.ID) || !strings.Contains(texts, "both have uuid "+uuidA) {
			t.Errorf("the journal of %s tells of %q", id, texts)
		}
	}
	for i := range 20 { // changed facts each time: still nothing is taken
		f := machineWith(uuidA, "52:54:00:aa:00:03", "52:54:00:aa:00:01", fmt.Sprintf("52:54:00:bb:00:%02x", i))
		if _, err := report(t.Context(), b, "b", "", f); err != nil {
			t.Fatal(err)
		}
	}
	if n := node(t, b, "52:54:00:aa:00:01"); n.ID != a.ID || !slices.Equal(n.Keys.MACs, a.Keys.MACs) || n.Keys.UUID != uuidA {
		t.Errorf("after 20 reports the MAC is of %s with %+v", n.ID, n.Keys)
	}
}

// TestT2AnotherKeyIsRefused: the token was traded by the first agent; a second one that shows it changes nothing.
func TestT2AnotherKeyIsRefused(t *testing.T) {
	b := newBroker(t)
	first := token(t, b, boot.Client{MAC: mac(t, "52:54:00:aa:00:01")})
	reply, err := report(t.Context(), b, "a", first, machineWith(uuidA, "52:54:00:aa:00:01"))
	if err != nil {
		t.Fatal(err)
	}
	before := node(t, b, reply.Node)
	for _, stale := range []string{first, "", "x", reply.Node + ".2.00000000000000000000000000000000"} {
		if _, err := report(t.Context(), b, "b", stale, machineWith(uuidB, "52:54:00:aa:00:01")); err == nil || err.Error() != "no such node or token" {
			t.Errorf("token %q of another agent: %v", stale, err)
		}
	}
	if diff := cmp.Diff(before, node(t, b, reply.Node)); diff != "" {
		t.Errorf("the record changed (-before +after):\n%s", diff)
	}
}

func withSerial(f *facts.Facts, serial string) *facts.Facts {
	f.System.Serial = serial
	return f
}

// TestABatchOfOneUUID (golden 18, 19): the second machine shows the UUID of the first, so it gets its token; its facts
// tell that it is another. Both are then found by their MACs.
func TestABatchOfOneUUID(t *testing.T) {
	b := newBroker(t)
	first := registered(t, b, "a", withSerial(machineWith(uuidA, "52:54:00:aa:00:01"), "XYZ0001"))
	for i, m := range []string{"52:54:00:aa:00:09", "52:54:00:aa:00:08"} {
		c := boot.Client{MAC: mac(t, m), UUID: uuid(t, uuidA)}
		reply, err := report(t.Context(), b, "b"+m, token(t, b, c), withSerial(machineWith(uuidA, m), fmt.Sprintf("XYZ999%d", i)))
		if err != nil || reply.Node == first.ID {
			t.Fatalf("machine %s is %+v, %v; want a node of its own", m, reply, err)
		}
		if step, err := b.Next(t.Context(), c); err != nil || !strings.HasPrefix(step.Because, reply.Node+":") {
			t.Errorf("machine %s boots %q, %v; want the step of %s", m, step.Because, err, reply.Node)
		}
	}
	n := node(t, b, first.ID)
	if want := (broker.Keys{MACs: []string{"52:54:00:aa:00:01"}, Serial: "xyz0001", SharedUUID: uuidA}); !cmp.Equal(want, n.Keys) {
		t.Errorf("the first has %+v; want %+v", n.Keys, want)
	}
	if len(conflicts(t, b, first.ID)) != 1 {
		t.Errorf("the journal of the first tells of %q", conflicts(t, b, first.ID))
	}
	if _, err := b.CheckIn(t.Context(), fmt.Sprintf("%-32s", "a"), &facts.CheckIn{V: 1, BootID: "boot"}); err != nil {
		t.Errorf("the first agent's key: %v", err)
	}
}

// TestAConflictIsForAnOperator (golden 22): a MAC with another UUID. The node waits, no policy takes it, its keys stay,
// the journal tells once; resolve lets the machine be learned anew.
func TestAConflictIsForAnOperator(t *testing.T) {
	b := newBroker(t)
	a := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	other := boot.Client{MAC: mac(t, "52:54:00:aa:00:01"), UUID: uuid(t, uuidB)}
	for range 3 {
		step, err := b.Next(t.Context(), other)
		if err != nil || step.Kind != boot.StepRamdisk || !strings.Contains(step.Because, "ids in conflict: uuid-mismatch") {
			t.Fatalf("step %q because %q, %v", step.Kind, step.Because, err)
		}
	}
	n := node(t, b, a.ID)
	if texts := conflicts(t, b, a.ID); len(texts) != 1 || n.Conflict != texts[0] || !cmp.Equal(a.Keys, n.Keys) {
		t.Errorf("conflict %q, events %q, keys %+v", n.Conflict, texts, n.Keys)
	}
	mustApply(t, b, "kind: Policy\nname: all\nmatch: all\ntask: discover-only\napproval: automatic\n")
	if n = node(t, b, a.ID); n.Policy != "" {
		t.Errorf("policy %s took a node in conflict", n.Policy)
	}
	if n, err := b.Do(t.Context(), a.ID, broker.Act{Verb: "resolve", Who: "tester"}); err != nil || n.Conflict != "" || n.Policy != "all" {
		t.Fatalf("resolve: %+v, %v", n, err)
	}
	if _, err := b.Do(t.Context(), a.ID, broker.Act{Verb: "resolve"}); err == nil {
		t.Error("a node in no conflict was resolved")
	}
	if _, err := report(t.Context(), b, "c", token(t, b, other), machineWith(uuidB, "52:54:00:aa:00:01")); err != nil {
		t.Fatal(err)
	}
	if n = node(t, b, a.ID); n.Keys.UUID != uuidB || n.Conflict != "" {
		t.Errorf("after the resolve the node is %+v, conflict %q", n.Keys, n.Conflict)
	}
	if step, err := b.Next(t.Context(), boot.Client{MAC: other.MAC, UUID: uuid(t, uuidA)}); err != nil || step.Kind != boot.StepLocal {
		t.Errorf("a bound node in conflict boots %q, %v; want its disk", step.Kind, err)
	}
}

// TestATokenOfAnotherMachine (golden 26, K7): UUID and serial both speak against the token. The agent waits, nothing of its
// report is kept, and the token is still good for the right one.
func TestATokenOfAnotherMachine(t *testing.T) {
	b := newBroker(t)
	a := registered(t, b, "a", withSerial(machineWith(uuidA, "52:54:00:aa:00:01"), "ABC1234"))
	next := token(t, b, boot.Client{MAC: mac(t, "52:54:00:aa:00:01")})
	for range 2 {
		reply, err := report(t.Context(), b, "b", next, withSerial(machineWith(uuidB, "52:54:00:aa:00:01"), "XD198915C"))
		if err != nil || reply.Order.Kind != facts.OrderWait || !strings.Contains(reply.Order.Because, "token-mismatch") {
			t.Fatalf("reply %+v, %v; want to wait", reply, err)
		}
	}
	n := node(t, b, a.ID)
	if len(conflicts(t, b, a.ID)) != 1 || !cmp.Equal(a.Keys, n.Keys) || !cmp.Equal(a.Boot, n.Boot) || n.FactsHash != a.FactsHash {
		t.Errorf("the record changed: %+v", n)
	}
	if _, err := report(t.Context(), b, "c", next, withSerial(machineWith(uuidA, "52:54:00:aa:00:01"), "ABC1234")); err != nil {
		t.Errorf("the right machine: %v", err)
	}
}

// TestABoardSwap (golden 12): another UUID under the same serial is the same machine, and the journal has both.
func TestABoardSwap(t *testing.T) {
	b := newBroker(t)
	a := registered(t, b, "a", withSerial(machineWith(uuidA, "52:54:00:aa:00:01"), "ABC1234"))
	registered(t, b, "b", withSerial(machineWith(uuidB, "52:54:00:aa:00:01"), "ABC1234"))
	if n := node(t, b, a.ID); n.Keys.UUID != uuidB {
		t.Errorf("keys %+v", n.Keys)
	}
	events, err := b.Events(t.Context(), broker.EventFilter{Node: a.ID}, false)
	if err != nil || !slices.ContainsFunc(events, func(e broker.Event) bool { return e.Data["old"] == uuidA && e.Data["new"] == uuidB }) {
		t.Errorf("no event has both UUIDs: %+v, %v", events, err)
	}
}

// TestAUUIDAloneMakesNoNode: pxelinux and GRUB ask by the UUID first, in an order of bytes that nobody knows, and by
// the MAC next. The first must not make a second node of the machine, nor end its search.
func TestAUUIDAloneMakesNoNode(t *testing.T) {
	b := newBroker(t)
	alone := boot.Client{UUID: uuid(t, "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"), Kind: boot.KindPXELINUX}
	if step, err := b.Next(t.Context(), alone); !errors.Is(err, boot.ErrNotFound) {
		t.Fatalf("an unknown UUID is told %+v, %v; want boot.ErrNotFound", step, err)
	}
	if nodes, err := b.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Fatalf("nodes %v, %v; want none", nodes, err)
	}
	both := alone
	both.MAC = mac(t, "52:54:00:12:34:56")
	want := token(t, b, both)
	if got := token(t, b, alone); got != want {
		t.Errorf("by its UUID the machine is told token %q; by both %q", got, want)
	}
}
