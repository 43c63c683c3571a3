package broker

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// server is a machine of which all is known that the words speak of.
func server() *facts.Facts {
	return &facts.Facts{
		Schema:    1,
		System:    &facts.System{Manufacturer: "Dell Inc.", Product: "R640", Serial: "ABC1234", UUID: "4c4c4544-0042-3510-8052-c1c04f4e3132"},
		Baseboard: &facts.Baseboard{Manufacturer: "Dell Inc.", Product: "0H28RR", Serial: "CN1"},
		Firmware:  &facts.Firmware{Version: "2.19.1", SecureBoot: "disabled"},
		CPU:       &facts.CPU{Model: "Xeon Gold 5218R", Sockets: 2, Cores: 40, Threads: 80, ThreadsPresent: 80},
		Memory: &facts.Memory{TotalBytes: 60 << 30, PhysicalBytes: 64 << 30, PhysicalSource: "smbios17", DIMMs: []facts.DIMM{
			{Locator: "A1", SizeBytes: 32 << 30, Manufacturer: "Samsung", Part: "M393", Serial: "D1"},
			{Locator: "A1", SizeBytes: 32 << 30, Manufacturer: "Samsung", Part: "M393", Serial: "D2"},
		}},
		Disks: []facts.Disk{
			{ID: "naa.5000c500a1b2c3d4", Name: "sda", SizeBytes: 960197124096, Firmware: "GS0F"},
			{ID: "nvme-X-S1", Name: "nvme0n1", SizeBytes: 1 << 41},
		},
		NICs: []facts.NIC{{Name: "eth0", MAC: "52:54:00:aa:00:01", PCI: "0000:01:00.0", Firmware: "2.1-0"}},
		PCI:  []facts.PCIDevice{{Address: "0000:05:00.0", VendorID: "10ee", DeviceID: "5000"}},
		BMC:  &facts.BMC{Present: true, Firmware: "3.21"},
		TPM:  &facts.TPM{},
	}
}

