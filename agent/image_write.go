package agent

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/chunk"
)

// look reads the first chunk of the image, while the disk is still as it was: what is wrong with an image mostly shows
// there.
func (w *imageWrite) look(ctx context.Context) (err error) {
	if w.source, err = w.openSource(ctx); err != nil {
		return err
	}
	w.first = make([]byte, w.source.len(0))
	if err := w.source.next(0, w.first); err != nil {
		return err
	}
	w.head = w.first[:min(endBytes, len(w.first))]
	return w.fits()
}

// write streams the file, unpacks it and writes all but its head.
func (w *imageWrite) write(ctx context.Context) error {
	err := w.writeChunks(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return errors.Join(err, w.spoil())
	}
	return nil
}

// spoil leaves a disk on which something went wrong with nothing at its ends, so that nothing starts from it and a
// retry finds it blank.
func (w *imageWrite) spoil() error {
	if err := w.disk.EraseEnds(); err != nil {
		return fmt.Errorf("and the ends of the disk may hold data: %w", err)
	}
	return nil
}

func (w *imageWrite) writeChunks(ctx context.Context) error {
	meter := newMeter(w.agent, "writing", w.want.RawBytes)
	at := int64(len(w.head))
	out := &flow{disk: w.disk, from: at, mid: at}
	put := func(p piece) error {
		if err := w.put(p); err != nil {
			return err
		}
		w.done.Store(p.off + p.n)
		meter.tell(p.off + p.n)
		return out.upTo(p.off + p.n)
	}
	if err := put(piece{off: at, n: int64(len(w.first)) - at, bytes: w.first[at:]}); err != nil {
		return err
	}
	w.head, w.first = append([]byte(nil), w.head...), nil
	if err := w.pump(ctx, put); err != nil {
		return err
	}
	if err := w.source.end(); err != nil {
		return err
	}
	if err := w.disk.Sync(); err != nil {
		return fmt.Errorf("write out the image: %w", err)
	}
	w.source.close()
	meter.end()
	return nil
}

// A flow sends what was written to the disk itself, a stretch at a time.
type flow struct {
	disk      *Disk
	from, mid int64 // the stretch before the last, which is on its way
}

func (f *flow) upTo(off int64) error {
	if off-f.mid < flowBytes {
		return nil
	}
	if err := f.disk.Flow(f.from, f.mid, off); err != nil {
		return err
	}
	f.from, f.mid = f.mid, off
	return nil
}

// A piece is a part of the image on its way to the disk: a chunk, but of the first what follows the head.
type piece struct {
	off, n int64
	bytes  []byte // nil: zeros
	buf    []byte // that bytes are part of, to be used again
}

// inFlight is how many chunks are fetched and unpacked while one is written.
const inFlight = 2

// pump gives every chunk after the first to put, while the next is being fetched and unpacked.
func (w *imageWrite) pump(ctx context.Context, put func(piece) error) error {
	ctx, cancel := context.WithCancel(ctx)
	free, full, ended := make(chan []byte, inFlight), make(chan piece), make(chan error, 1)
	for range min(inFlight, w.source.count()-1) {
		free <- make([]byte, w.source.size)
	}
	go func() {
		defer close(full)
		ended <- guard(func() error { return w.source.give(ctx, free, full) })
	}()
	defer func() {
		cancel()
		for range full { // until it has ended
		}
	}()
	for p := range full {
		if err := put(p); err != nil {
			w.source.cancel()
			return err
		}
		if p.buf != nil {
			free <- p.buf
		}
	}
	return <-ended
}

// give fetches chunk after chunk into free buffers.
func (s *source) give(ctx context.Context, free <-chan []byte, full chan<- piece) error {
	for i := 1; i < s.count(); i++ {
		p := piece{off: int64(i) * s.size, n: s.len(i)}
		if !s.zero(i) || !s.spans() {
			select {
			case p.buf = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			p.bytes = p.buf[:p.n]
		}
		if err := s.next(i, p.bytes); err != nil {
			return err
		}
		select {
		case full <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// put sums one piece and writes it. Zeros are made by the disk itself where it can: what it held there must go.
func (w *imageWrite) put(p piece) error {
	if p.bytes == nil || chunk.AllZero(p.bytes) {
		w.sums = append(w.sums, 0)
		return w.putZeros(p.off, p.n)
	}
	w.sums = append(w.sums, w.sumOf(p.bytes))
	if _, err := w.disk.WriteAt(p.bytes, p.off); err != nil {
		return fmt.Errorf("write %d bytes at byte %d: %w", p.n, p.off, err)
	}
	return nil
}

// zeros are written to disks that make none themselves. They are no slice: that would be made at every start, and be
// garbage enough for the collector to begin its first round before the program does.
var zeros [1 << 20]byte

func (w *imageWrite) putZeros(off, n int64) error {
	if n == 0 || w.disk.Zero(off, n) == nil {
		return nil
	}
	for ; n > 0; off, n = off+int64(len(zeros)), n-int64(len(zeros)) {
		part := zeros[:min(n, int64(len(zeros)))]
		if _, err := w.disk.WriteAt(part, off); err != nil {
			return fmt.Errorf("write %d bytes at byte %d: %w", len(part), off, err)
		}
	}
	return nil
}
