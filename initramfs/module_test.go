package initramfs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfModule is an ELF object that has nothing but a .modinfo section, and a signature behind it as Debian's have.
func elfModule(lines ...string) string {
	names := "\x00.modinfo\x00.shstrtab\x00"
	info := strings.Join(lines, "\x00") + "\x00"
	const at = 64
	sections := at + len(info) + len(names)
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	le := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
	}
	le(uint16(1), uint16(62), uint32(1), uint64(0), uint64(0), uint64(sections), uint32(0))
	le(uint16(64), uint16(0), uint16(0), uint16(64), uint16(3), uint16(2))
	b.WriteString(info + names)
	section := func(name, kind uint32, offset, size int) {
		le(name, kind, uint64(0), uint64(0), uint64(offset), uint64(size), uint32(0), uint32(0), uint64(1), uint64(0))
	}
	section(0, 0, 0, 0)
	section(1, 1, at, len(info))
	section(10, 3, at+len(info), len(names))
	return b.String() + "~Module signature appended~\n"
}

// testModules is a small kernel: every kind of need that Debian's has.
var testModules = map[string]string{
	"kernel/drivers/net/virtio_net.ko": elfModule("alias=virtio:d00000001v*", "depends=virtio,net_failover", "license=GPL"),
	"kernel/net/net_failover.ko":       elfModule("depends=failover"),
	"kernel/net/failover.ko":           elfModule("depends="),
	"kernel/drivers/virtio.ko":         elfModule("depends=virtio-ring"),
	"kernel/drivers/virtio-ring.ko":    elfModule("depends="),
	"kernel/fs/ext4.ko":                elfModule("alias=fs-ext4", "depends=jbd2", "softdep=pre: crypto-crc32c"),
	"kernel/fs/jbd2.ko":                elfModule("depends="),
	"kernel/crypto/crc32c_generic.ko":  elfModule("alias=crypto-crc32c", "depends="),
	"kernel/crypto/crc32c-intel.ko":    elfModule("alias=crypto-crc32c", "alias=cpu:type:x86,ven*", "depends="),
	"kernel/bmc/ipmi_si.ko":            elfModule("alias=acpi*:IPI0001:*", "alias=dmi*:x", "depends=ipmi_msghandler"),
	"kernel/bmc/ipmi_msghandler.ko":    elfModule("softdep=post: ipmi_devintf"),
	"kernel/bmc/ipmi_devintf.ko":       elfModule("depends=ipmi_msghandler"),
	"kernel/drivers/tg3.ko":            elfModule("alias=pci:v000014E4d*", "firmware=tigon/tg3.bin", "depends=libphy"),
	"kernel/a.ko":                      elfModule("softdep=pre: b"),
	"kernel/b.ko":                      elfModule("softdep=pre: a"),
	"kernel/broken.ko":                 elfModule("depends=nowhere"),
	"modules.builtin":                  "kernel/drivers/net/phy/libphy.ko\nkernel/fs/nls/nls_base.ko\n",
}

