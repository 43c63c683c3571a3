package lab

// PlantedValues is everything that facts tell of the planted machine with the firmware. Values that QEMU makes up are in
// it as well, when they are the same each time: a reader that confuses them with others would be found by them.
//
// What facts have and this machine cannot show: SMBIOS types 9 and 43 (slots; QEMU 7.2 has neither), ranks of a DIMM,
// the label of a NIC (type 41 names devices on the root bus alone, where no NIC is), SR-IOV, processors with a clock
// driver (cpu.max_mhz), RAID levels, EUI-64 and UUID of an NVMe namespace (Linux distrusts those of QEMU's controller,
// drivers/nvme/host/pci.c NVME_QUIRK_BOGUS_NID), disks behind a hardware RAID that say their WWN (the simulator has none),
// and lockdown other than none without Secure Boot.
func PlantedValues(f Firmware) []PlantedValue {
	values := rows(append(plantedGroups, plantedFirmware(f)))
	for _, d := range plantedPCI {
		at := "pci[address=" + d.address + "]."
		item := "PCI " + d.address + ": "
		values = append(values, PlantedValue{item + "class", at + "class", d.class}, PlantedValue{item + "vendor_id", at + "vendor_id", d.vendor},
			PlantedValue{item + "device_id", at + "device_id", d.device}, PlantedValue{item + "driver", at + "driver", d.driver})
	}
	return values
}

// PlantedStates is what the state that goes with the facts tells of the planted machine. QEMU's NVMe controller and ATA
// disk have SMART, its SCSI, RAID, USB and virtio disks have none.
func PlantedStates() []PlantedValue { return rows(plantedStates) }

// rows names each value by its group.
func rows(groups []plantedGroup) []PlantedValue {
	var values []PlantedValue
	for _, g := range groups {
		for _, v := range g.values {
			path := g.path + "." + v.name
			if g.path == "" {
				path = v.name
			}
			values = append(values, PlantedValue{g.item + ": " + v.name, path, v.want})
		}
	}
	return values
}

// A plantedGroup is values of one part of the machine.
type plantedGroup struct {
	item, path string
	values     []plantedField
}

type plantedField struct {
	name string
	want any
}

func plantedFirmware(f Firmware) plantedGroup {
	g := plantedGroup{"firmware", "firmware", []plantedField{
		{"vendor", "MusterBIOS"}, {"version", "2.19.1"}, {"date", "2024-03-14"}, {"release", "2.19"}, {"ec_release", nil}}}
	if f == BIOS {
		g.values = append(g.values, []plantedField{
			{"mode", "bios"}, {"platform_bits", nil}, {"secure_boot", nil}, {"setup_mode", nil}, {"lockdown", "none"}}...)
		return g
	}
	g.values = append(g.values, []plantedField{ // the variables of the rack hold no keys
		{"mode", "uefi"}, {"platform_bits", 64}, {"secure_boot", "disabled"}, {"setup_mode", true}, {"lockdown", "none"}}...)
	return g
}

