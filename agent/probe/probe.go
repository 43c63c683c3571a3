// Package probe reads what a machine is and says it as facts: from /proc, /sys, /dev and the SMBIOS tables of a root
// directory, with no help from udev, dbus, ethtool or any other program, because a small ramdisk has none of them. It
// is a package of its own so that hardware code stays out of everything that only handles facts.
//
// ghw gives the DMI strings and CPU flags, gopsutil the processor, memory totals and addresses; disks, interfaces,
// PCI, SMBIOS structures and content signatures are read here, because those libraries need udev or other programs
// for them, or fail as a whole when one part does. LLDP is heard, not read: Neighbors listens from the start of the
// program and is added to a look after everything else. Disks, BMC and TPM are asked, by commands that only read.
//
// A collector owns one section of the facts. It runs alone, against a deadline, and what goes wrong in it concerns
// that section only: a machine whose TPM hangs is still known by its disks.
package probe

import (
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"muster/agent/facts"
)

// DefaultDeadline is how long a collector may be silent while nothing else moves either.
const DefaultDeadline = 2 * time.Second

// Options says where to look and what the caller already knows. The zero value is this machine, all of it.
type Options struct {
	Root     string            // "/" when empty; a fixture replays a whole machine from a directory
	BootMAC  string            // the NIC that booted, if the caller knows; marks nics[].pxe and boot.bootif
	Custom   map[string]string // custom facts, already validated; they win over all others
	Programs bool              // run the programs of facts.d below another Root too; they are code of whoever made it
	Deadline time.Duration     // per collector, counted anew while files are read; if 0, DefaultDeadline
	Only     []string          // names of collectors; empty means all

	device      func(name string) (device, error) // opens a disk for commands; if nil, that of this machine, or none below another Root
	programTime time.Duration                     // that a program of facts.d has; if 0, programDeadline
}

// Result is one look at a machine. Facts and State always pass their Validate; Errors name what they lack.
type Result struct {
	Facts    facts.Facts
	State    facts.State
	Errors   []facts.ProbeError
	TimingMS map[string]int64 // per collector
}

// A section is what a collector found: it writes its part of the facts. Only the caller of Run calls it, and only when
// the collector was in time, so that a collector never shares memory with anyone.
type section func(*facts.Facts, *facts.State)

// A collector may give a section and an error: what it found, and what it could not read.
type collector struct {
	name string
	run  func(ctx context.Context, m machine) (section, error)
}

// collectors in the order in which their sections are written. A name is that of the section, where there is one.
var collectors = []collector{
	{"kernel", kernel},
	{"system", system},
	{"baseboard", baseboard},
	{"chassis", chassis},
	{"firmware", firmware},
	{"cpu", processors},
	{"memory", memory},
	{"disks", disks},
	{"nics", nics},
	{"pci", pciDevices},
	{"optical", optical},
	{"controllers", controllers},
	{"gpus", gpus},
	{"numa", numa},
	{"virt", virt},
	{"boot", bootFacts},
	{"bmc", bmc},
	{"usb", usb},
	{"tpm", tpm},
	{"custom", custom},
	{"oem_strings", oemStrings},
	{"slots", slots},
	{"state", state},
	{"temps", temps},
	{"health", health},
}

// volatile are the collectors that write State alone. What they lack makes no fact incomplete.
var volatile = map[string]bool{"state": true, "temps": true, "health": true}

// Collectors names what Options.Only can choose from.
func Collectors() []string {
	names := make([]string, len(collectors))
	for i, c := range collectors {
		names[i] = c.name
	}
	return names
}

// Run looks at the machine once. It returns when every collector has answered, or nothing was read for Options.Deadline;
// at the latest after eight deadlines or at the end of ctx. Collectors that did not answer are named in Errors and in
// Facts.Incomplete.
func Run(ctx context.Context, o Options) Result {
	if o.Deadline <= 0 {
		o.Deadline = DefaultDeadline
	}
	if o.programTime <= 0 {
		o.programTime = programDeadline
	}
	picked, unknown := pick(o.Only)
	r := Result{
		Facts:    facts.Facts{Schema: facts.Schema, Custom: maps.Clone(o.Custom)},
		Errors:   unknown,
		TimingMS: map[string]int64{},
	}
	tree, err := openTree(o.Root)
	if err != nil {
		for _, c := range picked {
			r.fail(c.name, err)
		}
		return r
	}
	defer tree.close()
	m := machine{tree: tree, bootMAC: facts.CleanMAC(o.BootMAC), custom: o.Custom, programs: o.Programs, programTime: o.programTime, device: o.device}
	if m.live() {
		m.openBMC, m.openTPM = openBMC, openTPM
		if m.device == nil {
			m.device = m.openDevice
		}
	}
	for _, done := range collect(ctx, m, picked, o.Deadline) {
		r.take(done)
	}
	r.takeOEMCustom()
	return r
}

// machine is what collectors read from.
type machine struct {
	tree
	bootMAC     string
	custom      map[string]string // of the caller
	programs    bool              // of another root may be run
	programTime time.Duration     // that one has
	patience    time.Duration     // for one device of a collector that asks many

	// What is asked and not read; nil when this is not the running machine.
	device  func(name string) (device, error)
	openBMC func() (bmcLink, error)
	openTPM func() (io.ReadWriteCloser, error)
}

// pick gives the collectors to run, and an error for each name that is none.
func pick(only []string) (picked []collector, unknown []facts.ProbeError) {
	if len(only) == 0 {
		return collectors, nil
	}
	for i, name := range only {
		at := slices.IndexFunc(collectors, func(c collector) bool { return c.name == name })
		switch {
		case slices.Contains(only[:i], name):
		case at < 0:
			unknown = append(unknown, facts.ProbeError{Collector: facts.Line(name, 64), Code: "missing", Msg: "no such collector"})
		default:
			picked = append(picked, collectors[at])
		}
	}
	return picked, unknown
}
