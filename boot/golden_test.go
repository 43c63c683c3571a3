package boot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The golden cases of protocols.md 9 that have no table of their own.

// TestI8HTTPSOnly: an iPXE that says it has no HTTPS is given no URL that it can not load.
func TestI8HTTPSOnly(t *testing.T) {
	r := newRig(t, func(c *Config) { c.BaseURL = "https://192.0.2.10:8443" })
	with := Client{MAC: testMAC, Kind: KindIPXE, Features: []string{"http", "https"}}
	if got := r.ScriptURL(with); !strings.HasPrefix(got, "https://192.0.2.10:8443/boot/ipxe?") {
		t.Errorf("with HTTPS it is given %q", got)
	}
	without := Client{MAC: testMAC, Kind: KindIPXE, Features: []string{"http"}}
	if got := r.ScriptURL(without); got != "" || len(r.seen) != 1 || r.seen[0].What != "refused" {
		t.Errorf("without HTTPS it is given %q; sightings %+v", got, r.seen)
	}
	if got := r.ScriptURL(Client{MAC: testMAC, Kind: KindIPXE}); got == "" {
		t.Error("an iPXE that tells nothing is given nothing")
	}
}

// TestI9LocalDisk: on EFI an exit with success would open the firmware's menu.
func TestI9LocalDisk(t *testing.T) {
	for c, want := range map[*Client]string{&onUEFI: "exit 1", &onBIOS: "exit 0"} {
		script, err := Render(IPXE, testBase, *c, Step{Kind: StepLocal})
		if err != nil {
			t.Fatal(err)
		}
		commands := ipxeCommands(script)
		if got := strings.Join(commands[len(commands)-1], " "); got != want {
			t.Errorf("%s: the last command is %q; want %q", c.Arch, got, want)
		}
	}
}

