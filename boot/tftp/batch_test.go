package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
)

// number is the packet of a block as RFC 1350 describes it, cut from the file without a batch.
func number(file []byte, block int, n uint64) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, opData}, uint16(n))
	at := min(len(file), int(n-1)*block)
	return append(p, file[at:min(at+block, len(file))]...)
}

func TestBatchHasEveryBlock(t *testing.T) {
	for _, block := range []int{8, 512, 1468, 8192, 30_000, 65464} {
		for _, size := range []int{0, 1, block - 1, block, block + 1, 2 * block, 11*block - 1, 11 * block, 150_000} {
			for _, window := range []int{1, 4, 64} {
				t.Run(fmt.Sprintf("%d bytes in blocks of %d, %d in a window", size, block, window), func(t *testing.T) {
					file := noise(size)
					b := newBatch(pages{bytes.NewReader(file), int64(size)}, terms{block: block, window: window})
					last := uint64(size/block) + 1
					for n := uint64(1); n <= last; {
						got, count, err := b.packets(n, n+uint64(window)-1)
						if err != nil || count == 0 || count > uint64(window) {
							t.Fatalf("packets from %d: %d, %v", n, count, err)
						}
						for i := range count {
							packet := got[min(len(got), int(i)*b.each()):min(len(got), int(i+1)*b.each())]
							if want := number(file, block, n+i); !bytes.Equal(packet, want) {
								t.Fatalf("block %d of %d has %d bytes, head %x; want %d, %x", n+i, last, len(packet), packet[:min(4, len(packet))], len(want), want[:4])
							}
						}
						n += count
						b.prepare(n)
					}
					if !b.end(last+1) || b.end(last) || b.size != int64(size) {
						t.Errorf("last block %d, %d bytes; want %d, %d", b.last, b.size, last, size)
					}
					if got, _, err := b.packets(1, 1); err != nil || !bytes.Equal(got, number(file, block, 1)) {
						t.Errorf("block 1 again: %d bytes, %v", len(got), err)
					}
				})
			}
		}
	}
}

func TestFileOfAnotherSizeThanAnnounced(t *testing.T) {
	file := noise(1000)
	for _, row := range []struct {
		size, at int64
		n        int
		want     error
	}{
		{1000, 0, 600, nil},
		{1000, 600, 400, io.EOF},
		{1000, 1000, 0, io.EOF},
		{1500, 600, 400, errEarly},
		{1500, 1200, 0, errEarly},
		{700, 600, 100, io.EOF}, // what was added is nobody's
		{700, 900, 0, io.EOF},
	} {
		n, err := pages{bytes.NewReader(file), row.size}.ReadAt(make([]byte, 600), row.at)
		if n != row.n || !errors.Is(err, row.want) {
			t.Errorf("of %d bytes at %d: %d, %v; want %d, %v", row.size, row.at, n, err, row.n, row.want)
		}
	}
}

// No byte of a text can be found again, so nothing is read before the block in flight is acknowledged.
func TestTextIsReadInOrder(t *testing.T) {
	file := noise(3 * readAhead)
	b := newBatch(&text{Reader: bytes.NewReader(file)}, terms{block: 8192, window: 1})
	for n := uint64(1); n <= 7; n++ {
		for range 2 { // sent, and sent again
			if got, _, err := b.packets(n, n); err != nil || !bytes.Equal(got, number(file, 8192, n)) {
				t.Fatalf("block %d: %d bytes, %v", n, len(got), err)
			}
			b.prepare(n + 1)
		}
	}
	if _, _, err := b.packets(1, 1); err == nil {
		t.Error("block 1 was read again")
	}
}
