package main

import (
	"fmt"
	"testing"
)

func TestPrefixes(t *testing.T) {
	for _, row := range []struct{ name, list, want string }{
		{"nothing is everyone", "", "[]"},
		{"networks by comma and space", "192.0.2.0/24, 10.0.0.0/8", "[192.0.2.0/24 10.0.0.0/8]"},
		{"an address is a network of one", "192.0.2.7", "[192.0.2.7/32]"},
		{"what stands behind the bits goes", "192.0.2.7/24", "[192.0.2.0/24]"},
		{"a word is refused", "192.0.2.0/24,lan", `network "lan": want ADDRESS/BITS`},
		{"too many bits are refused", "192.0.2.0/33", `network "192.0.2.0/33": want ADDRESS/BITS`},
	} {
		t.Run(row.name, func(t *testing.T) {
			nets, err := prefixes(row.list)
			got := fmt.Sprint(nets)
			if err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Errorf("prefixes(%q) = %s; want %s", row.list, got, row.want)
			}
		})
	}
}
