package boot

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestNeighbours(t *testing.T) {
	table := `IP address       HW type     Flags       HW address            Mask     Device
192.0.2.91       0x1         0x2         52:54:00:12:34:56     *        br0
192.0.2.92       0x1         0x2         52:54:00:12:34:56     *        br0
192.0.2.93       0x1         0x0         00:00:00:00:00:00     *        br0
192.0.2.94       0x1         0x0         52:54:00:12:34:57     *        br0
192.0.2.95       0x20        0x2         80:00:02:08:fe:80     *        ib0
192.0.2.9        0x1         0x2         not a MAC             *        br0
short
`
	for i := range mostAddresses + 1 {
		table += fmt.Sprintf("198.51.100.%-5d 0x1 0x2 02:00:5e:00:00:01 * br1\n", i)
	}
	for addr, want := range map[string]string{
		"192.0.2.91":        "52:54:00:12:34:56",
		"::ffff:192.0.2.92": "52:54:00:12:34:56", // its second lease
		"192.0.2.93":        "",                  // asked for, and no answer
		"192.0.2.94":        "",                  // did not answer again
		"192.0.2.95":        "",                  // InfiniBand
		"192.0.2.9":         "",
		"192.0.2.1":         "",
		"198.51.100.1":      "", // behind a router that answers for them
		"IP":                "",
	} {
		a, _ := netip.ParseAddr(addr)
		mac, ok := neighbourIn(strings.NewReader(table), a)
		if got := map[bool]string{true: mac.String()}[!mac.IsZero()]; got != want || ok != (want != "") {
			t.Errorf("%s is %q; want %q", addr, got, want)
		}
	}
}

// FuzzNeighbours: what the kernel wrote may be cut anywhere.
func FuzzNeighbours(f *testing.F) {
	f.Add("192.0.2.91 0x1 0x2 52:54:00:12:34:56 * br0\n")
	f.Fuzz(func(t *testing.T, table string) {
		if mac, ok := neighbourIn(strings.NewReader(table), netip.MustParseAddr("192.0.2.91")); ok && mac.IsZero() {
			t.Errorf("%q gives no MAC", table)
		}
	})
}
