package initramfs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
)

// bzImage is what of an x86 kernel image tells its release.
func bzImage(release string) string {
	b := make([]byte, 0x400)
	copy(b[0x1fe:], "\x55\xaa")
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], release+" (build@host) #1 SMP")
	return string(b)
}

// plant writes files below a new directory.
func plant(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// testSystem is an installed system with the kernel of testModules and parts of another one.
func testSystem(t testing.TB) string {
	files := map[string]string{"boot/vmlinuz-6.1.0-1-test": bzImage("6.1.0-1-test"), "boot/vmlinuz-5.0": bzImage("5.0"),
		"boot/config-5.0": "CONFIG_RD_GZIP=n\n", "lib/modules/5.0/kernel/old.ko": elfModule("depends=", "vermagic=5.0 SMP")}
	for name, content := range testModules {
		files["lib/modules/6.1.0-1-test/"+name] = content
	}
	return plant(t, files)
}

// writeRPM packs files as rpm does: lead, two headers with an index and data that do not matter here, and a cpio archive.
func writeRPM(t testing.TB, files map[string]string, pack func(testing.TB, string) string) string {
	t.Helper()
	var payload bytes.Buffer
	w := cpio.Newc.Writer(&payload)
	for name, content := range files {
		if err := w.WriteRecord(cpio.StaticFile("./"+name, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	header := func(index, data int) string {
		return rpmMagic + "\x00\x00\x00\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(index))) +
			string(binary.BigEndian.AppendUint32(nil, uint32(data))) + strings.Repeat("i", 16*index) + strings.Repeat("d", data)
	}
	signature := header(3, 21)
	rpm := "\xed\xab\xee\xdb" + strings.Repeat("\x00", rpmLead-4) + signature + strings.Repeat("\x00", -len(signature)&7) +
		header(5, 33) + pack(t, payload.String())
	name := filepath.Join(t.TempDir(), "kernel-core.rpm")
	if err := os.WriteFile(name, []byte(rpm), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// rpmFiles is a kernel as RPMs have it: the image lies with the modules.
func rpmFiles() map[string]string {
	files := map[string]string{"lib/modules/6.1.0-1-test/vmlinuz": bzImage("6.1.0-1-test"),
		"lib/modules/6.1.0-1-test/config": "CONFIG_RD_GZIP=y\n"}
	for name, content := range testModules {
		files["lib/modules/6.1.0-1-test/"+name] = content
	}
	return files
}

func TestKernelsComeFromAnywhere(t *testing.T) {
	system := testSystem(t)
	image := filepath.Join(system, "boot/vmlinuz-6.1.0-1-test")
	modules := filepath.Join(system, "lib/modules/6.1.0-1-test")
	split := map[string]string{"boot/vmlinuz-6.1.0-1-test": "the kernel"}
	tests := []struct {
		name   string
		kernel []string
	}{
		{"an RPM packed with gzip", []string{writeRPM(t, rpmFiles(), packGzip)}},
		{"an RPM packed with xz", []string{writeRPM(t, rpmFiles(), packXZ)}},
		{"an RPM packed with zstd", []string{writeRPM(t, rpmFiles(), packZstd)}},
		{"an image and a directory of modules", []string{image, modules}},
		{"two packages of which one has the image", []string{writeDeb(t, split, packGzip), writeRPM(t, rpmFiles(), packGzip)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := readKernelOf(t, tt.kernel...)
			if k.release != "6.1.0-1-test" || len(k.modules) != len(testModules)-1 || !k.builtin["libphy"] {
				t.Errorf("kernel %s with %d modules, builtin %v", k.release, len(k.modules), k.builtin)
			}
			vmlinuz, release, err := ExtractKernel(t.Context(), tt.kernel, t.TempDir())
			if err != nil || release != "6.1.0-1-test" || filepath.Base(vmlinuz) != "vmlinuz-6.1.0-1-test" {
				t.Errorf("ExtractKernel = %q, %q, %v", vmlinuz, release, err)
			}
		})
	}
	o, err := installedKernel(system, "6.1.0-1-test")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := o.walk(t.Context(), func(f found) error { names = append(names, f.name); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(names) != 1+len(testModules) || names[0] != "boot/vmlinuz-6.1.0-1-test" {
		t.Errorf("the installed kernel is %q", names)
	}
}

func readKernelOf(t *testing.T, words ...string) *kernel {
	t.Helper()
	s, err := newSpool()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	k, err := readKernel(t.Context(), words, s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A directory may be called anything: what counts is what its modules were made for.
func TestModulesSayTheirRelease(t *testing.T) {
	dir := plant(t, map[string]string{"kernel/a.ko": elfModule("vermagic=6.6.1-own SMP preempt", "depends=")})
	if k := readKernelOf(t, dir); k.release != "6.6.1-own" {
		t.Errorf("release is %q", k.release)
	}
}

func TestKernelsThatDoNotFit(t *testing.T) {
	system := testSystem(t)
	modules := filepath.Join(system, "lib/modules/6.1.0-1-test")
	text := filepath.Join(plant(t, map[string]string{"notes": "hello"}), "notes")
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"an image of another release", func(c *Config) { c.Kernel = []string{filepath.Join(system, "boot/vmlinuz-5.0"), modules} },
			"the kernel image is 5.0, the modules are of 6.1.0-1-test"},
		{"two kernels at once", func(c *Config) { c.Kernel = []string{system} }, "modules of two kernels"},
		{"an image without modules", func(c *Config) { c.Kernel = []string{filepath.Join(system, "boot/vmlinuz-5.0")} },
			"no modules in it: name the package or directory"},
		{"a file that is no kernel", func(c *Config) { c.Kernel = []string{text} }, "neither a Debian package, an RPM nor a kernel image"},
		{"a release that is not installed", func(c *Config) { c.Kernel = []string{"9.9.9-none"} }, `no kernel "9.9.9-none" is installed`},
		{"another architecture", func(c *Config) { c.Arch = "arm64" }, "is for EM_X86_64, the userland for EM_AARCH64"},
		{"a compression that the kernel lacks", func(c *Config) { c.Compress = "zstd" },
			"built without CONFIG_RD_ZSTD and cannot unpack such a ramdisk; it can gzip, xz, and none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newSpool()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c := Config{Kernel: []string{testDeb(t, packGzip)}}
			tt.change(&c)
			if _, err = addModules(t.Context(), c.withDefaults(), s, make(tree)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v; want %q in it", err, tt.want)
			}
		})
	}
}

func TestBrokenRPMs(t *testing.T) {
	whole, err := os.ReadFile(writeRPM(t, map[string]string{"lib/modules/1/kernel/a.ko": elfModule("depends=")}, packGzip))
	if err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(whole)
	binary.BigEndian.PutUint32(huge[rpmLead+8:], 1<<31)
	for name, content := range map[string][]byte{
		"a lead alone": whole[:50], "no header": whole[:rpmLead+4], "cut in the payload": whole[:len(whole)-30],
		"an index of 32 GB": huge, "no payload": whole[:rpmLead+16+3*16+21],
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.rpm")
			if err := os.WriteFile(file, content, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := walkRPM(t.Context(), file, func(f found) error { _, err := io.Copy(io.Discard, f); return err }); err == nil {
				t.Error("read to its end")
			}
		})
	}
}

// S34: rpm itself, of whatever compression it can, packs what is read here.
func TestRealRPM(t *testing.T) {
	rpmbuild, err := exec.LookPath("rpmbuild")
	if err != nil {
		t.Skip("no rpmbuild here")
	}
	system := testSystem(t)
	for _, payload := range []string{"w9.gzdio", "w2.xzdio", "w3.zstdio"} {
		t.Run(payload, func(t *testing.T) {
			dir := t.TempDir()
			spec := fmt.Sprintf(`Name: kernel-core
Version: 6.1.0
Release: 1
Summary: a kernel for a test
License: none
%%description
none
%%install
mkdir -p %%{buildroot}/lib/modules
cp -a %s/lib/modules/6.1.0-1-test %%{buildroot}/lib/modules/
cp %s/boot/vmlinuz-6.1.0-1-test %%{buildroot}/lib/modules/6.1.0-1-test/vmlinuz
%%files
/lib/modules/6.1.0-1-test
`, system, system)
			if err := os.WriteFile(filepath.Join(dir, "kernel.spec"), []byte(spec), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(rpmbuild, "-bb", "--quiet", "--nodeps", "--define", "_topdir "+dir, "--define", "_binary_payload "+payload,
				"--define", "__strip /bin/true", "--define", "debug_package %{nil}", "--define", "__os_install_post %{nil}", filepath.Join(dir, "kernel.spec"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("rpmbuild: %v: %s", err, out)
			}
			made, _ := filepath.Glob(filepath.Join(dir, "RPMS/*/*.rpm"))
			if len(made) != 1 {
				t.Fatalf("rpmbuild made %q", made)
			}
			want, got := readKernelOf(t, testDeb(t, packGzip)), readKernelOf(t, made[0])
			if diff := cmp.Diff(describe(want), describe(got)); diff != "" {
				t.Errorf("kernel (-deb +rpm):\n%s", diff)
			}
		})
	}
}

// describe is a kernel without where its bytes lie.
func describe(k *kernel) map[string]string {
	all := map[string]string{"release": k.release, "builtin": fmt.Sprint(k.builtin)}
	for name, m := range k.modules {
		all[name] = fmt.Sprint(m.file, m.size, m.depends, m.pre, m.post, m.aliases, m.firmware, m.machine)
	}
	return all
}

func FuzzRPM(f *testing.F) {
	for _, pack := range []func(testing.TB, string) string{packGzip, packZstd} {
		content, err := os.ReadFile(writeRPM(f, map[string]string{"lib/modules/1/kernel/a.ko": elfModule("depends=b")}, pack))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := int64(0)
		_ = readRPM(t.Context(), bufio.NewReader(bytes.NewReader(b)), func(found found) error {
			if found.name != installedName(found.name) {
				t.Errorf("name %q is not clean", found.name)
			}
			if found.link == "" {
				n, err := io.Copy(io.Discard, found)
				read += n
				return err
			}
			return nil
		})
		if read > maxPackage {
			t.Errorf("%d bytes came out of %d", read, len(b))
		}
	})
}

func FuzzImageRelease(f *testing.F) {
	f.Add([]byte(bzImage("6.1.0-56-amd64")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if release, _ := imageRelease(b); strings.ContainsRune(release, '/') || release == ".." {
			t.Errorf("release %q could leave a directory", release)
		}
	})
}

func TestBuiltinAliasesMeetSoftdeps(t *testing.T) {
	files := map[string]string{
		"kernel/sd_mod.ko": elfModule("depends=", "softdep=pre: crct10dif"), "kernel/crct10dif_generic.ko": elfModule("alias=crct10dif"),
	}
	k := readKernelOf(t, plant(t, files))
	if s, err := k.closure([]string{"sd_mod"}); err != nil || len(s.needs) != 2 {
		t.Errorf("without builtins %v are packed, %v", s.needs, err)
	}
	files["modules.builtin.modinfo"] = "crct10dif_common.license=GPL\x00crct10dif_common.alias=crct10dif\x00"
	k = readKernelOf(t, plant(t, files))
	if s, err := k.closure([]string{"sd_mod"}); err != nil || len(s.needs) != 1 {
		t.Errorf("with a builtin of that alias %v are packed, %v", s.needs, err)
	}
}

// All modules are packed, and still only what was usual is loaded unasked.
func TestAllModules(t *testing.T) {
	k := readTestKernel(t, testDeb(t, packGzip))
	delete(k.modules, "broken")
	k.modules["a"].post = []string{"virtio_ring"}
	s, err := k.closure([]string{"all"})
	if err != nil || len(s.needs) != len(k.modules) {
		t.Fatalf("packed %d of %d modules, %v", len(s.needs), len(k.modules), err)
	}
	if got := string(s.loadTable()); got != "ipmi_devintf\n" {
		t.Errorf("modules.load is %q", got)
	}
}

// An operator's own driver lies in a directory beside the package, and takes the place of the package's.
func TestOwnDriver(t *testing.T) {
	own := plant(t, map[string]string{"tg3.ko": elfModule("vermagic=6.1.0-1-test SMP", "alias=pci:own*"), "mine.ko": elfModule("vermagic=6.1.0-1-test SMP", "depends=tg3")})
	k := readKernelOf(t, testDeb(t, packGzip), own)
	if k.modules["mine"] == nil || !cmp.Equal(k.modules["tg3"].aliases, []string{"pci:own*"}) {
		t.Errorf("mine is %+v, tg3 is %+v", k.modules["mine"], k.modules["tg3"])
	}
	if s, err := k.closure([]string{"mine"}); err != nil || len(s.needs) != 2 {
		t.Errorf("packed %v, %v", s, err)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		name  string
		words []string
		sshd  bool
		want  string // base names, or the error
	}{
		{"some are named", []string{"ls", "example.org/own/tool"}, false, "ls tool gosh init"},
		{"sshd comes on demand", []string{"ls"}, true, "ls gosh init sshd"},
		{"a flag is no name", []string{"-rf"}, false, `"-rf" is no name of a command`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			paths, err := Commands(tt.words, tt.sshd)
			var names []string
			for _, p := range paths {
				names = append(names, filepath.Base(p))
			}
			got := strings.Join(names, " ")
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Commands(%q) = %q; want %q", tt.words, got, tt.want)
			}
		})
	}
	if usual, err := Commands(nil, false); err != nil || len(usual) != len(DefaultCommands)+len(neededCommands) {
		t.Errorf("without words it gives %q, %v", usual, err)
	}
}
