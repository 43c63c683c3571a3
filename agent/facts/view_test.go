package facts

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// plantedFacts is the machine of testdata/planted.json, read as strictly as the broker reads.
func plantedFacts(t *testing.T) *Facts {
	t.Helper()
	file, err := os.Open("testdata/planted.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var f Facts
	if err := decode(file, &f); err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestViewsOfThePlantedMachine(t *testing.T) {
	f := plantedFacts(t)
	for file, view := range map[string]map[string]any{
		"testdata/planted.facter.json": f.Facter(),
		"testdata/planted.ironic.json": f.Ironic(),
	} {
		b, err := json.MarshalIndent(view, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, '\n')
		if *update {
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(b)); diff != "" {
			t.Errorf("%s: -want +got\n%s", file, diff)
		}
	}
}

// The names and types are those that Razor rules and Foreman know, value by value.
func TestFacterNames(t *testing.T) {
	got := plantedFacts(t).Facter()
	for name, want := range map[string]any{
		"architecture": "x86_64", "hardwaremodel": "x86_64", "kernel": "Linux",
		"kernelrelease": "6.1.0-56-amd64", "kernelversion": "6.1.0", "kernelmajversion": "6.1",
		"manufacturer": "Dell Inc.", "productname": "PowerEdge R640", "serialnumber": "ABC1234",
		"uuid":              "4c4c4544-0042-3510-8052-c1c04f4e3132",
		"boardmanufacturer": "DellBoard", "boardproductname": "0H28RR", "boardserialnumber": ".ABC1234.CNFCP00",
		"bios_vendor": "MusterBIOS", "bios_version": "2.19.1", "bios_release_date": "03/14/2024", "type": "Other",
		"processorcount": int64(8), "physicalprocessorcount": int64(2),
		"processor0": "Intel Core i7 9xx (Nehalem Class Core i7)", "processor7": "Intel Core i7 9xx (Nehalem Class Core i7)",
		"processor8": nil, "memorysize_mb": "1968.20", "memorysize": "1.92 GB", "is_virtual": true, "virtual": "kvm",
		"blockdevices": "nvme0n1,nvme0n2,sda,sdb,sdc,sdd,sr0,vda", "blockdevice_nvme0n1_size": int64(4294967296),
		"blockdevice_sdc_vendor": "PLANTED", "blockdevice_sr0_model": "QEMU DVD-ROM", "blockdevice_sr0_size": nil,
		"interfaces": "eth0,eth1,eth2,lo", "macaddress_eth1": "52:54:00:aa:00:01", "macaddress": "52:54:00:aa:00:01",
		"mtu_eth0": int64(1500), "link_eth2": "false", "speed_eth1": "1000", "duplex_eth1": "full",
		"lldp_neighbor_portid_eth1": "Ethernet1/7", "lldp_neighbor_chassisid_eth1": "00:1c:ab:12:aa:00",
		"lldp_neighbor_sysname_eth1": "tor-r12a", "lldp_neighbor_mngaddr_ipv4_eth1": "192.0.2.11", "lldp_neighbor_mtu_eth1": "9216",
		"discovery_bootif": "52:54:00:aa:00:01", "ipmi_enabled": true, "ipmi_ipaddress": nil, "efi": false,
		"uptime": nil, "memoryfree": nil, "rack": nil,
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	sda1 := map[string]any{"size": "131072", "label": "EFI System", "filesystem": "vfat", "uuid": "1234-ABCD"}
	if diff := cmp.Diff(sda1, got["partitions"].(map[string]any)["sda1"]); diff != "" {
		t.Errorf("sda1: -want +got\n%s", diff)
	}
	if _, ok := got["partitions"].(map[string]any)["nvme0n2p2"]; !ok {
		t.Error("partitions lack nvme0n2p2")
	}
}

func TestFacterOf(t *testing.T) {
	up, down := true, false
	for _, tt := range []struct {
		name  string
		facts Facts
		want  map[string]any
	}{
		{"nothing known says nothing", Facts{}, map[string]any{}},
		{"an empty serial number is Facter's words for it", Facts{System: &System{}, Baseboard: &Baseboard{Serial: "B1"}},
			map[string]any{"serialnumber": "Not Specified", "boardserialnumber": "B1"}},
		{"a chassis with a lock is what it is without", Facts{Chassis: &Chassis{Type: 0x80 | 23}}, map[string]any{"type": "Rack Mount Chassis"}},
		{"a chassis of no known type says nothing", Facts{Chassis: &Chassis{Type: 99}}, map[string]any{}},
		{"a processor count beyond reason names no end of processors", Facts{CPU: &CPU{Threads: 1 << 40}}, map[string]any{"processorcount": int64(1 << 40)}},
		{"real hardware is physical", Facts{Virt: &Virt{}}, map[string]any{"is_virtual": false, "virtual": "physical"}},
		{"Xen guests are xenhvm", Facts{Virt: &Virt{IsVirtual: true, Kind: "xen"}}, map[string]any{"is_virtual": true, "virtual": "xenhvm"}},
		{"UEFI is efi", Facts{Firmware: &Firmware{Mode: "uefi"}}, map[string]any{"efi": true}},
		{"optical drives alone are no list of block devices", Facts{Optical: []Optical{{Name: "sr0"}}}, map[string]any{}},
		{"without a boot NIC the first with link stands for the machine", Facts{NICs: []NIC{
			{Name: "eno1", MAC: "00:00:5e:00:53:01", Link: &down},
			{Name: "eno49.444", MAC: "00:00:5e:00:53:02", Link: &up, IPv4: []string{"192.0.2.77/20"}}}},
			map[string]any{"interfaces": "eno1,eno49_444,lo", "macaddress_eno1": "00:00:5e:00:53:01", "link_eno1": "false",
				"macaddress_eno49_444": "00:00:5e:00:53:02", "link_eno49_444": "true", "ipaddress_eno49_444": "192.0.2.77",
				"netmask_eno49_444": "255.255.240.0", "network_eno49_444": "192.0.0.0",
				"macaddress": "00:00:5e:00:53:02", "ipaddress": "192.0.2.77", "netmask": "255.255.240.0"}},
		{"the address of the NIC that booted is the boot address", Facts{Boot: &Boot{}, NICs: []NIC{{Name: "a", PXE: true, IPv4: []string{"192.0.2.1/24"}}}},
			map[string]any{"interfaces": "a,lo", "ipaddress_a": "192.0.2.1", "netmask_a": "255.255.255.0", "network_a": "192.0.2.0",
				"ipaddress": "192.0.2.1", "netmask": "255.255.255.0", "discovery_bootip": "192.0.2.1"}},
		{"a BMC is told by channel too", Facts{BMC: &BMC{Present: true, IP: "192.0.2.9", Source: "dhcp", Channel: 8}},
			map[string]any{"ipmi_enabled": true, "ipmi_ipaddress": "192.0.2.9", "ipmi_8_ipaddress": "192.0.2.9",
				"ipmi_ipaddress_source": "DHCP Address", "ipmi_8_ipaddress_source": "DHCP Address"}},
		{"volume managers have blkid's names", Facts{Disks: []Disk{{Name: "mmcblk0", Partitions: []Partition{{Number: 2, SizeBytes: 1024, Content: &Content{Type: "lvm2"}}}}}},
			map[string]any{"blockdevices": "mmcblk0", "blockdevice_mmcblk0_size": int64(0),
				"partitions": map[string]any{"mmcblk0p2": map[string]any{"size": "2", "filesystem": "LVM2_member"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.facts.Facter()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestIronicOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts Facts
		want  map[string]any
	}{
		{"nothing known is an empty inventory", Facts{}, map[string]any{"inventory": map[string]any{}}},
		{"an interface without an address would be refused", Facts{NICs: []NIC{{Name: "ib0"}, {Name: "e0", MAC: "00:00:5e:00:53:01", IPv6: []string{"2001:db8::1/64"}}}},
			map[string]any{"inventory": map[string]any{"interfaces": []any{
				map[string]any{"name": "e0", "mac_address": "00:00:5e:00:53:01", "ipv6_address": "2001:db8::1"}}}}},
		{"a long WWN has a vendor extension", Facts{Disks: []Disk{{Name: "sda", SizeBytes: 1, WWN: "naa.600508b1001c4d2a0011223344556677"}}},
			map[string]any{"inventory": map[string]any{"disks": []any{map[string]any{"name": "/dev/sda", "size": int64(1),
				"wwn": "0x600508b1001c4d2a", "wwn_vendor_extension": "0x0011223344556677",
				"wwn_with_extension": "0x600508b1001c4d2a0011223344556677"}}}}},
		{"a clock speed is text", Facts{CPU: &CPU{MaxMHz: 2000, Threads: 4}},
			map[string]any{"inventory": map[string]any{"cpu": map[string]any{"frequency": "2000", "count": int64(4)}}}},
		{"a BMC has an address", Facts{BMC: &BMC{IP: "192.0.2.9", MAC: "00:00:5e:00:53:09"}},
			map[string]any{"inventory": map[string]any{"bmc_address": "192.0.2.9", "bmc_mac": "00:00:5e:00:53:09"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.facts.Ironic()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// The planted machine in the words of ironic-python-agent, value by value.
func TestIronicNames(t *testing.T) {
	view := plantedFacts(t).Ironic()
	flat := map[string]any{}
	b, err := json.Marshal(view)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	flatten(flat, "", tree)
	for name, want := range map[string]any{
		"inventory.cpu.count": int64(8), "inventory.cpu.socket_count": int64(2), "inventory.cpu.architecture": "x86_64",
		"inventory.memory.total": int64(2063802368), "inventory.memory.physical_mb": int64(2048),
		"inventory.disks.3.name": "/dev/sda", "inventory.disks.3.wwn": "0x5000c500a1b2c3d4", "inventory.disks.3.rotational": true,
		"inventory.disks.3.by_path": "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "inventory.disks.3.hctl": "0:0:0:0",
		"inventory.disks.3.logical_sector_size": int64(512), "inventory.disks.1.rotational": nil,
		"inventory.interfaces.0.vendor": "0x8086", "inventory.interfaces.0.product": "0x10d3", "inventory.interfaces.0.has_carrier": true,
		"inventory.interfaces.0.speed_mbps": int64(1000), "inventory.interfaces.0.pci_address": "0000:01:00.0",
		"inventory.system_vendor.firmware.build_date": "03/14/2024", "inventory.system_vendor.serial_number": "ABC1234",
		"inventory.boot.current_boot_mode": "bios", "inventory.boot.pxe_interface": "52:54:00:aa:00:01",
		"boot_interface": "01-52-54-00-aa-00-01", "pci_devices.14.bus": "0000:01:00.0", "pci_devices.14.vendor_id": "8086",
		"numa_topology.ram.1.size_kb": int64(1048576), "numa_topology.nics.0.name": "eth0",
		"inventory.hostname": nil, "lldp_raw": nil,
	} {
		if diff := cmp.Diff(want, flat[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
