// Package repo keeps what machines are given: the disk images that are installed onto them (Images), and the kernels and
// ramdisks that they boot (Files). All is stored under the sha256 of its bytes, so that two names can share one and a
// name can be given new bytes while the old ones are still being read. It is a package of its own because it alone knows
// how they lie on disk and which formats are taken.
package repo

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/klauspost/compress/zstd"
)

// Image describes stored bytes.
type Image struct {
	SHA256      string // of the file, hex
	SizeBytes   int64  // of the file
	RawBytes    int64  // once unpacked
	Compression string // zstd, gzip, none
}

// Images is the store of images below one directory.
type Images struct{ dir string }

// Open makes the directory when it is not there.
func Open(dir string) (*Images, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Images{dir: dir}, nil
}

var sumForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Images) path(sum string) (string, error) {
	if !sumForm.MatchString(sum) {
		return "", fmt.Errorf("image %q: want a sha256 in hexadecimal", sum)
	}
	return filepath.Join(s.dir, sum+".img"), nil
}

// Read opens the image with that sum.
func (s *Images) Read(sum string) (*os.File, error) {
	p, err := s.path(sum)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	return f, nil
}

// MaxRaw is the largest image taken, unpacked.
const MaxRaw = 8 << 40

// Import stores an image while it is read: plain raw, or raw in one zstd or gzip stream, told by its first bytes. It
// is unpacked once to learn its size; a format with its own headers (qcow2, vmdk, ...) is refused. Nothing is kept of
// an import that fails.
func (s *Images) Import(r io.Reader) (Image, error) {
	tmp, err := os.CreateTemp(s.dir, "import-*")
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()

	sum := sha256.New()
	size := &counter{}
	kept := io.TeeReader(r, io.MultiWriter(tmp, sum, size))
	in := bufio.NewReaderSize(kept, 1<<20)
	compression, err := detect(in)
	if err != nil {
		return Image{}, err
	}
	raw, err := measure(in, compression)
	if err != nil {
		return Image{}, fmt.Errorf("unpack image: %w", err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what follows the last frame is part of the file
		return Image{}, fmt.Errorf("read image: %w", err)
	}
	img := Image{SHA256: hex.EncodeToString(sum.Sum(nil)), SizeBytes: size.n, RawBytes: raw, Compression: compression}
	if img.RawBytes == 0 {
		return Image{}, errors.New("import image: it is empty")
	}
	return img, s.keep(tmp, img)
}

func (s *Images) keep(tmp *os.File, img Image) error {
	dst, err := s.path(img.SHA256)
	if err != nil {
		return err
	}
	err = errors.Join(tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), dst)
	}
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	return nil
}

// refused are formats that look like a disk and are none, with what makes one of them.
var refused = []struct {
	magic, name string
}{
	{"QFI\xfb", "qcow"}, {"KDMV", "vmdk"}, {"# Disk DescriptorFile", "vmdk"}, {"vhdxfile", "vhdx"},
	{"conectix", "vpc"}, {"<<< ", "vdi"}, {"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"PK\x03\x04", "zip"},
}

func detect(in *bufio.Reader) (string, error) {
	head, err := in.Peek(32)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read image: %w", err)
	}
	for _, f := range refused {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return "", fmt.Errorf("this is a %s file, not a raw image: convert it first (qemu-img convert -O raw IN OUT; zstd OUT)", f.name)
		}
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd", nil
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip", nil
	}
	return "none", nil
}

// measure unpacks to nowhere and gives the length.
func measure(in io.Reader, compression string) (int64, error) {
	raw, closeRaw, err := Unpack(in, compression)
	if err != nil {
		return 0, err
	}
	defer closeRaw()
	n, err := io.Copy(io.Discard, io.LimitReader(raw, MaxRaw+1))
	if err == nil && n > MaxRaw {
		err = fmt.Errorf("larger than %d bytes", int64(MaxRaw))
	}
	return n, err
}

// Unpack gives the raw bytes of a stream. Memory is bounded: a zstd window over 128 MiB is refused.
func Unpack(in io.Reader, compression string) (io.Reader, func(), error) {
	switch compression {
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case "none":
		return in, func() {}, nil
	}
	return nil, nil, fmt.Errorf("compression %q: want zstd, gzip or none", compression)
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
