package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/agent/facts"
)

// chunkBytes is what is unpacked, summed, written and later read back at a time.
const chunkBytes = 4 << 20

// flowBytes is how much may be on its way to the disk while more is unpacked.
const flowBytes = 32 << 20

// maxWindow is the largest zstd window unpacked: what zstd -19 needs four times over, and affordable in 512 MB.
const maxWindow = 32 << 20

// An imageWrite is one image on its way to one disk. The first MiB of the image is kept in memory and reaches the
// disk last, after the sum of the whole file and what the disk gives back were both found right: a machine that loses
// power at any moment before has no boot sector and no partition table, and never starts half an image.
type imageWrite struct {
	agent *Agent
	order int64
	want  facts.WriteImage
	entry facts.Disk // as the last probe found it
	disk  *Disk

	head []byte       // the first MiB
	seed maphash.Seed // of sums
	sums []uint64     // of every chunk after the head: enough to find what a disk forgot, at memory speed
	done atomic.Int64
	step atomic.Value // string: what is being done
	took map[string]int64
}

// imageSteps is the whole work in order. What fails before "erase" leaves the disk as it was.
var imageSteps = []struct {
	name  string
	phase string // under which its time is reported
	do    func(*imageWrite, context.Context) error
}{
	{"find the disk", "", (*imageWrite).find},
	{"check the disk", "", (*imageWrite).check},
	{"erase the disk's ends", "write", (*imageWrite).erase},
	{"write the image", "write", (*imageWrite).write},
	{"read the image back", "verify", (*imageWrite).verify},
	{"write the boot sector", "verify", (*imageWrite).finish},
	{"put the files", "files", (*imageWrite).files},
}

// writeImage obeys an order of that kind.
func (a *Agent) writeImage(ctx context.Context, o facts.Order) (facts.Report, error) {
	if o.Image == nil {
		return facts.Report{}, errors.New("the order to write an image has no image")
	}
	w := &imageWrite{agent: a, order: o.ID, want: *o.Image, seed: maphash.MakeSeed(), took: map[string]int64{}}
	w.step.Store("")
	defer w.close()
	defer a.progress(ctx, w.progressReport)()
	for _, s := range imageSteps {
		w.step.Store(s.name)
		began := a.Now()
		if err := s.do(w, ctx); err != nil {
			return facts.Report{}, fmt.Errorf("%s: %w", s.name, err)
		}
		if s.phase != "" {
			w.took[s.phase] += a.Now().Sub(began).Milliseconds()
		}
	}
	return facts.Report{DoneBytes: w.want.RawBytes, AllBytes: w.want.RawBytes, TimingMS: w.took}, nil
}

func (w *imageWrite) close() {
	if w.disk != nil {
		w.disk.Close()
		w.disk = nil
	}
}

func (w *imageWrite) progressReport() facts.Report {
	return facts.Report{
		Order: w.order, Status: facts.StatusProgress, Message: w.step.Load().(string),
		DoneBytes: w.done.Load(), AllBytes: w.want.RawBytes,
	}
}

// find looks for the disk anew (T52).
func (w *imageWrite) find(ctx context.Context) (err error) {
	w.entry, err = findTarget(w.agent.Probe(ctx, "disks").Facts.Disks, w.want.Disk)
	return err
}

// check opens the disk and refuses, before a byte is written, an image that does not fit (F46) and a disk that holds
// something when the order does not allow to wipe it (T54).
func (w *imageWrite) check(context.Context) error {
	if err := checkImage(w.want); err != nil {
		return err
	}
	disk, err := w.agent.OpenDisk(w.entry.Name)
	if err != nil {
		return fmt.Errorf("open disk %s: %w", w.entry.Name, err)
	}
	w.disk = disk
	switch {
	case disk.Size != w.want.Disk.SizeBytes:
		return fmt.Errorf("disk %s has %d bytes; the order says %d", w.entry.Name, disk.Size, w.want.Disk.SizeBytes)
	case disk.Size < w.want.RawBytes:
		return fmt.Errorf("the image has %d bytes; disk %s has %d", w.want.RawBytes, w.entry.Name, disk.Size)
	case w.want.Wipe:
		return nil
	}
	if held := holds(w.entry); held != "" {
		return fmt.Errorf("disk %s holds %s and the order does not allow to wipe it", w.entry.Name, held)
	}
	blank, at, err := disk.Blank()
	if err == nil && !blank {
		err = fmt.Errorf("disk %s holds data at byte %d and the order does not allow to wipe it", w.entry.Name, at)
	}
	return err
}

