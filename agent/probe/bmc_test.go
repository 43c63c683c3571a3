package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/ipmi"

	"muster/agent/facts"
)

// A fakeBMC answers requests from a table: function, command and data in hexadecimal to an answer with its completion
// code. What is not in the table is refused with C1h; "hang" does not answer until the link is closed.
type fakeBMC struct {
	answers map[string]string
	asked   atomic.Int32
	closed  chan struct{}
	once    sync.Once
}

func newFakeBMC(answers map[string]string) *fakeBMC {
	return &fakeBMC{answers: answers, closed: make(chan struct{})}
}

func (f *fakeBMC) SendRecv(function ipmi.NetFn, command ipmi.Command, data []byte) ([]byte, error) {
	f.asked.Add(1)
	answer, ok := f.answers[fmt.Sprintf("%02x %02x %x", function, command, data)]
	switch {
	case answer == "hang":
		<-f.closed
		return nil, errors.New("read rawconn: file closed")
	case !ok:
		answer = "c1"
	}
	b, err := hex.DecodeString(strings.ReplaceAll(answer, " ", ""))
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && b[0] != 0 { // as u-root's package has it
		return nil, ipmi.CompletionError(b[0])
	}
	return b, nil
}

func (f *fakeBMC) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// lanAnswers are those of a BMC whose LAN is channel 1, with some of them changed.
func lanAnswers(change map[string]string) map[string]string {
	answers := map[string]string{
		"06 01 ": "00 20 01 04 45 02 80 a2 02 00 00 01", "06 42 01": "00 01 04 01 80 f2 1b 00 00 00",
		"0c 02 01030000": "00 11 c0 00 02 4d", "0c 02 01050000": "00 11 d0 94 66 77 88 aa", "0c 02 01060000": "00 11 ff ff ff 00",
		"0c 02 010c0000": "00 11 c0 00 02 01", "0c 02 01040000": "00 11 01", "0c 02 01140000": "00 11 64 80",
	}
	for channel := 2; channel <= 11; channel++ {
		answers[fmt.Sprintf("06 42 %02x", channel)] = "cc"
	}
	for k, v := range change {
		answers[k] = v
	}
	return answers
}

