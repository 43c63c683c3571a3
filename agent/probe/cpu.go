package probe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"muster/agent/facts"
)

const (
	cpuDir  = "/sys/devices/system/cpu"
	maxCPUs = 8192 // NR_CPUS of the largest kernels
)

// processors reads what the kernel runs on, and SMBIOS type 4 for what is in the sockets.
func processors(ctx context.Context, m machine) (section, error) {
	first, err := m.firstCPU(ctx)
	if err != nil {
		return nil, err
	}
	c := facts.CPU{
		Vendor:    facts.Clean(first.VendorID),
		Model:     facts.Clean(first.ModelName),
		Family:    natural(first.Family),
		ModelID:   natural(first.Model),
		Stepping:  max(int(first.Stepping), 0),
		Microcode: facts.Clean(first.Microcode),
		Flags:     flags(m.ghwFlags()),
		SMT:       smt(m.text(cpuDir + "/smt/control")),
		MaxMHz:    int(m.count(cpuDir+"/cpu0/cpufreq/cpuinfo_max_freq") / 1000),
	}
	online, present, err := m.threads()
	if err != nil {
		return nil, err
	}
	c.Threads, c.ThreadsPresent = len(online), len(present)
	c.Sockets, c.Cores = m.topology(online)
	// That SMBIOS cannot be read is said by the collectors that live on it.
	if tables, _ := m.smbiosTables(); tables != nil {
		c.Packages = cpuPackages(tables)
	}
	return func(f *facts.Facts, _ *facts.State) { f.CPU = &c }, nil
}

// natural reads a number that may be in hexadecimal with 0x; 0 when it is none.
func natural(s string) int {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		return 0
	}
	return max(int(n), 0)
}

// flags are sorted, without repetition, and cut to what a document may carry.
func flags(all []string) []string {
	var clean []string
	for _, f := range all {
		if f = facts.Line(f, 64); f != "" {
			clean = append(clean, f)
		}
	}
	slices.Sort(clean)
	clean = slices.Compact(clean)
	return clean[:min(len(clean), maxEntries)]
}

// smt keeps the words of Documentation/ABI/testing/sysfs-devices-system-cpu.
func smt(s string) string {
	switch s {
	case "on", "off", "forceoff", "notsupported":
		return s
	}
	return ""
}

// threads are the processors in use and those that are there.
func (t tree) threads() (online, present []int, err error) {
	if !t.exists(cpuDir + "/online") {
		online = t.threadDirs()
		return online, online, nil
	}
	if online, err = parseList(t.text(cpuDir + "/online")); err != nil {
		return nil, nil, malformed{fmt.Errorf("%s/online: %w", cpuDir, err)}
	}
	if present, err = parseList(t.text(cpuDir + "/present")); err != nil {
		return nil, nil, malformed{fmt.Errorf("%s/present: %w", cpuDir, err)}
	}
	return online, present, nil
}

// threadDirs are the processors with a directory and a place in the topology, for kernels that give no lists.
func (t tree) threadDirs() []int {
	var list []int
	for _, name := range t.names(cpuDir) {
		digits, ok := strings.CutPrefix(name, "cpu")
		n, err := strconv.Atoi(digits)
		if ok && err == nil && t.exists(cpuDir+"/"+name+"/topology") {
			list = append(list, n)
		}
	}
	return list
}

// topology counts packages, and cores by package, die and core number: dies of one package number their cores alike.
func (t tree) topology(online []int) (sockets, cores int) {
	packages, all := map[string]bool{}, map[string]bool{}
	for _, cpu := range online {
		dir := fmt.Sprintf("%s/cpu%d/topology/", cpuDir, cpu)
		core := t.text(dir + "core_id")
		if core == "" {
			continue
		}
		pkg := t.text(dir + "physical_package_id")
		packages[pkg] = true
		all[pkg+"/"+t.text(dir+"die_id")+"/"+core] = true
	}
	return len(packages), len(all)
}

// parseList reads the kernel's list format: 0-3,8.
func parseList(s string) ([]int, error) {
	var list []int
	if s == "" {
		return nil, fmt.Errorf("parse list %q: empty", s)
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || a < 0 || b < a || b >= maxCPUs {
			return nil, fmt.Errorf("parse list %.64q: bad range %.32q", s, part)
		}
		for n := a; n <= b; n++ {
			if len(list) == maxCPUs {
				return nil, fmt.Errorf("parse list %.64q: more than %d members", s, maxCPUs)
			}
			list = append(list, n)
		}
	}
	return list, nil
}

// cpuPackages reads the populated sockets (DSP0134 7.5).
func cpuPackages(tables []smbiosTable) []facts.CPUPackage {
	found := []facts.CPUPackage{}
	for _, t := range ofType(tables, smbiosCPU) {
		if t.u8(0x18)&(1<<6) == 0 || len(found) == maxEntries {
			continue
		}
		found = append(found, facts.CPUPackage{
			Socket:   facts.Clean(t.str(0x04)),
			Version:  facts.Clean(t.str(0x10)),
			Serial:   facts.CleanSerial(t.str(0x20)),
			Part:     facts.Clean(t.str(0x22)),
			AssetTag: facts.CleanSerial(t.str(0x21)),
			MaxMHz:   int(t.u16(0x14)),
		})
	}
	return found
}
