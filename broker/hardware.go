package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"muster/agent/facts"
)

// maxHardware is how many changes of hardware one event names.
const maxHardware = 12

// learnHardware notes the hardware of new facts, and gives an event when there is other hardware than before. The hash
// also covers what an install or a cable changes (partitions, links); without a word for a change there is no event.
func (n *Node) learnHardware(now Facts) ([]Event, error) {
	same := now.hardware == n.HWHash
	n.HWHash = now.hardware
	if same || !n.Facts.Known() {
		return nil, nil
	}
	before, err := n.Facts.Whole()
	if err != nil {
		return nil, err
	}
	changes := hardwareChanges(before, now.whole)
	if len(changes) == 0 {
		return nil, nil
	}
	return []Event{{Kind: EventHardware, Who: "agent", Text: "hardware changed: " + strings.Join(changes, "; ")}}, nil
}

// hardwareChanges says in words what came, went or became another between two reports of one machine. What one of
// them does not know has not changed: a collector that failed is no disk that went.
func hardwareChanges(old, now *facts.Facts) []string {
	var changes []string
	for _, part := range hardware {
		was, is := named(part.of(old)), named(part.of(now))
		if was == nil || is == nil || slices.Contains(old.Incomplete, part.section) || slices.Contains(now.Incomplete, part.section) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(union(was, is))) {
			changes = append(changes, compare(name, was, is)...)
		}
	}
	if more := len(changes) - maxHardware; more > 0 {
		changes = append(changes[:maxHardware], fmt.Sprintf("%d more", more))
	}
	return changes
}

// compare says what became of one thing.
func compare(name string, was, is map[string][]string) []string {
	before, had := was[name]
	after, has := is[name]
	switch {
	case !had:
		return []string{name + " came" + inBrackets(after)}
	case !has:
		return []string{name + " went" + inBrackets(before)}
	}
	var changes []string
	for i, was := range before {
		if is := after[i]; was != is && was != "" && is != "" {
			changes = append(changes, fmt.Sprintf("%s %s -> %s", name, was, is))
		}
	}
	return changes
}

func inBrackets(is []string) string {
	if s := words(is...); s != "" {
		return " (" + s + ")"
	}
	return ""
}

func union(a, b map[string][]string) map[string][]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// A thing of a machine has a name that stays, and words for what it is, as many for each of its kind; "" is not known.
type thing struct {
	name string
	is   []string
}

func a(name string, is ...string) thing { return thing{name, is} }

// named are things by their names, a number behind those that are not the first of theirs. Nil stays nil: not known.
func named(things []thing) map[string][]string {
	if things == nil {
		return nil
	}
	byName := map[string][]string{}
	for _, t := range things {
		name := t.name
		for n := 2; ; n++ {
			if _, taken := byName[name]; !taken {
				break
			}
			name = fmt.Sprintf("%s #%d", t.name, n)
		}
		byName[name] = t.is
	}
	return byName
}

// list makes the things of a list; nil of nil.
func list[T any](all []T, f func(T) thing) []thing {
	if all == nil {
		return nil
	}
	things := make([]thing, len(all))
	for i, v := range all {
		things[i] = f(v)
	}
	return things
}

// hardware is what a machine consists of, by the section of its facts. USB devices are not of it, people plug them in;
// nor is what an install, a cable or another kernel changes: partitions, links, the memory that the kernel leaves.
var hardware = []struct {
	section string
	of      func(*facts.Facts) []thing
}{
	{"system", func(f *facts.Facts) []thing {
		s := f.System
		if s == nil {
			return nil
		}
		return []thing{a("system", words(s.Manufacturer, s.Product)), a("system serial", s.Serial), a("system UUID", s.UUID)}
	}},
	{"baseboard", func(f *facts.Facts) []thing {
		b := f.Baseboard
		if b == nil {
			return nil
		}
		return []thing{a("board", words(b.Manufacturer, b.Product)), a("board serial", b.Serial)}
	}},
	{"firmware", func(f *facts.Facts) []thing {
		if f.Firmware == nil {
			return nil
		}
		return []thing{a("firmware", f.Firmware.Version)}
	}},
	{"cpu", func(f *facts.Facts) []thing {
		c := f.CPU
		if c == nil {
			return nil
		}
		return []thing{a("CPU", c.Model), a("sockets", count(c.Sockets)), a("cores", count(c.Cores)), a("threads", count(c.ThreadsPresent))}
	}},
	{"memory", func(f *facts.Facts) []thing {
		m := f.Memory
		if m == nil || m.PhysicalSource == "meminfo" { // what the kernel leaves
			return nil
		}
		return []thing{a("memory", binarySize(m.PhysicalBytes))}
	}},
	{"memory", func(f *facts.Facts) []thing {
		if f.Memory == nil {
			return nil
		}
		return list(f.Memory.DIMMs, func(d facts.DIMM) thing {
			return a("DIMM "+cmp.Or(words(d.Locator, d.Bank), "without a name"), binarySize(d.SizeBytes), words(d.Manufacturer, d.Part), d.Serial)
		})
	}},
	{"disks", func(f *facts.Facts) []thing {
		return list(f.Disks, func(d facts.Disk) thing { return a("disk "+d.ID, binarySize(d.SizeBytes), d.Firmware) })
	}},
	{"nics", func(f *facts.Facts) []thing {
		return list(f.NICs, func(n facts.NIC) thing { return a("NIC "+cmp.Or(n.MAC, n.PCI, n.Name), n.PCI, n.Firmware) })
	}},
	{"pci", func(f *facts.Facts) []thing {
		return list(f.PCI, func(d facts.PCIDevice) thing { return a("PCI "+d.Address, d.VendorID+":"+d.DeviceID) })
	}},
	{"bmc", func(f *facts.Facts) []thing {
		if f.BMC == nil || !f.BMC.Present {
			return absence(f.BMC != nil)
		}
		return []thing{a("BMC", f.BMC.Firmware)}
	}},
	{"tpm", func(f *facts.Facts) []thing {
		if f.TPM == nil || !f.TPM.Present {
			return absence(f.TPM != nil)
		}
		return []thing{a("TPM", f.TPM.Manufacturer, f.TPM.Firmware)}
	}},
}

// count is a number in words; "" for 0, which no machine has.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// absence is no thing where that is known, and nil where it is not.
func absence(known bool) []thing {
	if known {
		return []thing{}
	}
	return nil
}

// words joins what is known.
func words(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), " ")
}

// binarySize is a size in the largest unit that leaves a number above one: 64 GiB, 1.8 TiB.
func binarySize(n int64) string {
	if n <= 0 {
		return ""
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	digits := strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0")
	return digits + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}
