package facts

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// notSpecified is what Facter 2 says of a serial number that firmware left empty. Rules of Razor fail on a fact that
// is not there, so this one always is when SMBIOS could be read.
const notSpecified = "Not Specified"

// facterSections are the parts of the view in the order of Facter's own documentation.
var facterSections = []func(*Facts, table){
	facterKernel, facterSystem, facterProcessors, facterMemory, facterVirtual, facterBlockDevices, facterPartitions,
	facterInterfaces, facterBoot, facterBMC,
}

// Facter is the machine under the flat names of Facter 2.4, with its types, for rules that were written for Razor or
// Foreman: counts, sizes and mtu_X are int64, sizes of memory, link_X and speed_X are strings, partitions is a table.
// What is not known is left out, but for serial numbers. Facts that change from minute to minute (uptime, free memory)
// are never there, nor are custom facts, which could pose as any of these names.
func (f *Facts) Facter() map[string]any {
	t := table{}
	for _, section := range facterSections {
		section(f, t)
	}
	return t
}

func facterKernel(f *Facts, t table) {
	t.text("architecture", f.Arch)
	t.text("hardwaremodel", f.Arch)
	if f.Kernel == "" {
		return
	}
	version, _, _ := strings.Cut(f.Kernel, "-")
	t["kernel"] = "Linux"
	t["kernelrelease"] = f.Kernel
	t["kernelversion"] = version
	t["kernelmajversion"] = version
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		t["kernelmajversion"] = parts[0] + "." + parts[1]
	}
}

func facterSystem(f *Facts, t table) {
	if s := f.System; s != nil {
		t.text("manufacturer", s.Manufacturer)
		t.text("productname", s.Product)
		t.text("serialnumber", cmp.Or(s.Serial, notSpecified))
		t.text("uuid", s.UUID)
	}
	if b := f.Baseboard; b != nil {
		t.text("boardmanufacturer", b.Manufacturer)
		t.text("boardproductname", b.Product)
		t.text("boardserialnumber", cmp.Or(b.Serial, notSpecified))
	}
	if fw := f.Firmware; fw != nil {
		t.text("bios_vendor", fw.Vendor)
		t.text("bios_version", fw.Version)
		t.text("bios_release_date", usDate(fw.Date))
		if fw.Mode != "" {
			t["efi"] = fw.Mode == "uefi"
		}
	}
	if f.Chassis != nil {
		t.text("type", chassisTypes[f.Chassis.Type&0x7f]) // bit 7 says that there is a lock
	}
}

// chassisTypes are the words for SMBIOS type 3 offset 05h (DSP0134, section 7.4.1).
var chassisTypes = map[int]string{
	1: "Other", 2: "Unknown", 3: "Desktop", 4: "Low Profile Desktop", 5: "Pizza Box", 6: "Mini Tower", 7: "Tower",
	8: "Portable", 9: "Laptop", 10: "Notebook", 11: "Hand Held", 12: "Docking Station", 13: "All In One",
	14: "Sub Notebook", 15: "Space-saving", 16: "Lunch Box", 17: "Main Server Chassis", 18: "Expansion Chassis",
	19: "Sub Chassis", 20: "Bus Expansion Chassis", 21: "Peripheral Chassis", 22: "RAID Chassis",
	23: "Rack Mount Chassis", 24: "Sealed-case PC", 25: "Multi-system", 26: "CompactPCI", 27: "AdvancedTCA",
	28: "Blade", 29: "Blade Enclosure", 30: "Tablet", 31: "Convertible", 32: "Detachable", 33: "IoT Gateway",
	34: "Embedded PC", 35: "Mini PC", 36: "Stick PC",
}

func facterProcessors(f *Facts, t table) {
	if f.CPU == nil {
		return
	}
	t.count("processorcount", int64(f.CPU.Threads))
	t.count("physicalprocessorcount", int64(f.CPU.Sockets))
	for n := range min(f.CPU.Threads, MaxItems) {
		t.text("processor"+strconv.Itoa(n), f.CPU.Model)
	}
}

func facterMemory(f *Facts, t table) {
	if f.Memory == nil || f.Memory.TotalBytes == 0 {
		return
	}
	t["memorysize_mb"] = fmt.Sprintf("%.2f", float64(f.Memory.TotalBytes)/(1<<20))
	t["memorysize"] = fmt.Sprintf("%.2f GB", float64(f.Memory.TotalBytes)/(1<<30))
}

// facterVirtuals are Facter's words where they are not ours.
var facterVirtuals = map[string]string{"qemu": "kvm", "xen": "xenhvm"}

func facterVirtual(f *Facts, t table) {
	switch v := f.Virt; {
	case v == nil:
	case !v.IsVirtual:
		t["is_virtual"] = false
		t["virtual"] = "physical"
	default:
		t["is_virtual"] = true
		t.text("virtual", cmp.Or(facterVirtuals[v.Kind], v.Kind))
	}
}

