package repo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
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
			sum := sha256.Sum256(tt.file)
			want := Image{hex.EncodeToString(sum[:]), int64(len(tt.file)), int64(len(raw)), tt.compression}
			if img != want {
				t.Errorf("Import = %+v; want %+v", img, want)
			}
			f, err := s.Read(img.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, _ := io.ReadAll(f); !bytes.Equal(got, tt.file) {
				t.Errorf("stored %d bytes differ from the %d imported", len(got), len(tt.file))
			}
		})
	}
}

// T41, T37
func TestImportRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, file, want string
	}{
		{"a qcow2 file", "QFI\xfb\x00\x00\x00\x03", "qcow"},
		{"a vmdk file", "KDMV\x01", "vmdk"},
		{"an xz file", "\xfd7zXZ\x00\x00", "xz"},
		{"an empty file", "", "empty"},
		{"a cut zstd stream", string(zstdOf(t, bytes.Repeat([]byte("x"), 1000))[:15]), "unpack image"},
		{"a cut gzip stream", string(gzipOf(bytes.Repeat([]byte("x"), 1000))[:20]), "unpack image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := Open(dir)
			_, err := s.Import(strings.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Import = %v; want an error with %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("%d files are left of a refused import", len(left))
			}
		})
	}
}