// aMachine has this tree and nothing of the running one.
func aMachine(t *testing.T, text string) machine {
	t.Helper()
	tree, err := openTree(plant(t, text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tree.close)
	return machine{tree: tree, patience: patient}
}

// look runs a collector on a machine as Run does.
func look(t *testing.T, m machine, run func(context.Context, machine) (section, error)) Result {
	t.Helper()
	r := Result{Facts: facts.Facts{Schema: facts.Schema}, TimingMS: map[string]int64{}}
	section, err := run(t.Context(), m)
	r.take(outcome{name: "it", section: section, err: err})
	if err := r.Facts.Validate(); err != nil {
		t.Error(err)
	}
	return r
}

// errorsOf are code and message of each error.
func errorsOf(r Result) []string {
	var said []string
	for _, e := range r.Errors {
		said = append(said, e.Code+" "+e.Msg)
	}
	return said
}

const driverBMC = "/sys/bus/platform/devices/ipmi_bmc.0/firmware_revision = 3.5\n" +
	"/sys/bus/platform/devices/ipmi_bmc.0/ipmi_version = 2.0\n/sys/bus/platform/devices/ipmi_bmc.0/manufacturer_id = 0x0002a2\n" +
	"/sys/bus/platform/devices/ipmi_bmc.0/product_id = 0x0100\n/sys/class/ipmi/ipmi0/device/type = kcs"

func TestBMCSaysItsAddress(t *testing.T) {
	driver := facts.BMC{Present: true, Interface: "kcs", Firmware: "3.05", IPMIVersion: "2.0", ManufacturerID: "0002a2", ProductID: "0100"}
	lan := driver
	lan.IP, lan.MAC, lan.Netmask, lan.Gateway = "192.0.2.77", "d0:94:66:77:88:aa", "255.255.255.0", "192.0.2.1"
	lan.Source, lan.VLAN, lan.Channel = "static", 100, 1
	with := func(b facts.BMC, change func(*facts.BMC)) facts.BMC { change(&b); return b }
	for _, tt := range []struct {
		name   string
		tree   string
		change map[string]string
		want   facts.BMC
		errors []string
	}{
		{"everything", driverBMC, nil, lan, nil},
		{"the driver does not say what it is, so that it is asked", "/sys/bus/platform/devices/ipmi_bmc.0/name = x", nil,
			with(lan, func(b *facts.BMC) { b.Interface, b.Firmware = "", "4.45" }), nil},
		{"a device id cut short", "/sys/bus/platform/devices/ipmi_bmc.0/name = x", map[string]string{"06 01 ": "00 20 01 04 45 02 80 a2 02 00 00"},
			facts.BMC{Present: true}, []string{"parse device id of 10 bytes; want 11"}},
		{"no LAN channel anywhere", driverBMC, map[string]string{"06 42 01": "cc"}, driver, nil},
		{"a BMC that knows no channels", driverBMC, map[string]string{"06 42 01": "c1"}, driver, nil},
		{"a serial line before the LAN", driverBMC, map[string]string{"06 42 01": "00 01 05 01 80", "06 42 02": "00 02 04 01 80", "0c 02 02030000": "00 11 c0 00 02 4e"},
			with(driver, func(b *facts.BMC) { b.IP, b.Channel = "192.0.2.78", 2 }), nil},
		{"the port without an address is not the one", driverBMC, map[string]string{"0c 02 01030000": "00 11 00 00 00 00", "06 42 08": "00 08 04 01 80", "0c 02 08030000": "00 11 c0 00 02 4f"},
			with(driver, func(b *facts.BMC) { b.IP, b.Channel = "192.0.2.79", 8 }), nil},
		{"no address on any port: the first port", driverBMC, map[string]string{"0c 02 01030000": "00 11 00 00 00 00", "06 42 08": "00 08 04 01 80"},
			with(lan, func(b *facts.BMC) { b.IP = "" }), nil},
		{"a parameter that it does not have", driverBMC, map[string]string{"0c 02 01140000": "80"}, with(lan, func(b *facts.BMC) { b.VLAN = 0 }), nil},
		{"a VLAN that is off", driverBMC, map[string]string{"0c 02 01140000": "00 11 64 00"}, with(lan, func(b *facts.BMC) { b.VLAN = 0 }), nil},
		{"an address by DHCP, with reserved bits set", driverBMC, map[string]string{"0c 02 01040000": "00 11 f2"}, with(lan, func(b *facts.BMC) { b.Source = "dhcp" }), nil},
		{"nothing is set", driverBMC, map[string]string{"0c 02 01050000": "00 11 00 00 00 00 00 00", "0c 02 010c0000": "00 11 00 00 00 00", "0c 02 01040000": "00 11 00"},
			with(lan, func(b *facts.BMC) { b.MAC, b.Gateway, b.Source = "", "", "" }), nil},
		{"a busy BMC costs what it was asked", driverBMC, map[string]string{"0c 02 01030000": "c0"}, with(lan, func(b *facts.BMC) { b.IP = "" }),
			[]string{"io Get LAN Configuration Parameters 01 03 00 00: completion code c0h: node busy"}},
		{"an address cut short", driverBMC, map[string]string{"0c 02 01030000": "00 11 c0 00 02"}, with(lan, func(b *facts.BMC) { b.IP = "" }),
			[]string{"parse Get LAN Configuration Parameters 01 03: 4 bytes; want 5"}},
		{"a request that is not for us", driverBMC, map[string]string{"06 42 01": "d4"}, driver,
			[]string{"denied Get Channel Info 01: completion code d4h: cannot execute command due to insufficient privilege level or other security-based restriction"}},
		{"an answer without anything", driverBMC, map[string]string{"06 42 01": ""}, driver,
			[]string{"parse Get Channel Info 01: an answer without a completion code"}},
		{"a channel cut short", driverBMC, map[string]string{"06 42 01": "00 01"}, driver, []string{"parse Get Channel Info: 1 bytes; want 9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := aMachine(t, tt.tree)
			link := newFakeBMC(lanAnswers(tt.change))
			m.openBMC = func() (bmcLink, error) { return link, nil }
			r := look(t, m, bmc)
			if diff := cmp.Diff(&tt.want, r.Facts.BMC); diff != "" {
				t.Errorf("bmc: -want +got\n%s", diff)
			}
			if diff := cmp.Diff(tt.errors, errorsOf(r)); diff != "" {
				t.Errorf("errors: -want +got\n%s", diff)
			}
			if (len(r.Facts.Incomplete) > 0) != (tt.errors != nil) {
				t.Errorf("incomplete %v", r.Facts.Incomplete)
			}
			checkClosed(t, link)
		})
	}
}

// checkClosed wants a link that is closed, or a request that hangs would do so for ten seconds.
func checkClosed(t *testing.T, link *fakeBMC) {
	t.Helper()
	select {
	case <-link.closed:
	default:
		t.Error("the link stays open")
	}
}

// A BMC that hangs is asked once, and costs what only it knows.
func TestF40BMCThatHangs(t *testing.T) {
	for _, tt := range []struct {
		name, request, answer string
		asked                 int32
		want                  string // of the address
		msg                   string
	}{
		{"at the first request", "06 42 01", "hang", 1, "", "timeout Get Channel Info 01: no answer: context deadline exceeded"},
		{"at a parameter", "0c 02 01050000", "hang", 3, "192.0.2.77", "timeout Get LAN Configuration Parameters 01 05 00 00: no answer: context deadline exceeded"},
		{"before the interface, which says so", "0c 02 01050000", "c3", 3, "192.0.2.77", "timeout Get LAN Configuration Parameters 01 05 00 00: completion code c3h: timeout while processing command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := aMachine(t, driverBMC)
				m.patience = 50 * time.Millisecond
				link := newFakeBMC(lanAnswers(map[string]string{tt.request: tt.answer}))
				m.openBMC = func() (bmcLink, error) { return link, nil }
				r := look(t, m, bmc)
				if b := r.Facts.BMC; b == nil || b.Firmware != "3.05" || b.IP != tt.want {
					t.Errorf("bmc %+v; want firmware 3.05 and address %q", b, tt.want)
				}
				if diff := cmp.Diff([]string{tt.msg}, errorsOf(r)); diff != "" {
					t.Errorf("errors: -want +got\n%s", diff)
				}
				if diff := cmp.Diff([]string{"it"}, r.Facts.Incomplete); diff != "" {
					t.Errorf("incomplete: -want +got\n%s", diff)
				}
				if got := link.asked.Load(); got != tt.asked {
					t.Errorf("asked %d times; want %d", got, tt.asked)
				}
				checkClosed(t, link)
			})
		})
	}
}

