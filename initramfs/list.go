package initramfs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
)

// Limits of a ramdisk that is read. A kernel has the first itself (PATH_MAX); the others keep a hostile file from
// filling memory or disk (T37): 32 Ki files take less than 64 MB, and Debian's installer has 2,400.
const (
	maxName    = 4096
	maxNames   = 8 << 20 // bytes of all names and link targets
	maxEntries = 32 << 10
	maxUnpack  = 4 << 30 // bytes of all archives, unpacked
	maxArchive = 64

	freeUnpack = 5 << 28 // 1.25 GiB may come out of however few bytes: a ramdisk of a disk image is mostly zeros
	maxRatio   = 100     // beyond, that many bytes unpacked for each of the file; real files reach 10
)

// SoftMemory is what a program that opens ramdisks of others gives to debug.SetMemoryLimit: with the largest manifest
// there can be, the collector then keeps the whole process below 64 MB. Windows of more than 8 MB, which xz -7 and above
// ask for, come on top.
const SoftMemory = 44 << 20

// Errors of reading a ramdisk. Callers tell a hostile or broken file by ErrFormat.
var (
	ErrFormat = errors.New("not a ramdisk that a kernel unpacks")
	errLimit  = errors.New("over the limit")
)

// List reads a ramdisk as a kernel would (init/initramfs.c): newc and crc archives in a row, padded with zeros, each
// plain or inside a compressed member. Unlike a kernel it refuses an archive that ends without a trailer, because that
// is how one that was cut short looks. The sizes of its parts compressed alone are not measured.
func List(r io.Reader) (*Manifest, error) { return read(r, false, nil) }

// Measure is List and also compresses each part, which takes a second per 20 MB.
func Measure(r io.Reader) (*Manifest, error) { return read(r, true, nil) }

// A visit is told of each entry by its number, when its content, which only a regular file has, can be read; the entry's
// sum is not yet known then.
type visit func(i int, e Entry, content io.Reader) error

// read is List with a visit of each entry, unless that is nil.
func read(r io.Reader, measure bool, each visit) (*Manifest, error) {
	l := &lister{m: &Manifest{Format: "none"}, userland: newPart(measure), drivers: newPart(measure), each: each}
	if err := l.read(r); err != nil {
		return nil, err
	}
	l.finish()
	return l.m, nil
}

// read reads all of a ramdisk.
func (l *lister) read(r io.Reader) error {
	sum := sha256.New()
	l.file = newCursor(io.TeeReader(r, sum))
	if err := l.segments(); err != nil {
		return fmt.Errorf("%s: %w", l.where(), err)
	}
	if l.m.Archives == 0 {
		return fmt.Errorf("%w: no archive in it", ErrFormat)
	}
	l.m.SHA256, l.m.Total.Gzip = hex.EncodeToString(sum.Sum(nil)), l.file.pos()
	return nil
}

// An Image is a ramdisk that can be read more than once.
type Image interface {
	io.ReadSeeker
	io.ReaderAt
}

// readImage is List from the start of an image.
func readImage(image Image) (*Manifest, error) {
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return List(image)
}

// readAgain visits the entries of an image that m was read from, and keeps none of them. One that has changed since is
// an error.
func readAgain(image Image, m *Manifest, each visit) error {
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return err
	}
	l := &lister{m: &Manifest{}, userland: newPart(false), drivers: newPart(false), each: each, again: true}
	if err := l.read(image); err != nil {
		return err
	}
	if l.m.SHA256 != m.SHA256 {
		return errors.New("the ramdisk changed while it was read")
	}
	return nil
}

// A cursor is a buffered reader that knows how far it is.
type cursor struct {
	*bufio.Reader
	read counter
}

func newCursor(r io.Reader) *cursor {
	c := &cursor{}
	c.Reader = bufio.NewReaderSize(io.TeeReader(r, &c.read), 1<<16)
	return c
}

func (c *cursor) pos() int64 { return c.read.n - int64(c.Buffered()) }

