package main

import (
	"fmt"
	"strconv"
	"strings"

	"muster/agent/facts"
)

// lists are the devices of which a table has a line each, without the fields that few ask for; -o json has all. The
// heads are names of fields, so that a rule can be written from what is seen. A list that stands in no row has all.
var lists = []struct {
	section, title string
	heads          []string
	rows           func(facts.Facts) [][]string
}{
	{"slots", "slots", []string{"designation", "in_use", "pci"}, func(f facts.Facts) [][]string {
		return lines(f.Slots, func(s facts.Slot) []string { return []string{s.Designation, yesNo(s.InUse), s.PCI} })
	}},
	{"cpu", "cpu.packages", []string{"socket", "version", "max_mhz", "serial", "part"}, func(f facts.Facts) [][]string {
		if f.CPU == nil {
			return nil
		}
		return lines(f.CPU.Packages, func(p facts.CPUPackage) []string {
			return []string{p.Socket, p.Version, unit(p.MaxMHz, "MHz"), p.Serial, p.Part}
		})
	}},
	{"memory", "memory.dimms", []string{"locator", "size_bytes", "type", "speed_mts", "manufacturer", "part", "serial"}, func(f facts.Facts) [][]string {
		if f.Memory == nil {
			return nil
		}
		return lines(f.Memory.DIMMs, func(d facts.DIMM) []string {
			return []string{d.Locator, binarySize(d.SizeBytes), d.Type, unit(d.SpeedMTs, "MT/s"), d.Manufacturer, d.Part, d.Serial}
		})
	}},
	{"numa", "numa", []string{"id", "cpus", "memory_bytes", "distances"}, func(f facts.Facts) [][]string {
		return lines(f.NUMA, func(n facts.NUMANode) []string {
			return []string{strconv.Itoa(n.ID), n.CPUs, binarySize(n.MemoryBytes), strings.Trim(fmt.Sprint(n.Distances), "[]")}
		})
	}},
	{"disks", "disks", []string{"name", "size_bytes", "transport", "model", "serial", "holds"}, func(f facts.Facts) [][]string {
		return lines(f.Disks, func(d facts.Disk) []string {
			return []string{d.Name, binarySize(d.SizeBytes), d.Transport, d.Model, d.Serial, holds(d)}
		})
	}},
	{"disks", "disks id", []string{"name", "id"}, func(f facts.Facts) [][]string {
		return lines(f.Disks, func(d facts.Disk) []string { return []string{d.Name, d.ID} })
	}},
	{"disks", "disks partitions", []string{"disk", "number", "size_bytes", "name", "content"}, func(f facts.Facts) (rows [][]string) {
		for _, d := range f.Disks {
			rows = append(rows, lines(d.Partitions, func(p facts.Partition) []string {
				return []string{d.Name, strconv.Itoa(p.Number), binarySize(p.SizeBytes), p.Name, content(p.Content)}
			})...)
		}
		return rows
	}},
	{"optical", "optical", []string{"name", "vendor", "model"}, func(f facts.Facts) [][]string {
		return lines(f.Optical, func(o facts.Optical) []string { return []string{o.Name, o.Vendor, o.Model} })
	}},
	{"controllers", "controllers", []string{"pci", "class", "device", "driver", "model", "firmware"}, func(f facts.Facts) [][]string {
		return lines(f.Controllers, func(c facts.Controller) []string {
			return []string{c.PCI, c.Class, c.VendorID + ":" + c.DeviceID, c.Driver, c.Model, c.Firmware}
		})
	}},
	{"nics", "nics", []string{"name", "mac", "link", "speed_mbps", "driver", "pci", "pxe"}, func(f facts.Facts) [][]string {
		return lines(f.NICs, func(n facts.NIC) []string {
			return []string{n.Name, n.MAC, link(n.Link), unit(n.SpeedMbps, "Mb/s"), n.Driver, n.PCI, onlyYes(n.PXE)}
		})
	}},
	{"nics", "nics addresses", []string{"nic", "address"}, func(f facts.Facts) (rows [][]string) {
		for _, n := range f.NICs {
			rows = append(rows, lines(append(n.IPv4[:len(n.IPv4):len(n.IPv4)], n.IPv6...), func(a string) []string { return []string{n.Name, a} })...)
		}
		return rows
	}},
	{"nics", "nics lldp", []string{"nic", "sys_name", "port_id", "pvid", "mgmt"}, func(f facts.Facts) (rows [][]string) {
		for _, n := range f.NICs {
			rows = append(rows, lines(n.LLDP, func(l facts.Neighbor) []string {
				return []string{n.Name, l.SysName, l.PortID, unit(l.PVID, ""), strings.Join(l.Mgmt, " ")}
			})...)
		}
		return rows
	}},
	{"pci", "pci", []string{"address", "class", "device", "driver", "numa_node"}, func(f facts.Facts) [][]string {
		return lines(f.PCI, func(d facts.PCIDevice) []string {
			return []string{d.Address, d.Class, d.VendorID + ":" + d.DeviceID, d.Driver, number(d.NUMANode)}
		})
	}},
	{"gpus", "gpus", []string{"pci", "class", "device", "driver", "boot_vga"}, func(f facts.Facts) [][]string {
		return lines(f.GPUs, func(g facts.GPU) []string {
			return []string{g.PCI, g.Class, g.VendorID + ":" + g.DeviceID, g.Driver, onlyYes(g.BootVGA)}
		})
	}},
	{"usb", "usb", []string{"port", "device", "vendor", "product", "serial", "speed_mbps"}, func(f facts.Facts) [][]string {
		return lines(f.USB, func(u facts.USBDevice) []string {
			return []string{u.Port, u.VendorID + ":" + u.ProductID, u.Vendor, u.Product, u.Serial, unit(u.SpeedMbps, "Mb/s")}
		})
	}},
}

// lines makes a row of each item; nil of what is not known.
func lines[T any](items []T, row func(T) []string) [][]string {
	if items == nil {
		return nil
	}
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = row(item)
	}
	return rows
}

// unit is a number with its unit; "" for 0, which is not known.
func unit(n int, of string) string {
	if n == 0 {
		return ""
	}
	return strings.TrimSpace(strconv.Itoa(n) + " " + of)
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func onlyYes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func link(up *bool) string {
	switch {
	case up == nil:
		return ""
	case *up:
		return "up"
	}
	return "down"
}

// holds says in a few words what is on a disk.
func holds(d facts.Disk) string {
	switch {
	case d.Content != nil:
		return content(d.Content)
	case d.Table != "":
		return fmt.Sprintf("%s, %d partitions", d.Table, len(d.Partitions))
	}
	return ""
}

func content(c *facts.Content) string {
	if c == nil {
		return ""
	}
	return strings.TrimSpace(c.Type + " " + c.Label)
}