// A BMC that SMBIOS shows and no driver reaches has an address that is not known, which is not none.
func TestBMCWithoutADriver(t *testing.T) {
	m := aMachine(t, driverBMC)
	m.openBMC = openBMC
	r := look(t, m, bmc)
	if r.Facts.BMC == nil || r.Facts.BMC.Firmware != "3.05" {
		t.Errorf("bmc %+v; want what the driver said", r.Facts.BMC)
	}
	if len(r.Errors) == 0 || len(r.Facts.Incomplete) == 0 {
		t.Skip("this machine has a BMC")
	}
	if e := r.Errors[0]; e.Code != "missing" && e.Code != "denied" {
		t.Errorf("error %+v; want missing or denied", e)
	}
}

// A machine without a BMC is asked nothing, and neither is this one about another.
func TestNoBMCIsNotAsked(t *testing.T) {
	m := aMachine(t, "/sys/firmware/dmi/tables/DMI # 7f04007f0000")
	m.openBMC = func() (bmcLink, error) { t.Error("asked"); return nil, errors.New("asked") }
	if r := look(t, m, bmc); r.Facts.BMC == nil || r.Facts.BMC.Present || len(r.Errors) > 0 {
		t.Errorf("bmc %+v, errors %v; want none", r.Facts.BMC, r.Errors)
	}
	r := Run(t.Context(), Options{Root: plant(t, driverBMC), Deadline: patient, Only: []string{"bmc"}})
	if len(r.Errors) > 0 || len(r.Facts.Incomplete) > 0 {
		t.Errorf("errors %v, incomplete %v; want none: a fixture has no /dev/ipmi0 to ask", r.Errors, r.Facts.Incomplete)
	}
}

// FuzzBMC (Z30): whatever a BMC answers, the facts are valid and the questions few.
func FuzzBMC(f *testing.F) {
	f.Add([]byte("\x00\x20\x01\x04\x45\x02\x80\xa2\x02\x00\x00\x01"), []byte("\x00\x01\x04\x01\x80\xf2\x1b\x00\x00\x00"), []byte("\x00\x11\xc0\x00\x02\x4d"))
	f.Add([]byte{}, []byte{0}, []byte{0x80})
	f.Add([]byte("\x00\x20\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff"), []byte("\x00\x01\x04"), []byte("\x00\x11\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, id, channel, parameter []byte) {
		asked := 0
		talk := bmcTalk{ctx: t.Context(), patience: patient, moved: func() { asked++ }}
		talk.link = linkFunc(func(function ipmi.NetFn, command ipmi.Command) []byte {
			return map[string][]byte{"06 01": id, "06 42": channel, "0c 02": parameter}[fmt.Sprintf("%02x %02x", function, command)]
		})
		b := facts.BMC{Present: true}
		_ = talk.deviceID(&b)
		_ = talk.lan(&b)
		doc := facts.Facts{Schema: facts.Schema, BMC: &b}
		if err := doc.Validate(); err != nil {
			t.Fatal(err)
		}
		if most := 1 + 11*(1+len(lanParameters)); asked > most {
			t.Fatalf("asked %d times; want %d at most", asked, most)
		}
	})
}

type linkFunc func(ipmi.NetFn, ipmi.Command) []byte

func (f linkFunc) SendRecv(function ipmi.NetFn, command ipmi.Command, _ []byte) ([]byte, error) {
	return f(function, command), nil
}

func (linkFunc) Close() error { return nil }
