package dhcp

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// The addresses of the golden cases.
var (
	us     = netip.MustParseAddr("192.0.2.10")
	us2    = netip.MustParseAddr("192.0.2.11")
	them   = netip.MustParseAddr("192.0.2.91")
	subnet = netip.MustParsePrefix("192.0.2.0/24")
	mac    = boot.MAC{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}
	wire97 = unhex("00c9d8b4f7e8cc8c418b528a6f124e8655")
	today  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

const (
	loaderName = "snponly.efi"
	scriptURL  = "http://192.0.2.10:8080/boot/ipxe?mac=52:54:00:12:34:56"
	loaderURL  = "http://192.0.2.10:8080/boot/f/shimx64.efi"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err) // a typing mistake in this file
	}
	return b
}

// An asking is a request under construction: header fields, and options by code.
type asking struct {
	secs, flags    uint16
	mac            boot.MAC
	ciaddr, giaddr netip.Addr
	options        dhcpv4.Options
}

type option struct {
	code uint8
	data []byte
}

// message begins a packet of a type.
func message(kind dhcpv4.MessageType, options ...option) *asking {
	p := &asking{mac: mac, options: dhcpv4.Options{53: {byte(kind)}}}
	for _, o := range options {
		p.options[o.code] = o.data
	}
	return p
}

func opt(code uint8, data string) option    { return option{code, []byte(data)} }
func optHex(code uint8, data string) option { return option{code, unhex(data)} }

// Options of the clients that the cases speak of.
func bios() []option {
	return []option{opt(60, "PXEClient:Arch:00000:UNDI:002001"), optHex(93, "0000"), {97, wire97}}
}
func uefi() []option {
	return []option{opt(60, "PXEClient:Arch:00007:UNDI:003000"), optHex(93, "0007"), {97, wire97}}
}
func uefiHTTP() []option {
	return []option{opt(60, "HTTPClient:Arch:00016:UNDI:003000"), optHex(93, "0010"), {97, wire97}}
}
func ipxe() []option {
	return []option{opt(60, "PXEClient:Arch:00000:UNDI:002001"), optHex(93, "0000"), {97, wire97}, opt(77, "iPXE")}
}

func with(options []option, more ...option) []option { return append(options, more...) }

func (p *asking) bytes() []byte {
	d := &dhcpv4.DHCPv4{OpCode: 1, HWType: 1, ClientHWAddr: p.mac[:], TransactionID: [4]byte{1, 2, 3, 4}, NumSeconds: p.secs,
		Flags: p.flags, ClientIPAddr: four(p.ciaddr), YourIPAddr: four(netip.Addr{}), ServerIPAddr: four(netip.Addr{}),
		GatewayIPAddr: four(p.giaddr), Options: p.options}
	return d.ToBytes()
}

func four(a netip.Addr) []byte {
	if !a.IsValid() {
		return make([]byte, 4)
	}
	return a.AsSlice()
}

// raw is a packet with the header of the case mac, and options as they were captured, cookie included.
func raw(options string) []byte {
	b := make([]byte, 236)
	copy(b, []byte{1, 1, 6, 0, 1, 2, 3, 4})
	copy(b[28:], mac[:])
	return append(b, unhex(options)...)
}

// on67 is a broadcast to port 67, on4011 a request to the boot server.
func on67(b []byte) inbound {
	return inbound{data: b, from: netip.AddrPortFrom(netip.IPv4Unspecified(), 68), to: broadcast.Addr(), port: 67}
}
func on4011(b []byte, from uint16, to netip.Addr) inbound {
	return inbound{data: b, from: netip.AddrPortFrom(them, from), to: to, port: 4011}
}

// A desk is a server without sockets, and what it was seen to do.
type desk struct {
	*Server
	step boot.Step
	seen []boot.Sighting
}

func (d *desk) sighting(s boot.Sighting) { d.seen = append(d.seen, s) }

// newDesk makes one; edit may be nil.
func newDesk(t *testing.T, mode Mode, edit func(*Config)) *desk {
	t.Helper()
	d := &desk{step: boot.Step{Kind: boot.StepRamdisk}}
	cfg := Config{
		Mode: mode, Addr: us, Network: Network{
			Prefix: subnet, Router: netip.MustParseAddr("192.0.2.1"), DNS: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
			Domain: "example.net", Ranges: []Range{{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("192.0.2.99")}},
		},
		Source: d, Observe: d.sighting,
		Loader: func(c boot.Client) (string, bool) {
			switch c.Kind {
			case boot.KindUEFIHTTP:
				return loaderURL, true
			case boot.KindUBoot:
				return "", false
			}
			return loaderName, c.Arch < 0x25
		},
		Script: func(boot.Client) string { return scriptURL },
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := newServer(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return today }
	s.site.own = []netip.Addr{us, us2}
	d.Server = s
	return d
}

// said asks the desk and reads the reply back from its bytes.
func (d *desk) said(t *testing.T, in inbound) (*dhcpv4.DHCPv4, answer, bool) {
	t.Helper()
	q, err := parseRequest(in)
	if err != nil {
		t.Fatalf("parse request: %v", err)
	}
	d.note(q)
	a, ok := d.answer(t.Context(), q)
	if !ok {
		return nil, a, false
	}
	d.noteReply(q, a)
	p, err := dhcpv4.FromBytes(a.data)
	if err != nil {
		t.Fatalf("reply does not read back: %v", err)
	}
	return p, a, true
}

// must is said for a request that is answered.
func (d *desk) must(t *testing.T, in inbound) (*dhcpv4.DHCPv4, answer) {
	t.Helper()
	p, a, ok := d.said(t, in)
	if !ok {
		t.Fatal("no answer")
	}
	return p, a
}

// Next makes a desk its own Source.
func (d *desk) Next(context.Context, boot.Client) (boot.Step, error) { return d.step, nil }

func dhcpv4Options(list []option) dhcpv4.Options {
	m := dhcpv4.Options{}
	for _, o := range list {
		m[o.code] = o.data
	}
	return m
}