// writeDeb packs files as a Debian package, compressed by pack.
func writeDeb(t testing.TB, files map[string]string, pack func(testing.TB, string) string) string {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for name, content := range files {
		h := &tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "linux-image.deb")
	deb := "!<arch>\n" + arMember("debian-binary", "2.0\n") + arMember("control.tar.xz", "odd") +
		arMember("data.tar.xz", pack(t, data.String()))
	if err := os.WriteFile(name, []byte(deb), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func arMember(name, content string) string {
	m := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, 0, 0, 0, 0o100644, len(content)) + content
	return m + strings.Repeat("\n", len(m)&1)
}

// testDeb is a package of testModules with a kernel.
func testDeb(t testing.TB, pack func(testing.TB, string) string) string {
	files := map[string]string{"boot/vmlinuz-6.1.0-1-test": "the kernel", "boot/config-6.1.0-1-test": "CONFIG_X=y\nCONFIG_RD_GZIP=y\nCONFIG_RD_XZ=y\nCONFIG_RD_LZO=y\n# CONFIG_RD_ZSTD is not set\n"}
	for name, content := range testModules {
		files["lib/modules/6.1.0-1-test/"+name] = content
	}
	return writeDeb(t, files, pack)
}

func readTestKernel(t *testing.T, deb string) *kernel {
	t.Helper()
	s, err := newSpool()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	k, err := readKernel(context.Background(), []string{deb}, s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKernelPackage(t *testing.T) {
	plain := func(_ testing.TB, s string) string { return s }
	for name, pack := range map[string]func(testing.TB, string) string{
		"xz": packXZ, "zstd": packZstd, "gzip": packGzip, "not compressed": plain,
	} {
		t.Run(name, func(t *testing.T) {
			deb := testDeb(t, pack)
			k := readTestKernel(t, deb)
			if k.release != "6.1.0-1-test" || len(k.modules) != len(testModules)-1 || !k.builtin["libphy"] {
				t.Errorf("kernel %s with %d modules, builtin %v", k.release, len(k.modules), k.builtin)
			}
			dir := t.TempDir()
			vmlinuz, release, err := ExtractKernel(t.Context(), []string{deb}, dir)
			if err != nil || release != "6.1.0-1-test" || vmlinuz != filepath.Join(dir, "vmlinuz-6.1.0-1-test") {
				t.Fatalf("ExtractKernel = %q, %q, %v", vmlinuz, release, err)
			}
			if content, err := os.ReadFile(vmlinuz); string(content) != "the kernel" {
				t.Errorf("the kernel is %q, %v", content, err)
			}
		})
	}
}

// T36: a package cannot make the kernel land elsewhere.
func TestExtractKernelRefusesPaths(t *testing.T) {
	for _, name := range []string{"boot/vmlinuz-../../x", "boot/vmlinuz-a/b", "boot/nothing"} {
		deb := writeDeb(t, map[string]string{name: "x"}, packGzip)
		if vmlinuz, _, err := ExtractKernel(t.Context(), []string{deb}, t.TempDir()); err == nil {
			t.Errorf("%q was extracted to %q", name, vmlinuz)
		}
	}
}

func TestBrokenPackages(t *testing.T) {
	tests := map[string]string{
		"an empty file":                "",
		"no package":                   "PK\x03\x04 something else",
		"a package cut short":          "!<arch>\n" + arMember("debian-binary", "2.0\n"),
		"a member of negative size":    "!<arch>\n" + strings.Replace(arMember("data.tar", ""), " 0         `", " -1        `", 1),
		"data that is no tar":          "!<arch>\n" + arMember("data.tar.gz", packGzip(t, strings.Repeat("x", 2000))),
		"a broken xz":                  "!<arch>\n" + arMember("data.tar.xz", packXZ(t, strings.Repeat("x", 2000))[:60]),
		"a package without any module": "!<arch>\n" + arMember("data.tar", strings.Repeat("\x00", 1024)),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			deb := filepath.Join(t.TempDir(), "x.deb")
			if err := os.WriteFile(deb, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := newSpool()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if k, err := readKernel(context.Background(), []string{deb}, s); err == nil {
				t.Errorf("read %d modules; want an error", len(k.modules))
			}
		})
	}
}

func TestCompressedModulesAreUnpacked(t *testing.T) {
	module := elfModule("depends=", "alias=pci:v*")
	k := readTestKernel(t, writeDeb(t, map[string]string{
		"usr/lib/modules/6.12.0/kernel/one.ko.xz":  packXZ(t, module),
		"usr/lib/modules/6.12.0/kernel/two.ko.zst": packZstd(t, module),
		"usr/lib/modules/6.12.0/kernel/three.ko":   module,
	}, packGzip))
	for _, name := range []string{"one", "two", "three"} {
		if m := k.modules[name]; m == nil || m.file != name+".ko.zst" || m.size != int64(len(module)) {
			t.Errorf("module %q is %+v", name, m)
		}
	}
}

func TestModuleTables(t *testing.T) {
	k := readTestKernel(t, testDeb(t, packGzip))
	s, err := k.closure([]string{"virtio-net", "ext4", "ipmi_si", "tg3", "libphy"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"modules.dep": `crc32c_generic.ko.zst:
ext4.ko.zst: crc32c_generic.ko.zst jbd2.ko.zst
failover.ko.zst:
ipmi_devintf.ko.zst: ipmi_msghandler.ko.zst
ipmi_msghandler.ko.zst:
ipmi_si.ko.zst: ipmi_msghandler.ko.zst
jbd2.ko.zst:
net_failover.ko.zst: failover.ko.zst
tg3.ko.zst:
virtio.ko.zst: virtio-ring.ko.zst
virtio_net.ko.zst: net_failover.ko.zst failover.ko.zst virtio.ko.zst virtio-ring.ko.zst
virtio-ring.ko.zst:
`,
		"modules.alias": `alias acpi*:IPI0001:* ipmi_si
alias pci:v000014E4d* tg3
alias virtio:d00000001v* virtio_net
`,
		"modules.first":   "",
		"modules.load":    "ipmi_devintf\n",
		"modules.builtin": "libphy.ko\nnls_base.ko\n",
	}
	for _, table := range moduleTables {
		if diff := cmp.Diff(want[table.name], string(table.text(s))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", table.name, diff)
		}
	}
	if diff := cmp.Diff([]string{"tigon/tg3.bin"}, s.firmware); diff != "" {
		t.Errorf("firmware (-want +got):\n%s", diff)
	}
}

func TestClosure(t *testing.T) {
	k := readTestKernel(t, testDeb(t, packGzip))
	tests := []struct {
		name  string
		words []string
		want  string // names in the order of loading, or the error
	}{
		{"a name with dashes is the module with underscores", []string{"virtio-ring"}, "virtio_ring"},
		{"softdeps that circle are packed and lose one need", []string{"a"}, "a b"},
		{"a module of the kernel image needs no file", []string{"libphy"}, ""},
		{"an unknown name is an error with the nearest ones", []string{"virtio_nt"},
			`kernel 6.1.0-1-test has no module "virtio_nt"; nearest are virtio_net, virtio, virtio_ring`},
		{"a name like nothing else", []string{"zzzzzzzzzzzz"}, `kernel 6.1.0-1-test has no module "zzzzzzzzzzzz"`},
		{"a need that the package lacks is an error", []string{"broken"},
			`module "broken" needs "nowhere", which the package does not hold`},
		{"a profile passes over what this kernel lacks", []string{"bmc"}, "ipmi_devintf ipmi_msghandler ipmi_si"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := k.closure(tt.words)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = strings.Join(s.names(), " ")
			}
			if got != tt.want {
				t.Errorf("closure(%q) = %s; want %s", tt.words, got, tt.want)
			}
		})
	}
}

// A kernel that says how its modules are signed gets what sums them faster; what every processor can is in it already.
func TestDigestsComeFirst(t *testing.T) {
	files := map[string]string{
		"sha256-ssse3.ko":   elfModule("alias=cpu:type:x86,ven*", "alias=crypto-sha256"),
		"sha512-ssse3.ko":   elfModule("alias=crypto-sha512", "depends=sha512_generic"),
		"sha512_generic.ko": elfModule("alias=crypto-sha512"),
		"virtio.ko":         elfModule("alias=virtio:*"),
	}
	for _, row := range []struct{ name, config, modules, first, packed string }{
		{"by SHA-256", "CONFIG_MODULE_SIG_HASH=\"sha256\"\n", "virtio", "sha256_ssse3\n", "sha256_ssse3 virtio"},
		{"by SHA-512, with what it needs", "CONFIG_MODULE_SIG_HASH=\"sha512\"\n", "virtio", "sha512_ssse3\n", "sha512_generic sha512_ssse3 virtio"},
		{"not at all", "# CONFIG_MODULE_SIG is not set\n", "virtio", "", "virtio"},
		{"by what is part of the kernel", "CONFIG_MODULE_SIG_HASH=\"sha1\"\n", "virtio", "", "virtio"},
		{"and none is packed", "CONFIG_MODULE_SIG_HASH=\"sha256\"\n", "sha256_generic", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := map[string]string{"boot/config-6.1.0": row.config, "lib/modules/6.1.0/modules.builtin": "kernel/crypto/sha256_generic.ko\n"}
			for name, content := range files {
				in["lib/modules/6.1.0/"+name] = content
			}
			s, err := readTestKernel(t, writeDeb(t, in, packGzip)).closure([]string{row.modules})
			if err != nil {
				t.Fatal(err)
			}
			if first, packed := string(s.firstTable()), strings.Join(s.names(), " "); first != row.first || packed != row.packed {
				t.Errorf("first %q of %q; want %q of %q", first, packed, row.first, row.packed)
			}
			if load := string(s.loadTable()); load != "" {
				t.Errorf("always loaded are %q; want none", load)
			}
		})
	}
}

