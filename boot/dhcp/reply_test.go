package dhcp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// A said is what matters of a reply, in text: one line for each thing.
func saidOf(p *dhcpv4.DHCPv4, a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s", p.MessageType(), a.to)
	if a.mac != nil {
		b.WriteString(" by frame")
	}
	fmt.Fprintf(&b, " port %d\nyiaddr %s siaddr %s\n", a.port, p.YourIPAddr, p.ServerIPAddr)
	if p.ServerHostName != "" {
		fmt.Fprintf(&b, "sname %s\n", p.ServerHostName)
	}
	if p.BootFileName != "" {
		fmt.Fprintf(&b, "file %s\n", p.BootFileName)
	}
	codes := make([]int, 0, len(p.Options))
	for c := range p.Options {
		codes = append(codes, int(c))
	}
	slices.Sort(codes)
	for _, c := range codes {
		v := p.Options.Get(dhcpv4.GenericOptionCode(c))
		if c == 60 || c == 66 || c == 67 || c == 15 || c == 56 {
			fmt.Fprintf(&b, "%d %s\n", c, v)
		} else if c != 53 && c != 97 {
			fmt.Fprintf(&b, "%d %x\n", c, v)
		}
	}
	return b.String()
}

// Lines that many replies share.
const (
	proxyOffer = "OFFER to 255.255.255.255:68 port 67\nyiaddr 0.0.0.0 siaddr 192.0.2.10\n"
	bypassLine = "43 060108ff\n"
	menuLine   = "43 0601070807800101c000020a091600000a4c6f63616c206469736b8001064d75737465720a0100ff\n"
	idLine     = "54 c000020a\n"
)

