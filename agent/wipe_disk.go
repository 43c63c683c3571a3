package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"muster/agent/facts"
)

const (
	wipeChunk   = 1 << 20  // written or read at a time
	wipeFlow    = 8 << 20  // on its way to one disk
	discardStep = 1 << 30  // discarded at a time
	spotBytes   = 16 << 20 // at each end of a disk and of every partition
	wipeSamples = 4096     // chunks read back of a disk that was written over; all of it when it has no more
)

// A diskWipe is one disk of an order to wipe.
type diskWipe struct {
	agent    *Agent
	entry    facts.Disk // as the last probe found it
	disk     *Disk
	spots    []span   // where signatures stand
	siblings []uint32 // namespaces of its NVMe subsystem that the order names, its own too
	ways     []wipeWay
	nvme     nvmeErase // of an NVMe disk that has one

	way       string   // that worked
	detail    string   // what the disk was told
	gaveUp    []string // ways that were tried before
	err       error
	done, all atomic.Int64
	step      atomic.Value // string: what is being done
}

// A wipeWay is one way to make a disk forget. can says, before anything is written, why the disk cannot. hazy ways leave
// bytes that are the disk's own affair, so the signatures are erased once more after them.
type wipeWay struct {
	name string
	can  func(*diskWipe) error
	do   func(*diskWipe, context.Context) error
	hazy bool
}

var (
	bySecure     = wipeWay{facts.WipeSecure, (*diskWipe).canErase, (*diskWipe).eraseSecurely, true}
	byDiscard    = wipeWay{facts.WipeDiscard, (*diskWipe).canDiscard, (*diskWipe).discard, true}
	byOverwrite  = wipeWay{facts.WipeOverwrite, always, (*diskWipe).overwrite, false}
	bySignatures = wipeWay{facts.WipeSignatures, always, func(*diskWipe, context.Context) error { return nil }, false}
)

// wipeWays are the ways of each method, tried in order.
var wipeWays = map[string][]wipeWay{
	facts.WipeAuto:       {bySecure, byDiscard, bySignatures},
	facts.WipeSignatures: {bySignatures},
	facts.WipeDiscard:    {byDiscard},
	facts.WipeSecure:     {bySecure},
	facts.WipeOverwrite:  {byOverwrite},
}

func always(*diskWipe) error { return nil }

// plan keeps the ways that the disk knows; the error is that of a disk that knows none.
func (d *diskWipe) plan(method string) error {
	var cannot error
	for _, way := range wipeWays[method] {
		if err := way.can(d); err != nil {
			cannot = err
			continue
		}
		d.ways = append(d.ways, way)
	}
	if len(d.ways) == 0 {
		return cannot
	}
	d.all.Store(d.cost(d.ways[0]))
	return nil
}

// cost is how many bytes a way writes, discards and reads back, signatures included.
func (d *diskWipe) cost(way wipeWay) int64 {
	spots := int64(0)
	for _, s := range d.spots {
		spots += 2 * s.n
	}
	switch way.name {
	case facts.WipeSignatures:
		return spots
	case facts.WipeOverwrite:
		return spots + d.disk.Size + min(d.disk.Size, wipeSamples*wipeChunk)
	}
	return 2*spots + d.disk.Size
}

// wipe erases the signatures, so that nothing starts from a disk whose wipe is cut short, and then the rest.
func (d *diskWipe) wipe(ctx context.Context) error {
	d.agent.Console.Printf("wiping %s (%s), %s", d.entry.Name, d.entry.ID, size(d.disk.Size))
	defer d.step.Store("")
	if err := d.eraseSignatures(ctx); err != nil {
		return err
	}
	way, err := d.tryWays(ctx)
	if err != nil {
		return err
	}
	if way.hazy {
		if err := d.eraseSignatures(ctx); err != nil {
			return err
		}
	}
	d.way = way.name
	d.done.Store(d.all.Load())
	if err := d.disk.Reread(); err != nil { // the disk is blank all the same
		d.agent.Console.Printf("%s: %v", d.entry.Name, err)
	}
	return nil
}