// A lister reads archives into a manifest.
type lister struct {
	m                 *Manifest
	userland, drivers *part
	each              visit
	again             bool // no entries are kept, and no sums of content made
	count             int  // entries so far
	file              *cursor
	segment           Segment // being read
	name              string  // of the entry being read; "" between entries
	offset            int64   // of its header
	unpacked          int64   // bytes of compressed members so far
	claimed           int64   // bytes that entries said they have
	names             int     // bytes of names so far
}

// where says what was being read.
func (l *lister) where() string {
	s := fmt.Sprintf("segment %d (%s, from byte %d of the file)", len(l.m.Segments), l.segment.Format, l.segment.Offset)
	if l.segment.Format == "" {
		return fmt.Sprintf("byte %d of the file", l.file.pos())
	}
	if l.name != "" {
		return fmt.Sprintf("%s, entry %q at byte %d", s, l.name, l.offset)
	}
	return fmt.Sprintf("%s, entry %d at byte %d", s, l.count, l.offset)
}

// segments reads plain and compressed archives until the file ends.
func (l *lister) segments() error {
	for {
		l.segment = Segment{}
		zeros, more, err := l.skipZeros(l.file)
		if n := len(l.m.Segments); n > 0 {
			l.m.Segments[n-1].Padding = zeros
		}
		if err != nil || !more {
			return err
		}
		l.segment.Offset = l.file.pos()
		if c, ok := detect(l.file.Reader); ok {
			err = l.compressed(c)
		} else {
			err = l.plain()
		}
		if err != nil {
			return err
		}
		l.segment.Size = l.file.pos() - l.segment.Offset
		l.m.Segments = append(l.m.Segments, l.segment)
	}
}

// plain reads an archive that is not compressed. A kernel looks for one at multiples of four only.
func (l *lister) plain() error {
	at := l.segment.Offset
	if head, _ := l.file.Peek(1); string(head) != "0" {
		head, _ = l.file.Peek(6)
		return fmt.Errorf("%w: %q is neither an archive nor a compression", ErrFormat, head)
	}
	if at&3 != 0 {
		return fmt.Errorf("%w: archive at byte %d, which is no multiple of four", ErrFormat, at)
	}
	l.segment.Format = "none"
	err := l.archive(l.file, at)
	l.segment.Unpacked = l.file.pos() - at
	return err
}

// compressed reads the archives of one compressed member. What is inside is not unpacked a second time.
func (l *lister) compressed(c compression) error {
	l.segment.Format = c.name
	z, err := c.decompressor(l.file.Reader)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer z.Close()
	in := newCursor(&meter{z, l})
	for {
		zeros, more, err := l.skipZeros(in)
		if n := len(l.segment.Archives); n > 0 {
			l.segment.Archives[n-1].Padding = zeros
		}
		if l.segment.Unpacked = in.pos(); err != nil {
			return fmt.Errorf("unpack %s: %w", c.name, err)
		}
		if !more && len(l.segment.Archives) == 0 {
			return fmt.Errorf("%w: no archive in the %s member", ErrFormat, c.name)
		}
		if !more {
			l.m.Format = c.name
			return nil
		}
		if err := l.archive(in, 0); err != nil {
			return fmt.Errorf("inside %s: %w", c.name, err)
		}
	}
}

// A meter ends a compressed member that grows beyond reason.
type meter struct {
	z io.Reader
	l *lister
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.z.Read(p)
	m.l.unpacked += int64(n)
	switch u := m.l.unpacked; {
	case u > maxUnpack:
		return 0, fmt.Errorf("%w of %d bytes unpacked", errLimit, int64(maxUnpack))
	case u > freeUnpack && u/maxRatio > m.l.file.pos():
		return 0, fmt.Errorf("%w of %d bytes unpacked out of %d", errLimit, u, m.l.file.pos())
	}
	return n, err
}

