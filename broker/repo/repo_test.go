package repo

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"muster/agent/chunk"
)

func zstdOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(raw)
	z.Close()
	return b.Bytes()
}

func xzOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(raw)
	z.Close()
	return b.Bytes()
}

func gzipOf(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(raw)
	z.Close()
	return b.Bytes()
}

func TestImportKeepsTheBytesAndMeasuresThem(t *testing.T) {
	raw := bytes.Repeat([]byte("muster disk "), 100_000)
	for _, tt := range []struct {
		name, compression string
		file              []byte
	}{
		{"a raw image", "none", raw},
		{"a zstd image", "zstd", zstdOf(t, raw)},
		{"a gzip image", "gzip", gzipOf(raw)},
		{"an xz image", "xz", xzOf(t, raw)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			img, err := s.Import(bytes.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			list, err := chunk.Read(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			want := Image{sumOf(string(tt.file)), int64(len(tt.file)), int64(len(raw)), tt.compression, sumOf(string(list.Encode())), int64(len(list.Encode()))}
			if img != want {
				t.Errorf("Import = %+v; want %+v", img, want)
			}
			if stored := readImage(t, s, img.Chunks); !bytes.Equal(stored, list.Encode()) {
				t.Errorf("the stored list of chunks has %d bytes; want %d", len(stored), len(list.Encode()))
			}
			if got := readImage(t, s, img.SHA256); !bytes.Equal(got, tt.file) {
				t.Errorf("stored %d bytes differ from the %d imported", len(got), len(tt.file))
			}
		})
	}
}

func readImage(t *testing.T, s *Images, sum string) []byte {
	t.Helper()
	f, err := s.Read(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// T41, T37, T38: what is no image, or never ends, is refused and leaves nothing.
func TestImportRefuses(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	for _, tt := range []struct {
		name string
		file io.Reader
		want string
	}{
		{"an empty file", strings.NewReader(""), "empty"},
		{"an empty image in zstd", bytes.NewReader(zstdOf(t, nil)), "empty"},
		{"a cut zstd stream", bytes.NewReader(zstdOf(t, bytes.Repeat([]byte("x"), 1000))[:15]), "unpack image"},
		{"a cut gzip stream", bytes.NewReader(gzipOf(bytes.Repeat([]byte("x"), 1000))[:20]), "unpack image"},
		{"a cut xz stream", bytes.NewReader(xzOf(t, bytes.Repeat([]byte("x"), 1000))[:40]), "unpack image"},
		{"a source that breaks off", io.MultiReader(bytes.NewReader(zeros(1<<20)), iotest.ErrReader(errors.New("gone"))), "gone"},
		{"an image that never ends", endless{}, "only 536870911 are free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			s.room = func() (int64, error) { return keepFree - 1, nil }
			if _, err = s.Import(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Import = %v; want an error with %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("%d files are left of a refused import", len(left))
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// An import that the broker did not live to finish takes no room for ever.
func TestImportsThatWereCutShortAreCleared(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"import-1", "import-2"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// An empty disk of a gigabyte takes no gigabyte, and is the same when read.
func TestAStoredImageIsSparse(t *testing.T) {
	raw := make([]byte, 32<<20)
	raw[510], raw[5000], raw[20<<20] = 0x55, 1, 2
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Import(iotest.HalfReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if got := readImage(t, s, img.SHA256); !bytes.Equal(got, raw) {
		t.Errorf("%d bytes are read that are not the %d stored", len(got), len(raw))
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.dir, img.SHA256+kindImage), &st); err != nil {
		t.Fatal(err)
	}
	if took := st.Blocks * 512; took > 1<<20 {
		t.Errorf("it takes %d bytes of the disk", took)
	}
}
