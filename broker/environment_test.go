package broker

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// compiled is a catalog of rules by name.
func compiled(t testing.TB, rules map[string]string) *catalog {
	t.Helper()
	schema, err := newSchema()
	if err != nil {
		t.Fatal(err)
	}
	c := &catalog{programs: map[string]program{}}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		src := rules[name]
		if c.programs[name], err = compileRule(schema, Rule(src)); err != nil {
			t.Fatalf("tag %s: %v", name, err)
		}
		c.tags = append(c.tags, Tag{Name: name, Rule: Rule(src)})
	}
	c.all = c.about(c.tagNames())
	c.rules, err = hashOf(c.tags)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// judged is what a tag says, with its cause.
func judged(t *testing.T, c *catalog, n *Node, tag string) string {
	t.Helper()
	e, err := c.environment(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := e.judge(tag)
	if !ok {
		t.Fatalf("there is no tag %s", tag)
	}
	if r.Cause != "" {
		return r.Verdict.String() + ": " + r.Cause
	}
	return r.Verdict.String()
}

func nodeWith(t *testing.T, doc string) *Node {
	t.Helper()
	n := &Node{ID: "node1", State: Manageable, Protected: true, Meta: map[string]any{"rack": "r12", "u": "17"}}
	if doc == "" {
		return n
	}
	f := &facts.Facts{}
	if err := json.Unmarshal([]byte(doc), f); err != nil {
		t.Fatal(err)
	}
	n.Facts = Told(f)
	return n
}

// A rule, in either language, on what a node shows of itself.
func TestRulesOnNodes(t *testing.T) {
	broken := `{"schema":1,"incomplete":["disks","bmc","nics","disks","nothing"],"disks":[{"id":"a","name":"sda","size_bytes":5}],
		"nics":[{"name":"eth1","mac":"52:54:00:00:00:02","link":true}]}`
	whole := `{"schema":1,"arch":"x86_64","system":{"manufacturer":"HPE","product":"DL360"},"cpu":{"threads":16,"sockets":2},"memory":{"total_bytes":4294967296},
		"virt":{"is_virtual":true,"kind":"qemu"},"disks":[{"id":"a","name":"sda","size_bytes":5,"model":"MZ7"}],"custom":{"rack":"r12"},
		"nics":[{"name":"eth0","mac":"52:54:00:00:00:01","pxe":true,"mtu":9000,"ipv4":["10.1.2.3/16"]}]}`
	for _, tt := range []struct{ name, facts, rule, want string }{
		{"a section that failed midway", broken, `len(facts.disks) == 1`, "undecided: facts.disks is incomplete: timeout: sdb: no answer (and 1 more)"},
		{"is known from below", broken, `len(facts.disks) >= 1`, "yes"},
		{"a section that failed whole", broken, `facts.bmc.present`, "undecided: facts.bmc.present is not known (facts.bmc is incomplete: io: no device)"},
		{"a section whose collector said nothing of it", broken, `any(facts.nics, .mac == "52:54:00:00:00:01")`, "undecided: facts.nics is incomplete"},
		{"Razor's list of some disks is none", broken, `["=",["fact","blockdevices"],"sda"]`, `undecided: missing-fact at /1: there is no fact "blockdevices"`},
		{"but what is said of one disk is true", broken, `["=",["fact","blockdevice_sda_size"],5]`, "yes"},
		{"Razor's first MAC may be another's", broken, `["=",["fact","macaddress"],"52:54:00:00:00:02"]`, `undecided: missing-fact at /1: there is no fact "macaddress"`},
		{"a MAC that is seen is there", broken, `["has_macaddress","52:54:00:00:00:02"]`, "yes"},
		{"one that is not may be", broken, `["not",["has_macaddress","52:54:00:00:00:01"]]`, "undecided: incomplete at /1: facts.nics is incomplete"},
		{"of a node without facts no MAC is known", "", `["not",["has_macaddress","52:54:00:00:00:01"]]`, "undecided: incomplete at /1: facts are not known"},
		{"nor where interfaces were never listed", `{"schema":1}`, `["not",["has_macaddress","52:54:00:00:00:01"]]`, "undecided: incomplete at /1: facts.nics is not known"},
		{"Facter's names", whole, `["and",["=",["fact","architecture"],"x86_64"],["=",["fact","hardwaremodel"],"x86_64"],["=",["fact","is_virtual"],true],["=",["fact","virtual"],"kvm"],
			["=",["fact","processorcount"],16],["=",["fact","physicalprocessorcount"],2],["=",["num",["fact","memorysize_mb"]],4096],["=",["fact","manufacturer"],"HPE"],
			["=",["fact","productname"],"DL360"],["=",["fact","interfaces"],"eth0,lo"],["=",["fact","macaddress"],["fact","macaddress_eth0"]],["=",["fact","ipaddress"],"10.1.2.3"],
			["=",["fact","mtu_eth0"],9000],["=",["fact","blockdevices"],"sda"],["=",["fact","blockdevice_sda_size"],5],["=",["fact","blockdevice_sda_model"],"MZ7"]]`, "yes"},
		{"custom facts have a table of their own", whole, `["=",["fact","custom.rack"],"r12"]`, "yes"},
		{"and pose as no other", `{"schema":1,"custom":{"virtual":"physical"}}`, `["=",["fact","virtual"],"physical"]`, `undecided: missing-fact at /1: there is no fact "virtual"`},
		{"Ironic's list of some disks may be longer", broken, `{"conditions":[{"op":"gt","field":"inventory.disks[*].size","value":5}]}`, "undecided: facts.disks is incomplete: timeout: sdb: no answer (and 1 more)"},
		{"but one disk that fits is enough", broken, `{"conditions":[{"op":"ge","field":"inventory.disks[*].size","value":5}]}`, "yes"},
		{"and one that does not is enough for all", broken, `{"conditions":[{"op":"gt","field":"inventory.disks[*].size","value":5,"multiple":"all"}]}`, "no"},
		{"the first of some disks may be another", broken, `{"conditions":[{"op":"is-empty","args":{"value":"{inventory[disks][0][size]}"}}]}`, "undecided: facts.disks is incomplete: timeout: sdb: no answer (and 1 more)"},
		{"a condition that says no decides in Ironic's rules, too", broken, `{"conditions":[{"op":"eq","field":"bmc_mac","value":"x"},{"op":"is-empty","field":"inventory.bmc_mac"},{"op":"eq","field":"node://name","value":"x"}]}`, "no"},
		{"of a node without facts no inventory is known", "", `{"conditions":[{"op":"is-empty","field":"inventory.gpu"},{"op":"is-empty","field":"inventory.cpu"}]}`, "undecided: facts are not known"},
		{"what muster never knows", whole, `{"conditions":[{"op":"eq","field":"inventory.hostname","value":"x","invert":true}]}`, "undecided: inventory.hostname is never known to muster"},
		{"Ironic's names", whole, `{"conditions":[{"op":"eq","field":"inventory.cpu.count","value":16},{"op":"eq","field":"cpus","value":16},{"op":"eq","field":"cpu_arch","value":"x86_64"},
			{"op":"eq","field":"inventory.disks[0].name","value":"/dev/sda"},{"op":"is-empty","field":"inventory.disks[*].wwn","multiple":"all"},{"op":"eq","field":"local_gb","value":0},
			{"op":"eq","field":"all_interfaces.eth0.ip","value":"10.1.2.3"},{"op":"in-net","field":"inventory.interfaces[*].ipv4_address","value":"10.1.0.0/16"},
			{"op":"eq","field":"node://extra.rack","value":"r12"},{"op":"eq","field":"node://provision_state","value":"manageable"}]}`, "yes"},
		{"Ironic's templates", whole, `{"conditions":[{"op":"eq","args":{"values":["{inventory[system_vendor][product_name]}/{node.extra[u]}","DL360/17"]}},
			{"op":"one-of","args":{"value":"{plugin_data[all_interfaces][eth0][mac]}","values":["52:54:00:00:00:01"]}}]}`, "yes"},
		{"a scope is the node's", whole, `{"scope":"lab","conditions":[]}`, "no"},
		{"metadata", whole, `["and",["=",["metadata","rack"],"r12"],["<",["num",["metadata","u"]],18]]`, "yes"},
		{"a new node is protected", whole, `["=",["state","installed"],"+protected"]`, "yes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := nodeWith(t, tt.facts)
			n.Errors = []facts.ProbeError{{Collector: "disks", Code: "timeout", Msg: "sdb: no answer"}, {Collector: "bmc", Code: "io", Msg: "no device"},
				{Collector: "disks", Code: "io", Msg: "sdc"}}
			if got := judged(t, compiled(t, map[string]string{"t": tt.rule}), n, "t"); got != tt.want {
				t.Errorf("%s\n got %s\nwant %s", tt.rule, got, tt.want)
			}
		})
	}
}

