package initramfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

const (
	lz4Magic = "\x02\x21\x4c\x18"
	lz4Block = 8 << 20 // what each block but the last unpacks to (lib/decompress_unlz4.c)
)

// An lz4Stream reads the legacy frame format, the only one a kernel knows: magic, then blocks with their size before
// them. It has no end but that of the file, or a size that is 0, which is where padding begins.
type lz4Stream struct {
	r            *bufio.Reader
	packed, text []byte // of one block
	left         []byte // of text
}

func openLZ4(r *bufio.Reader) (io.ReadCloser, error) {
	if _, err := r.Discard(len(lz4Magic)); err != nil {
		return nil, noEOF(err)
	}
	return io.NopCloser(&lz4Stream{r: r}), nil
}

// Read implements io.Reader.
func (z *lz4Stream) Read(p []byte) (int, error) {
	for len(z.left) == 0 {
		if err := z.block(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.left)
	z.left = z.left[n:]
	return n, nil
}

// block unpacks the next block. Another magic between blocks begins a frame of the same stream.
func (z *lz4Stream) block() error {
	head, err := z.r.Peek(4)
	if errors.Is(err, io.EOF) && len(head) == 0 {
		return io.EOF
	}
	if err != nil {
		return noEOF(err)
	}
	size := binary.LittleEndian.Uint32(head)
	if size == 0 {
		return io.EOF
	}
	if _, err := z.r.Discard(4); err != nil || string(head) == lz4Magic {
		return err
	}
	if int64(size) > int64(lz4.CompressBlockBound(lz4Block)) {
		return fmt.Errorf("lz4 block: %w of %d bytes", errLimit, lz4.CompressBlockBound(lz4Block))
	}
	if uint32(cap(z.packed)) < size {
		z.packed = make([]byte, size)
	}
	if _, err := io.ReadFull(z.r, z.packed[:size]); err != nil {
		return noEOF(err)
	}
	if z.text == nil {
		z.text = make([]byte, lz4Block)
	}
	n, err := lz4.UncompressBlock(z.packed[:size], z.text)
	if err != nil {
		return fmt.Errorf("lz4 block: %w", err)
	}
	z.left = z.text[:n]
	return nil
}
