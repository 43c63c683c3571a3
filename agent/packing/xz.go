package packing

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	XZMagic = "\xfd7zXZ\x00" // the first bytes of every stream
	xzLZMA2 = 0x21           // filter of the format's section 5.3.1
)

// xzChecks are the sums that stand behind a block, by their number in the stream's flags (section 2.1.1.2).
var xzChecks = map[byte]func() hash.Hash{
	0x00: func() hash.Hash { return noSum{} },
	0x01: func() hash.Hash { return littleEndian{crc32.NewIEEE()} },
	0x04: func() hash.Hash { return littleEndian{crc64.New(crc64.MakeTable(crc64.ECMA))} },
	0x0a: sha256.New,
}

// An xzStream reads exactly one stream of the xz file format (tukaani.org/xz/xz-file-format.txt, version 1.2.1). The
// library's own reader has two habits that do not fit here: it takes whatever follows a stream for an error, and it
// gets a dictionary as large as the file asks for, up to 4 GB.
type xzStream struct {
	r      *bufio.Reader
	check  func() hash.Hash
	window int64 // largest dictionary taken

	flags  []byte // two bytes that the footer repeats
	done   bool
	blocks uint64    // read so far
	sizes  hash.Hash // of each block's sizes, as the index is to say them
	head   int64     // bytes of the header of the block being read
	text   int64     // bytes unpacked of it
	in     *measured // of the block being read; nil between blocks
	data   *lzma.Reader2
	sum    hash.Hash
}

// A measured reader counts what is read through it.
type measured struct {
	r *bufio.Reader
	n int64
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	return n, err
}

func (m *measured) ReadByte() (byte, error) {
	b, err := m.r.ReadByte()
	if err == nil {
		m.n++
	}
	return b, err
}

// OpenXZ reads the header of a stream (magic, two bytes of flags, their checksum) and gives what it unpacks to. A block whose
// dictionary is larger than window is ErrWindow, before that memory is taken. At the end of the stream r is left behind it.
func OpenXZ(r *bufio.Reader, window int64) (io.Reader, error) {
	head := make([]byte, 12)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, noEOF(err)
	}
	check := xzChecks[head[7]]
	if !bytes.HasPrefix(head, []byte(XZMagic)) || head[6] != 0 || check == nil || !sumFits(head[6:]) {
		return nil, errors.New("broken xz header")
	}
	return &xzStream{r: r, check: check, window: window, flags: head[6:8], sizes: sha256.New()}, nil
}

// sumFits tells whether the last four bytes are the CRC-32 of the others.
func sumFits(b []byte) bool {
	n := len(b) - 4
	return crc32.ChecksumIEEE(b[:n]) == binary.LittleEndian.Uint32(b[n:])
}

// Read implements io.Reader.
func (x *xzStream) Read(p []byte) (int, error) {
	for {
		if x.done {
			return 0, io.EOF
		}
		if x.data == nil {
			if err := x.nextBlock(); err != nil {
				return 0, err // io.EOF after the footer
			}
		}
		n, err := x.data.Read(p)
		x.sum.Write(p[:n])
		x.text += int64(n)
		if errors.Is(err, io.EOF) {
			err = x.endBlock()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// nextBlock reads a block's header, or the index and the end of the stream.
func (x *xzStream) nextBlock() error {
	size, err := x.r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if size == 0 {
		return x.end()
	}
	head := make([]byte, 4*(int(size)+1))
	head[0] = size
	if _, err := io.ReadFull(x.r, head[1:]); err != nil {
		return noEOF(err)
	}
	if !sumFits(head) {
		return errors.New("broken xz block header")
	}
	window, err := xzWindow(head)
	if err != nil {
		return err
	}
	if window > x.window {
		return fmt.Errorf("xz dictionary of %d bytes: %w of %d", window, ErrWindow, x.window)
	}
	x.blocks++
	x.head, x.text = int64(len(head)), 0
	x.in, x.sum = &measured{r: x.r}, x.check()
	x.data, err = lzma.Reader2Config{DictCap: int(window)}.NewReader2(x.in)
	return err
}

// xzWindow finds how much a block wants remembered. Only a lone LZMA2 filter is read; so does the kernel, but for
// filters of machine code that nobody uses on archives.
func xzWindow(head []byte) (int64, error) {
	flags, rest := head[1], head[2:len(head)-4]
	for _, has := range []byte{0x40, 0x80} { // packed and unpacked size, which the data tells anyway
		if flags&has != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return 0, errors.New("broken xz block header")
			}
			rest = rest[n:]
		}
	}
	if flags&0x3f != 0 || len(rest) < 3 || rest[0] != xzLZMA2 || rest[1] != 1 || rest[2] > 40 {
		return 0, errors.New("xz filters other than LZMA2 are not read here")
	}
	bits := rest[2] // section 5.3.1: 2 or 3 times a power of two
	return (int64(2) | int64(bits&1)) << (bits/2 + 11), nil
}

// endBlock reads what stands behind a block's data: padding and its checksum.
func (x *xzStream) endBlock() error {
	want := x.sum.Sum(nil)
	tail := make([]byte, padding(x.in.n)+int64(len(want)))
	if _, err := io.ReadFull(x.r, tail); err != nil {
		return noEOF(err)
	}
	x.data = nil
	if !bytes.Equal(tail[len(tail)-len(want):], want) {
		return errors.New("xz checksum differs")
	}
	x.sizes.Write(xzRecord(uint64(x.head+x.in.n)+uint64(len(want)), uint64(x.text)))
	return nil
}

// xzRecord is how the index says the sizes of a block (section 4.3).
func xzRecord(packed, text uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, packed), text)
}

