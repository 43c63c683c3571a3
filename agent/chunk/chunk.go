// Package chunk is the list of what a raw disk image consists of: the SHA-256 of each of its chunks, and which of them hold
// nothing but zeros. It is a package of its own because the broker makes the list, the agent believes nothing else, and
// neither may read it in another way.
//
// The list is the image's name for everybody who never saw the file: its own sum stands in the order, so that one
// chunk can be believed alone, before the next has come and whoever sent it. Peers that serve chunks to each other and an
// agent that captures a disk need nothing more than this list.
//
// Its form: the 16 bytes "muster chunks 1\n", the bytes of a chunk and the bytes of the image as little-endian 64-bit
// numbers, then 32 bytes for each chunk, in order: its SHA-256, or zeros for a chunk of zeros. The last chunk may be
// shorter.
package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// A Sum is the SHA-256 of a chunk, and zero for a chunk of zeros.
type Sum [sha256.Size]byte

// A List is the chunks of one image.
type List struct {
	Size int64 // bytes of a chunk
	Raw  int64 // bytes of the image
	Sums []Sum
}

const (
	magic      = "muster chunks 1\n"
	headBytes  = len(magic) + 16
	leastChunk = 1 << 20
	mostChunk  = 16 << 20
	mostChunks = 1 << 21
)

// Size of a chunk in the lists that Read makes: large enough for a disk and a connection to run at their speed, small
// enough to be held in memory until it is believed.
const Size = 4 << 20

// MaxRaw is the largest image that has a list, 8 TiB; MaxBytes is what its list has.
const (
	MaxRaw   = mostChunks * Size
	MaxBytes = int64(headBytes + mostChunks*sha256.Size)
)

// Len is how many bytes chunk i has.
func (l *List) Len(i int) int64 { return min(l.Size, l.Raw-int64(i)*l.Size) }

// Zero says whether chunk i is nothing but zeros.
func (l *List) Zero(i int) bool { return l.Sums[i] == Sum{} }

// Check compares a chunk with its sum.
func (l *List) Check(i int, p []byte) error {
	if got := sum(p); got != l.Sums[i] {
		off := int64(i) * l.Size
		return fmt.Errorf("bytes %d to %d of the image have sha256 %s; %s was promised", off, off+int64(len(p))-1, got, l.Sums[i])
	}
	return nil
}

func (s Sum) String() string {
	if s == (Sum{}) {
		return "of zeros"
	}
	return hex.EncodeToString(s[:])
}

// zeros are compared with; they are no slice, which would be made at every start.
var zeros [64 << 10]byte

// AllZero is much faster than a sum.
func AllZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

func sum(p []byte) Sum {
	if AllZero(p) {
		return Sum{}
	}
	return sha256.Sum256(p)
}

// Read makes the list of an image while it is read to its end.
func Read(r io.Reader) (*List, error) {
	l := &List{Size: Size}
	buf := make([]byte, l.Size)
	for {
		n, err := io.ReadFull(r, buf)
		if l.Raw += int64(n); l.Raw > MaxRaw {
			return nil, fmt.Errorf("larger than %d bytes", int64(MaxRaw))
		}
		if n > 0 {
			l.Sums = append(l.Sums, sum(buf[:n]))
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return l, nil
		case err != nil:
			return nil, err
		}
	}
}

// Encode gives the list in its form.
func (l *List) Encode() []byte {
	b := make([]byte, 0, headBytes+len(l.Sums)*sha256.Size)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Raw))
	for _, s := range l.Sums {
		b = append(b, s[:]...)
	}
	return b
}

// Decode reads an encoded list. What is too much or does not add up is an error.
func Decode(b []byte) (*List, error) {
	if len(b) < headBytes || string(b[:len(magic)]) != magic {
		return nil, errors.New("this is no list of chunks")
	}
	size, raw := binary.LittleEndian.Uint64(b[len(magic):]), binary.LittleEndian.Uint64(b[len(magic)+8:])
	b = b[headBytes:]
	if size < leastChunk || size > mostChunk || size&(size-1) != 0 {
		return nil, fmt.Errorf("chunks of %d bytes: want a power of two from %d to %d", size, leastChunk, mostChunk)
	}
	if raw == 0 || raw > mostChunks*size {
		return nil, fmt.Errorf("an image of %d bytes in chunks of %d", raw, size)
	}
	l := &List{Size: int64(size), Raw: int64(raw), Sums: make([]Sum, len(b)/sha256.Size)}
	if want := (raw + size - 1) / size; uint64(len(b)) != want*sha256.Size {
		return nil, fmt.Errorf("%d bytes of sums for %d chunks", len(b), want)
	}
	for i := range l.Sums {
		copy(l.Sums[i][:], b[i*sha256.Size:])
	}
	return l, nil
}
