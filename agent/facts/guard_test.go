package facts

import "testing"

// T54: a fixture per guard, and what no guard holds.
func TestT54Guards(t *testing.T) {
	part := func(p Partition) Disk { return Disk{Partitions: []Partition{{Number: 1}, p}} }
	for _, row := range []struct {
		name string
		disk Disk
		want string // the guard that holds it
	}{
		{"a plain disk", Disk{Transport: "sata"}, ""},
		{"LVM, md and ZFS are this machine's own", part(Partition{Content: &Content{Type: "lvm2"}}), ""},
		{"a card", Disk{Removable: true, Transport: "mmc"}, GuardRemovable},
		{"a USB disk", Disk{Transport: "usb"}, GuardUSB},
		{"vmfs on the whole disk", Disk{Content: &Content{Type: "vmfs"}}, GuardShared},
		{"gfs2 in a partition", part(Partition{Content: &Content{Type: "gfs2"}}), GuardShared},
		{"ocfs2 in a partition", part(Partition{Content: &Content{Type: "ocfs2"}}), GuardShared},
		{"gpfs by its partition type", part(Partition{Type: "37affc90-ef7d-4e96-91c3-2d7ae055b174"}), GuardShared},
		{"vmfs by its partition type, in capitals", part(Partition{Type: "AA31E02A-400F-11DB-9590-000C2911D1B8"}), GuardShared},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := ""
			for _, g := range Guards {
				if g.Holds(row.disk) != "" {
					got += g.Name
				}
			}
			if got != row.want {
				t.Errorf("guards %q hold it; want %q", got, row.want)
			}
		})
	}
}
