package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

const (
	mac1 = "52:54:00:aa:00:01"
	mac2 = "52:54:00:aa:00:02"
	mac3 = "52:54:00:aa:00:03"
)

// register registers machines and gives their nodes' ids.
func register(t *testing.T, b *broker.Broker, list ...broker.Registration) []string {
	t.Helper()
	results, err := b.Register(t.Context(), list, "tester")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range results {
		ids = append(ids, r.Node)
	}
	return ids
}

// everything is all that the store has: nodes as they are, and how long the journal is.
func everything(t *testing.T, b *broker.Broker) (all []string) {
	t.Helper()
	nodes, err := b.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.Facts = broker.Facts{}
		all = append(all, fmt.Sprintf("%+v", *n))
	}
	events, err := b.Events(t.Context(), broker.EventFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return append(all, fmt.Sprint(len(events), " events"))
}

const (
	uuidASwapped = "44454c4c-4200-1035-8052-c1c04f4e3132" // uuidA, its first three groups turned round
	pinned       = "kind: Tag\nname: never\nrule: 1 == 2\n---\nkind: Policy\nname: web\ntags: [never]\ntask: discover-only\napproval: automatic\nhostname: web{{.Seq}}\n---\n" +
		"kind: Policy\nname: all\nmatch: all\ntask: discover-only\napproval: automatic\nhostname: other{{.Seq}}\n"
)

// TestARegisteredMachineIsItsNode: by whatever id it was registered, when it has booted and told its facts there is one
// node, the registered one, and it has what was registered.
func TestARegisteredMachineIsItsNode(t *testing.T) {
	for name, ids := range map[string]broker.Registration{
		"by the NIC that boots":              {MACs: []string{mac1}},
		"by another NIC":                     {MACs: []string{mac2}},
		"by both":                            {MACs: []string{strings.ToUpper(mac2), "01-52-54-00-aa-00-01"}},
		"by its UUID":                        {UUID: strings.ToUpper(uuidA)},
		"by its UUID in the other order":     {UUID: uuidASwapped},
		"by its serial":                      {Serial: "ABC1234"},
		"by its serial and manufacturer":     {Serial: "abc1234", Manufacturer: "ACME"},
		"by a NIC and the swapped UUID":      {MACs: []string{mac1}, UUID: uuidASwapped},
		"by another NIC and a wrong UUID":    {MACs: []string{mac2}, UUID: uuidB, Serial: "ABC1234"},
		"by a serial and a NIC that is gone": {MACs: []string{mac3}, UUID: uuidA, Serial: "ABC1234"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			mustApply(t, b, pinned)
			ids.Hostname, ids.Pin, ids.Meta = "R12n01", "web", map[string]any{"rack": "r12"}
			id := register(t, b, ids)[0]
			f := withSerial(machineWith(uuidA, mac1, mac2), "ABC1234")
			f.System.Manufacturer = "ACME"
			n := registered(t, b, "a", f)
			nodes, err := b.Nodes(t.Context())
			if err != nil || len(nodes) != 1 || n.ID != id {
				t.Fatalf("%d nodes, the machine is %s, %v; want one, %s", len(nodes), n.ID, err, id)
			}
			if n.Hostname != "r12n01" || n.Policy != "web" || n.Meta["rack"] != "r12" || n.Keys.UUID != uuidA && ids.UUID != uuidASwapped || !slices.Contains(n.Keys.MACs, mac1) || !slices.Contains(n.Keys.MACs, mac2) {
				t.Errorf("hostname %q, policy %q, meta %v, keys %+v", n.Hostname, n.Policy, n.Meta, n.Keys)
			}
			if _, err := report(t.Context(), b, "a", "", f); err != nil { // its agent goes on as this node
				t.Error(err)
			}
			if step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, mac1)}); err != nil || !strings.HasPrefix(step.Because, "r12n01:") {
				t.Errorf("it boots %q next, %v", step.Because, err)
			}
		})
	}
}