func TestDefaultCompression(t *testing.T) {
	for _, row := range []struct{ name, file, config, want string }{
		{"Debian's of today", "boot/config-6.1.0", "CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n", "zstd"},
		{"an RPM's", "lib/modules/6.1.0/config", "CONFIG_RD_ZSTD=y\n", "zstd"},
		{"one that cannot", "boot/config-6.1.0", "CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n", "gzip"},
		{"a module that is called config", "lib/modules/6.1.0/kernel/config", "CONFIG_RD_ZSTD=y\n", "gzip"},
		{"nothing is said", "boot/System.map-6.1.0", "", "gzip"},
	} {
		deb := writeDeb(t, map[string]string{row.file: row.config}, packGzip)
		if got, err := DefaultCompression(t.Context(), []string{deb}); got != row.want || err != nil {
			t.Errorf("%s: DefaultCompression = %q, %v; want %q", row.name, got, err, row.want)
		}
	}
	if got, err := DefaultCompression(t.Context(), nil); got != "gzip" || err != nil {
		t.Errorf("without a kernel: DefaultCompression = %q, %v; want gzip", got, err)
	}
	if got, err := DefaultCompression(t.Context(), []string{"/nowhere/linux.deb"}); err == nil {
		t.Errorf("of a kernel that is not there: DefaultCompression = %q; want an error", got)
	}
}

