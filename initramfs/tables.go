package initramfs

import (
	"bytes"
	"slices"
	"strings"
)

// moduleTables are the files beside the modules; the package doc says what they mean.
var moduleTables = []struct {
	name string
	text func(*moduleSet) []byte
}{
	{"modules.alias", (*moduleSet).aliasTable},
	{"modules.builtin", (*moduleSet).builtinTable},
	{"modules.dep", (*moduleSet).depTable},
	{"modules.first", (*moduleSet).firstTable},
	{"modules.load", (*moduleSet).loadTable},
}

// buses are those whose devices are announced by modalias. Processors and DMI are left out on purpose: they would
// pull in drivers nobody asked for. platform is here for the BMC that only SMBIOS type 38 tells of
// (platform:dmi-ipmi-si).
var buses = []string{"acpi", "mdio", "mmc", "of", "pci", "platform", "scsi", "usb", "virtio", "vmbus", "xen"}

// depTable is modules.dep: what is needed most deeply stands last, as depmod(8) has it.
func (s *moduleSet) depTable() []byte {
	var b bytes.Buffer
	for _, name := range s.names() {
		b.WriteString(s.kernel.modules[name].file + ":")
		order := s.loadOrder(name)
		slices.Reverse(order)
		for _, need := range order {
			b.WriteString(" " + s.kernel.modules[need].file)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// aliasTable is modules.alias.
func (s *moduleSet) aliasTable() []byte {
	var lines []string
	for _, name := range s.names() {
		for _, alias := range s.kernel.modules[name].aliases {
			if forHardware(alias) {
				lines = append(lines, "alias "+alias+" "+name+"\n")
			}
		}
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), ""))
}

// forHardware tells patterns for devices from other names. ACPI's are written "acpi*:".
func forHardware(alias string) bool {
	bus, _, ok := strings.Cut(alias, ":")
	return ok && slices.Contains(buses, strings.TrimSuffix(bus, "*")) && !strings.ContainsAny(alias, " \t\n")
}

// builtinTable lists what the kernel image holds, so that depmod and modprobe, run on an unpacked ramdisk, agree.
func (s *moduleSet) builtinTable() []byte {
	var lines []string
	for name := range s.kernel.builtin {
		lines = append(lines, name+".ko\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// firstTable is modules.first: what makes loading the others faster.
func (s *moduleSet) firstTable() []byte {
	var b bytes.Buffer
	for _, name := range s.first {
		b.WriteString(name + "\n")
	}
	return b.Bytes()
}

// loadTable is modules.load: what was asked for and what no device announces.
func (s *moduleSet) loadTable() []byte {
	var b bytes.Buffer
	for _, name := range s.names() {
		if s.wanted[name] && !slices.ContainsFunc(s.kernel.modules[name].aliases, forHardware) {
			b.WriteString(name + "\n")
		}
	}
	return b.Bytes()
}