// TestARegisteredNodeIsNotMergedAway: what an operator said of a machine is not lost to the report of another, nor is a
// machine that is not plainly the registered one taken for it.
func TestARegisteredNodeIsNotMergedAway(t *testing.T) {
	b := newBroker(t)
	known := registered(t, b, "a", withSerial(machineWith(uuidA, mac1), "ABC1234"))
	id := register(t, b, broker.Registration{MACs: []string{mac2}, Installed: "razor"})[0]
	before := node(t, b, id)
	if _, err := report(t.Context(), b, "a", "", withSerial(machineWith(uuidA, mac1, mac2), "ABC1234")); err != nil {
		t.Fatal(err)
	}
	after := node(t, b, id)
	after.Rev = before.Rev // the conflict is written at both
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the registered node changed (-before +after):\n%s", diff)
	}
	if texts := conflicts(t, b, known.ID); len(texts) != 1 || !strings.Contains(texts[0], "it stays with "+id) {
		t.Errorf("the other's journal tells %q", texts)
	}
	// Two NICs registered as two machines: the machine that has both is for an operator.
	two := register(t, b, broker.Registration{MACs: []string{"52:54:00:bb:00:01"}}, broker.Registration{MACs: []string{"52:54:00:bb:00:02"}})
	boots := token(t, b, boot.Client{MAC: mac(t, "52:54:00:bb:00:03")})
	reply, err := report(t.Context(), b, "b", boots, machineWith(uuidB, "52:54:00:bb:00:01", "52:54:00:bb:00:02", "52:54:00:bb:00:03"))
	if err != nil || reply.Order.Kind != facts.OrderWait || !strings.Contains(reply.Order.Because, two[0]+" or "+two[1]) {
		t.Errorf("the machine of two nodes is told %+v, %v", reply, err)
	}
	// By a NIC as one machine, by its serial as another, and it boots by that NIC.
	two = register(t, b, broker.Registration{MACs: []string{"52:54:00:bb:00:05"}}, broker.Registration{Serial: "SN0005", Installed: true})
	boots = token(t, b, boot.Client{MAC: mac(t, "52:54:00:bb:00:05")})
	reply, err = report(t.Context(), b, "d", boots, withSerial(machineWith("", "52:54:00:bb:00:05"), "SN0005"))
	if err != nil || reply.Order.Kind != facts.OrderWait || !strings.Contains(reply.Order.Because, two[0]+" or "+two[1]) {
		t.Errorf("the machine of two nodes is told %+v, %v", reply, err)
	}
	// It boots by a NIC on USB that was registered, which its agent does not count, and its serial is another's.
	two = register(t, b, broker.Registration{MACs: []string{"52:54:00:bb:00:06"}, Hostname: "r12n06"}, broker.Registration{Serial: "SN0006", Installed: true})
	boots = token(t, b, boot.Client{MAC: mac(t, "52:54:00:bb:00:06")})
	usb := withSerial(machineWith("", "52:54:00:bb:00:06"), "SN0006")
	usb.NICs[0].Bus = "usb"
	if reply, err = report(t.Context(), b, "e", boots, usb); err != nil || !strings.Contains(reply.Order.Because, two[0]+" or "+two[1]) {
		t.Errorf("the machine of two nodes is told %+v, %v", reply, err)
	}
	// Another sled of the same chassis shows the serial of a registered one.
	sled := register(t, b, broker.Registration{MACs: []string{"52:54:00:cc:00:01"}, Serial: "CHASSIS7"})[0]
	if n := registered(t, b, "c", withSerial(machineWith("8b3b2a52-9f4e-4d2b-a1f7-0c6a5c1d2e3f", "52:54:00:cc:00:02"), "CHASSIS7")); n.ID == sled {
		t.Error("the other sled was taken for the registered one")
	}
}

// TestAnotherMachineThanWasRegistered: its serial or its UUID speaks against the node whose NIC it has. It waits, and the
// node waits for an operator.
func TestAnotherMachineThanWasRegistered(t *testing.T) {
	for want, said := range map[string]broker.Registration{
		"serial-mismatch": {MACs: []string{mac2}, Serial: "OTHER99"},
		"uuid-mismatch":   {MACs: []string{mac2}, UUID: uuidB},
	} {
		b := newBroker(t)
		id := register(t, b, said)[0]
		before := node(t, b, id)
		reply, err := report(t.Context(), b, "a", token(t, b, boot.Client{MAC: mac(t, mac1)}), withSerial(machineWith(uuidA, mac1, mac2), "ABC1234"))
		if err != nil || reply.Order.Kind != facts.OrderWait || !strings.Contains(reply.Order.Because, want) {
			t.Errorf("%s: %+v, %v", want, reply, err)
		}
		if n := node(t, b, id); !strings.Contains(n.Conflict, want) || n.Facts != nil || !cmp.Equal(before.Keys, n.Keys) {
			t.Errorf("%s: the node is %+v", want, n.Node)
		}
	}
}

