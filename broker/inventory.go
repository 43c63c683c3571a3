package broker

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/broker/rule"
	"muster/broker/rule/inspection"
)

// inventory are the names of an inventory as ironic-python-agent sends it (ironic_python_agent/hardware.py), with the
// sections of facts that facts.Ironic makes them from ("" is what muster never knows), and what the agent sends where
// there is no such thing: it leaves no name out. unsaid is for names that it has a value for on every machine.
var inventory = []struct {
	path, section string
	without       any
}{
	{"inventory.cpu.architecture", "arch", unsaid},
	{"inventory.cpu.count", "cpu", unsaid},
	{"inventory.cpu.socket_count", "cpu", unsaid},
	{"inventory.cpu.model_name", "cpu", unsaid},
	{"inventory.cpu.frequency", "cpu", unsaid},
	{"inventory.cpu.flags[]", "cpu", unsaid},

	{"inventory.memory.total", "memory", unsaid},
	{"inventory.memory.physical_mb", "memory", unsaid},

	{"inventory.disks[].name", "disks", unsaid},
	{"inventory.disks[].size", "disks", unsaid},
	{"inventory.disks[].rotational", "disks", unsaid},
	{"inventory.disks[].vendor", "disks", nil},
	{"inventory.disks[].model", "disks", nil},
	{"inventory.disks[].serial", "disks", nil},
	{"inventory.disks[].hctl", "disks", nil},
	{"inventory.disks[].by_path", "disks", nil},
	{"inventory.disks[].logical_sector_size", "disks", unsaid},
	{"inventory.disks[].wwn", "disks", nil},
	{"inventory.disks[].wwn_with_extension", "disks", nil},
	{"inventory.disks[].wwn_vendor_extension", "disks", nil},
	{"inventory.disks[].uuid", "", unsaid},

	{"inventory.interfaces[].name", "nics", unsaid},
	{"inventory.interfaces[].mac_address", "nics", unsaid},
	{"inventory.interfaces[].ipv4_address", "nics", nil},
	{"inventory.interfaces[].ipv6_address", "nics", nil},
	{"inventory.interfaces[].has_carrier", "nics", unsaid},
	{"inventory.interfaces[].speed_mbps", "nics", nil},
	{"inventory.interfaces[].vendor", "nics", nil},
	{"inventory.interfaces[].product", "nics", nil},
	{"inventory.interfaces[].pci_address", "nics", nil},
	{"inventory.interfaces[].lldp", "", unsaid},
	{"inventory.interfaces[].client_id", "", unsaid},
	{"inventory.interfaces[].biosdevname", "", unsaid},

	{"inventory.system_vendor.manufacturer", "system", ""},
	{"inventory.system_vendor.product_name", "system", ""},
	{"inventory.system_vendor.serial_number", "system", ""},
	{"inventory.system_vendor.firmware.vendor", "firmware", ""},
	{"inventory.system_vendor.firmware.version", "firmware", ""},
	{"inventory.system_vendor.firmware.build_date", "firmware", ""},
	{"inventory.boot.current_boot_mode", "firmware", unsaid},
	{"inventory.boot.pxe_interface", "boot", nil},
	{"inventory.bmc_address", "bmc", nil},
	{"inventory.bmc_mac", "bmc", nil},
	{"inventory.bmc_v6address", "", unsaid},
	{"inventory.hostname", "", unsaid},
}

const unsaid = inspection.Unknown("muster does not know it of this node")

