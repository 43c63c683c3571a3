package disc

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes what install media have, and what they have not but their formats do.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string]string{
		".treeinfo": "[general]\n", "empty": "", "one block": strings.Repeat("b", 2048), "a block and a byte": strings.Repeat("c", 2049),
		"images/pxeboot/vmlinuz": strings.Repeat("kernel", 9000), "Ünïcödé/日本.txt": "names of other tongues",
		"EFI/BOOT/BOOTX64.EFI": "MZ", "no-extension": "x", "two.dots.txt": "y",
		"d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/d11/deep.txt": "deeper than ISO 9660 goes",
		"d1/d2/d3/d4/d5/d6/d7/d8/e9/deep.txt":         "beside it",
		strings.Repeat("n", 60) + ".rpm":              "a long name",
	}
	for i := range 300 {
		files[fmt.Sprintf("Packages/p/package-%03d-1.2.3.x86_64.rpm", i)] = fmt.Sprint("package ", i)
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// withLinks adds what only Rock Ridge keeps.
func withLinks(t *testing.T, dir string) string {
	t.Helper()
	long := strings.Repeat("component/", 14) + strings.Repeat("z", 60) // over several fields; genisoimage cuts or hangs on more
	for name, to := range map[string]string{"debian": ".", "dists": "images/pxeboot", "images/up": "../EFI/BOOT", "images/pxeboot/out": "../../../etc/passwd",
		"absolute": "/etc/passwd", "dangling": "nowhere", "long": long, "dots": "./.././images"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.Repeat("x", 250)), []byte("the longest name"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// made runs a program that writes an image, and gives the image; the test is skipped without the program.
func made(t *testing.T, dir string, args ...string) *os.File {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.iso")
	for i := range args {
		args[i] = strings.NewReplacer("IMAGE", image, "TREE", dir).Replace(args[i])
	}
	ran(t, args...)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ran(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip("needs ", args[0])
	}
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func open(t *testing.T, f *os.File) *Disc {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// line is what two trees are compared by.
func line(mode fs.FileMode, link string, content io.Reader) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "-> " + link
	}
	h := sha256.New()
	n, err := io.Copy(h, content)
	return fmt.Sprintf("%d bytes %x %v", n, h.Sum(nil)[:8], err)
}

// onDisc is what we read.
func onDisc(t *testing.T, d *Disc) map[string]string {
	t.Helper()
	got := map[string]string{}
	for e, err := range d.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := got[e.Path]; twice {
			t.Errorf("%s is there twice", e.Path)
		}
		got[e.Path] = line(e.Mode, e.Link, d.Content(e))
	}
	return got
}

// onDisk is what lies in a directory.
func onDisk(t *testing.T, dir string) map[string]string {
	t.Helper()
	want := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if e.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(p)
			want[name] = line(e.Type(), to, nil)
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		want[name] = line(e.Type(), "", f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestReadsWhatOthersWrote: the tree that went in comes out, of every writer and format that keeps names.
func TestReadsWhatOthersWrote(t *testing.T) {
	for _, tt := range []struct {
		name  string
		want  Format
		links bool
		args  string
	}{
		{"genisoimage, Rock Ridge", RockRidge, true, "genisoimage -quiet -R -V LABEL -o IMAGE TREE"},
		{"genisoimage, Rock Ridge with Joliet", RockRidge, true, "genisoimage -quiet -R -J -joliet-long -V LABEL -o IMAGE TREE"},
		{"genisoimage, Rock Ridge with UDF", RockRidge, true, "genisoimage -quiet -R -udf -allow-limited-size -V LABEL -o IMAGE TREE"},
		{"xorriso, Rock Ridge", RockRidge, true, "xorriso -as mkisofs -quiet -R -V LABEL -o IMAGE TREE"},
		{"xorriso, Rock Ridge, Joliet, level 3", RockRidge, true, "xorriso -as mkisofs -quiet -iso-level 3 -R -J -V LABEL -o IMAGE TREE"},
		{"xorriso, no relocation, El Torito and a hybrid MBR", RockRidge, true, "xorriso -as mkisofs -quiet -R -D -V LABEL -e EFI/BOOT/BOOTX64.EFI -no-emul-boot -append_partition 2 0xef TREE/EFI/BOOT/BOOTX64.EFI -o IMAGE TREE"},
		{"genisoimage, UDF", UDF, false, "genisoimage -quiet -udf -allow-limited-size -D -l -V LABEL -o IMAGE TREE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t)
			if tt.links {
				dir = withLinks(t, dir)
			}
			d := open(t, made(t, dir, strings.Fields(tt.args)...))
			if d.Format != tt.want || d.Label != "LABEL" {
				t.Errorf("it is %s with the label %q; want %s and LABEL", d.Format, d.Label, tt.want)
			}
			got := onDisc(t, d)
			delete(got, "boot.catalog") // of El Torito: xorriso's own
			if diff := cmp.Diff(onDisk(t, dir), got); diff != "" {
				t.Errorf("the tree is another (-in +out):\n%s", diff)
			}
		})
	}
}

// TestReadsAsOthersRead: where a format changes names, the judge is another program's reading of the same image.
func TestReadsAsOthersRead(t *testing.T) {
	for _, tt := range []struct {
		name, args string
		want       Format
		judge      string
	}{
		{"plain, by bsdtar", "genisoimage -quiet -D -l -o IMAGE TREE", ISO9660, "bsdtar -xf IMAGE -C OUT"},
		{"plain, level 3, by bsdtar", "genisoimage -quiet -D -iso-level 3 -o IMAGE TREE", ISO9660, "bsdtar -xf IMAGE -C OUT"},
		{"Joliet, by bsdtar", "genisoimage -quiet -D -J -joliet-long -o IMAGE TREE", Joliet, "bsdtar -xf IMAGE -C OUT"},
		{"Joliet, by 7z", "genisoimage -quiet -D -J -joliet-long -o IMAGE TREE", Joliet, "7z x -bd -oOUT IMAGE"},
		{"UDF, by 7z", "genisoimage -quiet -udf -allow-limited-size -D -l -o IMAGE TREE", UDF, "7z x -tudf -bd -oOUT IMAGE"},
		{"Rock Ridge with a link over three fields, by xorriso", "xorriso -as mkisofs -quiet -R -o IMAGE TREE", RockRidge, "xorriso -osirrox on -indev IMAGE -extract / OUT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, out := tree(t), t.TempDir()
			if tt.want == RockRidge {
				if err := os.Symlink(strings.Repeat("part/", 50)+strings.Repeat("z", 250), filepath.Join(dir, "long")); err != nil {
					t.Fatal(err)
				}
			}
			f := made(t, dir, strings.Fields(tt.args)...)
			args := strings.Fields(tt.judge)
			for i := range args {
				args[i] = strings.NewReplacer("IMAGE", f.Name(), "OUT", out).Replace(args[i])
			}
			ran(t, args...)
			d := open(t, f)
			if d.Format != tt.want {
				t.Errorf("it is %s; want %s", d.Format, tt.want)
			}
			want := onDisk(t, out)
			delete(want, "rr_moved") // bare, and no part of what went in
			if diff := cmp.Diff(want, onDisc(t, d)); diff != "" {
				t.Errorf("the tree is another (-judge +ours):\n%s", diff)
			}
		})
	}
}

// TestMkudffs: of each kind of medium and size of block, the volume is found; the kinds that move blocks about are refused
// by their name.
func TestMkudffs(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--media-type=hd --blocksize=512", "LABEL"},
		{"--media-type=hd --blocksize=2048 --udfrev=0x0102", "LABEL"},
		{"--media-type=hd --blocksize=4096", "LABEL"},
		{"--media-type=dvdram", "LABEL"},
		{"--media-type=bdr --udfrev=0x0250", "Virtual Partition"},
		{"--media-type=dvdr", "Virtual Partition"},
		{"--media-type=dvdrw", "Sparable Partition"},
	} {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		ran(t, append(strings.Fields("mkudffs --label=LABEL "+tt.args), image)...)
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := ""
		d, err := Open(f, 8<<20)
		if err == nil {
			got = d.Label
			for e, err := range d.Entries() {
				got += fmt.Sprint(" ", e.Path, err)
			}
		} else {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("mkudffs %s: %s; want %s", tt.args, got, tt.want)
		}
	}
}

// TestModes: what may be run may be run.
func TestModes(t *testing.T) {
	d := open(t, made(t, withLinks(t, tree(t)), "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", "IMAGE", "TREE"))
	want := map[string]fs.FileMode{"empty": 0o755, "no-extension": 0o644, "images": fs.ModeDir | 0o755}
	got := map[string]fs.FileMode{}
	for e := range d.Entries() {
		if _, ok := want[e.Path]; ok {
			got[e.Path] = e.Mode
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAFileOfSeveralExtents: records of ISO 9660 tell of less than 4 GiB, extents of UDF of less than 1 GiB, and each byte
// is where it was. Marks are compared, as the zeros between them are holes in the file that went in.
func TestAFileOfSeveralExtents(t *testing.T) {
	if testing.Short() {
		t.Skip("writes images of 5 GiB")
	}
	for _, tt := range []struct {
		args string
		edge int64
	}{
		{"xorriso -as mkisofs -quiet -iso-level 3 -R -o IMAGE TREE", 4 << 30},
		{"genisoimage -quiet -allow-limited-size -udf -o IMAGE TREE", 1 << 30},
	} {
		t.Run(strings.Fields(tt.args)[0], func(t *testing.T) {
			dir := t.TempDir()
			big, err := os.Create(filepath.Join(dir, "install.wim"))
			if err != nil {
				t.Fatal(err)
			}
			defer big.Close()
			size := tt.edge + 5000
			marks := []int64{0, tt.edge - 4096, tt.edge - 2048, tt.edge, size - 10}
			for _, at := range marks {
				if _, err := big.WriteAt(fmt.Appendf(nil, "%10d", at), at); err != nil {
					t.Fatal(err)
				}
			}
			d := open(t, made(t, dir, strings.Fields(tt.args)...))
			for e, err := range d.Entries() {
				if err != nil || e.Size != size || len(e.parts) < 2 {
					t.Fatalf("%s has %d bytes in %d parts, %v; want %d", e.Path, e.Size, len(e.parts), err, size)
				}
				for _, at := range marks {
					got := make([]byte, 10)
					if _, err := d.Content(e).ReadAt(got, at); err != nil || string(got) != fmt.Sprintf("%10d", at) {
						t.Errorf("at %d there is %q, %v", at, got, err)
					}
				}
			}
		})
	}
}

func TestWhatIsNoDisc(t *testing.T) {
	for name, image := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 1<<20), "text": bytes.Repeat([]byte("disc"), 1<<16)} {
		if d, err := Open(bytes.NewReader(image), int64(len(image))); err == nil || !strings.Contains(err.Error(), "neither ISO 9660 nor UDF") {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}
