package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

func testNow() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

var (
	imageTask = &task.Task{Name: "image", Repo: task.RepoImage, Disk: true, Stages: []task.Stage{
		{Name: "write", Step: boot.StepRamdisk, Order: facts.OrderWriteImage}, {Name: "first-boot", Step: boot.StepLocal}}}
	keepTask = &task.Task{Name: "discover-only"}
	smallOS  = &Repo{Name: "debian", RawBytes: 1 << 30}
)

func blank(name string, size int64) facts.Disk {
	return facts.Disk{ID: "virtio-" + name, Name: name, SizeBytes: size, Transport: "virtio"}
}

func used(name string, size int64) facts.Disk {
	d := blank(name, size)
	d.Table, d.Partitions = "gpt", []facts.Partition{{Number: 1}}
	return d
}

func machine(disks ...facts.Disk) *facts.Facts { return &facts.Facts{Schema: 1, Disks: disks} }

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name string
		node Node
		want Decision
	}{
		{"a machine never heard of boots the ramdisk", Node{State: Enroll, Protected: true},
			Decision{boot.StepRamdisk, "nothing is known of this machine yet"}},
		{"a known blank one waits in the ramdisk", Node{State: Manageable, Protected: true, Facts: Told(machine(blank("vda", 1)))},
			Decision{boot.StepRamdisk, "no policy has taken it yet"}},
		{"a protected one with data boots its disk", Node{State: Manageable, Protected: true, Facts: Told(machine(used("vda", 1)))},
			Decision{boot.StepLocal, "protected, and disk vda holds 1 partition"}},
		{"one whose task has no stage stays, however often it boots", Node{State: Manageable, Policy: "p", Facts: Told(machine(used("vda", 1)))},
			Decision{boot.StepRamdisk, "policy p keeps it in the ramdisk"}},
		{"the first stage writes from the ramdisk", Node{State: WaitCallBack, Policy: "p", Stage: 1, Facts: Told(machine())},
			Decision{boot.StepRamdisk, "policy p, stage 1 of 2: write"}},
		{"the second stage boots the disk", Node{State: WaitCallBack, Policy: "p", Stage: 2, Facts: Told(machine())},
			Decision{boot.StepLocal, "policy p, stage 2 of 2: first-boot"}},
		{"an installed node boots its disk", Node{State: Active, Policy: "p", Installed: "p", Facts: Told(machine())},
			Decision{boot.StepLocal, "installed by policy p"}},
		{"a failed install does not boot the disk", Node{State: DeployFailed, Policy: "p", Stage: 1, LastError: "sums differ", Facts: Told(machine())},
			Decision{boot.StepRamdisk, "deploy failed: sums differ"}},
		{"a held node is left alone", Node{State: WaitCallBack, Policy: "p", Stage: 2, Hold: "started 3 times", Facts: Told(machine())},
			Decision{boot.StepRamdisk, "on hold: started 3 times"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, decide(&tt.node, imageTask)); diff != "" {
				t.Errorf("decide (-want +got):\n%s", diff)
			}
		})
	}
}

func policies(list ...candidate) []candidate {
	for i := range list {
		if list[i].Task == nil {
			list[i].Task, list[i].Repo = imageTask, smallOS
		}
	}
	return list
}