// tryWays gives the first way that works.
func (d *diskWipe) tryWays(ctx context.Context) (wipeWay, error) {
	for i, way := range d.ways {
		d.step.Store(way.name)
		d.all.Store(d.cost(way))
		err := way.do(d, ctx)
		switch {
		case err == nil:
			return way, nil
		case ctx.Err() != nil:
			return way, ctx.Err()
		case i == len(d.ways)-1:
			return way, fmt.Errorf("%s: %w", way.name, err)
		}
		d.gaveUp = append(d.gaveUp, fmt.Sprintf("%s: %v", way.name, err))
		d.agent.Console.Printf("%s: %s: %v; going on with %s", d.entry.Name, way.name, err, d.ways[i+1].name)
	}
	return wipeWay{}, errors.New("no way is left")
}

// did says how the disk was wiped.
func (d *diskWipe) did() string {
	s := d.way
	if d.detail != "" {
		s += ": " + d.detail
	}
	if len(d.gaveUp) > 0 {
		s += "; not " + strings.Join(d.gaveUp, ", not ")
	}
	return s
}

func (d *diskWipe) tell() {
	if d.err != nil {
		d.agent.Console.Printf("%s is not wiped: %v", d.entry.Name, d.err)
		return
	}
	d.agent.Console.Printf("%s is wiped (%s)", d.entry.Name, d.did())
}

// A span is n bytes from an offset on.
type span struct{ off, n int64 }

// btrfsCopies are the places of the second and third superblock (fs/btrfs/disk-io.h, BTRFS_SUPER_MIRROR_SHIFT).
var btrfsCopies = []int64{64 << 20, 256 << 30}

// signatureSpots are where something may be found on a disk: both ends of it and of every partition, and the copies of
// btrfs. 16 MiB hold partition tables and their copies, LVM labels, md of all versions, DDF, Intel's and Promise's RAID
// (1.5 MiB before the end), the four ZFS labels, VMFS at 1 and 2 MiB, the second LUKS 2 header (up to 4 MiB) and, of LUKS
// as cryptsetup lays it out, all key slots.
func signatureSpots(d facts.Disk, size int64) []span {
	spots := spotsWithin(0, size)
	for _, p := range d.Partitions {
		if p.StartBytes < size {
			spots = append(spots, spotsWithin(p.StartBytes, min(p.StartBytes+p.SizeBytes, size))...)
		}
	}
	return merge(spots)
}

func spotsWithin(from, to int64) []span {
	n := min(spotBytes, to-from)
	spots := []span{{from, n}, {to - n, n}}
	for _, at := range btrfsCopies {
		if from+at < to {
			spots = append(spots, span{from + at, min(64<<10, to-from-at)})
		}
	}
	return spots
}

// merge joins what overlaps or touches.
func merge(spots []span) []span {
	slices.SortFunc(spots, func(a, b span) int { return int(min(max(a.off-b.off, -1), 1)) })
	out := spots[:1]
	for _, s := range spots[1:] {
		last := &out[len(out)-1]
		if s.off > last.off+last.n {
			out = append(out, s)
			continue
		}
		last.n = max(last.n, s.off+s.n-last.off)
	}
	return out
}

// eraseSignatures makes zeros of every spot and asks the disk for them. A spot that cannot be written does not keep the
// others.
func (d *diskWipe) eraseSignatures(ctx context.Context) error {
	d.step.Store("signatures")
	var failed error
	for _, s := range d.spots {
		if err := d.zero(ctx, s, d.disk.Zero); err != nil && failed == nil {
			failed = err
		}
	}
	if failed == nil {
		failed = d.disk.Sync()
	}
	if failed == nil {
		failed = d.readBack(ctx, d.spots)
	}
	if failed != nil {
		return fmt.Errorf("erase signatures: %w", failed)
	}
	return nil
}

// zero writes zeros over a span; quick does it without sending them, or fails.
func (d *diskWipe) zero(ctx context.Context, s span, quick func(off, n int64) error) error {
	from, mid := s.off, s.off
	for off, end := s.off, s.off+s.n; off < end; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n := min(wipeChunk, end-off)
		if quick(off, n) != nil {
			if _, err := d.disk.WriteAt(zeros[:n], off); err != nil {
				return fmt.Errorf("write %d bytes at byte %d: %w", n, off, err)
			}
		}
		off += n
		d.done.Add(n)
		if off-mid >= wipeFlow {
			if err := d.disk.Flow(from, mid, off); err != nil {
				return err
			}
			from, mid = mid, off
		}
	}
	return nil
}

