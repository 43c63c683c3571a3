package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
	"muster/broker"
)

func apply(t *testing.T, b *broker.Broker, documents string) ([]broker.Applied, error) {
	t.Helper()
	objects, err := broker.ParseObjects([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	return b.Apply(t.Context(), objects, "tester")
}

func mustApply(t *testing.T, b *broker.Broker, documents string) []broker.Applied {
	t.Helper()
	results, err := apply(t, b, documents)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// operatorEvents counts what operators changed.
func operatorEvents(t *testing.T, b *broker.Broker) (n int) {
	t.Helper()
	events, err := b.Events(t.Context(), broker.EventFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == broker.EventOperator {
			n++
		}
	}
	return n
}

func names(t *testing.T, b *broker.Broker, kind string) (list []string) {
	t.Helper()
	objects, err := b.Objects(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		list = append(list, o.Name)
	}
	return list
}

const bigTag = "kind: Tag\nname: big\nrule: len(facts.disks) >= 2\n"

func TestApplyTakesAllOrNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		more string
		says string
	}{
		{"a policy with a tag that is not there", "kind: Policy\nname: p\ntags: [big, huge]\ntask: discover-only\n", `no tag "huge"`},
		{"a policy with a task that is not there", "kind: Policy\nname: p\ntags: [big]\ntask: lilo\n", `no task "lilo"`},
		{"a policy with a repo that is not there", "kind: Policy\nname: p\ntags: [big]\ntask: image\nrepo: debian\n", `no repo "debian"`},
		{"a policy whose task needs a repo", "kind: Policy\nname: p\ntags: [big]\ntask: image\n", "needs a repo"},
		{"a policy with a ramdisk that is not there", "kind: Policy\nname: p\ntags: [big]\ntask: discover-only\nramdisk: rescue\n", `no ramdisk "rescue"`},
		{"a ramdisk with a tag that is not there", ramdiskDoc("r", "amd64", "tags: [big, huge]\n"), `ramdisk r: there is no tag "huge"`},
		{"a rule with a fact that is not there", "kind: Tag\nname: odd\nrule: facts.disk_count > 1\n", "tag odd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bareBroker(t, broker.Config{})
			results, err := apply(t, b, bigTag+"---\n"+tt.more)
			if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), tt.says) || results != nil {
				t.Errorf("Apply = %v, %v; want an error with %s", results, err, tt.says)
			}
			if got := names(t, b, "Tag"); len(got) != 0 || operatorEvents(t, b) != 0 {
				t.Errorf("the tag before it was kept: %v, %d events", got, operatorEvents(t, b))
			}
		})
	}
}

func TestApplyAgainChangesNothing(t *testing.T) {
	b := bareBroker(t, broker.Config{})
	const documents = bigTag + "---\nkind: Policy\nname: p\ntags: [big]\ntask: discover-only\n"
	want := []broker.Applied{{Kind: "Tag", Name: "big", Result: "created"}, {Kind: "Policy", Name: "p", Result: "created"}}
	if diff := cmp.Diff(want, mustApply(t, b, documents)); diff != "" {
		t.Errorf("the first time (-want +got):\n%s", diff)
	}
	events := operatorEvents(t, b)
	want[0].Result, want[1].Result = "unchanged", "unchanged"
	if diff := cmp.Diff(want, mustApply(t, b, documents)); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	if again := operatorEvents(t, b); events != 2 || again != events {
		t.Errorf("%d events, then %d; want 2 and no more", events, again)
	}
	want[0].Result = "changed"
	if diff := cmp.Diff(want[:1], mustApply(t, b, strings.Replace(bigTag, ">= 2", ">= 3", 1))); diff != "" {
		t.Errorf("another rule (-want +got):\n%s", diff)
	}
}

func TestWhatIsNeededIsNotDeleted(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, bigTag+"---\nkind: Tag\nname: spare\nrule: len(facts.disks) == 0\n---\nkind: Policy\nname: p\ntags: [spare]\nnot_tags: [big]\ntask: discover-only\napproval: automatic\n")
	for _, name := range []string{"big", "spare"} {
		if err := b.DeleteObject(t.Context(), "Tag", name, "tester"); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "policy p") {
			t.Errorf("delete tag %s: %v; want to hear of policy p", name, err)
		}
	}
	n := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	if n.Policy != "" {
		t.Fatalf("tag big is undecided while no disk is known, but policy %s took the node", n.Policy)
	}
	mustApply(t, b, "kind: Policy\nname: all\nmatch: all\ntask: discover-only\napproval: automatic\n")
	if n = node(t, b, n.ID); n.Policy != "all" {
		t.Fatalf("the node that waited is bound to %q; want all", n.Policy)
	}
	if err := b.DeleteObject(t.Context(), "Policy", "all", "tester"); !errors.Is(err, broker.ErrConflict) || !strings.Contains(err.Error(), "1 bound node") {
		t.Errorf("delete a policy with a node: %v", err)
	}
	if err := b.DeleteObject(t.Context(), "Tag", "none", "tester"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("delete what is not there: %v", err)
	}
	events := operatorEvents(t, b)
	if err := b.DeleteObject(t.Context(), "Policy", "p", "tester"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteObject(t.Context(), "Tag", "big", "tester"); err != nil {
		t.Errorf("a tag that no policy needs any more: %v", err)
	}
	if got := operatorEvents(t, b) - events; got != 2 {
		t.Errorf("two deletions made %d events", got)
	}
	if diff := cmp.Diff([]string{"spare"}, names(t, b, "Tag")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// TestT48MaxIsExact: machines that check in at the same moment do not overrun a policy's max.
func TestT48MaxIsExact(t *testing.T) {
	const machines, most = 32, 10
	b := newBroker(t)
	mustApply(t, b, fmt.Sprintf("kind: Policy\nname: few\nmatch: all\ntask: discover-only\napproval: automatic\nmax: %d\nhostname: osd{{ printf \"%%03d\" .Seq }}.example.net\n", most))
	tokens := make([]string, machines)
	for i := range tokens {
		tokens[i] = token(t, b, boot.Client{MAC: boot.MAC{0x52, 0x54, 0, 0, 1, byte(i)}})
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range machines {
		wg.Go(func() {
			<-start
			f := machineWith("", fmt.Sprintf("52:54:00:00:01:%02x", i))
			if _, err := report(t.Context(), b, fmt.Sprintf("key%d", i), tokens[i], f); err != nil {
				t.Error(err)
			}
		})
		if i%8 == 0 {
			wg.Go(func() {
				<-start
				if err := b.Reconcile(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	close(start)
	wg.Wait()
	nodes, err := b.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bound, hostnames := 0, map[string]bool{}
	for _, n := range nodes {
		if n.Policy == "few" {
			bound++
			hostnames[n.Hostname] = true
		}
	}
	if len(nodes) != machines || bound != most || len(hostnames) != most {
		t.Errorf("%d of %d nodes are bound with %d names; want exactly %d", bound, len(nodes), len(hostnames), most)
	}
}

// Operators who apply at the same time all find their objects in force.
func TestConcurrentAppliesAreAllInForce(t *testing.T) {
	b := newBroker(t)
	const operators = 16
	var wg sync.WaitGroup
	for i := range operators {
		wg.Go(func() {
			if _, err := apply(t, b, fmt.Sprintf("kind: Tag\nname: t%d\nrule: 1 == 1\n", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := registered(t, b, "a", machineWith(uuidA, "52:54:00:aa:00:01"))
	if len(n.Tags) != operators {
		t.Errorf("%d of %d tags are in force", len(n.Tags), operators)
	}
}
