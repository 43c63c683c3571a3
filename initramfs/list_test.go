package initramfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"
	"github.com/ulikunitz/xz"
)

// newc writes one entry by hand, so that the reader is not judged by the writer it ships with.
func newc(name string, mode uint32, content string) string {
	return newcSaying(name, mode, content, uint32(len(name)+1), uint32(len(content)))
}

// newcSaying is newc whose header lies about the sizes.
func newcSaying(name string, mode uint32, content string, nameSize, size uint32) string {
	h := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		7, mode, 0, 0, 1, 315532800, size, 8, 1, 0, 0, nameSize, 0)
	b := h + name + "\x00"
	b += strings.Repeat("\x00", -len(b)&3)
	return b + content + strings.Repeat("\x00", -len(content)&3)
}

// crcEntry is an entry of the format whose headers hold the sum of all bytes.
func crcEntry(name, content string, check uint32) string {
	b := []byte(newc(name, typeRegular|0o644, content))
	copy(b, "070702")
	copy(b[102:], fmt.Sprintf("%08x", check))
	return string(b)
}

func file(name, content string) string { return newc(name, typeRegular|0o644, content) }

func dir(name string) string { return newc(name, typeDir|0o755, "") }

const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00"

// align pads to where a kernel looks for a plain archive.
func align(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }

var end = newc(trailer, 0, "")

