package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"muster/agent/chunk"
	"muster/agent/facts"
	"muster/agent/gpt"
	"muster/agent/packing"
)

// flowBytes is how much may be on its way to the disk while more is unpacked.
const flowBytes = 32 << 20

// An imageWrite is one image on its way to one disk. The first MiB of the image is kept in memory and reaches the
// disk last, after the sum of the whole file and what the disk gives back were both found right: a machine that loses
// power at any moment before has no boot sector and no partition table, and never starts half an image.
type imageWrite struct {
	agent *Agent
	order int64
	want  facts.WriteImage
	entry facts.Disk // as the last probe found it
	disk  *Disk

	list   *chunk.List // nil: the order names none
	source *source
	first  []byte       // the first chunk, which is looked at before the disk is touched
	head   []byte       // the first MiB
	fitted *gpt.Fitted  // the partition table, when it is to be fitted to the disk
	seed   maphash.Seed // of sums
	sums   []uint64     // of every chunk without the head: enough to find what a disk forgot, at memory speed
	done   atomic.Int64
	step   atomic.Value // string: what is being done
	took   map[string]int64
	notes  []string // what went otherwise than ordered and hurts nobody
}

// imageSteps is the whole work in order. What fails before "erase" leaves the disk as it was.
var imageSteps = []struct {
	name  string
	phase string // under which its time is reported
	do    func(*imageWrite, context.Context) error
}{
	{"find the disk", "", (*imageWrite).find},
	{"check the disk", "", (*imageWrite).check},
	{"read the list of chunks", "", (*imageWrite).listChunks},
	{"look at the image", "", (*imageWrite).look},
	{"erase the disk's ends", "write", (*imageWrite).erase},
	{"write the image", "write", (*imageWrite).write},
	{"read the image back", "verify", (*imageWrite).verify},
	{"fit the partition table", "verify", (*imageWrite).fit},
	{"write the boot sector", "verify", (*imageWrite).finish},
	{"put the files", "files", (*imageWrite).files},
	{"make a boot entry", "files", (*imageWrite).efiEntry},
	{"prepare to leave", "files", (*imageWrite).prepareLeave},
}

// writeImage obeys an order of that kind.
func (a *Agent) writeImage(ctx context.Context, o facts.Order) (facts.Report, error) {
	if o.Image == nil {
		return facts.Report{}, errors.New("the order to write an image has no image")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	return facts.Report{DoneBytes: w.want.RawBytes, AllBytes: w.want.RawBytes, TimingMS: w.took, Message: strings.Join(w.notes, "; ")}, nil
}

func (w *imageWrite) close() {
	if w.source != nil {
		w.source.close()
		w.source = nil
	}
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
	case !packing.Known(i.Compression):
		return fmt.Errorf("compression %q is not known", i.Compression)
	case i.Compression == packing.None && i.SizeBytes != i.RawBytes:
		return fmt.Errorf("a plain image of %d bytes that unpacks to %d is none", i.SizeBytes, i.RawBytes)
	case i.Then != "" && i.Then != facts.ThenReboot && i.Then != facts.ThenKexec:
		return fmt.Errorf("then %q is not known", i.Then)
	case i.Chunks != nil && (i.Chunks.SizeBytes <= 0 || i.Chunks.SizeBytes > chunk.MaxBytes || len(i.Chunks.SHA256) != 2*sha256.Size):
		return fmt.Errorf("a list of chunks of %d bytes with the sum %q is none", i.Chunks.SizeBytes, i.Chunks.SHA256)
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
