package initramfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// treeOf says what a kernel finds: name, permissions and content's size.
func treeOf(t testing.TB, ramdisk []byte) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	for called, e := range listed(t, ramdisk).finals() {
		tree[called] = fmt.Sprintf("%o %d %d", e.Mode, e.Size, e.Links)
	}
	return tree
}

func TestAdd(t *testing.T) {
	src := t.TempDir()
	do(t, os.WriteFile(src+"/file", []byte("added"), 0o755), os.MkdirAll(src+"/tree/sub", 0o700),
		os.WriteFile(src+"/tree/sub/x", []byte("x"), 0o640), os.Symlink("x", src+"/tree/sub/y"))
	ramdisk := foreign(t)
	before := treeOf(t, ramdisk)
	for _, appended := range []bool{false, true} {
		t.Run(fmt.Sprintf("append %v", appended), func(t *testing.T) {
			var out bytes.Buffer
			files := []File{{"/lib/modules/own.ko", src + "/file"}, {"etc/conf.d/10", src + "/tree"}, {"replaced", src + "/file"}}
			if _, err := Add(bytes.NewReader(ramdisk), files, &out, Addition{Append: appended}); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"usr/lib/modules": "40755 0 1", "usr/lib/modules/own.ko": "100755 5 1", "etc/conf.d/10": "40755 0 1",
				"etc/conf.d/10/sub": "40755 0 1", "etc/conf.d/10/sub/x": "100644 1 1", "etc/conf.d/10/sub/y": "120777 0 1",
				"replaced": "100755 5 1", // lib still leads to usr/lib
			}
			for called, e := range before {
				if _, ok := want[called]; !ok {
					want[called] = e
				}
			}
			if diff := cmp.Diff(want, treeOf(t, out.Bytes())); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			same := 512 // the microcode
			if appended {
				same = len(ramdisk)
			}
			if !bytes.HasPrefix(out.Bytes(), ramdisk[:same]) {
				t.Errorf("the first %d bytes are not as they were", same)
			}
		})
	}
}

// A kernel looks for plain archives at multiples of four only, and an lz4 stream ends with a size of 0.
func TestAppendAligns(t *testing.T) {
	src := filepath.Join(t.TempDir(), "file")
	do(t, os.WriteFile(src, []byte("added"), 0o644))
	archive := file("a", "one") + end
	block := "\xf0" + strings.Repeat("\xff", (len(archive)-15)/255) + string([]byte{byte((len(archive) - 15) % 255)}) + archive // literals only
	lz4 := lz4Magic + string([]byte{byte(len(block)), byte(len(block) >> 8), 0, 0}) + block
	for name, ramdisk := range map[string]string{"gzip": packGzip(t, archive) + "\x00", "lz4": lz4} {
		var out bytes.Buffer
		if _, err := Add(bytes.NewReader([]byte(ramdisk)), []File{{"b", src}}, &out, Addition{Append: true, Packing: Packing{Compress: "none"}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := treeOf(t, out.Bytes()); len(got) != 2 {
			t.Errorf("%s: tree %v; want a and b", name, got)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	src := filepath.Join(t.TempDir(), "file")
	do(t, os.WriteFile(src, nil, 0o644))
	tests := []struct {
		name, to string
		appended bool
		want     string
	}{
		{"what would leave the tree", "../x", false, "leaves"},
		{"a file in place of a directory", "etc", false, "is a directory"},
		{"a file below a file", "su/x", false, "not a directory"},
		{"an append that would change other links", "one", true, "one file with others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Add(bytes.NewReader(foreign(t)), []File{{tt.to, src}}, &bytes.Buffer{}, Addition{Append: tt.appended})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v; want %q in it", err, tt.want)
			}
		})
	}
}

// Every entry of a name goes, and other links keep the content that went.
func TestRemove(t *testing.T) {
	ramdisk := foreign(t)
	want := treeOf(t, ramdisk)
	for _, name := range []string{"kernel", "kernel/x86", "kernel/x86/microcode", "replaced", "etc/three", "usr/lib/libc.so"} {
		delete(want, name)
	}
	want["one"], want["two"] = "100644 16 2", "100644 16 2"
	var out bytes.Buffer
	notes, err := Remove(bytes.NewReader(ramdisk), []string{"/kernel", "replaced", "etc/three", "lib/libc.so"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) != 6 {
		t.Errorf("notes %q; want one for each of 6 files", notes)
	}
	if diff := cmp.Diff(want, treeOf(t, out.Bytes())); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if _, err := Remove(bytes.NewReader(ramdisk), []string{"etc/nothing"}, &out); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v", err)
	}
}
