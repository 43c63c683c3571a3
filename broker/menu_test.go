package broker_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
	"muster/broker"
	"muster/broker/store"
)

func menuBroker(t *testing.T, m broker.MenuConfig) (*broker.Broker, error) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b, err := broker.New(t.Context(), broker.Config{Store: s, Key: broker.Key{1}, BaseURL: "http://192.0.2.10:8080", Menu: m, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	}
	return b, err
}

// TestMenuOfAMachine: what was decided comes first, an install is asked for by a fact, and the rescue holds no token.
func TestMenuOfAMachine(t *testing.T) {
	b, err := menuBroker(t, broker.MenuConfig{Timeout: 5 * time.Second, Memtest: true,
		Install: []broker.MenuInstall{{Choice: "debian-12", Key: "d", Text: "Install Debian 12"}}})
	if err != nil {
		t.Fatal(err)
	}
	step, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:12:34:56"), Kind: boot.KindIPXE})
	if err != nil || step.Kind != boot.StepMenu {
		t.Fatalf("step %s, %v; want a menu", step.Kind, err)
	}
	got := map[string]string{}
	for _, e := range step.Menu.Entries {
		var args []string
		for _, a := range e.Step.Args {
			if a.Key != "muster.token" {
				args = append(args, a.Key+"="+a.Value)
				continue
			}
			args = append(args, "token")
		}
		got[e.Label] = strings.Join(append([]string{string(e.Step.Kind), e.Step.Chain}, args...), " ")
	}
	want := map[string]string{
		"decided":   "ramdisk  muster.server=http://192.0.2.10:8080 token",
		"local":     "local ",
		"debian-12": "ramdisk  muster.server=http://192.0.2.10:8080 token muster.fact.choice=debian-12",
		"rescue":    "ramdisk  muster.shell=",
		"memtest":   "chain memtest.lkrn",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if first := step.Menu.Entries[0].Label; first != "decided" {
		t.Errorf("the default is %s", first)
	}
	for _, d := range []boot.Dialect{boot.IPXE, boot.GRUB, boot.PXELINUX} {
		if _, err := boot.Render(d, "http://192.0.2.10:8080", boot.Client{}, step); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
	_, shown, err := b.Step(t.Context(), "node1")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range shown.Menu.Entries {
		if token := e.Step.Args.Get("muster.token"); token != "" && token != "HIDDEN" {
			t.Errorf("entry %s is shown with its token", e.Label)
		}
	}
}

func TestNoMenuWhereThereIsNothingToChoose(t *testing.T) {
	b, err := menuBroker(t, broker.MenuConfig{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c := boot.Client{MAC: mac(t, "52:54:00:12:34:56"), Kind: boot.KindIPXE}
	if _, err := b.Next(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Do(t.Context(), "node1", broker.Act{Verb: "hold", Why: "looked at", Who: "test"}); err != nil {
		t.Fatal(err)
	}
	if step, err := b.Next(t.Context(), c); err != nil || step.Kind != boot.StepRamdisk {
		t.Errorf("a node on hold is given %s, %v", step.Kind, err)
	}
}

func TestAMenuThatNoLoaderShowsIsRefusedAtStart(t *testing.T) {
	for _, i := range []broker.MenuInstall{{Choice: "a b", Text: "x"}, {Choice: "a", Text: "it's"}, {Choice: "local", Text: "x"}, {Choice: "a", Key: "c", Text: "x"}} {
		if _, err := menuBroker(t, broker.MenuConfig{Timeout: time.Second, Install: []broker.MenuInstall{i}}); err == nil || !strings.Contains(err.Error(), "the boot menu: menu entry") {
			t.Errorf("%+v: %v; want to be refused", i, err)
		}
	}
}
