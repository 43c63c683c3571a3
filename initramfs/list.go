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
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Limits of a ramdisk that is read. A kernel has the first itself (PATH_MAX); the others keep a hostile file from
// filling memory (T37): 64 Ki files take less than 64 MB, and Debian's installer
// has 4,000.
const (
	maxName    = 4096
	maxNames   = 16 << 20 // bytes of all names and link targets
	maxEntries = 64 << 10
	maxUnpack  = 4 << 30 // bytes of all archives, unpacked
	maxArchive = 64
)

const (
	trailer    = "TRAILER!!!"
	headerSize = 110 // "070701" and thirteen numbers of eight hex digits
)

// Errors of reading a ramdisk. Callers tell a hostile or broken file by ErrFormat.
var (
	ErrFormat = errors.New("not a ramdisk that a kernel unpacks")
	errLimit  = errors.New("over the limit")
)

// List reads a ramdisk as a kernel would (init/initramfs.c): newc and crc archives in a row, padded with zeros, each
// plain or inside a gzip, zstd or xz member. The sizes of its parts compressed alone are not measured.
func List(r io.Reader) (*Manifest, error) { return read(r, false) }

// Measure is List and also compresses each part, which takes a second per 20 MB.
func Measure(r io.Reader) (*Manifest, error) { return read(r, true) }

func read(r io.Reader, measure bool) (*Manifest, error) {
	sum := sha256.New()
	file := &counter{}
	l := &lister{m: &Manifest{Format: "none"}, userland: newPart(measure), drivers: newPart(measure), left: maxUnpack}
	in := bufio.NewReaderSize(io.TeeReader(r, io.MultiWriter(sum, file)), 1<<16)
	if err := l.segments(in); err != nil {
		return nil, fmt.Errorf("archive %d, entry %d: %w", l.m.Archives, len(l.m.Entries), err)
	}
	if l.m.Archives == 0 {
		return nil, fmt.Errorf("%w: no archive in it", ErrFormat)
	}
	l.finish()
	l.m.SHA256, l.m.Total.Gzip = hex.EncodeToString(sum.Sum(nil)), file.n
	return l.m, nil
}

// A lister reads archives into a manifest.
type lister struct {
	m                 *Manifest
	userland, drivers *part
	left              int64 // bytes that may still be unpacked
	names             int   // bytes of names so far
}

// segments reads plain and compressed archives until r ends.
func (l *lister) segments(r *bufio.Reader) error {
	for {
		more, err := l.skipZeros(r)
		if err != nil || !more {
			return err
		}
		if c, ok := detect(r); ok {
			err = l.compressed(c, r)
		} else {
			err = l.archive(r)
		}
		if err != nil {
			return err
		}
	}
}

// compressed reads the archives of one compressed member. What is inside is not unpacked a second time.
func (l *lister) compressed(c compression, r *bufio.Reader) error {
	z, err := c.decompressor(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer z.Close()
	in := bufio.NewReaderSize(z, 1<<16)
	for {
		more, err := l.skipZeros(in)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", c.name, err)
		}
		if !more {
			l.m.Format = c.name
			return nil
		}
		if err := l.archive(in); err != nil {
			return fmt.Errorf("inside %s: %w", c.name, err)
		}
	}
}

// skipZeros passes the padding between archives and tells whether anything follows.
func (l *lister) skipZeros(r *bufio.Reader) (bool, error) {
	for {
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		head, _ := r.Peek(r.Buffered())
		n := len(head) - len(bytes.TrimLeft(head, "\x00"))
		if l.left -= int64(n); l.left < 0 {
			return false, fmt.Errorf("%w of %d bytes unpacked", errLimit, int64(maxUnpack))
		}
		if _, err := r.Discard(n); err != nil || n < len(head) {
			return err == nil, err
		}
	}
}

// archive reads one cpio archive up to and with its trailer.
func (l *lister) archive(r *bufio.Reader) error {
	if l.m.Archives++; l.m.Archives > maxArchive {
		return fmt.Errorf("%w of %d archives", errLimit, maxArchive)
	}
	for {
		done, err := l.entry(r)
		if err != nil || done {
			return err
		}
		if len(l.m.Entries) > maxEntries {
			return fmt.Errorf("%w of %d entries", errLimit, maxEntries)
		}
	}
}

// entry reads one member; the trailer is done = true.
func (l *lister) entry(r *bufio.Reader) (done bool, err error) {
	raw := make([]byte, headerSize, headerSize+64)
	if _, err := io.ReadFull(r, raw); err != nil {
		return false, fmt.Errorf("%w: read header: %w", ErrFormat, noEOF(err))
	}
	h, err := parseHeader(raw)
	if err != nil {
		return false, err
	}
	name, raw, err := readName(r, raw, h.nameSize)
	if err != nil {
		return false, err
	}
	if name == trailer {
		return true, discard(r, padding(int64(h.size))+int64(h.size))
	}
	if l.names += len(name); l.names > maxNames {
		return false, fmt.Errorf("%w of %d bytes of names", errLimit, maxNames)
	}
	e := h.entry()
	e.Name, e.Archive = name, l.m.Archives-1
	part := l.partOf(name)
	if part.write(raw); part.err != nil {
		return false, part.err
	}
	if e.Mode&typeMask == typeRegular {
		part.sizes.Files++
	}
	if err := l.content(r, part, &e, h); err != nil {
		return false, fmt.Errorf("read %q: %w", name, err)
	}
	l.m.Entries = append(l.m.Entries, e)
	return false, nil
}

// partOf says whether an entry counts as userland or as kernel modules.
func (l *lister) partOf(name string) *part {
	if strings.HasPrefix(cleanName(name)+"/", "lib/modules/") {
		return l.drivers
	}
	return l.userland
}

