package broker

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// plantedNode is the planted machine of agent/facts, with an operator's words.
func plantedNode(t testing.TB) *Node {
	t.Helper()
	raw, err := os.ReadFile("../agent/facts/testdata/planted.json")
	if err != nil {
		t.Fatal(err)
	}
	f := &facts.Facts{}
	if err := json.Unmarshal(raw, f); err != nil {
		t.Fatal(err)
	}
	return &Node{ID: "node1", State: WaitCallBack, Hostname: "web1.example.net", Facts: Told(f), Meta: map[string]any{"inspection_scope": "lab", "u": 17}}
}

func inspected(t testing.TB, n *Node) *environment {
	t.Helper()
	e, err := (&catalog{}).environment(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The whole of what inspection rules see of a machine.
func TestInventoryOfAMachine(t *testing.T) {
	e := inspected(t, plantedNode(t)).ironic()
	got, err := json.MarshalIndent(map[string]any{"data": e.Data, "plugin_data": e.Plugin, "node": e.Node, "lacking": e.Lacking}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden := "testdata/planted.inspection.json"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// asked is what a rule on one field says, with its warnings.
func asked(t *testing.T, e *environment, condition string) (value, warnings string) {
	t.Helper()
	p, err := ironicNames.Compile(`{"conditions":[` + condition + `]}`)
	if err != nil {
		t.Fatal(err)
	}
	return p.Explain(e.ironic()).Parts[0].Value, strings.Join(p.Warnings(), "; ")
}

// What a node shows has a name that rules are checked against, in both forms.
func TestWhatANodeShowsHasAName(t *testing.T) {
	e := inspected(t, plantedNode(t))
	leaves := 0
	var walk func(tree any, path, template string)
	walk = func(tree any, path, template string) {
		switch v := tree.(type) {
		case map[string]any:
			for name, inside := range v {
				walk(inside, path+"."+name, template+"["+name+"]")
			}
		case []any:
			for i, inside := range v {
				walk(inside, fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%s[%d]", template, i))
			}
		default:
			leaves++
			condition := fmt.Sprintf(`{"op":"is-empty","field":"$%s"}`, path)
			if strings.HasPrefix(template, "plugin_data") {
				condition = fmt.Sprintf(`{"op":"is-empty","args":["{%s}"]}`, template)
			}
			if value, warnings := asked(t, e, condition); warnings != "" || strings.Contains(value, "there is no") {
				t.Errorf("%s is %s; warnings %q", condition, value, warnings)
			}
		}
	}
	walk(e.ironic().Data, "", "data")
	walk(e.ironic().Plugin, "", "plugin_data")
	if leaves < 300 {
		t.Errorf("walked over %d values; want at least 300", leaves)
	}
}

// missingOnPlanted are the names that rules may read and the planted machine has nothing for.
var missingOnPlanted = []string{"inventory.cpu.frequency is undecided (inventory.cpu.frequency: muster does not know it of this node)"}

// A name that is made from facts leads somewhere, and one that is not is undecided.
func TestNamesLeadSomewhere(t *testing.T) {
	e := inspected(t, plantedNode(t))
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(ironicNames.Inventory)) {
		path, plugin := strings.CutPrefix(name, "plugin_data.")
		if plugin {
			continue // has the same values, by reference
		}
		path = strings.ReplaceAll(path, "[]", "[*]")
		value, warnings := asked(t, e, fmt.Sprintf(`{"op":"is-empty","field":"%s","invert":true}`, path))
		switch known := ironicNames.Inventory[name] != ""; {
		case !known && (!strings.HasPrefix(value, "undecided") || !strings.Contains(warnings, "never known")):
			t.Errorf("%s is %s; warnings %q", name, value, warnings)
		case known && strings.Contains(value, "there is no"), known && strings.Contains(value, "undecided"):
			missing = append(missing, name+" is "+value)
		}
	}
	if diff := cmp.Diff(missingOnPlanted, missing); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What ironic-python-agent says of a machine that has no such thing, and what it would know and muster does not.
func TestInventoryOfWhatIsNotThere(t *testing.T) {
	e := inspected(t, nodeWith(t, `{"schema":1,"system":{},"firmware":{},"cpu":{},"bmc":{"present":false},"boot":{},"numa":[],
		"disks":[{"id":"a","name":"sda","size_bytes":4294967295},{"id":"b","name":"sdc","size_bytes":8589934592},{"id":"c","name":"sdb","size_bytes":8589934592,"rotational":true}],
		"nics":[{"name":"eth0","mac":"52:54:00:00:00:01","ipv6":["fd00::5/64"],"lldp":[]}]}`))
	for _, tt := range []struct{ condition, want string }{
		{`{"op":"eq","field":"inventory.system_vendor.serial_number","value":"x","invert":true}`, `yes ("")`},
		{`{"op":"eq","field":"inventory.system_vendor.firmware.version","value":""}`, `yes ("")`},
		{`{"op":"eq","field":"inventory.bmc_address","value":"x","invert":true}`, "yes (null)"},
		{`{"op":"is-empty","field":"ipmi_address"}`, "yes (null)"},
		{`{"op":"eq","field":"inventory.disks[*].wwn","value":"x","multiple":"all","invert":true}`, "yes (null)"},
		{`{"op":"eq","field":"inventory.disks[*].rotational","value":true}`, "yes (true)"},
		{`{"op":"eq","field":"inventory.disks[*].rotational","value":false}`, "undecided (inventory.disks[*].rotational: muster does not know it of this node)"},
		{`{"op":"eq","field":"inventory.disks[2].rotational","value":true}`, "yes (true)"},
		{`{"op":"eq","field":"inventory.boot.current_boot_mode","value":"uefi"}`, "undecided (inventory.boot.current_boot_mode: muster does not know it of this node)"},
		{`{"op":"contains","field":"inventory.cpu.flags","value":"vmx"}`, "undecided (inventory.cpu.flags: muster does not know it of this node)"},
		{`{"op":"eq","field":"cpus","value":1}`, "undecided (cpus: muster does not know it of this node)"},
		{`{"op":"is-empty","field":"memory_mb"}`, "undecided (facts.memory is not known)"},
		{`{"op":"eq","field":"root_disk.name","value":"/dev/sdb"}`, `yes ("/dev/sdb")`},
		{`{"op":"eq","field":"local_gb","value":7}`, "yes (7)"},
		{`{"op":"eq","field":"all_interfaces.eth0.ip","value":"fd00::5"}`, `yes ("fd00::5")`},
		{`{"op":"is-empty","field":"all_interfaces.eth0.lldp_processed"}`, "yes (there is no all_interfaces.eth0.lldp_processed)"},
		{`{"op":"eq","args":[["{node.name}","None"]]}`, "yes (null)"},
		{`{"op":"eq","field":"node://properties.u","value":17}`, `yes ("17")`},
	} {
		if got, _ := asked(t, e, tt.condition); got != tt.want {
			t.Errorf("%s is %s; want %s", tt.condition, got, tt.want)
		}
	}
}
