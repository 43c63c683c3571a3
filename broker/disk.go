package broker

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/broker/task"
)

// DiskHints choose the disk of the root file system among those large enough that are neither removable nor read-only. Words
// are compared without case, and may have the * and ? of path.Match. Of those that fit all hints the smallest wins.
type DiskHints struct {
	MinBytes   int64  `json:"min_bytes,omitempty"`
	MaxBytes   int64  `json:"max_bytes,omitempty"`
	Vendor     string `json:"vendor,omitempty"`
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	WWN        string `json:"wwn,omitempty"`       // with naa., eui. or uuid. before it, as facts have it
	ByID       string `json:"by_id,omitempty"`     // its link in /dev/disk/by-id
	Transport  string `json:"transport,omitempty"` // nvme, sata, ...
	Rotational *bool  `json:"rotational,omitempty"`
	Path       string `json:"path,omitempty"` // its link in /dev/disk/by-path
	HCTL       string `json:"hctl,omitempty"` // SCSI host:channel:target:lun
	Name       string `json:"name,omitempty"` // sda; kernels give it in the order in which they find disks
}

// words are the hints that are words, and what a disk has in their place.
func (h DiskHints) words(d facts.Disk) []diskWord {
	return []diskWord{
		{"vendor", h.Vendor, d.Vendor},
		{"model", h.Model, d.Model},
		{"serial", h.Serial, d.Serial},
		{"wwn", h.WWN, d.WWN},
		{"by_id", strings.TrimPrefix(h.ByID, byID), link(d, h.ByID)},
		{"transport", h.Transport, d.Transport},
		{"path", strings.TrimPrefix(h.Path, byPath), d.Path},
		{"hctl", h.HCTL, d.HCTL},
		{"name", strings.TrimPrefix(h.Name, "/dev/"), d.Name},
	}
}

type diskWord struct{ what, want, got string }

func (w diskWord) fits() bool {
	ok, err := path.Match(strings.ToLower(w.want), strings.ToLower(w.got))
	return w.want == "" || ok && err == nil || strings.EqualFold(w.want, w.got)
}

// check finds hints that no disk can fit.
func (h DiskHints) check() error {
	if h.MinBytes < 0 || h.MaxBytes < 0 || h.MaxBytes > 0 && h.MaxBytes < h.MinBytes {
		return invalid("disk: min_bytes %d, max_bytes %d: no disk has such a size", h.MinBytes, h.MaxBytes)
	}
	for _, w := range h.words(facts.Disk{}) {
		if _, err := path.Match(w.want, ""); err != nil {
			return invalid("disk: %s %q: %v (in a pattern, [ is written \\[)", w.what, w.want, err)
		}
	}
	return nil
}

// errAlike is of hints that leave a choice, which is not muster's: the node is held.
var errAlike = errors.New("the disk hints fit alike")

// pickDisk chooses the disk for an image by hints. Where hints leave two of one size nothing is chosen, for they were to
// name one; without any, the first by path wins, and then by name, so that each boot finds the same. A disk that holds data
// is only taken with wipe.
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
		return cmp.Or(cmp.Compare(a.SizeBytes, b.SizeBytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name))
	})
	if h != (DiskHints{}) && len(fit) > 1 && fit[1].SizeBytes == fit[0].SizeBytes {
		return nil, fmt.Errorf("%w %s: add what tells them apart", errAlike, alike(fit))
	}
	if data := holds(fit[0]); data != "" && !wipe {
		return nil, fmt.Errorf("disk %s holds %s and the policy does not say wipe: true", fit[0].Name, data)
	}
	return &fit[0], nil
}

// alike names disks of the first one's size, each with what a hint can say of it.
func alike(disks []facts.Disk) string {
	var names []string
	for _, d := range disks {
		if d.SizeBytes != disks[0].SizeBytes {
			break
		}
		var is []string
		for _, w := range []diskWord{{what: "serial", got: d.Serial}, {what: "wwn", got: d.WWN}, {what: "path", got: d.Path}} {
			if w.got != "" {
				is = append(is, fmt.Sprintf("%s: %s", w.what, w.got))
			}
		}
		names = append(names, fmt.Sprintf("%s (%s)", d.Name, strings.Join(is, ", ")))
	}
	if len(names) > 4 {
		names = append(names[:4], fmt.Sprintf("%d more", len(names)-4))
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// needs is how large the disk must be that a task writes.
func needs(t *task.Task, r *Repo) int64 {
	if r == nil {
		return t.MinDisk
	}
	return max(t.MinDisk, r.RawBytes)
}

// byID and byPath are where udev makes links to disks.
const byID, byPath = "/dev/disk/by-id/", "/dev/disk/by-path/"

// namedDisk gives a disk the names that udev makes of what the facts say, so that an installer finds the same one under its
// own kernel.
func namedDisk(d facts.Disk) task.Disk {
	v := task.Disk{Name: d.Name, SizeBytes: d.SizeBytes, Serial: d.Serial, Model: d.Model}
	if d.Path != "" {
		v.ByPath = byPath + d.Path
	}
	switch kind, hex, _ := strings.Cut(d.WWN, "."); kind {
	case "naa":
		v.WWN = "0x" + hex
	case "eui", "uuid":
		v.WWN = d.WWN
	}
	if names := links(d); len(names) > 0 {
		v.ByID = byID + names[0]
	}
	return v
}

// links are the names of a disk in /dev/disk/by-id, what identifies it best first (60-persistent-storage.rules of systemd).
func links(d facts.Disk) (names []string) {
	kind, hex, _ := strings.Cut(d.WWN, ".")
	switch kind {
	case "naa":
		names = append(names, "wwn-0x"+hex)
	case "eui", "uuid":
		names = append(names, "nvme-"+d.WWN)
	}
	serial, model := udevName(d.Serial), udevName(d.Model)
	switch {
	case serial == "":
	case d.Transport == "virtio":
		names = append(names, "virtio-"+serial)
	case d.Transport == "nvme" && model != "":
		names = append(names, "nvme-"+model+"_"+serial)
	case (d.Transport == "sata" || d.Transport == "ide") && model != "":
		names = append(names, "ata-"+model+"_"+serial)
	}
	return names
}

// link is a disk's name in /dev/disk/by-id that fits a hint, or the best that it has.
func link(d facts.Disk, hint string) string {
	names := links(d)
	for _, name := range names {
		if (diskWord{want: strings.TrimPrefix(hint, byID), got: name}).fits() {
			return name
		}
	}
	return cmp.Or(append(names, "")...)
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
	for _, w := range h.words(d) {
		switch {
		case w.fits():
		case w.got == "":
			return "is not known to have a " + w.what
		default:
			return fmt.Sprintf("has %s %q", w.what, w.got)
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