// content reads what follows the name: a file's bytes, a link's target, nothing of others.
func (l *lister) content(r *bufio.Reader, part *part, e *Entry, h header) error {
	size, pad := int64(h.size), padding(int64(h.size))
	if l.left -= headerSize + int64(len(e.Name)) + size; l.left < 0 {
		return fmt.Errorf("%w of %d bytes unpacked", errLimit, int64(maxUnpack))
	}
	var crc checksum
	sinks := []io.Writer{part, &crc}
	var target strings.Builder
	var sum hash.Hash
	switch e.Mode & typeMask {
	case typeLink:
		if size > maxName {
			return fmt.Errorf("%w: link target of %d bytes", ErrFormat, size)
		}
		if l.names += int(size); l.names > maxNames {
			return fmt.Errorf("%w of %d bytes of names", errLimit, maxNames)
		}
		sinks = append(sinks, &target)
	case typeRegular:
		sum = sha256.New()
		sinks = append(sinks, sum)
	}
	if _, err := io.CopyN(io.MultiWriter(sinks...), r, size); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, noEOF(err))
	}
	if h.crc && uint32(crc) != h.check && e.Mode&typeMask == typeRegular {
		return fmt.Errorf("%w: checksum is %08x, want %08x", ErrFormat, uint32(crc), h.check)
	}
	e.Target = target.String()
	if sum != nil {
		e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	_, err := io.CopyN(part, r, pad)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, noEOF(err))
	}
	return nil
}

// finish fills in what is known only at the end.
func (l *lister) finish() {
	l.m.Userland, l.m.Drivers = l.userland.finish(), l.drivers.finish()
	l.m.Total.Files = l.m.Userland.Files + l.m.Drivers.Files
	l.m.Total.Raw = l.m.Userland.Raw + l.m.Drivers.Raw
	last := make(map[string]int, len(l.m.Entries))
	for i := range l.m.Entries {
		name := cleanName(l.m.Entries[i].Name)
		if earlier, ok := last[name]; ok {
			l.m.Entries[earlier].Replaced = true
		}
		last[name] = i
	}
	for name := range last {
		release, module, ok := moduleOfPath(name)
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

// A header is what stands before a name: Documentation/driver-api/early-userspace/buffer-format.rst.
type header struct {
	crc                               bool
	ino, mode, uid, gid, links, mtime uint32
	size, major, minor                uint32
	nameSize, check                   uint32
}

// parseHeader decodes the fixed part. Two of its numbers, of the device that held the file, mean nothing to a kernel.
func parseHeader(b []byte) (header, error) {
	magic := string(b[:6])
	if magic != "070701" && magic != "070702" {
		return header{}, fmt.Errorf("%w: %q is no newc header", ErrFormat, magic)
	}
	var n [13]uint32
	for i := range n {
		digits := string(b[6+8*i : 14+8*i])
		v, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return header{}, fmt.Errorf("%w: header field %d is %q", ErrFormat, i, digits)
		}
		n[i] = uint32(v)
	}
	return header{crc: magic == "070702", ino: n[0], mode: n[1], uid: n[2], gid: n[3], links: n[4], mtime: n[5],
		size: n[6], major: n[9], minor: n[10], nameSize: n[11], check: n[12]}, nil
}

// entry is what of a header concerns a reader.
func (h header) entry() Entry {
	e := Entry{Mode: h.mode, UID: h.uid, GID: h.gid, Links: h.links, Ino: h.ino, Time: h.mtime, Size: h.size}
	if t := h.mode & typeMask; t == typeChar || t == typeBlock {
		e.Major, e.Minor = h.major, h.minor
	}
	return e
}

// readName reads a name with its final zero and the padding after it, and appends them to raw.
func readName(r *bufio.Reader, raw []byte, size uint32) (string, []byte, error) {
	if size == 0 || size > maxName {
		return "", nil, fmt.Errorf("%w: name of %d bytes", ErrFormat, size)
	}
	total := int64(headerSize) + int64(size)
	raw = append(raw, make([]byte, total+padding(total)-headerSize)...)
	if _, err := io.ReadFull(r, raw[headerSize:]); err != nil {
		return "", nil, fmt.Errorf("%w: read name: %w", ErrFormat, noEOF(err))
	}
	name := string(raw[headerSize : total-1])
	if raw[total-1] != 0 || strings.ContainsRune(name, 0) {
		return "", nil, fmt.Errorf("%w: name %q does not end where it says", ErrFormat, name)
	}
	return name, raw, nil
}

// padding is how many bytes are missing to a multiple of four.
func padding(n int64) int64 { return -n & 3 }

// discard passes n bytes; an archive may end right after its trailer.
func discard(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
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

// A part measures a share of the archive.
type part struct {
	sizes  Sizes
	packed counter
	z      *gzip.Writer // nil when not measured
	err    error
}

// newPart starts a part; its compressor is as the one that writes ramdisks.
func newPart(measure bool) *part {
	p := &part{}
	if measure {
		p.z, p.err = gzip.NewWriterLevel(&p.packed, gzipLevel)
	}
	return p
}

func (p *part) write(b []byte) { _, _ = p.Write(b) }

// Write implements io.Writer.
func (p *part) Write(b []byte) (int, error) {
	p.sizes.Raw += int64(len(b))
	if p.z == nil || p.err != nil {
		return len(b), p.err
	}
	_, p.err = p.z.Write(b)
	return len(b), p.err
}

// finish gives the sizes.
func (p *part) finish() Sizes {
	if p.z != nil && p.sizes.Raw > 0 {
		_ = p.z.Close() // its writer, a counter, never fails
		p.sizes.Gzip = p.packed.n
	}
	return p.sizes
}
