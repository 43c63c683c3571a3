package probe

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/agent/facts"
)

const pciDir = "/sys/bus/pci/devices"

// pciForm is domain:bus:device.function; the domains behind a VMD have five digits.
var pciForm = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// pciAncestor is the address of the nearest PCI function above a device of sysfs; "" when there is none.
func pciAncestor(device string) string {
	for _, step := range slices.Backward(strings.Split(device, "/")) {
		if pciForm.MatchString(step) {
			return step
		}
	}
	return ""
}

// comparePCI orders addresses by number; what has no address comes last.
func comparePCI(a, b string) int {
	if (a == "") != (b == "") {
		return cmp.Compare(b, a)
	}
	return slices.Compare(pciNumbers(a), pciNumbers(b))
}

func pciNumbers(address string) []uint64 {
	var numbers []uint64
	for _, part := range strings.FieldsFunc(address, func(r rune) bool { return r == ':' || r == '.' }) {
		n, err := strconv.ParseUint(part, 16, 64)
		if err != nil {
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// pciAddresses names the functions on all PCI buses, in order.
func (t tree) pciAddresses() ([]string, error) {
	names, err := t.list(pciDir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !pciForm.MatchString(name) })
	slices.SortFunc(names, comparePCI)
	return names, nil
}

// pciClass is six hexadecimal digits: class, subclass, interface.
func (t tree) pciClass(address string) string { return t.hex(pciDir+"/"+address+"/class", 6) }

func (t tree) pciID(address, file string) string { return t.hex(pciDir+"/"+address+"/"+file, 4) }

// driver is the name of the driver bound to a device.
func (t tree) driver(device string) string { return facts.Clean(t.target(device + "/driver")) }

// node is the memory node of a PCI function; nil when it belongs to none.
func (t tree) node(address string) *int {
	n, ok := t.number(pciDir + "/" + address + "/numa_node")
	if address == "" || !ok || n < 0 {
		return nil
	}
	node := int(n)
	return &node
}

// pciDevices reads every function.
func pciDevices(_ context.Context, m machine) (section, error) {
	addresses, err := m.pciAddresses()
	if err != nil {
		return nil, err
	}
	devices := []facts.PCIDevice{}
	for _, address := range addresses {
		devices = append(devices, m.pciDevice(address))
	}
	return func(f *facts.Facts, _ *facts.State) { f.PCI = devices }, nil
}

func (m machine) pciDevice(address string) facts.PCIDevice {
	d := facts.PCIDevice{
		Address:     address,
		Class:       m.pciClass(address),
		VendorID:    m.pciID(address, "vendor"),
		DeviceID:    m.pciID(address, "device"),
		SubvendorID: m.pciID(address, "subsystem_vendor"),
		SubdeviceID: m.pciID(address, "subsystem_device"),
		Revision:    m.hex(pciDir+"/"+address+"/revision", 2),
		Driver:      m.driver(pciDir + "/" + address),
		NUMANode:    m.node(address),
	}
	if d.SubvendorID == "0000" { // bridges have no subsystem
		d.SubvendorID, d.SubdeviceID = "", ""
	}
	if group, err := strconv.Atoi(m.target(pciDir + "/" + address + "/iommu_group")); err == nil && group >= 0 {
		d.IOMMUGroup = &group
	}
	return d
}

// controllers reads mass storage (class 01) and Fibre Channel (0c04) controllers.
func controllers(_ context.Context, m machine) (section, error) {
	addresses, err := m.pciAddresses()
	if err != nil {
		return nil, err
	}
	hosts := m.scsiHosts()
	list := []facts.Controller{}
	for _, address := range addresses {
		class := m.pciClass(address)
		if !strings.HasPrefix(class, "01") && !strings.HasPrefix(class, "0c04") {
			continue
		}
		c := facts.Controller{
			PCI:      address,
			Class:    class[:4],
			VendorID: m.pciID(address, "vendor"),
			DeviceID: m.pciID(address, "device"),
			Driver:   m.driver(pciDir + "/" + address),
			Hosts:    len(hosts[address]),
		}
		for _, host := range append(hosts[address], m.nvmeControllers(address)...) {
			c.Model = cmp.Or(c.Model, m.firstText(host, hostModels))
			c.Firmware = cmp.Or(c.Firmware, m.firstText(host, hostFirmware))
		}
		list = append(list, c)
	}
	return func(f *facts.Facts, _ *facts.State) { f.Controllers = list }, nil
}

// Drivers call the same thing by other names, below the SCSI host, the NVMe controller or the Fibre Channel port.
var (
	hostModels = []string{
		"model_name",    // qla2xxx
		"modelname",     // lpfc
		"board_name",    // mpt3sas
		"host_fw_model", // arcmsr
		"model",         // smartpqi, aacraid, bfa, nvme
	}
	hostFirmware = []string{
		"version_fw",         // mpt3sas
		"fw_version",         // qla2xxx
		"fwrev",              // lpfc
		"firmware_revision",  // hpsa
		"firmware_version",   // smartpqi, bfa
		"host_fw_version",    // arcmsr
		"hba_kernel_version", // aacraid
		"firmware_rev",       // nvme
	}
)

// firstText is the first of these files in dir that says something.
func (t tree) firstText(dir string, files []string) string {
	for _, file := range files {
		if s := facts.Clean(t.text(dir + "/" + file)); s != "" {
			return s
		}
	}
	return ""
}

// nvmeControllers are those of an NVMe function, as a rule one.
func (t tree) nvmeControllers(address string) []string {
	dir := pciDir + "/" + address + "/nvme"
	var found []string
	for _, name := range t.names(dir) {
		found = append(found, dir+"/"+name)
	}
	return found
}

// scsiHosts gives the SCSI hosts by the PCI function they belong to.
func (t tree) scsiHosts() map[string][]string {
	hosts := map[string][]string{}
	for _, name := range t.names("/sys/class/scsi_host") {
		dir := "/sys/class/scsi_host/" + name
		if address := pciAncestor(t.resolve(dir)); address != "" {
			hosts[address] = append(hosts[address], dir)
		}
	}
	return hosts
}

// gpus reads displays (class 03) and processing accelerators (class 12), with or without a driver.
func gpus(_ context.Context, m machine) (section, error) {
	addresses, err := m.pciAddresses()
	if err != nil {
		return nil, err
	}
	list := []facts.GPU{}
	for _, address := range addresses {
		class := m.pciClass(address)
		if !strings.HasPrefix(class, "03") && !strings.HasPrefix(class, "12") {
			continue
		}
		list = append(list, facts.GPU{
			PCI:      address,
			Class:    class[:4],
			VendorID: m.pciID(address, "vendor"),
			DeviceID: m.pciID(address, "device"),
			Driver:   m.driver(pciDir + "/" + address),
			BootVGA:  m.text(pciDir+"/"+address+"/boot_vga") == "1",
		})
	}
	return func(f *facts.Facts, _ *facts.State) { f.GPUs = list }, nil
}

const usbDir = "/sys/bus/usb/devices"

// usbRoot names the hubs that the machine itself has.
var usbRoot = regexp.MustCompile(`^usb[0-9]+$`)

// usb reads the devices on USB ports.
func usb(_ context.Context, m machine) (section, error) {
	names, err := m.list(usbDir)
	if err != nil {
		return nil, err
	}
	list := []facts.USBDevice{}
	for _, name := range names {
		dir := usbDir + "/" + name
		vendor := m.hex(dir+"/idVendor", 4)
		if usbRoot.MatchString(name) || vendor == "" {
			continue
		}
		list = append(list, facts.USBDevice{
			Port:      facts.Line(name, 64),
			VendorID:  vendor,
			ProductID: m.hex(dir+"/idProduct", 4),
			Class:     m.hex(dir+"/bDeviceClass", 2),
			Vendor:    facts.Clean(m.text(dir + "/manufacturer")),
			Product:   facts.Clean(m.text(dir + "/product")),
			Serial:    facts.CleanSerial(m.text(dir + "/serial")),
			SpeedMbps: int(m.count(dir + "/speed")),
		})
	}
	return func(f *facts.Facts, _ *facts.State) { f.USB = list }, nil
}