var plantedGroups = []plantedGroup{
	{"facts", "", []plantedField{{"schema", 1}, {"arch", "x86_64"}, {"kernel", Holding("-amd64")}, {"incomplete", nil}, {"slots.#", 0}}},
	{"system", "system", []plantedField{
		{"manufacturer", "Dell Inc."}, {"product", "PowerEdge R640"}, {"version", "1.0"}, {"serial", "ABC1234"},
		{"sku", "SKU=0716;ModelName=PowerEdge R640"}, {"family", "PowerEdge"}, {"uuid", plantedUUID}}},
	{"baseboard", "baseboard", []plantedField{
		{"manufacturer", "DellBoard"}, {"product", "0H28RR"}, {"version", "A06"}, {"serial", ".ABC1234.CNFCP00"}, {"asset_tag", "BRD-ASSET"}, {"location", "Slot0"}}},
	{"chassis", "chassis", []plantedField{
		{"type", 1}, {"manufacturer", "DellChassis"}, {"version", "V2"}, {"serial", "CHS9876"}, {"asset_tag", "RACK12-U7"}, {"sku", "CSKU"}}},
	{"OEM strings", "oem_strings", []plantedField{{"#", 2}, {"0", "muster:site=par1"}, {"1", "muster:role=db"}}},
	{"custom fact", "custom", []plantedField{{"rack", "r12"}, {"site", "par1"}, {"role", "db"}}},

	{"processor", "cpu", []plantedField{
		{"vendor", "GenuineIntel"}, {"model", "Intel Core i7 9xx (Nehalem Class Core i7)"}, {"family", 6}, {"model_id", 26}, {"stepping", 3},
		{"microcode", "0x1"}, {"sockets", 2}, {"cores", 4}, {"threads", 8}, {"threads_present", 8}, {"smt", "on"}, {"max_mhz", nil},
		{"packages.#", 2}, {"flags", []string{"apic", "clflush", "cmov", "constant_tsc", "cpuid", "cx16", "cx8", "de", "fpu", "fxsr", "ht", "hypervisor",
			"lahf_lm", "lm", "mca", "mce", "mmx", "msr", "mtrr", "nopl", "nx", "pae", "pat", "pge", "pni", "popcnt", "pse", "pse36", "pti", "rep_good",
			"sep", "sse", "sse2", "sse4_1", "sse4_2", "ssse3", "syscall", "tsc", "xtopology"}}}},
	{"processor in CPU 0", "cpu.packages[socket=CPU 0]", plantedPackage},
	{"processor in CPU 1", "cpu.packages[socket=CPU 1]", plantedPackage},
	{"memory", "memory", []plantedField{
		{"total_bytes", Between{1900 * mib, 2*gib - 1}}, // less what the kernel keeps for itself
		{"online_bytes", 2 * gib}, {"physical_bytes", 2 * gib}, {"physical_source", "smbios17"}, {"ecc", "multi"}, {"slots", 1}, {"slots_used", 1}, {"dimms.#", 1}}},
	{"DIMM", "memory.dimms[serial=DSER0001]", []plantedField{
		{"locator", "DIMM_A 0"}, {"bank", "BANK_A"}, {"size_bytes", 2 * gib}, {"type", "RAM"}, {"form_factor", "DIMM"}, {"speed_mts", 2933},
		{"configured_mts", 2933}, {"manufacturer", "Samsung"}, {"part", "M393A4K40CB2"}, {"asset_tag", "DASSET"}, {"rank", nil}}},
	{"NUMA", "numa", []plantedField{{"#", 2}}},
	{"NUMA node 0", "numa[id=0]", []plantedField{{"cpus", "0-3"}, {"memory_bytes", gib}, {"distances", []int{10, 21}}}},
	{"NUMA node 1", "numa[id=1]", []plantedField{{"cpus", "4-7"}, {"memory_bytes", gib}, {"distances", []int{21, 10}}}},

	{"disks", "disks", []plantedField{{"#", 7}}},
	{"SATA disk", "disks[serial=SATA0001]", []plantedField{
		{"id", "naa.5000c500a1b2c3d4"}, {"wwn", "naa.5000c500a1b2c3d4"}, {"path", "pci-0000:00:1f.2-ata-1"}, {"transport", "sata"}, {"vendor", nil}, {"model", "PLANTEDHDD"},
		{"firmware", "FW1.0"}, {"rotational", true}, {"rpm", 7200}, {"size_bytes", 2 * gib}, {"logical_block_bytes", 512}, {"physical_block_bytes", 512},
		{"removable", nil}, {"read_only", nil}, {"pci", "0000:00:1f.2"}, {"table", "gpt"}, {"table_uuid", "8b2a6c70-2222-4333-8444-555566667777"}, {"partitions.#", 3}, {"content", nil}}},
	{"SATA disk, first partition", "disks[serial=SATA0001].partitions[number=1]", []plantedField{
		{"start_bytes", mib}, {"size_bytes", 64 * mib}, {"name", "EFI System"}, {"type", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}, {"uuid", "0a0b0c0d-0001-4000-8000-000000000001"},
		{"content.type", "vfat"}, {"content.label", "ESP"}, {"content.uuid", "1234-ABCD"}}},
	{"SATA disk, second partition", "disks[serial=SATA0001].partitions[number=2]", []plantedField{
		{"start_bytes", 65 * mib}, {"size_bytes", 512 * mib}, {"name", "root"}, {"type", "0fc63daf-8483-4772-8e79-3d69d8477de4"}, {"uuid", "0a0b0c0d-0001-4000-8000-000000000002"},
		{"content.type", "ext4"}, {"content.label", "rootfs"}, {"content.uuid", "01234567-89ab-cdef-0123-456789abcdef"}}},
	{"SATA disk, third partition", "disks[serial=SATA0001].partitions[number=3]", []plantedField{
		{"start_bytes", 577 * mib}, {"size_bytes", 128 * mib}, {"name", "swap"}, {"type", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"}, {"uuid", "0a0b0c0d-0001-4000-8000-000000000003"},
		{"content.type", "swap"}, {"content.label", "swp"}, {"content.uuid", "0fedcba9-8765-4321-0fed-cba987654321"}}},
	{"SCSI disk", "disks[serial=SCSI0001]", []plantedField{
		{"id", "naa.5002538a00000001"}, {"wwn", "naa.5002538a00000001"}, {"path", "pci-0000:00:07.0-scsi-0:0:0:0"}, {"transport", "virtio"}, {"vendor", "PLANTED"}, {"model", "SSD-3G"},
		{"firmware", "S1"}, {"rotational", false}, {"rpm", nil}, {"size_bytes", 3 * gib}, {"logical_block_bytes", 512}, {"physical_block_bytes", 4096},
		{"pci", "0000:00:07.0"}, {"table", nil}, {"partitions", nil}, {"content", nil}}},
	{"RAID disk", "disks[serial=MEGA0001]", []plantedField{
		{"id", "raid-QEMU_HARDDISK-MEGA0001"}, {"wwn", nil}, {"transport", "raid"}, {"vendor", "QEMU"}, {"model", "QEMU HARDDISK"}, {"firmware", "2.5+"},
		{"rotational", nil}, {"rpm", nil}, {"size_bytes", gib}, {"logical_block_bytes", 512}, {"physical_block_bytes", 512}, {"pci", "0000:00:08.0"},
		{"content.type", "btrfs"}, {"content.label", "pool"}, {"content.uuid", "deadbeef-0000-4000-8000-000000000002"}}},
	{"USB stick", "disks[serial=USB0001]", []plantedField{
		{"id", "usb-QEMU_HARDDISK-USB0001"}, {"wwn", nil}, {"transport", "usb"}, {"vendor", "QEMU"}, {"model", "QEMU HARDDISK"}, {"firmware", "2.5+"}, {"removable", true},
		{"rotational", nil}, {"size_bytes", 512 * mib}, {"logical_block_bytes", 512}, {"physical_block_bytes", 512}, {"pci", "0000:00:09.0"}, {"table", nil},
		{"content.type", "vfat"}, {"content.label", "STICK"}, {"content.uuid", "00C0-FFEE"}}},
	{"NVMe namespace 1", "disks[id=nvme-QEMU_NVMe_Ctrl-NVMESER01-n1]", append(plantedNVMe, []plantedField{
		{"nsid", 1}, {"path", "pci-0000:03:00.0-nvme-1"}, {"size_bytes", 4 * gib}, {"table", nil}, {"content", nil}}...)},
	{"NVMe namespace 2", "disks[id=nvme-QEMU_NVMe_Ctrl-NVMESER01-n2]", append(plantedNVMe, []plantedField{
		{"nsid", 2}, {"path", "pci-0000:03:00.0-nvme-2"}, {"size_bytes", gib}, {"table", "dos"}, {"table_uuid", "504c4e54"}, {"partitions.#", 2}, {"content", nil}}...)},
	{"NVMe namespace 2, first partition", "disks[id=nvme-QEMU_NVMe_Ctrl-NVMESER01-n2].partitions[number=1]", []plantedField{
		{"start_bytes", mib}, {"size_bytes", 100 * mib}, {"type", "0x83"}, {"uuid", "504c4e54-01"}, {"name", nil}, {"content", nil}}},
	{"NVMe namespace 2, second partition", "disks[id=nvme-QEMU_NVMe_Ctrl-NVMESER01-n2].partitions[number=2]", []plantedField{
		{"start_bytes", 101 * mib}, {"size_bytes", 923 * mib}, {"type", "0x83"}, {"uuid", "504c4e54-02"}, {"name", nil}, {"content", nil}}},
	{"virtio disk", "disks[serial=VBLK0001]", []plantedField{
		{"id", "virtio-VBLK0001"}, {"path", "pci-0000:04:00.0"}, {"transport", "virtio"}, {"model", nil}, {"vendor", nil}, {"rotational", nil}, {"size_bytes", gib},
		{"logical_block_bytes", 512}, {"physical_block_bytes", 512}, {"pci", "0000:04:00.0"}, {"table", nil},
		{"content.type", "xfs"}, {"content.label", "data"}, {"content.uuid", "deadbeef-0000-4000-8000-000000000001"}}},
	{"optical drives", "optical", []plantedField{{"#", 1}, {"0.vendor", "QEMU"}, {"0.model", "QEMU DVD-ROM"}}},

	{"controllers", "controllers", []plantedField{{"#", 5}}},
	{"virtio SCSI controller", "controllers[pci=0000:00:07.0]", []plantedField{{"class", "0100"}, {"vendor_id", "1af4"}, {"device_id", "1004"}, {"driver", "virtio-pci"}, {"scsi_hosts", 1}}},
	{"RAID controller", "controllers[pci=0000:00:08.0]", []plantedField{{"class", "0104"}, {"vendor_id", "1000"}, {"device_id", "0079"}, {"driver", "megaraid_sas"}, {"scsi_hosts", 1}}},
	{"SATA controller", "controllers[pci=0000:00:1f.2]", []plantedField{{"class", "0106"}, {"vendor_id", "8086"}, {"device_id", "2922"}, {"driver", "ahci"}, {"scsi_hosts", 6}}},
	{"NVMe controller", "controllers[pci=0000:03:00.0]", []plantedField{{"class", "0108"}, {"vendor_id", "1b36"}, {"device_id", "0010"}, {"driver", "nvme"}, {"scsi_hosts", nil}}},
	{"virtio disk's controller", "controllers[pci=0000:04:00.0]", []plantedField{{"class", "0100"}, {"vendor_id", "1af4"}, {"device_id", "1042"}, {"driver", "virtio-pci"}}},

	{"NICs", "nics", []plantedField{{"#", 3}}},
	{"NIC that boots", "nics[mac=" + PlantedMAC + "]", append(plantedE1000e, []plantedField{
		{"pci", "0000:01:00.0"}, {"link", true}, {"speed_mbps", 1000}, {"duplex", "full"}, {"pxe", true}, {"ipv4.#", 1}, {"ipv4.0", Holding("/24")}, {"lldp.#", 1}}...)},
	{"NIC without a cable", "nics[mac=" + plantedCut + "]", append(plantedE1000e, []plantedField{
		{"pci", "0000:02:00.0"}, {"link", false}, {"speed_mbps", nil}, {"duplex", nil}, {"pxe", nil}, {"ipv4", nil}}...)},
	{"virtio NIC", "nics[mac=" + plantedVirtio + "]", []plantedField{
		{"driver", "virtio_net"}, {"bus", "pci"}, {"vendor_id", "1af4"}, {"device_id", "1041"}, {"pci", "0000:81:00.0"}, {"numa_node", 1}, {"current_mac", nil},
		{"link", true}, {"speed_mbps", nil}, {"mtu", 1500}, {"pxe", nil}, {"ipv4", nil}, {"lldp.#", 1}}},
	{"switch port of the NIC that boots", "nics[mac=" + PlantedMAC + "].lldp[port_id=Ethernet1/7]", append(plantedSwitchFacts, []plantedField{
		{"port_desc", "r12-u7 nic0"}, {"pvid", 100}, {"vlans.#", 1}, {"vlans.0.id", 100}, {"vlans.0.name", "prov"}, {"agg_capable", true}, {"agg_enabled", true}, {"agg_port", 5}}...)},
	{"switch port of the virtio NIC", "nics[mac=" + plantedVirtio + "].lldp[port_id=Ethernet1/8]", append(plantedSwitchFacts, []plantedField{
		{"port_desc", "r12-u7 nic1"}, {"pvid", 200}, {"vlans.#", 1}, {"vlans.0.id", 200}, {"vlans.0.name", "stor"}, {"agg_enabled", false}, {"agg_port", nil}}...)},

	{"displays", "gpus", []plantedField{{"#", 2}}},
	{"first display", "gpus[pci=0000:00:01.0]", []plantedField{{"class", "0300"}, {"vendor_id", "1234"}, {"device_id", "1111"}, {"boot_vga", true}}},
	{"second display", "gpus[pci=0000:00:06.0]", []plantedField{{"class", "0380"}, {"vendor_id", "1234"}, {"device_id", "1111"}, {"boot_vga", nil}}},
	{"USB", "usb", []plantedField{{"#", 1}}},
	{"USB device", "usb[serial=USB0001]", []plantedField{
		{"port", "2-1"}, {"vendor_id", "46f4"}, {"product_id", "0001"}, {"class", "00"}, {"vendor", "QEMU"}, {"product", "QEMU USB HARDDRIVE"}, {"speed_mbps", 5000}}},
	{"PCI", "pci", []plantedField{{"#", 20}, {"[address=0000:80:00.0].numa_node", 1}, {"[address=0000:81:00.0].numa_node", 1}, {"[address=0000:00:08.0].subdevice_id", "9261"}}},
	{"BMC", "bmc", []plantedField{
		{"present", true}, {"interface", "kcs"}, {"firmware", "3.21"}, {"ipmi_version", "2.0"}, {"manufacturer_id", "0002a2"}, {"product_id", "0100"},
		{"guid", "66554433-8877-aa99-bbcc-ddeeff001122"}, {"channel", 1}, {"ip", "192.0.2.77"}, {"mac", "d0:94:66:77:88:aa"}, {"netmask", "255.255.255.0"},
		{"gateway", "192.0.2.1"}, {"source", "static"}, {"vlan", 100}}},
	{"TPM", "tpm", []plantedField{
		{"present", true}, {"version_major", 2}, {"driver", "tpm_crb"}, {"manufacturer", "IBM"}, {"vendor_string", "SW TPM"}, {"firmware", "8217.4131.22.13878"}, {"revision", "1.64"}}},
	{"virtualization", "virt", []plantedField{{"is_virtual", true}, {"hypervisor_id", "TCGTCGTCGTCG"}, {"kind", "qemu"}}},
	{"boot", "boot", []plantedField{{"bootif", PlantedMAC}, {"cmdline", Holding("BOOTIF=01-52-54-00-aa-00-01 ")}}},
}

var plantedStates = []plantedGroup{
	{"clock", "", []plantedField{{"rtc_epoch_s", Between{1704067200, 1704067200 + 3600}}}}, // 2024-01-01, and an hour to boot
	{"health of the SATA disk", "disks[naa.5000c500a1b2c3d4]", []plantedField{{"health", "ok"}}},
	{"health of NVMe namespace 1", "disks[nvme-QEMU_NVMe_Ctrl-NVMESER01-n1]", plantedNVMeHealth},
	{"health of NVMe namespace 2", "disks[nvme-QEMU_NVMe_Ctrl-NVMESER01-n2]", plantedNVMeHealth},
}

// plantedNVMeHealth is of a controller that has just been made (hw/nvme/ctrl.c: 323 K).
var plantedNVMeHealth = []plantedField{{"health", "ok"}, {"temp_c", 50}, {"wear_percent", 0}, {"power_on_hours", Between{0, 1}}, {"media_errors", 0}}

var plantedPackage = []plantedField{{"version", "Xeon-Planted"}, {"serial", "CPUSER"}, {"part", "CPUPART"}, {"asset_tag", "CPUASSET"}, {"max_mhz", 2000}}

var plantedNVMe = []plantedField{
	{"transport", "nvme"}, {"model", "QEMU NVMe Ctrl"}, {"serial", "NVMESER01"}, {"firmware", Holding("7.")}, {"subsysnqn", "nqn.2019-08.org.qemu:NVMESER01"},
	{"wwn", nil}, {"rotational", false}, {"logical_block_bytes", 512}, {"physical_block_bytes", 512}, {"pci", "0000:03:00.0"},
}

var plantedE1000e = []plantedField{
	{"driver", "e1000e"}, {"bus", "pci"}, {"vendor_id", "8086"}, {"device_id", "10d3"}, {"firmware", "2.1-0"}, {"mtu", 1500}, {"port", "tp"}, {"autoneg", true},
	{"current_mac", nil}, {"numa_node", nil},
}

var plantedSwitchFacts = []plantedField{
	{"chassis_id", "00:1c:ab:12:aa:00"}, {"ttl", 120}, {"sys_name", "tor-r12a"}, {"sys_desc", "PlantOS 4.2"}, {"caps", []string{"bridge"}}, {"mgmt", []string{"192.0.2.11"}}, {"mtu", 9216},
}

// plantedPCI are the functions of the machine. The display has no driver in the ramdisk, the bridges have one built in.
var plantedPCI = []struct {
	address, class, vendor, device string
	driver                         any
}{
	{"0000:00:00.0", "060000", "8086", "29c0", nil},
	{"0000:00:01.0", "030000", "1234", "1111", nil},
	{"0000:00:02.0", "060000", "1b36", "000b", nil},
	{"0000:00:06.0", "038000", "1234", "1111", nil},
	{"0000:00:07.0", "010000", "1af4", "1004", "virtio-pci"},
	{"0000:00:08.0", "010400", "1000", "0079", "megaraid_sas"},
	{"0000:00:09.0", "0c0330", "1b36", "000d", "xhci_hcd"},
	{"0000:00:10.0", "060400", "1b36", "000c", "pcieport"},
	{"0000:00:11.0", "060400", "1b36", "000c", "pcieport"},
	{"0000:00:12.0", "060400", "1b36", "000c", "pcieport"},
	{"0000:00:13.0", "060400", "1b36", "000c", "pcieport"},
	{"0000:00:1f.0", "060100", "8086", "2918", nil},
	{"0000:00:1f.2", "010601", "8086", "2922", "ahci"},
	{"0000:00:1f.3", "0c0500", "8086", "2930", nil},
	{"0000:01:00.0", "020000", "8086", "10d3", "e1000e"},
	{"0000:02:00.0", "020000", "8086", "10d3", "e1000e"},
	{"0000:03:00.0", "010802", "1b36", "0010", "nvme"},
	{"0000:04:00.0", "010000", "1af4", "1042", "virtio-pci"},
	{"0000:80:00.0", "060400", "1b36", "000c", "pcieport"},
	{"0000:81:00.0", "020000", "1af4", "1041", "virtio-pci"},
}
