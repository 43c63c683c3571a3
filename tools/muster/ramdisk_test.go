package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/initramfs"
)

// tinyRamdisk is two archives in a row, the second over the first, as GNU cpio writes them.
func tinyRamdisk(t *testing.T) string {
	t.Helper()
	entry := func(name, mode, content string) string {
		number := func(n int) string { return strings.ToUpper(leftPad(n)) }
		head := "070701" + number(1) + mode + number(0) + number(0) + number(1) + number(0) + number(len(content)) +
			strings.Repeat(number(0), 2) + number(5) + number(1) + number(len(name)+1) + number(0) + name + "\x00"
		return head + strings.Repeat("\x00", -len(head)&3) + content + strings.Repeat("\x00", -len(content)&3)
	}
	end := entry("TRAILER!!!", "00000000", "")
	var b bytes.Buffer
	for _, archive := range []string{
		entry("dev/console", "00002180", "") + entry("init", "0000A1FF", "bbin/init") + entry("tmp", "000043FF", "") + end,
		entry("init", "000081ED", "#!/bin/sh\n") + entry("lib", "000041ED", "") + entry("lib/modules", "000041ED", "") +
			entry("lib/modules/6.1", "000041ED", "") + entry("lib/modules/6.1/a\nb.ko", "000081A4", "x") + end,
	} {
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(archive)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "ramdisk.cpio.gz")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func leftPad(n int) string {
	const digits = "0123456789abcdef"
	b := []byte("00000000")
	for i := 7; n > 0; i, n = i-1, n>>4 {
		b[i] = digits[n&15]
	}
	return string(b)
}

// ramdiskRun runs muster ramdisk and gives its output.
func ramdiskRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := ramdiskCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

func TestRamdiskList(t *testing.T) {
	name := tinyRamdisk(t)
	got, err := ramdiskRun(t, "list", name)
	if err != nil {
		t.Fatal(err)
	}
	want := `  Dcrw------- 0:0        5,1 dev/console
- Lrwxrwxrwx 0:0          9 init -> bbin/init
  dtrwxrwxrwx 0:0          0 tmp
  -rwxr-xr-x 0:0         10 init
  drwxr-xr-x 0:0          0 lib
  drwxr-xr-x 0:0          0 lib/modules
  drwxr-xr-x 0:0          0 lib/modules/6.1
  -rw-r--r-- 0:0          1 lib/modules/6.1/a?b.ko
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestRamdiskListJSON(t *testing.T) {
	got, err := ramdiskRun(t, "list", "-o", "json", "--summary", tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	var m initramfs.Manifest
	if err := json.Unmarshal([]byte(got), &m); err != nil {
		t.Fatal(err)
	}
	if m.Archives != 2 || m.Userland.Files != 1 || m.Drivers.Files != 1 || m.Userland.Gzip == 0 || m.Entries != nil {
		t.Errorf("manifest %+v", m)
	}
}

func TestRamdiskListSummary(t *testing.T) {
	got, err := ramdiskRun(t, "list", "--summary", tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"userland", "modules", "ramdisk", "kernel 6.1, 1 modules; gzip, 2 archives, sha256 "} {
		if !strings.Contains(got, word) {
			t.Errorf("summary lacks %q:\n%s", word, got)
		}
	}
}

func TestRamdiskWrongCalls(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"build wants a place to write to", []string{"build"}, "say where to"},
		{"build wants the source", []string{"build", "-o", "out", "--source", t.TempDir()}, "is not the directory of muster's source"},
		{"a file wants a place in the ramdisk", []string{"build", "-o", "out", "--source", "../..", "--file", "x"}, `--file "x": want SRC:DST`},
		{"list reads one file", []string{"list", "a", "b"}, "want one FILE"},
		{"list says what is not a ramdisk", []string{"list", "ramdisk_test.go"}, `list ramdisk "ramdisk_test.go"`},
		{"list prints tables or JSON", []string{"list", "-o", "xml", tinyRamdisk(t)}, "want table or json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ramdiskRun(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v; want %q in it", err, tt.want)
			}
		})
	}
}

// What lies there is kept only if it is what its manifest says, and that of this build.
func TestRamdiskCurrent(t *testing.T) {
	dir := t.TempDir()
	p := ramdiskPathsOf(dir, true)
	ramdisk, err := os.ReadFile(tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := initramfs.List(bytes.NewReader(ramdisk))
	if err != nil {
		t.Fatal(err)
	}
	m.Key = "key"
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, content []byte) {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func()
		key  string
		want bool
	}{
		{"nothing there", func() {}, "key", false},
		{"a manifest alone", func() { put(p.manifest, manifest) }, "key", false},
		{"no kernel", func() { put(p.ramdisk, ramdisk) }, "key", false},
		{"all there", func() { put(p.vmlinuz, []byte("kernel")) }, "key", true},
		{"another build", func() {}, "other", false},
		{"a ramdisk cut short", func() { put(p.ramdisk, ramdisk[:40]) }, "key", false},
	}
	for _, step := range steps {
		step.do()
		if _, ok := p.current(step.key); ok != step.want {
			t.Errorf("%s: current is %v; want %v", step.name, ok, step.want)
		}
	}
}
