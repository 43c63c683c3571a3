package boot

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// firmware makes one machine's requests of a boot server, with a clock of its own.
type firmware struct {
	*testing.T
	rig   *rig
	clock time.Time
	c     Client
}

func newFirmware(t *testing.T) *firmware {
	t.Helper()
	f := &firmware{T: t, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), c: Client{MAC: testMAC, Kind: KindUEFI, Arch: ArchX64, Addr: netip.MustParseAddr("192.0.2.91")}}
	f.rig = newRig(t, func(c *Config) {
		c.Now = func() time.Time { return f.clock }
		c.Loaders = Loaders{Root: packages(t, "ipxe/undionly.kpxe", "ipxe/snponly.efi", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed")}
	})
	return f
}

// boots is a round of firmware: DHCP twice, then the file twice, as EDK2 does. It gives the file.
func (f *firmware) boots() string {
	f.Helper()
	f.rig.Loader(f.c)
	name, ok := f.rig.Loader(f.c)
	if !ok {
		f.Fatal("no loader")
	}
	for range 2 {
		file, err := f.rig.Resolve(f.Context(), name, f.c)
		content(f.T, file, err)
	}
	f.clock = f.clock.Add(20 * time.Second)
	return name
}

func (f *firmware) next() Step {
	f.Helper()
	s, err := f.rig.Next(f.Context(), f.c)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// TestD33LoaderLoop: a loader fetched three times in two minutes with no script between is a loop, and the machine is
// given to its disk for ten minutes.
func TestD33LoaderLoop(t *testing.T) {
	f := newFirmware(t)
	for i := range loopTries {
		if s := f.next(); s.Kind != StepRamdisk {
			t.Fatalf("before round %d: %s, %s", i+1, s.Kind, s.Because)
		}
		f.boots()
	}
	if s := f.next(); s.Kind != StepLocal || !strings.HasPrefix(s.Because, "loader-loop: ") {
		t.Errorf("after three rounds: %s, %s; want the local disk", s.Kind, s.Because)
	}
	if n := len(f.rig.seen); n != 1 || f.rig.seen[0].What != "loader-loop" || f.rig.seen[0].Client.MAC != testMAC {
		t.Errorf("sightings %+v; want one of the loop", f.rig.seen)
	}
	f.clock = f.clock.Add(loopRest)
	if s := f.next(); s.Kind != StepRamdisk {
		t.Errorf("ten minutes later: %s, %s", s.Kind, s.Because)
	}
}

func TestNoLoopWhereScriptsAreAsked(t *testing.T) {
	f := newFirmware(t)
	for range 5 {
		f.boots()
		f.rig.ScriptURL(f.c) // iPXE asks DHCP
		f.rig.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56&platform=efi")
	}
	if s := f.next(); s.Kind != StepRamdisk {
		t.Errorf("a machine that runs its scripts: %s, %s", s.Kind, s.Because)
	}
	f = newFirmware(t)
	for range 5 {
		f.boots()
		f.clock = f.clock.Add(time.Minute)
	}
	if s := f.next(); s.Kind != StepRamdisk {
		t.Errorf("a machine that is switched on each minute: %s, %s", s.Kind, s.Because)
	}
}

// TestUnstartedLoaderMeansSecureBoot: firmware that loads snponly.efi and is not heard of gets the signed chain at its
// next boot; when that runs, it stays.
func TestUnstartedLoaderMeansSecureBoot(t *testing.T) {
	f := newFirmware(t)
	if got := f.boots(); got != "snponly.efi" {
		t.Fatalf("the first boot loads %s", got)
	}
	if got := f.boots(); got != "shimx64.efi" {
		t.Fatalf("the second boot loads %s", got)
	}
	f.rig.ask(t, "GET", "/muster/grub/01-52-54-00-12-34-56/x86_64-efi.cfg")
	f.clock = f.clock.Add(24 * time.Hour)
	if got := f.boots(); got != "shimx64.efi" {
		t.Errorf("once the signed chain ran, it loads %s", got)
	}
	f = newFirmware(t)
	f.boots()
	f.rig.ScriptURL(f.c) // iPXE asked DHCP, and lost power before its script
	if got := f.boots(); got != "snponly.efi" {
		t.Errorf("after iPXE was heard of it loads %s", got)
	}
}

// TestTriesAreBounded: MACs are anybody's to invent.
func TestTriesAreBounded(t *testing.T) {
	f := newFirmware(t)
	for i := range 3 * triesKept {
		f.rig.Loader(Client{MAC: MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}, Arch: ArchX64})
	}
	if n := len(f.rig.tries.of); n > triesKept {
		t.Errorf("%d machines are kept", n)
	}
}
