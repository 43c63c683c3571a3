package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

// rackOf is a broker with nodes of one disk each, of which every other holds data.
func rackOf(t *testing.T, nodes int) *broker.Broker {
	t.Helper()
	b := newBroker(t)
	mustApply(t, b, "kind: Repo\nname: debian\nsha256: "+strings.Repeat("d", 64)+"\nsize_bytes: 1000\nraw_bytes: 1073741824\ncompression: none\n")
	for i := range nodes {
		f := machineWith("", fmt.Sprintf("52:54:00:00:00:%02x", i+1))
		f.Disks = []facts.Disk{blankDisk("vda", 8<<30)}
		if i%2 == 1 {
			f.Disks[0].Table, f.Disks[0].Partitions = "gpt", []facts.Partition{{Number: 1}}
		}
		registered(t, b, fmt.Sprint(i), f)
	}
	return b
}

func plan(t *testing.T, b *broker.Broker, documents string, prune bool) (*broker.Plan, error) {
	t.Helper()
	objects, err := broker.ParseObjects([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	return b.Plan(t.Context(), objects, prune)
}

const ship = bigTag + "---\nkind: Tag\nname: small\nrule: len(facts.disks) == 1\n---\n" +
	"kind: Policy\nname: few\ntags: [small]\ntask: image\nrepo: debian\napproval: automatic\nwipe: true\nmax: 3\n---\n" +
	"kind: Policy\nname: rest\norder: 200\ntags: [small]\ntask: discover-only\napproval: automatic\n"

// A plan of hooks and handoffs leaves them, their cursors and what they are told as they were; and it seals no secret of
// its own: the apply after it is of the same.
func TestAPlanOfHooksChangesNothing(t *testing.T) {
	b := rackOf(t, 1)
	mustApply(t, b, hookDoc("old", "https://192.0.2.1/", ""))
	const docs = "kind: Hook\nname: new\non: [node.active]\nurl: https://192.0.2.1/\nsecret: " + canarySecret + "\nwhere: tag('none')\n---\n" +
		"kind: Handoff\nname: h\ntemplate: join {{.Config.key | sh}}\nparameters: {key: {secret: true}}\nconfig: {key: canary}\n"
	results := func(list []broker.Applied) (said []string) {
		for _, r := range list {
			said = append(said, fmt.Sprint(r))
		}
		return said
	}
	want := []string{"{Hook new created [there is no tag none, which the rule refers to at line 1, column 1]}", "{Handoff h created []}", "{Hook old deleted []}"}
	for range 2 {
		p, err := plan(t, b, docs, true)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, results(p.Objects)); d != "" {
			t.Fatalf("the plan (-want +got):\n%s", d)
		}
	}
	list, err := b.Hooks(t.Context())
	if err != nil || len(list) != 1 || list[0].Hook.Name != "old" || list[0].After == 0 || len(names(t, b, "Handoff")) != 0 {
		t.Errorf("after the plan there are the hooks %+v (%v) and handoffs %v", list, err, names(t, b, "Handoff"))
	}
	objects, err := broker.ParseObjects([]byte(docs))
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.Replace(t.Context(), objects, "tester")
	if d := cmp.Diff(want, results(done)); d != "" || err != nil {
		t.Errorf("the apply (-want +got), %v:\n%s", err, d)
	}
	if list, err := b.Hooks(t.Context()); err != nil || len(list) != 1 || list[0].Hook.Name != "new" || list[0].After == 0 {
		t.Errorf("after the apply there are the hooks %+v, %v", list, err)
	}
	if p, err := plan(t, b, docs, true); err != nil || p.Objects[0].Result+" "+p.Objects[1].Result != "unchanged unchanged" {
		t.Errorf("the plan of the same: %+v, %v", p, err)
	}
}

// What a plan says is what the apply then does, to each node; and the plan itself does nothing.
func TestPlanIsWhatApplyDoes(t *testing.T) {
	b := rackOf(t, 6)
	before, err := b.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events := operatorEvents(t, b)
	p, err := plan(t, b, ship, false)
	if err != nil {
		t.Fatal(err)
	}
	after, err := b.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" || operatorEvents(t, b) != events || len(names(t, b, "Tag")) != 0 {
		t.Fatalf("the plan changed something:\n%s", d)
	}
	said := map[string]string{}
	for _, n := range p.Nodes {
		said[n.Node] = fmt.Sprint(n.Gains, n.Policy, n.Then.Step, n.Then.Because)
	}
	mustApply(t, b, ship)
	done := map[string]string{}
	nodes, err := b.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		x, err := b.Explain(t.Context(), n.ID)
		if err != nil {
			t.Fatal(err)
		}
		done[n.ID] = fmt.Sprint(n.CarriedTags(), n.Policy, x.Next.Step, strings.TrimSuffix(x.Next.Because, ", ramdisk default"))
	}
	if d := cmp.Diff(said, done); d != "" || p.Changed != 6 || p.Same != 0 {
		t.Errorf("%d would change, %d not (-planned +done):\n%s", p.Changed, p.Same, d)
	}
	if p, err = plan(t, b, ship, false); err != nil || p.Changed != 0 || p.Same != 6 {
		t.Errorf("planned again: %+v, %v; want no change", p, err)
	}
}

