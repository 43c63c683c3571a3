package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// entryOf writes an entry by hand with all its numbers.
func entryOf(e Entry, content string) string {
	e.Size = uint32(len(content))
	s := string(appendHeader(nil, e, false)) + content
	return s + strings.Repeat("\x00", -len(s)&3)
}

func link(ino, links uint32, name, content string) string {
	return entryOf(Entry{Name: name, Mode: typeRegular | 0o644, Ino: ino, Links: links}, content)
}

// foreign is a ramdisk with all that others put into theirs: microcode in front, owners, times, devices, links, a file
// over a file, an entry that gets lost, names that are no UTF-8, padding, capital letters, checksums.
func foreign(t testing.TB) []byte {
	early := dir("kernel") + dir("kernel/x86") + file("kernel/x86/microcode", "microcode") + end
	early += strings.Repeat("\x00", -len(early)&511)
	etc := entryOf(Entry{Name: "etc", Mode: typeDir | 0o751, UID: 0xab, GID: 0xcd, Ino: 0xefa, Links: 2, Time: 1e9}, "")
	upper := strings.ToUpper(etc[:headerSize]) + etc[headerSize:] +
		entryOf(Entry{Name: "etc/shadow", Mode: typeRegular | 0o600, UID: 10, GID: 42, Ino: 12, Links: 1, Time: 1e9 + 1}, "secret") +
		entryOf(Entry{Name: "su", Mode: typeRegular | 0o6755, Ino: 13, Links: 1, NameSize: 19}, "program") +
		entryOf(Entry{Name: "null", Mode: typeChar | 0o666, Ino: 14, Links: 1, Major: 1, Minor: 3}, "") +
		entryOf(Entry{Name: "pipe", Mode: typePipe | 0o600, Ino: 15, Links: 1}, "") +
		entryOf(Entry{Name: "socket", Mode: typeSocket | 0o600, Ino: 16, Links: 1}, "") +
		link(17, 3, "one", "") + link(17, 3, "two", "") + link(17, 3, "etc/three", "the same for all") +
		newc("lib", typeLink|0o777, "usr/lib\x00") + dir("usr") + dir("usr/lib") + file("lib/libc.so", "c") +
		file("replaced", "old") + file("nowhere/lost", "lost") + file("caf\xe9", "latin") + file("empty", "") +
		file("init", "#!/bin/sh\n") + end + zeros + file("replaced", "new") + end + zeros
	checked := crcEntry("sum", "\x01\x02\xff", 0x102) + crcEntry("etc/shadow", "other", 0x222) + end
	return []byte(align(early+packXZ(t, upper)) + checked + zeros + packZstd(t, dir("etc/conf.d")+end))
}

// unpacked unpacks a ramdisk to a new directory.
func unpacked(t testing.TB, ramdisk []byte) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "work")
	if _, err := Unpack(bytes.NewReader(ramdisk), to, false); err != nil {
		t.Fatal(err)
	}
	return to
}

func repacked(t testing.TB, from string, c Packing) ([]byte, []string) {
	t.Helper()
	var out bytes.Buffer
	notes, err := Repack(from, &out, c)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), notes
}