// skipZeros passes the padding between archives and tells how long it is and whether anything follows.
func (l *lister) skipZeros(r *cursor) (zeros int64, more bool, err error) {
	for {
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return zeros, false, nil
		} else if err != nil {
			return zeros, false, err
		}
		head, _ := r.Peek(r.Buffered())
		n := len(head) - len(bytes.TrimLeft(head, "\x00"))
		if zeros += int64(n); zeros > maxUnpack {
			return zeros, false, fmt.Errorf("%w of %d zeros", errLimit, int64(maxUnpack))
		}
		if _, err := r.Discard(n); err != nil || n < len(head) {
			return zeros, err == nil, err
		}
	}
}

// archive reads one cpio archive up to and with its trailer. Offsets count from base.
func (l *lister) archive(r *cursor, base int64) error {
	if l.m.Archives++; l.m.Archives > maxArchive {
		return fmt.Errorf("%w of %d archives", errLimit, maxArchive)
	}
	a := Archive{Offset: r.pos() - base}
	for {
		l.name, l.offset = "", r.pos()-base
		done, err := l.entry(r, &a)
		if err != nil {
			return err
		}
		if l.count > maxEntries {
			return fmt.Errorf("%w of %d entries", errLimit, maxEntries)
		}
		if done {
			a.Size = r.pos() - base - a.Offset
			l.segment.Archives = append(l.segment.Archives, a)
			return nil
		}
	}
}

// entry reads one member; the trailer is done = true.
func (l *lister) entry(r *cursor, a *Archive) (done bool, err error) {
	if head, err := r.Peek(1); errors.Is(err, io.EOF) || err == nil && string(head) != "0" {
		return false, fmt.Errorf("%w: no trailer where the archive ends", ErrFormat)
	}
	raw := make([]byte, headerSize, headerSize+64)
	if _, err := io.ReadFull(r, raw); err != nil {
		return false, fmt.Errorf("%w: read header: %w", ErrFormat, noEOF(err))
	}
	h, err := parseHeader(raw)
	if err != nil {
		return false, err
	}
	a.Upper = a.Upper || h.upper
	e := h.Entry
	e.Name, raw, err = readName(r.Reader, raw, h.nameSize)
	if err != nil {
		return false, err
	}
	if int(h.nameSize) != len(e.Name)+1 {
		e.NameSize = h.nameSize
	}
	l.name, e.Offset, e.Archive = e.Name, l.offset, l.m.Archives-1
	if e.Name == trailer {
		a.Trailer = e
		if e.Size != 0 {
			return false, fmt.Errorf("%w: a trailer of %d bytes", ErrFormat, e.Size)
		}
		return true, nil
	}
	if l.names += len(e.Name); l.names > maxNames {
		return false, fmt.Errorf("%w of %d bytes of names", errLimit, maxNames)
	}
	part := l.partOf(e.Name)
	if part.write(raw); part.err != nil {
		return false, part.err
	}
	if err := l.content(r.Reader, part, &e); err != nil {
		return false, err
	}
	if l.count++; !l.again {
		l.m.Entries = append(l.m.Entries, e)
	}
	return false, nil
}

// partOf says whether an entry counts as userland or as kernel modules.
func (l *lister) partOf(name string) *part {
	if strings.HasPrefix(strings.TrimPrefix(cleanName(name), "usr/")+"/", "lib/modules/") {
		return l.drivers
	}
	return l.userland
}

// content reads what follows the name: a file's bytes, a link's target, nothing of others.
func (l *lister) content(r *bufio.Reader, part *part, e *Entry) error {
	size := int64(e.Size)
	if l.claimed += headerSize + int64(len(e.Name)) + size; l.claimed > maxUnpack {
		return fmt.Errorf("%w of %d bytes unpacked", errLimit, int64(maxUnpack))
	}
	in := io.TeeReader(io.LimitReader(r, size), part)
	var err error
	switch e.kind() {
	case typeLink:
		err = l.target(in, e)
	case typeRegular:
		part.sizes.Files++
		err = l.regular(in, e)
	default:
		err = l.visit(*e, strings.NewReader(""))
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := io.CopyN(part, r, padding(size)); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, noEOF(err))
	}
	return nil
}