func TestProxyOffers(t *testing.T) {
	pi := message(1, bios()...)
	pi.mac = boot.MAC{0xdc, 0xa6, 0x32, 1, 2, 3}
	local := boot.Step{Kind: boot.StepLocal}
	for _, row := range []struct {
		name string
		in   []byte
		step boot.Step
		want string // "": silence
	}{
		{"D18: BIOS firmware is told its loader", message(1, bios()...).bytes(), boot.Step{},
			proxyOffer + "sname 192.0.2.10\nfile snponly.efi\n" + bypassLine + idLine + "60 PXEClient\n"},
		{"D2: UEFI firmware is told its loader", raw(optionsD2), boot.Step{},
			proxyOffer + "file snponly.efi\n" + bypassLine + idLine + "60 PXEClient\n"},
		{"D3: UEFI HTTP boot is told a URL", raw(optionsD3), boot.Step{},
			proxyOffer + idLine + "60 HTTPClient\n67 " + loaderURL + "\n"},
		{"D9: iPXE is told its script", message(1, ipxe()...).bytes(), boot.Step{},
			proxyOffer + "file " + scriptURL + "\n" + bypassLine + idLine + "60 PXEClient\n"},
		{"D16: a Raspberry Pi is told a menu", pi.bytes(), boot.Step{},
			proxyOffer + "43 0601080914000011" + hex.EncodeToString([]byte("Raspberry Pi Boot")) + "0a0400505845ff\n" + idLine + "60 PXEClient\n66 192.0.2.10\n"},
		{"D20: UEFI firmware boots its disk", raw(optionsD2), local, proxyOffer + menuLine + idLine + "60 PXEClient\n"},
		{"BIOS firmware boots its disk", message(1, bios()...).bytes(), local, proxyOffer + menuLine + idLine + "60 PXEClient\n"},
		{"UEFI HTTP boot is sent to a URL that leads nowhere", raw(optionsD3), local,
			proxyOffer + idLine + "60 HTTPClient\n67 http://192.0.2.10:8080/boot/local-disk\n"},
		{"iPXE boots its disk by its script", message(1, ipxe()...).bytes(), local,
			proxyOffer + "file " + scriptURL + "\n" + bypassLine + idLine + "60 PXEClient\n"},
		{"a Raspberry Pi that boots its disk hears nothing", pi.bytes(), local, ""},
		{"D12: an ordinary client hears nothing", message(1).bytes(), boot.Step{}, ""},
		{"D11: LoongArch has no loader and hears nothing", message(1, opt(60, "PXEClient"), optHex(93, "0025")).bytes(), boot.Step{}, ""},
		{"an unknown architecture hears nothing", message(1, opt(60, "PXEClient"), optHex(93, "00ff")).bytes(), boot.Step{}, ""},
		{"a request to the site's server is not ours", message(3, with(bios(), optHex(50, "c000025b"), optHex(54, "c0000201"))...).bytes(), boot.Step{}, ""},
		{"a release is not ours", message(7, bios()...).bytes(), boot.Step{}, ""},
		{"D27: a packet without an end is served", bytes.TrimRight(raw(optionsD2), "\xff"), boot.Step{},
			proxyOffer + "file snponly.efi\n" + bypassLine + idLine + "60 PXEClient\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t, ModeProxy, nil)
			d.step = row.step
			p, a, ok := d.said(t, on67(row.in))
			got := ""
			if ok {
				got = saidOf(p, a)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBootServer(t *testing.T) {
	on := func(b []byte) []byte { copy(b[12:], them.AsSlice()); return b } // ciaddr
	for _, row := range []struct {
		name string
		in   inbound
		step boot.Step
		want string
	}{
		{"D4: UEFI firmware asks from 4011", on4011(on(raw(optionsD4)), 4011, us), boot.Step{},
			"ACK to 192.0.2.91:4011 port 4011\nyiaddr 0.0.0.0 siaddr 192.0.2.10\nfile snponly.efi\n" + idLine + "60 PXEClient\n"},
		{"D21: iPXE asks our second address, from 68", on4011(on(message(3, ipxe()...).bytes()), 68, us2), boot.Step{},
			"ACK to 192.0.2.91:68 port 4011\nyiaddr 0.0.0.0 siaddr 192.0.2.11\nfile " + scriptURL + "\n54 c000020b\n60 PXEClient\n"},
		{"D23: a menu entry was chosen", on4011(on(message(3, with(uefi(), optHex(43, "470480010000ff"))...).bytes()), 4011, us), boot.Step{Kind: boot.StepLocal},
			"ACK to 192.0.2.91:4011 port 4011\nyiaddr 0.0.0.0 siaddr 192.0.2.10\nfile snponly.efi\n43 470480010000ff\n" + idLine + "60 PXEClient\n"},
		{"UEFI firmware boots its disk", on4011(on(raw(optionsD4)), 4011, us), boot.Step{Kind: boot.StepLocal},
			"ACK to 192.0.2.91:4011 port 4011\nyiaddr 0.0.0.0 siaddr 192.0.2.10\n" + menuLine + idLine + "60 PXEClient\n"},
		{"someone else's menu entry", on4011(on(message(3, with(uefi(), optHex(43, "470480000000ff"))...).bytes()), 4011, us), boot.Step{}, ""},
		{"an ordinary client", on4011(on(message(3).bytes()), 4011, us), boot.Step{}, ""},
		{"a DISCOVER does not belong here", on4011(on(raw(optionsD2)), 4011, us), boot.Step{}, ""},
		{"a request from another service's port", on4011(on(raw(optionsD4)), 53, us), boot.Step{}, ""},
	} {
		for _, mode := range []Mode{ModeProxy, ModeServer} {
			t.Run(row.name+" "+string(mode), func(t *testing.T) {
				d := newDesk(t, mode, nil)
				d.step = row.step
				p, a, ok := d.said(t, row.in)
				got := ""
				if ok {
					p.ClientIPAddr = nil
					got = saidOf(p, a)
				}
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Errorf("reply (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestServerModeOffersBootFieldsWithTheLease(t *testing.T) {
	lease := func(hours string) string {
		return "1 ffffff00\n3 c0000201\n6 c0000202\n15 example.net\n" + hours
	}
	firmware := "51 00000078\n" + idLine + "58 0000003c\n59 00000069\n60 PXEClient\n"
	offer := "OFFER to 192.0.2.91:68 by frame port 67\nyiaddr 192.0.2.91 siaddr 192.0.2.10\n"
	wish := optHex(50, "c000025b")
	insert := func(text, before, line string) string { return strings.Replace(text, before, line+before, 1) }
	for _, row := range []struct {
		name string
		in   *asking
		want string
	}{
		{"BIOS firmware", message(1, with(bios(), wish)...),
			offer + "sname 192.0.2.10\nfile snponly.efi\n" + insert(lease(firmware), "51", bypassLine)},
		{"UEFI firmware", message(1, with(uefi(), wish)...), offer + "file snponly.efi\n" + insert(lease(firmware), "51", bypassLine)},
		{"UEFI HTTP boot", message(1, with(uefiHTTP(), wish)...), offer + strings.Replace(lease(firmware), "60 PXEClient", "60 HTTPClient", 1) + "67 " + loaderURL + "\n"},
		{"iPXE, which shall wait for no proxy", message(1, with(ipxe(), wish)...),
			offer + "file " + scriptURL + "\n" + insert(lease("51 00000e10\n"+idLine+"58 00000708\n59 00000c4e\n60 PXEClient\n"), "51", bypassLine) + "175 b00101\n"},
		{"an operating system", message(1, wish, optHex(61, "ff00112233")),
			offer + lease("51 00000e10\n"+idLine+"58 00000708\n59 00000c4e\n61 ff00112233\n")},
		{"a machine without a loader gets its lease", message(1, wish, opt(60, "PXEClient"), optHex(93, "0025")),
			offer + lease("51 00000078\n"+idLine+"58 0000003c\n59 00000069\n")},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, a := newDesk(t, ModeServer, nil).must(t, on67(row.in.bytes()))
			if diff := cmp.Diff(row.want, saidOf(p, a)); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsEchoed(t *testing.T) {
	d := newDesk(t, ModeServer, nil)
	for _, odd := range []string{"00c9d8b4f7e8cc8c418b528a6f124e8655", "01c9d8b4f7e8cc8c418b528a6f124e8655", "0102"} { // D27
		in := message(1, opt(60, "PXEClient"), optHex(93, "0007"), optHex(97, odd), optHex(82, "0104c0a80001"), optHex(61, "01525400123456"))
		in.flags = 0x8000
		p, a := d.must(t, on67(in.bytes()))
		for code, want := range map[uint8]string{97: odd, 82: "0104c0a80001", 61: "01525400123456"} {
			if got := hex.EncodeToString(p.Options.Get(dhcpv4.GenericOptionCode(code))); got != want {
				t.Errorf("option %d is %s; want %s", code, got, want)
			}
		}
		if b := bytes.TrimRight(a.data, "\x00"); !bytes.HasSuffix(b, unhex("52060104c0a80001ff")) {
			t.Errorf("option 82 is not the last: ...%x", b[len(b)-12:])
		}
		if p.Flags != 0x8000 || p.TransactionID != [4]byte{1, 2, 3, 4} || a.to != broadcast {
			t.Errorf("flags %#x, xid %x, to %v; want the client's, by broadcast", p.Flags, p.TransactionID, a.to)
		}
	}
}

func TestLongNames(t *testing.T) {
	long := "http://192.0.2.10:8080/" + strings.Repeat("x", 140-23)
	for _, row := range []struct {
		name       string
		url        string
		file, op67 string
	}{
		{"127 bytes fit the header", long[:127], long[:127], ""},
		{"D29: 140 bytes go into option 67 alone", long, "", long},
		{"300 bytes go nowhere", strings.Repeat("x", 300), "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t, ModeServer, func(c *Config) { c.Script = func(boot.Client) string { return row.url } })
			p, _ := d.must(t, on67(message(1, ipxe()...).bytes()))
			got67 := string(p.Options.Get(dhcpv4.OptionBootfileName))
			if p.BootFileName != row.file || got67 != row.op67 || p.Options.Has(dhcpv4.OptionOptionOverload) {
				t.Errorf("file %q, option 67 %q, option 52 %v; want %q, %q, none", p.BootFileName, got67, p.Options.Has(dhcpv4.OptionOptionOverload), row.file, row.op67)
			}
			if !addrOf(p.YourIPAddr).IsValid() {
				t.Error("no address was offered")
			}
		})
	}
}

// N9: pxelinux is told its configuration and its prefix, other loaders neither.
func TestPXELinuxIsToldItsConfiguration(t *testing.T) {
	for _, row := range []struct{ loader, prefix, want string }{
		{"pxelinux.0", "", "209 706178\n"},
		{"syslinux/lpxelinux.0", "pfx/", "209 706178\n210 7066782f\n"},
		{"undionly.kpxe", "pfx/", ""},
	} {
		d := newDesk(t, ModeProxy, func(c *Config) {
			c.Prefix = func(loader string) string { return map[string]string{"lpxelinux.0": row.prefix}[loader] }
			c.Loader = func(boot.Client) (string, bool) { return row.loader, true }
		})
		p, a := d.must(t, on67(message(1, bios()...).bytes()))
		want := proxyOffer + "sname 192.0.2.10\nfile " + row.loader + "\n" + bypassLine + idLine + "60 PXEClient\n" +
			strings.Replace(row.want, "706178", hex.EncodeToString([]byte("pxelinux.cfg/01-52-54-00-12-34-56")), 1)
		if diff := cmp.Diff(want, saidOf(p, a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.loader, diff)
		}
	}
}

func TestReplyFitsTheClient(t *testing.T) {
	d := newDesk(t, ModeServer, func(c *Config) {
		c.Network.Domain = strings.Repeat("d", 250)
		c.Script = func(boot.Client) string { return "http://192.0.2.10/" + strings.Repeat("x", 200) }
	})
	for _, row := range []struct {
		name   string
		size57 string
		domain bool
	}{
		{"a client that says nothing takes 576 bytes", "", false},
		{"a client that takes a frame", "05c0", true},
		{"UEFI firmware claims 65280", "ff00", true},
		{"a client that claims 100 takes 576", "0064", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := ipxe()
			if row.size57 != "" {
				options = with(options, optHex(57, row.size57))
			}
			p, a := d.must(t, on67(message(1, options...).bytes()))
			if p.Options.Has(dhcpv4.OptionDomainName) != row.domain || !p.Options.Has(dhcpv4.OptionBootfileName) {
				t.Errorf("domain %v in %d bytes; want %v, and the file always", !row.domain, len(a.data), row.domain)
			}
		})
	}
}

func TestRelays(t *testing.T) { // D26
	relay := netip.MustParseAddr("198.51.100.1")
	ask := func() inbound {
		p := message(1, with(uefi(), optHex(82, "0104c0a80001"))...)
		p.giaddr = relay
		return on67(p.bytes())
	}
	if _, _, ok := newDesk(t, ModeProxy, nil).said(t, ask()); ok {
		t.Error("a relay that nobody named was answered")
	}
	named := func(c *Config) { c.Relays = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }
	p, a := newDesk(t, ModeProxy, named).must(t, ask())
	if a.to != netip.AddrPortFrom(relay, 67) || addrOf(p.GatewayIPAddr) != relay {
		t.Errorf("reply to %v, giaddr %v; want the relay's port 67", a.to, p.GatewayIPAddr)
	}
	if _, _, ok := newDesk(t, ModeServer, named).said(t, ask()); ok {
		t.Error("an address of this subnet was offered into another")
	}
}

func TestUEFIThatStartsOverIsToldInTheOtherWay(t *testing.T) { // D19
	d := newDesk(t, ModeProxy, nil)
	var got []bool
	for range 3 {
		p, _ := d.must(t, on67(raw(optionsD2)))
		got = append(got, p.Options.Has(dhcpv4.OptionVendorSpecificInformation))
		if p.BootFileName != loaderName || addrOf(p.ServerIPAddr) != us {
			t.Errorf("file %q, siaddr %v", p.BootFileName, p.ServerIPAddr)
		}
	}
	d.must(t, on67(message(1, ipxe()...).bytes())) // our loader runs: that way is right for all cards of this maker
	p, _ := d.must(t, on67(raw(optionsD2)))
	got = append(got, p.Options.Has(dhcpv4.OptionVendorSpecificInformation))
	if want := []bool{true, true, false, false}; !cmp.Equal(got, want) {
		t.Errorf("option 43 in the offers: %v; want %v", got, want)
	}
}

func TestSightings(t *testing.T) {
	d := newDesk(t, ModeServer, nil)
	in := message(1, with(ipxe(), optHex(50, "c000025b"))...)
	in.secs = 11
	d.must(t, on67(in.bytes()))
	d.said(t, on67(message(1).bytes())) // an ordinary client is not reported
	var got []string
	for _, s := range d.seen {
		got = append(got, fmt.Sprintf("%s %s %v %s: %s", s.Proto, s.What, s.Client.Addr, s.Name, s.Text))
	}
	want := []string{
		"dhcp discover invalid IP : x86 BIOS; try 2, lease offer and proxy offer seen", // D31
		"dhcp offer 192.0.2.91 " + scriptURL + ": to 192.0.2.91:68",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sightings (-want +got):\n%s", diff)
	}
}

func TestLoaderThatIsMissingIsReported(t *testing.T) { // D11
	d := newDesk(t, ModeProxy, nil)
	d.said(t, on67(message(1, opt(60, "PXEClient"), optHex(93, "0025")).bytes()))
	if last := d.seen[len(d.seen)-1]; last.What != "refused" || !strings.Contains(last.Text, "no loader") {
		t.Errorf("seen %q %q; want refused for want of a loader", last.What, last.Text)
	}
}

// FuzzAnswer is Z1: no packet hurts, a reply reads back, and proxy mode answers boot clients of a known architecture
// only (T30).
func FuzzAnswer(f *testing.F) {
	f.Add(raw(optionsD2), true)
	f.Add(raw(optionsD3), false)
	f.Add(raw(optionsD4), true)
	f.Add(message(3, with(ipxe(), optHex(50, "c000025b"), optHex(82, "0104c0a80001"))...).bytes(), false)
	f.Add(message(1, opt(60, "PXEClient"), optHex(93, "0007"), optHex(52, "03"), optHex(57, "0001")).bytes(), false)
	f.Add(message(3, with(uefi(), optHex(43, "470480010000ff"))...).bytes(), true)
	f.Add(message(4, optHex(50, "c000025b")).bytes(), false)
	f.Fuzz(func(t *testing.T, b []byte, boots bool) {
		in := on67(b)
		if boots {
			in = on4011(b, 4011, us)
		}
		q, err := parseRequest(in)
		if err != nil {
			return
		}
		for _, mode := range []Mode{ModeProxy, ModeServer} {
			d := newDesk(t, mode, nil)
			p, a, ok := d.said(t, in)
			if !ok {
				continue
			}
			if mode == ModeProxy && (q.class == plain || q.client.Arch > archLast) {
				t.Errorf("proxy answered class %v, arch %#x", q.class, q.client.Arch)
			}
			if p.OpCode != dhcpv4.OpcodeBootReply || len(a.data) > mostSize || !a.to.IsValid() {
				t.Errorf("reply op %d, %d bytes, to %v", p.OpCode, len(a.data), a.to)
			}
		}
	})
}
