package probe

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// plantedSMBIOS is the table of the planted machine.
func plantedSMBIOS(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/planted.tree")
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(regexp.MustCompile(`(?m)^/sys/firmware/dmi/tables/DMI ~ (.*)$`).FindStringSubmatch(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// memoryDevice is where the type 17 structure stands in the planted table.
func memoryDevice(b []byte) int { return bytes.Index(b, []byte{17, 0x28, 0x00, 0x11}) }

// What firmware gets wrong must not cost more than the field it is in.
func TestFaultySMBIOS(t *testing.T) {
	whole := facts.Memory{ECC: "multi", Slots: 1, SlotsUsed: 1}
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		size   int64 // of the module; 0 when it is not listed
		serial string
		slots  int
		faulty bool
	}{
		{"as it is", func(b []byte) []byte { return b }, 2 << 30, "DSER0001", 1, false},
		{"zeros after the end", func(b []byte) []byte { return append(b, make([]byte, 16)...) }, 2 << 30, "DSER0001", 1, false},
		{"a memory device cut to 12h bytes", func(b []byte) []byte { b[memoryDevice(b)+1] = 0x12; return b }, 0, "", 1, true},
		{"size FFFFh is unknown", func(b []byte) []byte { copy(b[memoryDevice(b)+0x0c:], "\xff\xff"); return b }, 0, "", 1, false},
		{"size 7FFFh is said elsewhere", func(b []byte) []byte {
			copy(b[memoryDevice(b)+0x0c:], "\xff\x7f")
			binary.LittleEndian.PutUint32(b[memoryDevice(b)+0x1c:], 65536)
			return b
		}, 64 << 30, "DSER0001", 1, false},
		{"size in KiB", func(b []byte) []byte { copy(b[memoryDevice(b)+0x0c:], "\x00\x82"); return b }, 512 << 10, "DSER0001", 1, false},
		{"a string that is not there", func(b []byte) []byte { b[memoryDevice(b)+0x18] = 9; return b }, 2 << 30, "", 1, false},
		{"no string", func(b []byte) []byte { b[memoryDevice(b)+0x18] = 0; return b }, 2 << 30, "", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tables, err := parseSMBIOS(tt.damage(plantedSMBIOS(t)))
			var mem facts.Memory
			err = errors.Join(err, installed(tables, &mem))
			if (err != nil) != tt.faulty || err != nil && code(err) != "parse" {
				t.Errorf("error %v; want one of code parse: %v", err, tt.faulty)
			}
			if mem.ECC != whole.ECC || mem.Slots != tt.slots {
				t.Errorf("ecc %q, slots %d; want %q, %d", mem.ECC, mem.Slots, whole.ECC, tt.slots)
			}
			switch {
			case tt.size == 0 && len(mem.DIMMs) != 0:
				t.Errorf("dimms %+v; want none", mem.DIMMs)
			case tt.size != 0 && (len(mem.DIMMs) != 1 || mem.DIMMs[0].SizeBytes != tt.size || mem.DIMMs[0].Serial != tt.serial):
				t.Errorf("dimms %+v; want one of %d bytes with serial %q", mem.DIMMs, tt.size, tt.serial)
			}
			if got := len(cpuPackages(tables)); got != 2 {
				t.Errorf("%d packages; want 2", got)
			}
		})
	}
}

func TestSMBIOSCutShortKeepsWhatStandsBefore(t *testing.T) {
	b := plantedSMBIOS(t)
	tables, err := parseSMBIOS(b[:memoryDevice(b)+20])
	if err == nil || code(err) != "parse" {
		t.Errorf("error %v; want one of code parse", err)
	}
	if got := len(ofType(tables, smbiosOEM)); got != 1 {
		t.Errorf("%d structures of type 11; want 1", got)
	}
}

// A BMC record may stand behind a fault: that none was seen does not mean that there is none.
func TestFaultySMBIOSDoesNotDenyABMC(t *testing.T) {
	b := plantedSMBIOS(t)
	for _, tt := range []struct {
		name  string
		table []byte
		want  *facts.BMC
	}{
		{"whole, with a record", b, &facts.BMC{Present: true, Interface: "kcs"}},
		{"whole, without", []byte("\x7f\x04\x00\x7f\x00\x00"), &facts.BMC{}},
		{"cut short", b[:memoryDevice(b)+20], nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, "/proc/meminfo = MemTotal: 8 kB\n/sys/firmware/dmi/tables/DMI ~ "+base64.StdEncoding.EncodeToString(tt.table))
			r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"bmc", "memory"}})
			if diff := cmp.Diff(tt.want, r.Facts.BMC); diff != "" {
				t.Errorf("bmc: -want +got\n%s", diff)
			}
			if got := len(r.Facts.Incomplete) > 0; got != (tt.want == nil) {
				t.Errorf("incomplete %v", r.Facts.Incomplete)
			}
			if r.Facts.Memory == nil {
				t.Error("memory is lost")
			}
		})
	}
}

