package peers

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/found.txt anew; review it as code")

// recordedNames are those of the boot that testdata was recorded in.
var recordedNames = map[string]string{
	"sdb": "../../devices/pci0000:00/0000:00:1f.2/ata1/host1/target1:0:0/1:0:0:0/block/sdb",
	"sdd": "../../devices/pci0000:00/0000:00:07.0/virtio0/host7/target7:0:0/7:0:0:0/block/sdd",

	"nvme0n1": "../../devices/pci0000:00/0000:00:12.0/0000:03:00.0/nvme/nvme0/nvme0n1",
	"nvme0n2": "../../devices/pci0000:00/0000:00:12.0/0000:03:00.0/nvme/nvme0/nvme0n2",

	"enp129s0": "../../devices/pci0000:80/0000:80:00.0/0000:81:00.0/virtio2/net/enp129s0",
}

// What is judged to be found in real outputs, each cut to a few parts of the planted machine.
func TestJudgeRecordedOutputs(t *testing.T) {
	r := &Record{Names: recordedNames}
	for _, tool := range Tools {
		name := filepath.Join("testdata", tool.Name+".txt")
		if tool.JSON {
			name = filepath.Join("testdata", tool.Name+".json")
		}
		output, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Tools = append(r.Tools, Measured{Name: tool.Name, Output: output})
	}
	report := Judge("recorded", r, Items, Planted)
	var got strings.Builder
	if err := report.Print(&got, true); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/found.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("Judge: (-want +got)\n%s", diff)
	}
}

// Every item can be found: its patterns compile, and its thing is one of those planted.
func TestItemsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, it := range Items {
		name := it.Group + ": " + it.Name
		if seen[name] {
			t.Errorf("%s: there are two", name)
		}
		seen[name] = true
		if len(it.Want) == 0 {
			t.Errorf("%s: nothing is wanted", name)
		}
		if it.By[Ours] != "" {
			t.Errorf("%s: a pattern of its own for %s", name, Ours)
		}
		if it.Of != "" && !hasThing(it.Of) {
			t.Errorf("%s: of %q, which is not planted", name, it.Of)
		}
		parse(nil, false).found("", it, Planted)
		for tool := range it.By {
			parse(nil, false).found(tool, it, Planted)
		}
	}
}

func hasThing(name string) bool {
	for _, thing := range Planted {
		if thing.Name == name {
			return true
		}
	}
	return false
}
