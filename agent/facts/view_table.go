package facts

import (
	"net/netip"
	"slices"
	"time"
)

// A table is one object of a view. Its setters leave out what is not known, as facts do: a name that is there has a
// value. Values are string, bool, int64, []any and map[string]any.
type table map[string]any

func (t table) text(name, s string) {
	if s != "" {
		t[name] = s
	}
}

// count sets what is never 0 when it is known.
func (t table) count(name string, n int64) {
	if n != 0 {
		t[name] = n
	}
}

func (t table) flag(name string, b *bool) {
	if b != nil {
		t[name] = *b
	}
}

// object sets a table that holds anything.
func (t table) object(name string, inner table) {
	if len(inner) > 0 {
		t[name] = map[string]any(inner)
	}
}

// bootNIC is the interface that stands for the machine: the one that booted, else the first with link.
func (f *Facts) bootNIC() *NIC {
	for _, fits := range []func(NIC) bool{
		func(n NIC) bool { return n.PXE },
		func(n NIC) bool { return n.Link != nil && *n.Link },
	} {
		if i := slices.IndexFunc(f.NICs, fits); i >= 0 {
			return &f.NICs[i]
		}
	}
	return nil
}

// prefix is the first of some addresses in CIDR form; the zero prefix when there is none.
func prefix(cidrs []string) netip.Prefix {
	for _, s := range cidrs {
		if p, err := netip.ParsePrefix(s); err == nil {
			return p
		}
	}
	return netip.Prefix{}
}

// usDate is a date as firmware writes it (SMBIOS type 0): 2024-03-14 is 03/14/2024.
func usDate(date string) string {
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return date
	}
	return t.Format("01/02/2006")
}
