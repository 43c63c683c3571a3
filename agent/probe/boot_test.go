package probe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

func TestSecretsAreMasked(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"a token", "quiet muster.token=abc ro", "quiet muster.token=*** ro"},
		{"a quoted value", `a=1 root.password="x y" b`, "a=1 root.password=*** b"},
		{"a quoted word", `"my.SECRET=x y" b`, "my.SECRET=*** b"},
		{"a key", "luks.key=/dev/sda:abc", "luks.key=***"},
		{"a value that names one", "url=http://192.0.2.1/?token", "url=http://192.0.2.1/?token"},
		{"an argument of init", "-- --auth-token=abc", "-- --auth-token=***"},
		{"a flag", "token key", "token key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := maskSecrets(tt.line); got != tt.want {
				t.Errorf("maskSecrets(%q) = %q; want %q", tt.line, got, tt.want)
			}
		})
	}
}

// efiPXE is BootCurrent and Boot0001 of an OVMF that booted by PXE through its own driver.
var efiPXE = "/sys/firmware/efi/efivars/BootCurrent-" + efiGlobal + " # 06000000 0100\n" +
	"/sys/firmware/efi/efivars/Boot0001-" + efiGlobal + " # 07000000 01000000 6200" +
	utf16Hex("UEFI PXEv4 (MAC:525400BB0001)") +
	"02010c00d041030a00000000 010106000002 030b2500525400bb0001" + strings.Repeat("00", 26) + "01 030c1b00" + strings.Repeat("00", 23) + "7fff0400"

func utf16Hex(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		const digits = "0123456789abcdef"
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
		b.WriteString("00")
	}
	return b.String() + "0000"
}

func TestBoot(t *testing.T) {
	const nics = `
		/sys/class/net/eth0/address = 52:54:00:aa:00:01
		/sys/class/net/eth0/carrier = 1
		/sys/class/net/eth0/device/x = 1
		/sys/class/net/eth1/address = 52:54:00:bb:00:01
		/sys/class/net/eth1/carrier = 0
		/sys/class/net/eth1/device/x = 1
	`
	for _, tt := range []struct {
		name, cmdline, tree, mac string
		boot                     facts.Boot
		pxe                      string // name of the marked NIC
	}{
		{"the loader says so", "BOOTIF=01-52-54-00-bb-00-01", nics, "", facts.Boot{BootIF: "52:54:00:bb:00:01", Cmdline: "BOOTIF=01-52-54-00-bb-00-01"}, "eth1"},
		{"the broker knows better than the loader", "BOOTIF=01-52-54-00-bb-00-01 muster.mac=52:54:00:aa:00:01", nics, "",
			facts.Boot{BootIF: "52:54:00:aa:00:01", Cmdline: "BOOTIF=01-52-54-00-bb-00-01 muster.mac=52:54:00:aa:00:01"}, "eth0"},
		{"the caller knows best", "BOOTIF=01-52-54-00-bb-00-01", nics, "52:54:00:AA:00:01", facts.Boot{BootIF: "52:54:00:aa:00:01", Cmdline: "BOOTIF=01-52-54-00-bb-00-01"}, "eth0"},
		{"only the firmware noted it", "quiet", nics + efiPXE, "",
			facts.Boot{BootIF: "52:54:00:bb:00:01", Cmdline: "quiet", EFIEntry: "0001", EFIDescription: "UEFI PXEv4 (MAC:525400BB0001)", EFIMAC: "52:54:00:bb:00:01"}, "eth1"},
		{"an address that is not ours, then one that is", "muster.mac=52:54:00:cc:00:01 BOOTIF=01-52-54-00-bb-00-01", nics, "",
			facts.Boot{BootIF: "52:54:00:cc:00:01", Cmdline: "muster.mac=52:54:00:cc:00:01 BOOTIF=01-52-54-00-bb-00-01"}, "eth1"},
		{"nobody says so, one has a link", "ip=192.0.2.5:192.0.2.1", nics, "", facts.Boot{Cmdline: "ip=192.0.2.5:192.0.2.1", IP: "192.0.2.5"}, "eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, tt.tree+"\n/proc/cmdline = "+tt.cmdline)
			r := Run(t.Context(), Options{Root: root, BootMAC: tt.mac, Deadline: patient, Only: []string{"boot", "nics"}})
			if diff := cmp.Diff(&tt.boot, r.Facts.Boot); diff != "" {
				t.Errorf("boot: -want +got\n%s", diff)
			}
			marked := ""
			for _, n := range r.Facts.NICs {
				if n.PXE {
					marked += n.Name
				}
			}
			if marked != tt.pxe {
				t.Errorf("pxe on %q; want %q", marked, tt.pxe)
			}
		})
	}
}

