package facts

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The sums were made by another JSON library than Go's.
func TestHashGoldens(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts Facts
		want  string
	}{
		{"nothing but the schema", Facts{Schema: 1}, "67d6291b301412df4a6ca7808aeafac9d0587b06ece3c68e72bab0157cd9d52c"},
		{"characters that HTML escapes and two-byte letters", Facts{Schema: 1, System: &System{Manufacturer: "Dell & Söhne <x>", Serial: "ABC1234"}},
			"aa0a731351a09908aadd8ae7999a7be27a84a5bbb02ebf3b3f2e2c8fdd9ac9fc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.facts.Hash(); err != nil || got != tt.want {
				t.Errorf("Hash() = %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestHardwareHashIgnoresLabels(t *testing.T) {
	machine := func(disk, nic, ip string, ttl int, serial string) Facts {
		return Facts{
			Schema:  1,
			Disks:   []Disk{{ID: "naa.5", Name: disk, HCTL: disk[2:] + ":0:0:0", Serial: serial}},
			Optical: []Optical{{Name: disk}},
			NICs:    []NIC{{Name: nic, MAC: "52:54:00:aa:00:01", IPv4: []string{ip}, LLDP: []Neighbor{{PortID: "p", TTL: ttl}}}},
			Boot:    &Boot{Cmdline: disk, IP: ip, BootIF: "52:54:00:aa:00:01"},
		}
	}
	hashes := func(f Facts) (all, hardware string) {
		t.Helper()
		all, err := f.Hash()
		if err != nil {
			t.Fatal(err)
		}
		hardware, err = f.HardwareHash()
		if err != nil {
			t.Fatal(err)
		}
		return all, hardware
	}
	all, hardware := hashes(machine("sda", "eth0", "192.0.2.5/24", 120, "S1"))
	all2, hardware2 := hashes(machine("sdb", "eth1", "192.0.2.6/24", 119, "S1"))
	_, hardware3 := hashes(machine("sda", "eth0", "192.0.2.5/24", 120, "S2"))
	if all == all2 || hardware != hardware2 {
		t.Errorf("other names: Hash equal %v, HardwareHash equal %v; want false, true", all == all2, hardware == hardware2)
	}
	if hardware == hardware3 {
		t.Error("another disk serial: HardwareHash is the same; want another")
	}
}

func TestDotted(t *testing.T) {
	yes := true
	f := Facts{
		Schema: 1, Disks: []Disk{{ID: "naa.5", Name: "sda", Serial: "S1", SizeBytes: 9007199254740993, Rotational: &yes}},
		Optical: []Optical{}, Custom: map[string]string{"rack": "r12"},
	}
	want := map[string]any{
		"schema": int64(1), "disks.0.id": "naa.5", "disks.0.name": "sda", "disks.0.serial": "S1",
		"disks.0.size_bytes": int64(9007199254740993), "disks.0.rotational": true, "optical": []any{}, "custom.rack": "r12",
	}
	if diff := cmp.Diff(want, f.Dotted()); diff != "" {
		t.Errorf("Dotted(): -want +got\n%s", diff)
	}
}

func TestHealthInOneLine(t *testing.T) {
	zero, some, wear, cold := int64(0), int64(8), int64(103), int64(-60)
	for _, tt := range []struct {
		want string
		h    DiskHealth
	}{
		{"", DiskHealth{}},
		{"asleep", DiskHealth{Asleep: true}},
		{"ok, wear 0%, 0 C, 0 h", DiskHealth{Health: HealthOK, WearPercent: &zero, TempC: &zero, PowerOnHours: &zero, MediaErrors: &zero, ReallocatedSectors: &zero}},
		{"FAILING", DiskHealth{Health: HealthFailing}},
		{"FAILING (spare read_only), 8 media errors, 8 pending, spare 8%, wear 103%, -60 C",
			DiskHealth{Health: HealthFailing, Warnings: []string{"spare", "read_only"}, MediaErrors: &some, PendingSectors: &some, SparePercent: &some, WearPercent: &wear, TempC: &cold}},
		{"8 reallocated, 8 uncorrectable", DiskHealth{ReallocatedSectors: &some, UncorrectableSectors: &some}},
	} {
		if got := tt.h.String(); got != tt.want {
			t.Errorf("String() = %q; want %q", got, tt.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"blanks at the ends and between", "  Dell \t  Inc. ", "Dell Inc."},
		{"control characters and escapes", "a\x1b[2J\nb", "a [2J b"},
		{"NUL is dropped", "AB\x00CD", "ABCD"},
		{"bytes that are not UTF-8 are dropped", "AB\xffCD", "ABCD"},
		{"line separators", "a\u2028b\u2029c", "a b c"},
		{"256 characters are kept", strings.Repeat("ä", 300), strings.Repeat("ä", 256)},
		{"a board serial with dots", ".ABC1234.CNFCP00", ".ABC1234.CNFCP00"},
		{"a version", "1.0", "1.0"},
		{"seven digits", "1234567", "1234567"},
		{"a long serial", "VMware-56 4d aa", "VMware-56 4d aa"},
		{"asked to fill in", "To Be Filled By O.E.M.", ""},
		{"not specified", "Not Specified", ""},
		{"a bad string index", "<BAD INDEX>", ""},
		{"a type and its field", "Type2 - Board Serial Number", ""},
		{"an OEM chassis", "OEM Chassis Manufacturer", ""},
		{"zeros", "00000000", ""},
		{"exes", "XXXXXXXXXX", ""},
		{"dots", "......", ""},
		{"dashes and a blank", "--- ---", ""},
		{"digits in order", "0123456789", ""},
		{"nothing", " ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("Clean(%q) = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestCleanSerial(t *testing.T) {
	for in, want := range map[string]string{
		"ABC1234": "ABC1234", "PF1NKFHN": "PF1NKFHN", "1234567": "1234567", "11111111": "", "A1": "", "Default string": "", "-a-": "",
	} {
		if got := CleanSerial(in); got != want {
			t.Errorf("CleanSerial(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestCleanMAC(t *testing.T) {
	const want = "52:54:00:aa:00:01"
	for _, in := range []string{"52:54:00:AA:00:01", "52-54-00-aa-00-01", "525400aa0001", "5254.00aa.0001", "01-52-54-00-aa-00-01", "01:52:54:00:aa:00:01"} {
		if got := CleanMAC(in); got != want {
			t.Errorf("CleanMAC(%q) = %q; want %q", in, got, want)
		}
	}
	for _, in := range []string{"", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "52:54:00:aa:00", "52:54:00:aa:00:01:02:03", "zz:54:00:aa:00:01"} {
		if got := CleanMAC(in); got != "" {
			t.Errorf("CleanMAC(%q) = %q; want none", in, got)
		}
	}
}

func TestCleanUUID(t *testing.T) {
	const want = "4c4c4544-0042-3510-8052-c1c04f4e3132"
	for _, in := range []string{want, "{4C4C4544-0042-3510-8052-C1C04F4E3132}", "4c4c45440042351080 52c1c04f4e3132"} {
		if got := CleanUUID(in); got != want {
			t.Errorf("CleanUUID(%q) = %q; want %q", in, got, want)
		}
	}
	for _, in := range []string{"", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
		"fefefefe-fefe-fefe-fefe-fefefefefefe", "03000200-0400-0500-0006-000700080009", "4c4c4544-0000-2010-8020-80c04f202020", "4c4c4544"} {
		if got := CleanUUID(in); got != "" {
			t.Errorf("CleanUUID(%q) = %q; want none", in, got)
		}
	}
}

// Whatever Line gives, a check-in may carry (T23, T55).
func FuzzLine(f *testing.F) {
	f.Add("a\x1b[2J\n\u2028b\xff", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = min(max(n, 0), MaxString)
		got := Line(s, n)
		if len(got) > n {
			t.Errorf("Line(%q, %d) has %d bytes", s, n, len(got))
		}
		for _, text := range []string{got, Clean(s)} {
			facts := Facts{Schema: Schema, Kernel: text}
			if err := facts.Validate(); err != nil {
				t.Errorf("Line(%q, %d) = %q: %v", s, n, text, err)
			}
		}
	})
}