// beside are the names of what stands beside an inventory: in data of ironic-inspector, in plugin_data of Ironic, or both.
// lldp is lacking where an interface was not listened to.
var beside = []struct{ data, plugin, section string }{
	{"boot_interface", "boot_interface", "boot"},
	{"pci_devices[].bus", "pci_devices[].bus", "pci"},
	{"pci_devices[].vendor_id", "pci_devices[].vendor_id", "pci"},
	{"pci_devices[].product_id", "pci_devices[].product_id", "pci"},
	{"pci_devices[].class", "pci_devices[].class", "pci"},
	{"pci_devices[].revision", "pci_devices[].revision", "pci"},
	{"pci_devices[].numa_node_id", "pci_devices[].numa_node_id", "pci"},
	{"usb_devices[].vendor", "usb_devices[].vendor", "usb"},
	{"usb_devices[].product", "usb_devices[].product", "usb"},
	{"usb_devices[].vendor_id", "usb_devices[].vendor_id", "usb"},
	{"usb_devices[].product_id", "usb_devices[].product_id", "usb"},
	{"usb_devices[].serial", "usb_devices[].serial", "usb"},
	{"numa_topology.ram[].numa_node", "numa_topology.ram[].numa_node", "numa"},
	{"numa_topology.ram[].size_kb", "numa_topology.ram[].size_kb", "numa"},
	{"numa_topology.nics[].name", "numa_topology.nics[].name", "nics"},
	{"numa_topology.nics[].numa_node", "numa_topology.nics[].numa_node", "nics"},
	{"cpus", "", "cpu"},
	{"cpu_arch", "", "arch"},
	{"memory_mb", "", "memory"},
	{"local_gb", "", "disks"},
	{"root_disk.*", "root_disk.*", "disks"},
	{"ipmi_address", "", "bmc"},
	{"ipmi_v6address", "", ""},
	{"all_interfaces.*.ip", "all_interfaces.*.ip", "nics"},
	{"all_interfaces.*.mac", "all_interfaces.*.mac", "nics"},
	{"all_interfaces.*.pxe", "all_interfaces.*.pxe", "nics boot"},
	{"all_interfaces.*.client_id", "all_interfaces.*.client_id", ""},
	{"all_interfaces.*.lldp_processed.switch_chassis_id", "parsed_lldp.*.switch_chassis_id", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_port_id", "parsed_lldp.*.switch_port_id", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_port_description", "parsed_lldp.*.switch_port_description", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_system_name", "parsed_lldp.*.switch_system_name", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_system_description", "parsed_lldp.*.switch_system_description", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_port_untagged_vlan_id", "parsed_lldp.*.switch_port_untagged_vlan_id", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_port_vlans[].id", "parsed_lldp.*.switch_port_vlans[].id", "nics lldp"},
	{"all_interfaces.*.lldp_processed.switch_port_vlans[].name", "parsed_lldp.*.switch_port_vlans[].name", "nics lldp"},
	{"interfaces.*", "valid_interfaces.*", ""}, // which of them depends on Ironic's add_ports
	{"macs", "macs", ""},
	{"lldp_raw.*", "lldp_raw.*", ""},
	{"dmi.*", "dmi.*", ""},
}

// inventorySteps are the paths of inventory below it, name by name.
var inventorySteps = func() (steps [][]string) {
	for _, n := range inventory {
		steps = append(steps, strings.Split(strings.ReplaceAll(n.path, "[]", ".[]"), ".")[1:])
	}
	return steps
}()