// TestARegisteredMachineTakesNoIdsOfAnother: who was told of comes with a MAC and the UUID of a node that is known. They
// stay there, and both journals tell.
func TestARegisteredMachineTakesNoIdsOfAnother(t *testing.T) {
	b := newBroker(t)
	a := registered(t, b, "a", machineWith(uuidA, mac1))
	id := register(t, b, broker.Registration{MACs: []string{mac2}, Installed: true})[0]
	first, err := report(t.Context(), b, "b", token(t, b, boot.Client{MAC: mac(t, mac3)}), nil)
	if err != nil || !first.WantFacts {
		t.Fatalf("an agent that tells no facts yet: %+v, %v", first, err)
	}
	reply, err := report(t.Context(), b, "b", "", machineWith(uuidA, mac1, mac2, mac3))
	if err != nil || reply.Node != id || reply.Order.Kind != facts.OrderReboot || reply.Order.ID <= first.Order.ID {
		t.Fatalf("%+v after order %d, %v; want node %s to boot its disk", reply, first.Order.ID, err, id)
	}
	if n := node(t, b, id); !slices.Equal(n.Keys.MACs, []string{mac2, mac3}) || n.Keys.UUID != "" {
		t.Errorf("it has %+v", n.Keys)
	}
	if after := node(t, b, a.ID); !cmp.Equal(a.Keys, after.Keys) || len(conflicts(t, b, a.ID)) != 2 || len(conflicts(t, b, id)) != 2 {
		t.Errorf("the other has %+v; the journals tell %q, %q", after.Keys, conflicts(t, b, a.ID), conflicts(t, b, id))
	}
}

