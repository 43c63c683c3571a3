package broker_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/store"
)

// What DHCP shows of a machine is on its node before any ramdisk runs, and what HTTP does not show is not lost by it.
func TestWhatBootSawIsOnTheNode(t *testing.T) {
	b := newBroker(t)
	m := mac(t, "52:54:00:00:00:01")
	see := func(proto string, c boot.Client) {
		t.Helper()
		c.MAC = m
		if err := b.Journal(t.Context(), boot.Sighting{Time: time.Unix(1, 0), Client: c, Proto: proto, What: "discover"}); err != nil {
			t.Fatal(err)
		}
	}
	see("dhcp", boot.Client{Kind: boot.KindUEFI, Arch: boot.ArchX64})
	see("dhcp", boot.Client{Kind: boot.KindIPXE, Arch: boot.ArchX64, Features: []string{"efi", "http"}, NIC: "8086:100e", Version: "1.0.0"})
	see("http", boot.Client{Kind: boot.KindIPXE})
	n := node(t, b, m.String())
	got := broker.BootKeys{Kind: n.Boot.Kind, EFI: n.Boot.EFI, Arch: n.Boot.Arch, NIC: n.Boot.NIC, IPXE: n.Boot.IPXE, Features: n.Boot.Features}
	want := broker.BootKeys{Kind: "uefi-pxe", EFI: true, Arch: "x64 UEFI", NIC: "8086:100e", IPXE: "1.0.0", Features: []string{"efi", "http"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("boot keys (-want +got):\n%s", d)
	}
	if b.Known(m) {
		t.Error("a machine that was only seen booting is known")
	}
}

// Who has checked in is known, also to a broker that starts later.
func TestKnownMachines(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	start := func() *broker.Broker {
		b, err := broker.New(t.Context(), broker.Config{Store: st, Key: broker.Key{1}, BaseURL: "http://192.0.2.10:8080", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b, m := start(), mac(t, "52:54:00:00:00:01")
	mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	in := facts.CheckIn{V: 1, Seq: 1, Token: token(t, b, boot.Client{MAC: m}), BootID: "boot", Facts: machineWith(uuidA, m.String())}
	if b.Known(m) {
		t.Error("known before its check-in")
	}
	if _, err := b.CheckIn(t.Context(), strings.Repeat("k", 32), &in); err != nil {
		t.Fatal(err)
	}
	if !b.Known(m) || b.Known(mac(t, "52:54:00:00:00:02")) {
		t.Error("want known after its check-in, and no other")
	}
	if !start().Known(m) {
		t.Error("want known after a restart")
	}
}
