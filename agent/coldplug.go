package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxDevices bounds the walk of /sys/devices; a large server has about 30,000 directories there.
const maxDevices = 500_000

// maxRounds bounds coldplug: each bus behind a bus takes one (PCI, virtio or SCSI host, disk).
const maxRounds = 10

// A Plug gives devices their drivers: those that are there when it starts, and those that come later.
type Plug struct {
	Root    string
	Modules *Modules
	Console *Console
	Now     func() time.Time

	mu   sync.Mutex
	seen map[string]bool // modaliases that were served
	wg   sync.WaitGroup
}

// Coldplug loads what no device asks for, then what the devices below sys/devices want, again and again while
// loading makes new devices appear.
func (p *Plug) Coldplug(ctx context.Context) error {
	began := p.Now()
	for _, name := range p.Modules.always {
		p.wg.Go(func() { p.load(ctx, name) })
	}
	for range maxRounds {
		fresh, err := p.scan()
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			break
		}
		for _, m := range fresh {
			p.serve(ctx, m)
		}
		p.wg.Wait()
	}
	p.wg.Wait()
	loaded := p.Modules.Loaded()
	if len(loaded) == 0 {
		p.Console.Printf("no module was loaded; devices need drivers in the kernel or in the ramdisk")
		return ctx.Err()
	}
	p.Console.Printf("loaded %s in %s: %s", plural(len(loaded), "module"), seconds(p.Now().Sub(began)), strings.Join(loaded, " "))
	return ctx.Err()
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
		p.wg.Go(func() { p.load(ctx, name) })
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

// scan lists the modaliases below sys/devices that were not seen before.
func (p *Plug) scan() ([]string, error) {
	var fresh []string
	n := 0
	top := filepath.Join(p.Root, "sys/devices")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == top {
				return err
			}
			return nil // a device that went while the walk was in it
		}
		if n++; n > maxDevices {
			return fs.SkipAll
		}
		if d.Name() != "modalias" || d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if s := strings.TrimSpace(string(b)); s != "" && p.first(s) {
			fresh = append(fresh, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for devices: %w", err)
	}
	return fresh, nil
}