// TestRegisteringSaysWhatIsWrong: each with its place, and nothing is changed by any.
func TestRegisteringSaysWhatIsWrong(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, pinned+"---\nkind: Policy\nname: shut\nmatch: all\ntask: discover-only\nenabled: false\n")
	web := broker.Registration{MACs: []string{mac1}, UUID: uuidA, Serial: "ABC1234", Hostname: "r12n01", Pin: "web"}
	register(t, b, web)
	registered(t, b, "a", withSerial(machineWith(uuidA, mac1), "ABC1234")) // node1, of policy web
	register(t, b, broker.Registration{MACs: []string{mac2}, Hostname: "r12n02"})
	free := machineWith(uuidB, mac3)
	registered(t, b, "c", free) // node3, of policy all
	register(t, b, broker.Registration{Serial: "SN0009"})
	if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:aa:00:04")}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:aa:00:05")}); err != nil {
		t.Fatal(err)
	}
	no, good := false, broker.Registration{MACs: []string{"52:54:00:dd:00:01"}}
	before := everything(t, b)
	for _, tt := range []struct {
		r    broker.Registration
		want string
	}{
		{broker.Registration{}, "nodes[1]: want a MAC, a UUID or a serial number"},
		{broker.Registration{Hostname: "x"}, "nodes[1]: want a MAC"},
		{broker.Registration{MACs: []string{mac3, "52:54:00"}}, `nodes[1].macs[1]: parse MAC "52:54:00"`},
		{broker.Registration{MACs: []string{"ff:ff:ff:ff:ff:ff"}}, "nodes[1].macs[0]: ff:ff:ff:ff:ff:ff is no NIC's own address"},
		{broker.Registration{MACs: []string{"fa:4b:7f:00:00:01"}}, "nodes[1].macs[0]: fa:4b:7f:00:00:01 is no NIC's"},
		{broker.Registration{UUID: "u"}, `nodes[1].uuid: parse UUID "u"`},
		{broker.Registration{UUID: "03000200-0400-0500-0006-000700080009"}, "nodes[1].uuid: 03000200-0400-0500-0006-000700080009 is a value that vendors leave"},
		{broker.Registration{Serial: "To Be Filled By O.E.M."}, `nodes[1].serial: "To Be Filled By O.E.M." is a value`},
		{broker.Registration{MACs: []string{mac3}, Manufacturer: "ACME"}, "nodes[1].manufacturer: it says whose"},
		{broker.Registration{Serial: "X12", Manufacturer: "System manufacturer"}, "nodes[1].manufacturer: \"System manufacturer\" is a value"},
		{broker.Registration{MACs: []string{mac3}, Hostname: "a_b"}, `nodes[1].hostname: "a_b" is no host name`},
		{broker.Registration{MACs: []string{mac3}, Hostname: strings.Repeat("a.", 127) + "b"}, "nodes[1].hostname: a host name has at most 253"},
		{broker.Registration{MACs: []string{mac3}, Meta: map[string]any{"a b": 1}}, `nodes[1].meta: meta key "a b"`},
		{broker.Registration{MACs: []string{mac3}, Meta: map[string]any{"a": map[string]any{}}}, "nodes[1].meta: meta.a: want a string"},
		{broker.Registration{MACs: []string{mac3}, Pin: "none"}, `nodes[1].pin: there is no policy "none"`},
		{broker.Registration{MACs: []string{mac3}, Installed: 1.0}, "nodes[1].installed: want true, or text"},
		{broker.Registration{MACs: []string{mac3}, Installed: "a\nb"}, "nodes[1].installed: want true, or at most"},
		{broker.Registration{MACs: []string{mac3}, Installed: true, Protected: &no}, "nodes[1].protected: a machine that is installed is protected"},
		{good, "nodes[1]: it is the same machine as nodes[0]"},
		{broker.Registration{MACs: []string{mac1, mac3}}, "nodes[1]: many: a machine with MAC " + mac1 + " " + mac3 + " is not plainly node1 or node3"},
		{broker.Registration{MACs: []string{mac1, mac2}}, "nodes[1]: many: "},
		{broker.Registration{MACs: []string{mac2}, UUID: uuidA}, "nodes[1]: " + mac2 + " is of node node2"},
		{broker.Registration{MACs: []string{mac1}, UUID: uuidB, Serial: "ABC1234"}, "nodes[1]: " + mac1 + " is of node node1"},
		{broker.Registration{MACs: []string{mac1}, UUID: "8b3b2a52-9f4e-4d2b-a1f7-0c6a5c1d2e3f", Serial: "ABC1234"}, "nodes[1]: node node1 has its MAC and serial, and UUID " + uuidA},
		{broker.Registration{MACs: []string{mac1}, UUID: "8b3b2a52-9f4e-4d2b-a1f7-0c6a5c1d2e3f"}, "nodes[1]: uuid-mismatch"},
		{broker.Registration{MACs: []string{mac1}, Serial: "OTHER99"}, "nodes[1]: serial-mismatch"},
		{broker.Registration{MACs: []string{mac1}, UUID: uuidA, Serial: "OTHER99"}, "nodes[1]: node node1 has serial abc1234"},
		{broker.Registration{MACs: []string{"52:54:00:aa:00:04", "52:54:00:aa:00:05"}}, "nodes[1]: its ids are those of nodes node5 and node6"},
		{broker.Registration{MACs: []string{mac2}, Serial: "SN0009"}, "nodes[1]: its ids are those of nodes node2 and node4"},
		{broker.Registration{MACs: []string{"52:54:00:dd:00:02"}, Hostname: "r12n02"}, "nodes[1]: hostname r12n02 is that of node node2, which has MAC " + mac2},
		{broker.Registration{MACs: []string{mac1}, Hostname: "r12n09"}, "nodes[1]: node r12n01 was named by policy web"},
		{broker.Registration{MACs: []string{mac1}, Pin: "all"}, "nodes[1]: node r12n01 is bound to policy web"},
		{broker.Registration{MACs: []string{mac1}, Installed: true}, "nodes[1]: node r12n01 is bound to policy web, which says what is installed"},
	} {
		_, err := b.Register(t.Context(), []broker.Registration{good, tt.r}, "tester")
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v; want %s", tt.r, err, tt.want)
			continue
		}
		var field *facts.FieldError
		if !errors.As(err, &field) && !errors.Is(err, broker.ErrConflict) {
			t.Errorf("%v is neither of a field nor a conflict", err)
		}
		if diff := cmp.Diff(before, everything(t, b)); diff != "" {
			t.Fatalf("%v: what was refused changed something (-before +after):\n%s", err, diff)
		}
	}
	for _, n := range []int{0, broker.MaxRegistrations + 1} {
		if _, err := b.Register(t.Context(), make([]broker.Registration, n), "tester"); err == nil || !strings.HasPrefix(err.Error(), "nodes: ") {
			t.Errorf("%d machines: %v", n, err)
		}
	}
}

