package boot

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"
)

// mostNeighbours bounds what is read of the table; the kernel keeps 1,024 entries unless told otherwise (gc_thresh3).
const mostNeighbours = 1 << 20

// Neighbour gives the MAC that has an address on a link of this host, as the kernel learned it by ARP: who asks for a
// file is known by it where DHCP was neither given nor seen. Like everything on the wire it is a hint. A machine behind
// a router is in no table.
func Neighbour(addr netip.Addr) (MAC, bool) {
	f, err := os.Open("/proc/net/arp")
	if err != nil {
		return MAC{}, false
	}
	defer f.Close()
	return neighbourIn(io.LimitReader(f, mostNeighbours), addr)
}

// mostAddresses is how many one machine may have: firmware, loader, ramdisk and installer may each lease another. Who has
// more is a router that answers for others (proxy ARP, RFC 1027).
const mostAddresses = 4

// neighbourIn reads the form of proc_net(5): address, hardware type (1: Ethernet), flags (0: no answer yet), MAC, mask,
// device.
func neighbourIn(table io.Reader, addr netip.Addr) (mac MAC, ok bool) {
	addresses := map[MAC]int{}
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[1] != "0x1" || f[2] == "0x0" {
			continue
		}
		m, err := ParseMAC(f[3])
		if err != nil || m.IsZero() {
			continue
		}
		addresses[m]++
		if a, err := netip.ParseAddr(f[0]); err == nil && a == addr.Unmap() {
			mac, ok = m, true
		}
	}
	if addresses[mac] > mostAddresses {
		return MAC{}, false
	}
	return mac, ok
}
