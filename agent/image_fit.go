package agent

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/facts"
	"muster/agent/gpt"
)

// fits reads the partition table of the image's head and fits it to the disk, while the disk is still as it was. An image
// that was made for disks of other sectors starts on none of this kind.
func (w *imageWrite) fits() error {
	if sector, disk := gpt.SectorSize(w.head), w.entry.LogicalBlockBytes; sector != 0 && disk != 0 && sector != disk {
		return fmt.Errorf("the image's GPT is for sectors of %d bytes; disk %s has %d: an image made for those is needed", sector, w.entry.Name, disk)
	}
	switch w.want.Grow {
	case "", facts.GrowNone:
		return nil
	case facts.GrowTable, facts.GrowLast:
	default:
		return fmt.Errorf("grow %q is not known", w.want.Grow)
	}
	table, err := gpt.Read(w.head)
	if err == nil {
		w.fitted, err = table.Fit(w.disk.Size, w.want.Grow == facts.GrowLast)
	}
	if err != nil {
		return fmt.Errorf("fit the partition table to the disk: %w", err)
	}
	return nil
}

// fit writes the end of a table that was fitted to the disk; its head goes with the image's. The backup that came with the
// image is no longer one: what a program would repair the table from must be at the disk's end only.
func (w *imageWrite) fit(context.Context) error {
	f := w.fitted
	if f == nil {
		return nil
	}
	w.head = f.Head
	var err error
	if f.Old > 0 {
		err = w.putEnd(make([]byte, gpt.SectorSize(w.head)), f.Old)
	}
	if err == nil && len(f.Backup) > 0 {
		err = w.putEnd(f.Backup, f.At)
	}
	if err != nil {
		return errors.Join(err, w.spoil())
	}
	if f.Grown > 0 {
		w.agent.Console.Printf("partition %d is as large as disk %s now", f.Grown, w.entry.Name)
	}
	return nil
}