// TestRegisteringAgain: a node is brought to what is said, and the same again changes nothing, not even a revision.
func TestRegisteringAgain(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		name    string
		machine func(*testing.T, *broker.Broker) // what was before
		r       broker.Registration
		result  string
		check   func(*broker.Record) bool
		warning string
	}{
		{"nothing was known", nil, broker.Registration{MACs: []string{mac1}, Meta: map[string]any{"n": 1, "l": []any{"a", true}}}, "created",
			func(n *broker.Record) bool { return n.Ahead && n.Protected && n.State == broker.Enroll }, ""},
		{"approved ahead", nil, broker.Registration{MACs: []string{mac1}, Protected: &no}, "created", func(n *broker.Record) bool { return !n.Protected }, ""},
		{"seen booting", sees, broker.Registration{MACs: []string{mac1, mac2}, UUID: uuidA, Serial: "ABC1234", Hostname: "r12n01"}, "changed",
			func(n *broker.Record) bool {
				return n.Hostname == "r12n01" && len(n.Keys.MACs) == 2 && n.Keys.Serial == "abc1234" && n.Ahead
			}, ""},
		{"seen booting, installed", sees, broker.Registration{MACs: []string{mac1}, Installed: true}, "changed",
			func(n *broker.Record) bool {
				return n.State == broker.Active && n.Installed == "registered" && n.Protected
			}, ""},
		{"known and free", knows, broker.Registration{MACs: []string{mac1}, Hostname: "r12n01", Pin: "shut", Meta: map[string]any{"rack": "r12"}, Protected: &yes}, "changed",
			func(n *broker.Record) bool {
				return n.Pin == "shut" && n.Hostname == "r12n01" && n.State == broker.Manageable && n.Policy == ""
			}, ""},
		{"known, approved, installed", func(t *testing.T, b *broker.Broker) {
			knows(t, b)
			if _, err := b.Do(t.Context(), "node1", broker.Act{Verb: "unprotect", Who: "tester"}); err != nil {
				t.Fatal(err)
			}
		}, broker.Registration{MACs: []string{mac1}, Installed: true}, "changed", func(n *broker.Record) bool { return n.State == broker.Active && n.Protected }, ""},
		{"known, installed", knows, broker.Registration{MACs: []string{mac1}, Installed: "razor"}, "changed",
			func(n *broker.Record) bool { return n.State == broker.Active && n.Installed == "razor" }, ""},
		{"known under more ids", knows, broker.Registration{MACs: []string{mac1, mac3}, Serial: "ABC1234"}, "unchanged",
			func(n *broker.Record) bool { return slices.Equal(n.Keys.MACs, []string{mac1}) && n.Keys.Serial == "" }, "has not found MAC " + mac3},
		{"known, and a tag takes it then", func(t *testing.T, b *broker.Broker) {
			knows(t, b)
			mustApply(t, b, "kind: Tag\nname: r12\nrule: meta.rack == \"r12\"\n---\nkind: Policy\nname: racked\ntags: [r12]\ntask: discover-only\napproval: automatic\nhostname: n{{.Seq}}\n")
		}, broker.Registration{MACs: []string{mac1}, Hostname: "r12n01", Meta: map[string]any{"rack": "r12"}}, "changed",
			func(n *broker.Record) bool { return n.Policy == "racked" && n.Hostname == "r12n01" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBroker(t)
			mustApply(t, b, "kind: Policy\nname: shut\nmatch: all\ntask: discover-only\nenabled: false\n")
			if tt.machine != nil {
				tt.machine(t, b)
			}
			first, err := b.Register(t.Context(), []broker.Registration{tt.r}, "tester")
			if err != nil || first[0].Result != tt.result || !strings.Contains(strings.Join(first[0].Warnings, "\n"), tt.warning) || tt.warning == "" && first[0].Warnings != nil {
				t.Fatalf("%+v, %v; want %s, and to be warned of %q", first, err, tt.result, tt.warning)
			}
			if n := node(t, b, mac1); !tt.check(n) || n.ID != "node1" {
				t.Errorf("the node is %+v", n.Node)
			}
			before := everything(t, b)
			again, err := b.Register(t.Context(), []broker.Registration{tt.r}, "tester")
			if err != nil || again[0].Result != broker.RegisteredUnchanged {
				t.Errorf("again: %+v, %v", again, err)
			}
			if diff := cmp.Diff(before, everything(t, b)); diff != "" {
				t.Errorf("the same again changed something (-before +after):\n%s", diff)
			}
		})
	}
}

