package boot

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoaderByArch has every row of protocols 1.3.
func TestLoaderByArch(t *testing.T) {
	loaders := map[string]string{"": "snponly.efi", "ipxe": "ipxe.efi", "snponly": "snponly.efi", "shim": "shimx64.efi"}
	for arch := Arch(0); arch <= 0x30; arch++ {
		for uefi, x64 := range loaders {
			want := ""
			switch arch {
			case 0x00:
				want = "undionly.kpxe"
			case 0x07, 0x09, 0x10:
				want = x64
			}
			got, ok := Loaders{UEFI: uefi}.Name(Client{Arch: arch})
			if got != want || ok != (want != "") {
				t.Errorf("arch %s with loader %q = %q, %v; want %q", arch, uefi, got, ok, want)
			}
		}
	}
	if got, ok := (Loaders{UEFI: "lilo"}).Name(Client{Arch: ArchX64}); ok {
		t.Errorf("a loader that does not exist is offered: %q", got)
	}
}

func TestArchNames(t *testing.T) {
	efi := map[Arch]bool{0x06: true, 0x07: true, 0x09: true, 0x0a: true, 0x0b: true, 0x0f: true, 0x10: true, 0x11: true, 0x12: true, 0x13: true,
		0x19: true, 0x1a: true, 0x1b: true, 0x1c: true, 0x1d: true, 0x1e: true, 0x25: true, 0x26: true, 0x27: true, 0x28: true}
	for a := Arch(0); a <= 0x30; a++ {
		if a.EFI() != efi[a] {
			t.Errorf("arch %#02x: EFI = %v", uint16(a), a.EFI())
		}
	}
	if got := Arch(0x31).String(); got != "unknown (0x31)" {
		t.Errorf("an unknown architecture is %q; its number is lost", got)
	}
	if got := ArchX64.String(); got != "x64 UEFI" {
		t.Errorf("arch 7 is %q", got)
	}
}

// packages makes a tree like /usr/lib of Debian with the loaders' packages.
func packages(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		write(t, filepath.Join(root, f), "of the package: "+f)
	}
	return root
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, f File, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Content.Close()
	b, err := io.ReadAll(f.Content)
	if err != nil || int64(len(b)) != f.Size {
		t.Fatalf("read %d bytes of %d: %v", len(b), f.Size, err)
	}
	return string(b)
}

func TestOperatorsLoadersComeFirst(t *testing.T) {
	l := Loaders{Root: packages(t, "ipxe/undionly.kpxe", "ipxe/ipxe-amd64.efi", "shim/shimx64.efi.signed"), Dir: t.TempDir()}
	f, err := l.Open("undionly.kpxe")
	if got := content(t, f, err); got != "of the package: ipxe/undionly.kpxe" {
		t.Errorf("undionly.kpxe is %q", got)
	}
	write(t, filepath.Join(l.Dir, "undionly.kpxe"), "the operator's")
	f, err = l.Open("undionly.kpxe")
	if got := content(t, f, err); got != "the operator's" {
		t.Errorf("undionly.kpxe is %q, beside one of the operator's", got)
	}
	f, err = l.Open("ipxe.efi")
	if got := content(t, f, err); got != "of the package: ipxe/ipxe-amd64.efi" {
		t.Errorf("ipxe.efi under Debian 13's name is %q", got)
	}
	write(t, filepath.Join(l.Dir, "other.efi"), "any name")
	f, err = l.Open("other.efi")
	if got := content(t, f, err); got != "any name" {
		t.Errorf("other.efi is %q", got)
	}
}

func TestLoaderNamesStayInTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "outside"), "secret")
	write(t, filepath.Join(dir, "in", ".hidden"), "secret")
	write(t, filepath.Join(dir, "in", "sub", "x"), "secret")
	l := Loaders{Dir: filepath.Join(dir, "in"), Root: dir}
	for _, name := range []string{"", ".", "..", "../outside", `..\outside`, "/outside", ".hidden", "sub", "sub/x", "outside", "x\x00", strings.Repeat("x", 5000)} {
		if f, err := l.Open(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Open(%q) = %v, %v; want ErrNotFound", name, f, err)
		}
	}
}

func TestCheckNamesThePackage(t *testing.T) {
	all := []string{"ipxe/undionly.kpxe", "ipxe/ipxe.efi", "ipxe/snponly.efi", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed"}
	for _, tt := range []struct {
		name string
		uefi string
		less string // file that is not there
		says string
	}{
		{"all are there", "", "", ""},
		{"all are there for Secure Boot", "shim", "", ""},
		{"no iPXE for BIOS", "", "ipxe/undionly.kpxe", "loader undionly.kpxe is missing: install Debian's packages ipxe,"},
		{"no iPXE for UEFI", "", "ipxe/snponly.efi", "loader snponly.efi is missing"},
		{"a loader that nobody is pointed to may be missing", "", "shim/shimx64.efi.signed", ""},
		{"no shim", "shim", "shim/shimx64.efi.signed", "loader shimx64.efi is missing: install Debian's packages ipxe, shim-signed"},
		{"shim without GRUB", "shim", "grub/x86_64-efi-signed/grubnetx64.efi.signed", "loader grubx64.efi is missing"},
		{"a name that is none", "lilo", "", `UEFI loader "lilo": want snponly, ipxe or shim`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := packages(t, all...)
			if tt.less != "" {
				if err := os.Remove(filepath.Join(root, tt.less)); err != nil {
					t.Fatal(err)
				}
			}
			err := Loaders{Root: root, UEFI: tt.uefi}.Check()
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Check = %v; want %q", err, tt.says)
			}
		})
	}
}
