package probe

import (
	"context"
	"slices"
	"strings"

	"muster/agent/facts"
)

// hypervisors are told by the twelve letters of CPUID leaf 40000000h.
var hypervisors = map[string]string{
	"KVMKVMKVM": "kvm", "TCGTCGTCGTCG": "qemu", "VMwareVMware": "vmware",
	"Microsoft Hv": "hyperv", "XenVMMXenVMM": "xen", "VBoxVBoxVBox": "virtualbox",
}

// virtualMachines are told by who made the system and what it is, where CPUID cannot be asked. A "" matches all.
var virtualMachines = []struct{ vendor, product, kind string }{
	{"QEMU", "", "qemu"},
	{"VMware", "", "vmware"},
	{"innotek GmbH", "", "virtualbox"},
	{"Oracle Corporation", "VirtualBox", "virtualbox"},
	{"Microsoft Corporation", "Virtual Machine", "hyperv"},
	{"Xen", "", "xen"},
	{"Google", "Google Compute Engine", "kvm"},
	{"OpenStack", "", "kvm"},
	{"Red Hat", "KVM", "kvm"},
}

// virt says whether this is a guest. On x86 the processor says so; elsewhere firmware does.
func virt(_ context.Context, m machine) (section, error) {
	cpuinfo, err := m.read("/proc/cpuinfo", maxFile)
	if err != nil {
		return nil, err
	}
	v := facts.Virt{Kind: m.dmiKind()}
	if flags, x86 := cpuFlags(string(cpuinfo)); x86 {
		v.IsVirtual = slices.Contains(flags, "hypervisor")
	} else if err := m.checkDMI(); err != nil {
		return nil, err
	} else {
		v.IsVirtual = v.Kind != "" || m.smbiosSaysVirtual()
	}
	if xen := m.text("/sys/hypervisor/type"); xen == "xen" && m.text("/sys/hypervisor/uuid") != dom0 {
		v.IsVirtual, v.Kind = true, "xen"
	}
	if !v.IsVirtual {
		v.Kind = ""
		return func(f *facts.Facts, _ *facts.State) { f.Virt = &v }, nil
	}
	if v.HypervisorID = facts.Clean(m.hypervisorID()); v.HypervisorID != "" {
		v.Kind = hypervisors[v.HypervisorID]
	}
	if v.Kind == "" {
		v.Kind = "other"
	}
	return func(f *facts.Facts, _ *facts.State) { f.Virt = &v }, nil
}

// dom0 is the UUID of the privileged Xen domain, which sees the hardware.
const dom0 = "00000000-0000-0000-0000-000000000000"

// cpuFlags are those of the first processor of an x86 /proc/cpuinfo.
func cpuFlags(cpuinfo string) (flags []string, x86 bool) {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "flags" {
			return strings.Fields(value), true
		}
	}
	return nil, false
}

// hypervisorID asks CPUID leaf 40000000h through the cpuid driver; its name is in EBX, ECX and EDX. KVM may show the
// face of Hyper-V there and its own at 40000100h. "" without the driver.
func (t tree) hypervisorID() string {
	f, err := t.open("/dev/cpu/0/cpuid")
	if err != nil {
		return ""
	}
	defer f.Close()
	id := ""
	for _, leaf := range []int64{0x40000000, 0x40000100} {
		regs := make([]byte, 16)
		if n, _ := f.ReadAt(regs, leaf); n < len(regs) {
			break
		}
		name := strings.Trim(string(regs[4:]), "\x00")
		if id == "" || hypervisors[name] == "kvm" {
			id = name
		}
		if id != "Microsoft Hv" {
			break
		}
	}
	return id
}

// dmiKind is the kind of virtual machine that the DMI names are of; "" when of none.
func (t tree) dmiKind() string {
	vendor, product := t.text("/sys/class/dmi/id/sys_vendor"), t.text("/sys/class/dmi/id/product_name")
	for _, row := range virtualMachines {
		if vendor != "" && strings.HasPrefix(vendor, row.vendor) && strings.HasPrefix(product, row.product) {
			return row.kind
		}
	}
	return ""
}

// smbiosSaysVirtual is bit 4 of the second extension byte of the BIOS characteristics (DSP0134 7.1.2.2).
func (t tree) smbiosSaysVirtual() bool {
	tables, _ := t.smbiosTables()
	return firstOf(tables, smbiosBIOS).u8(0x13)&(1<<4) != 0
}
