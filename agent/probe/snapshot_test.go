package probe

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// moduleFile is a file of a module in the module cache; the test is skipped when it is not there.
func moduleFile(t *testing.T, module, file string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Skipf("go list -m %s: %v", module, err)
	}
	file = filepath.Join(strings.TrimSpace(string(out)), file)
	if _, err := os.Stat(file); err != nil {
		t.Skip(err)
	}
	return file
}

// unpack writes an archive of a machine into a directory, files and links only.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := memoryTempDir(t)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(h.Name, "/cache/") { // half of the files, and nobody reads them
			unpackEntry(t, root, h, r)
		}
	}
}

// memoryTempDir is t.TempDir in memory where that can be had: machines are thousands of small files.
func memoryTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func unpackEntry(t *testing.T, root *os.Root, h *tar.Header, r io.Reader) {
	t.Helper()
	name := inside(h.Name)
	err := root.MkdirAll(filepath.Dir(name), 0o755)
	switch h.Typeflag {
	case tar.TypeDir:
		err = errors.Join(err, root.MkdirAll(name, 0o755))
	case tar.TypeSymlink:
		err = errors.Join(err, root.Symlink(h.Linkname, name))
	case tar.TypeReg:
		b, e := io.ReadAll(r)
		err = errors.Join(err, e, root.WriteFile(name, b, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Seven machines and a mainframe that others took pictures of.
func TestSnapshotsOfRealMachines(t *testing.T) {
	type figures struct {
		Sockets, Cores, Threads, Present int
		Microcode                        string
		Total, Online                    int64
		Disks                            map[string]int64
		Optical, PCI                     int
		NICs                             []string
		GPUs                             []string
	}
	for _, tt := range []struct {
		name, file string
		want       figures
	}{
		{"hybrid cores, NVMe, compressed memory", "linux-amd64-415ee03b8c4d1c4f07ae2e9d8b3d3d6d", figures{
			1, 12, 16, 16, "0x437", 33323692032, 34225520640, map[string]int64{"nvme0n1": 1024209543168}, 0, 23, nil, []string{"0000:00:02.0 0300 8086:46a6"}}},
		{"desktop with three SATA disks and four ports", "linux-amd64-61797caf7c0b6bca1725ad7975ed4773", figures{
			1, 6, 12, 12, "0x8001138", 33564585984, 34359738368, map[string]int64{"sda": 256060514304, "sdb": 1000204886016, "sdc": 500107862016}, 0, 43,
			[]string{"0000:03:00.0", "0000:06:00.0", "0000:06:00.1", "0000:08:00.0"}, []string{"0000:0a:00.0 0300 1002:6758"}}},
		{"two sockets, a RAID volume, an empty drive", "linux-amd64-8581cf3a529e5d8b97ea876eade2f60d", figures{
			2, 12, 24, 24, "0x1f", 67503390720, 70866960384, map[string]int64{"sda": 499558383616}, 1, 82, nil, []string{"0000:07:03.0 0300 102b:0532"}}},
		{"guest with an accelerator", "linux-amd64-accel", figures{
			2, 2, 2, 2, "0x5003604", 2055716864, 2147483648, map[string]int64{"vda": 21474836480}, 1, 26, nil, []string{"0000:00:01.0 0300 1af4:1050", "0000:00:04.0 1200 1b36:0005"}}},
		{"guest with a GPU that has no driver", "linux-amd64-accel-nvidia", figures{
			1, 8, 8, 8, "0xb000040", 31336259584, 32078036992, map[string]int64{"sda": 50000003072}, 0, 29, nil, []string{"0000:04:00.0 0300 1af4:1050", "0000:06:00.0 0302 10de:15f8"}}},
		{"half of the processors offline", "linux-amd64-offlineCPUs", figures{
			2, 2, 2, 4, "0x1", 8071077888, 0, nil, 0, 0, nil, nil}},
		{"arm64", "linux-arm64-c288e0776090cd558ef793b2a4e61939", figures{
			1, 1, 1, 1, "", 1934315520, 2147483648, map[string]int64{"nvme0n1": 8589934592}, 0, 4, nil, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := unpack(t, moduleFile(t, "github.com/jaypipes/ghw", "testdata/snapshots/"+tt.file+".tar.gz"))
			f := Run(context.Background(), Options{Root: root, Deadline: patient}).Facts
			if err := f.Validate(); err != nil {
				t.Error(err)
			}
			got := figures{f.CPU.Sockets, f.CPU.Cores, f.CPU.Threads, f.CPU.ThreadsPresent, f.CPU.Microcode, f.Memory.TotalBytes, f.Memory.OnlineBytes,
				nil, len(f.Optical), len(f.PCI), nil, nil}
			for _, d := range f.Disks {
				if got.Disks == nil {
					got.Disks = map[string]int64{}
				}
				got.Disks[d.Name] = d.SizeBytes
			}
			for _, n := range f.NICs {
				got.NICs = append(got.NICs, n.PCI)
			}
			for _, g := range f.GPUs {
				got.GPUs = append(got.GPUs, g.PCI+" "+g.Class+" "+g.VendorID+":"+g.DeviceID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	t.Run("a mainframe without PCI, its disks seen along two paths", func(t *testing.T) {
		root := unpack(t, moduleFile(t, "github.com/jaypipes/ghw", "testdata/snapshots/linux-s390x-snapshot.tar.gz"))
		f := Run(context.Background(), Options{Root: root, Deadline: patient}).Facts
		if err := f.Validate(); err != nil {
			t.Error(err)
		}
		if m := f.Memory; m.TotalBytes != 115540185088 || m.OnlineBytes != 118111600640 {
			t.Errorf("memory %+v", m)
		}
		if c := f.CPU; c.Sockets != 1 || c.Cores != 4 || c.Threads != 8 || len(f.Disks) != 16 || f.PCI != nil || f.Virt != nil {
			t.Errorf("cpu %d/%d/%d, %d disks, pci %v, virt %v; want 1/4/8, 16, none, none", c.Sockets, c.Cores, c.Threads, len(f.Disks), f.PCI, f.Virt)
		}
	})
}

// SMBIOS tables of two laptops; the first 32 bytes of the files are the entry point.
func TestSMBIOSOfRealMachines(t *testing.T) {
	for _, tt := range []struct {
		name, file   string
		words        map[[2]int]string // of structure type and offset, cleaned
		ecc          string
		slots, used  int
		physical     int64
		dimms        []facts.DIMM
		chassisEmpty bool
	}{
		{"ThinkPad T490", "smbios_table.bin", map[[2]int]string{
			{1, 4}: "LENOVO", {1, 5}: "20N2CTO1WW", {1, 7}: "PF1NKFHN", {2, 7}: "L1HF93508A3", {2, 8}: "", {3, 7}: "PF1NKFHN", {3, 8}: "", {4, 4}: "U3E1",
			{17, 0x18}: "", {17, 0x19}: "",
		}, "none", 2, 2, 42949672960, []facts.DIMM{
			{Locator: "ChannelA-DIMM0", Bank: "BANK 0", SizeBytes: 8 << 30, Type: "DDR4", FormFactor: "SODIMM", SpeedMTs: 2667, ConfiguredMTs: 2400, Rank: 1, Manufacturer: "Samsung", Part: "M471A1K43BB1-CTD"},
			{Locator: "ChannelB-DIMM0", Bank: "BANK 2", SizeBytes: 32 << 30, Type: "DDR4", FormFactor: "SODIMM", SpeedMTs: 2667, ConfiguredMTs: 2400, Rank: 2, Manufacturer: "Samsung", Serial: "035B8851", Part: "M471A4G43MB1-CTD"},
		}, false},
		{"Satellite Pro L70, which names two slots alike", "satellite_pro_l70_testdata.bin", map[[2]int]string{
			{1, 4}: "TOSHIBA", {1, 7}: "XD198915C", {2, 4}: "", {2, 5}: "", {2, 6}: "", {2, 7}: "", {3, 4}: "", {3, 6}: "", {3, 7}: "", {3, 8}: "", {17, 0x18}: "336EE786",
		}, "", 4, 2, 17179869184, []facts.DIMM{
			{SizeBytes: 8 << 30, Type: "DDR3", Serial: "336EE786"}, {SizeBytes: 8 << 30, Type: "DDR3", Serial: "336EE77E"},
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := os.ReadFile(moduleFile(t, "github.com/u-root/u-root", "pkg/smbios/testdata/"+tt.file))
			if err != nil {
				t.Fatal(err)
			}
			tables, err := parseSMBIOS(b[32:])
			if err != nil {
				t.Fatal(err)
			}
			var mem facts.Memory
			if err := installed(tables, &mem); err != nil {
				t.Error(err)
			}
			physical, source := physical(mem)
			if mem.Slots != tt.slots || mem.SlotsUsed != tt.used || physical != tt.physical || source != "smbios17" {
				t.Errorf("slots %d, used %d, physical %d (%s); want %d, %d, %d", mem.Slots, mem.SlotsUsed, physical, source, tt.slots, tt.used, tt.physical)
			}
			if tt.ecc != "" && mem.ECC != tt.ecc {
				t.Errorf("ecc %q; want %q", mem.ECC, tt.ecc)
			}
			for i, d := range mem.DIMMs {
				want := tt.dimms[i]
				if want.Locator == "" {
					d = facts.DIMM{SizeBytes: d.SizeBytes, Type: d.Type, Serial: d.Serial}
				}
				if diff := cmp.Diff(want, d); diff != "" {
					t.Errorf("dimm %d: -want +got\n%s", i, diff)
				}
			}
			for at, want := range tt.words {
				got := firstOf(tables, uint8(at[0])).str(at[1])
				if at[1] >= 7 && at[0] < 4 || at[1] >= 0x18 { // serial numbers and asset tags
					got = facts.CleanSerial(got)
				} else {
					got = facts.Clean(got)
				}
				if got != want {
					t.Errorf("type %d, offset %#x: %q; want %q", at[0], at[1], got, want)
				}
			}
			if len(mem.DIMMs) != len(tt.dimms) {
				t.Fatalf("%d modules; want %d", len(mem.DIMMs), len(tt.dimms))
			}
			board := firstOf(tables, smbiosBaseboard)
			if got := facts.Clean(board.str(0x05)) == ""; got != tt.chassisEmpty {
				t.Errorf("baseboard product %q", board.str(0x05))
			}
		})
	}
}
