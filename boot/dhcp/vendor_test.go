package dhcp

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var vendorCmp = cmp.Options{
	cmp.AllowUnexported(vendor{}, bootServer{}, menuItem{}, prompt{}, bootItem{}, suboption{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestVendorOfSyslinux(t *testing.T) { // D8
	got, ok := parseVendor(unhex("090f80000c4e6574776f726b20626f6f740a070050726f6d70740601020803800000470480000000ff"))
	two := byte(2)
	want := vendor{control: &two, servers: []bootServer{{kind: 0x8000}}, menu: []menuItem{{0x8000, "Network boot"}},
		prompt: &prompt{0, "Prompt"}, item: &bootItem{0x8000, 0}}
	if d := cmp.Diff(want, got, vendorCmp); d != "" || !ok {
		t.Errorf("parseVendor, %v (-want +got):\n%s", ok, d)
	}
}

func TestVendorsWeSend(t *testing.T) {
	for _, row := range []struct {
		name string
		v    vendor
		want string
	}{
		{"just load the file", bypass(), "060108ff"},
		{"D20: boot your disk", diskMenu(us), "0601070807800101c000020a091600000a4c6f63616c206469736b8001064d75737465720a0100ff"},
		{"D22: a menu for a key", menuOf(us, prompt{5, "Press F8 for menu"}, menuItem{itemMuster, "Muster"}, menuItem{itemDisk, "Local disk"}),
			"0601070807800101c000020a09168001064d757374657200000a4c6f63616c206469736b0a1205507265737320463820666f72206d656e75ff"},
		{"D23: a choice repeated", vendor{item: &bootItem{itemMuster, 0}}, "470480010000ff"},
		{"D16: a Raspberry Pi's", vendor{other: []suboption{}}, "ff"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.v.encode(false)
			if err != nil || hex.EncodeToString(got) != row.want {
				t.Errorf("encode = %x, %v; want %s", got, err, row.want)
			}
		})
	}
}

func TestVendorThatCancelsABootIsRefused(t *testing.T) { // D17
	seven := byte(7)
	if b, err := (vendor{control: &seven}).encode(true); err == nil {
		t.Errorf("control 7 beside a file was written as %x", b)
	}
	if _, err := bypass().encode(true); err != nil {
		t.Errorf("bypass: %v", err)
	}
	long := vendor{prompt: &prompt{0, string(make([]byte, 300))}}
	if b, err := long.encode(false); err == nil {
		t.Errorf("%d bytes were written into one option", len(b))
	}
}

func TestDamagedVendors(t *testing.T) {
	for _, in := range []string{"", "06", "0602", "0803800001", "090380000c", "470480"} {
		if v, ok := parseVendor(unhex(in)); ok {
			t.Errorf("parseVendor(%s) = %+v; want refused", in, v)
		}
	}
}

// FuzzVendor is Z2 for option 43: what was read and written again reads the same.
func FuzzVendor(f *testing.F) {
	for _, s := range []string{
		"060108ff", "090f80000c4e6574776f726b20626f6f740a070050726f6d70740601020803800000470480000000ff", "0a00", "4702",
		"0601070807800101c000020a091600000a4c6f63616c206469736b8001064d75737465720a0100ff",
	} {
		f.Add(unhex(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, whole := parseSuboptions(b)
		var again []byte
		for _, s := range list {
			again = appendSuboption(again, s.code, s.data)
		}
		back, ok := parseSuboptions(again)
		if !ok || !cmp.Equal(list, back, vendorCmp) {
			t.Fatalf("%x (whole %v) reads back as %v; want %v", b, whole, back, list)
		}
		v, ok := parseVendor(b)
		if !ok {
			return
		}
		out, err := v.encode(false)
		if err != nil {
			return // too long, or a control we do not send
		}
		if w, ok := parseVendor(out); len(out) > 1 && (!ok || !cmp.Equal(v, w, vendorCmp)) {
			t.Errorf("%x = %+v, written as %x = %+v", b, v, out, w)
		}
	})
}

// FuzzEtherboot is Z2 for option 175: every feature has a name of the table and is there once, and bytes behind the end
// or behind a cut change nothing before.
func FuzzEtherboot(f *testing.F) {
	for _, s := range []string{
		"b105011af41000eb03010000260101170101", "b105018086100eeb03010000170101220101130101", "b105011a", "b00101ff", "130101130100", "eb02",
	} {
		f.Add(unhex(s))
	}
	known := slices.Sorted(maps.Values(featureNames))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := parseEtherboot(b)
		for i, name := range e.features {
			if _, ok := slices.BinarySearch(known, name); !ok || i > 0 && name <= e.features[i-1] {
				t.Errorf("%x: features %q", b, e.features)
			}
		}
		if !e.malformed {
			if again := parseEtherboot(append(append([]byte(nil), b...), 255, 0x13, 1, 1)); !cmp.Equal(e, again, cmp.AllowUnexported(etherboot{})) {
				t.Errorf("%x: %+v; with more behind its end %+v", b, e, again)
			}
		}
		if len(e.nic) > 9 || len(e.version) > 11 {
			t.Errorf("%x: nic %q, version %q", b, e.nic, e.version)
		}
	})
}