func listed(t testing.TB, ramdisk []byte) *Manifest {
	t.Helper()
	m, err := List(bytes.NewReader(ramdisk))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameArchives ignores what may differ when the same archives are compressed anew.
var sameArchives = cmp.Options{
	cmpopts.IgnoreFields(Manifest{}, "SHA256", "Total"),
	cmpopts.IgnoreFields(Segment{}, "Offset", "Size", "Padding"),
}

// Every number of every header, every byte of content, and the places in the segments are the same.
func TestRepackOfTheUntouchedKeepsAll(t *testing.T) {
	ramdisk := foreign(t)
	work := unpacked(t, ramdisk)
	again, notes := repacked(t, work, Packing{})
	if len(notes) > 0 {
		t.Errorf("changes: %q", notes)
	}
	if diff := cmp.Diff(listed(t, ramdisk), listed(t, again), sameArchives); diff != "" {
		t.Errorf("manifests (-before +after):\n%s", diff)
	}
	if !bytes.HasPrefix(again, ramdisk[:512]) {
		t.Error("the microcode in front is not as it was")
	}
}

// What is on disk is what a kernel finds, as far as a user can have it.
func TestUnpackMakesTheTree(t *testing.T) {
	work := unpacked(t, foreign(t))
	for name, want := range map[string]string{
		"etc/shadow": "other", "replaced": "new", "one": "the same for all", "etc/three": "the same for all",
		"usr/lib/libc.so": "c", "lib/libc.so": "c", "caf\xe9": "latin", "empty": "", "kernel/x86/microcode": "microcode",
	} {
		if got, err := os.ReadFile(filepath.Join(work, "tree", name)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"null", "pipe", "socket", "nowhere"} {
		if _, err := os.Lstat(filepath.Join(work, "tree", name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v; want nothing there", name, err)
		}
	}
	one, _ := os.Stat(work + "/tree/one")
	three, _ := os.Stat(work + "/tree/etc/three")
	if !os.SameFile(one, three) {
		t.Error("links of one file are two files")
	}
	if info, err := os.Stat(work + "/tree/su"); err != nil || info.Mode() != 0o755 {
		t.Errorf("su is %v, %v; want no set-user-ID bit on disk", info.Mode(), err)
	}
}

// do wants steps to have succeeded.
func do(t *testing.T, steps ...error) {
	t.Helper()
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
}

func TestRepackTakesOverWhatChanged(t *testing.T) {
	work := unpacked(t, foreign(t))
	tree := func(name string) string { return filepath.Join(work, "tree", name) }
	write := func(name, content string) error { return os.WriteFile(tree(name), []byte(content), 0o644) }
	do(t,
		write("etc/shadow", "changed"), // keeps its owner
		os.Remove(tree("empty")),
		os.Remove(tree("replaced")),                     // of two entries; neither may come to light
		os.RemoveAll(tree("kernel")),                    // all of a segment
		os.Remove(tree("etc/three")),                    // held the content of three links
		os.Remove(tree("two")), write("two", "another"), // leaves its file, as with an editor that renames
		os.Chmod(tree("su"), 0o700),
		os.Mkdir(tree("opt"), 0o750), write("opt/new", "new"),
		os.Symlink("opt/new", tree("lnk")),
		os.Remove(tree("init")), os.Mkdir(tree("init"), 0o755), // another type
	)
	got, notes := repacked(t, work, Packing{Compress: "gzip"})
	want := []string{
		"removed empty", "removed etc/three", "removed init", "removed kernel", "removed replaced",
		"changed etc/shadow: content", "changed two: content", "changed su: permissions 0700, not 0755",
		"added init", "added lnk", "added opt", "added opt/new",
	}
	if diff := cmp.Diff(want, notes, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	var lines []string
	m := listed(t, got)
	for called, e := range m.finals() {
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %d %d %s", called, e.Mode, e.UID, e.GID, e.Time, e.Size, e.Target))
	}
	want = strings.Split(strings.TrimSpace(`
caf`+"\xe9"+` 100644 0:0 315532800 5 
etc 40751 171:205 1000000000 0 
etc/conf.d 40755 0:0 315532800 0 
etc/shadow 100644 0:0 315532800 7 
init 40755 0:0 315532800 0 
lib 120777 0:0 315532800 0 usr/lib
lnk 120777 0:0 315532800 0 opt/new
null 20666 0:0 0 0 
one 100644 0:0 0 16 
opt 40750 0:0 315532800 0 
opt/new 100644 0:0 315532800 3 
pipe 10600 0:0 0 0 
socket 140600 0:0 0 0 
su 106700 0:0 0 7 
sum 100644 0:0 315532800 3 
two 100644 0:0 315532800 7 
usr 40755 0:0 315532800 0 
usr/lib 40755 0:0 315532800 0 
usr/lib/libc.so 100644 0:0 315532800 1 `), "\n")
	for i, line := range want {
		want[i] = strings.TrimSuffix(line, "\n")
	}
	trim := cmp.Transformer("trim", strings.TrimSpace)
	if diff := cmp.Diff(want, lines, cmpopts.SortSlices(strings.Compare), trim); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if e, ok := m.Lookup("one"); !ok || e.Links != 1 {
		t.Errorf("one, the last of three links, says %d", e.Links)
	}
	for i, s := range m.Segments {
		if want := []string{"none", "gzip", "gzip", "gzip"}[i]; s.Format != want {
			t.Errorf("segment %d is %s; want %s", i, s.Format, want)
		}
	}
}

// GNU cpio fills blocks of 512; what follows stays at the start of one when a file grows.
func TestRepackKeepsBlocks(t *testing.T) {
	first := file("a", "one") + end
	first += strings.Repeat("\x00", -len(first)&511)
	work := unpacked(t, []byte(first+packGzip(t, file("b", "two")+end)))
	do(t, os.WriteFile(work+"/tree/a", bytes.Repeat([]byte("longer"), 200), 0o644))
	got, _ := repacked(t, work, Packing{})
	if m := listed(t, got); m.Segments[1].Offset != 1536 {
		t.Errorf("the second segment is at %d; want 1536", m.Segments[1].Offset)
	}
}

func TestUnpackKeepsWhatIsThere(t *testing.T) {
	ramdisk := bytes.NewReader([]byte(file("a", "one") + end))
	full := t.TempDir()
	do(t, os.WriteFile(full+"/precious", nil, 0o644))
	for _, force := range []bool{false, true} {
		if _, err := Unpack(ramdisk, full, force); err == nil {
			t.Errorf("force %v: a directory of something else was taken", force)
		}
	}
	work := unpacked(t, []byte(file("b", "two")+end))
	if _, err := Unpack(ramdisk, work, false); err == nil {
		t.Error("an unpacked ramdisk was replaced unasked")
	}
	if _, err := Unpack(ramdisk, work, true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(work + "/tree/b"); err == nil {
		t.Error("b of the ramdisk before is still there")
	}
	left, err := filepath.Glob(filepath.Dir(work) + "/.ramdisk-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// judges list a ramdisk. Theirs is what counts: what they say before and after must be equal.
var judges = [][]string{
	{"sh", "-c", `case $(head -c6 "$0") in 07070*) cpio --quiet -itvn <"$0";; esac`},
	{"lsinitramfs", "-l"},
	{"lsinitrd"},
	{"bsdcpio", "-itvn", "-F"},
}

// Ramdisks that others made, of a directory: Debian's own, its installer's, dracut's.
func TestForeignRamdisks(t *testing.T) {
	var images []string
	for _, pattern := range []string{"*.img", "*.gz"} {
		found, _ := filepath.Glob(filepath.Join(os.Getenv("MUSTER_RAMDISKS"), pattern))
		images = append(images, found...)
	}
	if os.Getenv("MUSTER_RAMDISKS") == "" || len(images) == 0 {
		t.Skip("no ramdisks in MUSTER_RAMDISKS")
	}
	for _, image := range images {
		t.Run(filepath.Base(image), func(t *testing.T) {
			ramdisk, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			again, notes := repacked(t, unpacked(t, ramdisk), Packing{})
			if len(notes) > 0 {
				t.Errorf("changes: %q", notes)
			}
			if diff := cmp.Diff(listed(t, ramdisk), listed(t, again), sameArchives); diff != "" {
				t.Errorf("manifests (-before +after):\n%s", diff)
			}
			for _, judge := range judges {
				judged(t, judge, ramdisk, again)
			}
		})
	}
}

// judged runs one judge on both.
func judged(t *testing.T, judge []string, before, after []byte) {
	program, err := exec.LookPath(judge[0])
	if err != nil {
		t.Logf("no %s here", judge[0])
		return
	}
	var said [2][]byte
	name := filepath.Join(t.TempDir(), "initrd") // the same for both: some judges say it
	for i, ramdisk := range [][]byte{before, after} {
		do(t, os.WriteFile(name, ramdisk, 0o644))
		said[i], err = exec.Command(program, append(judge[1:], name)...).Output()
		if err != nil && judge[0] != "bsdcpio" { // which stops at the end of the first segment
			t.Errorf("%s: %v", judge[0], err)
		}
	}
	t.Logf("%s: %d lines", judge[0], bytes.Count(said[0], []byte("\n")))
	a, b := withoutSize(said[0]), withoutSize(said[1])
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("%s (-before +after):\n%s", judge[0], diff)
	}
}

// withoutSize drops lsinitrd's line about the file, which has its size in it.
func withoutSize(said []byte) []string {
	var lines []string
	for line := range strings.Lines(string(said)) {
		if !strings.HasPrefix(line, "Image: ") {
			lines = append(lines, line)
		}
	}
	return lines
}
