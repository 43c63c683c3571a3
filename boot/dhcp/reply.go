package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// A site is what a reply says of the network.
type site struct {
	mode   Mode
	addr   netip.Addr   // ours
	own    []netip.Addr // all of ours on the interface
	prefix netip.Prefix
	nets   []*Network // server: what is leased, our own network first
	relays []netip.Prefix

	prefixOf func(loader string) string // option 210; nil: none
}

// us is the address that a request was sent to, and our first one for a broadcast: iPXE drops an answer on port 4011
// that names another server than it asked (golden D21).
func (st site) us(to netip.Addr) netip.Addr {
	if slices.Contains(st.own, to) {
		return to
	}
	return st.addr
}

// admits says whether packets of this relay are taken.
func (st site) admits(relay netip.Addr) bool {
	holds := func(p netip.Prefix) bool { return p.Contains(relay) }
	return !relay.IsValid() || holds(st.prefix) || slices.ContainsFunc(st.relays, holds) ||
		slices.ContainsFunc(st.nets, func(n *Network) bool { return holds(n.Prefix) })
}

// A grant is what the client is told of its address. Kind is offer, ack or nak; Addr is zero when none is leased.
type grant struct {
	kind dhcpv4.MessageType
	addr netip.Addr
	time time.Duration
	net  *Network // that addr, or the client, is in; nil: unknown
	host string
	why  string // of a nak
	// later means that the answer waits for a probe.
	later bool
}

// A load is what a boot client shall do.
type load struct {
	kind    loadKind
	file    string // program: a TFTP name, a script's URL for iPXE, a URL for UEFI HTTP boot
	profile profile
	prompt  *Prompt // firmware shows it, and a menu of disk and program; nil: none
}

type loadKind int

const (
	nothing loadKind = iota // no boot fields
	program                 // load the file
	disk                    // boot the local disk
)

// A profile is a way to tell UEFI firmware where its file is.
type profile int

const (
	byBypass profile = iota // option 43 says: just load it
	byBinl                  // no option 43: firmware that ignores the bypass bit asks again on port 4011
)

// An answer is a reply and where it goes.
type answer struct {
	p    *dhcpv4.DHCPv4
	data []byte         // of p
	src  netip.Addr     // our address
	to   netip.AddrPort // a broadcast, a relay, or the client
	mac  *boot.MAC      // set: the client has no address yet, a frame goes to its MAC
	port int            // ours
	// later means that there is no reply yet: the address is looked for on the link.
	later bool
}

// Addresses of a client that has none.
var (
	broadcast = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort)
	noAddr    = netip.AddrFrom4([4]byte{})
)

// reply puts the packet together. It decides nothing: g says what address, l what to boot.
func reply(st site, q request, g grant, l load) (answer, error) {
	us := st.us(q.in.to)
	p := skeleton(q, us)
	p.UpdateOption(dhcpv4.OptMessageType(g.kind))
	if g.kind == dhcpv4.MessageTypeNak {
		p.ServerIPAddr = ip(noAddr)
		p.UpdateOption(dhcpv4.OptMessage(g.why))
		a := destination(q, g, us, p)
		a.data = p.ToBytes()
		return a, nil
	}
	if st.mode == ModeServer {
		lease(q, g, us, p)
	}
	if l.kind != nothing {
		if err := bootFields(st, q, l, us, p); err != nil {
			return answer{}, err
		}
	}
	a := destination(q, g, us, p)
	var err error
	a.data, err = fit(p, q)
	return a, err
}

// skeleton is what every reply has: the header copied, and the options that are echoed (97 for GRUB, which learns the
// machine's UUID from the ACK only; 61 by RFC 6842; 82 by RFC 3046).
func skeleton(q request, us netip.Addr) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: q.p.HWType, ClientHWAddr: q.p.ClientHWAddr, TransactionID: q.p.TransactionID,
		Flags: q.p.Flags, GatewayIPAddr: q.p.GatewayIPAddr,
		ClientIPAddr: ip(noAddr), YourIPAddr: ip(noAddr), ServerIPAddr: ip(noAddr), Options: dhcpv4.Options{},
	}
	set(p, 54, us.AsSlice())
	for _, code := range []uint8{61, 82, 97} {
		if v := q.option(code); v != nil {
			set(p, code, v)
		}
	}
	return p
}

// lease writes the address and what goes with it. Debian 12's GRUB takes its server from siaddr alone.
func lease(q request, g grant, us netip.Addr, p *dhcpv4.DHCPv4) {
	p.ServerIPAddr = ip(us)
	if g.kind == dhcpv4.MessageTypeAck {
		p.ClientIPAddr = q.p.ClientIPAddr
	}
	if g.addr.IsValid() {
		p.YourIPAddr = ip(g.addr)
		set(p, 51, seconds(g.time))
		set(p, 58, seconds(g.time/2))
		set(p, 59, seconds(g.time*7/8))
	}
	if g.net == nil {
		return // a boot server's answer
	}
	wanted := q.option(55)
	for _, o := range tellings {
		if v := o.value(g.net, g); len(v) > 0 && (!o.asked || slices.Contains(wanted, o.code)) {
			set(p, o.code, v)
		}
	}
}

