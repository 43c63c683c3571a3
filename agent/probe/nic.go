package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"muster/agent/facts"
)

const netDir = "/sys/class/net"

// nics reads the interfaces that have hardware behind them: loopback, bonds and bridges have no device. Link, speed
// and duplex are only known for interfaces that are up, which is left to the caller.
func nics(ctx context.Context, m machine) (section, error) {
	names, err := m.list(netDir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !m.isHardware(netDir + "/" + name) })
	list, lost := each(ctx, m, names, m.wholeNIC)
	err = partial(errors.Join(lost...))
	if m.live() {
		byName, e := addresses(ctx)
		err = errors.Join(err, e)
		for i := range list {
			addAddresses(&list[i], byName[list[i].Name])
		}
	}
	err = errors.Join(append(m.missingFirmware(), err)...)
	markPXE(list, m.bootMACs())
	slices.SortStableFunc(list, func(a, b facts.NIC) int {
		return cmp.Or(comparePCI(a.PCI, b.PCI), cmp.Compare(a.MAC, b.MAC))
	})
	return func(f *facts.Facts, _ *facts.State) { f.NICs = list }, err
}

func addAddresses(n *facts.NIC, all []netip.Prefix) {
	for _, p := range all {
		if p.Addr().Is4() {
			n.IPv4 = append(n.IPv4, p.String())
		} else {
			n.IPv6 = append(n.IPv6, p.String())
		}
	}
}

// wholeNIC is nic for one that is still there when it has been read.
func (m machine) wholeNIC(name string) (facts.NIC, error) {
	n := m.nic(name)
	if err := m.stat(netDir + "/" + name); err != nil {
		return n, fmt.Errorf("went while it was read: %w", err)
	}
	return n, nil
}

// nic reads one interface.
func (m machine) nic(name string) facts.NIC {
	dir := netDir + "/" + name
	device := m.resolve(dir)
	pci := pciAncestor(device)
	if !strings.HasPrefix(device, "/sys/devices/") {
		pci = pciAncestor(m.resolve(dir + "/device"))
	}
	n := facts.NIC{
		Name:      facts.Line(name, 64),
		MAC:       facts.CleanMAC(m.text(dir + "/address")),
		Driver:    m.driver(dir + "/device"),
		PCI:       pci,
		Bus:       nicBus(device, pci),
		NUMANode:  m.node(pci),
		Duplex:    duplex(m.text(dir + "/duplex")),
		MTU:       int(m.count(dir + "/mtu")),
		SpeedMbps: speed(m.count(dir + "/speed")),
		PortNo:    int(m.count(dir + "/dev_port")),
		PortName:  facts.Clean(m.text(dir + "/phys_port_name")),
	}
	if carrier, ok := m.number(dir + "/carrier"); ok {
		link := carrier == 1
		n.Link = &link
	}
	m.readNICBus(&n, device)
	if m.live() {
		readEthtool(name, &n)
	}
	return n
}

// readNICBus adds what the PCI function or the USB device behind an interface says.
func (m machine) readNICBus(n *facts.NIC, device string) {
	switch n.Bus {
	case "pci":
		dir := pciDir + "/" + n.PCI
		n.VendorID, n.DeviceID = m.pciID(n.PCI, "vendor"), m.pciID(n.PCI, "device")
		n.SRIOVVFs = int(m.count(dir + "/sriov_totalvfs"))
		n.Label = cmp.Or(facts.Clean(m.text(dir+"/label")), facts.Line(m.text(dir+"/acpi_index"), 64))
	case "usb":
		dir := usbAncestor(device)
		n.VendorID, n.DeviceID = m.hex(dir+"/idVendor", 4), m.hex(dir+"/idProduct", 4)
	}
}

func nicBus(device, pci string) string {
	switch {
	case usbAncestor(path.Dir(device)) != "":
		return "usb"
	case pci != "":
		return "pci"
	}
	return "virtual"
}

// duplex keeps the two words that mean something.
func duplex(s string) string {
	if s != "full" && s != "half" {
		return ""
	}
	return s
}

// speed drops the value that says unknown, -1, also as drivers print it without a sign.
func speed(n int64) int {
	if n >= 1<<31-1 {
		return 0
	}
	return int(n)
}

// markPXE marks the NIC this boot came through: the first of the addresses that is one of ours; when none is, the
// only NIC with a link.
func markPXE(list []facts.NIC, candidates []string) {
	for _, mac := range candidates {
		for i := range list {
			if list[i].MAC == mac || list[i].CurrentMAC == mac {
				list[i].PXE = true
				return
			}
		}
	}
	linked := -1
	for i := range list {
		if list[i].Link == nil || !*list[i].Link {
			continue
		}
		if linked >= 0 {
			return
		}
		linked = i
	}
	if linked >= 0 {
		list[linked].PXE = true
	}
}
