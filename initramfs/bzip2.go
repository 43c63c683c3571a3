package initramfs

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"io"
)

// A bzip2Stream reads members in a row and leaves what follows alone. The library looks for a further member by reading
// two bytes and takes anything but "BZ" for an error, so that it is given each byte only while two more are held back.
type bzip2Stream struct {
	r    *bufio.Reader
	held int // bytes given out that r still has
	z    io.Reader
}

func openBzip2(r *bufio.Reader) (io.ReadCloser, error) {
	s := &bzip2Stream{r: r}
	s.z = bzip2.NewReader(s)
	return io.NopCloser(s), nil
}

// ReadByte implements io.ByteReader for the library.
func (s *bzip2Stream) ReadByte() (byte, error) {
	if s.held == 2 {
		if _, err := s.r.Discard(1); err != nil {
			return 0, err
		}
		s.held--
	}
	b, err := s.r.Peek(s.held + 1)
	if len(b) <= s.held {
		return 0, err
	}
	s.held++
	return b[s.held-1], nil
}

// errBzip2Follows is how the library says that no member follows.
const errBzip2Follows = bzip2.StructuralError("bad magic value in continuation file")

// Read implements io.Reader.
func (s *bzip2Stream) Read(p []byte) (int, error) {
	n, err := s.z.Read(p)
	switch {
	case errors.Is(err, errBzip2Follows):
		return n, io.EOF
	case errors.Is(err, io.EOF): // of r: the bytes held are the stream's last
		_, _ = s.r.Discard(s.held)
		s.held = 0
	}
	return n, err
}