func TestProfilesNoteWhatAKernelLacks(t *testing.T) {
	k := readTestKernel(t, testDeb(t, packGzip))
	s, err := k.closure([]string{"common"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.absent) < 10 || strings.Contains(strings.Join(s.absent, " "), "virtio_net") {
		t.Errorf("absent is %q", s.absent)
	}
}

// debianKernel is a real package, named by KERNEL_DEB: it takes 8 s to read.
func debianKernel(t *testing.T) string {
	deb := os.Getenv("KERNEL_DEB")
	if deb == "" {
		t.Skip("KERNEL_DEB names no linux-image package")
	}
	return deb
}

// S34: kmod, which shares no code with us, finds the modules of the common profile in our tables, and needs nothing
// that is not packed.
func TestModprobeAcceptsTheTables(t *testing.T) {
	modprobe, err := exec.LookPath("modprobe")
	if err != nil {
		t.Skip("no modprobe here")
	}
	deb := debianKernel(t)
	s, err := newSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	packed := make(tree)
	set, err := addModules(context.Background(), Config{Kernel: []string{deb}}.withDefaults(), s, packed)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, m := range packed {
		content, err := io.ReadAll(io.NewSectionReader(m.content, 0, m.size))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("depmod", "-b", root, "-e", "-F", "/dev/null", set.kernel.release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	for _, name := range set.names() {
		out, err := exec.Command(modprobe, "-C", t.TempDir(), "-d", root, "-S", set.kernel.release, "--show-depends", name).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		ours := strings.Join(append(set.loadOrder(name), name), " ") + " "
		for line := range strings.Lines(string(out)) {
			file, ok := strings.CutPrefix(strings.TrimSpace(line), "insmod ")
			if !ok {
				continue
			}
			base, _, _ := cutModuleSuffix(filepath.Base(strings.TrimSpace(file)))
			if need := moduleName(base); !strings.Contains(ours, need+" ") && !set.wanted[need] {
				t.Errorf("%s: modprobe loads %q, we load %s", name, need, ours)
			}
		}
	}
}

// A crash, a hang or memory without bound is a failure.
func FuzzModinfo(f *testing.F) {
	f.Add([]byte(elfModule("depends=a,b", "alias=pci:v*", "softdep=pre: x post: y")))
	f.Add([]byte(elfModule()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readModinfo(bytes.NewReader(b)); err == nil && len(m.aliases) > maxModinfo {
			t.Errorf("%d aliases of %d bytes", len(m.aliases), len(b))
		}
	})
}
