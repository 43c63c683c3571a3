package broker

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
)

// disks is a list of ramdisks as a catalog has it.
func ramdisks(list ...Ramdisk) []Ramdisk {
	slices.SortFunc(list, inOrder)
	return list
}

func ramdisk(name, arch string, order int, tags ...string) Ramdisk {
	return Ramdisk{Name: name, Arch: arch, Order: order, Tags: tags}
}

func TestPickRamdisk(t *testing.T) {
	node := &Node{ID: "node1", Tags: []TagResult{{Name: "big", Verdict: "yes"}, {Name: "gpu", Verdict: "yes"}, {Name: "small", Verdict: "no"},
		{Name: "odd", Verdict: "undecided", Cause: "facts.bmc.ip is not known"}}}
	stranger := &Node{ID: "node2"}
	std := ramdisk("default", "amd64", 1000)
	for _, tt := range []struct {
		name   string
		node   *Node
		arch   string
		policy *Policy
		all    []Ramdisk
		win    string
		lines  []string
	}{
		{"a machine never seen gets the default", stranger, "amd64", nil, ramdisks(std, ramdisk("big", "amd64", 1, "big")), "default",
			[]string{"big: passed over: node has not tag big", "default: the default for amd64: it asks for no tags"}},
		{"one that carries the tags gets theirs, whatever the default's order", node, "amd64", nil, ramdisks(ramdisk("default", "amd64", 1), ramdisk("big", "amd64", 50, "big", "gpu")), "big",
			[]string{"big: node has tags big, gpu", "default: not asked: ramdisk big was first"}},
		{"one tag of two is not enough", node, "amd64", nil, ramdisks(std, ramdisk("x", "amd64", 1, "big", "small")), "default",
			[]string{"x: passed over: node has not tag small", "default: the default for amd64: it asks for no tags"}},
		{"an undecided tag is not carried, and says why", node, "amd64", nil, ramdisks(std, ramdisk("x", "amd64", 1, "odd")), "default",
			[]string{"x: passed over: tag odd undecided: facts.bmc.ip is not known", "default: the default for amd64: it asks for no tags"}},
		{"the lower order is asked first", node, "amd64", nil, ramdisks(ramdisk("a", "amd64", 20, "big"), ramdisk("b", "amd64", 10, "gpu")), "b",
			[]string{"b: node has tag gpu", "a: not asked: ramdisk b was first"}},
		{"no order is order 100, and names decide between equals", node, "amd64", nil,
			ramdisks(ramdisk("late", "amd64", 101, "big"), ramdisk("c", "amd64", 0, "big"), ramdisk("b", "amd64", 100, "big")), "b",
			[]string{"b: node has tag big", "c: not asked: ramdisk b was first", "late: not asked: ramdisk b was first"}},
		{"an operator's own default stands before the server's", node, "amd64", nil, ramdisks(std, ramdisk("ours", "amd64", 0)), "ours",
			[]string{"ours: the default for amd64: it asks for no tags", "default: not asked: ramdisk ours was first"}},
		{"each architecture has its own", node, "arm64", nil, ramdisks(std, ramdisk("arm", "arm64", 0), ramdisk("big", "amd64", 0, "big")), "arm",
			[]string{"big: passed over: for amd64, and this machine is arm64", "arm: the default for arm64: it asks for no tags", "default: not asked: ramdisk arm was first"}},
		{"an architecture without one gets none", node, "arm64", nil, ramdisks(std), "",
			[]string{"default: passed over: for amd64, and this machine is arm64"}},
		{"the policy's own is taken, whatever tags it asks for", node, "amd64", &Policy{Name: "web", Ramdisk: "rescue"},
			ramdisks(std, ramdisk("rescue", "amd64", 900, "small"), ramdisk("big", "amd64", 1, "big")), "rescue",
			[]string{"big: not asked: policy web names ramdisk rescue", "rescue: policy web names it", "default: not asked: policy web names ramdisk rescue"}},
		{"a policy's own for another machine is none, and nothing else is tried", node, "arm64", &Policy{Name: "web", Ramdisk: "rescue"},
			ramdisks(ramdisk("arm", "arm64", 0), ramdisk("rescue", "amd64", 0)), "",
			[]string{"arm: not asked: policy web names ramdisk rescue", "rescue: policy web names it, but it is for amd64, and this machine is arm64"}},
		{"a policy that names none leaves it to the tags", node, "amd64", &Policy{Name: "web"}, ramdisks(std, ramdisk("big", "amd64", 1, "big")), "big",
			[]string{"big: node has tag big", "default: not asked: ramdisk big was first"}},
		{"where there is none, there is none", node, "amd64", nil, nil, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			win, lines := pickRamdisk(tt.node, tt.arch, tt.policy, tt.all)
			var got []string
			for _, l := range lines {
				got = append(got, l.Ramdisk+": "+l.Why)
				if l.Wins != (win != nil && l.Ramdisk == win.Name) {
					t.Errorf("line %q wins: %t", l.Ramdisk, l.Wins)
				}
			}
			if diff := cmp.Diff(tt.lines, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if name := nameOf(win); name != tt.win {
				t.Errorf("the node boots %q; want %q", name, tt.win)
			}
		})
	}
}

func nameOf(r *Ramdisk) string {
	if r == nil {
		return ""
	}
	return r.Name
}

func TestArchOf(t *testing.T) {
	arm := &Node{Boot: BootKeys{CPU: "arm64"}}
	told := &Node{Facts: Told(&facts.Facts{Arch: "aarch64"})}
	for _, tt := range []struct {
		name string
		node *Node
		arch boot.Arch
		want string
	}{
		{"a BIOS", &Node{}, boot.ArchBIOS, "amd64"},
		{"x64 UEFI", &Node{}, boot.ArchX64, "amd64"},
		{"x64 that calls itself EBC", &Node{}, boot.ArchEBC, "amd64"},
		{"x64 by HTTP", &Node{}, boot.ArchX64HTTP, "amd64"},
		{"arm64 UEFI", &Node{}, boot.ArchARM64, "arm64"},
		{"arm64 by HTTP", &Node{}, boot.ArchARM64HTTP, "arm64"},
		{"GRUB's name for its configuration shows none: firmware did", arm, boot.ArchX64, "arm64"},
		{"or the agent", told, boot.ArchBIOS, "arm64"},
		{"firmware of now stands before the agent of then", &Node{Boot: BootKeys{CPU: "amd64"}, Facts: told.Facts}, boot.ArchX64, "amd64"},
		{"what the client shows stands before both", &Node{Boot: BootKeys{CPU: "amd64"}}, boot.ArchARM64, "arm64"},
		{"an agent of something else says nothing", &Node{Facts: Told(&facts.Facts{Arch: "i686"})}, boot.ArchBIOS, "amd64"},
		{"32-bit UEFI has none", &Node{}, boot.ArchIA32, "IA32 UEFI"},
		{"nor has what nobody knows", &Node{}, 0x77, "unknown (0x77)"},
	} {
		if got := archOf(tt.node, boot.Client{Arch: tt.arch}); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
	}
}
