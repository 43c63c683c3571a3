package peers

import (
	"fmt"
	"slices"
	"strconv"
)

// Planted are the things of the planted machine of which there are several, by what names them beyond doubt. A disk's or
// NIC's PCI address is not a name: it is one of the things to be found.
var Planted = slices.Concat([]Thing{
	{Name: "ssd", Kind: part, Place: "/0000:00:07.0/", Names: []string{"SCSI0001", "naa.5002538a00000001"}},
	{Name: "raid", Kind: part, Place: "/0000:00:08.0/", Names: []string{"MEGA0001"}},
	{Name: "usb", Kind: part, Place: "/0000:00:09.0/", Names: []string{"USB0001"}},
	{Name: "hdd", Kind: part, Place: "/0000:00:1f.2/ata1/", Names: []string{"SATA0001", "naa.5000c500a1b2c3d4"}},
	{Name: "nvme", Kind: part, Place: "/0000:03:00.0/", Names: []string{"NVMESER01"}},
	{Name: "nvme1", Kind: part, In: "nvme", Place: "/nvme0n1/", Names: []string{"n1"}},
	{Name: "nvme2", Kind: part, In: "nvme", Place: "/nvme0n2/", Names: []string{"n2"}},
	{Name: "vblk", Kind: part, Place: "/0000:04:00.0/", Names: []string{"VBLK0001"}},
	{Name: "nic0", Kind: part, Place: "/0000:01:00.0/", Names: []string{"52:54:00:aa:00:01"}},
	{Name: "nic1", Kind: part, Place: "/0000:81:00.0/", Names: []string{"52:54:00:aa:00:02"}},
	{Name: "nic2", Kind: part, Place: "/0000:02:00.0/", Names: []string{"00:1b:21:aa:00:03"}},
	{Name: "system", Kind: part, Names: []string{"PowerEdge R640"}},
	{Name: "baseboard", Kind: part, Names: []string{"0H28RR"}},
	{Name: "dimm", Kind: part, Names: []string{"DSER0001", "DIMM_A 0"}},
}, plantedSlots())

const (
	part = "part"
	slot = "slot"
)

func plantedSlots() []Thing {
	var things []Thing
	for _, p := range plantedPCI {
		things = append(things, Thing{Name: p.address, Kind: slot, Names: addresses(p.address)})
	}
	return things
}

// plantedPCI is what sits at each address: its device id, the name that pci.ids or the tools have for that, and the driver. Root ports
// and the host's own functions are there in many machines, and only their presence counts.
var plantedPCI = []struct{ address, vendor, device, name, driver string }{
	{"0000:00:01.0", "1234", "1111", "VGA compatible controller", "bochs-drm"},
	{"0000:00:06.0", "1234", "1111", "Display controller", "bochs-drm"},
	{"0000:00:07.0", "1af4", "1004", "Virtio SCSI", "virtio-pci"},
	{"0000:00:08.0", "1000", "0079", "MegaRAID SAS 2108", "megaraid_sas"},
	{"0000:00:09.0", "1b36", "000d", "QEMU XHCI Host Controller", "xhci_hcd"},
	{"0000:00:1f.2", "8086", "2922", "6 port SATA Controller", "ahci"},
	{"0000:01:00.0", "8086", "10d3", "82574L", "e1000e"},
	{"0000:02:00.0", "8086", "10d3", "82574L", "e1000e"},
	{"0000:03:00.0", "1b36", "0010", "QEMU NVMe Ctrl", "nvme"},
	{"0000:04:00.0", "1af4", "1042", "Virtio 1.0 block device", "virtio-pci"},
	{"0000:81:00.0", "1af4", "1041", "Virtio 1.0 network device", "virtio-pci"},
	{"0000:00:10.0", "1b36", "000c", "QEMU PCIe Root port", "pcieport"},
	{"0000:00:11.0", "1b36", "000c", "QEMU PCIe Root port", "pcieport"},
	{"0000:00:12.0", "1b36", "000c", "QEMU PCIe Root port", "pcieport"},
	{"0000:00:13.0", "1b36", "000c", "QEMU PCIe Root port", "pcieport"},
	{"0000:80:00.0", "1b36", "000c", "QEMU PCIe Root port", "pcieport"},
}

// Items are what was planted, in the order of a walk through the machine.
var Items = slices.Concat(boardItems, processorItems, memoryItems, diskItems, contentItems, nicItems, pciItems(), smallItems)

