package broker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// Which disks a clean takes: all that nothing guards, or those that the operator names.
func TestPlanClean(t *testing.T) {
	disk := func(name string, change func(*facts.Disk)) facts.Disk {
		d := facts.Disk{ID: "naa." + name, Name: name, SizeBytes: 1 << 30, Serial: "S-" + name, Transport: "sata"}
		if change != nil {
			change(&d)
		}
		return d
	}
	rack := []facts.Disk{
		disk("sda", nil),
		disk("nvme0n1", func(d *facts.Disk) { d.Transport, d.WWN = "nvme", "eui.0025385b61b01234" }),
		disk("sdb", func(d *facts.Disk) { d.Removable = true }),
		disk("sdc", func(d *facts.Disk) { d.Transport = "usb" }),
		disk("sdd", func(d *facts.Disk) { d.ReadOnly = true }),
		disk("sde", func(d *facts.Disk) { d.Dup = true }),
		disk("sdf", func(d *facts.Disk) { d.Partitions = []facts.Partition{{Content: &facts.Content{Type: "gfs2"}}} }),
		disk("sdg", func(d *facts.Disk) { d.Partitions = []facts.Partition{{Content: &facts.Content{Type: "ext4"}}} }),
	}
	every := []string{facts.GuardRemovable, facts.GuardUSB, facts.GuardShared}
	for _, row := range []struct {
		name  string
		disks []facts.Disk
		act   Act
		want  string // names, or the refusal
		lift  []string
	}{
		{"all but what a guard or the machine keeps", rack, Act{}, "sda nvme0n1 sdg", nil},
		{"one by its serial", rack, Act{Disks: []string{"S-sdg"}}, "sdg", every},
		{"one by its WWN", rack, Act{Disks: []string{"eui.0025385b61b01234"}}, "nvme0n1", every},
		{"a guarded one that is named", rack, Act{Disks: []string{"naa.sdc", "naa.sdf"}}, "sdc sdf", every},
		{"a kernel's name is no name", rack, Act{Disks: []string{"sda"}}, `node n1 has no disk "sda" (by id, serial or WWN)`, nil},
		{"no name at all", rack, Act{Disks: []string{""}}, `node n1 has no disk "" (by id, serial or WWN)`, nil},
		{"a read-only one that is named", rack, Act{Disks: []string{"naa.sda", "naa.sdd"}}, "disk sdd of node n1 is read-only", nil},
		{"one of two with the same id", rack, Act{Disks: []string{"naa.sde"}}, "disk sde of node n1 shares its id with another disk", nil},
		{"nothing but a stick", rack[2:3], Act{}, "node n1 has no disk to wipe (sdb is removable); name one with --disk to wipe it all the same", nil},
		{"a machine without disks", []facts.Disk{}, Act{}, "node n1 has no disk to wipe (it has none); name one with --disk to wipe it all the same", nil},
		{"disks that could not be read", nil, Act{}, "node n1: its disks are not known", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := planClean(&Node{ID: "n1"}, &facts.Facts{Disks: row.disks}, row.act)
			if err != nil {
				if err.Error() != row.want {
					t.Errorf("refused: %v; want %s", err, row.want)
				}
				return
			}
			if got := strings.Join(c.Disks, " "); got != row.want {
				t.Errorf("it takes %s; want %s", got, row.want)
			}
			if diff := cmp.Diff(row.lift, c.Wipe.Lift); diff != "" {
				t.Errorf("guards that are lifted (-want +got):\n%s", diff)
			}
			for i, target := range c.Wipe.Disks { // T52: everything that is known of it
				j := strings.Index("sda nvme0n1 sdb sdc sdd sde sdf sdg", c.Disks[i])
				d := rack[strings.Count("sda nvme0n1 sdb sdc sdd sde sdf sdg"[:j], " ")]
				if want := (facts.Target{ID: d.ID, SizeBytes: d.SizeBytes, Serial: d.Serial, WWN: d.WWN}); target != want {
					t.Errorf("target %+v; want %+v", target, want)
				}
			}
		})
	}
}