// end reads the index, which has the sizes of all blocks once more, and the footer.
func (x *xzStream) end() error {
	crc := crc32.NewIEEE()
	crc.Write([]byte{0}) // that began it
	in := &summed{measured{r: x.r, n: 1}, crc}
	count, err := binary.ReadUvarint(in)
	if err != nil || count != x.blocks {
		return errors.New("broken xz index")
	}
	sizes := sha256.New()
	for range x.blocks {
		packed, err := binary.ReadUvarint(in)
		if err != nil {
			return fmt.Errorf("read xz index: %w", noEOF(err))
		}
		text, err := binary.ReadUvarint(in)
		if err != nil {
			return fmt.Errorf("read xz index: %w", noEOF(err))
		}
		sizes.Write(xzRecord(packed, text))
	}
	if !bytes.Equal(sizes.Sum(nil), x.sizes.Sum(nil)) {
		return errors.New("xz index says other sizes than the blocks have")
	}
	return x.footer(in)
}

// footer reads the end of the index and what stands behind it: two checksums, the size of the index and the flags.
func (x *xzStream) footer(in *summed) error {
	for range padding(in.n) {
		if b, err := in.ReadByte(); err != nil || b != 0 {
			return errors.New("broken xz index")
		}
	}
	tail := make([]byte, 4+12)
	if _, err := io.ReadFull(x.r, tail); err != nil {
		return noEOF(err)
	}
	if binary.LittleEndian.Uint32(tail) != in.crc.Sum32() {
		return errors.New("xz checksum of the index differs")
	}
	foot := tail[4:]
	size := (int64(binary.LittleEndian.Uint32(foot[4:])) + 1) * 4 // section 2.1.2.2, the checksum included
	sum := crc32.ChecksumIEEE(foot[4:10])
	if binary.LittleEndian.Uint32(foot) != sum || size != in.n+4 || !bytes.Equal(foot[8:10], x.flags) || string(foot[10:]) != "YZ" {
		return errors.New("broken xz footer")
	}
	x.done = true
	return io.EOF
}

// A summed reader also makes the checksum of the bytes read one by one.
type summed struct {
	measured
	crc hash.Hash32
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.measured.ReadByte()
	if err == nil {
		s.crc.Write([]byte{b})
	}
	return b, err
}

// littleEndian turns the sum of a checksum around: the library's is big-endian, the file's is not.
type littleEndian struct{ hash.Hash }

func (l littleEndian) Sum(b []byte) []byte {
	sum := l.Hash.Sum(nil)
	for i := len(sum) - 1; i >= 0; i-- {
		b = append(b, sum[i])
	}
	return b
}

// noSum is the check of a stream without checks.
type noSum struct{}

func (noSum) Write(p []byte) (int, error) { return len(p), nil }
func (noSum) Sum(b []byte) []byte         { return b }
func (noSum) Reset()                      {}
func (noSum) Size() int                   { return 0 }
func (noSum) BlockSize() int              { return 1 }

// noEOF says that a file ended too early, not that it ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// padding fills up to four bytes, in which the format counts.
func padding(n int64) int64 { return -n & 3 }