// checkImage refuses orders that make no sense.
func checkImage(i facts.WriteImage) error {
	switch {
	case i.SizeBytes <= 0 || i.RawBytes <= 0:
		return fmt.Errorf("an image of %d bytes that unpacks to %d is none", i.SizeBytes, i.RawBytes)
	case len(i.SHA256) != 2*sha256.Size:
		return fmt.Errorf("%q is no SHA-256 sum", i.SHA256)
	case i.Compression != "zstd" && i.Compression != "gzip" && i.Compression != "none":
		return fmt.Errorf("compression %q is not known", i.Compression)
	}
	return nil
}

// holds says what the probe found on a disk; "" for nothing.
func holds(d facts.Disk) string {
	switch {
	case len(d.Partitions) > 0:
		return fmt.Sprintf("a %s partition table with %s", d.Table, plural(len(d.Partitions), "partition"))
	case d.Table != "":
		return "a " + d.Table + " partition table"
	case d.Content != nil:
		return d.Content.Type
	}
	return ""
}

func (w *imageWrite) erase(context.Context) error {
	w.agent.Console.Printf("erasing both ends of %s (%s)", w.entry.Name, w.entry.ID)
	return w.disk.EraseEnds()
}

// write streams the file, unpacks it and writes all but its head. When anything is wrong with the file, the error
// holds its sum beside the promised one.
func (w *imageWrite) write(ctx context.Context) error {
	src := w.agent.newStream(ctx, w.want.Path, w.want.SizeBytes)
	defer src.Close()
	sum := sha256.New()
	summed := io.TeeReader(src, sum)
	err := w.unpack(summed)
	var media *diskError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &media), errors.Is(err, errTooLong):
		return errors.Join(err, w.spoil())
	}
	// What the unpacker left belongs to the sum too; a bad file is read to its end for it.
	if _, rest := io.Copy(io.Discard, summed); rest != nil {
		return errors.Join(rest, w.spoil())
	}
	if mismatch := w.compareSum(sum); mismatch != nil {
		return errors.Join(mismatch, w.spoil())
	}
	if err != nil {
		return errors.Join(err, w.spoil())
	}
	return nil
}

func (w *imageWrite) compareSum(sum hash.Hash) error {
	got := hex.EncodeToString(sum.Sum(nil))
	if strings.EqualFold(got, w.want.SHA256) {
		return nil
	}
	return fmt.Errorf("image sha256 is %s; the broker promised %s", got, strings.ToLower(w.want.SHA256))
}

// spoil leaves a disk on which something went wrong with nothing at its ends, so that nothing starts from it and a
// retry finds it blank.
func (w *imageWrite) spoil() error {
	if err := w.disk.EraseEnds(); err != nil {
		return fmt.Errorf("and the ends of the disk may hold data: %w", err)
	}
	return nil
}

// errTooLong ends an image that goes on after its promised end.
var errTooLong = errors.New("the image unpacks to more than the broker promised")

// A diskError is a fault of the disk, not of the image.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// unpack writes the unpacked image after its head and sums every chunk.
func (w *imageWrite) unpack(packed io.Reader) error {
	raw, stop, err := unpacker(packed, w.want.Compression)
	if err != nil {
		return fmt.Errorf("unpack the image: %w", err)
	}
	defer stop()
	w.head = make([]byte, min(endBytes, w.want.RawBytes))
	if err := readFull(raw, w.head, 0, w.want.RawBytes); err != nil {
		return err
	}
	w.done.Store(int64(len(w.head)))
	buf := make([]byte, chunkBytes)
	meter := newMeter(w.agent, "writing", w.want.RawBytes)
	from, mid := int64(len(w.head)), int64(len(w.head))
	for off := int64(len(w.head)); off < w.want.RawBytes; {
		chunk := buf[:min(chunkBytes, w.want.RawBytes-off)]
		if err := readFull(raw, chunk, off, w.want.RawBytes); err != nil {
			return err
		}
		if err := w.put(chunk, off); err != nil {
			return &diskError{err}
		}
		off += int64(len(chunk))
		if off-mid >= flowBytes {
			if err := w.disk.Flow(from, mid, off); err != nil {
				return &diskError{err}
			}
			from, mid = mid, off
		}
		w.done.Store(off)
		meter.tell(off)
	}
	if err := w.disk.Sync(); err != nil {
		return &diskError{fmt.Errorf("write out the image: %w", err)}
	}
	meter.end()
	if n, err := io.ReadFull(raw, buf[:1]); n > 0 {
		return fmt.Errorf("%w: %d bytes", errTooLong, w.want.RawBytes)
	} else if err != io.EOF {
		return fmt.Errorf("unpack the image: %w", err)
	}
	return nil
}

// zeros is a chunk to compare with. It is no slice: that would be made at every start, and be garbage enough for the
// collector to begin its first round before the program does.
var zeros [chunkBytes]byte

