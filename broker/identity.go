package broker

import (
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/boot"
)

// bogusUUIDs are values that firmware vendors left in thousands of machines.
var bogusUUIDs = map[string]bool{
	"03000200-0400-0500-0006-000700080009": true, "00020003-0004-0005-0006-000700080009": true,
	"12345678-1234-5678-90ab-cddeefaabbcc": true, "12345678-1234-5678-1234-567812345678": true,
	"00112233-4455-6677-8899-aabbccddeeff": true, "11111111-2222-3333-4444-555555555555": true,
	"4c4c4544-0000-2010-8020-80c04f202020": true, "8a95d198-7f46-11e5-bf8b-08002704d48e": true,
}

// canonicalMAC gives a MAC that may identify a node, or "".
func canonicalMAC(m boot.MAC) string {
	switch {
	case m.IsZero(), m[0]&1 == 1, m == boot.MAC{2}:
		return "" // none, group or broadcast, 02:00:00:00:00:00
	case m[0] == 0xfa && m[1] == 0x4b && m[2] == 0x7f:
		return "" // the BMC's USB NIC of HPE machines, the same in each
	}
	return m.String()
}

// canonicalUUID gives a UUID that may identify a node, or "".
func canonicalUUID(u boot.UUID) string {
	s := u.String()
	digits := map[rune]bool{}
	for _, r := range strings.ReplaceAll(s, "-", "") {
		digits[r] = true
	}
	if len(digits) <= 2 || bogusUUIDs[s] {
		return ""
	}
	return s
}

// clientKeys are the ids a boot protocol shows.
func clientKeys(c boot.Client) Keys {
	var k Keys
	if m := canonicalMAC(c.MAC); m != "" {
		k.MACs = []string{m}
	}
	k.UUID = canonicalUUID(c.UUID)
	return k
}

// factKeys are the ids the agent found. NICs on a USB bus are no identity, BMC side channels
// share their MACs; nor are bridges and the like.
func factKeys(f *facts.Facts) Keys {
	var k Keys
	for _, n := range f.NICs {
		if n.Bus == "usb" || n.Bus == "virtual" && n.Driver != "virtio_net" {
			continue
		}
		if m, err := boot.ParseMAC(n.MAC); err == nil && canonicalMAC(m) != "" {
			k.MACs = append(k.MACs, canonicalMAC(m))
		}
	}
	if f.System != nil {
		if u, err := boot.ParseUUID(strings.ReplaceAll(f.System.UUID, " ", "")); err == nil {
			k.UUID = canonicalUUID(u)
		}
		k.Serial = strings.ToLower(facts.CleanSerial(f.System.Serial))
		k.Maker = strings.ToLower(facts.Clean(f.System.Manufacturer))
	}
	slices.Sort(k.MACs)
	k.MACs = slices.Compact(k.MACs)
	return k
}

// swappedUUID is the UUID with its first three groups turned round, as firmware older than SMBIOS 2.6 shows it.
func swappedUUID(s string) string {
	u, err := boot.ParseUUID(s)
	if err != nil {
		return ""
	}
	return u.Swapped().String()
}