var boardItems = []Item{
	{Group: "system", Name: "manufacturer", Want: words("Dell Inc.")},
	{Group: "system", Name: "product", Want: words("PowerEdge R640")},
	{Group: "system", Name: "version", Of: "system", Want: words("1.0"), Label: `version`},
	{Group: "system", Name: "serial", Want: words("ABC1234"), Label: `serial`},
	{Group: "system", Name: "uuid", Want: words("4c4c4544-0042-3510-8052-c1c04f4e3132")},
	{Group: "system", Name: "sku", Want: words("SKU=0716;ModelName=PowerEdge R640")},
	{Group: "system", Name: "family", Want: words("PowerEdge"), Label: `family`},
	{Group: "baseboard", Name: "manufacturer", Want: words("DellBoard")},
	{Group: "baseboard", Name: "product", Want: words("0H28RR")},
	{Group: "baseboard", Name: "version", Want: words("A06")},
	{Group: "baseboard", Name: "serial", Want: words(".ABC1234.CNFCP00")},
	{Group: "baseboard", Name: "asset tag", Want: words("BRD-ASSET")},
	{Group: "baseboard", Name: "location", Want: words("Slot0")},
	{Group: "chassis", Name: "manufacturer", Want: words("DellChassis")},
	{Group: "chassis", Name: "version", Want: words("V2")},
	{Group: "chassis", Name: "serial", Want: words("CHS9876")},
	{Group: "chassis", Name: "asset tag", Want: words("RACK12-U7")},
	{Group: "chassis", Name: "sku", Want: words("CSKU")},
	{Group: "oem string", Name: "site", Want: words("muster:site=par1")},
	{Group: "oem string", Name: "role", Want: words("muster:role=db")},
	{Group: "firmware", Name: "vendor", Want: words("MusterBIOS")},
	{Group: "firmware", Name: "version", Want: words("2.19.1")},
	{Group: "firmware", Name: "date", Want: words("03/14/2024", "2024-03-14")},
	{Group: "firmware", Name: "release", Want: words("2.19")},
	{Group: "firmware", Name: "mode", Want: words("bios", "legacy"), Label: `firmware.mode|boot.?mode`},
}

var processorItems = []Item{
	{Group: "cpu", Name: "model", Want: words("Intel Core i7 9xx (Nehalem Class Core i7)")},
	{Group: "cpu", Name: "vendor", Want: words("GenuineIntel", "Intel Corp."), By: map[string]string{"dmidecode": `^manufacturer: intel$`}},
	{Group: "cpu", Name: "model number", Want: words("26", "6.26.3"), Label: `model|version`},
	{Group: "cpu", Name: "microcode", Want: words("0x1", "1"), Label: `microcode`},
	{Group: "cpu", Name: "sockets", Want: words("2"), Label: `sockets|physical|packages|cpu\.real`,
		By: map[string]string{"lshw": `id: cpu:1$`, "dmidecode": `^socket designation: cpu 1$`, "hwinfo": `"cpu 1"`}},
	{Group: "cpu", Name: "cores", Want: words("2", "4"), Label: `cores|core.?count`}, // in one or in all
	{Group: "cpu", Name: "threads", Want: words("4", "8"), Label: `threads?|processors.count|cpu\.total`,
		By: map[string]string{"hwinfo": `^\d+: none 07\.0: .* cpu$`}},
	{Group: "cpu", Name: "threads per core", Want: words("on", "2"), Label: `smt|threads.per.core|processors\.threads`},
	{Group: "cpu", Name: "package version", Want: words("Xeon-Planted")},
	{Group: "cpu", Name: "package serial", Want: words("CPUSER")},
	{Group: "cpu", Name: "package asset tag", Want: words("CPUASSET")},
	{Group: "cpu", Name: "package part", Want: words("CPUPART")},
	{Group: "cpu", Name: "package MHz", Want: words("2000", "2000 MHz", "2000000000", "2 GHz"), Label: `mhz|speed|size|capacity|freq|clock`},
	{Group: "numa", Name: "CPUs of node 0", Want: words("0-3", "0,1,2,3"), Label: `numa|node`},
	{Group: "numa", Name: "CPUs of node 1", Want: words("4-7", "4,5,6,7"), Label: `numa|node`},
	{Group: "numa", Name: "memory of a node", Want: bytesAs(1 << 30), Label: `numa|node`},
	{Group: "numa", Name: "distance", Want: words("21"), Label: `distance`},
}

