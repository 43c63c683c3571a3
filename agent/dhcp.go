package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// First wait for an answer; each of the tries waits twice as long as the one before: 1 + 2 + 4 s. With leaseRetry no
// two questions are more than 5 s apart, so that a port which begins to pass packets is noticed soon (F24).
const (
	dhcpWait  = 1 * time.Second
	dhcpTries = 3
)

// defaultLease is for servers that give none of the times.
const defaultLease = time.Hour

// kernelLinks lists the Ethernet interfaces that stand for hardware: those with a device in sysfs.
func kernelLinks(root string) ([]Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, l := range all {
		a := l.Attrs()
		if a.EncapType != "ether" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "sys/class/net", a.Name, "device")); err != nil {
			continue
		}
		links = append(links, Link{
			Name:    a.Name,
			MAC:     a.HardwareAddr.String(),
			Up:      a.Flags&net.FlagUp != 0,
			Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0 && a.Flags&net.FlagUp != 0,
		})
	}
	return links, nil
}

// setLinkUp sets an interface up.
func setLinkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// askLease gets an address by DHCPv4 (RFC 2131), the old one if there was one. Ctx bounds the whole exchange.
func askLease(ctx context.Context, name string, old Lease) (Lease, error) {
	c, err := nclient4.New(name, nclient4.WithTimeout(dhcpWait), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return Lease{}, err
	}
	defer c.Close()
	mods := []dhcpv4.Modifier{
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute,
			dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("muster-agent")),
	}
	if old.Addr.IsValid() {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(old.Addr.Addr().AsSlice())))
	}
	got, err := c.Request(ctx, mods...)
	if err != nil {
		return Lease{}, err
	}
	return readLease(got.ACK)
}

// readLease takes what is used out of an acknowledgement. Values that make no sense are left out.
func readLease(ack *dhcpv4.DHCPv4) (Lease, error) {
	addr, ok := addr4(ack.YourIPAddr)
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return Lease{}, errNoAddress
	}
	bits := 24 // for servers that give no mask
	if mask := ack.SubnetMask(); mask != nil {
		if ones, size := mask.Size(); size == 32 && ones > 0 {
			bits = ones
		}
	}
	l := Lease{
		Addr:   netip.PrefixFrom(addr, bits),
		Domain: domain(ack.DomainName()),
		Time:   ack.IPAddressLeaseTime(defaultLease),
	}
	if server := ack.ServerIdentifier(); server != nil {
		l.Server, _ = addr4(server)
	}
	if routers := ack.Router(); len(routers) > 0 {
		l.Gateway, _ = addr4(routers[0])
	}
	for _, ip := range ack.DNS() {
		if a, ok := addr4(ip); ok && len(l.DNS) < 3 { // resolv.conf(5): MAXNS
			l.DNS = append(l.DNS, a)
		}
	}
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok := addr4(r.Dest.IP)
		via, _ := addr4(r.Router)
		if ones, _ := r.Dest.Mask.Size(); ok {
			l.Routes = append(l.Routes, Route{To: netip.PrefixFrom(to, ones), Via: via})
		}
	}
	if b := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if mtu := int(b[0])<<8 | int(b[1]); mtu >= 576 { // RFC 2132 section 5.1: at least 68; less than 576 is a fault
			l.MTU = mtu
		}
	}
	return l, nil
}

func addr4(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok && a.Is4()
}

// domain is a domain name that may stand in resolv.conf, or "".
func domain(s string) string {
	s = strings.TrimRight(s, "\x00")
	for _, c := range s {
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return ""
		}
	}
	return s
}

// applyLease gives an interface its address and the kernel its routes, and writes /etc/resolv.conf below root.
func applyLease(root, name string, now, old Lease) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if now.MTU > 0 && now.MTU != l.Attrs().MTU {
		_ = netlink.LinkSetMTU(l, now.MTU) // a NIC that cannot keeps its own
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ipNet(now.Addr)}); err != nil {
		return fmt.Errorf("set address %s: %w", now.Addr, err)
	}
	if old.Addr.IsValid() && old.Addr != now.Addr {
		_ = netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(old.Addr)}) // it may be gone
	}
	for _, r := range routes(now) {
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.To), Scope: netlink.SCOPE_LINK}
		if r.Via.IsValid() && !r.Via.IsUnspecified() {
			route.Gw, route.Scope = r.Via.AsSlice(), netlink.SCOPE_UNIVERSE
			route.Flags = int(netlink.FLAG_ONLINK) // some clouds give a gateway outside the network
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("set route to %s by %s: %w", r.To, r.Via, err)
		}
	}
	return writeResolv(root, now)
}

// routes are those of a lease: with option 121 the gateway is not used (RFC 3442).
func routes(l Lease) []Route {
	if len(l.Routes) > 0 || !l.Gateway.IsValid() {
		return l.Routes
	}
	return []Route{{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: l.Gateway}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// writeResolv writes the name servers, if there are any.
func writeResolv(root string, l Lease) error {
	if len(l.DNS) == 0 {
		return nil
	}
	var b strings.Builder
	if l.Domain != "" {
		fmt.Fprintf(&b, "search %s\n", l.Domain)
	}
	for _, a := range l.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	dir := filepath.Join(root, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(b.String()), 0o644)
}
