package disc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seed is an image that genisoimage wrote, with a file, a directory, a link and a long name.
func seed(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".iso.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// walked goes through all of an image, and gives its first error.
func walked(image []byte) error {
	d, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return err
	}
	for e, err := range d.Entries() {
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, d.Content(e)); err != nil {
			return err
		}
	}
	return nil
}

// at finds a text in an image, and gives where it starts.
func at(t *testing.T, image []byte, text string) int {
	t.Helper()
	i := bytes.Index(image, []byte(text))
	if i < 0 {
		t.Fatalf("there is no %q in the image", text)
	}
	return i
}

// inDirectory gives the record of a plain name, by its length and text (ECMA-119 section 9.1).
func inDirectory(t *testing.T, image []byte, id string) []byte {
	return image[at(t, image, string(rune(len(id)))+id)-32:]
}

// fileEntry gives the UDF file entry of a size: its tag, the size at byte 56.
func fileEntry(t *testing.T, image []byte, size uint64) []byte {
	t.Helper()
	for off := 0; off+2048 <= len(image); off += 2048 {
		if b := image[off:]; binary.LittleEndian.Uint16(b) == tagFile && binary.LittleEndian.Uint64(b[56:]) == size {
			return b
		}
	}
	t.Fatalf("there is no file of %d bytes", size)
	return nil
}

