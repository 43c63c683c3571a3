package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// builtMachine is a machine as Rack.Machine makes it, but without a network: nothing here needs root.
func builtMachine(t *testing.T, c MachineConfig) *Machine {
	t.Helper()
	c = c.withDefaults("r")
	macs, err := c.check()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{rack: &Rack{config: Config{Name: "r", Dir: "/lab/a,b"}}, config: c, macs: macs, taps: []string{"r0.0", "r0.1"}}
	for i := range c.Disks {
		m.disks = append(m.disks, "/lab/disk"+string(rune('0'+i)))
	}
	return m
}

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    MachineConfig
		want []string // each somewhere in the command line, joined by blanks
		not  []string
	}{
		{"a BIOS machine tries its NICs and then its disks",
			MachineConfig{Name: "a", MACs: []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}, Disks: []DiskConfig{{SizeBytes: 512}, {Path: "/x", Bus: "nvme", Serial: "S,1", Cache: "none"}}},
			[]string{
				"-machine q35,graphics=off",
				"tap,id=net0,ifname=r0.0,script=no", "virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,addr=0x4,bootindex=1",
				"tap,id=net1,ifname=r0.1,script=no", "virtio-net-pci,netdev=net1,mac=52:54:00:00:00:02,addr=0x5,bootindex=2",
				"virtio-blk-pci,addr=0xc,drive=disk0,serial=disk0,bootindex=9", "cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/lab/disk0",
				"nvme,addr=0xd,drive=disk1,serial=S,,1,bootindex=10", "cache=none",
			},
			[]string{"romfile", "pflash", "-no-reboot"},
		},
		{"a UEFI machine has its order in its variables",
			MachineConfig{Name: "a", Firmware: UEFI, Disks: []DiskConfig{{SizeBytes: 512, Bus: "sata"}}},
			[]string{"-machine q35 ", "file=/usr/share/OVMF/OVMF_CODE_4M.fd", "file=/lab/a,,b/a.vars.fd", "romfile=", "ide-hd,bus=ide.0,drive=disk0"},
			[]string{"bootindex", "smm=on"},
		},
		{"Secure Boot protects its variables",
			MachineConfig{Name: "a", Firmware: SecureBoot},
			[]string{"-machine q35,smm=on -global driver=cfi.pflash01,property=secure,value=on", "OVMF_CODE_4M.ms.fd"},
			[]string{"bootindex"},
		},
		{"a comma in a serial number does not end it",
			MachineConfig{Name: "a", Manufacturer: "Dell, Inc.", Product: "R640", Serial: "A,1", UUID: "11111111-2222-3333-4444-555555555555", Extra: []string{"-device", "x"}},
			[]string{"type=1,manufacturer=Dell,, Inc.,product=R640,serial=A,,1,uuid=11111111-", "path=/lab/a,,b/a.console.log", "-device x"},
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(builtMachine(t, tt.c).args(), " ")
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("args lack %q:\n%s", want, got)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(got, not) {
					t.Errorf("args have %q:\n%s", not, got)
				}
			}
		})
	}
}

func TestMachineConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    MachineConfig
		want string
	}{
		{"a name with a slash is refused", MachineConfig{Name: "../a"}, `name a machine "../a"`},
		{"an unknown firmware is refused", MachineConfig{Name: "a", Firmware: "efi"}, `parse firmware "efi": want bios, uefi or secureboot`},
		{"a group address is no NIC's", MachineConfig{Name: "a", MACs: []string{"01:00:5e:00:00:01"}}, "MAC"},
		{"nine NICs have no place", MachineConfig{Name: "a", MACs: slices.Repeat([]string{"52:54:00:00:00:01"}, 9)}, "at most 8"},
		{"OVMF has no driver for e1000", MachineConfig{Name: "a", Firmware: UEFI, NIC: "e1000"}, "virtio-net-pci alone"},
		{"an unknown bus is refused", MachineConfig{Name: "a", Disks: []DiskConfig{{SizeBytes: 512, Bus: "scsi"}}}, `disk 0: bus "scsi"`},
		{"a disk has a size or a path", MachineConfig{Name: "a", Disks: []DiskConfig{{}}}, "want one of them"},
		{"a disk has whole sectors", MachineConfig{Name: "a", Disks: []DiskConfig{{SizeBytes: 513}}}, "multiple of 512"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.c.withDefaults("r").check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check() = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestIdentityIsDerivedFromNames(t *testing.T) {
	a, again, b := MachineConfig{Name: "a"}.withDefaults("r"), MachineConfig{Name: "a"}.withDefaults("r"), MachineConfig{Name: "b"}.withDefaults("r")
	if a.UUID != again.UUID || a.MACs[0] != again.MACs[0] {
		t.Errorf("one name gives %s %s and %s %s; want the same", a.UUID, a.MACs, again.UUID, again.MACs)
	}
	if a.UUID == b.UUID || a.MACs[0] == b.MACs[0] {
		t.Errorf("two names give %s %s both; want others", a.UUID, a.MACs)
	}
}

func TestNewDiskIsEmptyAndSparse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("an installed system of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newDisk(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 1<<20 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("disk has %d bytes, %v; want 1 MiB of zeroes", len(b), err)
	}
}