func packGzip(t testing.TB, s string) string {
	return packed(t, s, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func packZstd(t testing.TB, s string) string {
	return packed(t, s, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
}

func packXZ(t testing.TB, s string) string {
	return packed(t, s, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
}

func packed(t testing.TB, s string, open func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	var b bytes.Buffer
	w, err := open(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestList(t *testing.T) {
	a, b, c := file("a", "one")+end, file("b", "two")+end, file("c", "three")+end
	tests := []struct {
		name     string
		file     string
		want     []string
		format   string
		archives int
	}{
		{"a plain archive", a, []string{"a"}, "none", 1},
		{"a gzip file", packGzip(t, a), []string{"a"}, "gzip", 1},
		{"a zstd file", packZstd(t, a), []string{"a"}, "zstd", 1},
		{"an xz file", packXZ(t, a), []string{"a"}, "xz", 1},
		{"microcode first, then a compressed archive", a + zeros + packGzip(t, b), []string{"a", "b"}, "gzip", 2},
		{"an overlay appended to a gzip file", packGzip(t, a) + packGzip(t, b), []string{"a", "b"}, "gzip", 2},
		{"an overlay after padding", packGzip(t, a) + zeros + packXZ(t, b) + zeros, []string{"a", "b"}, "xz", 2},
		{"each compression once", packZstd(t, a) + packXZ(t, b) + zeros + packZstd(t, c) + packGzip(t, a),
			[]string{"a", "b", "c", "a"}, "gzip", 4},
		{"two archives inside one member", packGzip(t, a+zeros+b), []string{"a", "b"}, "gzip", 2},
		{"a checked archive", crcEntry("a", "\x01\x02\xff", 0x102) + end, []string{"a"}, "none", 1},
		{"a large zstd frame of several blocks", align(packZstd(t, file("a", strings.Repeat("0123456789", 1<<16))+end)) + b,
			[]string{"a", "b"}, "zstd", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := List(strings.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range m.Entries {
				names = append(names, e.Name)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			if m.Format != tt.format || m.Archives != tt.archives {
				t.Errorf("got %d archives, the last %s; want %d, %s", m.Archives, m.Format, tt.archives, tt.format)
			}
			if sum := sha256.Sum256([]byte(tt.file)); m.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("sha256 %s is not that of the file", m.SHA256)
			}
			if m.Total.Gzip != int64(len(tt.file)) {
				t.Errorf("size %d; want %d", m.Total.Gzip, len(tt.file))
			}
		})
	}
}

// T37, Z7: what a hostile file asks for is refused before memory is spent on it.
func TestListRefuses(t *testing.T) {
	tests := []struct {
		name string
		file string
		want error
	}{
		{"nothing at all", "", ErrFormat},
		{"only padding", zeros, ErrFormat},
		{"some text", "hello, this is no ramdisk", ErrFormat},
		{"an old cpio format", "070707" + strings.Repeat("0", 200), ErrFormat},
		{"an archive cut in a header", file("a", "x")[:50], ErrFormat},
		{"an archive cut in a name", file("abcdefgh", "x")[:112], ErrFormat},
		{"an archive cut in a file", file("a", "content")[:115], ErrFormat},
		{"an archive without trailer", file("a", "x"), ErrFormat},
		{"a name of 4 GB", newcSaying("a", typeRegular, "", 0xffffffff, 0), ErrFormat},
		{"a name without room for its end", newcSaying("a", typeRegular, "", 0, 0), ErrFormat},
		{"a name longer than it says", newcSaying("abc", typeRegular, "", 2, 0), ErrFormat},
		{"a zero inside a name", newcSaying("a\x00b", typeRegular, "", 4, 0), ErrFormat},
		{"a file of 4 GB that is not there", newcSaying("a", typeRegular, "", 2, 0xffffffff), errLimit},
		{"a link to a target of 1 MB", newc("a", typeLink, strings.Repeat("x", 1<<20)) + end, ErrFormat},
		{"a number that is none", strings.Replace(file("a", ""), "00000007", "0000-007", 1) + end, ErrFormat},
		{"a wrong checksum", crcEntry("a", "abc", 1) + end, ErrFormat},
		{"a broken gzip member", packGzip(t, file("a", "x")+end)[:60], nil},
		{"a gzip member in a gzip member", packGzip(t, packGzip(t, file("a", "x")+end)), ErrFormat},
		{"a compression that is not read", "\x89LZO" + zeros, ErrFormat},
		{"more archives than anybody needs", strings.Repeat(end, maxArchive+1), errLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := List(strings.NewReader(tt.file))
			if err == nil {
				t.Fatalf("got %d entries; want an error", len(m.Entries))
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %q is not %q", err, tt.want)
			}
		})
	}
}

// A repeater is a text over and over, as long as asked.
type repeater struct {
	text string
	left int64
	off  int
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.text[r.off:])
	r.off = (r.off + n) % len(r.text)
	r.left -= int64(n)
	return n, nil
}

// T37: endless entries end at the limit.
func TestListCountsEntries(t *testing.T) {
	many := &repeater{text: file("a", ""), left: 1e7 * int64(len(file("a", "")))}
	if _, err := List(many); !errors.Is(err, errLimit) {
		t.Errorf("10^7 entries: error is %v; want one of limits", err)
	}
	if read := 1e7*int64(len(many.text)) - many.left; read > 2*maxEntries*int64(len(many.text)) {
		t.Errorf("read %d bytes before giving up", read)
	}
}

// T37: a bomb that unpacks to more than any machine holds. The file is 20 MB, the limit is met without storing it.
func TestListBoundsUnpacking(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks 4 GB")
	}
	bomb, w := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, err := io.Copy(z, &repeater{text: strings.Repeat("\x00", 1<<16), left: 10 << 30})
		w.CloseWithError(err)
	}()
	defer bomb.Close()
	if _, err := List(bomb); !errors.Is(err, errLimit) {
		t.Errorf("10 GB of zeros: error is %v; want one of limits", err)
	}
}

func TestLastNameWins(t *testing.T) {
	m, err := List(strings.NewReader(dir("etc") + file("etc/motd", "old") + end + packGzip(t, file("./etc/motd", "newer")+end)))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := m.Lookup("/etc/motd")
	if !ok || e.Size != 5 || e.Archive != 1 || e.Replaced || !m.Entries[1].Replaced {
		t.Errorf("Lookup = %+v, %v; entries %+v", e, ok, m.Entries)
	}
}

func TestListTellsModulesFromUserland(t *testing.T) {
	m, err := Measure(strings.NewReader(dir("bbin") + file("bbin/bb", "program") + dir("lib") +
		dir("lib/modules") + dir("lib/modules/6.1.0-56-amd64") + file("lib/modules/6.1.0-56-amd64/virtio-rng.ko", "elf") + file("lib/modules/6.1.0-56-amd64/modules.dep", "") +
		file("lib/modulesque", "") + end))
	if err != nil {
		t.Fatal(err)
	}
	if m.Kernel != "6.1.0-56-amd64" || len(m.Modules) != 1 || m.Modules[0] != "virtio_rng" {
		t.Errorf("modules %q of kernel %q", m.Modules, m.Kernel)
	}
	if m.Userland.Files != 2 || m.Drivers.Files != 2 || m.Userland.Gzip == 0 || m.Drivers.Gzip == 0 {
		t.Errorf("userland %+v, drivers %+v", m.Userland, m.Drivers)
	}
}

// Z7: u-root's reader sees the same in every archive that both accept.
func TestListAgreesWithURoot(t *testing.T) {
	archive := newc("dev", typeDir|0o755, "") + newc("init", typeLink|0o777, "bbin/init") +
		file("etc/hosts", "127.0.0.1 localhost\n") + file("empty", "") + end
	m, err := List(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(strings.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var theirs []Entry
	for _, r := range records {
		theirs = append(theirs, Entry{Name: r.Name, Mode: uint32(r.Mode), Links: uint32(r.NLink), Ino: uint32(r.Ino),
			Time: uint32(r.MTime), Size: uint32(r.FileSize), DevMajor: uint32(r.Major), DevMinor: uint32(r.Minor)})
	}
	if diff := cmp.Diff(theirs, m.Entries, cmpopts.IgnoreFields(Entry{}, "SHA256", "Target", "Offset", "Replaced", "Lost")); diff != "" {
		t.Errorf("entries (-u-root +ours):\n%s", diff)
	}
}

// Z7, S34: GNU cpio lists the same modes, sizes and names in a tree it packed itself.
func TestListAgreesWithGNUCpio(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio here")
	}
	dir := t.TempDir()
	for _, step := range []error{
		os.MkdirAll(dir+"/tree/etc/empty", 0o755),
		os.WriteFile(dir+"/tree/etc/text", []byte("some text\n"), 0o640),
		os.WriteFile(dir+"/tree/run", bytes.Repeat([]byte("x"), 70001), 0o755),
		os.Symlink("etc/text", dir+"/tree/link"),
		os.Link(dir+"/tree/run", dir+"/tree/walk"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	for _, format := range []string{"newc", "crc"} {
		pack := exec.Command("sh", "-c", "find . | sort | "+program+" --quiet -o -H "+format+" > ../packed")
		pack.Dir = dir + "/tree"
		if out, err := pack.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		packed, err := os.ReadFile(dir + "/packed")
		if err != nil {
			t.Fatal(err)
		}
		m, err := List(bytes.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if diff := cmp.Diff(gnuNames(t, packed), namesIn(m)); diff != "" {
			t.Errorf("%s (-cpio +ours):\n%s", format, diff)
		}
	}
}

// gnuNames is what cpio says: type and permissions, size of files, name, target of links.
func gnuNames(t *testing.T, archive []byte) []string {
	t.Helper()
	list := exec.Command("cpio", "--quiet", "-itvn")
	list.Stdin = bytes.NewReader(archive)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // -rw-r----- 1 0 0 10 Nov 22 23:07 ./etc/text
		names = append(names, strings.Join(append([]string{f[0], f[4]}, f[8:]...), " "))
	}
	return names
}

// namesIn says the same of a manifest.
func namesIn(m *Manifest) []string {
	kinds := map[uint32]string{typeDir: "d", typeRegular: "-", typeLink: "l"}
	var names []string
	for _, e := range m.Entries {
		line := fmt.Sprintf("%s%s %d %s", kinds[e.Mode&typeMask], permissions(e.Mode), e.Size, e.Name)
		if e.Target != "" {
			line += " -> " + e.Target
		}
		names = append(names, line)
	}
	return names
}

func permissions(mode uint32) string {
	var b strings.Builder
	for i, letter := range "rwxrwxrwx" {
		if mode>>(8-i)&1 == 0 {
			letter = '-'
		}
		b.WriteRune(letter)
	}
	return b.String()
}

// Z7, Z8. A crash, a hang or memory without bound is a failure; so is an archive that reads differently the second
// time.
func FuzzList(f *testing.F) {
	f.Add([]byte(file("a", "one") + end))
	f.Add([]byte(file("a", "one") + end + zeros + packGzip(f, file("b", "two")+end)))
	f.Add([]byte(packXZ(f, file("a", "one")+end) + packZstd(f, file("b", "two")+end)))
	f.Add([]byte(crcEntry("a", "abc", 0x126) + end))
	f.Add([]byte(newcSaying("a", typeRegular, "", 0xffffffff, 0xffffffff)))
	f.Add([]byte(newc("init", typeLink, "bbin/init")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := List(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := List(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("read once, then: %v", err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("read twice:\n%s", diff)
		}
	})
}
