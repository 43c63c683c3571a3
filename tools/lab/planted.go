package lab

import (
	"context"
	"fmt"
	"path/filepath"
)

// PlantedConfig describes a planted machine. Only Name is required.
type PlantedConfig struct {
	Name     string   // as MachineConfig has it; names its files
	Firmware Firmware // if empty, BIOS

	// A kernel for QEMU to load; if empty, the machine boots from the network.
	Kernel, Initrd, Append string

	BMC   []string // QEMU's arguments for the BMC; if nil, QEMU's own, which has no LAN
	Extra []string // further arguments for QEMU
}

// Addresses of the planted machine, for servers that look out for it and command lines that name its NIC.
const (
	PlantedMAC    = "52:54:00:aa:00:01" // boots
	plantedVirtio = "52:54:00:aa:00:02"
	plantedCut    = "00:1b:21:aa:00:03" // has no cable
	plantedUUID   = "4c4c4544-0042-3510-8052-c1c04f4e3132"
)

// Planted adds a machine with one of everything that facts tell apart, each with values of its own: SMBIOS tables, two
// NUMA nodes, displays, PCI bridges, NICs, disks of every transport with what may be on them, a BMC and a TPM. What a
// look at it must find is PlantedValues. Its disks are made here, and what it writes to them is gone at power-off.
func (r *Rack) Planted(ctx context.Context, c PlantedConfig) (*Machine, error) {
	dir := filepath.Join(r.config.Dir, c.Name+".planted")
	if err := makePlantedDisks(ctx, dir); err != nil {
		return nil, fmt.Errorf("add machine %q: %w", c.Name, err)
	}
	if c.BMC == nil {
		c.BMC = simulatedBMC
	}
	return r.Machine(MachineConfig{
		Name: c.Name, Firmware: c.Firmware, MemoryMiB: 2048, CPUs: 8, CPU: "Nehalem",
		MACs:   []string{PlantedMAC, plantedVirtio, plantedCut},
		Serial: "ABC1234", Manufacturer: "Dell Inc.", Product: "PowerEdge R640", UUID: plantedUUID,
		Kernel: c.Kernel, Initrd: c.Initrd, Append: c.Append,
		TPM: true, Extra: append(c.BMC, c.Extra...),
		board: &board{
			args:   func(m *Machine) []string { return m.plantedArgs(dir) },
			boots:  plantedBoots(),
			pulled: []int{2},
		},
	})
}

// simulatedBMC is as QEMU's IPMI simulator can be: no sensors, no LAN (hw/ipmi/ipmi_bmc_sim.c).
var simulatedBMC = []string{
	"-device", "ipmi-bmc-sim,id=bmc0,device_id=0x20,ipmi_version=2,slave_addr=0x20,fwrev1=0x03,fwrev2=0x21,mfg_id=0x0002a2,product_id=0x0100," +
		"guid=33445566-7788-99aa-bbcc-ddeeff001122",
	"-device", "isa-ipmi-kcs,bmc=bmc0",
}

// plantedSMBIOS are the tables of DMTF DSP0134 that QEMU 7.2 can fill in. It makes the chassis of type 1 (other), the DIMM
// of type RAM, puts a number behind socket and DIMM names, and has no slots (type 9) and no TPM table (type 43). A device
// that type 41 names must be on the root bus.
var plantedSMBIOS = []string{
	"type=0,vendor=MusterBIOS,version=2.19.1,date=03/14/2024,release=2.19,uefi=on",
	"type=1,version=1.0,sku=SKU=0716;ModelName=PowerEdge R640,family=PowerEdge", // beside what MachineConfig has
	"type=2,manufacturer=DellBoard,product=0H28RR,version=A06,serial=.ABC1234.CNFCP00,asset=BRD-ASSET,location=Slot0",
	"type=3,manufacturer=DellChassis,version=V2,serial=CHS9876,asset=RACK12-U7,sku=CSKU",
	"type=4,sock_pfx=CPU,manufacturer=Intel,version=Xeon-Planted,serial=CPUSER,asset=CPUASSET,part=CPUPART",
	"type=11,value=muster:site=par1,value=muster:role=db",
	"type=17,loc_pfx=DIMM_A,bank=BANK_A,manufacturer=Samsung,serial=DSER0001,asset=DASSET,part=M393A4K40CB2,speed=2933",
	"type=41,designation=OnboardSCSI1,kind=scsi,instance=1,pcidev=vs0",
}

// plantedBoard is everything but NICs and disks. With a second root bus (pxb-pcie) in the machine, each device must say
// which bus it is on. The clock of a machine that was in store for long is wrong by years.
var plantedBoard = []string{
	"-smp", "8,sockets=2,cores=2,threads=2",
	"-object", "memory-backend-ram,id=m0,size=1G", "-object", "memory-backend-ram,id=m1,size=1G",
	"-numa", "node,nodeid=0,cpus=0-3,memdev=m0", "-numa", "node,nodeid=1,cpus=4-7,memdev=m1", "-numa", "dist,src=0,dst=1,val=21",
	"-rtc", "base=2024-01-01T00:00:00",
	"-device", "VGA,bus=pcie.0,addr=0x1", "-device", "bochs-display,bus=pcie.0,addr=0x6",
	"-device", "pcie-root-port,id=rp1,bus=pcie.0,chassis=1,addr=0x10", "-device", "pcie-root-port,id=rp2,bus=pcie.0,chassis=2,addr=0x11",
	"-device", "pcie-root-port,id=rp3,bus=pcie.0,chassis=3,addr=0x12", "-device", "pcie-root-port,id=rp4,bus=pcie.0,chassis=4,addr=0x13",
	"-device", "pxb-pcie,id=pxb1,bus_nr=0x80,bus=pcie.0,addr=0x2,numa_node=1", "-device", "pcie-root-port,id=rp5,bus=pxb1,chassis=5",
	"-device", "virtio-scsi-pci,id=vs0,bus=pcie.0,addr=0x7", "-device", "megasas-gen2,id=raid0,bus=pcie.0,addr=0x8",
	"-device", "qemu-xhci,id=xhci,bus=pcie.0,addr=0x9", "-device", "nvme,id=nvme0,serial=NVMESER01,bus=rp3", "-device", "ide-cd,bus=ide.1",
}

// plantedArgs are the devices of a planted machine. Its disks are snapshots: every power-on finds them as they were made.
func (m *Machine) plantedArgs(dir string) []string {
	var args []string
	args = append(args, plantedBoard...)
	args = append(args, "-smbios", m.config.smbios())
	for _, table := range plantedSMBIOS {
		args = append(args, "-smbios", table)
	}
	for i, device := range []string{"e1000e,bus=rp1,bootindex=1", "virtio-net-pci,bus=rp5", "e1000e,bus=rp2"} {
		args = append(append(args, m.netdevArgs(i)...), "-device", fmt.Sprintf("%s,netdev=%s,id=nic%d,mac=%s", device, nicID(i), i, m.config.MACs[i]))
	}
	for _, d := range plantedDisks {
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=%s,format=raw,snapshot=on,file=%s", d.name, escape(d.path(dir))),
			"-device", fmt.Sprintf("%s,drive=%s", d.device, d.name))
	}
	return args
}

// plantedBoots: the NIC that boots is alone behind the first root port.
func plantedBoots() []bootOption {
	return []bootOption{{"Network 0", pxePath(macAddr{0x52, 0x54, 0, 0xaa, 0, 1}, 0x10, 0)}}
}
