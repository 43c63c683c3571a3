package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// fastestCPU is QEMU's model with all that software emulation can do. Beside qemu64 (QEMU 7.2, a busy host with 2 cores)
// Go's SHA-256 of 64 MiB took 1.8 to 3.1 s instead of 5.5 to 6.6, zstd 0.7 to 1.1 s instead of 1.2 to 3.2, and 20
// signatures by ECDSA P-256 0.06 s instead of 1.5; a kernel start cost the same. Page tables of five levels are of no use
// to a machine this small.
const fastestCPU = "max,la57=off"

// args is QEMU's command line, in the order of a walk from the board to its disks. -no-reboot is not there: machines
// restart by themselves.
func (m *Machine) args() []string {
	c, p := m.config, recipes[m.config.Firmware]
	args := []string{
		"-name", m.rack.config.Name + "-" + c.Name,
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
		"-accel", "tcg,thread=multi",
		"-cpu", c.CPU,
		"-m", strconv.Itoa(c.MemoryMiB),
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=serial,append=on,path=" + escape(m.Console()), "-serial", "chardev:serial",
		"-uuid", c.UUID,
	}
	args = append(args, p.args...)
	args = append(args, p.flashArgs(m.path("vars.fd"))...)
	args = append(args, c.kernelArgs()...)
	if c.TPM {
		args = append(args, "-chardev", "socket,id=tpm,fd=4", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	if c.board != nil {
		args = append(args, c.board.args(m)...)
	} else {
		args = append(args, m.plainArgs()...)
	}
	return append(args, c.Extra...)
}

// plainArgs are the devices of a machine without a board of its own, all on the root bus.
func (m *Machine) plainArgs() []string {
	args := []string{
		"-smp", strconv.Itoa(m.config.CPUs),
		"-rtc", "base=utc,clock=host",
		"-device", fmt.Sprintf("virtio-rng-pci,addr=%#x", slotRNG),
		"-smbios", m.config.smbios(),
	}
	for i := range m.macs {
		args = append(args, m.nicArgs(i)...)
	}
	for i := range m.disks {
		args = append(args, m.diskArgs(i)...)
	}
	return args
}

func (c MachineConfig) kernelArgs() []string {
	var args []string
	for _, f := range []struct{ flag, value string }{{"-kernel", c.Kernel}, {"-initrd", c.Initrd}, {"-append", c.Append}} {
		if f.value != "" {
			args = append(args, f.flag, f.value)
		}
	}
	return args
}

// nicArgs keeps QEMU's iPXE ROM for SeaBIOS, which has no network boot of its own, and takes it away from OVMF, which has.
func (m *Machine) nicArgs(i int) []string {
	device := fmt.Sprintf("%s,netdev=%s,mac=%s,addr=%#x", m.config.NIC, nicID(i), m.config.MACs[i], slotNIC+i)
	if m.config.Firmware == BIOS {
		device += fmt.Sprintf(",bootindex=%d", 1+i)
	} else {
		device += ",romfile="
	}
	return append(m.netdevArgs(i), "-device", device)
}

// netdevArgs is the cable from NIC i to the bridge.
func (m *Machine) netdevArgs(i int) []string {
	return []string{"-netdev", fmt.Sprintf("tap,id=%s,ifname=%s,script=no,downscript=no", nicID(i), m.taps[i])}
}

// diskArgs gives holes back to the host when the guest discards or writes zeroes.
func (m *Machine) diskArgs(i int) []string {
	d := m.config.Disks[i]
	device := map[string]string{
		"virtio": fmt.Sprintf("virtio-blk-pci,addr=%#x", slotDisk+i),
		"nvme":   fmt.Sprintf("nvme,addr=%#x", slotDisk+i),
		"sata":   fmt.Sprintf("ide-hd,bus=ide.%d", i),
	}[d.Bus]
	device += fmt.Sprintf(",drive=disk%d,serial=%s", i, escape(d.Serial))
	if m.config.Firmware == BIOS {
		device += fmt.Sprintf(",bootindex=%d", 1+maxNICs+i)
	}
	return []string{
		"-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,cache=%s,discard=unmap,detect-zeroes=unmap,file=%s", i, escape(d.Cache), escape(m.disks[i])),
		"-device", device,
	}
}

// smbios is the system table, type 1 (DMTF DSP0134 section 7.2).
func (c MachineConfig) smbios() string {
	parts := []string{"type=1"}
	for _, f := range []struct{ key, value string }{
		{"manufacturer", c.Manufacturer}, {"product", c.Product}, {"serial", c.Serial}, {"uuid", c.UUID},
	} {
		if f.value != "" {
			parts = append(parts, f.key+"="+escape(f.value))
		}
	}
	return strings.Join(parts, ",")
}