var memoryItems = []Item{
	{Group: "memory", Name: "error correction", Want: words("multi", "multi-bit", "multi-bit ECC"), Label: `ecc|correct|detect|memory`},
	{Group: "memory", Name: "slots", Want: words("1"), Label: `memory\.slots|^slots|number of devices`},
	{Group: "dimm", Name: "size", Of: "dimm", Want: bytesAs(2 << 30)},
	{Group: "dimm", Name: "locator", Want: words("DIMM_A 0")},
	{Group: "dimm", Name: "bank", Want: words("BANK_A")},
	{Group: "dimm", Name: "manufacturer", Want: words("Samsung")},
	{Group: "dimm", Name: "serial", Want: words("DSER0001")},
	{Group: "dimm", Name: "asset tag", Want: words("DASSET")},
	{Group: "dimm", Name: "part", Want: words("M393A4K40CB2")},
	{Group: "dimm", Name: "form factor", Of: "dimm", Want: words("DIMM"), Label: `form|description`},
	{Group: "dimm", Name: "MT/s", Of: "dimm", Want: words("2933", "2933 MT/s", "2933 MHz", "2933000000")},
}

var diskItems = slices.Concat([]Item{
	{Group: "disk ssd", Name: "vendor", Of: "ssd", Want: words("PLANTED")},
	{Group: "disk ssd", Name: "model", Want: words("SSD-3G", "PLANTED_SSD-3G", "PLANTED SSD-3G")},
	{Group: "disk ssd", Name: "firmware", Of: "ssd", Want: words("S1"), Label: `rev|version|firmware`},
	{Group: "disk ssd", Name: "wwn", Want: words("5002538a00000001", "0x5002538a00000001", "naa.5002538a00000001")},
	{Group: "disk ssd", Name: "solid state", Of: "ssd", Want: words("false", "0", "ssd"), Label: `rota|type`},
	{Group: "disk ssd", Name: "physical block", Of: "ssd", Want: words("4096"), Label: `phy|sector`},
	{Group: "disk hdd", Name: "model", Want: words("PLANTEDHDD")},
	{Group: "disk hdd", Name: "firmware", Of: "hdd", Want: words("FW1.0")},
	{Group: "disk hdd", Name: "wwn", Want: words("5000c500a1b2c3d4", "0x5000c500a1b2c3d4", "naa.5000c500a1b2c3d4")},
	{Group: "disk hdd", Name: "rotating", Of: "hdd", Want: words("true", "1", "hdd"), Label: `rota|type`},
	{Group: "disk hdd", Name: "rpm", Of: "hdd", Want: words("7200", "7200rpm")},
	{Group: "disk hdd", Name: "health", Of: "hdd", Want: words("ok", "passed", "healthy"), Label: `health|smart`},
	{Group: "disk nvme", Name: "health", Of: "nvme", Want: words("ok", "passed", "healthy"), Label: `health|smart`},
	{Group: "disk nvme", Name: "temperature", Of: "nvme", Want: words("50", "323"), Label: `temp`}, // QEMU's constant, 323 K
	{Group: "disk usb", Name: "removable", Of: "usb", Want: words("true", "1", "removable", "support is removable"), Label: `removable|hotplug|rm`},
	{Group: "disk nvme2", Name: "namespace", Of: "nvme2", Want: words("2"), Label: `nsid|namespace`},
}, eachDisk())

// eachDisk are the items that every disk has. Namespaces of one NVMe controller have its serial.
func eachDisk() []Item {
	var items []Item
	for _, d := range []struct {
		name, serial, address string
		bytes                 int64
		transport             []string
	}{
		{"ssd", "SCSI0001", "0000:00:07.0", 3 << 30, nil},
		{"raid", "MEGA0001", "0000:00:08.0", 1 << 30, words("raid", "megaraid_sas")},
		{"usb", "USB0001", "0000:00:09.0", 512 << 20, words("usb")},
		{"hdd", "SATA0001", "0000:00:1f.2", 2 << 30, words("sata", "ata", "ahci")},
		{"nvme", "NVMESER01", "0000:03:00.0", 0, words("nvme")},
		{"nvme1", "", "", 4 << 30, nil},
		{"nvme2", "", "", 1 << 30, nil},
		{"vblk", "VBLK0001", "0000:04:00.0", 1 << 30, words("virtio", "virtio_blk", "virtio-pci")},
	} {
		group := "disk " + d.name
		if d.bytes != 0 {
			items = append(items, Item{Group: group, Name: "size", Of: d.name, Want: bytesAs(d.bytes)})
		}
		if d.serial != "" {
			items = append(items, Item{Group: group, Name: "serial", Want: words(d.serial)})
		}
		if d.address != "" {
			items = append(items, Item{Group: group, Name: "PCI address", Of: d.name, Want: addresses(d.address)})
		}
		if d.transport != nil {
			items = append(items, Item{Group: group, Name: "transport", Of: d.name, Want: d.transport})
		}
	}
	return items
}

