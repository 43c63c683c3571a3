package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/initramfs"
)

// status runs the whole program and gives its exit status and what it said.
func status(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(context.Background(), append([]string{"ramdisk"}, args...), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

// wantStatus also wants words in what was said.
func wantStatus(t *testing.T, want int, words string, args ...string) {
	t.Helper()
	code, out, errOut := status(t, args...)
	if code != want || !strings.Contains(out+errOut, words) {
		t.Errorf("muster ramdisk %q: status %d; want %d, and %q in:\n%s%s", args, code, want, words, out, errOut)
	}
}

// One ramdisk, opened, changed, compared and put back.
func TestRamdiskIsOpenedAndChanged(t *testing.T) {
	image := tinyRamdisk(t)
	dir := t.TempDir()
	work, again, manifest := filepath.Join(dir, "work"), filepath.Join(dir, "again"), filepath.Join(dir, "manifest.json")
	motd := filepath.Join(dir, "motd")
	if err := os.WriteFile(motd, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, listed, _ := status(t, "list", "-o", "json", image)
	if err := os.WriteFile(manifest, []byte(listed), 0o644); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, 0, "2 segments", "unpack", image, "-C", work)
	wantStatus(t, 1, "name another, or force", "unpack", image, "-C", work)
	wantStatus(t, 0, "changes: 0", "repack", work, "-o", again)
	wantStatus(t, 0, "", "diff", image, again)
	wantStatus(t, 0, "0 errors", "check", again)
	wantStatus(t, 0, "added etc/motd", "add", again, motd+":/etc/motd")
	wantStatus(t, 1, "added etc/motd: file of 6 bytes", "diff", image, again)
	wantStatus(t, 1, "should be ", "check", again, "--manifest", manifest)
	wantStatus(t, 0, "removed etc/motd", "remove", again, "etc")
	wantStatus(t, 0, "", "diff", image, again)
	wantStatus(t, 0, `"added etc/motd"`, "add", again, "--append", "--compress", "xz", "-o", "json", motd+":etc/motd")
	wantStatus(t, 0, "segment 2: xz, bytes ", "list", "--long", again)
	wantStatus(t, 0, "0 errors", "check", image, "--manifest", manifest)
	left, err := filepath.Glob(filepath.Join(dir, ".ramdisk-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// What fails leaves the ramdisk as it was.
func TestRamdiskChangeIsWholeOrNothing(t *testing.T) {
	image := tinyRamdisk(t)
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"add", image, "/nowhere:/x"}, {"add", image, image + ":../x"}, {"remove", image, "nothing"}, {"repack", t.TempDir(), "-o", image},
	} {
		wantStatus(t, 1, "muster: ", args...)
	}
	if after, err := os.ReadFile(image); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the ramdisk changed: %v", err)
	}
	wantStatus(t, 2, "say where to", "unpack", image)
	wantStatus(t, 2, "is for --append", "add", image, "a:b", "--compress", "xz")
	wantStatus(t, 2, "compare ramdisks", "diff", image, "/dev/null")
	wantStatus(t, 1, "is not written here", "add", image, image+":x", "--append", "--compress", "lzop")
}

func TestRamdiskCheckSaysWhatIsWrong(t *testing.T) {
	image := tinyRamdisk(t)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, append(b, "junk"...), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, _ := status(t, "check", "-o", "json", image)
	var got struct{ Problems []initramfs.Problem }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 {
		t.Fatalf("status %d, %v: %s", code, err, out)
	}
	if len(got.Problems) != 1 || !got.Problems[0].Error || !strings.Contains(got.Problems[0].Text, "of the file") {
		t.Errorf("problems %+v", got.Problems)
	}
}