// ironicSections are those that names are made from.
var ironicSections = func() []string {
	var all []string
	for _, sections := range ironicNames.Inventory {
		all = append(all, strings.Fields(sections)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}()

// ironicNames are what inspection rules may read.
var ironicNames = func() *inspection.Schema {
	s := &inspection.Schema{Inventory: map[string]string{}, Node: map[string]string{
		"uuid": "", "name": "", "provision_state": "", "extra.*": "", "properties.*": "",
		"properties.cpus":      "write data://cpus or {inventory[cpu][count]}",
		"properties.cpu_arch":  "write data://cpu_arch or {inventory[cpu][architecture]}",
		"properties.memory_mb": "write data://memory_mb or {inventory[memory][physical_mb]}",
		"properties.local_gb":  "write data://local_gb",
	}}
	for _, n := range inventory {
		s.Inventory[n.path] = n.section
	}
	for _, b := range beside {
		if b.data != "" {
			s.Inventory[b.data] = b.section
		}
		if b.plugin != "" {
			s.Inventory["plugin_data."+b.plugin] = b.section
		}
	}
	return s
}()

// ironic is the node as inspection rules see it.
func (e *environment) ironic() *inspection.Env {
	if e.ironics != nil {
		return e.ironics
	}
	known := e.known
	if known == nil {
		known = &facts.Facts{}
	}
	lacking := e.lacking()
	data := known.Ironic()
	fillInventory(data["inventory"], lacking)
	plugin := maps.Clone(data)
	delete(plugin, "inventory")
	ironicDisk(data, plugin, lacking)
	ironicInterfaces(data, plugin, known)
	ironicProperties(data)
	e.ironics = &inspection.Env{Data: data, Plugin: plugin, Node: e.ironicNode(), Lacking: lacking}
	return e.ironics
}

// lacking says of each section that names are made from why it is not whole.
func (e *environment) lacking() map[string]string {
	tree, _ := e.own.Roots["facts"].(map[string]any)
	lacking := map[string]string{}
	for _, section := range ironicSections {
		part, incomplete := tree[section].(rule.Incomplete)
		switch {
		case e.known == nil:
			lacking[section] = "facts are not known"
		case incomplete:
			lacking[section] = part.Why
		case tree[section] == nil:
			lacking[section] = "facts." + section + " is not known"
		}
	}
	if e.known == nil {
		return lacking
	}
	delete(lacking, "lldp")
	for _, n := range e.known.NICs {
		if n.LLDP == nil {
			lacking["lldp"] = "facts.nics[].lldp of " + n.Name + " is not known"
		}
	}
	return lacking
}

// fillInventory says of each name in a whole section that facts have no value for what ironic-python-agent would.
func fillInventory(tree any, lacking map[string]string) {
	for i, n := range inventory {
		if n.section != "" && lacking[n.section] == "" {
			fill(tree, inventorySteps[i], n.without)
		}
	}
}

func fill(tree any, path []string, without any) {
	switch v := tree.(type) {
	case []any:
		for _, item := range v {
			fill(item, path[1:], without) // behind []
		}
	case map[string]any:
		inside, known := v[path[0]]
		last := len(path) == 1 || path[1] == "[]"
		switch {
		case !known && last:
			v[path[0]] = without
		case !known:
			inside = map[string]any{}
			v[path[0]] = inside
		}
		if len(path) > 1 {
			fill(inside, path[1:], without)
		}
	}
}

const gib = 1 << 30

// ironicDisk is the root disk as ironic-python-agent chooses it without hints (ironic_python_agent/utils.py): the
// smallest of 4 GiB or more. ironic-inspector leaves one GiB of it for partitions.
func ironicDisk(data, plugin map[string]any, lacking map[string]string) {
	if lacking["disks"] != "" {
		return
	}
	inventory, _ := data["inventory"].(map[string]any)
	disks, _ := inventory["disks"].([]any)
	var root map[string]any
	for _, d := range disks {
		disk, _ := d.(map[string]any)
		if size, _ := disk["size"].(int64); size >= 4*gib && (root == nil || smaller(disk, root)) {
			root = disk
		}
	}
	data["local_gb"] = int64(0)
	if root != nil {
		data["root_disk"], plugin["root_disk"] = root, root
		data["local_gb"] = root["size"].(int64)/gib - 1
	}
}

func smaller(a, b map[string]any) bool {
	x, _ := a["size"].(int64)
	y, _ := b["size"].(int64)
	one, _ := a["name"].(string)
	other, _ := b["name"].(string)
	return cmp.Or(cmp.Compare(x, y), strings.Compare(one, other)) < 0
}

// ironicInterfaces are all_interfaces, by name, and what switches say of themselves.
func ironicInterfaces(data, plugin map[string]any, known *facts.Facts) {
	if known.NICs == nil {
		return
	}
	all, lldp := map[string]any{}, map[string]any{}
	inventory, _ := data["inventory"].(map[string]any)
	for _, i := range inventory["interfaces"].([]any) {
		nic, _ := i.(map[string]any)
		name, _ := nic["name"].(string)
		one := map[string]any{"mac": nic["mac_address"], "ip": cmp.Or(nic["ipv4_address"], nic["ipv6_address"])}
		if known.Boot != nil {
			one["pxe"] = nic["mac_address"] == known.Boot.BootIF
		}
		all[name] = one
	}
	inspectors := maps.Clone(all)
	for _, n := range known.NICs {
		one, _ := all[n.Name].(map[string]any)
		if one == nil || len(n.LLDP) == 0 {
			continue
		}
		lldp[n.Name] = ironicNeighbor(&n.LLDP[0])
		processed := maps.Clone(one)
		processed["lldp_processed"] = lldp[n.Name]
		inspectors[n.Name] = processed
	}
	data["all_interfaces"], plugin["all_interfaces"], plugin["parsed_lldp"] = inspectors, all, lldp
}

// ironicNeighbor is what a switch says, under the names of ironic/drivers/modules/inspector/lldp_parsers.py.
func ironicNeighbor(n *facts.Neighbor) map[string]any {
	t := map[string]any{}
	for name, s := range map[string]string{"switch_chassis_id": n.ChassisID, "switch_port_id": n.PortID,
		"switch_port_description": n.PortDesc, "switch_system_name": n.SysName, "switch_system_description": n.SysDesc} {
		if s != "" {
			t[name] = s
		}
	}
	if n.PVID != 0 {
		t["switch_port_untagged_vlan_id"] = int64(n.PVID)
	}
	var vlans []any
	for _, v := range n.VLANs {
		vlans = append(vlans, map[string]any{"id": int64(v.ID), "name": v.Name})
	}
	if vlans != nil {
		t["switch_port_vlans"] = vlans
	}
	return t
}

// ironicProperties are what ironic-inspector says beside an inventory of what is in it.
func ironicProperties(data map[string]any) {
	inventory, _ := data["inventory"].(map[string]any)
	cpu, _ := inventory["cpu"].(map[string]any)
	memory, _ := inventory["memory"].(map[string]any)
	for _, p := range []struct {
		name, in string
		of       map[string]any
	}{{"cpus", "count", cpu}, {"cpu_arch", "architecture", cpu}, {"memory_mb", "physical_mb", memory}, {"ipmi_address", "bmc_address", inventory}} {
		if v, ok := p.of[p.in]; ok {
			data[p.name] = v
		}
	}
}

// ironicNode is the node's record under Ironic's names. What an operator wrote on a node is meta here, and extra or
// properties there.
func (e *environment) ironicNode() map[string]any {
	t := map[string]any{"uuid": e.node.ID, "name": nil, "provision_state": string(e.node.State), "extra": e.own.Roots["meta"], "properties": e.own.Roots["meta"]}
	if e.node.Hostname != "" {
		t["name"] = e.node.Hostname
	}
	return t
}
