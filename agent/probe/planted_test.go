package probe

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	mib = 1 << 20
	gib = 1 << 30
)

// patient is the deadline of tests that are not about deadlines, on a machine busy with other things.
const patient = 2 * time.Minute

// plantedMachine is the tree of testdata/planted.tree with its disks.
func plantedMachine(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/planted.tree")
	if err != nil {
		t.Fatal(err)
	}
	root := plant(t, string(text))
	for name, m := range plantedDisks() {
		m.write(t, root, name)
	}
	cpuid := image{0x40000000 + 16, map[int64]string{0x40000000: "\x01\x00\x00\x40TCGTCGTCGTCG"}}
	cpuid.write(t, root, "cpu/0/cpuid")
	return root
}

func plantedDisks() map[string]image {
	sata, mega, stick, ssd := newImage(2*gib), newImage(gib), newImage(512*mib), newImage(3*gib)
	nvme1, nvme2, vblk := newImage(4*gib), newImage(gib), newImage(gib)
	sata.gpt(512, "8b2a6c70-2222-4333-8444-555566667777",
		gptPart{2048, 133119, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0a0b0c0d-0001-4000-8000-000000000001", "EFI System"},
		gptPart{133120, 1181695, "0fc63daf-8483-4772-8e79-3d69d8477de4", "0a0b0c0d-0001-4000-8000-000000000002", "root"},
		gptPart{1181696, 1443839, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "0a0b0c0d-0001-4000-8000-000000000003", "swap"})
	sata.part(2048*512, map[int64]string{54: "FAT16   ", 39: unhex("cdab3412"), 43: "ESP        ", 510: "\x55\xaa"})
	sata.part(133120*512, map[int64]string{1080: "\x53\xef", 1048: "\x02", 1116: "\x3c", 1120: "\xc2\x02",
		1128: unhex("01234567-89ab-cdef-0123-456789abcdef"), 1144: "rootfs"})
	sata.part(1181696*512, map[int64]string{4086: "SWAPSPACE2", 1036: unhex("0fedcba9-8765-4321-0fed-cba987654321"), 1052: "swp"})
	mega.part(0, map[int64]string{65600: "_BHRfS_M", 65568: unhex("deadbeef-0000-4000-8000-000000000002"), 65835: "pool"})
	stick.part(0, map[int64]string{54: "FAT16   ", 39: unhex("eeffc000"), 43: "STICK      ", 510: "\x55\xaa"})
	nvme2.mbr(0, mbrPart{0x83, 2048, 204800}, mbrPart{0x83, 206848, 1890304})
	vblk.part(0, map[int64]string{0: "XFSB", 32: unhex("deadbeef-0000-4000-8000-000000000001"), 108: "data"})
	return map[string]image{"sda": sata, "sdb": mega, "sdc": ssd, "sdd": stick, "nvme0n1": nvme1, "nvme0n2": nvme2, "vda": vblk}
}

func TestPlantedMachine(t *testing.T) {
	r := Run(context.Background(), Options{Root: plantedMachine(t), Deadline: patient, Custom: map[string]string{"rack": "r12"}})
	for _, e := range r.Errors {
		t.Errorf("error %+v", e)
	}
	if err := errors.Join(r.Facts.Validate(), r.State.Validate()); err != nil {
		t.Errorf("Validate: %v", err)
	}
	checkGolden(t, "testdata/planted.json", r.Facts)
	want := facts.State{BootID: "0b6e6a7e-9c1f-4b7e-8a55-3f1e2d4c5b6a", UptimeMS: 12340, RTCEpochS: 1704067220, MemFreeBytes: 1800000 << 10,
		Temps: []facts.Temperature{{Sensor: "acpitz", TempC: -5}, {Sensor: "coretemp", Label: "Core 0", TempC: 51}, {Sensor: "coretemp", Label: "Package id 0", TempC: 54}}}
	if diff := cmp.Diff(want, r.State); diff != "" {
		t.Errorf("state: -want +got\n%s", diff)
	}
	if len(r.TimingMS) != len(Collectors()) {
		t.Errorf("timings of %d collectors; want %d", len(r.TimingMS), len(Collectors()))
	}
}

func checkGolden(t *testing.T, file string, got facts.Facts) {
	t.Helper()
	b, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if *update {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(b)); diff != "" {
		t.Errorf("%s: -want +got\n%s", file, diff)
	}
}

// Two looks at one machine give the same facts, whatever order the collectors end in.
func TestFactsAreTheSameEachTime(t *testing.T) {
	root := plantedMachine(t)
	var first string
	for range 3 {
		r := Run(context.Background(), Options{Root: root, Deadline: patient})
		sum, err := r.Facts.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = sum
		}
		if sum != first {
			t.Fatalf("Hash() = %s, then %s", first, sum)
		}
	}
}

