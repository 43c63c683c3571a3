package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"muster/agent/chunk"
	"muster/agent/packing"
)

// A source gives the chunks of an image in order. With a list each is compared before it is given, and those of zeros are
// not fetched at all where the file is the plain image; without one only the sum of the whole file is compared, at its end.
type source struct {
	want   string // sha256 of the file
	all    int64  // bytes of the image
	size   int64  // bytes of a chunk
	list   *chunk.List
	plain  bool // the file is the image
	stream *stream
	sum    hash.Hash // of the file, as far as it was read; nil when the chunks say all
	packed io.Reader
	raw    io.Reader
	stop   func() // frees what raw holds
	cancel func() // ends every wait for the broker
	run    int    // first chunk that is not part of the span being fetched
}

// openSource asks for nothing yet.
func (w *imageWrite) openSource(ctx context.Context) (*source, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &source{want: w.want.SHA256, all: w.want.RawBytes, size: chunk.Size, list: w.list, stop: func() {}, cancel: cancel,
		plain: w.want.Compression == packing.None, stream: w.agent.newStream(ctx, w.want.Path, w.want.SizeBytes)}
	if w.list != nil {
		s.size = w.list.Size
	}
	if s.spans() {
		s.raw = s.stream
		return s, nil
	}
	s.sum = sha256.New()
	s.packed = io.TeeReader(s.stream, s.sum)
	return s, s.open(w.want.Compression)
}

func (s *source) open(compression string) error {
	raw, stop, err := packing.New(s.packed, compression)
	if err != nil {
		return s.cut(err, 0)
	}
	s.raw, s.stop = raw, stop
	return nil
}

// spans says whether parts of the file are parts of the image.
func (s *source) spans() bool { return s.list != nil && s.plain }

func (s *source) close() {
	s.cancel()
	s.stop()
	s.stream.Close()
}

// count is how many chunks there are.
func (s *source) count() int { return int((s.all + s.size - 1) / s.size) }

// len is how many bytes chunk i has.
func (s *source) len(i int) int64 { return min(s.size, s.all-int64(i)*s.size) }

// zero says whether chunk i is known to be nothing but zeros.
func (s *source) zero(i int) bool { return s.list != nil && s.list.Zero(i) }

// next fills p with chunk i, the one after the last. A chunk of zeros that is not fetched leaves p alone.
func (s *source) next(i int, p []byte) error {
	off := int64(i) * s.size
	if s.spans() {
		if s.zero(i) {
			return nil
		}
		s.fetch(i)
	}
	if n, err := io.ReadFull(s.raw, p); err != nil {
		return s.cut(err, off+int64(n))
	}
	if s.list != nil {
		return s.list.Check(i, p)
	}
	return nil
}

// fetch begins a span at chunk i when it is in none: up to the next chunk of zeros.
func (s *source) fetch(i int) {
	if i < s.run {
		return
	}
	for s.run = i; s.run < s.count() && !s.zero(s.run); s.run++ {
	}
	s.stream.span(int64(i)*s.size, min(int64(s.run)*s.size, s.all))
}

// cut is the error of an image that ended, or could not be unpacked, before its end. When it is the file that is not the
// promised one, that is the cause.
func (s *source) cut(err error, at int64) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the image ends at byte %d; the broker promised %d", at, s.all)
	} else if !s.spans() {
		err = fmt.Errorf("unpack the image at byte %d: %w", at, err)
	}
	if bad := s.mismatch(); bad != nil {
		return bad
	}
	return err
}

// errTooLong ends an image that goes on after its promised end.
var errTooLong = errors.New("the image unpacks to more than the broker promised")

// end makes sure that the image ends where it should, and that the file was the promised one.
func (s *source) end() error {
	if s.spans() {
		return nil
	}
	n, err := io.ReadFull(s.raw, make([]byte, 1))
	switch {
	case n > 0:
		return fmt.Errorf("%w: %d bytes", errTooLong, s.all)
	case err != io.EOF:
		return s.cut(err, s.all)
	}
	return s.mismatch()
}

// mismatch reads what is left of the file, and gives the error when its sum is not the promised one.
func (s *source) mismatch() error {
	if s.sum == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, s.packed); err != nil {
		return err
	}
	if got := hex.EncodeToString(s.sum.Sum(nil)); !strings.EqualFold(got, s.want) {
		return fmt.Errorf("image sha256 is %s; the broker promised %s", got, strings.ToLower(s.want))
	}
	return nil
}

// listChunks fetches the list of the image's chunks, when the order names one. Nothing else says what the image is from
// then on, so it must have the sum of the order.
func (w *imageWrite) listChunks(ctx context.Context) error {
	named := w.want.Chunks
	if named == nil {
		return nil
	}
	s := w.agent.newStream(ctx, named.Path, named.SizeBytes)
	defer s.Close()
	b, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); !strings.EqualFold(got, named.SHA256) {
		return fmt.Errorf("its sha256 is %s; the broker promised %s", got, strings.ToLower(named.SHA256))
	}
	if w.list, err = chunk.Decode(b); err != nil {
		return err
	}
	if w.list.Raw != w.want.RawBytes {
		return fmt.Errorf("it is of an image of %d bytes; the order says %d", w.list.Raw, w.want.RawBytes)
	}
	return nil
}