func (l *lister) visit(e Entry, content io.Reader) error {
	if l.each == nil {
		return nil
	}
	return l.each(l.count, e, content)
}

// target reads where a symbolic link points.
func (l *lister) target(in io.Reader, e *Entry) error {
	if e.Size > maxName {
		return fmt.Errorf("%w: link target of %d bytes", ErrFormat, e.Size)
	}
	if l.names += int(e.Size); l.names > maxNames {
		return fmt.Errorf("%w of %d bytes of names", errLimit, maxNames)
	}
	b := make([]byte, e.Size)
	if _, err := io.ReadFull(in, b); err != nil {
		return fmt.Errorf("%w: read target: %w", ErrFormat, noEOF(err))
	}
	target, rest, _ := bytes.Cut(b, []byte{0}) // usr/gen_init_cpio.c counts the zero that ends it
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return fmt.Errorf("%w: a zero inside of the target %q", ErrFormat, b)
	}
	e.Target = string(target)
	return l.visit(*e, strings.NewReader(""))
}

// regular sums up the content of a file and lets it be visited.
func (l *lister) regular(in io.Reader, e *Entry) error {
	var crc checksum
	var read counter
	var sum hash.Hash = noSum{}
	if !l.again {
		sum = sha256.New()
	}
	content := io.TeeReader(in, io.MultiWriter(&crc, &read, sum))
	if err := l.visit(*e, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if read.n != int64(e.Size) {
		return fmt.Errorf("%w: %d bytes of %d: %w", ErrFormat, read.n, e.Size, io.ErrUnexpectedEOF)
	}
	if e.Checked && uint32(crc) != e.Check {
		return fmt.Errorf("%w: checksum is %08x, want %08x", ErrFormat, uint32(crc), e.Check)
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// finish fills in what is known only at the end.
func (l *lister) finish() {
	l.m.Userland, l.m.Drivers = l.userland.finish(), l.drivers.finish()
	l.m.Total.Files = l.m.Userland.Files + l.m.Drivers.Files
	l.m.Total.Raw = l.m.Userland.Raw + l.m.Drivers.Raw
	left := l.m.unpack()
	for i := range l.m.Entries {
		l.m.Entries[i].Lost, l.m.Entries[i].Replaced = left.lost[i], left.lost[i] == "" && !left.lives(i)
	}
	for name := range left.files() {
		release, module, ok := moduleOfPath(strings.TrimPrefix(name, "usr/"))
		if ok {
			l.m.Kernel = max(l.m.Kernel, release)
			l.m.Modules = append(l.m.Modules, module)
		}
	}
	slices.Sort(l.m.Modules)
	l.m.Modules = slices.Compact(l.m.Modules)
}

// moduleOfPath finds the release and the name of a module file of a ramdisk.
func moduleOfPath(name string) (release, module string, ok bool) {
	rest, ok := strings.CutPrefix(name, "lib/modules/")
	if !ok {
		return "", "", false
	}
	release, file, _ := strings.Cut(rest, "/")
	base, _, ok := cutModuleSuffix(path.Base(file))
	return release, moduleName(base), ok
}

// noEOF says that a file ended too early, not that it ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A counter counts bytes.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// A checksum adds up bytes, as 070702 headers say it.
type checksum uint32

func (c *checksum) Write(p []byte) (int, error) {
	for _, b := range p {
		*c += checksum(b)
	}
	return len(p), nil
}

// noSum is a sum that nobody asks for.
type noSum struct{}

func (noSum) Write(p []byte) (int, error) { return len(p), nil }
func (noSum) Sum(b []byte) []byte         { return b }
func (noSum) Reset()                      {}
func (noSum) Size() int                   { return 0 }
func (noSum) BlockSize() int              { return 1 }
