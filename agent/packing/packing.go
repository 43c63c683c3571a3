// Package packing reads raw disk images as they are stored and sent: plain, or in zstd, gzip or xz. It is a package of
// its own because the broker, which measures an image, and the agent, which writes it, must take the same files: one that
// a broker took and no machine can unpack would be found out over a disk that is empty by then.
package packing

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Compressions of an image, as repos and orders name them.
const (
	None = "none"
	Zstd = "zstd"
	Gzip = "gzip"
	XZ   = "xz"
)

// MaxWindow is the most that a packed image may want remembered while it is unpacked: what zstd -19 needs eight times
// over and xz -9 exactly, and affordable in 512 MB. It is taken once.
const MaxWindow = 64 << 20

// ErrWindow is a stream that wants more remembered than its reader allows.
var ErrWindow = errors.New("over the limit")

// compressions by their first bytes, how each is opened, and what packs an image so that it can be unpacked here.
var compressions = []struct {
	name, magic string
	open        func(*bufio.Reader) (io.Reader, func(), error)
	smaller     string
}{
	{Zstd, "\x28\xb5\x2f\xfd", openZstd, "zstd -dc --long=31 IN | zstd -19 -o OUT"},
	{Gzip, "\x1f\x8b", openGzip, ""},
	{XZ, XZMagic, openXZ, "xz -dc IN | xz -6 -T0 > OUT"},
	{None, "", openNone, ""},
}

// Known says whether there is a compression of that name.
func Known(name string) bool {
	for _, c := range compressions {
		if c.name == name {
			return true
		}
	}
	return false
}

// Names lists the compressions for an error that wants one.
func Names() string {
	var names []string
	for _, c := range compressions {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

// Detect tells the compression by the first bytes of a file; None is what has no magic.
func Detect(head []byte) string {
	for _, c := range compressions {
		if strings.HasPrefix(string(head), c.magic) {
			return c.name
		}
	}
	return None
}

// New gives the raw bytes of a packed image and the function that frees what it holds. Members in a row are one image, as
// for the programs that pack them. An error over MaxWindow names the command that packs the image anew.
func New(packed io.Reader, compression string) (io.Reader, func(), error) {
	for _, c := range compressions {
		if c.name != compression {
			continue
		}
		raw, stop, err := c.open(bufio.NewReaderSize(packed, 256<<10))
		if err != nil {
			return nil, nil, advise(err, c.smaller)
		}
		return &adviser{raw, c.smaller}, stop, nil
	}
	return nil, nil, fmt.Errorf("compression %q: want one of %s", compression, Names())
}

// adviser adds the command to errors that it cures.
type adviser struct {
	io.Reader
	smaller string
}

func (a *adviser) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	return n, advise(err, a.smaller)
}

func advise(err error, smaller string) error {
	if errors.Is(err, ErrWindow) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("%w; it can be packed with less: %s", err, smaller)
	}
	return err
}

func openNone(r *bufio.Reader) (io.Reader, func(), error) { return r, func() {}, nil }

func openZstd(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderMaxMemory(MaxWindow))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}

func openGzip(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	return z, func() {}, nil
}

func openXZ(r *bufio.Reader) (io.Reader, func(), error) {
	one, err := OpenXZ(r, MaxWindow)
	if err != nil {
		return nil, nil, err
	}
	return &xzStreams{r, one}, func() {}, nil
}

// xzStreams reads streams in a row, with their padding (section 2.2 of the format: zeros, four at a time).
type xzStreams struct {
	r   *bufio.Reader
	one io.Reader
}

func (s *xzStreams) Read(p []byte) (int, error) {
	for {
		n, err := s.one.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := s.skipPadding(); err != nil {
			return 0, err // io.EOF: there is no other
		}
		if s.one, err = OpenXZ(s.r, MaxWindow); err != nil {
			return 0, err
		}
	}
}

func (s *xzStreams) skipPadding() error {
	for {
		four, err := s.r.Peek(4)
		switch {
		case len(four) == 0 && errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return fmt.Errorf("read xz padding: %w", noEOF(err))
		case string(four) != "\x00\x00\x00\x00":
			return nil
		}
		if _, err := s.r.Discard(4); err != nil {
			return err
		}
	}
}
