package probe

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"
)

// plant builds the tree of a machine from a text, a line each:
//
//	FILE = text          with \n and \t
//	FILE # hexadecimal
//	FILE ~ base64
//	LINK -> target
//	// a remark
func plant(t testing.TB, text string) string {
	t.Helper()
	root := t.TempDir()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line = strings.TrimLeft(line, "\t"); line == "" || strings.HasPrefix(line, "//") {
			continue
		}
		plantLine(t, root, line)
	}
	return root
}

func plantLine(t testing.TB, root, line string) {
	t.Helper()
	name, rest, ok := strings.Cut(line, " ")
	op, value, _ := strings.Cut(rest, " ")
	if !ok || !strings.HasPrefix(name, "/") {
		t.Fatalf("plant %q: want FILE OP VALUE", line)
	}
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	var b []byte
	var err error
	switch op {
	case "->":
		if err := os.Symlink(value, file); err != nil {
			t.Fatal(err)
		}
		return
	case "=":
		b = []byte(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(value) + "\n")
	case "#":
		b, err = hex.DecodeString(strings.ReplaceAll(value, " ", ""))
	case "~":
		b, err = base64.StdEncoding.DecodeString(value)
	default:
		t.Fatalf("plant %q: unknown operator %q", line, op)
	}
	if err != nil {
		t.Fatalf("plant %q: %v", line, err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// An image is a disk of size bytes with something at some offsets; where two overlap, the one that begins later wins.
type image struct {
	size int64
	at   map[int64]string
}

func newImage(size int64) image { return image{size, map[int64]string{}} }

// part gives offsets from the start of a partition.
func (m image) part(start int64, at map[int64]string) {
	for offset, s := range at {
		m.at[start+offset] = s
	}
}

// write puts the image at /dev/NAME of a tree, as a sparse file.
func (m image) write(t testing.TB, root, name string) {
	t.Helper()
	file := filepath.Join(root, "dev", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(m.size); err != nil {
		t.Fatal(err)
	}
	for _, offset := range slices.Sorted(maps.Keys(m.at)) {
		if _, err := f.WriteAt([]byte(m.at[offset]), offset); err != nil {
			t.Fatal(err)
		}
	}
}

// bytes is the image in memory.
func (m image) bytes() []byte {
	b := make([]byte, m.size)
	for _, offset := range slices.Sorted(maps.Keys(m.at)) {
		copy(b[offset:], m.at[offset])
	}
	return b
}

type gptPart struct {
	first, last int64 // blocks
	kind, uuid  string
	name        string
}

// gpt writes a partition table at both ends, and the MBR that protects it.
func (m image) gpt(lba int64, uuid string, parts ...gptPart) {
	array := make([]byte, 128*128)
	for i, p := range parts {
		e := array[128*i:]
		copy(e, guidBytes(p.kind))
		copy(e[16:], guidBytes(p.uuid))
		binary.LittleEndian.PutUint64(e[32:], uint64(p.first))
		binary.LittleEndian.PutUint64(e[40:], uint64(p.last))
		for j, u := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	header := func(own, arrayAt int64) string {
		h := make([]byte, 92)
		copy(h, "EFI PART")
		binary.LittleEndian.PutUint32(h[8:], 0x10000)
		binary.LittleEndian.PutUint32(h[12:], 92)
		binary.LittleEndian.PutUint64(h[24:], uint64(own))
		copy(h[56:], guidBytes(uuid))
		binary.LittleEndian.PutUint64(h[72:], uint64(arrayAt))
		binary.LittleEndian.PutUint32(h[80:], 128)
		binary.LittleEndian.PutUint32(h[84:], 128)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(array))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		return string(h)
	}
	blocks := m.size / lba
	arrayBlocks := int64(len(array)) / lba
	m.at[lba] = header(1, 2)
	m.at[2*lba] = string(array)
	m.at[(blocks-1)*lba] = header(blocks-1, blocks-1-arrayBlocks)
	m.at[(blocks-1-arrayBlocks)*lba] = string(array)
	m.mbr(0, mbrPart{kind: 0xee, start: 1, count: blocks - 1})
}

func guidBytes(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return make([]byte, 16)
	}
	slices.Reverse(b[:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b
}

type mbrPart struct {
	kind         byte
	start, count int64
}

// mbr writes a boot record with a disk signature.
func (m image) mbr(id uint32, parts ...mbrPart) { m.bootRecord(0, id, parts...) }

func (m image) bootRecord(offset int64, id uint32, parts ...mbrPart) {
	b := make([]byte, 72)
	binary.LittleEndian.PutUint32(b, id)
	for i, p := range parts {
		e := b[6+16*i:]
		e[4] = p.kind
		binary.LittleEndian.PutUint32(e[8:], uint32(p.start))
		binary.LittleEndian.PutUint32(e[12:], uint32(p.count))
	}
	b[70], b[71] = 0x55, 0xaa
	m.at[offset+440] = string(b)
}

func unhex(s string) string {
	b, err := hex.DecodeString(strings.NewReplacer("-", "", " ", "").Replace(s))
	if err != nil {
		return ""
	}
	return string(b)
}

// makeFIFO puts a file that hangs on open in the place of another.
func makeFIFO(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Skip("no FIFO here:", err)
	}
	// A writer that comes and goes lets the abandoned goroutine end.
	t.Cleanup(func() {
		if w, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			w.Close()
		}
	})
}
