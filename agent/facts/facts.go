// Package facts is the wire between the agent and the broker: what a machine is (Facts), how it says so (CheckIn)
// and what it is told to do (Order). It is a leaf on the standard library alone, so that the agent, which writes
// facts, and the broker, which keeps and judges them, cannot disagree.
//
// Absent means unknown: a value that could not be read is left out, never sent as "", 0 or "unknown". A section that
// ran and found nothing is an empty list. Sizes are bytes; every other unit is in the name (_mhz, _mts, _mbps, _c,
// _ms). Numbers are integers. Kernel names (sda, eth0) are labels, never keys.
package facts

// Schema is the version of the facts document.
const Schema = 1

// Facts is the hardware of one machine. Pointers and nil slices are facts that are not known.
type Facts struct {
	Schema      int               `json:"schema"`
	Arch        string            `json:"arch,omitempty"`       // uname machine: x86_64, aarch64
	Kernel      string            `json:"kernel,omitempty"`     // uname release of the discovery kernel
	Incomplete  []string          `json:"incomplete,omitempty"` // collectors that failed or timed out, sorted
	System      *System           `json:"system,omitempty"`
	Baseboard   *Baseboard        `json:"baseboard,omitempty"`
	Chassis     *Chassis          `json:"chassis,omitempty"`
	OEMStrings  []string          `json:"oem_strings,omitzero"` // SMBIOS type 11, in table order
	Slots       []Slot            `json:"slots,omitzero"`
	Firmware    *Firmware         `json:"firmware,omitempty"`
	CPU         *CPU              `json:"cpu,omitempty"`
	Memory      *Memory           `json:"memory,omitempty"`
	NUMA        []NUMANode        `json:"numa,omitzero"`
	Disks       []Disk            `json:"disks,omitzero"` // by PCI address, then id
	Optical     []Optical         `json:"optical,omitzero"`
	Controllers []Controller      `json:"controllers,omitzero"`
	NICs        []NIC             `json:"nics,omitzero"` // by PCI address, then MAC
	BMC         *BMC              `json:"bmc,omitempty"`
	PCI         []PCIDevice       `json:"pci,omitzero"`
	GPUs        []GPU             `json:"gpus,omitzero"`
	USB         []USBDevice       `json:"usb,omitzero"`
	TPM         *TPM              `json:"tpm,omitempty"`
	Virt        *Virt             `json:"virt,omitempty"`
	Boot        *Boot             `json:"boot,omitempty"`
	Custom      map[string]string `json:"custom,omitempty"` // muster.fact.NAME and /etc/muster/facts.d
}

// System is SMBIOS type 1 (System Information), from /sys/class/dmi/id.
type System struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	Version      string `json:"version,omitempty"`
	Serial       string `json:"serial,omitempty"`
	SKU          string `json:"sku,omitempty"`
	Family       string `json:"family,omitempty"`
	UUID         string `json:"uuid,omitempty"` // logical form, lower case
}

// Baseboard is SMBIOS type 2.
type Baseboard struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	Version      string `json:"version,omitempty"`
	Serial       string `json:"serial,omitempty"`
	AssetTag     string `json:"asset_tag,omitempty"`
	Location     string `json:"location,omitempty"`
}

// Chassis is SMBIOS type 3.
type Chassis struct {
	Type         int    `json:"type,omitempty"` // SMBIOS type 3 offset 05h: 17 main server, 23 rack mount, 28 blade
	Manufacturer string `json:"manufacturer,omitempty"`
	Version      string `json:"version,omitempty"`
	Serial       string `json:"serial,omitempty"`
	AssetTag     string `json:"asset_tag,omitempty"`
	SKU          string `json:"sku,omitempty"`
	HeightU      int    `json:"height_u,omitempty"`
}

// Slot is SMBIOS type 9.
type Slot struct {
	Designation string `json:"designation"`
	InUse       bool   `json:"in_use"`
	PCI         string `json:"pci,omitempty"`
}

