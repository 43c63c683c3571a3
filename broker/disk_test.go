package broker

import (
	"errors"
	"strings"
	"testing"

	"muster/agent/facts"
)

// twins are two disks of one model and one of another, as a RAID pair and a boot disk may be, found in no order of paths.
func twins() *facts.Facts {
	yes, no := true, false
	return &facts.Facts{Disks: []facts.Disk{
		{Name: "sda", SizeBytes: 4 << 30, Vendor: "ATA", Model: "SAMSUNG MZ7LH480", Serial: "S2", WWN: "naa.5002538e00000002", Transport: "sata", Path: "pci-0000:00:1f.2-ata-2", HCTL: "1:0:0:0", Rotational: &no},
		{Name: "sdb", SizeBytes: 4 << 30, Vendor: "ATA", Model: "SAMSUNG MZ7LH480", Serial: "S1", WWN: "naa.5002538e00000001", Transport: "sata", Path: "pci-0000:00:1f.2-ata-1", HCTL: "0:0:0:0", Rotational: &no},
		{Name: "sdc", SizeBytes: 8 << 30, Vendor: "SEAGATE", Model: "ST8000NM", Serial: "Z1", Transport: "sas", HCTL: "2:0:1:0", Rotational: &yes},
		{Name: "nvme0n1", SizeBytes: 16 << 30, Model: "P4510", Serial: "N 1", WWN: "eui.0025384b", Transport: "nvme"},
	}}
}

func TestDiskHints(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name  string
		hints DiskHints
		want  string // the disk, or words of the error
	}{
		{"none: of two alike the first by path", DiskHints{}, "sdb"},
		{"a serial number", DiskHints{Serial: "s2"}, "sda"},
		{"a WWN", DiskHints{WWN: "naa.5002538E00000001"}, "sdb"},
		{"a path as udev links it", DiskHints{Path: "/dev/disk/by-path/pci-0000:00:1f.2-ata-2"}, "sda"},
		{"a path with a star", DiskHints{Path: "pci-*-ata-1"}, "sdb"},
		{"a link by WWN", DiskHints{ByID: "/dev/disk/by-id/wwn-0x5002538e00000002"}, "sda"},
		{"a link by model and serial, of a disk with a WWN", DiskHints{ByID: "ata-SAMSUNG_MZ7LH480_S1"}, "sdb"},
		{"a link of NVMe", DiskHints{ByID: "nvme-P4510_N_1"}, "nvme0n1"},
		{"host, channel, target, LUN", DiskHints{HCTL: "1:0:0:0"}, "sda"},
		{"a name as the kernel gave it", DiskHints{Name: "/dev/sda"}, "sda"},
		{"a model with a star, of which there is one", DiskHints{Model: "st*"}, "sdc"},
		{"a vendor", DiskHints{Vendor: "seagate"}, "sdc"},
		{"what turns", DiskHints{Rotational: &yes}, "sdc"},
		{"sizes that leave one", DiskHints{MinBytes: 9 << 30}, "nvme0n1"},
		{"of those that fit, the smallest", DiskHints{MinBytes: 5 << 30}, "sdc"},
		{"two of one model", DiskHints{Model: "SAMSUNG MZ7LH480"}, "the disk hints fit alike sdb (serial: S1, wwn: naa.5002538e00000001, path: pci-0000:00:1f.2-ata-1) and sda (serial: S2"},
		{"two of one model and more hints", DiskHints{Model: "SAMSUNG*", Transport: "sata", MaxBytes: 5 << 30}, "fit alike sdb"},
		{"a size that two have", DiskHints{MaxBytes: 4 << 30}, "fit alike sdb"},
		{"none of that serial", DiskHints{Serial: "S3"}, `sda has serial "S2"`},
		{"what is not known does not fit", DiskHints{HCTL: "9:*"}, "nvme0n1 is not known to have a hctl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := twins()
			d, err := pickDisk(f, c.hints, 1<<30, false)
			switch {
			case err != nil && !strings.Contains(err.Error(), c.want):
				t.Errorf("pickDisk: %v; want %s", err, c.want)
			case err == nil && d.Name != c.want:
				t.Errorf("pickDisk chose %s; want %s", d.Name, c.want)
			}
		})
	}
}

// The order in which a kernel finds disks is another at each boot.
func TestPickDiskIsStable(t *testing.T) {
	f := twins()
	for range f.Disks {
		f.Disks = append(f.Disks[1:], f.Disks[0])
		if d, err := pickDisk(f, DiskHints{}, 1<<30, false); err != nil || d.Serial != "S1" {
			t.Errorf("with %s first, pickDisk = %v, %v; want the disk S1", f.Disks[0].Name, d, err)
		}
	}
}

// A policy whose hints leave a choice keeps the node from those after it: none may take another disk instead.
func TestAlikeDisksHoldTheNode(t *testing.T) {
	n := &Node{ID: "node1", Facts: Told(twins())}
	win, _, lines := choose(n, policies(candidate{Policy: Policy{Name: "a", Match: "all", Disk: DiskHints{Model: "SAMSUNG*"}}},
		candidate{Policy: Policy{Name: "b", Match: "all", Wipe: true}}))
	if win != nil || len(lines) != 2 || !strings.HasPrefix(lines[0].Why, "holds the node for itself: the disk hints fit alike sdb") ||
		lines[1].Why != "not asked: policy a holds the node" {
		t.Errorf("choose = %v, %v; want nobody, for two disks are alike", win, lines)
	}
}

func TestDiskHintsAreChecked(t *testing.T) {
	for _, c := range []struct {
		hints DiskHints
		want  string
	}{
		{DiskHints{MinBytes: -1}, "min_bytes -1"},
		{DiskHints{MinBytes: 2, MaxBytes: 1}, "min_bytes 2, max_bytes 1"},
		{DiskHints{Model: "SAMSUNG[48"}, `model "SAMSUNG[48"`},
		{DiskHints{Model: "SAMSUNG*", ByID: "/dev/disk/by-id/wwn-*"}, ""},
	} {
		p := Policy{Name: "a", Match: "all", Task: "image", Disk: c.hints}
		err := p.check()
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("check of %+v = %v; want %q", c.hints, err, c.want)
		}
	}
}