// TestT36ImagesThatLie: each is refused with a word of what is wrong, and nothing is read outside of it.
func TestT36ImagesThatLie(t *testing.T) {
	put32 := binary.LittleEndian.PutUint32
	for _, tt := range []struct {
		name, image, want string
		lie               func(*testing.T, []byte) []byte
	}{
		{"a directory in itself", "rockridge", "the tree is a loop", func(t *testing.T, b []byte) []byte {
			copy(inDirectory(t, b, "DEEPER")[2:10], inDirectory(t, b, "SUB")[2:10])
			return b
		}},
		{"the root below itself", "joliet", "the tree is a loop", func(t *testing.T, b []byte) []byte {
			copy(inDirectory(t, b[24*2048:], "\x00s\x00u\x00b")[2:18], b[17*2048+156+2:][:16])
			return b
		}},
		{"a file past the end", "rockridge", `file "file": 6 bytes at`, func(t *testing.T, b []byte) []byte {
			put32(inDirectory(t, b, "FILE.;1")[2:], 0xffffff)
			return b
		}},
		{"a file longer than the image", "rockridge", `file "file": 4294967295 bytes at`, func(t *testing.T, b []byte) []byte {
			put32(inDirectory(t, b, "FILE.;1")[10:], 0xffffffff)
			return b
		}},
		{"a directory past the end", "rockridge", "past the end", func(t *testing.T, b []byte) []byte {
			put32(inDirectory(t, b, "SUB")[2:], 0xffffff)
			return b
		}},
		{"a name that climbs", "rockridge", `name "../x" is none`, func(t *testing.T, b []byte) []byte {
			copy(b[at(t, b, "\x01\x00file")+2:], "../x")
			return b
		}},
		{"a plain name that climbs", "joliet", `name "./b" is none`, func(t *testing.T, b []byte) []byte {
			copy(inDirectory(t, b[24*2048:], "\x00s\x00u\x00b")[33:], "\x00.\x00/\x00b")
			return b
		}},
		{"the parent as a name", "rockridge", `name ".." is none`, func(t *testing.T, b []byte) []byte {
			i := at(t, b, "NM\x09\x01\x00file")
			copy(b[i:], "NM\x07\x01\x00..ZZ\x02\x01")
			return b
		}},
		{"a name that moves the cursor", "rockridge", "cannot be printed", func(t *testing.T, b []byte) []byte {
			copy(b[at(t, b, "\x01\x00file")+2:], "\x1b[2J")
			return b
		}},
		{"fields that go on in themselves", "rockridge", "go on without end", func(t *testing.T, b []byte) []byte {
			i := at(t, inDirectory(t, b, "LONGLONG.;1"), "CE\x1c\x01") + at(t, b, "\x0bLONGLONG.;1") - 32
			put32(b[i+4:], uint32(i/2048))
			put32(b[i+12:], uint32(i%2048))
			put32(b[i+20:], 28)
			return b
		}},
		{"fields that go on past the end", "rockridge", "past the end", func(t *testing.T, b []byte) []byte {
			put32(b[at(t, b, "\x0bLONGLONG.;1")+at(t, inDirectory(t, b, "LONGLONG.;1"), "CE\x1c\x01")-32+4:], 0xffffff)
			return b
		}},
		{"a moved directory that is none", "rockridge", `directory "d8": `, func(t *testing.T, b []byte) []byte {
			put32(b[at(t, b, "CL\x0c\x01")+4:], 16)
			return b
		}},
		{"a file of several parts whose rest is another", "rockridge", `file "file" goes on in a record of`, func(t *testing.T, b []byte) []byte {
			inDirectory(t, b, "FILE.;1")[25] |= flagMore
			return b
		}},
		{"an interleaved file", "rockridge", "interleaved", func(t *testing.T, b []byte) []byte {
			inDirectory(t, b, "FILE.;1")[26] = 1
			return b
		}},
		{"a record that is cut short", "rockridge", "cut short", func(t *testing.T, b []byte) []byte {
			inDirectory(t, b, "FILE.;1")[0] = 33
			return b
		}},
		{"a name longer than its record", "rockridge", "cut short", func(t *testing.T, b []byte) []byte {
			inDirectory(t, b, "FILE.;1")[32] = 255
			return b
		}},
		{"half an image", "rockridge", "past the end of the image", func(_ *testing.T, b []byte) []byte { return b[:len(b)-20*2048] }},
		{"blocks of no size", "joliet", "logical blocks of 0 bytes", func(_ *testing.T, b []byte) []byte {
			copy(b[17*2048+128:], "\x00\x00")
			return b
		}},
		{"UDF: a directory in itself", "udf", "the tree is a loop", func(t *testing.T, b []byte) []byte {
			i := at(t, b, "\x08sub")
			copy(b[i-38+20:][:10], b[at(t, b, "\x08deeper")-38-40+20:][:10]) // the parent's entry stands in front
			return b
		}},
		{"UDF: a file past the end", "udf", "past the end", func(t *testing.T, b []byte) []byte {
			e := fileEntry(t, b, 6)
			put32(e[176+4+binary.LittleEndian.Uint32(e[168:]):], 0xfffff)
			return b
		}},
		{"UDF: more bytes than extents", "udf", "lie nowhere", func(t *testing.T, b []byte) []byte {
			binary.LittleEndian.PutUint64(fileEntry(t, b, 6)[56:], 1<<40)
			return b
		}},
		{"UDF: a size below zero", "udf", "it has 1844", func(t *testing.T, b []byte) []byte {
			binary.LittleEndian.PutUint64(fileEntry(t, b, 6)[56:], 1<<64-1)
			return b
		}},
		{"UDF: an entry longer than its block", "udf", "longer than a block", func(t *testing.T, b []byte) []byte {
			put32(fileEntry(t, b, 6)[168:], 1<<31)
			return b
		}},
		{"UDF: another strategy", "udf", "strategy 4096", func(t *testing.T, b []byte) []byte {
			copy(fileEntry(t, b, 6)[20:], "\x00\x10")
			return b
		}},
		{"UDF: extents that go on for ever", "udf", "without end", func(t *testing.T, b []byte) []byte {
			e := fileEntry(t, b, 6)
			ad := e[176+binary.LittleEndian.Uint32(e[168:]):]
			block, start := binary.LittleEndian.Uint32(ad[4:]), at(t, b, "hello\n")
			put32(ad, 3<<30|2048)
			chain := b[start:][:2048] // the file's own block becomes a list of more extents: itself
			binary.LittleEndian.PutUint16(chain, tagAllocation)
			put32(chain[20:], 8)
			put32(chain[24:], 3<<30|2048)
			put32(chain[28:], block)
			chain[4] = 0
			for i, c := range chain[:16] {
				if i != 4 {
					chain[4] += c
				}
			}
			return b
		}},
		{"UDF: no anchor", "udf", "no anchor", func(_ *testing.T, b []byte) []byte {
			for i := 0; i+2048 <= len(b); i += 2048 {
				if binary.LittleEndian.Uint16(b[i:]) == tagAnchor {
					clear(b[i : i+16])
				}
			}
			return b
		}},
		{"UDF: a virtual partition", "udf", `partition 0 is a "UDF Virtual Partition"`, func(t *testing.T, b []byte) []byte {
			for i := 0; i+2048 <= len(b); i += 2048 {
				if binary.LittleEndian.Uint16(b[i:]) == tagLogical {
					copy(b[i+440:], "\x02\x40\x00\x00\x00*UDF Virtual Partition\x00")
					put32(b[i+264:], 64)
				}
			}
			return b
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := seed(t, tt.image)
			if err := walked(b); err != nil {
				t.Fatalf("the image itself: %v", err)
			}
			err := walked(tt.lie(t, b))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it is read with %v; want %q", err, tt.want)
			}
		})
	}
}

