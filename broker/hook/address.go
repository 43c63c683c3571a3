package hook

import (
	"fmt"
	"net/netip"
	"syscall"
)

// special are addresses that no webhook calls unless the server's configuration names them: who may apply a hook would
// otherwise reach what trusts its neighbours. Private networks are not among them; a rack's own services live there.
var special = []struct {
	net  netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"}, // RFC 1122 section 3.2.1.3; Linux connects 0.0.0.0 to loopback
	{netip.MustParsePrefix("::/128"), "this host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback, where muster and others trust who calls"},
	{netip.MustParsePrefix("::1/128"), "loopback, where muster and others trust who calls"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds hand out credentials"}, // RFC 3927
	{netip.MustParsePrefix("fe80::/10"), "link-local"},                                         // RFC 4291 section 2.5.6
	{netip.MustParsePrefix("fd00:ec2::/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
}

// nat64 is the well-known prefix whose last four bytes are an IPv4 address (RFC 6052 section 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// judge refuses special addresses but those of allowed.
func judge(a netip.Addr, allowed []netip.Prefix) error {
	a = a.Unmap().WithZone("") // a prefix contains no address with a zone
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, p := range allowed {
		if p.Contains(a) {
			return nil
		}
	}
	for _, s := range special {
		if s.net.Contains(a) {
			return fmt.Errorf("address %s is %s: it is called only when hook_allow of the server's configuration names it", a, s.what)
		}
	}
	return nil
}

// Control is a net.Dialer's: it sees the very address that is connected to, after every name was resolved, so that a
// name that changes between two look-ups gains nothing (T39).
func Control(allowed []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read address %q: %w", address, err)
		}
		return judge(a.Addr(), allowed)
	}
}