func TestStateOfRazor(t *testing.T) {
	c := compiled(t, map[string]string{"null": `["=",["state","installed"],null]`, "web": `["=",["state","installed"],"web"]`, "protected": `["=",["state","installed"],"+protected"]`})
	for _, tt := range []struct {
		name, want string
		node       Node
	}{
		{"a node that may be taken", "null", Node{}},
		{"a protected node", "protected", Node{Protected: true}},
		{"a bound node is no longer protected from being taken", "null", Node{Protected: true, Policy: "web"}},
		{"an installed node", "web", Node{Protected: true, Policy: "web", Installed: "web"}},
	} {
		for tag := range c.programs {
			want := "no"
			if tag == tt.want {
				want = "yes"
			}
			if got := judged(t, c, &tt.node, tag); got != want {
				t.Errorf("%s: %s is %s; want %s", tt.name, tag, got, want)
			}
		}
	}
}

// A tag is judged after those that it refers to, whatever their names, once, and in all languages.
func TestTagsReferToTags(t *testing.T) {
	n := nodeWith(t, `{"schema":1,"arch":"x86_64","custom":{"next":"z"}}`)
	c := compiled(t, map[string]string{
		"a":        `["=",["tag","m"],true]`,
		"m":        `tag("z") and facts.arch == "x86_64"`,
		"z":        `["=",["fact","architecture"],"x86_64"]`,
		"bad":      `[">",["num",["fact","architecture"]],1]`,
		"b-ours":   `tag("bad") or tag("z")`,
		"b-razor":  `["or",["=",["tag","bad"],true],true]`,
		"c-ours":   `tag("gone") and facts.arch == "x86_64"`,
		"c-razor":  `["=",["tag","c-ours"],true]`,
		"d-ironic": `{"conditions":[{"op":"eq","field":"cpu_arch","value":"x86_64"}]}`,
		"d-ours":   `tag("d-ironic")`,
		"d-razor":  `["=",["tag","e-ironic"],true]`,
		"e-ironic": `{"conditions":[{"op":"is-empty","args":["{inventory[hostname]}"]}]}`,
		"dynamic":  `["=",["tag",["str",["fact","custom.next"]]],true]`,
		"self":     `["=",["tag",["lower","SELF"]],true]`,
	})
	if err := c.circle(slices.Sorted(maps.Keys(c.programs))); err != nil {
		t.Error(err)
	}
	for tag, want := range map[string]string{
		"a": "yes", "m": "yes", "dynamic": "yes",
		"b-ours": "yes", "d-ours": "yes",
		"d-razor": "undecided: tag e-ironic: inventory[hostname] is never known to muster",
		"b-razor": `undecided: tag bad: not-a-number at /1: "x86_64" is not a number`,
		"c-razor": `undecided: tag c-ours: there is no tag "gone"`,
		"self":    "undecided: tag self: it refers to itself",
	} {
		if got := judged(t, c, n, tag); got != want {
			t.Errorf("%s is %s; want %s", tag, got, want)
		}
	}
}

