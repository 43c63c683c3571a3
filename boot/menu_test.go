package boot

import (
	"strings"
	"testing"
)

// TestChoicesLeadToTheirSteps: the names in a menu lead to the entry's step, in the dialect that asked; a choice that is
// there no more leads to what there is.
func TestChoicesLeadToTheirSteps(t *testing.T) {
	for _, tt := range []struct {
		name, target string
		part         string
	}{
		{"iPXE", "/boot/ipxe?mac=52:54:00:12:34:56&choice=ramdisk", "initrd --name initrd0 "},
		{"GRUB", "/muster/grub/01-52-54-00-12-34-56/x86_64-efi/ramdisk.cfg", "initrd /boot/f/ramdisk.cpio.gz"},
		{"pxelinux", "/pxelinux.cfg/01-52-54-00-12-34-56/ramdisk", "INITRD http://192.0.2.10:8080/boot/f/ramdisk.cpio.gz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.source.step = choices(false)
			_, menu := r.ask(t, "GET", strings.NewReplacer("&choice=ramdisk", "", "/ramdisk", "").Replace(tt.target))
			if !strings.Contains(menu, "Discovery ramdisk") || strings.Contains(menu, tt.part) {
				t.Errorf("without a choice:\n%s", menu)
			}
			_, chosen := r.ask(t, "GET", tt.target)
			if !strings.Contains(chosen, tt.part) || !strings.Contains(chosen, "# chosen at the machine: Discovery ramdisk") {
				t.Errorf("chosen:\n%s", chosen)
			}
			if _, other := r.ask(t, "GET", strings.Replace(tt.target, "ramdisk", "install", 1)); other != menu {
				t.Errorf("an entry that is not there:\n%s", other)
			}
			r.source.step = Step{Kind: StepLocal}
			if _, stale := r.ask(t, "GET", tt.target); strings.Contains(stale, tt.part) {
				t.Errorf("the menu is gone, and its choice still leads to the ramdisk:\n%s", stale)
			}
		})
	}
}

// TestAnIPXEROMIsLedOn: a ROM that is an iPXE runs scripts; where the operator's row names pxelinux, its script starts
// that, and where it names an iPXE, there is no circle (D10).
func TestAnIPXEROMIsLedOn(t *testing.T) {
	for loader, want := range map[string]string{"pxelinux": "set 210:string tftp://192.0.2.10/\nchain --autofree tftp://192.0.2.10/pxelinux.0 ", "undionly": "kernel --name kernel ",
		"lpxelinux": "set 210:string http://192.0.2.10:8080/boot/\nchain --autofree tftp://192.0.2.10/lpxelinux.0 "} {
		r := newRig(t, func(c *Config) {
			c.Loaders.Root = packages(t, "PXELINUX/pxelinux.0", "PXELINUX/lpxelinux.0", "syslinux/modules/bios/ldlinux.c32", "ipxe/undionly.kpxe")
			c.Loaders.For = []LoaderFor{{MAC: "52:54:00", Loader: loader}}
		})
		if _, script := r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56"); !strings.Contains(script, want) {
			t.Errorf("loader %s:\n%s", loader, script)
		}
	}
}

// TestPrefix: only lpxelinux.0 is told of HTTP by option 210; pxelinux.0 would take the URL for a folder.
func TestPrefix(t *testing.T) {
	r := newRig(t, nil)
	for loader, want := range map[string]string{"lpxelinux.0": testBase + "/boot/", "pxelinux.0": "", "undionly.kpxe": ""} {
		if got := r.Prefix(loader); got != want {
			t.Errorf("Prefix(%s) = %q; want %q", loader, got, want)
		}
	}
}

// TestCookiesOfLPXELINUX: what lpxelinux.0 sends over HTTP tells the machine where the name does not.
func TestCookiesOfLPXELINUX(t *testing.T) {
	r := newRig(t, nil)
	resp, body := r.ask(t, "GET", "/pxelinux.cfg/default", "Cookie: _Syslinux_SYSUUID=x; _Syslinux_BOOTIF=01-52-54-00-12-34-56; _Syslinux_SYSFF=0x2")
	if resp.StatusCode != 200 || r.source.last(t).MAC != testMAC {
		t.Errorf("%d %q, asked for %s", resp.StatusCode, body, r.source.last(t).MAC)
	}
	if resp, body := r.ask(t, "GET", "/pxelinux.cfg/default"); resp.StatusCode != 404 {
		t.Errorf("without cookies: %d %q", resp.StatusCode, body)
	}
}
