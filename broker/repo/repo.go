// Package repo keeps what machines are given: the disk images that are installed onto them (Images), and the kernels and
// ramdisks that they boot (Files). All is stored under the sha256 of its bytes, so that two names can share one and a
// name can be given new bytes while the old ones are still being read. It is a package of its own because it alone knows
// how they lie on disk and which formats are taken.
package repo

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"muster/agent/chunk"
	"muster/agent/packing"
)

// Image describes stored bytes.
type Image struct {
	SHA256      string // of the file, hex
	SizeBytes   int64  // of the file
	RawBytes    int64  // once unpacked
	Compression string // zstd, gzip, xz, none
	Chunks      string // sha256 of the list of the unpacked image's chunks, hex
	ChunksBytes int64  // of that list
}

// Images is the store of images below one directory: SHA256.img are the files, SHA256.chunks the lists of their chunks.
type Images struct {
	dir  string
	room func() (int64, error) // bytes that are free
}

// Open makes the directory when it is not there, and clears what imports left that were cut short.
func Open(dir string) (*Images, error) {
	err := os.MkdirAll(dir, 0o700)
	left, globErr := filepath.Glob(filepath.Join(dir, "import-*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err = errors.Join(err, globErr); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Images{dir: dir, room: func() (int64, error) { return freeBytes(dir) }}, nil
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

var sumForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Images) path(sum, kind string) (string, error) {
	if !sumForm.MatchString(sum) {
		return "", fmt.Errorf("image %q: want a sha256 in hexadecimal", sum)
	}
	return filepath.Join(s.dir, sum+kind), nil
}

// What is stored under a sum.
const (
	kindImage  = ".img"
	kindChunks = ".chunks"
)

// Read opens what has that sum: an image, or the list of one's chunks.
func (s *Images) Read(sum string) (*os.File, error) {
	var errs []error
	for _, kind := range []string{kindImage, kindChunks} {
		p, err := s.path(sum, kind)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(p)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("open image: %w", errors.Join(errs...))
}

// MaxRaw is the largest image taken, packed and unpacked.
const MaxRaw = chunk.MaxRaw

// Import stores an image while it is read: plain raw, or raw in zstd, gzip or xz, told by its first bytes. It is unpacked
// once to learn its size and to sum its chunks; a format with its own headers (qcow2, vmdk, ...) is refused, packed or not,
// with the command that makes a raw image of it. Nothing is kept of an import that fails.
func (s *Images) Import(r io.Reader) (Image, error) {
	tmp, err := os.CreateTemp(s.dir, "import-*")
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()

	sum := sha256.New()
	file := &sparse{file: tmp, room: s.room}
	in := bufio.NewReaderSize(io.TeeReader(r, io.MultiWriter(file, sum)), headBytes)
	compression, list, err := look(in)
	if err != nil {
		return Image{}, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what follows the last frame is part of the file
		return Image{}, fmt.Errorf("read image: %w", err)
	}
	if err := file.end(); err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	img := Image{SHA256: hex.EncodeToString(sum.Sum(nil)), SizeBytes: file.size, RawBytes: list.Raw, Compression: compression}
	if img.RawBytes == 0 {
		return Image{}, errors.New("import image: it is empty")
	}
	if img.Chunks, img.ChunksBytes, err = s.keepChunks(list); err != nil {
		return Image{}, err
	}
	return img, s.keep(tmp, img.SHA256, kindImage)
}

// look tells how an image is packed, unpacks it to its end and lists its chunks.
func look(in *bufio.Reader) (compression string, list *chunk.List, err error) {
	head, err := peek(in)
	if err != nil {
		return "", nil, fmt.Errorf("read image: %w", err)
	}
	compression = packing.Detect(head)
	unpacked, stop, err := packing.New(in, compression)
	if err != nil {
		return "", nil, fmt.Errorf("unpack image: %w", err)
	}
	defer stop()
	raw := bufio.NewReaderSize(unpacked, headBytes)
	if head, err = peek(raw); err != nil {
		return "", nil, fmt.Errorf("unpack image: %w", err)
	}
	if err := refuse(heads, head, compression); err != nil {
		return "", nil, err
	}
	var last tail
	if list, err = chunk.Read(io.TeeReader(raw, &last)); err != nil {
		return "", nil, fmt.Errorf("unpack image: %w", err)
	}
	return compression, list, refuse(feet, last.bytes, compression)
}

func peek(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(headBytes)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, err
}

// keepChunks stores a list, before the image: a stored image always has its list.
func (s *Images) keepChunks(l *chunk.List) (sum string, size int64, err error) {
	tmp, err := os.CreateTemp(s.dir, "import-*")
	if err != nil {
		return "", 0, fmt.Errorf("keep list of chunks: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	b := l.Encode()
	if _, err := tmp.Write(b); err != nil {
		return "", 0, fmt.Errorf("keep list of chunks: %w", err)
	}
	hash := sha256.Sum256(b)
	sum = hex.EncodeToString(hash[:])
	return sum, int64(len(b)), s.keep(tmp, sum, kindChunks)
}

func (s *Images) keep(tmp *os.File, sum, kind string) error {
	dst, err := s.path(sum, kind)
	if err != nil {
		return err
	}
	err = errors.Join(tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), dst)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	return nil
}

// keepFree is what imports leave on the disk that the broker's own records may share.
const keepFree = 512 << 20

// roomEvery is how often the space is asked for.
const roomEvery = 64 << 20

// sparse writes a file with holes where there are zeros: an empty disk of a terabyte takes no room. It ends an import
// before the disk is full.
type sparse struct {
	file  *os.File
	room  func() (int64, error)
	size  int64
	asked int64 // size at which the room was asked for last
}

func (s *sparse) Write(p []byte) (int, error) {
	if s.size+int64(len(p)) > MaxRaw {
		return 0, fmt.Errorf("larger than %d bytes", int64(MaxRaw))
	}
	if s.size-s.asked >= roomEvery {
		s.asked = s.size
		if free, err := s.room(); err != nil || free < keepFree {
			return 0, errors.Join(err, fmt.Errorf("after %d bytes only %d are free where images are stored, and %d are kept free", s.size, free, keepFree))
		}
	}
	const block = 4096 // of most file systems: a smaller hole saves nothing
	for at := 0; at < len(p); {
		n := min(block-int((s.size+int64(at))%block), len(p)-at)
		if part := p[at : at+n]; !chunk.AllZero(part) {
			if _, err := s.file.WriteAt(part, s.size+int64(at)); err != nil {
				return at, err
			}
		}
		at += n
	}
	s.size += int64(len(p))
	return len(p), nil
}

// end gives the file its length, which a hole at its end does not.
func (s *sparse) end() error { return s.file.Truncate(s.size) }

// tail remembers the last bytes of what was written.
type tail struct{ bytes []byte }

func (t *tail) Write(p []byte) (int, error) {
	if len(p) >= footBytes {
		t.bytes = append(t.bytes[:0], p[len(p)-footBytes:]...)
		return len(p), nil
	}
	t.bytes = append(t.bytes, p...)
	if over := len(t.bytes) - footBytes; over > 0 {
		t.bytes = append(t.bytes[:0], t.bytes[over:]...)
	}
	return len(p), nil
}