func TestPlanTellsWhatADiskLoses(t *testing.T) {
	b := rackOf(t, 2)
	p, err := plan(t, b, ship, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range p.Nodes {
		got = append(got, n.Policy+" "+n.Disk+" "+n.Loss)
	}
	if d := cmp.Diff([]string{"few vda ", "few vda 1 partition"}, got); d != "" {
		t.Errorf("disks (-want +got):\n%s", d)
	}
}

// A plan is refused for what an apply is refused.
// What would be taken at a word is told apart: an operator who gives it is to know what of.
func TestPlanTellsWhatIsProtected(t *testing.T) {
	b := rackOf(t, 5)
	for _, tt := range []struct {
		more             string
		protected, loses int
	}{
		{"wipe: true\n", 5, 2}, {"", 3, 0}, {"wipe: true\napproval: automatic\n", 0, 0},
	} {
		p, err := plan(t, b, "kind: Policy\nname: all\nmatch: all\ntask: image\nrepo: debian\n"+tt.more, false)
		if err != nil {
			t.Fatal(err)
		}
		if p.Protected != tt.protected || p.Loses != tt.loses {
			t.Errorf("with %q %d are protected, %d would lose data; want %d, %d", tt.more, p.Protected, p.Loses, tt.protected, tt.loses)
		}
	}
}

func TestPlanRefusesWhatApplyRefuses(t *testing.T) {
	b := newBroker(t)
	for doc, want := range map[string]string{
		"kind: Policy\nname: p\ntags: [huge]\ntask: discover-only\n": `no tag "huge"`,
		"kind: Tag\nname: odd\nrule: facts.disk_count > 1\n":         "tag odd",
	} {
		if p, err := plan(t, b, doc, false); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), want) || p != nil {
			t.Errorf("%q: %v, %v; want %s", doc, p, err, want)
		}
	}
}

// With prune, what is not in the files goes, of the kinds that are in them; a policy with nodes stays, and all with it.
func TestReplacePrunes(t *testing.T) {
	b := rackOf(t, 2)
	mustApply(t, b, ship)
	replace := func(documents string) ([]broker.Applied, error) {
		objects, err := broker.ParseObjects([]byte(documents))
		if err != nil {
			t.Fatal(err)
		}
		return b.Replace(t.Context(), objects, "tester")
	}
	other := "kind: Policy\nname: other\nnodes: [node9]\ntask: discover-only\n"
	if _, err := replace(other); !errors.Is(err, broker.ErrConflict) || !strings.Contains(err.Error(), "policy few has 2 bound nodes") {
		t.Errorf("a policy with nodes: %v", err)
	}
	if d := cmp.Diff([]string{"few", "rest"}, names(t, b, "Policy")); d != "" {
		t.Errorf("the refused one changed something:\n%s", d)
	}
	for _, n := range []string{"node1", "node2"} {
		for _, verb := range []string{"hold", "undeploy"} {
			if _, err := b.Do(t.Context(), n, broker.Act{Verb: verb, Who: "tester"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, err := plan(t, b, other, true)
	if err != nil {
		t.Fatal(err)
	}
	want := []broker.Applied{{Kind: "Policy", Name: "other", Result: "created"}, {Kind: "Policy", Name: "few", Result: "deleted"}, {Kind: "Policy", Name: "rest", Result: "deleted"}}
	if d := cmp.Diff(want, p.Objects); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
	got, err := replace(other)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("replace (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"big", "small"}, names(t, b, "Tag")); d != "" {
		t.Errorf("the file says nothing of tags (-want +got):\n%s", d)
	}
	if len(names(t, b, "Repo")) != 1 || len(names(t, b, "Ramdisk")) != 1 {
		t.Error("a repo or a ramdisk was pruned")
	}
	if _, err := replace(bigTag); err != nil || len(names(t, b, "Tag")) != 1 {
		t.Errorf("tags after a file with one: %v, %v", names(t, b, "Tag"), err)
	}
}