// Firmware is SMBIOS type 0 and what the firmware says of itself.
type Firmware struct {
	Vendor       string `json:"vendor,omitempty"`
	Version      string `json:"version,omitempty"`
	Date         string `json:"date,omitempty"` // YYYY-MM-DD
	Release      string `json:"release,omitempty"`
	ECRelease    string `json:"ec_release,omitempty"`
	Mode         string `json:"mode,omitempty"`          // bios, uefi: /sys/firmware/efi
	PlatformBits int    `json:"platform_bits,omitempty"` // 32, 64
	SecureBoot   string `json:"secure_boot,omitempty"`   // enabled, disabled
	SetupMode    *bool  `json:"setup_mode,omitempty"`
	Lockdown     string `json:"lockdown,omitempty"` // none, integrity, confidentiality
}

// CPU is the processors as the kernel sees them.
type CPU struct {
	Vendor         string       `json:"vendor,omitempty"`
	Model          string       `json:"model,omitempty"`
	Family         int          `json:"family,omitempty"`
	ModelID        int          `json:"model_id,omitempty"`
	Stepping       int          `json:"stepping,omitempty"`
	Microcode      string       `json:"microcode,omitempty"`
	Flags          []string     `json:"flags,omitzero"` // sorted
	Sockets        int          `json:"sockets,omitempty"`
	Cores          int          `json:"cores,omitempty"`
	Threads        int          `json:"threads,omitempty"`
	ThreadsPresent int          `json:"threads_present,omitempty"`
	SMT            string       `json:"smt,omitempty"` // on, off, forceoff, notsupported
	MaxMHz         int          `json:"max_mhz,omitempty"`
	Packages       []CPUPackage `json:"packages,omitzero"`
}

// CPUPackage is a populated SMBIOS type 4 socket.
type CPUPackage struct {
	Socket   string `json:"socket,omitempty"`
	Version  string `json:"version,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Part     string `json:"part,omitempty"`
	AssetTag string `json:"asset_tag,omitempty"`
	MaxMHz   int    `json:"max_mhz,omitempty"`
}

// Memory is what is installed and what the kernel may use of it.
type Memory struct {
	TotalBytes     int64  `json:"total_bytes,omitempty"`     // MemTotal
	OnlineBytes    int64  `json:"online_bytes,omitempty"`    // memory blocks online
	PhysicalBytes  int64  `json:"physical_bytes,omitempty"`  // installed
	PhysicalSource string `json:"physical_source,omitempty"` // smbios17, blocks, meminfo
	ECC            string `json:"ecc,omitempty"`             // none, parity, single, multi, crc
	Slots          int    `json:"slots,omitempty"`
	SlotsUsed      int    `json:"slots_used,omitempty"`
	DIMMs          []DIMM `json:"dimms,omitzero"`
}

// DIMM is a populated SMBIOS type 17 device.
type DIMM struct {
	Locator       string `json:"locator,omitempty"`
	Bank          string `json:"bank,omitempty"`
	SizeBytes     int64  `json:"size_bytes,omitempty"`
	Type          string `json:"type,omitempty"`
	FormFactor    string `json:"form_factor,omitempty"`
	SpeedMTs      int    `json:"speed_mts,omitempty"`
	ConfiguredMTs int    `json:"configured_mts,omitempty"`
	Rank          int    `json:"rank,omitempty"`
	Manufacturer  string `json:"manufacturer,omitempty"`
	Serial        string `json:"serial,omitempty"`
	Part          string `json:"part,omitempty"`
	AssetTag      string `json:"asset_tag,omitempty"`
}

// NUMANode is one memory node of the machine.
type NUMANode struct {
	ID          int    `json:"id"`
	CPUs        string `json:"cpus,omitempty"` // kernel list format: 0-3,8
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	Distances   []int  `json:"distances,omitzero"`
}

// Disk is a block device that can hold an operating system. ID is stable over boots; Name is not.
type Disk struct {
	ID                 string      `json:"id"`   // wwn, else transport-model-serial, else path-...
	Name               string      `json:"name"` // kernel name of this boot: sda
	Dup                bool        `json:"dup,omitempty"`
	Path               string      `json:"path,omitempty"` // by-path form
	SizeBytes          int64       `json:"size_bytes"`
	LogicalBlockBytes  int64       `json:"logical_block_bytes,omitempty"`
	PhysicalBlockBytes int64       `json:"physical_block_bytes,omitempty"`
	Transport          string      `json:"transport,omitempty"` // nvme sata sas raid fc usb virtio ide mmc iscsi scsi xen vmbus
	Vendor             string      `json:"vendor,omitempty"`
	Model              string      `json:"model,omitempty"`
	Serial             string      `json:"serial,omitempty"`
	Firmware           string      `json:"firmware,omitempty"`
	WWN                string      `json:"wwn,omitempty"` // naa. eui. uuid. + hex
	NSID               int         `json:"nsid,omitempty"`
	SubsysNQN          string      `json:"subsysnqn,omitempty"`
	Rotational         *bool       `json:"rotational,omitempty"`
	RPM                int         `json:"rpm,omitempty"`
	Removable          bool        `json:"removable,omitempty"`
	ReadOnly           bool        `json:"read_only,omitempty"`
	PCI                string      `json:"pci,omitempty"`
	HCTL               string      `json:"hctl,omitempty"`
	NUMANode           *int        `json:"numa_node,omitempty"`
	Table              string      `json:"table,omitempty"` // gpt, dos
	TableUUID          string      `json:"table_uuid,omitempty"`
	Partitions         []Partition `json:"partitions,omitzero"`
	Content            *Content    `json:"content,omitempty"` // a file system or the like on the whole disk
	RAIDLevel          string      `json:"raid_level,omitempty"`
}

// Partition is one partition of a disk.
type Partition struct {
	Number     int      `json:"number"`
	StartBytes int64    `json:"start_bytes"`
	SizeBytes  int64    `json:"size_bytes"`
	Name       string   `json:"name,omitempty"`
	Type       string   `json:"type,omitempty"` // GPT type GUID, or 0x.. of an MBR
	UUID       string   `json:"uuid,omitempty"`
	Content    *Content `json:"content,omitempty"`
}

// Content is what a signature on a disk or partition says is there: ext4, xfs, swap, lvm2, luks, ...
type Content struct {
	Type  string `json:"type"`
	UUID  string `json:"uuid,omitempty"`
	Label string `json:"label,omitempty"`
}

// Optical is a CD or DVD drive; never counted as a disk.
type Optical struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor,omitempty"`
	Model  string `json:"model,omitempty"`
}

