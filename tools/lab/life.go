package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"muster/boot"
	"muster/broker"
)

// Policies is what the rack's operator applies: two tags, and two policies of which the first must be passed over.
const Policies = `kind: Tag
name: virtual
rule: facts.virt.is_virtual and any(facts.disks, .transport == "virtio")
---
kind: Tag
name: storage-heavy
rule: len(facts.disks) >= 12 and facts.memory.total_bytes >= 128 * GiB
---
kind: Policy
name: ceph-osd
order: 10
tags: [storage-heavy]
task: image
repo: debian-12
hostname: osd{{ printf "%03d" .Seq }}.example.net
max: 40
---
kind: Policy
name: lab
order: 20
tags: [virtual]
task: image
repo: debian-12
hostname: lab{{ printf "%03d" .Seq }}.example.net
approval: automatic
`

// kernelArgs are for kernels in the rack's x86 machines. On a busy host an emulated timer may not tick while the kernel
// looks whether it does, and it panics ("IO-APIC + timer doesn't work", arch/x86/kernel/apic/io_apic.c).
const kernelArgs = "console=ttyS0 quiet loglevel=4 no_timer_check"

// ServeArgs are the flags of a muster serve that gives the rack's machines leases and boots that firmware.
func (r *Rack) ServeArgs(f Firmware) []string {
	a := r.Addr().As4()
	pool := fmt.Sprintf("%d.%d.%d.100-%d.%d.%d.199", a[0], a[1], a[2], a[0], a[1], a[2])
	args := []string{"--dhcp", "server", "--pool", pool, "--router", r.Addr().String(), "--kernel-args", kernelArgs}
	if f == SecureBoot {
		args = append(args, "--uefi-loader", "shim")
	}
	return args
}

// A Life watches a machine from power-on until it runs from its own disk.
type Life struct {
	Server  *Server
	Machine *Machine
	Out     io.Writer // one line per step; if nil, none

	Start  time.Time // of power-on
	off    time.Time // since when nobody has it on, while it is waited for
	Events []broker.Event
	last   int64
}

// NewLife makes a life for a machine that is off; what the journal holds until now is not part of it.
func NewLife(ctx context.Context, s *Server, m *Machine, out io.Writer) (*Life, error) {
	if out == nil {
		out = io.Discard
	}
	l := &Life{Server: s, Machine: m, Out: out}
	for {
		events, err := s.Events(ctx, "", l.last, false)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return l, nil
		}
		l.last = events[len(events)-1].Seq
	}
}

// On switches the machine on; elapsed times count from here.
func (l *Life) On() error {
	l.Start = time.Now()
	l.say("power", "on: %s, %s", l.Machine.Name(), l.Machine.Config().Firmware)
	return l.Machine.On()
}

// say prints a step that the journal does not know.
func (l *Life) say(kind, format string, a ...any) {
	fmt.Fprintf(l.Out, "%7.1fs  %-15s  %s\n", time.Since(l.Start).Seconds(), kind, fmt.Sprintf(format, a...))
}

// Until follows the journal until done is true of an event of the machine, or ctx ends. A server that is away for a
// while is waited for. The error holds the end of the console.
func (l *Life) Until(ctx context.Context, what string, done func(broker.Event) bool) (broker.Event, error) {
	node := ""
	l.off = time.Time{}
	for {
		if err := cmp.Or(context.Cause(ctx), l.dead()); err != nil {
			return broker.Event{}, fmt.Errorf("waited for %s: %w; the timeline:\n%s\nthe end of the console of %s:\n%s",
				what, err, l.Timeline(), l.Machine.Name(), l.Machine.Tail(40))
		}
		if node == "" {
			n, err := l.Server.Node(ctx, l.MAC())
			if err != nil {
				pause(ctx, 100*time.Millisecond) // not seen yet, or the server is away
				continue
			}
			node = n.ID
		}
		events, err := l.Server.Events(ctx, node, l.last, true)
		if err != nil {
			pause(ctx, 200*time.Millisecond)
			continue
		}
		for _, e := range events {
			l.last = e.Seq
			l.Events = append(l.Events, e)
			fmt.Fprintf(l.Out, "%7.1fs  %-15s  %s\n", e.Time.Sub(l.Start).Seconds(), e.Kind, boot.Printable(e.Text))
			if done(e) {
				return e, nil
			}
		}
	}
}

// offForGood is how long a machine may be off while something is awaited of it: one that a BMC restarts is soon on again.
const offForGood = time.Minute