func TestChoose(t *testing.T) {
	node := func(disks ...facts.Disk) *Node {
		return &Node{ID: "node1", Facts: Told(machine(disks...)), Tags: []TagResult{{Name: "big", Verdict: "yes"}, {Name: "small", Verdict: "no"},
			{Name: "odd", Verdict: "undecided", Cause: "facts.bmc.ip is not known"}}}
	}
	ok := blank("vda", 2<<30)
	protected := node(ok)
	protected.Protected = true
	for _, tt := range []struct {
		name     string
		node     *Node
		policies []candidate
		win      string
		disk     string
		lines    []string
	}{
		{"the first policy that takes the node wins", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Tags: []string{"big"}}}, candidate{Policy: Policy{Name: "b", Match: "all"}}), "a", "vda",
			[]string{"a: node has tag big", "b: not asked: policy a was first"}},
		{"a policy whose tag the node lacks is passed over", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Tags: []string{"small"}}}, candidate{Policy: Policy{Name: "b", Match: "all"}}), "b", "vda",
			[]string{"a: passed over: node has not tag small", "b: takes every node (match: all)"}},
		{"an undecided tag is not carried, and says why", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Tags: []string{"odd"}}}), "", "",
			[]string{"a: passed over: tag odd undecided: facts.bmc.ip is not known"}},
		{"an undecided tag in not_tags keeps the policy away", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Match: "all", NotTags: []string{"odd"}}}), "", "",
			[]string{"a: passed over: not_tags: tag odd is undecided: facts.bmc.ip is not known"}},
		{"a full policy is passed over", node(ok),
			policies(candidate{Policy: Policy{Name: "db", Tags: []string{"big"}, Max: 1}, Bound: 1}, candidate{Policy: Policy{Name: "spare", Tags: []string{"big"}}}), "spare", "vda",
			[]string{"db: passed over: full (1 of 1)", "spare: node has tag big"}},
		{"a disabled policy is passed over", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Match: "all", Enabled: new(bool)}}), "", "", []string{"a: passed over: not enabled"}},
		{"a protected node is only taken by a policy that says so", protected,
			policies(candidate{Policy: Policy{Name: "a", Match: "all"}}, candidate{Policy: Policy{Name: "b", Match: "all", Approval: "automatic"}}), "b", "vda",
			[]string{"a: passed over: node is protected and the policy asks for approval (muster node unprotect, or approval: automatic)", "b: takes every node (match: all)"}},
		{"a disk with partitions is not taken without wipe", node(used("vda", 2<<30)),
			policies(candidate{Policy: Policy{Name: "a", Match: "all"}}, candidate{Policy: Policy{Name: "b", Match: "all", Wipe: true}}), "b", "vda",
			[]string{"a: passed over: disk vda holds 1 partition and the policy does not say wipe: true", "b: takes every node (match: all)"}},
		{"a disk smaller than the image is not taken", node(blank("vda", 1<<20)),
			policies(candidate{Policy: Policy{Name: "a", Match: "all", Wipe: true}}), "", "",
			[]string{"a: passed over: no disk fits (vda has 1048576 bytes, 1073741824 are needed)"}},
		{"hints choose among disks, then the smallest", node(blank("vda", 8<<30), blank("vdb", 4<<30), blank("vdc", 2<<30)),
			policies(candidate{Policy: Policy{Name: "a", Match: "all", Disk: DiskHints{MinBytes: 3 << 30}}}), "a", "vdb",
			[]string{"a: takes every node (match: all)"}},
		{"unknown disks are not no disks", &Node{ID: "node1", Facts: Told(&facts.Facts{Schema: 1})},
			policies(candidate{Policy: Policy{Name: "a", Match: "all"}}), "", "", []string{"a: passed over: its disks are not known"}},
		{"a task without a disk needs none", &Node{ID: "node1", Facts: Told(&facts.Facts{Schema: 1})},
			policies(candidate{Policy: Policy{Name: "a", Match: "all"}, Task: keepTask}), "a", "", []string{"a: takes every node (match: all)"}},
		{"a policy without its repo is passed over", node(ok),
			policies(candidate{Policy: Policy{Name: "a", Match: "all", Repo: "gone"}, Task: imageTask}), "", "", []string{`a: passed over: there is no repo "gone"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			win, disk, got := choose(tt.node, tt.policies)
			var lines []string
			for _, l := range got {
				lines = append(lines, l.Policy+": "+l.Why)
			}
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if (win == nil) != (tt.win == "") || win != nil && win.Name != tt.win {
				t.Errorf("choose = %v; want %q", win, tt.win)
			}
			if (disk == nil) != (tt.disk == "") || disk != nil && disk.Name != tt.disk {
				t.Errorf("disk = %v; want %q", disk, tt.disk)
			}
		})
	}
}

func TestTokensAreOfOneScopeNodeAndNumber(t *testing.T) {
	k, other := Key{1}, Key{2}
	token := k.token(scopeBoot, "node7", 3)
	if node, n, ok := k.open(scopeBoot, token); !ok || node != "node7" || n != 3 {
		t.Errorf("open(%q) = %q %d %t", token, node, n, ok)
	}
	for name, bad := range map[string]func() bool{
		"another scope":  func() bool { _, _, ok := k.open(scopeStage, token); return ok },
		"another key":    func() bool { _, _, ok := other.open(scopeBoot, token); return ok },
		"another node":   func() bool { _, _, ok := k.open(scopeBoot, strings.Replace(token, "node7", "node8", 1)); return ok },
		"another number": func() bool { _, _, ok := k.open(scopeBoot, strings.Replace(token, ".3.", ".4.", 1)); return ok },
		"cut":            func() bool { _, _, ok := k.open(scopeBoot, token[:len(token)-1]); return ok },
		"empty":          func() bool { _, _, ok := k.open(scopeBoot, ""); return ok },
	} {
		if bad() {
			t.Errorf("a token of %s was taken", name)
		}
	}
}

func TestHostname(t *testing.T) {
	for _, tt := range []struct{ pattern, want, err string }{
		{`osd{{ printf "%03d" .Seq }}.example.net`, "osd007.example.net", ""},
		{"{{.ID}}.lab", "node1.lab", ""},
		{"", "", ""},
		{"a b", "", "no host name"},
		{"{{.Secret}}", "", "can't evaluate"},
		{"{{", "", "hostname pattern"},
		{"-x", "", "no host name"},
	} {
		got, err := hostname(tt.pattern, "node1", 7)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("hostname(%q) = %q, %v; want %q, %q", tt.pattern, got, err, tt.want, tt.err)
		}
	}
}

func TestParseObjectsRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"an unknown kind", "kind: Tagg\nname: a", `kind "Tagg"`},
		{"an unknown field", "kind: Tag\nname: a\nrule: 'true'\nrul: x", `unknown field "rul"`},
		{"a wrong type", "kind: Policy\nname: a\nmatch: all\ntask: image\nmax: many", "field max: want a number, not string"},
		{"a word for a list", "kind: Policy\nname: a\ntags: small\ntask: image", "field tags: want a list, as in [a, b], not string"},
		{"YAML 1.2 has no yes", "kind: Policy\nname: a\nmatch: all\ntask: image\nwipe: yes", "field wipe: want true or false, not string"},
		{"a doubled key", "kind: Tag\nname: a\nname: b\nrule: true", "already defined"},
		{"a policy that would take every node unsaid", "kind: Policy\nname: a\ntask: image", "match: all"},
		{"a name with a slash", "kind: Tag\nname: a/b\nrule: true", "Tag name"},
		{"an alias", "kind: Tag\nname: &x a\nrule: *x", "anchors and aliases"},
		{"a hostname pattern that gives none", "kind: Policy\nname: a\nmatch: all\ntask: image\nhostname: a_b", "no host name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseObjects([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseObjects = %v; want %q", err, tt.want)
			}
		})
	}
}
