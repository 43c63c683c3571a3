package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxDevices bounds the walk of /sys/bus; a large server has about 3,000 devices there.
const maxDevices = 500_000

// maxRounds bounds coldplug: each bus behind a bus takes one (PCI, virtio or SCSI host, disk).
const maxRounds = 10

// A Plug gives devices their drivers: those that are there when it starts, and those that come later.
type Plug struct {
	Root    string
	Modules *Modules
	Console *Console
	Now     func() time.Time

	mu      sync.Mutex
	seen    map[string]bool // modaliases that were served
	loading int             // modules that events asked for
	ended   sync.Cond       // some of these were loaded
}

// Coldplug loads what the devices on the buses want, again and again while loading makes new devices appear, and what no
// device asks for.
func (p *Plug) Coldplug(ctx context.Context) error {
	began := p.Now()
	for _, name := range p.Modules.first { // one after the other: the signature of each next is checked by those before
		p.load(ctx, name)
	}
	names := p.Modules.always
	for range maxRounds {
		fresh, err := p.scan()
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			break
		}
		slices.SortStableFunc(fresh, func(a, b string) int { return cmp.Compare(turn(a), turn(b)) })
		var wanted []string
		for _, modalias := range fresh {
			wanted = append(wanted, p.Modules.Match(modalias)...)
		}
		p.loadAll(ctx, append(wanted, names...))
		p.await() // what events asked for may make new devices, too
		names = nil
	}
	p.await()
	loaded := p.Modules.Loaded()
	if len(loaded) == 0 {
		p.Console.Printf("no module was loaded; devices need drivers in the kernel or in the ramdisk")
		return ctx.Err()
	}
	p.Console.Printf("loaded %s in %s: %s", plural(len(loaded), "module"), seconds(p.Now().Sub(began)), strings.Join(loaded, " "))
	return ctx.Err()
}

// turn tells whose driver comes first: that of a storage controller (PCI base class 01), because looking at its ports takes
// it a third of a second and more without work for a processor, in which the others can be loaded and an address be had.
// Then that of a NIC, whose link takes its time, too.
func turn(modalias string) int {
	switch {
	case !strings.HasPrefix(modalias, "pci:"):
	case strings.Contains(modalias, "bc01"):
		return 0
	case strings.Contains(modalias, "bc02"):
		return 1
	}
	return 2
}

// loadAll loads modules side by side, begun in their order, and returns when all are there. A loader does the work, that is
// to insert what a module needs, and leaves the module itself, whose insertion waits for devices, to wait for them alone.
func (p *Plug) loadAll(ctx context.Context, names []string) {
	queue := make(chan string, len(names))
	for _, name := range names {
		queue <- name
	}
	close(queue)
	var loaders, waits sync.WaitGroup
	for range cap(p.Modules.slots) {
		loaders.Go(func() {
			for name := range queue {
				_ = p.Modules.loadNeeds(ctx, name) // load tells the same
				waits.Go(func() { p.load(ctx, name) })
			}
		})
	}
	loaders.Wait()
	waits.Wait()
}

// Hotplug serves a device that appeared, without waiting for it.
func (p *Plug) Hotplug(ctx context.Context, modalias string) {
	if modalias == "" || !p.first(modalias) {
		return
	}
	p.serve(ctx, modalias)
}

// serve loads the modules of one modalias.
func (p *Plug) serve(ctx context.Context, modalias string) {
	for _, name := range p.Modules.Match(modalias) {
		p.count(1)
		go func() {
			defer p.count(-1)
			p.load(ctx, name)
		}()
	}
}

func (p *Plug) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loading += n
	p.ended.Broadcast()
}

// await returns when nothing is being loaded that events asked for. They come at any time, also while it waits, which a
// sync.WaitGroup answers with a panic.
func (p *Plug) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended.L = &p.mu
	for p.loading > 0 {
		p.ended.Wait()
	}
}

func (p *Plug) load(ctx context.Context, name string) {
	err := p.Modules.Load(ctx, name)
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.Is(err, syscall.ENODEV):
		p.Console.Debugf("%v", err) // the driver looked and found no device of its own
	default:
		p.Console.Printf("%v", err)
	}
}

// first says whether this modalias is new.
func (p *Plug) first(modalias string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	if p.seen[modalias] || len(p.seen) >= maxDevices {
		return false
	}
	p.seen[modalias] = true
	return true
}

// scan lists the modaliases of devices that were not seen before. All devices for which there are drivers are on a bus;
// sys/devices, where they lie, has many times as many directories, and reading one takes as long as reading a file.
func (p *Plug) scan() ([]string, error) {
	top := filepath.Join(p.Root, "sys/bus")
	names, err := os.ReadDir(top)
	if err != nil {
		return nil, fmt.Errorf("look for devices: %w", err)
	}
	var fresh []string
	n := 0
	for _, bus := range names {
		dir := filepath.Join(top, bus.Name(), "devices")
		devices, _ := os.ReadDir(dir) // a bus that went while the walk was in it
		for _, d := range devices {
			if n++; n > maxDevices {
				return fresh, nil
			}
			if s := readLine(filepath.Join(dir, d.Name(), "modalias")); s != "" && p.first(s) {
				fresh = append(fresh, s)
			}
		}
	}
	return fresh, nil
}