// dead says why nothing will come of the machine any more; nil when something may.
func (l *Life) dead() error {
	switch {
	case l.Machine.stalled():
		return errStalled
	case l.Machine.Running():
		l.off = time.Time{}
	case l.off.IsZero():
		l.off = time.Now()
	case time.Since(l.off) > offForGood:
		return errOff
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// MAC is the address of the machine's first NIC.
func (l *Life) MAC() string { return boot.MAC(l.Machine.macs[0]).String() }

// Timeline is every event so far, one a line.
func (l *Life) Timeline() string {
	var b strings.Builder
	for _, e := range l.Events {
		fmt.Fprintf(&b, "%7.1fs  %-15s  %s\n", e.Time.Sub(l.Start).Seconds(), e.Kind, boot.Printable(e.Text))
	}
	return b.String()
}

// Kind makes a condition for Until: an event of that kind whose text holds a part.
func Kind(kind, part string) func(broker.Event) bool {
	return func(e broker.Event) bool { return e.Kind == kind && strings.Contains(e.Text, part) }
}

// Installed follows the machine until it is active and its own system asks for a login by the name that the policy
// gave it. It fails as soon as the install does.
func (l *Life) Installed(ctx context.Context) (*broker.Record, error) {
	end, err := l.Until(ctx, "the node to be active", func(e broker.Event) bool {
		return e.Kind == broker.EventActive || e.Kind == broker.EventFailed
	})
	if err != nil {
		return nil, err
	}
	if end.Kind == broker.EventFailed {
		return nil, fmt.Errorf("the install failed: %s; the end of the console:\n%s", end.Text, l.Machine.Tail(40))
	}
	n, err := l.Server.Node(ctx, l.MAC())
	if err != nil {
		return nil, err
	}
	return n, l.Login(ctx, n)
}

// Login waits for the login prompt of the installed system on the console.
func (l *Life) Login(ctx context.Context, n *broker.Record) error {
	short, _, _ := strings.Cut(n.Hostname, ".")
	line, err := l.Machine.WaitConsole(ctx, regexp.MustCompile(`^`+regexp.QuoteMeta(short)+` login:`))
	if err != nil {
		return err
	}
	l.say("console", "%s", strings.TrimSpace(line))
	return nil
}

// CheckRoot says whether the call of the installed system came from the disk that was written: the root file system
// it named must be the image's.
func (l *Life) CheckRoot(hostname string) error {
	for _, e := range l.Events {
		if e.Kind != broker.EventStage || e.Data["root"] == "" {
			continue
		}
		short, _, _ := strings.Cut(hostname, ".")
		if e.Data["hostname"] != short {
			return fmt.Errorf("the installed system calls itself %q, not %q", e.Data["hostname"], short)
		}
		disk, err := os.Open(l.Machine.Disk(0))
		if err != nil {
			return fmt.Errorf("read the machine's disk: %w", err)
		}
		defer disk.Close()
		uuids, err := partitionUUIDs(disk)
		if err != nil {
			return fmt.Errorf("read the machine's disk: %w", err)
		}
		for _, u := range uuids {
			if u == e.Data["root"] {
				return nil
			}
		}
		return fmt.Errorf("the installed system runs from partition %s; the machine's disk has %s", e.Data["root"], strings.Join(uuids, ", "))
	}
	return errors.New("the installed system never said where it runs from")
}

// partitionUUIDs reads the unique ids of a GPT's partitions (UEFI 2.10 section 5.3.3), for 512-byte sectors.
func partitionUUIDs(r io.ReaderAt) ([]string, error) {
	head := make([]byte, 512)
	if _, err := r.ReadAt(head, 512); err != nil {
		return nil, err
	}
	if string(head[:8]) != "EFI PART" {
		return nil, errors.New("no GPT")
	}
	table := make([]byte, 128*128)
	if _, err := r.ReadAt(table, 1024); err != nil {
		return nil, err
	}
	var uuids []string
	for ; len(table) > 0; table = table[128:] {
		if u := boot.UUID(table[16:32]); !u.IsZero() {
			uuids = append(uuids, u.Swapped().String())
		}
	}
	return uuids, nil
}

// A Part is one leg of a life and how long it took.
type Part struct {
	Name string
	Took time.Duration
}

// Parts cuts the life into legs by its events.
func (l *Life) Parts() []Part {
	marks := []struct {
		name string
		at   func(broker.Event) bool
	}{
		{"firmware, to the first DHCP packet", func(e broker.Event) bool { return e.Kind == broker.EventDHCP }},
		{"loader, to the boot script", func(e broker.Event) bool {
			return e.Data["what"] == "script" || strings.HasPrefix(e.Data["name"], "muster/grub/") || strings.Contains(e.Data["name"], "pxelinux.cfg/")
		}},
		{"kernel and ramdisk loaded, facts accepted", func(e broker.Event) bool { return e.Kind == broker.EventRegistered }},
		{"image written, verified, prepared", Kind(broker.EventReport, "write_image done")},
		{"restart, to the local disk", func(e broker.Event) bool { return e.Kind == broker.EventDHCP }},
		{"installed system, to its first-boot call", func(e broker.Event) bool { return e.Kind == broker.EventActive }},
	}
	var parts []Part
	at, i := l.Start, 0
	for _, e := range l.Events {
		if i < len(marks) && marks[i].at(e) {
			parts = append(parts, Part{marks[i].name, e.Time.Sub(at)})
			at, i = e.Time, i+1
		}
	}
	return parts
}
