package dhcp

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// The way that worked is remembered of the maker's cards: the next machine is told in it at once.
func TestMakersAreRemembered(t *testing.T) {
	d := newDesk(t, ModeProxy, nil)
	for range 3 {
		d.must(t, on67(raw(optionsD2)))
	}
	d.Saw(boot.Sighting{Time: today, Client: boot.Client{MAC: mac}, Proto: "tftp", What: "read", Name: loaderName, Bytes: 1000})
	with43 := func(m boot.MAC) bool {
		q := message(1, uefi()...)
		q.mac = m
		p, _ := d.must(t, on67(q.bytes()))
		return p.Options.Has(dhcpv4.OptionVendorSpecificInformation)
	}
	if with43(boot.MAC{0x52, 0x54, 0, 9, 9, 9}) {
		t.Error("another card of the maker is told in the way that failed")
	}
	if !with43(boot.MAC{2, 0, 0, 9, 9, 9}) {
		t.Error("a card of another maker is told in the way of this one")
	}
}

func TestHotKeyMenu(t *testing.T) { // D22 to D24
	menu := func(first string) string {
		order := map[string]string{"muster": "8001064d757374657200000a4c6f63616c206469736b", "disk": "00000a4c6f63616c206469736b8001064d7573746572"}
		return "43 0601070807800101c000020a0916" + order[first] + "0a1205507265737320463820666f72206d656e75ff\n"
	}
	for _, row := range []struct {
		name string
		step boot.StepKind
		in   inbound
		want string
	}{
		{"D22: UEFI firmware boots muster unless a key is pressed", boot.StepRamdisk, on67(raw(optionsD2)), proxyOffer + menu("muster") + idLine + "60 PXEClient\n"},
		{"BIOS firmware", boot.StepRamdisk, on67(message(1, bios()...).bytes()), proxyOffer + menu("muster") + idLine + "60 PXEClient\n"},
		{"a machine that boots its disk has that first", boot.StepLocal, on67(raw(optionsD2)), proxyOffer + menu("disk") + idLine + "60 PXEClient\n"},
		{"iPXE has a script, and no menu", boot.StepRamdisk, on67(message(1, ipxe()...).bytes()),
			proxyOffer + "file " + scriptURL + "\n" + bypassLine + idLine + "60 PXEClient\n"},
		{"D23: the choice is answered with the file", boot.StepLocal, on4011(message(3, with(uefi(), optHex(43, "470480010000ff"))...).bytes(), 4011, us),
			"ACK to 192.0.2.91:4011 port 4011\nyiaddr 0.0.0.0 siaddr 192.0.2.10\nfile snponly.efi\n43 470480010000ff\n" + idLine + "60 PXEClient\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t, ModeProxy, func(c *Config) { c.HotKey = &Prompt{5, "Press F8 for menu"} })
			d.step.Kind = row.step
			p, a := d.must(t, row.in)
			if diff := cmp.Diff(row.want, saidOf(p, a)); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSameHostSendsNothingFrom67 is D30: what was heard on another server's port is noted and not answered.
func TestSameHostSendsNothingFrom67(t *testing.T) {
	d := newDesk(t, ModeSameHost, nil)
	d.send = func(a answer) error { return fmt.Errorf("sent to %v", a.to) }
	in := on67(raw(optionsD2))
	in.heard = true
	d.handle(t.Context(), in)
	if c := d.Counts(); c.Heard != 1 || c.Sent+c.Ignored != 0 || len(d.seen) != 1 || d.seen[0].What != "discover" {
		t.Errorf("counts %+v, seen %v", c, d.seen)
	}
	p, a := d.must(t, on4011(raw(optionsD4), 4011, us))
	if p.BootFileName != loaderName || a.port != proxyPort {
		t.Errorf("4011 says %s by port %d", p.BootFileName, a.port)
	}
}

func TestRogueServers(t *testing.T) {
	d := newDesk(t, ModeServer, nil)
	now := today
	d.now = func() time.Time { return now }
	offer := func(server, addr string) {
		b := message(2, optHex(54, server)).bytes()
		b[0] = 2
		copy(b[16:], unhex(addr))
		d.offered(inbound{data: b, port: clientPort, heard: true})
	}
	offer("c0000201", "c0000263")
	offer("c0000201", "c0000263") // no news
	offer("c000020a", "c0000263") // ours
	offer("c0000202", "00000000") // a proxy
	now = now.Add(2 * time.Hour)
	offer("c0000201", "c0000263")
	d.offered(inbound{data: []byte("no packet")})
	var got []string
	for _, x := range d.seen {
		got = append(got, x.What+" "+x.Name+" "+x.Text)
	}
	want := []string{"rogue-server 192.0.2.1 offered 192.0.2.99", "rogue-server 192.0.2.1 offered 192.0.2.99"}
	if diff := cmp.Diff(want, got); diff != "" || d.Counts().Rogue != 3 {
		t.Errorf("reported, %d counted (-want +got):\n%s", d.Counts().Rogue, diff)
	}
}

// The table of the README is this table.
func TestQuirksAreToldInTheREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), QuirkTable()) {
		t.Errorf("boot/README.md lacks the table of Quirks, or has another one; it is:\n%s", QuirkTable())
	}
	names := map[string]bool{}
	for _, k := range Quirks {
		if names[k.Name] || k.Who == "" || k.Does == "" || k.Answer == "" || k.Source == "" {
			t.Errorf("quirk %q is there twice, or lacks a field", k.Name)
		}
		names[k.Name] = true
	}
}

func TestOdditiesAreNoted(t *testing.T) {
	pi := message(1, bios()...)
	pi.mac = boot.MAC{0xdc, 0xa6, 0x32, 1, 2, 3}
	for _, row := range []struct {
		name, want string
		in         *asking
	}{
		{"a Raspberry Pi", "quirk rpi-arch0", pi},
		{"a ROM without its UUID", "quirk rom-no97", message(1, opt(60, "PXEClient"), optHex(93, "0000"))},
		{"a switch port", "circuit 0102; remote id 03", message(1, with(uefi(), optHex(82, "0102010202 0103"))...)},
	} {
		q, err := parseRequest(on67(row.in.bytes()))
		if got := strings.Join(q.notes[1:], "; "); err != nil || got != row.want {
			t.Errorf("%s: noted %q, %v; want %q", row.name, got, err, row.want)
		}
	}
}