func TestFirmwareModes(t *testing.T) {
	yes, no := true, false
	variable := func(name, hex string) string {
		return "/sys/firmware/efi/efivars/" + name + "-" + efiGlobal + " # " + hex + "\n"
	}
	uefi := "/sys/firmware/efi/fw_platform_size = 64\n"
	for _, tt := range []struct {
		name, tree string
		want       facts.Firmware
	}{
		{"bios", "/sys/firmware/memmap/0/type = x", facts.Firmware{Mode: "bios"}},
		{"uefi in setup mode", uefi + variable("SecureBoot", "06000000 00") + variable("SetupMode", "06000000 01"),
			facts.Firmware{Mode: "uefi", PlatformBits: 64, SecureBoot: "disabled", SetupMode: &yes}},
		{"secure boot locks the kernel down", uefi + variable("SecureBoot", "06000000 01") + variable("SetupMode", "06000000 00") + "/sys/kernel/security/lockdown = none [integrity] confidentiality",
			facts.Firmware{Mode: "uefi", PlatformBits: 64, SecureBoot: "enabled", SetupMode: &no, Lockdown: "integrity"}},
		{"uefi without variables", uefi, facts.Firmware{Mode: "uefi", PlatformBits: 64}},
		{"a date of before 2000", "/sys/class/dmi/id/bios_date = 03/14/98\n/sys/firmware/x = 1", facts.Firmware{Mode: "bios", Date: "1998-03-14"}},
		{"a date that is none", "/sys/class/dmi/id/bios_date = 14.03.2024\n/sys/firmware/x = 1", facts.Firmware{Mode: "bios"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Run(t.Context(), Options{Root: plant(t, tt.tree), Deadline: patient, Only: []string{"firmware"}})
			if diff := cmp.Diff(&tt.want, r.Facts.Firmware); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestVirt(t *testing.T) {
	const guest, metal = "/proc/cpuinfo = flags\\t: fpu hypervisor\n", "/proc/cpuinfo = flags\\t: fpu\n"
	for _, tt := range []struct {
		name, tree string
		leaves     map[int64]string
		want       *facts.Virt
	}{
		{"metal, whatever DMI says", metal + "/sys/class/dmi/id/sys_vendor = QEMU", nil, &facts.Virt{}},
		{"kvm", guest, map[int64]string{0: "KVMKVMKVM\x00\x00\x00"}, &facts.Virt{IsVirtual: true, HypervisorID: "KVMKVMKVM", Kind: "kvm"}},
		{"kvm with the face of Hyper-V", guest, map[int64]string{0: "Microsoft Hv", 0x100: "KVMKVMKVM\x00\x00\x00"}, &facts.Virt{IsVirtual: true, HypervisorID: "KVMKVMKVM", Kind: "kvm"}},
		{"hyper-v", guest, map[int64]string{0: "Microsoft Hv", 0x100: "            "}, &facts.Virt{IsVirtual: true, HypervisorID: "Microsoft Hv", Kind: "hyperv"}},
		{"one nobody knows", guest, map[int64]string{0: "bhyve bhyve "}, &facts.Virt{IsVirtual: true, HypervisorID: "bhyve bhyve", Kind: "other"}},
		{"no cpuid driver", guest + "/sys/class/dmi/id/sys_vendor = VMware, Inc.", nil, &facts.Virt{IsVirtual: true, Kind: "vmware"}},
		{"arm64, by DMI", "/proc/cpuinfo = Features\\t: fp\n/sys/class/dmi/id/sys_vendor = QEMU", nil, &facts.Virt{IsVirtual: true, Kind: "qemu"}},
		{"arm64, metal", "/proc/cpuinfo = Features\\t: fp\n/sys/class/dmi/id/sys_vendor = Ampere", nil, &facts.Virt{}},
		{"arm64, nothing to tell", "/proc/cpuinfo = Features\\t: fp", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, tt.tree)
			if tt.leaves != nil {
				m := newImage(0x40000000 + 0x110)
				for leaf, name := range tt.leaves {
					m.at[0x40000000+leaf] = "\x01\x00\x00\x40" + name
				}
				m.write(t, root, "cpu/0/cpuid")
			}
			r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"virt"}})
			if diff := cmp.Diff(tt.want, r.Facts.Virt); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// FuzzEFIOption (T55): any variable gives text that facts may carry.
func FuzzEFIOption(f *testing.F) {
	f.Add([]byte(unhex("01000000620055004500000002010c00d041030a00000000030b2500525400bb0001")))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 3, 11, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := parseEFIOption(b)
		doc := facts.Facts{Schema: facts.Schema, Boot: &facts.Boot{EFIDescription: facts.Clean(e.description), EFIMAC: e.mac}}
		if err := doc.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