// put sums one chunk and writes it. Zeros are made by the disk itself where it can: what it held there must go.
func (w *imageWrite) put(chunk []byte, off int64) error {
	w.sums = append(w.sums, maphash.Bytes(w.seed, chunk))
	if bytes.Equal(chunk, zeros[:len(chunk)]) && w.disk.Zero(off, int64(len(chunk))) == nil {
		return nil
	}
	if _, err := w.disk.WriteAt(chunk, off); err != nil {
		return fmt.Errorf("write %d bytes at byte %d: %w", len(chunk), off, err)
	}
	return nil
}

// readFull fills p with the bytes of the image from off on.
func readFull(raw io.Reader, p []byte, off, all int64) error {
	n, err := io.ReadFull(raw, p)
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return fmt.Errorf("the image ends at byte %d; the broker promised %d", off+int64(n), all)
	}
	return fmt.Errorf("unpack the image at byte %d: %w", off+int64(n), err)
}

// unpacker gives the unpacked bytes and the function that frees what it holds.
func unpacker(packed io.Reader, compression string) (io.Reader, func(), error) {
	switch compression {
	case "zstd":
		d, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(4*maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return d, d.Close, nil
	case "gzip":
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, nil, err
		}
		return z, func() {}, nil
	}
	return packed, func() {}, nil
}

// verify asks the disk, not the kernel's memory of it, for every chunk that was written.
func (w *imageWrite) verify(ctx context.Context) error {
	if err := w.disk.Forget(); err != nil {
		return errors.Join(err, w.spoil())
	}
	buf := make([]byte, chunkBytes)
	meter := newMeter(w.agent, "reading back", w.want.RawBytes)
	off := int64(len(w.head))
	for _, want := range w.sums {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		chunk := buf[:min(chunkBytes, w.want.RawBytes-off)]
		if err := w.same(chunk, off, want); err != nil {
			return errors.Join(err, w.spoil())
		}
		off += int64(len(chunk))
		w.done.Store(off)
		meter.tell(off)
	}
	meter.end()
	return nil
}

// same reads one chunk and compares its sum.
func (w *imageWrite) same(chunk []byte, off int64, want uint64) error {
	if _, err := w.disk.ReadAt(chunk, off); err != nil && err != io.EOF {
		return fmt.Errorf("read %d bytes at byte %d: %w", len(chunk), off, err)
	}
	w.disk.Dropped(off, int64(len(chunk)))
	if maphash.Bytes(w.seed, chunk) != want {
		return fmt.Errorf("bytes %d to %d of the disk do not read back as they were written", off, off+int64(len(chunk))-1)
	}
	return nil
}

// finish writes the head, reads it back and lets the kernel see the partitions.
func (w *imageWrite) finish(context.Context) error {
	if err := w.putHead(); err != nil {
		return errors.Join(err, w.spoil())
	}
	if err := w.disk.Reread(); err != nil { // the disk is right all the same
		w.agent.Console.Printf("%v", err)
	}
	return nil
}

func (w *imageWrite) putHead() error {
	if _, err := w.disk.WriteAt(w.head, 0); err != nil {
		return fmt.Errorf("write %d bytes at byte 0: %w", len(w.head), err)
	}
	if err := w.disk.Sync(); err != nil {
		return fmt.Errorf("write out the first bytes: %w", err)
	}
	if err := w.disk.Forget(); err != nil {
		return err
	}
	return w.same(make([]byte, len(w.head)), 0, maphash.Bytes(w.seed, w.head))
}

// A meter tells the console how far and how fast a long transfer is.
type meter struct {
	agent *Agent
	what  string
	all   int64
	began time.Time
	next  time.Time
}

// meterEvery is how often it does.
const meterEvery = 5 * time.Second

func newMeter(a *Agent, what string, all int64) *meter {
	now := a.Now()
	return &meter{agent: a, what: what, all: all, began: now, next: now.Add(meterEvery)}
}

func (m *meter) tell(done int64) {
	now := m.agent.Now()
	if now.Before(m.next) {
		return
	}
	m.next = now.Add(meterEvery)
	m.agent.Console.Printf("%s: %s of %s (%d%%), %s", m.what, size(done), size(m.all), done*100/m.all, m.speed(done, now))
}

func (m *meter) end() {
	now := m.agent.Now()
	m.agent.Console.Printf("%s: all %s in %s, %s", m.what, size(m.all), seconds(now.Sub(m.began)), m.speed(m.all, now))
}

func (m *meter) speed(done int64, now time.Time) string {
	return fmt.Sprintf("%.0f MB/s", float64(done)/1e6/max(now.Sub(m.began).Seconds(), 0.001))
}
