package initramfs

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffSaysInWords(t *testing.T) {
	old := dir("etc") + file("etc/motd", "hello") + file("etc/gone", "x") + file("same", "x") + symlink("sh", "dash") +
		newc("tty", typeChar|0o600, "") + file("run", "program") + dir("kind") +
		dir("lib") + dir("lib/modules") + dir("lib/modules/6.1.0-1") + file("lib/modules/6.1.0-1/a.ko", "a") +
		file("lib/modules/6.1.0-1/b.ko", "b") + end
	fresh := dir("etc") + file("etc/motd", "HELLO") + entryOf(Entry{Name: "same", Mode: typeRegular | 0o644, Links: 1, Time: 1}, "x") +
		symlink("sh", "bash") + entryOf(Entry{Name: "tty", Mode: typeChar | 0o600, Links: 1, Time: 315532800, Major: 5}, "") +
		entryOf(Entry{Name: "run", Mode: typeRegular | 0o4755, UID: 1, GID: 2, Links: 1}, "programs") + file("kind", "") +
		dir("lib") + dir("lib/modules") + dir("lib/modules/6.1.0-2") + file("lib/modules/6.1.0-2/a.ko", "a") +
		file("lib/modules/6.1.0-2/b.ko", "bb") + file("new", "new") + end
	var got []string
	for _, d := range Diff(listed(t, []byte(old)), listed(t, []byte(packXZ(t, fresh)))) {
		got = append(got, fmt.Sprint(d))
	}
	want := []string{
		"changed: kernel of the modules 6.1.0-2, was 6.1.0-1",
		"removed etc/gone: file of 1 bytes",
		"changed etc/motd: content differs, as many bytes (sha256 3733cd977ff8, was 2cf24dba5fb0)",
		"changed kind: file of 0 bytes, was a directory",
		"changed lib/modules/6.1.0-2/b.ko: 2 bytes, was 1",
		"added new: file of 3 bytes",
		"changed run: 8 bytes, was 7; permissions 4755, was 0644; owner 1:2, was 0:0",
		"changed same: time",
		`changed sh: links to "bash", was "dash"`,
		"changed tty: device 5:0, was 0:0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// How a ramdisk is packed is no difference.
func TestDiffLooksThroughPacking(t *testing.T) {
	a, b := file("a", "one")+file("b", "two")+end, file("b", "old")+end+zeros+file("b", "two")+file("a", "one")+end
	found, err := DiffImages(strings.NewReader(a), strings.NewReader(packZstd(t, b)))
	if err != nil || len(found) > 0 {
		t.Errorf("differences %v, %v; want none", found, err)
	}
}

func TestDiffTellsVersions(t *testing.T) {
	module := func(version string) string {
		return string(elfModule("license=GPL", "version="+version, "vermagic=6.1.0-56-amd64 SMP"))
	}
	ramdisk := func(version string) *bytes.Reader {
		return bytes.NewReader([]byte(file("igb.ko.xz", packXZ(t, module(version))) + file("e1000e.ko", module(version)) + end))
	}
	found, err := DiffImages(ramdisk("5.1"), ramdisk("5.22"))
	if err != nil || len(found) != 2 {
		t.Fatalf("differences %v, %v; want 2", found, err)
	}
	for _, d := range found {
		if s := d.String(); !strings.Contains(s, "version 5.22, vermagic 6.1.0-56-amd64, was version 5.1, vermagic") {
			t.Errorf("%s lacks the versions", s)
		}
	}
}

func TestCheckWarns(t *testing.T) {
	modules := "lib/modules/6.1/"
	tests := []struct {
		name, file, want string
	}{
		{"a duplicate", file("a", "x") + file("./a", "y") + file("init", "") + end, `warning: segment 0, entry "a" at byte 0: a later entry takes its place: segment 0, entry "./a" at byte 116`},
		{"a directory over a link", symlink("lib", "usr/lib") + end + packGzip(t, dir("lib")+end), `entry "lib" at byte 0: a directory takes its place: segment 1`},
		{"a file without its directory", file("a/b", "x") + end, `entry "a/b" at byte 0: a kernel makes nothing of it: there is no directory "a"`},
		{"no init", file("a", "x") + end, `there is no "init"`},
		{"an init that leads nowhere", symlink("init", "bin/sh") + end, `there is no "init"`},
		{"an init that nobody may execute", file("init", "x") + end, `"init" is not a program`},
		{"a module that is needed", dir("lib") + dir("lib/modules") + dir("lib/modules/6.1") + file(modules+"a.ko", "") +
			file(modules+"modules.dep", "a.ko: b.ko\nc.ko: d.ko\n") + end, `a.ko needs b.ko, which is not packed`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := Check(strings.NewReader(tt.file))
			said := fmt.Sprint(problems)
			if !strings.Contains(said, tt.want) || strings.Contains(said, "error") || strings.Contains(said, "d.ko") {
				t.Errorf("problems %v; want %q", said, tt.want)
			}
		})
	}
	sound := newc("init", typeRegular|0o755, "#!/bin/sh") + end
	if _, problems := Check(strings.NewReader(sound)); len(problems) > 0 {
		t.Errorf("problems of a sound ramdisk: %v", problems)
	}
}
