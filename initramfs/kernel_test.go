package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bootTree boots a kernel with a ramdisk, to which an init is added, and gives the lines the init has printed. It is for
// machines with QEMU where somebody set MUSTER_LAB, and has a kernel package in MUSTER_CACHE.
func bootTree(t *testing.T, ramdisk []byte) (lines []string, console string) {
	t.Helper()
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("MUSTER_LAB is not set")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("no QEMU here")
	}
	var debs []string
	for _, pattern := range []string{"linux-image-*.deb", "*/linux-image-*.deb"} {
		found, _ := filepath.Glob(filepath.Join(os.Getenv("MUSTER_CACHE"), pattern))
		debs = append(debs, found...)
	}
	if len(debs) == 0 {
		t.Skip("no linux-image-*.deb in MUSTER_CACHE")
	}
	dir := t.TempDir()
	vmlinuz, _, err := ExtractKernel(t.Context(), debs[:1], dir)
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", dir+"/init", "./testdata/statinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	init, err := os.ReadFile(dir + "/init")
	if err != nil {
		t.Fatal(err)
	}
	// The init comes first, so that a ramdisk that a kernel gives up on is looked at all the same.
	whole := newc("init", typeRegular|0o755, string(init)) + end + string(ramdisk)
	if err := os.WriteFile(dir+"/initrd", []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, qemu, "-name", "muster-cpio", "-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg", "-cpu", "max,la57=off", "-m", "512", "-no-reboot", "-serial", "stdio", "-kernel", vmlinuz,
		"-initrd", dir+"/initrd", "-append", "console=ttyS0 panic=-1 loglevel=6").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	console = strings.ReplaceAll(string(out), "\r", "")
	_, tree, begun := strings.Cut(console, "TREE BEGINS\n")
	tree, _, ended := strings.Cut(tree, "TREE ENDS <nil>")
	if !begun || !ended {
		t.Fatalf("init has not come to its end:\n%s", console)
	}
	for line := range strings.Lines(tree) {
		if strings.HasPrefix(line, `"`) { // else the kernel's own
			lines = append(lines, line)
		}
	}
	return lines, console
}

// statLines says of a rootfs what statinit would.
func statLines(m *Manifest) []string {
	var lines []string
	left := m.unpack()
	first := make(map[*inode]string)
	for called, n := range left.files() {
		if first[n.inode] == "" {
			first[n.inode] = called
		}
		e := left.entry(called, n)
		if e.kind() == typeDir {
			e.Size = 0
		}
		if e.kind() == typeLink {
			e.Size = uint32(len(e.Target))
		}
		lines = append(lines, fmt.Sprintf("%q %o %d %d %d %d:%d %d %q %q %s\n", called, e.Mode, e.UID, e.GID, e.Time, e.Major,
			e.Minor, e.Size, first[n.inode], e.Target, e.SHA256))
	}
	return lines
}

// without drops what the kernel and the test put there: /init, and the directories of usr/default_cpio_list.
func without(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if f := strings.Fields(line); f[0] != `"init"` && f[0] != `"dev"` && f[0] != `"dev/console"` && f[0] != `"root"` {
			f[4], f[6] = timeOf(f), sizeOf(f)
			kept = append(kept, strings.Join(f, " "))
		}
	}
	return kept
}

// timeOf is 0 where a directory has the time of the boot: madeUp makes times of 2001.
func timeOf(f []string) string {
	if sizeOf(f) == "0" && len(f[4]) == 10 && f[4] > "1000001000" {
		return "0"
	}
	return f[4]
}

// sizeOf leaves out that of a directory, which is a file system's own affair.
func sizeOf(f []string) string {
	if strings.HasPrefix(f[1], "4") && len(f[1]) == 5 {
		return "0"
	}
	return f[6]
}

// worlds makes up entries laid over each other: some hundred small trees that know nothing of one another. With stray,
// entries have content that can have none.
func worlds(r *rand.Rand, n, rounds int, stray bool) []byte {
	var archives []string
	for round := range rounds {
		var b strings.Builder
		for w := range n {
			if round == 0 {
				b.WriteString(newc(fmt.Sprintf("w%03d", w), typeDir|0o755, ""))
			}
			for range 1 + r.IntN(4) {
				b.WriteString(madeUp(r, w, stray))
			}
		}
		archives = append(archives, b.String()+end)
	}
	return []byte(strings.Join(archives, ""))
}

// madeUp is one entry of a world.
func madeUp(r *rand.Rand, world int, stray bool) string {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	name := fmt.Sprintf("w%03d/", world) + pick("a", "b", "c", "d", "d", "d/x", "d/y", "l", "l/x", "l/../b", "d/.", "e/x")
	kinds := []uint32{typeRegular, typeRegular, typeRegular, typeDir, typeDir, typeLink, typeLink, typeChar, typeBlock, typePipe, typeSocket, 0}
	kind := kinds[r.IntN(len(kinds))]
	content := ""
	switch {
	case kind == typeLink:
		content = pick("d", "a", "./d/", fmt.Sprintf("/w%03d/d", world), "..", "nowhere", "l")
	case kind == typeRegular || stray && r.IntN(10) == 0:
		content = pick("", "", "one", "other", "something longer")
	}
	links, major, minor := 1, 0, 0
	if r.IntN(3) == 0 {
		links = 2 + r.IntN(2)
	}
	if kind == typeChar || kind == typeBlock {
		major, minor = 1+r.IntN(3), r.IntN(300)
	}
	h := header{Entry: Entry{Name: name, Mode: kind | uint32(r.IntN(0o1000)) | uint32(r.IntN(8))<<9, UID: uint32(r.IntN(3)),
		GID: uint32(r.IntN(3)), Links: uint32(links), Ino: uint32(world*10 + r.IntN(2)), Time: uint32(1e9 + r.IntN(1000)),
		Size: uint32(len(content)), Major: uint32(major), Minor: uint32(minor)}}
	s := string(appendHeader(nil, h.Entry, r.IntN(2) == 0)) + content
	return s + strings.Repeat("\x00", -len(s)&3)
}

// Z7: what a kernel makes of entries laid over each other: last names win, and the exceptions; hard links; devices. The
// judge is a booted one. A compressed archive has no stray content: where the header of such an entry lies across two of
// the 32 KiB that gunzip gives at a time, do_header goes on in the state that waited for the header (it sets no next_state),
// and the rest of the archive is lost, "junk at the end of compressed archive". (So was seed 5.)
func TestKernelAgrees(t *testing.T) {
	seed := uint64(1)
	fmt.Sscan(os.Getenv("WORLDS_SEED"), &seed)
	plain := worlds(rand.New(rand.NewPCG(seed, 0)), 150, 2, true)
	packed := worlds(rand.New(rand.NewPCG(seed, 1)), 150, 2, false)
	ramdisk := append(plain, packGzip(t, string(packed))...)
	m, err := List(bytes.NewReader(ramdisk))
	if err != nil {
		t.Fatal(err)
	}
	theirs, console := bootTree(t, ramdisk)
	if strings.Contains(console, "unpacking failed") {
		t.Errorf("the kernel complains:\n%s", console)
	}
	if diff := cmp.Diff(without(theirs), without(statLines(m))); diff != "" {
		t.Errorf("seed %d: trees (-kernel +ours):\n%s", seed, diff)
	}
}
