// Package agent is what runs on a machine that was started to be discovered: it reads the kernel's arguments, loads
// drivers, brings the network up, reports facts to the broker and obeys orders.
//
//	arguments -> drivers, network -> settle -> probe -> check in -> poll for orders -> obey, report -> poll ...
//
// It listens on no port and runs no text that it was sent: orders are a closed set (facts.Order). Every effect on the
// machine is a function field of Agent, so that the whole loop can be driven in a test.
package agent

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"muster/agent/facts"
)

// An Agent is one boot of one machine.
type Agent struct {
	Args    Args
	Version string    // of this program, told to the broker
	Key     string    // boot key: see NewKey
	Built   time.Time // the clock cannot be earlier than this
	Cause   string    // why an agent of this boot ended before; told to the broker
	Root    string    // where /proc, /sys and /dev are; "" is "/"
	Memory  string    // a file that remembers what a restarted agent must know; "" is none
	Console *Console
	HTTP    *http.Client // if nil, one that trusts as Args say

	// Effects. Those that may be nil say so.
	Drivers  func(ctx context.Context) error                        // load drivers until the hardware is quiet; may be nil
	Network  func(ctx context.Context) error                        // return when an address stands; may be nil
	Settle   func(ctx context.Context)                              // wait for late disks; may be nil
	Probe    func(ctx context.Context, only ...string) Probed       // collect facts; no names: all of them
	Changed  <-chan struct{}                                        // hardware came or went; may be nil
	Heard    <-chan struct{}                                        // the switches at the NICs said something new; may be nil
	Now      func() time.Time                                       // if nil, time.Now
	SetClock func(time.Time) error                                  // may be nil: the clock is left alone
	Reboot   func() error                                           // does not return when it works
	Poweroff func() error                                           // does not return when it works
	Load     func(kernel, initrd, cmdline string) error             // load a kernel for Kexec; initrd may be ""
	Kexec    func() error                                           // start the loaded kernel
	OpenDisk func(name string) (*Disk, error)                       // by kernel name, exclusively
	Mount    func(device, fstype, dir string) (func() error, error) // gives the function that unmounts
	Tmpfs    func(dir string) (func() error, error)                 // mount a file system in memory; if nil, dir is used as it is
	Rescue   func(ctx context.Context) (string, error)              // let people in, and say how; may be nil
	Module   func(ctx context.Context, name string) error           // load one module by name; may be nil
	Stall    time.Duration                                          // give up an image after so long without a byte; if 0, 10 minutes

	broker  *broker
	seq     int64
	order   int64        // the last order obeyed
	open    bool         // its end was not reported yet
	known   string       // hash of the facts that the broker has
	skew    *int64       // milliseconds, local time less the broker's
	hung    string       // a program that could not be killed
	stepped bool         // the clock was set to the broker's
	then    func() error // how the order under way ends this boot; nil: as its kind does
}

// Probed is one look at the machine.
type Probed struct {
	Facts    facts.Facts
	Hash     string // of Facts
	State    facts.State
	Errors   []facts.ProbeError
	TimingMS map[string]int64
}

// Run lives until ctx ends; it gives up for no other reason.
func (a *Agent) Run(ctx context.Context) error {
	a.start()
	if err := a.needServer(ctx); err != nil {
		return err
	}
	a.bringUp(ctx)
	for ctx.Err() == nil {
		if err := a.checkIn(ctx); err != nil {
			return err
		}
		if err := a.poll(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// start fills what was left open and remembers an earlier agent of this boot.
func (a *Agent) start() {
	if a.Now == nil {
		a.Now = time.Now
	}
	if a.Root == "" {
		a.Root = "/"
	}
	if a.Stall == 0 {
		a.Stall = 10 * time.Minute
	}
	a.recall()
	a.raiseClock()
}

// needServer stays here, saying why, while there is no broker to talk to.
func (a *Agent) needServer(ctx context.Context) error {
	err := a.Args.check()
	if err == nil {
		err = a.secure()
	}
	for err != nil {
		a.Console.Printf("%v; this boot can not go on, waiting", err)
		if err := sleep(ctx, time.Minute); err != nil {
			return err
		}
	}
	a.broker = &broker{base: a.Args.Server, key: a.Key, http: a.HTTP, now: a.Now}
	return nil
}

// bringUp loads drivers and waits for disks while the network comes up.
func (a *Agent) bringUp(ctx context.Context) {
	up := make(chan struct{})
	go func() {
		defer close(up)
		if a.Network == nil {
			return
		}
		if err := a.Network(ctx); err != nil && ctx.Err() == nil {
			a.Console.Printf("network: %v", err)
		}
	}()
	if a.Drivers != nil {
		if err := a.Drivers(ctx); err != nil {
			a.Console.Printf("drivers: %v", err)
		}
	}
	if a.Settle != nil {
		a.Settle(ctx)
	}
	<-up
}

// path is a file of the machine, below Root.
func (a *Agent) path(name string) string { return filepath.Join(a.Root, name) }

// sleep waits for d or for the end of ctx, whose error it gives.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// guard turns a panic of one order into its failure, so that the broker learns of it.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("agent panicked: %v", p)
		}
	}()
	return f()
}
