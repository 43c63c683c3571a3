package main

import (
	"os"
	"testing"
)

func TestPCINames(t *testing.T) {
	if _, err := os.Stat("/usr/share/misc/pci.ids"); err != nil {
		t.Skip("wants the package pci.ids")
	}
	name := pciNames()
	for _, tt := range []struct{ vendor, device, want string }{
		{"8086", "10d3", "Intel Corporation 82574L Gigabit Network Connection (8086:10d3)"},
		{"8086", "0001", "Intel Corporation (8086:0001)"},
		{"0bad", "0bad", "0bad:0bad"},
	} {
		if got := name(tt.vendor, tt.device); got != tt.want {
			t.Errorf("name of %s:%s = %q; want %q", tt.vendor, tt.device, got, tt.want)
		}
	}
}
