package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"muster/boot"
)

func TestSBATOfDebiansLoaders(t *testing.T) {
	for name, part := range map[string]string{"/usr/lib/shim/shimx64.efi.signed": "shim", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed": "grub"} {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			t.Skipf("%s is not installed", name)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := readSBAT(f)
		if err != nil || s[part].generation < 4 || s[part].version == "" || len(s.old(sbatLevels)) > 0 {
			t.Errorf("%s: %v, %v, old %q", name, s, err, s.old(sbatLevels))
		}
		if old := s.old(map[string]int{part: 99}); len(old) != 1 || !strings.Contains(old[0], "99") {
			t.Errorf("%s below generation 99: %q", name, old)
		}
	}
}

func TestNoSBAT(t *testing.T) {
	if _, err := readSBAT(strings.NewReader("no program")); err == nil {
		t.Error("text was read as a program")
	}
	f, err := os.Open("/usr/lib/ipxe/ipxe.efi")
	if err != nil {
		t.Skip("ipxe is not installed")
	}
	defer f.Close()
	if _, err := readSBAT(f); !errors.Is(err, errNoSBAT) {
		t.Errorf("iPXE, which is not signed: %v", err)
	}
}

// Golden case H5: the site leases, muster is a proxy, and the lease does not name it.
func TestDebian12GRUBBehindAProxy(t *testing.T) {
	if _, err := sbatOf(boot.Loaders{}, "grubx64.efi"); err != nil {
		t.Skip("grub-efi-amd64-signed is not installed")
	}
	for astray, want := range map[string]bool{"192.0.2.1": true, "": false} {
		d := &doctor{cfg: serveConfig{DHCP: "proxy", UEFILoader: "shim"}}
		if astray != "" {
			d.astray = []string{astray}
		}
		parts, _ := sbatOf(boot.Loaders{}, "grubx64.efi")
		d.theSignedLoader(boot.Loaders{}, "grubx64.efi")
		told := false
		for _, f := range d.found {
			told = told || f.State == wellFail && strings.Contains(f.Do, "next-server")
		}
		if told != (want && strings.HasPrefix(parts["grub"].version, "2.06")) {
			t.Errorf("lease server %q: %+v", astray, d.found)
		}
	}
}
