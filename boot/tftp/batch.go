package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of a batch. What is longer is out of the processor's cache before it is sent, and mapping a file costs more than
// reading it: its pages are met for the first time.
const (
	maxBatch  = 65507    // bytes: the data of one UDP packet over IPv4, which the kernel may cut up (see socket)
	readAhead = 16 << 10 // bytes read at once where blocks are short
)

// A batch is blocks of a file in a row, as packets, in one piece of memory. It is short however long a window is: a
// block that got lost is read again.
type batch struct {
	file  io.ReaderAt
	once  bool // the file can be read in order only, and each byte once
	block int
	buf   []byte
	first uint64 // the blocks at hand; they are counted from 1
	count int
	bytes int    // of their packets
	last  uint64 // of the file's blocks; 0: not known yet
	size  int64  // of the file, once last is known
}

func newBatch(file io.ReaderAt, t terms) *batch {
	_, once := file.(*text)
	b := &batch{file: file, once: once, block: t.block}
	room := min(maxBatch, max(readAhead, t.window*b.each())) / b.each()
	b.buf = make([]byte, max(1, room)*b.each())
	return b
}

// each is the bytes of a packet.
func (b *batch) each() int { return 4 + b.block }

// end says that the file has no such block.
func (b *batch) end(n uint64) bool { return b.last != 0 && n > b.last }

func (b *batch) has(n uint64) bool { return n >= b.first && n < b.first+uint64(b.count) }

// packets gives the packets of blocks, from one on up to another: as many as are at hand together.
func (b *batch) packets(from, to uint64) ([]byte, uint64, error) {
	if !b.has(from) {
		if err := b.load(from); err != nil {
			return nil, 0, err
		}
	}
	to = min(to+1, b.first+uint64(b.count))
	start, stop := int(from-b.first)*b.each(), int(to-b.first)*b.each()
	return b.buf[start:min(stop, b.bytes)], to - from, nil
}

// prepare reads a block before it is needed. An error is not told: it comes again, or is none any more.
func (b *batch) prepare(n uint64) {
	if !b.once && !b.has(n) && !b.end(n) {
		_ = b.load(n)
	}
}

// load reads blocks from that one on. Their bytes come to the end of the memory and move to its front one by one, which
// makes room for the headers.
func (b *batch) load(from uint64) error {
	room := len(b.buf) / b.each()
	raw, at := b.buf[4*room:], int64(from-1)*int64(b.block)
	b.count = 0
	n, err := b.file.ReadAt(raw, at)
	switch {
	case err == nil:
		b.count = room
	case errors.Is(err, io.EOF):
		b.last, b.size = from+uint64(n/b.block), at+int64(n)
		b.count = min(n/b.block+1, room) // a file of whole blocks ends with an empty one
	default:
		return err
	}
	b.first, b.bytes = from, 4*b.count+n
	for i := range b.count {
		packet := b.buf[i*b.each():]
		copy(packet[4:], raw[i*b.block:min((i+1)*b.block, n)])
		binary.BigEndian.PutUint16(packet, opData)
		binary.BigEndian.PutUint16(packet[2:], uint16(from)+uint16(i))
	}
	return nil
}

// Pages are a file of the size that was announced.
type pages struct {
	io.ReaderAt
	size int64
}

// ReadAt implements io.ReaderAt. A file that became shorter is broken; what was added to one is nobody's.
func (f pages) ReadAt(p []byte, at int64) (int, error) {
	want := p[:max(0, min(int64(len(p)), f.size-at))]
	n, err := f.ReaderAt.ReadAt(want, at)
	switch {
	case n < len(want) && errors.Is(err, io.EOF):
		return n, errEarly
	case n < len(want):
		return n, err
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// A text is a file on its way through netascii: how long it gets is not known before, and no byte can be found again.
type text struct {
	io.Reader
	at int64
}

// ReadAt implements io.ReaderAt for whoever reads in order.
func (t *text) ReadAt(p []byte, at int64) (int, error) {
	if at != t.at {
		return 0, fmt.Errorf("read text at %d: it is read up to %d", at, t.at)
	}
	n, err := io.ReadFull(t.Reader, p)
	t.at += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}
