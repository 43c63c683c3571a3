package lab

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/initramfs"
)

// What mmdebstrap leaves is read back by our reader of ramdisks, which reads as a kernel does: programs first, then the tree.
func TestGuestIsARamdisk(t *testing.T) {
	dir := t.TempDir()
	tree, packed, initrd := filepath.Join(dir, "tree.tar"), filepath.Join(dir, "tree.cpio.zst"), filepath.Join(dir, "initrd")
	plantTar(t, tree)
	for _, name := range []string{"muster-agent", "measure"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("program "+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := packTree(t.Context(), tree, packed); err != nil {
		t.Fatal(err)
	}
	if err := writeGuest(initrd, dir, packed); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(initrd)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := initramfs.List(f)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name   string
		Mode   uint32
		Size   uint32
		Target string
	}
	var got []entry
	for _, e := range m.Entries {
		got = append(got, entry{e.Name, e.Mode, e.Size, e.Target})
	}
	want := []entry{
		{"usr", 0o40755, 0, ""}, {"usr/local", 0o40755, 0, ""}, {"usr/local/bin", 0o40755, 0, ""},
		{"usr/local/bin/muster-agent", 0o100755, 20, ""}, {"usr/local/bin/measure", 0o100755, 15, ""},
		{"init", 0o100755, uint32(len(peersInit)), ""},
		{"usr", 0o40755, 0, ""}, {"usr/bin", 0o40755, 0, ""}, {"usr/bin/su", 0o104755, 3, ""}, {"usr/bin/empty", 0o100644, 0, ""},
		{"usr/bin/hard", 0o120777, 11, "/usr/bin/su"}, {"bin", 0o120777, 7, "usr/bin"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries: (-want +got)\n%s", diff)
	}
	if m.Archives != 2 || m.Format != "zstd" {
		t.Errorf("%d archives, the last in %s; want 2, zstd", m.Archives, m.Format)
	}
}

// plantTar writes one entry of each kind that mmdebstrap writes.
func plantTar(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, e := range []struct {
		tar.Header
		content string
	}{
		{tar.Header{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "./usr/bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 3}, "abc"},
		{tar.Header{Name: "./usr/bin/empty", Typeflag: tar.TypeReg, Mode: 0o644}, ""},
		{tar.Header{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./usr/bin/su", Mode: 0o4755}, ""},
		{tar.Header{Name: "./bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin", Mode: 0o777}, ""},
		{tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
	} {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