func sees(t *testing.T, b *broker.Broker) {
	if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, mac1)}); err != nil {
		t.Fatal(err)
	}
}

func knows(t *testing.T, b *broker.Broker) { registered(t, b, "a", machineWith(uuidA, mac1)) }

// TestAKnownMachineIsNotApprovedByRegistering: a policy could begin with it at once, on a disk in use.
func TestAKnownMachineIsNotApprovedByRegistering(t *testing.T) {
	b := newBroker(t)
	knows(t, b)
	no := false
	_, err := b.Register(t.Context(), []broker.Registration{{MACs: []string{mac1}, Protected: &no}}, "tester")
	if err == nil || !strings.Contains(err.Error(), "muster node unprotect node1") || !node(t, b, mac1).Protected {
		t.Errorf("%v", err)
	}
}

// TestTwinsMayShareASerial: two sleds show the serial of their chassis; a warning says so.
func TestTwinsMayShareASerial(t *testing.T) {
	b := newBroker(t)
	results, err := b.Register(t.Context(), []broker.Registration{{MACs: []string{mac1}, Serial: "CHASSIS7"}, {MACs: []string{mac2}, Serial: "CHASSIS7"}}, "tester")
	if err != nil || results[0].Node == results[1].Node || len(results[1].Warnings) != 1 || !strings.Contains(results[1].Warnings[0], results[0].Node+" has serial chassis7 too") {
		t.Errorf("%+v, %v", results, err)
	}
}

// TestRegisteredMachinesAreNoStrangers: a list of machines that have not come yet leaves the room of those that nobody
// told of.
func TestRegisteredMachinesAreNoStrangers(t *testing.T) {
	b := bareBroker(t, broker.Config{Strangers: 2})
	var list []broker.Registration
	for i := range 5 {
		list = append(list, broker.Registration{MACs: []string{fmt.Sprintf("52:54:00:ee:00:%02x", i)}})
	}
	register(t, b, list...)
	for i, taken := range []bool{true, true, false} {
		step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, fmt.Sprintf("52:54:00:ff:00:%02x", i))})
		if err != nil || strings.HasPrefix(step.Because, "node") != taken {
			t.Errorf("stranger %d: %s, %v; want it taken: %v", i+1, step.Because, err, taken)
		}
	}
}

// TestARegistrationIsAnEventOfWhoSaidIt: what is said first, and what is changed later.
func TestARegistrationIsAnEventOfWhoSaidIt(t *testing.T) {
	b := newBroker(t)
	ctx := broker.WithCaller(t.Context(), broker.Caller{Name: "alice", Role: broker.Operator, From: "192.0.2.7"})
	for _, rack := range []string{"r12", "r13"} {
		if _, err := b.Register(ctx, []broker.Registration{{MACs: []string{mac1}, Meta: map[string]any{"rack": rack}}}, "alice"); err != nil {
			t.Fatal(err)
		}
	}
	events, err := b.Events(t.Context(), broker.EventFilter{Node: "node1"}, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Kind+" "+e.Who+" "+e.Data["from"]+" "+e.Text)
	}
	if diff := cmp.Diff([]string{"node.added alice 192.0.2.7 registered before it was seen: MAC " + mac1 + `, meta rack="r12"`,
		`operator alice 192.0.2.7 registered: meta rack="r13"`}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
