package agent

import (
	"errors"
	"fmt"

	"muster/agent/facts"
)

// findTarget looks for the disk that an order names among those that are there now, and compares everything that the
// order says of it (T52): a disk may have been pulled since the broker chose it. One id on two disks names neither.
func findTarget(disks []facts.Disk, t facts.Target) (facts.Disk, error) {
	if t.ID == "" {
		return facts.Disk{}, errors.New("the order names no disk")
	}
	var d facts.Disk
	found := 0
	for _, each := range disks {
		if each.ID == t.ID {
			d = each
			found++
		}
	}
	switch {
	case found == 0:
		return d, fmt.Errorf("no disk has the id %q now", t.ID)
	case found > 1 || d.Dup:
		return d, fmt.Errorf("several disks have the id %q", t.ID)
	case d.SizeBytes != t.SizeBytes:
		return d, fmt.Errorf("disk %q has %d bytes; the order says %d", d.ID, d.SizeBytes, t.SizeBytes)
	case t.Serial != "" && d.Serial != t.Serial:
		return d, fmt.Errorf("disk %q has serial %q; the order says %q", d.ID, d.Serial, t.Serial)
	case t.WWN != "" && d.WWN != t.WWN:
		return d, fmt.Errorf("disk %q has wwn %q; the order says %q", d.ID, d.WWN, t.WWN)
	case d.ReadOnly:
		return d, fmt.Errorf("disk %q is read-only", d.ID)
	}
	return d, nil
}