// Controller is a storage controller: PCI class 01xx or 0c04.
type Controller struct {
	PCI      string `json:"pci"`
	Class    string `json:"class,omitempty"`
	VendorID string `json:"vendor_id,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	Driver   string `json:"driver,omitempty"`
	Hosts    int    `json:"scsi_hosts,omitempty"`
	Model    string `json:"model,omitempty"`
	Firmware string `json:"firmware,omitempty"`
}

// NIC is a network interface with hardware behind it.
type NIC struct {
	Name       string     `json:"name"`
	MAC        string     `json:"mac,omitempty"` // permanent
	CurrentMAC string     `json:"current_mac,omitempty"`
	Driver     string     `json:"driver,omitempty"`
	PCI        string     `json:"pci,omitempty"`
	Bus        string     `json:"bus,omitempty"` // pci, usb, virtual
	VendorID   string     `json:"vendor_id,omitempty"`
	DeviceID   string     `json:"device_id,omitempty"`
	NUMANode   *int       `json:"numa_node,omitempty"`
	Firmware   string     `json:"firmware,omitempty"`
	Link       *bool      `json:"link,omitempty"`
	SpeedMbps  int        `json:"speed_mbps,omitempty"`
	Duplex     string     `json:"duplex,omitempty"`
	MTU        int        `json:"mtu,omitempty"`
	Port       string     `json:"port,omitempty"`
	Autoneg    *bool      `json:"autoneg,omitempty"`
	Modes      []string   `json:"modes,omitempty"` // that it can do, as 25000baseCR/Full
	SRIOVVFs   int        `json:"sriov_vfs,omitempty"`
	Label      string     `json:"label,omitempty"`
	PortNo     int        `json:"port_no,omitempty"`
	PortName   string     `json:"port_name,omitempty"`
	PXE        bool       `json:"pxe,omitempty"` // the NIC that booted
	IPv4       []string   `json:"ipv4,omitempty"`
	IPv6       []string   `json:"ipv6,omitempty"`
	LLDP       []Neighbor `json:"lldp,omitzero"`
}

// Neighbor is what a switch port says of itself by LLDP (IEEE 802.1AB).
type Neighbor struct {
	ChassisID  string   `json:"chassis_id"`
	PortID     string   `json:"port_id"`
	TTL        int      `json:"ttl,omitempty"`
	PortDesc   string   `json:"port_desc,omitempty"`
	SysName    string   `json:"sys_name,omitempty"`
	SysDesc    string   `json:"sys_desc,omitempty"`
	Caps       []string `json:"caps,omitempty"`
	Mgmt       []string `json:"mgmt,omitempty"`
	PVID       int      `json:"pvid,omitempty"`
	VLANs      []VLAN   `json:"vlans,omitempty"`
	AggCapable *bool    `json:"agg_capable,omitempty"`
	AggEnabled *bool    `json:"agg_enabled,omitempty"`
	AggPort    int      `json:"agg_port,omitempty"`
	MTU        int      `json:"mtu,omitempty"`
}

// VLAN is an IEEE 802.1 VLAN name TLV.
type VLAN struct {
	ID   int    `json:"id"`
	Name string `json:"name,omitempty"`
}

// BMC is the baseboard management controller as the host sees it.
type BMC struct {
	Present        bool   `json:"present"`
	Interface      string `json:"interface,omitempty"` // kcs, smic, bt, ssif
	Firmware       string `json:"firmware,omitempty"`
	IPMIVersion    string `json:"ipmi_version,omitempty"`
	ManufacturerID string `json:"manufacturer_id,omitempty"`
	ProductID      string `json:"product_id,omitempty"`
	GUID           string `json:"guid,omitempty"`
	IP             string `json:"ip,omitempty"`
	MAC            string `json:"mac,omitempty"`
	Netmask        string `json:"netmask,omitempty"`
	Gateway        string `json:"gateway,omitempty"`
	Source         string `json:"source,omitempty"` // static, dhcp, bios, other
	VLAN           int    `json:"vlan,omitempty"`
	Channel        int    `json:"channel,omitempty"`
}

// PCIDevice is one function on a PCI bus; names are added where it is shown.
type PCIDevice struct {
	Address     string `json:"address"`
	Class       string `json:"class,omitempty"` // six hex digits
	VendorID    string `json:"vendor_id,omitempty"`
	DeviceID    string `json:"device_id,omitempty"`
	SubvendorID string `json:"subvendor_id,omitempty"`
	SubdeviceID string `json:"subdevice_id,omitempty"`
	Revision    string `json:"revision,omitempty"`
	Driver      string `json:"driver,omitempty"`
	NUMANode    *int   `json:"numa_node,omitempty"`
	IOMMUGroup  *int   `json:"iommu_group,omitempty"`
}

// GPU is PCI class 03xx (display) or 12xx (accelerator).
type GPU struct {
	PCI      string `json:"pci"`
	Class    string `json:"class,omitempty"`
	VendorID string `json:"vendor_id,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	Driver   string `json:"driver,omitempty"`
	BootVGA  bool   `json:"boot_vga,omitempty"`
}

