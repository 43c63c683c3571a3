package lab

import (
	"fmt"
	"os"
	"strconv"
)

// Firmware is what a machine starts with.
type Firmware string

// The firmwares of a rack.
const (
	BIOS       Firmware = "bios"       // SeaBIOS; its network boot is the iPXE ROM on the NIC
	UEFI       Firmware = "uefi"       // OVMF with its own PXE and HTTP clients
	SecureBoot Firmware = "secureboot" // OVMF with Microsoft's keys enrolled, which starts only signed loaders
	ARM64      Firmware = "arm64"      // the same firmware as UEFI, for 64-bit ARM: another processor, another emulator
)

// Firmwares lists those of x86 machines, the plainest first.
var Firmwares = []Firmware{BIOS, UEFI, SecureBoot}

// ParseFirmware reads bios, uefi or secureboot.
func ParseFirmware(s string) (Firmware, error) {
	for _, f := range Firmwares {
		if s == string(f) {
			return f, nil
		}
	}
	return "", fmt.Errorf("parse firmware %q: want bios, uefi or secureboot", s)
}

// A recipe is what QEMU needs for a firmware. code and vars are empty for SeaBIOS, QEMU's own default.
type recipe struct {
	program    string // QEMU
	cpu        string // its processor model, unless the machine names one
	code, vars string // flash images of OVMF: the program, and the variables to start from
	forget     bool   // the variables are dropped first, all of them
	loader     string // on removable media (UEFI 2.10 section 3.5.1.1)
	args       []string
}

// Without a screen, graphics=off makes SeaBIOS and the programs it starts speak on the serial port (SeaBIOS
// src/sercon.c); OVMF does so by itself. Secure Boot counts only if variables can be written from system management mode
// alone (OvmfPkg/README, "SMM support").
var recipes = map[Firmware]recipe{
	BIOS: {program: qemuX64, cpu: fastestCPU, args: []string{"-machine", "q35,graphics=off"}},
	UEFI: {
		program: qemuX64, cpu: fastestCPU, loader: `\EFI\BOOT\BOOTX64.EFI`,
		code: "/usr/share/OVMF/OVMF_CODE_4M.fd",
		vars: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		args: []string{"-machine", "q35"},
	},
	SecureBoot: {
		program: qemuX64, cpu: fastestCPU, loader: `\EFI\BOOT\BOOTX64.EFI`,
		code: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
		vars: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
		args: []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"},
	},
	ARM64: {
		program: "qemu-system-aarch64", cpu: "cortex-a57", loader: `\EFI\BOOT\BOOTAA64.EFI`,
		code: "/usr/share/AAVMF/AAVMF_CODE.fd",
		vars: "/usr/share/AAVMF/AAVMF_VARS.ms.fd", forget: true, // AAVMF_VARS.fd is all zero; these are Microsoft's keys
		args: []string{"-machine", "virt"},
	},
}

const qemuX64 = "qemu-system-x86_64"

// flashArgs maps OVMF and the machine's own variables into its flash. The second switch takes PXE over IPv6 out of the
// firmware's list (OvmfPkg/PlatformPei, "opt/org.tianocore/IPv6PXESupport"): the rack speaks IPv4.
func (p recipe) flashArgs(vars string) []string {
	if p.code == "" {
		return nil
	}
	return []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + escape(p.code),
		"-drive", "if=pflash,format=raw,unit=1,file=" + escape(vars),
		"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
	}
}

// writeVars makes the machine's private variables with its boot order.
//
// QEMU's bootindex is not used for OVMF: it ranks devices, and OVMF then tries PXEv4, PXEv6, HTTPv4 and HTTPv6 of the NIC
// before the disk. Measured on OVMF 2022.11 with PXE cancelled by the server, the disk was reached after 128 s more that
// way, and after 0.4 s with an order of boot options in the variables. It is also what real firmware does: an installer
// that runs efibootmgr puts itself first, and the lab shows it.
func (p recipe) writeVars(path string, options []bootOption) error {
	image, err := os.ReadFile(p.vars)
	if err != nil {
		return fmt.Errorf("read the firmware's variables: %w", err)
	}
	store, err := openVarStore(image)
	if err != nil {
		return fmt.Errorf("read the firmware's variables %q: %w", p.vars, err)
	}
	if p.forget {
		store.clear()
	}
	if err := store.setBootOrder(options); err != nil {
		return fmt.Errorf("write the boot order: %w", err)
	}
	if err := os.WriteFile(path, image, 0o644); err != nil {
		return fmt.Errorf("write the firmware's variables: %w", err)
	}
	return nil
}

// Places on the PCI bus. They are fixed because boot options name a NIC by its place.
const (
	slotRNG  = 0x03
	slotNIC  = 0x04 // and up
	slotDisk = 0x0c // and up
	maxNICs  = slotDisk - slotNIC
	maxDisks = 6 // as many as the SATA controller of q35 has ports
)

// bootOptions is the order of a UEFI machine: each NIC, then the removable-media loader of whatever disk has one.
func (c MachineConfig) bootOptions(macs []macAddr) []bootOption {
	if c.board != nil {
		return c.board.boots
	}
	var options []bootOption
	for i, mac := range macs {
		name := "Network " + strconv.Itoa(i)
		path := pxePath(mac, slotNIC+i)
		if c.HTTPBoot {
			path = httpBootPath(mac, slotNIC+i)
		}
		options = append(options, bootOption{name, path})
	}
	return append(options, bootOption{"Disk", filePath(recipes[c.Firmware].loader)})
}
