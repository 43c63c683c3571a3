package initramfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// The parts of an RPM file of format 3 and 4 (rpm.org, "RPM V4 Package format"): a lead, a header of signatures padded to
// eight bytes, the header of the package, and its files as a compressed cpio archive.
const (
	rpmLead      = 96
	rpmMagic     = "\x8e\xad\xe8\x01"
	maxRPMIndex  = 1 << 20   // entries of a header; a kernel with 6,000 files has 80
	maxRPMHeader = 256 << 20 // bytes of a header, rpm's own limit; none of it is kept
)

// walkRPM visits the files of an RPM. Neither its signature nor its digests are looked at: what loads is what the kernel
// itself verifies.
func walkRPM(ctx context.Context, file string, visit func(found) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return readRPM(ctx, bufio.NewReaderSize(f, 1<<16), visit)
}

func readRPM(ctx context.Context, in *bufio.Reader, visit func(found) error) error {
	if err := skipRPMHeaders(in); err != nil {
		return err
	}
	plain, err := unpack(ctx, in)
	if err != nil {
		return fmt.Errorf("read RPM payload: %w", err)
	}
	defer plain.Close()
	payload := bufio.NewReaderSize(io.LimitReader(plain, maxPackage), 1<<16)
	err = walkNewc(ctx, payload, func(r record) error { return visitRecord(r, visit) })
	if errors.Is(err, errStop) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read RPM payload: %w", err)
	}
	return nil
}

// skipRPMHeaders passes everything before the payload.
func skipRPMHeaders(r *bufio.Reader) error {
	if _, err := io.CopyN(io.Discard, r, rpmLead); err != nil {
		return fmt.Errorf("read RPM lead: %w", noEOF(err))
	}
	for _, part := range []struct {
		name  string
		align int64
	}{{"signature", 8}, {"header", 1}} {
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); err != nil {
			return fmt.Errorf("read RPM %s: %w", part.name, noEOF(err))
		}
		index, data := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if string(head[:4]) != rpmMagic || index > maxRPMIndex || data > maxRPMHeader {
			return fmt.Errorf("read RPM %s: magic %x, %d entries, %d bytes: not a header", part.name, head[:4], index, data)
		}
		size := 16*int64(index) + int64(data)
		if _, err := io.CopyN(io.Discard, r, size+(-size&(part.align-1))); err != nil {
			return fmt.Errorf("read RPM %s: %w", part.name, noEOF(err))
		}
	}
	return nil
}

// visitRecord hands on a regular file or link. Of files with several names only the last carries the bytes: the others
// look empty, and so do no harm here.
func visitRecord(r record, visit func(found) error) error {
	f := found{name: installedName(r.name), Reader: r.content}
	switch r.Mode & typeMask {
	case typeRegular:
		if r.Size == 0 {
			return nil
		}
	case typeLink:
		target, err := io.ReadAll(io.LimitReader(r.content, maxName))
		if err != nil {
			return err
		}
		f.link, f.Reader = string(target), nil
	default:
		return nil
	}
	return visit(f)
}

// installedName is the one name of "./usr/lib/x", "/lib/x" and "lib/x".
func installedName(name string) string { return strings.TrimPrefix(cleanName(name), "usr/") }
