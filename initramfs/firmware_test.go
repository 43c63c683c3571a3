package initramfs

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packFirmware packs what these patterns take from a directory, and tells what is missing.
func packFirmware(t *testing.T, words []string, patterns ...string) (tree, []string, error) {
	t.Helper()
	s, err := newSpool()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	set, packed := &moduleSet{firmware: patterns}, make(tree)
	err = addFirmware(t.Context(), words, set, s, packed)
	return packed, set.firmware, err
}

func contentOf(t *testing.T, packed tree, name string) string {
	t.Helper()
	m, ok := packed[name]
	if !ok {
		return "nothing"
	}
	b, err := io.ReadAll(io.NewSectionReader(m.content, 0, m.size))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFirmware(t *testing.T) {
	files := map[string]string{
		"lib/firmware/bnx2/one.fw": "one", "lib/firmware/tigon/tg3.bin.xz": packXZ(t, "tigon"),
		"lib/firmware/ice/ddp/ice-1.pkg.zst": packZstd(t, "ddp"), "lib/firmware/ice/ddp/ice-2.pkg": "other", "lib/firmware/unasked": "x",
	}
	system := plant(t, files)
	for link, target := range map[string]string{"ice/ddp/ice.pkg": "ice-1.pkg.zst", "two.fw": "bnx2/two.fw", "bnx2/two.fw": "/lib/firmware/bnx2/one.fw",
		"loop": "loop", "dangling": "gone"} {
		if err := os.Symlink(target, filepath.Join(system, "lib/firmware", link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, words := range map[string][]string{
		"a system": {system}, "its directory of firmware": {filepath.Join(system, "lib/firmware")},
	} {
		t.Run(name, func(t *testing.T) {
			packed, missing, err := packFirmware(t, words, "tigon/tg3.bin", "ice/ddp/ice.pkg", "two.fw", "loop", "dangling", "no/such.bin", "none*")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"loop", "dangling", "no/such.bin", "none*"}, missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			got := map[string]string{}
			for _, name := range packed.names() {
				got[strings.TrimPrefix(name, "lib/firmware/")] = contentOf(t, packed, name)
			}
			want := map[string]string{"tigon/tg3.bin": "tigon", "ice/ddp/ice.pkg": "/lib/firmware/ice/ddp/ice-1.pkg", "ice/ddp/ice-1.pkg": "ddp",
				"two.fw": "/lib/firmware/bnx2/two.fw", "bnx2/two.fw": "/lib/firmware/bnx2/one.fw", "bnx2/one.fw": "one"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("firmware (-want +got):\n%s", diff)
			}
		})
	}
	packed, missing, err := packFirmware(t, []string{system}, "ice/ddp/ice-*.pkg")
	if err != nil || len(packed) != 2 || len(missing) != 0 {
		t.Errorf("a pattern gives %q, missing %q, %v", packed.names(), missing, err)
	}
}

func TestFirmwareOfPackages(t *testing.T) {
	deb := writeDeb(t, map[string]string{"usr/lib/firmware/updates/a.bin": "a"}, packXZ)
	packed, missing, err := packFirmware(t, []string{deb}, "a.bin")
	if err != nil || len(missing) != 0 || contentOf(t, packed, "lib/firmware/a.bin") != "a" {
		t.Errorf("firmware %q, missing %q, %v", packed.names(), missing, err)
	}
	if _, _, err := packFirmware(t, []string{testDeb(t, packGzip)}, "a.bin"); err == nil {
		t.Error("a package without firmware was taken")
	}
}

// T36: a link out of lib/firmware is refused before anything is packed.
func TestFirmwareLinksStayInside(t *testing.T) {
	system := plant(t, map[string]string{"lib/firmware/a": "a"})
	if err := os.Symlink("../../../etc/shadow", filepath.Join(system, "lib/firmware/b")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := packFirmware(t, []string{system}, "b"); err == nil || !strings.Contains(err.Error(), "out of lib/firmware") {
		t.Errorf("error is %v", err)
	}
}
