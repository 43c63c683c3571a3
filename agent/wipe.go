package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"muster/agent/facts"
)

const (
	maxWiped  = 512 // disks of one order
	wipeAtOne = 8   // disks wiped side by side: each holds a buffer and up to wipeFlow of dirty memory
)

// A wipe is one order on its way. Every disk is found, compared and opened before the first byte of any is written: when
// one is not what the order says, the broker knew another machine and nothing is touched. From then on each disk is on
// its own: one that fails is told and the others finish.
type wipe struct {
	agent *Agent
	order int64
	want  facts.Wipe
	disks []*diskWipe
	meter *meter
}

// wipeDisks obeys an order of that kind.
func (a *Agent) wipeDisks(ctx context.Context, o facts.Order) (facts.Report, error) {
	if o.Wipe == nil || len(o.Wipe.Disks) == 0 {
		return facts.Report{}, errors.New("the order to wipe names no disk")
	}
	w := &wipe{agent: a, order: o.ID, want: *o.Wipe}
	defer w.close()
	if err := w.ready(ctx); err != nil {
		return facts.Report{}, fmt.Errorf("%w; no disk was touched", err)
	}
	w.meter = newMeter(a, "wiping", 0)
	began := a.Now()
	stop := a.progress(ctx, w.progressReport)
	w.wipeAll(ctx)
	stop()
	if ctx.Err() != nil {
		return facts.Report{}, ctx.Err()
	}
	done, all := w.bytes()
	r := facts.Report{Message: w.outcome(), DoneBytes: done, AllBytes: all,
		TimingMS: map[string]int64{"erase": a.Now().Sub(began).Milliseconds()}}
	if slices.ContainsFunc(w.disks, func(d *diskWipe) bool { return d.err != nil }) {
		return r, errors.New(r.Message)
	}
	return r, nil
}

// ready makes sure of every disk, and says all that is wrong at once.
func (w *wipe) ready(ctx context.Context) error {
	if err := checkWipe(w.want); err != nil {
		return err
	}
	now := w.agent.Probe(ctx, "disks").Facts.Disks
	var wrong []string
	for _, t := range w.want.Disks {
		d, err := w.take(now, t)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		w.disks = append(w.disks, d)
	}
	for _, d := range w.disks {
		d.siblings = w.siblings(d)
		if err := d.plan(w.want.Method); err != nil {
			wrong = append(wrong, fmt.Sprintf("disk %s: %v", d.entry.Name, err))
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// checkWipe refuses orders that make no sense.
func checkWipe(w facts.Wipe) error {
	if len(w.Disks) > maxWiped {
		return fmt.Errorf("the order names %d disks; at most %d are taken", len(w.Disks), maxWiped)
	}
	if _, ok := wipeWays[w.Method]; !ok {
		return fmt.Errorf("there is no way to wipe called %q", w.Method)
	}
	for i, t := range w.Disks {
		if t.SizeBytes <= 0 {
			return fmt.Errorf("the order says that disk %q has %d bytes", t.ID, t.SizeBytes)
		}
		if slices.ContainsFunc(w.Disks[:i], func(other facts.Target) bool { return other.ID == t.ID }) {
			return fmt.Errorf("the order names disk %q twice", t.ID)
		}
	}
	for _, name := range w.Lift {
		if !slices.ContainsFunc(facts.Guards, func(g facts.Guard) bool { return g.Name == name }) {
			return fmt.Errorf("there is no guard called %q", name)
		}
	}
	return nil
}

// take finds one disk, refuses it when a guard that the order does not lift holds it, and opens it alone.
func (w *wipe) take(now []facts.Disk, t facts.Target) (*diskWipe, error) {
	entry, err := findTarget(now, t)
	if err != nil {
		return nil, err
	}
	for _, g := range facts.Guards {
		if why := g.Holds(entry); why != "" && !slices.Contains(w.want.Lift, g.Name) {
			return nil, fmt.Errorf("disk %s %s and the order does not lift the guard %q", entry.Name, why, g.Name)
		}
	}
	if use := w.agent.useOf(entry); use != "" {
		return nil, fmt.Errorf("disk %s is in use: %s", entry.Name, use)
	}
	disk, err := w.agent.OpenDisk(entry.Name)
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", entry.Name, err)
	}
	d := &diskWipe{agent: w.agent, entry: entry, disk: disk, spots: signatureSpots(entry, disk.Size)}
	if disk.Size != t.SizeBytes {
		disk.Close()
		return nil, fmt.Errorf("disk %s has %d bytes; the order says %d", entry.Name, disk.Size, t.SizeBytes)
	}
	return d, nil
}

// useOf says what holds a disk or one of its partitions: a mount, swap, or a device made of it. The kernel refuses to
// open such a disk alone; this says why, and what to do.
func (a *Agent) useOf(d facts.Disk) string {
	names := []string{d.Name}
	for _, p := range d.Partitions {
		names = append(names, partitionName(d.Name, p.Number))
	}
	for _, name := range names {
		device := "/dev/" + name
		if f := a.row("proc/mounts", device); len(f) > 1 {
			return fmt.Sprintf("%s is mounted on %s: unmount it first", name, f[1])
		}
		if f := a.row("proc/swaps", device); f != nil {
			return name + " is swapped to: swapoff it first"
		}
		if made := a.holders(d.Name, name); made != "" {
			return fmt.Sprintf("%s is part of %s: stop that first", name, made)
		}
	}
	return ""
}

// row is the words of the line of a table in /proc that begins with a word; nil when there is none.
func (a *Agent) row(table, first string) []string {
	b, _ := os.ReadFile(a.path(table))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == first {
			return f
		}
	}
	return nil
}

// holders are the device mapper and RAID devices that the kernel has made of a disk or partition.
func (a *Agent) holders(disk, name string) string {
	dir := filepath.Join("sys/block", disk)
	if name != disk {
		dir = filepath.Join(dir, name)
	}
	made, _ := filepath.Glob(a.path(filepath.Join(dir, "holders/*")))
	for i := range made {
		made[i] = filepath.Base(made[i])
	}
	return strings.Join(made, ", ")
}

// siblings are the named disks, itself too, behind the same NVMe controllers: an erase of one may be one of all.
func (w *wipe) siblings(d *diskWipe) []uint32 {
	var ids []uint32
	for _, other := range w.disks {
		if other.entry.SubsysNQN != "" && other.entry.SubsysNQN == d.entry.SubsysNQN {
			ids = append(ids, uint32(other.entry.NSID))
		}
	}
	return ids
}

// wipeAll wipes the disks, those of one NVMe subsystem one after the other: they share their controller's erase.
func (w *wipe) wipeAll(ctx context.Context) {
	var wg sync.WaitGroup
	room := make(chan struct{}, wipeAtOne)
	for _, group := range w.groups() {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			for _, d := range group {
				d.err = guard(func() error { return d.wipe(ctx) })
				d.tell()
			}
		})
	}
	wg.Wait()
}

