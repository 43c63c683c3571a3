package repo

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inDir runs a command line of the shell in dir.
func inDir(t *testing.T, dir, line string) {
	t.Helper()
	sh := exec.Command("sh", "-ec", line)
	sh.Dir = dir
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// T41: files of other formats, made by the programs of the field, are refused, and the command in the error makes of each
// the image that it was made from.
func TestForeignFilesAreRefusedWithTheirCure(t *testing.T) {
	if testing.Short() {
		t.Skip("20 programs and as many images")
	}
	dir := t.TempDir()
	disk := make([]byte, 3<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 1 << 20 {
		disk[i] = byte(r.Uint32())
	}
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(filepath.Join(dir, "disk"), disk, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, make, want string }{
		{"qcow2", "qemu-img convert -f raw -O qcow2 disk IN", "this is a qcow2 file"},
		{"qcow2 of version 2", "qemu-img convert -f raw -O qcow2 -o compat=0.10 disk IN", "this is a qcow2 file"},
		{"qcow2 with a backing file", "qemu-img create -q -f qcow2 -F raw -b disk IN", `it points at another file, "disk"`},
		{"qcow", "qemu-img convert -f raw -O qcow disk IN", "this is a qcow file"},
		{"vmdk", "qemu-img convert -f raw -O vmdk disk IN", "this is a vmdk file"},
		{"vmdk for streaming", "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk IN", "this is a vmdk file"},
		{"vmdk that is a list of other files", "qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse disk IN.vmdk; mv IN.vmdk IN", "this is a vmdk file"},
		{"vhdx", "qemu-img convert -f raw -O vhdx disk IN", "this is a vhdx file"},
		{"vhd", "qemu-img convert -f raw -O vpc -o force_size disk IN", "this is a vhd file"},
		{"vhd of fixed size, which begins with the disk", "qemu-img convert -f raw -O vpc -o subformat=fixed,force_size disk IN", "this is a vhd file"},
		{"vdi", "qemu-img convert -f raw -O vdi disk IN", "this is a vdi file"},
		{"qed", "qemu-img convert -f raw -O qed disk IN", "this is a qed file"},
		{"parallels", "qemu-img convert -f raw -O parallels disk IN", "this is a parallels file"},
		{"luks", // On a busy machine qemu-img may see no time pass while it measures its own speed, and gives up.
			"printf geheim >PASSPHRASE; for again in 1 2 3 4 5 6 7 8 9; do qemu-img convert --object secret,id=s,file=PASSPHRASE -f raw -O luks -o key-secret=s,iter-time=10 disk IN && break; done", "this is a luks file"},
		{"bzip2", "bzip2 -c disk >IN", "this is a bzip2 file"},
		{"lz4", "lz4 -qc disk >IN", "this is a lz4 file"},
		{"lzma", "xz --format=lzma -c disk >IN", "this is a lzma file"},
		{"zip", "zip -q IN.zip disk; mv IN.zip IN", "this is a zip file"},
		{"gzip in zstd", "gzip -c disk | zstd -q -c >IN", "gzip in another compression"},
		{"qcow2 in gzip", "qemu-img convert -f raw -O qcow2 disk Q; gzip -c Q >IN", "this is a qcow2 in gzip file"},
		{"qcow2 in xz", "qemu-img convert -f raw -O qcow2 disk Q; xz -c Q >IN", "this is a qcow2 in xz file"},
		{"vmdk in zstd", "qemu-img convert -f raw -O vmdk disk Q; zstd -q -c Q >IN", "this is a vmdk in zstd file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range []string{"qemu-img", "bzip2", "lz4", "xz", "zip", "gzip", "zstd"} {
				if _, err := exec.LookPath(p); err != nil && strings.Contains(tt.make, p+" ") {
					t.Skipf("%s is not installed", p)
				}
			}
			inDir(t, dir, "rm -rf IN OUT Q UNPACKED; "+tt.make)
			err := importFrom(t, filepath.Join(dir, "IN"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Import = %v; want an error with %q", err, tt.want)
			}
			_, cure, ok := strings.Cut(err.Error(), "what is: ")
			if !ok {
				t.Fatalf("the error %q names no command", err)
			}
			cure, _, _ = strings.Cut(cure, " (it points")
			inDir(t, dir, cure)
			if err := importFrom(t, filepath.Join(dir, "OUT")); err != nil {
				t.Errorf("what %q made is refused: %v", cure, err)
			}
			inDir(t, dir, "zstd -dcf OUT >PLAIN || cp OUT PLAIN")
			if got, err := os.ReadFile(filepath.Join(dir, "PLAIN")); err != nil || !bytes.Equal(got, disk) {
				t.Errorf("what %q made has %d bytes that are not the disk's %d, %v", cure, len(got), len(disk), err)
			}
		})
	}
}

func importFrom(t *testing.T, name string) error {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(f)
	if left, _ := os.ReadDir(dir); err != nil && len(left) != 0 {
		t.Errorf("%d files are left of a refused import", len(left))
	}
	return err
}

// Formats that no program here makes, by the first bytes of their specifications.
func TestOtherForeignFiles(t *testing.T) {
	at := func(n int, s string) []byte { return append(make([]byte, n), s+strings.Repeat("\x01", 600)...) }
	for _, tt := range []struct {
		name string
		file []byte
	}{
		{"vmdk", at(0, "COWD")},
		{"parallels", at(0, "WithouFreSpacExt")},
		{"bochs", at(0, "Bochs Virtual HD Image")},
		{"cloop", at(0, "#!/bin/sh\n#V2.0 Format\n")},
		{"Android sparse", at(0, "\x3a\xff\x26\xed\x01\x00")},
		{"7z", at(0, "7z\xbc\xaf\x27\x1c")},
		{"tar", at(257, "ustar\x0000")},
		{"LVM volume", at(512, "LABELONE")},
		{"ISO 9660", at(32769, "CD001")},
		{"squashfs", at(0, "hsqs")},
		{"Windows image (WIM)", at(0, "MSWIM\x00\x00\x00")},
		{"dmg", append(at(0, "disk"), append([]byte("koly"), make([]byte, 508)...)...)},
	} {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, tt.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := importFrom(t, name); err == nil || !strings.Contains(err.Error(), "this is a "+tt.name+" file") {
			t.Errorf("%s: Import = %v", tt.name, err)
		}
	}
}

// A qcow header that lies about the name of its backing file is refused like another.
func FuzzRefuse(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x04............/etc"))
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := refuse(heads, b, "none"); err == nil && bytes.HasPrefix(b, []byte("QFI\xfb")) {
			t.Errorf("a qcow file is taken: %q", b)
		}
	})
}
