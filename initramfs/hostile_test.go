package initramfs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func symlink(name, target string) string { return newc(name, typeLink|0o777, target) }

type hostileRamdisk struct {
	name, file string
	entry      string // in the error
	is         error
}

// T36, T37: each is refused with its entry and place, before anything is written.
func hostile(t testing.TB) []hostileRamdisk {
	return []hostileRamdisk{
		{"dots in front", file("../evil", "x") + end, `entry "../evil" at byte 0`, errEscape},
		{"dots inside", dir("a") + file("a/../../evil", "x") + end, `entry "a/../../evil" at byte 112`, errEscape},
		{"dots only", newc("..", typeDir|0o777, "") + end, `entry ".."`, errEscape},
		{"an absolute name", file("/tmp/evil", "x") + end, `entry "/tmp/evil" at byte 0`, errEscape},
		{"through a link out", symlink("x", "../../../tmp") + file("x/evil", "y") + end, `entry "x/evil" at byte 124`, errEscape},
		{"through an absolute link", symlink("x", "/var/tmp") + file("x/evil", "y") + end, `entry "x/evil" at byte 120`, errEscape},
		{"through two links", symlink("x", "y") + symlink("y", "../up") + file("x/evil", "z") + end, `entry "x/evil"`, errEscape},
		{"a directory through a link out", symlink("x", "../..") + newc("x/evil", typeDir|0o777, "") + end, `entry "x/evil"`, errEscape},
		{"a device through a link out", symlink("x", "/dev/shm") + newc("x/null", typeChar|0o666, "") + end, `entry "x/null"`, errEscape},
		{"in a later segment", packGzip(t, file("a", "")+end) + packGzip(t, file("../evil", "x")+end), `segment 1, entry "../evil" at byte 0`, errEscape},
		{"two files of one inode", link(5, 2, "a", "one") + link(5, 2, "b", "two") + end, `entry "b" at byte 116`, errClash},
		{"a name of 4 GB", file("a", "x") + newcSaying("b", typeRegular, "", 0xffffffff, 0) + end, `entry 1 at byte 116`, ErrFormat},
		{"a size past the end", newcSaying("a", typeRegular|0o644, "x", 2, 5000), `entry "a" at byte 0`, ErrFormat},
		{"a size past the end, packed", packGzip(t, newcSaying("a", typeRegular|0o644, "x", 2, 5000)), `(gzip, from byte 0 of the file), entry "a" at byte 0`, ErrFormat},
		{"no trailer", file("a", "x"), `entry 1 at byte 116: not a ramdisk that a kernel unpacks: no trailer`, ErrFormat},
		{"no trailer, but padding", file("a", "x") + zeros, `entry 1 at byte 116`, ErrFormat},
		{"no trailer, packed", packZstd(t, file("a", "x")), `(zstd, from byte 0 of the file), entry 1 at byte 116`, ErrFormat},
		{"garbage behind", align(file("a", "x")+end) + "garbage!", `byte 240 of the file`, ErrFormat},
		{"garbage behind, packed", packGzip(t, file("a", "x")+end+"garbage!"), `entry 1 at byte 240`, ErrFormat},
		{"an archive where a kernel finds none", packGzip(t, file("a", "x")+end) + strings.Repeat("\x00", 1+3&-len(packGzip(t, file("a", "x")+end))) + file("b", "") + end, `no multiple of four`, ErrFormat},
		{"a stream cut short", packXZ(t, file("a", strings.Repeat("abc", 999))+end)[:90], `(xz, from byte 0`, nil},
		{"a zero in a target", symlink("x", "a\x00b") + end, `entry "x" at byte 0`, ErrFormat},
	}
}

func TestHostileRamdisksAreRefused(t *testing.T) {
	for _, tt := range hostile(t) {
		t.Run(tt.name, func(t *testing.T) {
			outside := t.TempDir()
			do(t, os.WriteFile(outside+"/canary", []byte("alive"), 0o644), os.Mkdir(outside+"/in", 0o755))
			before := sumOf(t, outside)
			_, err := Unpack(strings.NewReader(tt.file), outside+"/in/work", false)
			if err == nil || !strings.Contains(err.Error(), tt.entry) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error is %v; want %q in it, of %v", err, tt.entry, tt.is)
			}
			if sumOf(t, outside) != before {
				t.Error("something was written")
			}
			_, problems := Check(strings.NewReader(tt.file))
			if len(problems) == 0 || !problems[0].Error || !strings.Contains(problems[0].String(), tt.entry) {
				t.Errorf("check says %v", problems)
			}
			for verb, change := range map[string]func(Image) error{
				"add": func(image Image) error {
					_, err := Add(image, []File{{"x", outside + "/canary"}}, &bytes.Buffer{}, Addition{Append: true})
					return err
				},
				"remove": func(image Image) error {
					_, err := Remove(image, []string{"a"}, &bytes.Buffer{})
					return err
				},
			} {
				if err := change(strings.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.entry) {
					t.Errorf("%s: error is %v; want %q in it", verb, err, tt.entry)
				}
			}
		})
	}
}

// sumOf is of all names and contents below a directory.
func sumOf(t *testing.T, at string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(at, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, name, d.Type())
		if d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			fmt.Fprintf(sum, "%q %v\n", b, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// A kernel follows absolute links within its tree, and so does unpack: nothing outside is touched.
func TestLinksInsideTheTreeAreFollowed(t *testing.T) {
	work := unpacked(t, []byte(dir("usr")+dir("usr/lib")+symlink("lib", "/usr/lib")+file("lib/x", "inside")+
		symlink("passwd", "/etc/passwd")+end))
	if b, err := os.ReadFile(work + "/tree/usr/lib/x"); err != nil || string(b) != "inside" {
		t.Errorf("usr/lib/x = %q, %v", b, err)
	}
	if target, err := os.Readlink(work + "/tree/passwd"); err != nil || target != "/etc/passwd" {
		t.Errorf("passwd -> %q, %v", target, err)
	}
}

// A hostile ramdisk.json cannot name files outside either.
func TestRepackReadsOnlyItsDirectory(t *testing.T) {
	work := unpacked(t, []byte(file("a", "one")+end))
	do(t, os.Remove(work+"/tree/a"), os.Symlink("/etc/hostname", work+"/tree/a"))
	var out bytes.Buffer
	if _, err := Repack(work, &out, Packing{}); err != nil {
		t.Fatal(err)
	}
	if e, ok := listed(t, out.Bytes()).Lookup("a"); !ok || e.Target != "/etc/hostname" {
		t.Errorf("a is %+v; want the link itself", e)
	}
	do(t, os.RemoveAll(work+"/tree"), os.Symlink("/etc", work+"/tree"))
	if _, err := Repack(work, &out, Packing{}); err == nil {
		t.Error("a tree that is a link out was packed")
	}
}