func TestHardwareChangesInWords(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *facts.Facts)
		want   []string
	}{
		{"nothing", func(*facts.Facts) {}, nil},
		{"a disk is pulled and half of the memory fails", func(f *facts.Facts) {
			f.Disks = f.Disks[1:]
			f.Memory.PhysicalBytes, f.Memory.DIMMs = 32<<30, f.Memory.DIMMs[:1]
		}, []string{"memory 64 GiB -> 32 GiB", "DIMM A1 #2 went (32 GiB Samsung M393 D2)", "disk naa.5000c500a1b2c3d4 went (894.3 GiB GS0F)"}},
		{"the last disk is pulled", func(f *facts.Facts) { f.Disks = []facts.Disk{} },
			[]string{"disk naa.5000c500a1b2c3d4 went (894.3 GiB GS0F)", "disk nvme-X-S1 went (2 TiB)"}},
		{"a second disk of the same name comes", func(f *facts.Facts) { f.Disks = append(f.Disks, f.Disks[1]) }, []string{"disk nvme-X-S1 #2 came (2 TiB)"}},
		{"a disk's firmware is new", func(f *facts.Facts) { f.Disks[0].Firmware = "GS10" }, []string{"disk naa.5000c500a1b2c3d4 GS0F -> GS10"}},
		{"a DIMM is another one", func(f *facts.Facts) { f.Memory.DIMMs[0].Serial = "D9" }, []string{"DIMM A1 D1 -> D9"}},
		{"a NIC is another one, in the same slot", func(f *facts.Facts) { f.NICs[0].MAC = "52:54:00:aa:00:09" },
			[]string{"NIC 52:54:00:aa:00:01 went (0000:01:00.0 2.1-0)", "NIC 52:54:00:aa:00:09 came (0000:01:00.0 2.1-0)"}},
		{"a card moves to another slot", func(f *facts.Facts) { f.PCI[0].Address = "0000:06:00.0" },
			[]string{"PCI 0000:05:00.0 went (10ee:5000)", "PCI 0000:06:00.0 came (10ee:5000)"}},
		{"the board is another one", func(f *facts.Facts) {
			f.Baseboard.Serial, f.System.UUID = "CN2", "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"
		}, []string{"system UUID 4c4c4544-0042-3510-8052-c1c04f4e3132 -> f7b4d8c9-cce8-418c-8b52-8a6f124e8655", "board serial CN1 -> CN2"}},
		{"a processor is pulled, firmware and BMC are updated, a TPM comes", func(f *facts.Facts) {
			f.CPU.Sockets, f.CPU.Cores, f.CPU.ThreadsPresent = 1, 20, 40
			f.Firmware.Version, f.BMC.Firmware = "2.20.0", "3.30"
			f.TPM = &facts.TPM{Present: true, Manufacturer: "IFX"}
		}, []string{"firmware 2.19.1 -> 2.20.0", "cores 40 -> 20", "sockets 2 -> 1", "threads 80 -> 40", "BMC 3.21 -> 3.30", "TPM came (IFX)"}},

		{"what could not be read has not gone", func(f *facts.Facts) {
			*f = facts.Facts{Schema: 1, Incomplete: []string{"memory", "disks"}, Disks: []facts.Disk{}, Memory: &facts.Memory{PhysicalBytes: 1 << 30, PhysicalSource: "blocks"}}
		}, nil},
		{"what the kernel leaves is not what is installed", func(f *facts.Facts) {
			f.Memory = &facts.Memory{PhysicalBytes: 60 << 30, PhysicalSource: "meminfo"}
		}, nil},
		{"what an ordinary reader may not see has not gone", func(f *facts.Facts) {
			f.System.Serial, f.Disks[0].Firmware, f.Memory.DIMMs[0].Serial, f.NICs[0].Firmware, f.BMC.Firmware = "", "", "", "", ""
		}, nil},
		{"an install, a cable, another kernel and other names are no hardware", func(f *facts.Facts) {
			f.Kernel, f.Memory.TotalBytes = "7.0", 59<<30
			f.Disks[0].Name, f.Disks[0].Partitions, f.Disks[0].Table = "sdb", []facts.Partition{{Number: 1}}, "gpt"
			up := true
			f.NICs[0].Name, f.NICs[0].Link, f.NICs[0].LLDP = "eth1", &up, []facts.Neighbor{{ChassisID: "tor"}}
			f.USB = []facts.USBDevice{{Port: "1-1"}}
		}, nil},
		{"a rebuilt machine is named in part", func(f *facts.Facts) {
			for i := range 40 {
				f.Disks = append(f.Disks, facts.Disk{ID: fmt.Sprintf("z%02d", i), Name: "x", SizeBytes: 1})
			}
		}, []string{"disk z00 came (1 B)", "disk z01 came (1 B)", "disk z02 came (1 B)", "disk z03 came (1 B)", "disk z04 came (1 B)", "disk z05 came (1 B)",
			"disk z06 came (1 B)", "disk z07 came (1 B)", "disk z08 came (1 B)", "disk z09 came (1 B)", "disk z10 came (1 B)", "disk z11 came (1 B)", "28 more"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := server()
			tt.change(now)
			if diff := cmp.Diff(tt.want, hardwareChanges(server(), now)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if back := hardwareChanges(now, server()); len(tt.want) == 0 && len(back) != 0 {
				t.Errorf("the other way round: %q", back)
			}
		})
	}
}

func TestHardwareEvent(t *testing.T) {
	var n Node
	learn := func(f *facts.Facts) string {
		t.Helper()
		told := Told(f)
		events, err := n.learnHardware(told)
		if err != nil {
			t.Fatal(err)
		}
		n.Facts = told
		text := ""
		for _, e := range events {
			text += e.Kind + ": " + e.Text
		}
		return text
	}
	smaller := server()
	smaller.Disks = smaller.Disks[:1]
	for i, step := range []struct {
		facts *facts.Facts
		want  string
	}{
		{server(), ""}, // a new machine has not changed
		{server(), ""},
		{smaller, "node.hardware: hardware changed: disk nvme-X-S1 went (2 TiB)"},
		{smaller, ""},
		{server(), "node.hardware: hardware changed: disk nvme-X-S1 came (2 TiB)"},
	} {
		if got := learn(step.facts); got != step.want {
			t.Errorf("report %d: %q; want %q", i, got, step.want)
		}
		if want, _ := step.facts.HardwareHash(); n.HWHash != want {
			t.Errorf("report %d: hw_hash %q; want %q", i, n.HWHash, want)
		}
	}
}

func TestBinarySize(t *testing.T) {
	for n, want := range map[int64]string{0: "", -1: "", 512: "512 B", 1 << 10: "1 KiB", 64 << 30: "64 GiB", 1920383410176: "1.7 TiB", 1 << 62: "4096 PiB"} {
		if got := binarySize(n); got != want {
			t.Errorf("binarySize(%d) = %q; want %q", n, got, want)
		}
	}
}