// groups are the disks by NVMe subsystem, in the order's order; a disk of another kind is alone.
func (w *wipe) groups() (groups [][]*diskWipe) {
	at := map[string]int{}
	for _, d := range w.disks {
		name := d.entry.SubsysNQN
		i, ok := at[name]
		if name == "" || !ok {
			at[name] = len(groups)
			groups = append(groups, []*diskWipe{d})
			continue
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// outcome says how each disk fared: those that failed first, because a message is cut at its end.
func (w *wipe) outcome() string {
	var failed, wiped []string
	for _, d := range w.disks {
		if d.err != nil {
			failed = append(failed, fmt.Sprintf("disk %s (%s): %v", d.entry.Name, d.entry.ID, d.err))
			continue
		}
		wiped = append(wiped, fmt.Sprintf("%s (%s)", d.entry.Name, d.did()))
	}
	if len(wiped) > 0 {
		failed = append(failed, "wiped "+strings.Join(wiped, ", "))
	}
	return cut(plain(strings.Join(failed, "; ")), maxMessage)
}

// bytes are those written and read, and those that will have been.
func (w *wipe) bytes() (done, all int64) {
	for _, d := range w.disks {
		done, all = done+d.done.Load(), all+d.all.Load()
	}
	return min(done, all), all
}

func (w *wipe) progressReport() facts.Report {
	done, all := w.bytes()
	w.meter.all = all
	w.meter.tell(done)
	var busy []string
	for _, d := range w.disks {
		if step, _ := d.step.Load().(string); step != "" {
			busy = append(busy, d.entry.Name+" "+step)
		}
	}
	return facts.Report{Order: w.order, Status: facts.StatusProgress, Message: cut(strings.Join(busy, ", "), maxMessage),
		DoneBytes: done, AllBytes: all}
}

func (w *wipe) close() {
	for _, d := range w.disks {
		d.disk.Close()
	}
}
