package initramfs

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// said runs a program on bytes; of one that does not come to an end nothing is compared.
func said(t *testing.T, in []byte, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		t.Skipf("%q: %v", words, ctx.Err())
	}
	return out, err
}

// Z7: GNU cpio names the same entries of the first archive in everything that both take. What cpio takes and we refuse,
// a kernel refuses too, or it is a limit.
func FuzzAgreesWithCpio(f *testing.F) {
	if _, err := exec.LookPath("cpio"); err != nil {
		f.Skip("no cpio here")
	}
	f.Add([]byte(dir("a") + file("a/b", "one") + symlink("c", "a") + end))
	f.Add([]byte(crcEntry("a", "abc", 0x126) + end))
	f.Add([]byte(link(1, 2, "a", "") + link(1, 2, "b", "two") + end + zeros + file("c", "") + end))
	f.Add([]byte(entryOf(Entry{Name: "su", Mode: typeRegular | 0o6755, Links: 1, NameSize: 19}, "program") + end))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 6 || string(b[:5]) != "07070" {
			return
		}
		m, err := List(bytes.NewReader(b))
		if err != nil {
			return
		}
		out, err := said(t, b, "cpio", "--quiet", "-it", "--null")
		if err != nil {
			return
		}
		var ours []string
		for _, e := range m.Entries {
			if e.Archive == 0 && e.Name == "" { // as cpio says it
				ours = append(ours, ".")
			} else if e.Archive == 0 {
				ours = append(ours, e.Name)
			}
		}
		theirs := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if len(out) == 0 {
			theirs = nil
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("names (-cpio +ours):\n%s", diff)
		}
	})
}

// Z8: what we unpack, the program that belongs to the compression unpacks to the same bytes.
func FuzzAgreesWithThePrograms(f *testing.F) {
	programs := map[string][]string{
		"gzip": {"gzip", "-dc"}, "zstd": {"zstd", "-dc", "--memory=64MB"}, "xz": {"xz", "-dc", "--single-stream"},
		"bzip2": {"bzip2", "-dc"}, "lzma": {"xz", "-dc", "--format=lzma"},
	}
	for _, s := range []string{packGzip(f, "text"), packZstd(f, "text"), packXZ(f, "text"), "BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newCursor(bytes.NewReader(b))
		c, ok := detect(r.Reader)
		if !ok || programs[c.name] == nil {
			return
		}
		z, err := c.decompressor(r.Reader)
		if err != nil {
			return
		}
		defer z.Close()
		const most = 4 << 20
		ours, err := io.ReadAll(io.LimitReader(z, most))
		if err != nil || len(ours) == most {
			return
		}
		if _, err := exec.LookPath(programs[c.name][0]); err != nil {
			return
		}
		member := b[:r.pos()]
		theirs, err := said(t, member, programs[c.name]...)
		if err != nil {
			t.Errorf("%s refuses what we take: %v: % x", c.name, err, member)
		} else if !bytes.Equal(ours, theirs) {
			t.Errorf("%s unpacks to %d other bytes than our %d", c.name, len(theirs), len(ours))
		}
	})
}

// Z7: what is read can be unpacked and packed again, and is then read as the same; or it is refused.
func FuzzRepack(f *testing.F) {
	f.Add(foreign(f))
	f.Add([]byte(link(1, 2, "a", "") + link(1, 2, "b", "two") + end + zeros + file("a", "") + end))
	for _, h := range hostile(f) {
		f.Add([]byte(h.file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := List(bytes.NewReader(b))
		if err != nil {
			return
		}
		work := t.TempDir() + "/work"
		if _, err := Unpack(bytes.NewReader(b), work, false); err != nil {
			return
		}
		var out bytes.Buffer
		notes, err := Repack(work, &out, Packing{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := List(bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Segments { // what is not written is gzip now
			if _, err := compressionNamed(m.Segments[i].Format); err != nil {
				m.Segments[i].Format, m.Format, notes = again.Segments[i].Format, again.Format, nil
			}
		}
		if diff := cmp.Diff(m, again, sameArchives); diff != "" || len(notes) > 0 {
			t.Errorf("changes %q (-before +after):\n%s", notes, diff)
		}
	})
}
