package broker

import (
	"fmt"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/broker/task"
)

// DiskHints choose the disk of the root file system; of those that fit all hints, the smallest wins, then the first
// by PCI address.
type DiskHints struct {
	MinBytes   int64  `json:"min_bytes,omitempty"`
	MaxBytes   int64  `json:"max_bytes,omitempty"`
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	WWN        string `json:"wwn,omitempty"`
	Transport  string `json:"transport,omitempty"`
	Rotational *bool  `json:"rotational,omitempty"`
	Path       string `json:"path,omitempty"`
}

// pickDisk chooses the disk for an image by hints: of those that fit, the smallest, then the first. A disk that
// holds data is only taken with wipe.
func pickDisk(f *facts.Facts, h DiskHints, need int64, wipe bool) (*facts.Disk, error) {
	if f == nil || f.Disks == nil {
		return nil, fmt.Errorf("its disks are not known")
	}
	var fit []facts.Disk
	var why []string
	for _, d := range f.Disks {
		if no := misfit(d, h, need); no != "" {
			why = append(why, d.Name+" "+no)
			continue
		}
		fit = append(fit, d)
	}
	if len(fit) == 0 {
		return nil, fmt.Errorf("no disk fits (%s)", orNone(why))
	}
	slices.SortStableFunc(fit, func(a, b facts.Disk) int {
		switch {
		case a.SizeBytes < b.SizeBytes:
			return -1
		case a.SizeBytes > b.SizeBytes:
			return 1
		}
		return 0
	})
	if data := holds(fit[0]); data != "" && !wipe {
		return nil, fmt.Errorf("disk %s holds %s and the policy does not say wipe: true", fit[0].Name, data)
	}
	return &fit[0], nil
}

// needs is how large the disk must be that a task writes.
func needs(t *task.Task, r *Repo) int64 {
	if r == nil {
		return t.MinDisk
	}
	return max(t.MinDisk, r.RawBytes)
}

// namedDisk gives a disk the names that udev makes of what the facts say (60-persistent-storage.rules of systemd), so
// that an installer finds the same one under its own kernel.
func namedDisk(d facts.Disk) task.Disk {
	v := task.Disk{Name: d.Name, SizeBytes: d.SizeBytes, Serial: d.Serial, Model: d.Model}
	if d.Path != "" {
		v.ByPath = "/dev/disk/by-path/" + d.Path
	}
	kind, hex, _ := strings.Cut(d.WWN, ".")
	serial := udevName(d.Serial)
	switch {
	case d.WWN != "" && kind == "naa":
		v.WWN = "0x" + hex
		v.ByID = "/dev/disk/by-id/wwn-" + v.WWN
	case d.WWN != "" && (kind == "eui" || kind == "uuid"):
		v.WWN = d.WWN
		v.ByID = "/dev/disk/by-id/nvme-" + d.WWN
	case serial == "":
	case d.Transport == "virtio":
		v.ByID = "/dev/disk/by-id/virtio-" + serial
	case d.Transport == "nvme" && d.Model != "":
		v.ByID = "/dev/disk/by-id/nvme-" + udevName(d.Model) + "_" + serial
	case (d.Transport == "sata" || d.Transport == "ide") && d.Model != "":
		v.ByID = "/dev/disk/by-id/ata-" + udevName(d.Model) + "_" + serial
	}
	return v
}

// udevName writes a name as udev does in a link: blanks become _, what is not plain as well.
func udevName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("#+-.:=@_", r) {
			return r
		}
		return '_'
	}, strings.Join(strings.Fields(s), "_"))
}

func orNone(why []string) string {
	if len(why) == 0 {
		return "it has none"
	}
	return strings.Join(why, "; ")
}

// misfit says why a disk does not fit the hints, or "".
func misfit(d facts.Disk, h DiskHints, need int64) string {
	switch {
	case d.ReadOnly:
		return "is read-only"
	case d.Removable:
		return "is removable"
	case d.Dup:
		return "shares its id with another disk"
	case d.SizeBytes < need:
		return fmt.Sprintf("has %d bytes, %d are needed", d.SizeBytes, need)
	case h.MinBytes > 0 && d.SizeBytes < h.MinBytes:
		return "is smaller than min_bytes"
	case h.MaxBytes > 0 && d.SizeBytes > h.MaxBytes:
		return "is larger than max_bytes"
	case h.Rotational != nil && (d.Rotational == nil || *d.Rotational != *h.Rotational):
		return fmt.Sprintf("is not known to have rotational %t", *h.Rotational)
	}
	for _, c := range []struct{ what, want, got string }{
		{"model", h.Model, d.Model}, {"serial", h.Serial, d.Serial}, {"wwn", h.WWN, d.WWN},
		{"transport", h.Transport, d.Transport}, {"path", h.Path, d.Path},
	} {
		if c.want != "" && !strings.EqualFold(c.want, c.got) {
			return fmt.Sprintf("has %s %q", c.what, c.got)
		}
	}
	return ""
}

// holds says what data a disk has on it, or "".
func holds(d facts.Disk) string {
	switch {
	case len(d.Partitions) > 0:
		return fmt.Sprintf("%d %s", len(d.Partitions), plural(len(d.Partitions), "partition"))
	case d.Content != nil:
		return "a file system or the like (" + d.Content.Type + ")"
	case d.Table != "":
		return "a partition table (" + d.Table + ")"
	}
	return ""
}

// diskInUse names the first disk that holds data, or "".
func diskInUse(f *facts.Facts) string {
	for _, d := range f.Disks {
		if h := holds(d); h != "" && !d.Removable {
			return "disk " + d.Name + " holds " + h
		}
	}
	return ""
}
