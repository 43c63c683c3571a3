package probe

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/u-root/u-root/pkg/smbios"

	"muster/agent/facts"
)

const (
	tablesFile = "/sys/firmware/dmi/tables/DMI"
	maxTables  = 1 << 20 // bytes; real machines have 2 to 64 KiB
)

// SMBIOS structure types used here (DSP0134, section 7).
const (
	smbiosBIOS      = 0
	smbiosBaseboard = 2
	smbiosChassis   = 3
	smbiosCPU       = 4
	smbiosSlot      = 9
	smbiosOEM       = 11
	smbiosArray     = 16
	smbiosDIMM      = 17
	smbiosIPMI      = 38
	smbiosEnd       = 127
)

// An smbiosTable is one SMBIOS structure; fields are read by their offset in the specification.
type smbiosTable struct{ *smbios.Table }

// smbiosTables gives the structures of the machine in table order. With an error there may still be those that stand
// before the fault; what lives on them is then incomplete.
func (t tree) smbiosTables() ([]smbiosTable, error) {
	b, err := t.read(tablesFile, maxTables)
	if err != nil {
		return nil, err
	}
	return parseSMBIOS(b)
}

// parseSMBIOS walks structure by structure and stops at type 127: some firmware leaves bytes after it.
func parseSMBIOS(b []byte) ([]smbiosTable, error) {
	var tables []smbiosTable
	for len(b) > 0 {
		t, rest, err := smbios.ParseTable(b)
		switch {
		case t != nil && t.Type == smbiosEnd:
			return tables, nil
		case err != nil:
			return tables, malformed{fmt.Errorf("SMBIOS structure %d: %w", len(tables), err)}
		case t.Len() < 4:
			return tables, malformed{fmt.Errorf("SMBIOS structure %d: length %d", len(tables), t.Len())}
		}
		tables = append(tables, smbiosTable{t})
		b = rest
	}
	return tables, nil
}

// ofType picks the structures of one type.
func ofType(tables []smbiosTable, typ uint8) []smbiosTable {
	var some []smbiosTable
	for _, t := range tables {
		if uint8(t.Type) == typ {
			some = append(some, t)
		}
	}
	return some
}

// firstOf is the first structure of a type, or one without fields.
func firstOf(tables []smbiosTable, typ uint8) smbiosTable {
	if some := ofType(tables, typ); len(some) > 0 {
		return some[0]
	}
	return smbiosTable{&smbios.Table{}}
}

// u8 and the like are 0 where the structure is too short: older versions of the specification have fewer fields.
func (t smbiosTable) u8(offset int) uint8 {
	v, err := t.GetByteAt(offset)
	if err != nil {
		return 0
	}
	return v
}

func (t smbiosTable) u16(offset int) uint16 {
	v, err := t.GetWordAt(offset)
	if err != nil {
		return 0
	}
	return v
}

func (t smbiosTable) u32(offset int) uint32 {
	v, err := t.GetDWordAt(offset)
	if err != nil {
		return 0
	}
	return v
}

// str is the string that the byte at offset numbers, not yet cleaned.
func (t smbiosTable) str(offset int) string {
	s, err := t.GetStringAt(offset)
	if err != nil {
		return ""
	}
	return s
}

// strings is the whole string set.
func (t smbiosTable) strings() []string {
	b, err := t.MarshalBinary()
	if err != nil {
		return nil
	}
	return strings.Split(string(bytes.TrimRight(b[t.Len():], "\x00")), "\x00")
}

// oemStrings reads type 11: free text of the vendor, or of whoever set up a virtual machine.
func oemStrings(_ context.Context, m machine) (section, error) {
	tables, err := m.smbiosTables()
	if tables == nil && err != nil {
		return nil, err
	}
	found := []string{}
	for _, t := range ofType(tables, smbiosOEM) {
		for _, s := range t.strings() {
			if s = facts.Clean(s); s != "" && len(found) < maxEntries {
				found = append(found, s)
			}
		}
	}
	return func(f *facts.Facts, _ *facts.State) { f.OEMStrings = found }, partial(err)
}

// slots reads type 9 (DSP0134 7.10).
func slots(_ context.Context, m machine) (section, error) {
	tables, err := m.smbiosTables()
	if tables == nil && err != nil {
		return nil, err
	}
	found := []facts.Slot{}
	for _, t := range ofType(tables, smbiosSlot) {
		s := facts.Slot{Designation: facts.Clean(t.str(0x04)), InUse: t.u8(0x07) == 4}
		if t.Len() > 0x10 && t.u8(0x0f) != 0xff {
			devfn := t.u8(0x10)
			s.PCI = fmt.Sprintf("%04x:%02x:%02x.%x", t.u16(0x0d), t.u8(0x0f), devfn>>3, devfn&7)
		}
		if s.Designation != "" && len(found) < maxEntries {
			found = append(found, s)
		}
	}
	return func(f *facts.Facts, _ *facts.State) { f.Slots = found }, partial(err)
}