// bootFields writes what the kind of client needs.
func bootFields(st site, q request, l load, us netip.Addr, p *dhcpv4.DHCPv4) error {
	p.ServerIPAddr = ip(us)
	set(p, 60, []byte("PXEClient"))
	if q.client.Kind == boot.KindUEFIHTTP {
		set(p, 60, []byte("HTTPClient"))
		return nameURL(p, l)
	}
	if q.client.Kind == boot.KindRPi {
		set(p, 43, rpiVendor)
		set(p, 66, []byte(us.String()))
		return nil
	}
	v, err := vendorFor(q, l, us).encode(l.kind == program && l.prompt == nil)
	if err != nil {
		return err
	}
	if len(v) > 1 { // more than its end
		set(p, 43, v)
	}
	if l.kind != program || l.prompt != nil {
		return nil
	}
	if q.client.Kind == boot.KindBIOS {
		p.ServerHostName = us.String()
	}
	if q.client.Kind == boot.KindIPXE && st.mode == ModeServer && q.in.port == serverPort {
		set(p, 175, []byte{subNoPXEDHCP, 1, 1}) // wait for no proxy: one DISCOVER and up to 2 s less
	}
	if isPXELinux(l.file) {
		set(p, 209, []byte("pxelinux.cfg/01-"+q.client.MAC.Dashes()))
		if prefix := st.prefix210(l.file); prefix != "" {
			set(p, 210, []byte(prefix))
		}
	}
	return nameFile(p, l.file)
}

func (st site) prefix210(loader string) string {
	if st.prefixOf == nil {
		return ""
	}
	return st.prefixOf(base(loader))
}

// isPXELinux says whether a loader is of the family that reads options 209 and 210 (RFC 5071): the first names the
// configuration, which saves the walk through eleven names, the second is put before every name.
func isPXELinux(name string) bool {
	return slices.Contains([]string{"pxelinux.0", "lpxelinux.0", "syslinux.efi"}, base(name))
}

// rpiVendor is the boot menu that a Raspberry Pi's ROM looks for; the name and its blanks are part of it. Not tried on
// hardware.
var rpiVendor = []byte("\x06\x01\x08\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE\xff")

// vendorFor is option 43, empty when there is none to send.
func vendorFor(q request, l load, us netip.Addr) vendor {
	switch {
	case q.item != nil:
		return vendor{item: q.item} // iPXE drops an answer that does not repeat its choice
	case l.prompt != nil:
		return hotKeyMenu(us, *l.prompt, l.kind)
	case l.kind == disk:
		return diskMenu(us)
	case q.in.port == proxyPort, q.client.Kind == boot.KindUBoot:
		return vendor{}
	case q.client.Kind == boot.KindUEFI && l.profile == byBinl:
		return vendor{}
	}
	return bypass()
}

// nameFile puts the file where the client reads it: the header field when it fits, else option 67 alone. Never both,
// and never option 52: GRUB ignores the field when fields are overloaded.
func nameFile(p *dhcpv4.DHCPv4, name string) error {
	switch {
	case name == "" || len(name) > 255:
		return fmt.Errorf("write boot file name of %d bytes: want 1 to 255", len(name))
	case len(name) > 127:
		set(p, 67, []byte(name))
	default:
		p.BootFileName = name
	}
	return nil
}

// nameURL is for UEFI HTTP boot, which knows option 67 only, and no way to be sent to its disk: a URL that leads
// nowhere ends the boot entry at once.
func nameURL(p *dhcpv4.DHCPv4, l load) error {
	u, err := url.Parse(l.file)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("write boot URL %q: want http://HOST/PATH", l.file)
	}
	name := l.file
	if l.kind == disk {
		name = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/boot/local-disk"}).String()
	}
	if len(name) > 255 {
		return fmt.Errorf("write boot URL of %d bytes: want at most 255", len(name))
	}
	set(p, 67, []byte(name))
	return nil
}

// destination is RFC 2131 section 4.1, with PXE's rules for port 4011 and for a proxy, which cannot reach a client by
// an address that it did not give.
func destination(q request, g grant, us netip.Addr, p *dhcpv4.DHCPv4) answer {
	a := answer{p: p, src: us, port: q.in.port}
	ciaddr := addrOf(q.p.ClientIPAddr)
	nak := g.kind == dhcpv4.MessageTypeNak
	switch {
	case q.in.port == proxyPort:
		a.to = q.in.from // UEFI asks from port 4011, iPXE from 68
	case q.relay().IsValid():
		a.to = netip.AddrPortFrom(q.relay(), serverPort)
		if nak {
			p.SetBroadcast()
		}
	case ciaddr.IsValid() && !nak:
		a.to = netip.AddrPortFrom(ciaddr, clientPort)
	case nak, !g.addr.IsValid(), q.p.IsBroadcast():
		a.to = broadcast
	default:
		a.to, a.mac = netip.AddrPortFrom(g.addr, clientPort), &q.client.MAC
	}
	return a
}

// sizes of messages, in bytes with their IP and UDP headers: RFC 2132 section 9.10, and what fits into a frame. EDK2
// claims 65280.
const (
	leastSize = 576
	mostSize  = 1472
	headers   = 28
)

// dispensable are the options a reply may lose to fit, the first one first.
var dispensable = []uint8{119, 121, 42, 28, 26, 12, 15, 59, 58, 6}

// fit writes the reply, no longer than the client takes.
func fit(p *dhcpv4.DHCPv4, q request) ([]byte, error) {
	room := leastSize
	if b := q.option(57); len(b) == 2 {
		room = min(max(int(binary.BigEndian.Uint16(b)), leastSize), mostSize)
	}
	room -= headers
	data := p.ToBytes()
	for _, code := range dispensable {
		if len(data) <= room {
			break
		}
		p.DeleteOption(dhcpv4.GenericOptionCode(code))
		data = p.ToBytes()
	}
	if len(data) > room {
		return nil, fmt.Errorf("write reply of %d bytes: the client takes %d", len(data), room)
	}
	return data, nil
}

func set(p *dhcpv4.DHCPv4, code uint8, value []byte) {
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value))
}

func ip(a netip.Addr) []byte { return a.AsSlice() }

func seconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))
}

func mask(p netip.Prefix) uint32 { return ^uint32(0) << (32 - p.Bits()) }
