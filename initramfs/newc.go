package initramfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// A record is one member of a cpio archive while it is walked.
type record struct {
	header
	name    string
	content io.Reader
}

// walkNewc calls visit for each member of one archive, up to its trailer, within the limits of a package.
func walkNewc(ctx context.Context, r *bufio.Reader, visit func(record) error) error {
	for range maxFiles {
		raw := make([]byte, headerSize, headerSize+64)
		if _, err := io.ReadFull(r, raw); err != nil {
			return fmt.Errorf("read cpio header: %w", noEOF(err))
		}
		h, err := parseHeader(raw)
		if err != nil {
			return err
		}
		name, _, err := readName(r, raw, h.nameSize)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == trailer {
			return err
		}
		if h.Size > maxFile {
			return fmt.Errorf("%q: %w of %d bytes for a file", name, errLimit, maxFile)
		}
		content := &io.LimitedReader{R: r, N: int64(h.Size)}
		if err := visit(record{h, name, content}); errors.Is(err, errStop) {
			return err
		} else if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if _, err := io.CopyN(io.Discard, r, content.N+padding(int64(h.Size))); err != nil {
			return fmt.Errorf("%q: %w", name, noEOF(err))
		}
	}
	return fmt.Errorf("%w of %d files", errLimit, maxFiles)
}