// readBack asks the disk, not the kernel's memory of it, whether spans are zeros.
func (d *diskWipe) readBack(ctx context.Context, spans []span) error {
	if err := d.disk.Forget(); err != nil {
		return err
	}
	buf := make([]byte, wipeChunk)
	for _, s := range spans {
		for off, end := s.off, s.off+s.n; off < end; off += wipeChunk {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			part := buf[:min(wipeChunk, end-off)]
			if _, err := d.disk.ReadAt(part, off); err != nil && err != io.EOF {
				return fmt.Errorf("read %d bytes at byte %d: %w", len(part), off, err)
			}
			if !bytes.Equal(part, zeros[:len(part)]) {
				return fmt.Errorf("bytes %d to %d do not read back as zeros", off, off+int64(len(part))-1)
			}
			d.disk.Dropped(off, int64(len(part)))
			d.done.Add(int64(len(part)))
		}
	}
	return nil
}

// overwrite sends zeros to every byte: BLKZEROOUT would let the disk only note them.
func (d *diskWipe) overwrite(ctx context.Context) error {
	send := func(int64, int64) error { return errors.ErrUnsupported }
	if err := d.zero(ctx, span{0, d.disk.Size}, send); err != nil {
		return err
	}
	if err := d.disk.Sync(); err != nil {
		return fmt.Errorf("write out the zeros: %w", err)
	}
	d.step.Store("reading back")
	return d.readBack(ctx, samples(d.disk.Size))
}

// samples are one chunk at a random place of each of wipeSamples equal parts of a disk, or the whole of a smaller one.
func samples(size int64) []span {
	part := size / wipeSamples
	if part <= wipeChunk {
		return []span{{0, size}}
	}
	spans := make([]span, wipeSamples)
	for i := range spans {
		spans[i] = span{int64(i)*part + rand.Int64N(part-wipeChunk), wipeChunk}
	}
	return spans
}

// canDiscard reads what the kernel knows of the disk (Documentation/ABI/stable/sysfs-block).
func (d *diskWipe) canDiscard() error {
	b, _ := os.ReadFile(d.agent.path(filepath.Join("sys/block", d.entry.Name, "queue/discard_max_bytes")))
	if most := strings.TrimSpace(string(b)); d.disk.own == nil || most == "" || most == "0" {
		return errors.New("it takes no discard (TRIM, UNMAP): use overwrite, or signatures")
	}
	return nil
}

func (d *diskWipe) discard(ctx context.Context) error { return d.discardAll(ctx, false) }

func (d *diskWipe) discardAll(ctx context.Context, secure bool) error {
	for off := int64(0); off < d.disk.Size; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n := min(discardStep, d.disk.Size-off)
		if err := d.disk.own.discard(off, n, secure); err != nil {
			return fmt.Errorf("discard %d bytes at byte %d: %w", n, off, err)
		}
		off += n
		d.done.Add(n)
	}
	return nil
}

// canErase says whether the disk has an erase of its own that muster trusts.
func (d *diskWipe) canErase() error {
	switch d.entry.Transport {
	case "nvme":
		return d.planNVMe()
	case "mmc":
		return d.canDiscard()
	case "sata", "ide":
		// A password is set before SECURITY ERASE UNIT (ACS-4 section 7.41): a power cut leaves the disk locked by it.
		// Most firmware freezes the command at every start, and some bridges hang at it.
		return errors.New("the erase of ATA disks is not used, because a power cut in it leaves them locked: use discard for an SSD, overwrite for a hard disk")
	}
	return fmt.Errorf("a disk of transport %q has no erase of its own that is known here: use discard or overwrite", d.entry.Transport)
}

func (d *diskWipe) eraseSecurely(ctx context.Context) error {
	if d.entry.Transport == "mmc" {
		d.detail = "secure discard"
		return d.discardAll(ctx, true)
	}
	return d.eraseNVMe(ctx)
}