// contentItems are what is on the disks.
var contentItems = slices.Concat([]Item{
	{Group: "disk hdd", Name: "GPT", Of: "hdd", Want: words("gpt", "gpt-1.00", "GUID Partition Table version 1.00")},
	{Group: "disk hdd", Name: "GPT id", Want: words("8b2a6c70-2222-4333-8444-555566667777")},
	{Group: "disk nvme2", Name: "MBR", Of: "nvme2", Want: words("dos", "msdos", "mbr", "partitioned:dos")},
	{Group: "partition hdd 1", Name: "name", Want: words("EFI System")},
	{Group: "partition hdd 2", Name: "name", Of: "hdd", Want: words("root"), Label: `name|label`},
	{Group: "partition hdd 3", Name: "name", Of: "hdd", Want: words("swap"), Label: `name|partlabel`},
	{Group: "partition hdd 1", Name: "size", Of: "hdd", Want: bytesAs(64 << 20), By: map[string]string{"lshw": `capacity: 67108352$`}}, // a sector less
	{Group: "partition hdd 2", Name: "size", Of: "hdd", Want: bytesAs(512 << 20)},
	{Group: "partition hdd 3", Name: "size", Of: "hdd", Want: bytesAs(128 << 20), By: map[string]string{"lshw": `capacity: 134217216$`}}, // a sector less
	{Group: "partition hdd 2", Name: "start", Of: "hdd", Want: words("68157440", "133120")},
	{Group: "partition hdd 3", Name: "start", Of: "hdd", Want: words("605028352", "1181696")},
	{Group: "partition hdd 1", Name: "id", Want: words("0a0b0c0d-0001-4000-8000-000000000001")},
	{Group: "partition hdd 2", Name: "id", Want: words("0a0b0c0d-0001-4000-8000-000000000002")},
	{Group: "partition hdd 3", Name: "id", Want: words("0a0b0c0d-0001-4000-8000-000000000003")},
	{Group: "partition nvme2 1", Name: "size", Of: "nvme2", Want: bytesAs(104857600)},
	{Group: "partition nvme2 2", Name: "size", Of: "nvme2", Want: bytesAs(967835648)},
},
	content("hdd 1", "hdd", "ESP", "1234-ABCD", "vfat", "fat", "fat16", "fat32"),
	content("hdd 2", "hdd", "rootfs", "01234567-89ab-cdef-0123-456789abcdef", "ext4"),
	content("hdd 3", "hdd", "swp", "0fedcba9-8765-4321-0fed-cba987654321", "swap", "linux-swap", "Linux swap"),
	content("vblk", "vblk", "data", "deadbeef-0000-4000-8000-000000000001", "xfs"),
	content("raid", "raid", "pool", "deadbeef-0000-4000-8000-000000000002", "btrfs"),
	content("usb", "usb", "STICK", "00C0-FFEE", "vfat", "fat", "fat16", "fat32"),
)

func content(where, of, label, uuid string, kinds ...string) []Item {
	group := "content " + where
	return []Item{
		{Group: group, Name: "type", Of: of, Want: kinds},
		{Group: group, Name: "label", Of: of, Want: words(label)},
		{Group: group, Name: "uuid", Want: words(uuid)},
	}
}

var nicItems = []Item{
	{Group: "nic 0", Name: "MAC", Want: words("52:54:00:aa:00:01")},
	{Group: "nic 1", Name: "MAC", Want: words("52:54:00:aa:00:02")},
	{Group: "nic 2", Name: "MAC", Want: words("00:1b:21:aa:00:03")},
	{Group: "nic 0", Name: "PCI address", Of: "nic0", Want: addresses("0000:01:00.0")},
	{Group: "nic 1", Name: "PCI address", Of: "nic1", Want: addresses("0000:81:00.0")},
	{Group: "nic 2", Name: "PCI address", Of: "nic2", Want: addresses("0000:02:00.0")},
	{Group: "nic 0", Name: "driver", Of: "nic0", Want: words("e1000e")},
	{Group: "nic 1", Name: "driver", Of: "nic1", Want: words("virtio_net")},
	{Group: "nic 2", Name: "driver", Of: "nic2", Want: words("e1000e")},
	{Group: "nic 0", Name: "link", Of: "nic0", Want: words("true", "yes", "up", "lower_up"), Label: `link|carrier|state|flags`},
	{Group: "nic 1", Name: "link", Of: "nic1", Want: words("true", "yes", "up", "lower_up"), Label: `link|carrier|state|flags`},
	{Group: "nic 2", Name: "no link", Of: "nic2", Want: words("false", "no", "down", "no-carrier"), Label: `link|carrier|state|flags`},
	{Group: "nic 0", Name: "speed", Of: "nic0", Want: words("1000", "1000Mb/s", "1Gbit/s", "1000000000")},
	{Group: "nic 0", Name: "duplex", Of: "nic0", Want: words("full"), Label: `duplex`},
	{Group: "nic 1", Name: "NUMA node", Of: "0000:81:00.0", Want: words("1"), Label: `numa`},
	{Group: "nic 0", Name: "booted", Want: words("01-52-54-00-aa-00-01", "52:54:00:aa:00:01"), Label: `boot|pxe`},
}