// USBDevice is a device on a USB port; hubs of the host are left out.
type USBDevice struct {
	Port      string `json:"port"`
	VendorID  string `json:"vendor_id,omitempty"`
	ProductID string `json:"product_id,omitempty"`
	Class     string `json:"class,omitempty"`
	Vendor    string `json:"vendor,omitempty"`
	Product   string `json:"product,omitempty"`
	Serial    string `json:"serial,omitempty"`
	SpeedMbps int    `json:"speed_mbps,omitempty"`
}

// TPM is the trusted platform module.
type TPM struct {
	Present      bool   `json:"present"`
	VersionMajor int    `json:"version_major,omitempty"`
	Driver       string `json:"driver,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	VendorString string `json:"vendor_string,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	Revision     string `json:"revision,omitempty"`
}

// Virt says whether the machine is a guest and of what.
type Virt struct {
	IsVirtual    bool   `json:"is_virtual"`
	HypervisorID string `json:"hypervisor_id,omitempty"`
	Kind         string `json:"kind,omitempty"` // kvm qemu vmware hyperv xen virtualbox other
}

// Boot is how this boot came about.
type Boot struct {
	BootIF         string `json:"bootif,omitempty"`  // MAC of the NIC that booted
	Cmdline        string `json:"cmdline,omitempty"` // secrets masked
	EFIEntry       string `json:"efi_entry,omitempty"`
	EFIDescription string `json:"efi_description,omitempty"`
	EFIMAC         string `json:"efi_mac,omitempty"`
	IP             string `json:"ip,omitempty"`
}