func facterBlockDevices(f *Facts, t table) {
	if f.Disks == nil {
		return // a list without the disks would be a wrong one
	}
	names := []string{}
	for _, d := range f.Disks {
		names = append(names, d.Name)
		t["blockdevice_"+d.Name+"_size"] = d.SizeBytes
		t.text("blockdevice_"+d.Name+"_vendor", d.Vendor)
		t.text("blockdevice_"+d.Name+"_model", d.Model)
	}
	for _, o := range f.Optical {
		names = append(names, o.Name)
		t.text("blockdevice_"+o.Name+"_vendor", o.Vendor)
		t.text("blockdevice_"+o.Name+"_model", o.Model)
	}
	slices.Sort(names)
	t["blockdevices"] = strings.Join(names, ",")
}

// facterFilesystems are the words of blkid, which Facter repeats, where they are not ours.
var facterFilesystems = map[string]string{
	"lvm2": "LVM2_member", "luks": "crypto_LUKS", "md": "linux_raid_member", "zfs": "zfs_member",
}

// facterPartitions gives sizes as text, in sectors of 512 bytes.
func facterPartitions(f *Facts, t table) {
	all := table{}
	for _, d := range f.Disks {
		for _, p := range d.Partitions {
			one := table{"size": strconv.FormatInt(p.SizeBytes/512, 10)}
			one.text("label", p.Name)
			if c := p.Content; c != nil {
				one.text("uuid", c.UUID)
				one.text("filesystem", cmp.Or(facterFilesystems[c.Type], c.Type))
			}
			all.object(partitionName(d.Name, p.Number), one)
		}
	}
	t.object("partitions", all)
}

// partitionName is what the kernel calls a partition (block/partitions/core.c): sda1, nvme0n1p1.
func partitionName(disk string, number int) string {
	if disk != "" && disk[len(disk)-1] >= '0' && disk[len(disk)-1] <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(number)
}

func facterInterfaces(f *Facts, t table) {
	if f.NICs == nil {
		return
	}
	names := []string{"lo"}
	for _, n := range f.NICs {
		name := facterName(n.Name)
		names = append(names, name)
		facterAddresses(t, "_"+name, n)
		t.count("mtu_"+name, int64(n.MTU))
		t.text("duplex_"+name, n.Duplex)
		if n.Link != nil {
			t["link_"+name] = strconv.FormatBool(*n.Link)
		}
		if n.SpeedMbps > 0 {
			t["speed_"+name] = strconv.Itoa(n.SpeedMbps)
		}
		if len(n.LLDP) > 0 {
			facterNeighbor(t, name, n.LLDP[0])
		}
	}
	slices.Sort(names)
	t["interfaces"] = strings.Join(names, ",")
	if n := f.bootNIC(); n != nil {
		facterAddresses(t, "", *n)
		delete(t, "network") // which Facter has for each interface only
	}
}

// facterAddresses sets macaddress, ipaddress, netmask and network with a suffix.
func facterAddresses(t table, suffix string, n NIC) {
	t.text("macaddress"+suffix, cmp.Or(n.MAC, n.CurrentMAC))
	p := prefix(n.IPv4)
	if !p.IsValid() || !p.Addr().Is4() {
		return
	}
	t["ipaddress"+suffix] = p.Addr().String()
	t["netmask"+suffix] = net.IP(net.CIDRMask(p.Bits(), 32)).String()
	t["network"+suffix] = p.Masked().Addr().String()
}

func facterNeighbor(t table, name string, n Neighbor) {
	t.text("lldp_neighbor_chassisid_"+name, n.ChassisID)
	t.text("lldp_neighbor_portid_"+name, n.PortID)
	t.text("lldp_neighbor_sysname_"+name, n.SysName)
	if n.MTU > 0 {
		t["lldp_neighbor_mtu_"+name] = strconv.Itoa(n.MTU)
	}
	for _, s := range n.Mgmt {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			t["lldp_neighbor_mngaddr_ipv4_"+name] = s
			break
		}
	}
}

// facterName is an interface in the name of a fact: eno49.444 is eno49_444.
func facterName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name)
}

// facterBoot sets the facts of Foreman's discovery image.
func facterBoot(f *Facts, t table) {
	if f.Boot == nil {
		return
	}
	t.text("discovery_bootif", f.Boot.BootIF)
	t.text("discovery_bootip", f.Boot.IP)
	if n := f.bootNIC(); f.Boot.IP == "" && n != nil && n.PXE && len(n.IPv4) > 0 {
		if p := prefix(n.IPv4); p.IsValid() {
			t["discovery_bootip"] = p.Addr().String()
		}
	}
}

// facterSources are ipmitool's words for IPMI LAN parameter 4.
var facterSources = map[string]string{"static": "Static Address", "dhcp": "DHCP Address", "bios": "BIOS Assigned Address"}

func facterBMC(f *Facts, t table) {
	b := f.BMC
	if b == nil {
		return
	}
	t["ipmi_enabled"] = b.Present
	lan := table{}
	lan.text("ipaddress", b.IP)
	lan.text("macaddress", b.MAC)
	lan.text("subnet_mask", b.Netmask)
	lan.text("gateway", b.Gateway)
	lan.text("ipaddress_source", facterSources[b.Source])
	for _, name := range slices.Sorted(maps.Keys(lan)) {
		t["ipmi_"+name] = lan[name]
		if b.Channel > 0 {
			t[fmt.Sprintf("ipmi_%d_%s", b.Channel, name)] = lan[name]
		}
	}
}
