package broker

import (
	"slices"
	"strings"
	"testing"

	"muster/agent/facts"
	"muster/boot"
)

const (
	goldenU1      = "4c4c4544-0042-3510-8052-c1c04f4e3132"
	goldenU1Swap  = "44454c4c-4200-1035-8052-c1c04f4e3132"
	goldenU2      = "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"
	goldenU3      = "8b3b2a52-9f4e-4d2b-a1f7-0c6a5c1d2e3f"
	goldenMACBase = "52:54:00:aa:00:"
)

// goldenStore makes the nodes of a row: "A B a" with marks: A:free-form of "locked", "no-uuid", "one-mac", "shared".
func goldenStore(spec string) []*Node {
	var nodes []*Node
	for _, word := range strings.Fields(spec) {
		id, mark, _ := strings.Cut(word, ":")
		n := &Node{ID: id}
		switch id {
		case "A":
			n.Keys = Keys{UUID: goldenU1, Serial: "abc1234", MACs: []string{goldenMACBase + "01", goldenMACBase + "02"}}
		case "B":
			n.Keys = Keys{UUID: goldenU2, Serial: "pf1nkfhn", MACs: []string{goldenMACBase + "03"}}
		case "a":
			n.Keys = Keys{MACs: []string{goldenMACBase + "01"}}
		case "b":
			n.Keys = Keys{MACs: []string{goldenMACBase + "02"}}
		}
		if id == strings.ToUpper(id) {
			n.Facts = Told(&facts.Facts{Schema: 1})
		}
		switch mark {
		case "locked":
			n.Policy = "web"
		case "no-uuid":
			n.Keys.UUID = ""
		case "shared":
			n.Keys.UUID, n.Keys.SharedUUID = "", n.Keys.UUID
		case "01", "02", "05":
			n.Keys.MACs = []string{goldenMACBase + mark}
		case "01+02":
			n.Keys.MACs = []string{goldenMACBase + "01", goldenMACBase + "02"}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// goldenView finds the nodes as a Store does.
func goldenView(nodes []*Node, token string, k Keys) view {
	v := view{}
	swapped := swappedUUID(k.UUID)
	for _, n := range nodes {
		if n.ID == token {
			v.Token = n
		}
		if k.UUID != "" && n.Keys.UUID == k.UUID {
			v.UUID = n
		}
		if k.UUID != "" && n.Keys.UUID == swapped {
			v.Swapped = n
		}
		if k.UUID != "" && n.Keys.SharedUUID == k.UUID {
			v.Batch = true
		}
		if slices.ContainsFunc(k.MACs, func(m string) bool { return slices.Contains(n.Keys.MACs, m) }) {
			v.MACs = append(v.MACs, n)
		}
		if k.Serial != "" && n.Keys.Serial == k.Serial {
			v.Serial = append(v.Serial, n)
		}
	}
	return v
}

// TestResolve is the golden table of identity, by number. Where the table says less than what is done (a MAC or UUID
// that is added), the row here says all.
func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		no, store, token, uuid, serial, macs, want string
	}{
		{"1", "", "", goldenU1, "ABC1234", "01", "new"},
		{"2", "A B", "", strings.ToUpper(goldenU1), "", "01-52-54-00-aa-00-01", "match A"},
		{"3", "A B", "", "", "", "02", "match A"},
		{"4", "A B", "", goldenU1, "", "09", "match A, adds mac"},
		{"5", "A B", "", "ffffffff-ffff-ffff-ffff-ffffffffffff", "", "01", "match A"},
		{"6", "A", "", "00000000-0000-0000-0000-000000000000", "To Be Filled By O.E.M.", "00:00:00:00:00:00", "reject no-identity"},
		{"7", "A B", "", goldenU1Swap, "", "01", "match A, uuid-swapped"},
		{"8", "A B", "", goldenU1Swap, "", "", "new"},
		{"9", "a:01+02", "", goldenU1, "ABC1234", "01 02", "match a, adopts uuid"},
		{"10", "a b", "", goldenU1, "ABC1234", "01 02", "match a, merge b, adopts uuid"},
		{"11", "A:01 b", "", goldenU1, "ABC1234", "01 02", "match A, merge b"},
		{"12", "A", "", goldenU3, "ABC1234", "01", "match A, uuid-changed"},
		{"13", "A", "", goldenU3, "XD198915C", "01", "new, mac-moved A"},
		{"14", "A:locked", "", goldenU3, "XD198915C", "01", "new, mac-conflict A"},
		{"15", "A B", "", goldenU2, "PF1NKFHN", "03 01", "match B, mac-moved A"},
		{"16", "A:locked B", "", goldenU2, "PF1NKFHN", "03 01", "match B, hold B, mac-conflict A"},
		{"17", "A B", "", "", "", "01 03", "conflict many A,B"},
		{"18", "A", "", goldenU1, "XYZ9999", "09", "new, uuid-shared A"},
		{"19", "A:shared", "", goldenU1, "XYZ9998", "08", "new"},
		{"20", "A", "", goldenU3, "ABC1234", "09", "new, serial-shared A"},
		{"21", "A:no-uuid", "", "", "ABC1234", "09", "match A, nic-replaced"},
		{"22", "A", "", goldenU3, "", "01", "conflict uuid-mismatch A"},
		{"23", "A", "", "", "ZZZ111", "01", "conflict serial-mismatch A"},
		{"24", "A", "", "", "", "fa:4b:7f:00:00:01", "reject no-identity"},
		{"25", "A b:05", "A", goldenU1, "ABC1234", "01 05", "match A, merge b"},
		{"26", "A", "A", goldenU3, "XD198915C", "01", "conflict token-mismatch A"},
		{"27", "A B", "A", goldenU1, "ABC1234", "01 03", "match A, mac-duplicate B"},
		{"28", "A:no-uuid", "", goldenU1, "ABC1234", "01", "match A, adopts uuid"},
		{"29", "A:no-uuid", "", goldenU1, "XYZ9999", "01", "conflict serial-mismatch A"},
		{"18 with the token of the shared UUID", "A", "A", goldenU1, "XYZ9999", "09", "new, uuid-shared A"},
		{"the token of a shared UUID opens no third node", "A B", "A", goldenU1, "XYZ9999", "03", "conflict token-mismatch A"},
		{"a machine of a batch is found by its MAC", "A B:shared", "", goldenU2, "", "03", "match B"},
		{"a token gives no MAC of a locked node", "A:locked B", "B", goldenU2, "PF1NKFHN", "03 01", "match B, mac-duplicate A"},
		{"a sighted node with a token takes no UUID", "A b", "b", goldenU1, "", "02", "match b, mac-duplicate A, uuid-duplicate A"},
	} {
		t.Run(tt.no, func(t *testing.T) {
			f := &facts.Facts{System: &facts.System{UUID: tt.uuid, Serial: tt.serial}}
			for _, m := range strings.Fields(tt.macs) {
				if len(m) == 2 {
					m = goldenMACBase + m
				}
				f.NICs = append(f.NICs, facts.NIC{MAC: m, Bus: "pci"})
			}
			k := factKeys(f)
			o := resolve(goldenView(goldenStore(tt.store), tt.token, k), k)
			if got := o.String(); got != tt.want {
				t.Errorf("resolve = %q; want %q", got, tt.want)
			}
		})
	}
}

// TestSerialIsOfItsMaker: the same number of two manufacturers is two machines.
func TestSerialIsOfItsMaker(t *testing.T) {
	a := &Node{ID: "A", Facts: Told(&facts.Facts{}), Keys: Keys{Serial: "abc1234", Maker: "dell inc."}}
	for maker, want := range map[string]string{"dell inc.": "match A, nic-replaced", "": "match A, nic-replaced", "lenovo": "new"} {
		k := Keys{Serial: "abc1234", Maker: maker, MACs: []string{goldenMACBase + "09"}}
		if got := resolve(goldenView([]*Node{a}, "", k), k).String(); got != want {
			t.Errorf("maker %q: %q; want %q", maker, got, want)
		}
	}
}

// TestCanonicalIds: the goldens of MACs, UUIDs and serials.
func TestCanonicalIds(t *testing.T) {
	of := func(bus, mac, uuid, serial string) Keys {
		return factKeys(&facts.Facts{System: &facts.System{UUID: uuid, Serial: serial}, NICs: []facts.NIC{{MAC: mac, Bus: bus}}})
	}
	for _, m := range []string{"52:54:00:AA:00:01", "52-54-00-aa-00-01", "525400aa0001", "5254.00aa.0001", "01-52-54-00-aa-00-01", "01:52:54:00:aa:00:01"} {
		if k := of("pci", m, "", ""); !slices.Equal(k.MACs, []string{goldenMACBase + "01"}) {
			t.Errorf("MAC %q gives %q", m, k.MACs)
		}
	}
	for _, m := range []string{"", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "52:54:00:aa:00", "52:54:00:aa:00:01:02:03", "fa:4b:7f:00:00:01"} {
		if k := of("pci", m, "", ""); len(k.MACs) > 0 {
			t.Errorf("MAC %q gives %q; want none", m, k.MACs)
		}
	}
	for _, bus := range []string{"usb", "virtual"} {
		if k := of(bus, goldenMACBase+"01", "", ""); len(k.MACs) > 0 {
			t.Errorf("a MAC on bus %s gives %q; want none", bus, k.MACs)
		}
	}
	for _, u := range []string{"{4C4C4544-0042-3510-8052-C1C04F4E3132}", "4c4c454400423510 8052c1c04f4e3132", goldenU1} {
		if k := of("", "", u, ""); k.UUID != goldenU1 {
			t.Errorf("UUID %q gives %q", u, k.UUID)
		}
	}
	if got := swappedUUID(goldenU1); got != goldenU1Swap || swappedUUID(got) != goldenU1 {
		t.Errorf("swapped %q", got)
	}
	for _, s := range []string{"To Be Filled By O.E.M.", "Default string", "00000000", "XXXXXXXXXX", "-------", "11111111", "0123456789", "ab", "<BAD INDEX>", "Type2 - Board Serial Number"} {
		if k := of("", "", "", s); k.Serial != "" {
			t.Errorf("serial %q gives %q; want none", s, k.Serial)
		}
	}
	for _, s := range []string{".ABC1234.CNFCP00", "PF1NKFHN", "1234567", "VMware-56 4d aa"} {
		if k := of("", "", "", s); k.Serial != strings.ToLower(s) {
			t.Errorf("serial %q gives %q", s, k.Serial)
		}
	}
	if k := clientKeys(boot.Client{}); len(k.MACs) > 0 || k.UUID != "" {
		t.Errorf("no client gives %+v", k)
	}
}
