package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"muster/agent/chunk"
)

// sumOf is what is remembered of a piece: 0 for zeros.
func (w *imageWrite) sumOf(p []byte) uint64 {
	if chunk.AllZero(p) {
		return 0
	}
	return maphash.Bytes(w.seed, p)
}

// verify asks the disk, not the kernel's memory of it, for every chunk that was written.
func (w *imageWrite) verify(ctx context.Context) error {
	if err := w.disk.Forget(); err != nil {
		return errors.Join(err, w.spoil())
	}
	buf := make([]byte, w.source.size)
	meter := newMeter(w.agent, "reading back", w.want.RawBytes)
	for i, want := range w.sums {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		off, end := int64(i)*w.source.size, int64(i)*w.source.size+w.source.len(i)
		if i == 0 {
			off = int64(len(w.head))
		}
		if err := w.same(buf[:end-off], off, want); err != nil {
			return errors.Join(err, w.spoil())
		}
		w.done.Store(end)
		meter.tell(end)
	}
	meter.end()
	return nil
}

// same reads one chunk and compares its sum.
func (w *imageWrite) same(p []byte, off int64, want uint64) error {
	if _, err := w.disk.ReadAt(p, off); err != nil && err != io.EOF {
		return fmt.Errorf("read %d bytes at byte %d: %w", len(p), off, err)
	}
	w.disk.Dropped(off, int64(len(p)))
	if w.sumOf(p) != want {
		return fmt.Errorf("bytes %d to %d of the disk do not read back as they were written", off, off+int64(len(p))-1)
	}
	return nil
}

// finish writes the head, reads it back, lets the kernel see the partitions and lets go of the disk.
func (w *imageWrite) finish(context.Context) error {
	if err := w.putEnd(w.head, 0); err != nil {
		return errors.Join(err, w.spoil())
	}
	if err := w.disk.Reread(); err != nil { // the disk is right all the same
		w.agent.Console.Printf("%v", err)
	}
	w.close() // what follows mounts what is on the disk, which is held alone until here
	return nil
}

// putEnd writes what makes a disk start, and reads it back.
func (w *imageWrite) putEnd(p []byte, off int64) error {
	if _, err := w.disk.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %d bytes at byte %d: %w", len(p), off, err)
	}
	if err := w.disk.Sync(); err != nil {
		return fmt.Errorf("write out the bytes at byte %d: %w", off, err)
	}
	if err := w.disk.Forget(); err != nil {
		return err
	}
	return w.same(make([]byte, len(p)), off, w.sumOf(p))
}
