package lab

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
)

// The images are made by Debian's tools, in a directory of any name, and again over what an earlier run left.
func TestPlantedDisksAreMade(t *testing.T) {
	for _, need := range plantedPrograms {
		if !installed(need.path)() {
			t.Skip(missingNeed(need))
		}
	}
	dir := t.TempDir()
	for range 2 {
		if err := makePlantedDisks(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLabPlanted boots the planted machine over the network and names each value that the broker then knows, or not.
func TestLabPlanted(t *testing.T) {
	for _, f := range []Firmware{BIOS, UEFI} {
		t.Run(string(f), func(t *testing.T) {
			p := lookAtPlanted(t, f)
			t.Parallel()
			ctx := deadline(t)
			n, err := p.Node(ctx)
			if err != nil {
				t.Fatal(err)
			}
			checkPlanted(t, n, f)
			logCosts(t, n, p.Life.Events)
			if f != BIOS {
				return
			}
			// Another start of the same machine gives its disks other names maybe, and the same hardware.
			before, first := n.Facts, hardwareHash(t, n)
			if err := p.Life.Machine.Reset(); err != nil {
				t.Fatal(err)
			}
			if n, err = p.Node(ctx); err != nil {
				t.Fatal(err)
			}
			if again := hardwareHash(t, n); again != first {
				t.Errorf("hw_hash is %s, and %s after a reset; want the same\n%s", first, again, cmp.Diff(before, n.Facts))
			}
			checkPlanted(t, n, f)
		})
	}
}

func lookAtPlanted(t *testing.T, f Firmware) *PlantedLook {
	t.Helper()
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 (make test-lab)")
	}
	r, err := Up(t.Context(), Config{Name: "mplant-" + string(f[0]), Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	s, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: filepath.Join(labCache(), "ramdisk"), Args: r.PlantedServeArgs(f)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	p, err := r.LookAtPlanted(t.Context(), s, f, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func checkPlanted(t *testing.T, n *broker.Record, f Firmware) {
	t.Helper()
	for _, e := range n.Errors {
		t.Errorf("not read: %+v", e)
	}
	judge(t, n.Facts, PlantedValues(f))
	judge(t, n.FactsState, PlantedStates())
}

func judge(t *testing.T, found any, values []PlantedValue) {
	t.Helper()
	tree, err := Tree(found)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := v.Judge(tree); err != nil {
			t.Errorf("%s: %v", v.Item, err)
		}
	}
	t.Logf("%d planted values in %T", len(values), found)
}

func hardwareHash(t *testing.T, n *broker.Record) string {
	t.Helper()
	h, err := n.Facts.HardwareHash()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// logCosts says how large the facts are and how long each collector took.
func logCosts(t *testing.T, n *broker.Record, events []broker.Event) {
	t.Helper()
	raw, err := json.Marshal(n.Facts)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("facts: %d bytes, %d with gzip", len(raw), packed.Len())
	i := slices.IndexFunc(events, Kind(broker.EventRegistered, ""))
	if i < 0 {
		t.Fatal("the node never registered")
	}
	var took []string
	for _, name := range slices.Sorted(maps.Keys(events[i].Data)) {
		took = append(took, fmt.Sprintf("%s %s", name, events[i].Data[name]))
	}
	t.Logf("collected: %s", strings.Join(took, ", "))
}

// A value that is wrong, missing, in another unit or of another type is named with its path, what is there and what
// should be.
func TestPlantedValueIsJudged(t *testing.T) {
	var tree any
	d := json.NewDecoder(strings.NewReader(`{"n":{"speed_mts":2933,"serial":"7200","list":[10,21],"on":true},
		"disks":[{"id":"a.b","size_bytes":512,"parts":[{"number":2,"name":"root"}]},{"id":"c"},{"id":"c"}],"none":[]}`))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want any
		err  string
	}{
		{"n.speed_mts", 2933, ""},
		{"n.speed_mts", 2934, "n.speed_mts: got 2933; want 2934"},
		{"n.serial", 7200, `n.serial: got "7200"; want 7200`},
		{"n.on", true, ""},
		{"n.list", []int{10, 21}, ""},
		{"n.list.1", 21, ""},
		{"n.list.2", 21, "n.list.2: got none; want 21"},
		{"n.list", []int{21, 10}, "n.list: got [10,21]; want [21,10]"},
		{"disks.#", 3, ""},
		{"none.#", 0, ""},
		{"gone.#", 0, "gone.#: got none; want 0"},
		{"disks[id=a.b].size_bytes", 512, ""},
		{"disks[id=a.b].parts[number=2].name", "root", ""},
		{"disks[id=a.b].rpm", nil, ""},
		{"disks[id=a.b].size_bytes", nil, "disks[id=a.b].size_bytes: got 512; want none"},
		{"disks[id=x].rpm", nil, "disks[id=x].rpm: got none: 0 of 3 have id=x; want none"},
		{"disks[id=c].rpm", nil, "disks[id=c].rpm: got none: 2 of 3 have id=c; want none"},
		{"gone[id=x].rpm", 1, "gone[id=x].rpm: got none: 0 of 0 have id=x; want 1"},
		{"n[id=x]", nil, ""},
		{"n[speed_mts]", 2933, ""},
		{"n.list[10]", 1, "n.list[10]: got none: select [10]: want [NAME=VALUE] behind a list; want 1"},
		{"disks[id=x", 1, `disks[id=x: got none: select "[id=x": no ] after [; want 1`},
		{"n.speed_mts", Between{2900, 3000}, ""},
		{"n.speed_mts", Between{3000, 4000}, "n.speed_mts: got 2933; want 3000 to 4000"},
		{"n.serial", Between{7000, 8000}, `n.serial: got "7200"; want 7000 to 8000`},
		{"n.serial", Holding("20"), ""},
		{"n.serial", Holding("21"), `n.serial: got "7200"; want a text with "21"`},
	} {
		t.Run(tt.path, func(t *testing.T) {
			err := PlantedValue{Path: tt.path, Want: tt.want}.Judge(tree)
			if got := fmt.Sprint(err); got != tt.err && (err != nil || tt.err != "") {
				t.Errorf("Judge() = %v; want %q", err, tt.err)
			}
		})
	}
}

// Two rows of one name, or of one path, would hide each other.
func TestPlantedValuesAreNamedOnce(t *testing.T) {
	for _, f := range []Firmware{BIOS, UEFI} {
		seen := map[string]bool{}
		for _, v := range append(PlantedValues(f), PlantedStates()...) {
			if seen[v.Item] || seen[v.Path] {
				t.Errorf("%s: %s and %s are not the only ones of their name", f, v.Item, v.Path)
			}
			seen[v.Item], seen[v.Path] = true, true
		}
	}
}
