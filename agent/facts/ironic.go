package facts

import (
	"cmp"
	"strconv"
	"strings"
)

// Ironic is the machine as the inspection data of OpenStack Ironic: what ironic-python-agent posts to
// /v1/continue_inspection, and Metal3 reads. Beside inventory stand pci_devices, usb_devices, numa_topology and
// boot_interface. Facts hold no host name, raw LLDP frames or core numbers, so that hostname, lldp_raw and
// numa_topology.cpus are never there.
func (f *Facts) Ironic() map[string]any {
	t := table{}
	t["inventory"] = map[string]any(f.ironicInventory())
	if f.PCI != nil {
		t["pci_devices"] = list(f.PCI, ironicPCI)
	}
	if f.USB != nil {
		t["usb_devices"] = list(f.USB, ironicUSB)
	}
	t.object("numa_topology", f.ironicNUMA())
	if f.Boot != nil && f.Boot.BootIF != "" {
		t["boot_interface"] = "01-" + strings.ReplaceAll(f.Boot.BootIF, ":", "-") // as pxelinux says it
	}
	return t
}

// list makes each item a table; those without anything in them are left out.
func list[T any](items []T, f func(T) table) []any {
	all := []any{}
	for _, item := range items {
		if t := f(item); len(t) > 0 {
			all = append(all, map[string]any(t))
		}
	}
	return all
}

func (f *Facts) ironicInventory() table {
	t := table{}
	t.object("cpu", f.ironicCPU())
	if m := f.Memory; m != nil {
		memory := table{}
		memory.count("total", m.TotalBytes)
		memory.count("physical_mb", m.PhysicalBytes>>20)
		t.object("memory", memory)
	}
	if f.Disks != nil {
		t["disks"] = list(f.Disks, ironicDisk)
	}
	if f.NICs != nil {
		t["interfaces"] = list(f.NICs, ironicInterface)
	}
	t.object("system_vendor", f.ironicVendor())
	boot := table{}
	if f.Firmware != nil {
		boot.text("current_boot_mode", f.Firmware.Mode)
	}
	if f.Boot != nil {
		boot.text("pxe_interface", f.Boot.BootIF)
	}
	t.object("boot", boot)
	if f.BMC != nil {
		t.text("bmc_address", f.BMC.IP)
		t.text("bmc_mac", f.BMC.MAC)
	}
	return t
}

func (f *Facts) ironicCPU() table {
	t := table{}
	t.text("architecture", f.Arch)
	c := f.CPU
	if c == nil {
		return t
	}
	t.count("count", int64(c.Threads))
	t.count("socket_count", int64(c.Sockets))
	t.text("model_name", c.Model)
	if c.MaxMHz > 0 {
		t["frequency"] = strconv.Itoa(c.MaxMHz)
	}
	if c.Flags != nil {
		flags := []any{}
		for _, flag := range c.Flags {
			flags = append(flags, flag)
		}
		t["flags"] = flags
	}
	return t
}

func ironicDisk(d Disk) table {
	t := table{"name": "/dev/" + d.Name, "size": d.SizeBytes}
	t.flag("rotational", d.Rotational)
	t.text("vendor", d.Vendor)
	t.text("model", d.Model)
	t.text("serial", d.Serial)
	t.text("hctl", d.HCTL)
	t.count("logical_sector_size", d.LogicalBlockBytes)
	if d.Path != "" {
		t["by_path"] = "/dev/disk/by-path/" + d.Path
	}
	ironicWWN(t, d.WWN)
	return t
}

// ironicWWN says a name as udev does: wwn is the first 64 bits, what follows is the vendor extension (SPC-4, NAA 6h).
// A UUID, which only NVMe has, is told as it is.
func ironicWWN(t table, wwn string) {
	kind, hex, ok := strings.Cut(wwn, ".")
	switch {
	case !ok:
	case kind == "uuid":
		t["wwn"] = wwn
	default:
		short := hex[:min(16, len(hex))]
		t["wwn"] = "0x" + short
		t["wwn_with_extension"] = "0x" + hex
		if rest := hex[len(short):]; rest != "" {
			t["wwn_vendor_extension"] = "0x" + rest
		}
	}
}

// ironicInterface is empty without a MAC: Ironic refuses an inventory with such an interface.
func ironicInterface(n NIC) table {
	t := table{}
	mac := cmp.Or(n.MAC, n.CurrentMAC)
	if mac == "" {
		return t
	}
	t["mac_address"] = mac
	t.text("name", n.Name)
	t.flag("has_carrier", n.Link)
	t.count("speed_mbps", int64(n.SpeedMbps))
	t.text("pci_address", n.PCI)
	if p := prefix(n.IPv4); p.IsValid() {
		t["ipv4_address"] = p.Addr().String()
	}
	if p := prefix(n.IPv6); p.IsValid() {
		t["ipv6_address"] = p.Addr().String()
	}
	if n.VendorID != "" {
		t["vendor"] = "0x" + n.VendorID
	}
	if n.DeviceID != "" {
		t["product"] = "0x" + n.DeviceID
	}
	return t
}

func (f *Facts) ironicVendor() table {
	t := table{}
	if s := f.System; s != nil {
		t.text("manufacturer", s.Manufacturer)
		t.text("product_name", s.Product)
		t.text("serial_number", s.Serial)
	}
	if fw := f.Firmware; fw != nil {
		firmware := table{}
		firmware.text("vendor", fw.Vendor)
		firmware.text("version", fw.Version)
		firmware.text("build_date", usDate(fw.Date))
		t.object("firmware", firmware)
	}
	return t
}

func ironicPCI(p PCIDevice) table {
	t := table{"bus": p.Address}
	t.text("vendor_id", p.VendorID)
	t.text("product_id", p.DeviceID)
	t.text("class", p.Class)
	t.text("revision", p.Revision)
	if p.NUMANode != nil {
		t["numa_node_id"] = int64(*p.NUMANode)
	}
	return t
}

func ironicUSB(u USBDevice) table {
	t := table{}
	t.text("vendor", u.Vendor)
	t.text("product", u.Product)
	t.text("vendor_id", u.VendorID)
	t.text("product_id", u.ProductID)
	t.text("serial", u.Serial)
	return t
}

func (f *Facts) ironicNUMA() table {
	t := table{}
	if f.NUMA == nil {
		return t
	}
	t["ram"] = list(f.NUMA, func(n NUMANode) table {
		return table{"numa_node": int64(n.ID), "size_kb": n.MemoryBytes >> 10}
	})
	t["nics"] = list(f.NICs, func(n NIC) table {
		if n.NUMANode == nil {
			return nil
		}
		return table{"name": n.Name, "numa_node": int64(*n.NUMANode)}
	})
	return t
}