func TestOEMStringsBecomeCustomFacts(t *testing.T) {
	r := Result{Facts: facts.Facts{
		Custom:     map[string]string{"site": "ber2", "same": "x"},
		OEMStrings: []string{"muster:site=par1", "muster:same=x", "muster:role=db=1", "muster:Bad=1", "muster:none", "other=1"},
	}}
	r.takeOEMCustom()
	if diff := cmp.Diff(map[string]string{"site": "ber2", "same": "x", "role": "db=1"}, r.Facts.Custom); diff != "" {
		t.Errorf("custom: -want +got\n%s", diff)
	}
	want := []facts.ProbeError{
		{Collector: "oem_strings", Code: "shadowed", Msg: `custom fact "site" has another value already`},
		{Collector: "oem_strings", Code: "parse", Msg: `custom fact "Bad": bad name`},
	}
	if diff := cmp.Diff(want, r.Errors); diff != "" {
		t.Errorf("errors: -want +got\n%s", diff)
	}
}

func TestSlot(t *testing.T) {
	table := "\x09\x11\x00\x09\x01\xa5\x0d\x04\x03\x01\x00\x0c\x01\x00\x00\x3b\x08PCIe Slot 1\x00\x00\x7f\x04\x00\x7f\x00\x00"
	root := plant(t, "/sys/firmware/dmi/tables/DMI ~ "+base64.StdEncoding.EncodeToString([]byte(table)))
	r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"slots"}})
	if diff := cmp.Diff([]facts.Slot{{Designation: "PCIe Slot 1", InUse: true, PCI: "0000:3b:01.0"}}, r.Facts.Slots); diff != "" {
		t.Errorf("slots: -want +got\n%s", diff)
	}
}

// FuzzSMBIOS (Z19): any bytes give valid facts, and each structure is at least its header.
func FuzzSMBIOS(f *testing.F) {
	b := plantedSMBIOS(f)
	f.Add(b)
	f.Add(b[:100])
	f.Add([]byte{17, 3, 0, 0, 0, 0}) // a length below that of the header
	f.Add([]byte{11, 5, 0, 0, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tables, _ := parseSMBIOS(b)
		var mem facts.Memory
		_ = installed(tables, &mem)
		doc := facts.Facts{Schema: facts.Schema, Memory: &mem, CPU: &facts.CPU{Packages: cpuPackages(tables)}}
		for _, table := range tables {
			if table.Len() < 4 {
				t.Fatalf("structure of %d bytes", table.Len())
			}
			for _, s := range table.strings() {
				doc.Incomplete = append(doc.Incomplete[:0], facts.Clean(s))
			}
		}
		if len(mem.DIMMs) > facts.MaxItems {
			t.Fatalf("%d modules", len(mem.DIMMs))
		}
		if err := doc.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