func TestOnlyNamedCollectorsRun(t *testing.T) {
	r := Run(context.Background(), Options{Root: plantedMachine(t), Deadline: patient, Only: []string{"tpm", "gpus", "gpus", "weather"}})
	want := facts.Facts{
		Schema: facts.Schema, TPM: &facts.TPM{Present: true, VersionMajor: 2, Driver: "tpm_crb"},
		GPUs: []facts.GPU{{PCI: "0000:00:01.0", Class: "0300", VendorID: "1234", DeviceID: "1111", BootVGA: true}, {PCI: "0000:00:06.0", Class: "0380", VendorID: "1234", DeviceID: "1111"}},
	}
	if diff := cmp.Diff(want, r.Facts); diff != "" {
		t.Errorf("facts: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]facts.ProbeError{{Collector: "weather", Code: "missing", Msg: "no such collector"}}, r.Errors); diff != "" {
		t.Errorf("errors: -want +got\n%s", diff)
	}
}

// F40: a file that never answers costs its own section, its own time, and nothing else.
func TestF40HungCollector(t *testing.T) {
	t.Parallel()
	type row struct {
		name, fifo string
		incomplete []string
		lost       func(facts.Facts) bool
		errors     []facts.ProbeError
	}
	rows := []row{
		{"a section whose only file hangs", "sys/kernel/security/lockdown", []string{"firmware"},
			func(f facts.Facts) bool { return f.Firmware == nil },
			[]facts.ProbeError{{Collector: "firmware", Code: "timeout", Msg: "no answer: context deadline exceeded"}}},
		{"a file that a library reads", "sys/class/dmi/id/board_vendor", []string{"baseboard"},
			func(f facts.Facts) bool { return f.Baseboard == nil },
			[]facts.ProbeError{{Collector: "baseboard", Code: "timeout", Msg: "no answer: context deadline exceeded"}}},
		{"a disk whose attributes hang is lost alone", "sys/devices/pci0000:00/0000:00:08.0/host6/target6:2:0/6:2:0:0/vendor", []string{"disks"},
			func(f facts.Facts) bool { return len(f.Disks) == 6 && f.Disks[0].WWN != "" },
			[]facts.ProbeError{{Collector: "disks", Code: "timeout", Msg: "sdb: no answer: context deadline exceeded"}}},
		{"a disk that hangs when it is read keeps what sysfs said", "dev/sda", nil,
			func(f facts.Facts) bool {
				i := diskIndex(f, "sda")
				return len(f.Disks) == 7 && f.Disks[i].Serial == "SATA0001" && f.Disks[i].Table == "" && f.Disks[diskIndex(f, "sdb")].Content != nil
			},
			[]facts.ProbeError{{Collector: "disks", Code: "timeout", Msg: "sda: no answer: context deadline exceeded"}}},
		{"an interface that hangs is lost alone", "sys/devices/pci0000:00/0000:00:11.0/0000:02:00.0/net/eth2/carrier", []string{"nics"},
			func(f facts.Facts) bool { return len(f.NICs) == 2 && f.NICs[0].PXE },
			[]facts.ProbeError{{Collector: "nics", Code: "timeout", Msg: "eth2: no answer: context deadline exceeded"}}},
	}
	found := make([]Result, len(rows))
	var looks sync.WaitGroup
	for i, tt := range rows { // all at once: each lasts as long as its deadline, since the FIFO hangs for ever
		root := plantedMachine(t)
		makeFIFO(t, filepath.Join(root, tt.fifo))
		looks.Go(func() { found[i] = Run(context.Background(), Options{Root: root, Deadline: 10 * time.Second}) })
	}
	looks.Wait()
	for i, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			r := found[i]
			if !tt.lost(r.Facts) {
				t.Errorf("facts are not as they should be: %d disks, %d nics", len(r.Facts.Disks), len(r.Facts.NICs))
			}
			if diff := cmp.Diff(tt.incomplete, r.Facts.Incomplete); diff != "" {
				t.Errorf("incomplete: -want +got\n%s", diff)
			}
			if diff := cmp.Diff(tt.errors, r.Errors); diff != "" {
				t.Errorf("errors: -want +got\n%s", diff)
			}
			if r.Facts.System == nil || r.Facts.System.Serial != "ABC1234" || len(r.Facts.PCI) != 20 {
				t.Error("sections beside the hung one are lost")
			}
			if err := r.Facts.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func diskIndex(f facts.Facts, name string) int {
	for i, d := range f.Disks {
		if d.Name == name {
			return i
		}
	}
	return 0
}

// F41: a machine that shows nothing gives facts all the same, and every gap has a name.
func TestF41NothingToRead(t *testing.T) {
	for _, tt := range []struct {
		name, tree string
		known      []string // collectors without a gap
	}{
		{"an empty root", "", nil},
		{"an empty sysfs", "/sys/class/nothing = 1\n/proc/nothing = 1", nil},
		{"buses without devices", "/sys/bus/pci/devices/.keep = 1\n/sys/bus/usb/devices/.keep = 1\n/sys/block/.keep = 1\n/sys/class/net/.keep = 1\n/sys/class/tpm/.keep = 1",
			[]string{"controllers", "disks", "gpus", "nics", "optical", "pci", "tpm", "usb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Run(context.Background(), Options{Root: plant(t, tt.tree), Deadline: patient})
			if err := r.Facts.Validate(); err != nil {
				t.Error(err)
			}
			known := map[string]bool{"state": true, "temps": true, "health": true, "custom": true} // never facts; never expected
			for _, name := range tt.known {
				known[name] = true
			}
			named := map[string]bool{}
			for _, e := range r.Errors {
				named[e.Collector] = true
				if e.Code != "missing" {
					t.Errorf("error %+v; want code missing", e)
				}
			}
			var want []string
			for _, name := range Collectors() {
				if known[name] == (named[name] && name != "state") {
					t.Errorf("%s: error reported %v", name, named[name])
				}
				if !known[name] {
					want = append(want, name)
				}
			}
			if got := len(r.Facts.Incomplete); got != len(want) {
				t.Errorf("incomplete %v; want %v", r.Facts.Incomplete, want)
			}
		})
	}
}

// A machine without a disk or NIC has none: that is known, and a rule on their number is decided.
func TestNoneIsAnAnswer(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"sys/block", "sys/class/net"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"disks", "nics"}})
	if r.Facts.Disks == nil || r.Facts.NICs == nil || len(r.Errors) > 0 {
		t.Errorf("disks %#v, nics %#v, errors %v; want empty lists", r.Facts.Disks, r.Facts.NICs, r.Errors)
	}
}

func TestRootThatIsNotThere(t *testing.T) {
	r := Run(context.Background(), Options{Root: filepath.Join(t.TempDir(), "gone"), Deadline: patient})
	if want := len(Collectors()); len(r.Facts.Incomplete) != want-len(volatile) || len(r.Errors) != want {
		t.Errorf("%d incomplete, %d errors; want %d without those of the state, %d", len(r.Facts.Incomplete), len(r.Errors), want-len(volatile), want)
	}
}

// The machine this test runs on: whatever it is, its facts are valid.
func TestThisMachine(t *testing.T) {
	r := Run(context.Background(), Options{Deadline: patient})
	if err := errors.Join(r.Facts.Validate(), r.State.Validate()); err != nil {
		t.Error(err)
	}
	if r.Facts.Arch == "" || r.Facts.Kernel == "" || r.Facts.CPU == nil || r.Facts.CPU.Threads == 0 || r.Facts.Memory.TotalBytes == 0 {
		t.Errorf("arch %q, kernel %q, cpu %+v, memory %+v", r.Facts.Arch, r.Facts.Kernel, r.Facts.CPU, r.Facts.Memory)
	}
	for _, e := range r.Errors {
		t.Logf("%+v", e)
	}
}