// pciItems: the id of each device; the driver of those that need one to be of use.
func pciItems() []Item {
	var items []Item
	for _, p := range plantedPCI {
		ids := words(p.device, "0x"+p.device, p.vendor+":"+p.device, p.name)
		items = append(items, Item{Group: "pci " + p.address, Name: "device", Of: p.address, Want: ids})
		if p.driver != "pcieport" {
			items = append(items, Item{Group: "pci " + p.address, Name: "driver", Of: p.address, Want: words(p.driver)})
		}
	}
	return items
}

var smallItems = []Item{
	{Group: "pci 0000:00:07.0", Name: "name on the board", Want: words("OnboardSCSI1")},
	{Group: "usb", Name: "id", Want: words("46f4:0001", "46f4", "0x46f4")},
	{Group: "usb", Name: "product", Want: words("QEMU USB HARDDRIVE")},
	{Group: "usb", Name: "speed", Want: words("5000", "5000Mbit/s", "5 Gbit/s", "5Gbps"), Label: `speed`},
	{Group: "optical", Name: "drive", Want: words("QEMU DVD-ROM", "QEMU_DVD-ROM")},
	{Group: "bmc", Name: "interface", Want: words("kcs")},
	{Group: "bmc", Name: "firmware", Want: words("3.21")},
	{Group: "bmc", Name: "IPMI version", Want: words("2.0"), Label: `ipmi|specification version`},
	{Group: "bmc", Name: "manufacturer id", Want: words("0002a2", "0x0002a2")},
	{Group: "bmc", Name: "guid", Want: words("33445566-7788-99aa-bbcc-ddeeff001122", "66554433-8877-aa99-bbcc-ddeeff001122")},
	{Group: "tpm", Name: "version", Want: words("2", "2.0"), Label: `tpm.*(version|major|spec)`},
	{Group: "tpm", Name: "driver", Want: words("tpm_crb")},
	{Group: "tpm", Name: "manufacturer", Want: words("IBM"), Label: `tpm`},
	{Group: "tpm", Name: "vendor", Want: words("SW TPM")},
	{Group: "virtualization", Name: "is a guest", Want: words("true", "guest", "hypervisor"), Label: `virt|flags|features|capabilities`},
	{Group: "virtualization", Name: "by what", Want: words("qemu", "kvm", "tcg", "TCGTCGTCGTCG"), Label: `virt|hypervisor`},
}

func words(w ...string) []string { return w }

// addresses are a PCI address with and without its domain.
func addresses(a string) []string { return []string{a, a[len("0000:"):]} }

// bytesAs is a size in bytes, sectors and KiB, and rounded to up to two digits in the larger units, binary and decimal,
// by whatever name.
func bytesAs(n int64) []string {
	want := []string{strconv.FormatInt(n, 10), strconv.FormatInt(n/512, 10), fmt.Sprint(n>>10, " KiB"), fmt.Sprint(n>>10, "kB"), fmt.Sprint(n>>10, " kB")}
	for _, unit := range []struct {
		bytes float64
		names []string
	}{
		{1 << 20, []string{"MiB", "MB", "M"}}, {1 << 30, []string{"GiB", "GB", "G"}}, {1e6, []string{"MB"}}, {1e9, []string{"GB"}},
	} {
		v := float64(n) / unit.bytes
		if v < 1 {
			continue
		}
		for digits := range 3 {
			number := strconv.FormatFloat(v, 'f', digits, 64)
			for _, name := range unit.names {
				want = append(want, number+name, number+" "+name)
			}
		}
	}
	return want
}
