package initramfs

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	trailer    = "TRAILER!!!"
	headerSize = 110 // "070701" and thirteen numbers of eight hex digits
)

// A header is what stands before a name: Documentation/driver-api/early-userspace/buffer-format.rst.
type header struct {
	Entry
	nameSize uint32
	upper    bool // a capital letter was seen
}

// numbers are the fields in their order.
func (h *header) numbers() [13]*uint32 {
	return [13]*uint32{&h.Ino, &h.Mode, &h.UID, &h.GID, &h.Links, &h.Time, &h.Size, &h.DevMajor, &h.DevMinor, &h.Major,
		&h.Minor, &h.nameSize, &h.Check}
}

// parseHeader decodes the fixed part.
func parseHeader(b []byte) (header, error) {
	magic := string(b[:6])
	if magic != "070701" && magic != "070702" {
		return header{}, fmt.Errorf("%w: %q is no newc header", ErrFormat, magic)
	}
	var h header
	h.Checked = magic == "070702"
	for i, n := range h.numbers() {
		digits := string(b[6+8*i : 14+8*i])
		v, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return header{}, fmt.Errorf("%w: header field %d is %q", ErrFormat, i, digits)
		}
		*n = uint32(v)
		h.upper = h.upper || strings.ContainsAny(digits, "ABCDEF")
	}
	return h, nil
}

// appendHeader encodes e: the fixed part, the name and the padding after both.
func appendHeader(b []byte, e Entry, upper bool) []byte {
	h := header{Entry: e, nameSize: max(e.NameSize, uint32(len(e.Name)+1))}
	magic, format := "070701", "%08x"
	if e.Checked {
		magic = "070702"
	}
	if upper {
		format = "%08X"
	}
	b = append(b, magic...)
	for _, n := range h.numbers() {
		b = fmt.Appendf(b, format, *n)
	}
	b = append(b, e.Name...)
	return append(b, make([]byte, int64(h.nameSize)-int64(len(e.Name))+padding(headerSize+int64(h.nameSize)))...)
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
	name, rest, ended := strings.Cut(string(raw[headerSize:total]), "\x00")
	if !ended || strings.Trim(rest, "\x00") != "" {
		return "", nil, fmt.Errorf("%w: name %q does not end where it says", ErrFormat, name)
	}
	return name, raw, nil
}

// padding is how many bytes are missing to a multiple of four.
func padding(n int64) int64 { return -n & 3 }
