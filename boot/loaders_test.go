package boot

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everyLoader is a directory with each loader that a choice may name.
func everyLoader(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, r := range firstLoaders {
		for _, name := range append(r.needs, r.file) {
			write(t, filepath.Join(dir, name), name)
		}
	}
	return dir
}

// TestLoaderByArch has every row of protocols 1.3.
func TestLoaderByArch(t *testing.T) {
	arm := map[string]string{"": "snponly-arm64.efi", "snponly": "snponly-arm64.efi", "ipxe": "ipxe-arm64.efi", "shim": "shimaa64.efi", "grub": "grubaa64.efi"}
	x64 := map[string]string{"": "snponly.efi", "ipxe": "ipxe.efi", "snponly": "snponly.efi", "shim": "shimx64.efi", "grub": "grubx64.efi"}
	dir := everyLoader(t)
	for arch := Arch(0); arch <= 0x30; arch++ {
		for uefi := range x64 {
			want := ""
			switch arch {
			case 0x00:
				want = "undionly.kpxe"
			case 0x06, 0x0f:
				want = "snponly-ia32.efi"
			case 0x07, 0x09, 0x10, 0x11:
				want = x64[uefi]
			case 0x0b, 0x13:
				want = arm[uefi]
			case 0x1b, 0x1c, 0x27, 0x28:
				want = map[Arch]string{0x1b: "snponly-riscv64.efi", 0x27: "snponly-loong64.efi"}[arch.program()]
				if uefi == "ipxe" {
					want = strings.Replace(want, "snponly", "ipxe", 1)
				}
			}
			got, ok := Loaders{UEFI: uefi, Dir: dir, Root: dir}.Name(Client{Arch: arch}, false)
			if got != want || ok != (want != "") {
				t.Errorf("arch %s with loader %q = %q, %v; want %q", arch, uefi, got, ok, want)
			}
		}
	}
	for bios, want := range map[string]string{"": "undionly.kpxe", "undionly": "undionly.kpxe", "pxelinux": "pxelinux.0", "lpxelinux": "lpxelinux.0", "grub": "grub.0"} {
		if got, _ := (Loaders{BIOS: bios, Dir: dir, Root: dir}).Name(Client{Arch: ArchBIOS}, false); got != want {
			t.Errorf("BIOS with loader %q = %q; want %q", bios, got, want)
		}
	}
	bare := Loaders{Root: packages(t, "ipxe/undionly.kpxe", "ipxe/snponly.efi")} // D11
	for _, arch := range []Arch{ArchIA32, ArchARM64, archRISCV64, archLoong64} {
		if got, ok := bare.Name(Client{Arch: arch}, false); ok {
			t.Errorf("%s is given %q, which is not there", arch, got)
		}
	}
}

// TestAnotherLoaderStandsIn: neither snponly nor ipxe works on all hardware, nor is every file everywhere.
func TestAnotherLoaderStandsIn(t *testing.T) {
	l := Loaders{Root: packages(t, "ipxe/ipxe-amd64.efi", "PXELINUX/pxelinux.0", "PXELINUX/lpxelinux.0"), BIOS: "pxelinux"}
	if got, _ := l.Name(Client{Arch: ArchX64}, false); got != "ipxe.efi" {
		t.Errorf("x64 without snponly is given %q", got)
	}
	if got, ok := l.Name(Client{Arch: ArchBIOS}, false); ok {
		t.Errorf("BIOS is given %q, which lacks ldlinux.c32", got)
	}
}