// TestP1Kernel has LINUX where the table has KERNEL, as pxelinux tells the kind of a KERNEL by its name.
func TestP1Kernel(t *testing.T) {
	config, err := Render(PXELINUX, testBase, onBIOS, installer())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LINUX ::", "IPAPPEND 2"} {
		if !strings.Contains(config, want) {
			t.Errorf("no %s:\n%s", want, config)
		}
	}
	for line := range strings.Lines(config) {
		if len(line) > 2100 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestG2LocalDisk: GRUB looks for a loader, starts it, and does not leave before.
func TestG2LocalDisk(t *testing.T) {
	config, err := Render(GRUB, testBase, onUEFI, Step{Kind: StepLocal})
	if err != nil {
		t.Fatal(err)
	}
	search, chain, start, exit := strings.Index(config, "search "), strings.Index(config, "chainloader "), strings.Index(config, "boot\n"), strings.Index(config, "exit")
	if search < 0 || chain < search || start < chain || exit < start {
		t.Errorf("search at %d, chainloader at %d, boot at %d, exit at %d:\n%s", search, chain, start, exit, config)
	}
}

// TestW1LongestName: 31 characters still pass, and each name stands in both places, the WIM last.
func TestW1LongestName(t *testing.T) {
	s := windows()
	s.Inject[1].Name = strings.Repeat("x", 27) + ".xml"
	script, err := Render(IPXE, testBase, onBIOS, s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range ipxeCommands(script) {
		if len(c) > 0 && c[0] == "initrd" {
			if len(c) != 5 || c[1] != "--name" || c[2] != c[4] {
				t.Errorf("%q does not name its file in both places", c)
			}
			names = append(names, c[len(c)-1])
		}
	}
	if want := []string{"startnet.cmd", s.Inject[1].Name, "curl.exe", "boot.wim"}; !slices.Equal(names, want) {
		t.Errorf("files %q; want %q", names, want)
	}
	arm := Client{MAC: testMAC, Kind: KindIPXE, Arch: ArchARM64}
	if got, err := Render(IPXE, testBase, arm, windows()); err == nil || !strings.Contains(err.Error(), "not ARM64 UEFI") {
		t.Errorf("on ARM64: %q, %v", got, err)
	}
}

// program is a PE32+ image with one section (Microsoft PE format, "Optional Header" and "Section Table").
func program(section, content string) string {
	const headers = 64 + 4 + 20 + 240 + 40
	b := make([]byte, headers, headers+len(content))
	copy(b, "MZ")
	b[0x3c] = 64
	copy(b[64:], "PE\x00\x00")
	le := binary.LittleEndian
	le.PutUint16(b[68:], 0x8664) // machine
	le.PutUint16(b[70:], 1)      // sections
	le.PutUint16(b[84:], 240)    // size of the optional header
	le.PutUint16(b[88:], 0x20b)  // PE32+
	le.PutUint32(b[88+108:], 16) // data directories
	copy(b[328:], section)
	le.PutUint32(b[328+8:], uint32(len(content)))
	le.PutUint32(b[328+16:], uint32(len(content)))
	le.PutUint32(b[328+20:], headers)
	return string(append(b, content...))
}

// TestH5H6SignedChain: a shim or GRUB that machines refuse is told with both numbers, and so is a GRUB that finds no
// server beside another DHCP server.
func TestH5H6SignedChain(t *testing.T) {
	good := "sbat,1,SBAT Version,sbat,1,x\nshim,4,UEFI shim,shim,1,x\n"
	grub := "sbat,1,SBAT Version,sbat,1,x\ngrub,5,FSF,grub,2.12,x\ngrub.debian,5,Debian,grub2,2.12,x\n"
	for _, tt := range []struct {
		name, shim, grub string
		proxy            bool
		says             []string
	}{
		{"all is well", program(".sbat", good), program(".sbat", grub) + "HTTP/1.1", true, nil},
		{"H6: an old shim", program(".sbat", strings.Replace(good, "shim,4", "shim,3", 1)), program(".sbat", grub), false, []string{"shimx64.efi: shim has SBAT generation 3; machines that are up to date want 4"}},
		{"H6: an old GRUB", program(".sbat", good), program(".sbat", strings.Replace(grub, "grub,5", "grub,4", 1)), false, []string{"grubx64.efi: grub has SBAT generation 4; machines that are up to date want 5"}},
		{"a generation that is none", program(".sbat", "shim,x\n"), program(".sbat", grub), false, []string{"shim has SBAT generation x"}},
		{"no .sbat", program(".text", good), program(".sbat", grub), false, []string{"shimx64.efi has no .sbat"}},
		{"no program", "MZ", program(".sbat", grub), false, []string{"shimx64.efi is no EFI program"}},
		{"H5: GRUB without http, beside another DHCP server", program(".sbat", good), program(".sbat", grub), true, []string{"grubx64.efi takes its server from the DHCP server's next-server alone"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := Loaders{Dir: t.TempDir(), Root: "/nowhere"}
			write(t, filepath.Join(l.Dir, "shimx64.efi"), tt.shim)
			write(t, filepath.Join(l.Dir, "grubx64.efi"), tt.grub)
			got := l.Warnings(tt.proxy)
			if len(got) != len(tt.says) || !slices.EqualFunc(got, tt.says, strings.Contains) {
				t.Errorf("warnings %q; want %q", got, tt.says)
			}
		})
	}
}

// TestTheDistributionsChain reads the real ones, where they are installed.
func TestTheDistributionsChain(t *testing.T) {
	for _, name := range []string{"/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Skip("shim-signed and grub-efi-amd64-signed are not installed")
		}
		for _, w := range oldComponents(filepath.Base(name), b) {
			if !strings.Contains(w, "SBAT generation") { // an old one is the machine's matter, not the test's
				t.Error(w)
			}
		}
		if !bytes.Contains(b, []byte("sbat,1,")) {
			t.Errorf("%s has no SBAT", name)
		}
	}
}

// FuzzSBAT reads what an operator or a mirror put into the loader directory.
func FuzzSBAT(f *testing.F) {
	f.Add([]byte(program(".sbat", "shim,3,x\n")))
	f.Add([]byte("MZ"))
	f.Fuzz(func(_ *testing.T, b []byte) { oldComponents("x.efi", b) })
}