// endless is an image whose root directory holds one file over and over.
type endless struct{ head, sector []byte }

func (e endless) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		if at := off + int64(i); at < int64(len(e.head)) {
			b[i] = e.head[at]
		} else {
			b[i] = e.sector[at%2048]
		}
	}
	return len(b), nil
}

// T37: a directory of millions of files ends.
func TestT37EntriesAreBounded(t *testing.T) {
	head := make([]byte, 18*2048)
	record := func(id string, flags byte) []byte {
		r := make([]byte, (33+len(id)+1)&^1)
		r[0], r[25], r[32] = byte(len(r)), flags, byte(len(id))
		copy(r[33:], id)
		return r
	}
	root := record("\x00", flagDirectory)
	binary.LittleEndian.PutUint32(root[2:], 18)
	binary.LittleEndian.PutUint32(root[10:], 1<<31)
	copy(head[16*2048:], "\x01CD001\x01")
	copy(head[16*2048+128:], "\x00\x08")
	copy(head[16*2048+156:], root)
	s := make([]byte, 2048)
	for n, r := copy(s, root), record("A", 0); n+len(r) <= len(s); n += len(r) {
		copy(s[n:], r)
	}
	d, err := Open(endless{head, s}, 1<<32)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err = range d.Entries() {
		n++
	}
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 entries") || n != maxEntries+1 {
		t.Errorf("after %d entries: %v", n, err)
	}
}

// FuzzDisc changes some bytes of images that others wrote (Z24): whatever it says of itself, the walk ends, names stay
// names, and no byte is read from outside.
func FuzzDisc(f *testing.F) {
	images := [][]byte{seed(f, "rockridge"), seed(f, "joliet"), seed(f, "udf")}
	for i := range images {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\x00\x00\xc0\x50\x00\x00\xc0\x51\xff"))
	}
	f.Fuzz(func(t *testing.T, which uint8, changes []byte) {
		image := bytes.Clone(images[int(which)%len(images)])
		for ; len(changes) >= 4; changes = changes[4:] { // 24 bits of where, 8 of what
			image[int(binary.BigEndian.Uint32(changes)>>8)%len(image)] = changes[3]
		}
		d, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return
		}
		left := int64(4 << 20) // what is read of the files, which may say the same of one place
		for e, err := range d.Entries() {
			if err != nil {
				return
			}
			if !fs.ValidPath(e.Path) || e.Size < 0 {
				t.Fatalf("entry %q of %d bytes", e.Path, e.Size)
			}
			most := min(e.Size, left)
			if n, err := io.Copy(io.Discard, io.LimitReader(d.Content(e), most)); err != nil || n != most {
				t.Fatalf("%q: %d of %d bytes, %v", e.Path, n, e.Size, err)
			}
			left -= most
		}
	})
}