func TestLoaderForHardware(t *testing.T) {
	hardware := map[MAC]Machine{
		testMAC:                  {Vendor: "Dell Inc.", Product: "PowerEdge R640"},
		{0, 0, 0, 0, 0, 1}:       {Vendor: "HPE", Product: "ProLiant DL380 Gen9", SecureBoot: true},
		{0xde, 0xad, 0, 0, 0, 1}: {},
	}
	dir := everyLoader(t)
	write(t, filepath.Join(dir, "muster.efi"), "a UKI")
	l := Loaders{Dir: dir, Root: dir, Machine: func(c Client) Machine { return hardware[c.MAC] }, For: []LoaderFor{
		{Vendor: "dell", Product: "r640", Arch: "x64", Loader: "ipxe"},
		{Vendor: "dell", Arch: "bios", Loader: "pxelinux"},
		{MAC: "DE-AD", Loader: "muster.efi"},
	}}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Client
		left bool // it left the configured loader unstarted
		want string
	}{
		{"a row by vendor, product and arch", Client{MAC: testMAC, Arch: ArchX64}, false, "ipxe.efi"},
		{"the same machine as EBC", Client{MAC: testMAC, Arch: ArchEBC}, false, "ipxe.efi"},
		{"a row for another arch", Client{MAC: testMAC, Arch: ArchBIOS}, false, "pxelinux.0"},
		{"no row for its arch", Client{MAC: testMAC, Arch: ArchARM64}, false, "snponly-arm64.efi"},
		{"its facts say Secure Boot", Client{MAC: MAC{5: 1}, Arch: ArchX64}, false, "shimx64.efi"},
		{"Secure Boot is nothing of BIOS", Client{MAC: MAC{5: 1}, Arch: ArchBIOS}, true, "undionly.kpxe"},
		{"it did not start what it loaded", Client{MAC: MAC{5: 2}, Arch: ArchX64}, true, "shimx64.efi"},
		{"a row wins over that", Client{MAC: testMAC, Arch: ArchX64}, true, "ipxe.efi"},
		{"a UKI by MAC", Client{MAC: MAC{0xde, 0xad, 0, 0, 0, 1}, Arch: ArchX64HTTP}, false, "muster.efi"},
		{"another MAC", Client{MAC: MAC{0xde, 0xae}, Arch: ArchX64}, false, "snponly.efi"},
	} {
		if got, _ := l.Name(tt.c, tt.left); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		row  LoaderFor
		says string
	}{
		{LoaderFor{Loader: "ipxe"}, "it names no machine"},
		{LoaderFor{MAC: "52:5", Loader: "ipxe"}, `mac "52:5"`},
		{LoaderFor{Arch: "x86", Loader: "ipxe"}, `arch "x86"`},
		{LoaderFor{MAC: "52", Loader: "lilo"}, `loader "lilo"`},
		{LoaderFor{MAC: "52", Loader: "none.efi"}, "loader none.efi is not in the loader directory"},
		{LoaderFor{MAC: "52", Loader: "../x.efi"}, "loader ../x.efi is not in"},
	} {
		l.For = []LoaderFor{{MAC: "52", Loader: "ipxe"}, tt.row}
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), "loader_for, row 2: "+tt.says) {
			t.Errorf("%+v: %v; want %q", tt.row, err, tt.says)
		}
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
		{"no iPXE for BIOS", "", "ipxe/undionly.kpxe", "loader undionly.kpxe is not found: install Debian's package ipxe,"},
		{"no iPXE for UEFI", "", "ipxe/snponly.efi", "loader snponly.efi is not found"},
		{"a loader that nobody is pointed to may be missing", "", "shim/shimx64.efi.signed", ""},
		{"no shim", "shim", "shim/shimx64.efi.signed", "loader shimx64.efi is not found: install Debian's package shim-signed"},
		{"shim without GRUB", "shim", "grub/x86_64-efi-signed/grubnetx64.efi.signed", "loader grubx64.efi is not found"},
		{"a name that is none", "lilo", "", `UEFI loader "lilo": want snponly, ipxe, shim, grub`},
		{"a loader of BIOS", "pxelinux", "", `UEFI loader "pxelinux": want`},
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

// TestPinnedSums (T60): a loader that is not the one pinned is named, with both sums.
func TestPinnedSums(t *testing.T) {
	good := "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	for _, tt := range []struct {
		name, sums string
		says       []string
	}{
		{"they are the same", good + "  own.efi\n", nil},
		{"as sha256sum -b ./* writes", strings.ToUpper(good) + " *./own.efi\n", nil},
		{"another sum", strings.Repeat("0", 64) + "  own.efi\n", []string{"own.efi has SHA-256 " + good, "pins " + strings.Repeat("0", 64)}},
		{"a file that is not there", good + "  own.efi\n" + good + "  gone.efi\n", []string{"check loader gone.efi"}},
		{"a file that is not pinned", "", []string{"loader own.efi is not pinned"}},
		{"no sums at all", good + "  own.efi\nhello\n", []string{"SHA256SUMS:2: want a SHA-256"}},
		{"a name that climbs", good + "  ../own.efi\n", []string{"SHA256SUMS:1: want"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := Loaders{Root: packages(t, "ipxe/undionly.kpxe", "ipxe/snponly.efi"), Dir: t.TempDir()}
			write(t, filepath.Join(l.Dir, "own.efi"), "hello")
			if err := l.Check(); err != nil {
				t.Fatalf("without sums: %v", err)
			}
			write(t, filepath.Join(l.Dir, sumsFile), tt.sums)
			err := l.Check()
			if (err == nil) != (tt.says == nil) {
				t.Fatalf("Check = %v; want %q", err, tt.says)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("Check = %v; want %q", err, s)
				}
			}
			if _, err := l.Open(sumsFile); !errors.Is(err, ErrNotFound) {
				t.Errorf("the sums are served: %v", err)
			}
		})
	}
}

func TestLoadersAreReported(t *testing.T) {
	l := Loaders{Root: packages(t, "ipxe/undionly.kpxe", "PXELINUX/pxelinux.0"), Dir: t.TempDir()}
	write(t, filepath.Join(l.Dir, "pxelinux.0"), "hello")
	got, err := l.Files(strings.NewReader("Package: bash\nVersion: 5\n\nPackage: ipxe\nStatus: x\nVersion: 1.0.0+git\n\nPackage: pxelinux\nVersion: 3:6.04\n"))
	if err != nil || len(got) != 2 {
		t.Fatalf("Files = %+v, %v", got, err)
	}
	if own := got[0]; own.Name != "pxelinux.0" || own.Package != "" || own.Version != "" || !strings.HasPrefix(own.SHA256, "2cf24dba") {
		t.Errorf("the operator's is reported as %+v", own)
	}
	if theirs := got[1]; theirs.Name != "undionly.kpxe" || theirs.Package != "ipxe" || theirs.Version != "1.0.0+git" || len(theirs.SHA256) != 64 {
		t.Errorf("the package's is reported as %+v", theirs)
	}
}