// A rule that fails concerns its own tag; the others go on (razor.md, section 2.7).
func TestABadRuleConcernsItsOwnTag(t *testing.T) {
	c := compiled(t, map[string]string{"bad": `[">",["num",["fact","architecture"]],1]`})
	c.programs["good"] = compiled(t, map[string]string{"good": `["=",["fact","architecture"],"x86_64"]`}).programs["good"]
	c.tags = append(c.tags, Tag{Name: "good"})
	got, err := c.evaluate(nodeWith(t, `{"schema":1,"arch":"x86_64"}`), c.about(c.tagNames()))
	if err != nil {
		t.Fatal(err)
	}
	want := []TagResult{{Name: "bad", Verdict: "undecided", Cause: `not-a-number at /1: "x86_64" is not a number`}, {Name: "good", Verdict: "yes"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCircleIsRefusedFromTheTagSaved(t *testing.T) {
	c := compiled(t, map[string]string{"a": `["=",["tag","b"],true]`, "b": `["not",["=",["tag","a"],true]]`})
	err := c.circle([]string{"b"})
	if want := "tag b: cycle at /1/1/1: b -> a -> b"; err == nil || err.Error() != want {
		t.Errorf("circle = %v; want %s", err, want)
	}
}

// A deep chain of tags is no deep trouble.
func TestChainOfTags(t *testing.T) {
	rules := map[string]string{"t0": "true"}
	for i := 1; i < 5000; i++ {
		rules[fmt.Sprintf("t%d", i)] = fmt.Sprintf(`tag("t%d")`, i-1)
		if i%2 == 0 {
			rules[fmt.Sprintf("t%d", i)] = fmt.Sprintf(`["=",["tag","t%d"],true]`, i-1)
		}
	}
	c := compiled(t, rules)
	if err := c.circle([]string{"t4999"}); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, c, nodeWith(t, `{"schema":1}`), "t4999"); got != "yes" {
		t.Errorf("the last of a chain is %s; want yes", got)
	}
}

// BenchmarkTags judges 200 tags, as operators write them, on a machine with two processors and 24 disks: once with the
// environment, which is made for each node, and once it alone.
func BenchmarkTags(b *testing.B) {
	rules := map[string]string{}
	for i := range 200 {
		rules[fmt.Sprintf("t%d", i)] = []string{
			fmt.Sprintf(`facts.system.product matches "^PowerEdge R%d"`, 600+i),
			fmt.Sprintf(`len(facts.disks) >= %d and facts.memory.total_bytes >= 128 * GiB`, i%30),
			fmt.Sprintf(`any(facts.disks, .transport == "nvme" and .size_bytes > %d * GB)`, i),
			fmt.Sprintf(`["and",["=",["fact","manufacturer"],"Dell Inc."],[">=",["num",["fact","processorcount"]],%d]]`, i),
		}[i%4]
	}
	c := compiled(b, rules)
	n := &Node{ID: "node1", State: Manageable, Facts: Told(largeMachine(b))}
	b.Run("environment and tags", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.evaluate(n, c.all); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("environment", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e, err := c.environment(n, nil)
			if err != nil {
				b.Fatal(err)
			}
			e.razor()
		}
	})
	for _, kind := range []string{"t0", "t1", "t2", "t3"} {
		e, err := c.environment(n, nil)
		if err != nil {
			b.Fatal(err)
		}
		e.razor()
		b.Run(c.programs[kind].(fmt.Stringer).String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.programs[kind].eval(e)
			}
		})
	}
}

// largeMachine is the planted machine of agent/facts with the sizes of a real server.
func largeMachine(b *testing.B) *facts.Facts {
	b.Helper()
	raw, err := os.ReadFile("../agent/facts/testdata/planted.json")
	if err != nil {
		b.Fatal(err)
	}
	f := &facts.Facts{}
	if err := json.Unmarshal(raw, f); err != nil {
		b.Fatal(err)
	}
	for i := len(f.Disks); i < 24; i++ {
		d := f.Disks[i%3]
		d.ID, d.Name = fmt.Sprintf("naa.5000c500a1b2c3%02d", i), fmt.Sprintf("sd%c", 'a'+i)
		f.Disks = append(f.Disks, d)
	}
	return f
}
