package probe

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"muster/agent/facts"
)

const maxPartitions = 256 // of one disk; the kernel makes no more

// A layout is what is on a disk: its partition table, its partitions, the content of each and of the whole.
type layout struct {
	disk       string // kernel name
	table      string
	uuid       string
	content    *facts.Content
	partitions []facts.Partition
}

func (l layout) write(d *facts.Disk) {
	d.Table, d.TableUUID, d.Content, d.Partitions = l.table, l.uuid, l.content, l.partitions
}

// layout opens the disk for reading and looks for tables and signatures. Nothing is assembled, activated or mounted.
func (m machine) layout(d facts.Disk) (layout, error) {
	l := layout{disk: d.Name, partitions: slices.Clone(d.Partitions)}
	if d.SizeBytes == 0 {
		return l, nil
	}
	f, err := m.open("/dev/" + strings.ReplaceAll(d.Name, "!", "/"))
	if err != nil {
		return layout{}, err
	}
	defer f.Close()
	l.content, err = readContent(f, d.SizeBytes)
	m.steps.Add(1)
	if err != nil {
		return layout{}, fmt.Errorf("read content: %w", unwrapPath(err))
	}
	t := readTable(f, d.SizeBytes, d.LogicalBlockBytes, l.content == nil)
	l.table, l.uuid = t.kind, t.uuid
	if l.table != "" && l.partitions == nil {
		l.partitions = []facts.Partition{}
	}
	for i := range l.partitions {
		p := &l.partitions[i]
		entry := t.entries[p.Number]
		p.Type, p.UUID, p.Name = entry.kind, entry.uuid, cmp.Or(p.Name, entry.name)
		if p.StartBytes+p.SizeBytes <= d.SizeBytes && !entry.container {
			p.Content, err = readContent(io.NewSectionReader(f, p.StartBytes, p.SizeBytes), p.SizeBytes)
			if err != nil {
				return layout{}, fmt.Errorf("read partition %d: %w", p.Number, unwrapPath(err))
			}
		}
	}
	return l, nil
}

// partitions are those that the kernel made of the disk, by number; nil when it made none.
func (m machine) partitions(disk string) []facts.Partition {
	var list []facts.Partition
	dir := blockDir + "/" + disk
	for _, name := range m.names(dir) {
		if !strings.HasPrefix(name, disk) || len(list) == maxPartitions {
			continue
		}
		number, err := strconv.Atoi(m.text(dir + "/" + name + "/partition"))
		if err != nil || number <= 0 {
			continue
		}
		list = append(list, facts.Partition{
			Number:     number,
			StartBytes: sectors(m.count(dir + "/" + name + "/start")),
			SizeBytes:  sectors(m.count(dir + "/" + name + "/size")),
			Name:       facts.Clean(ueventValue(m.text(dir+"/"+name+"/uevent"), "PARTNAME")),
		})
	}
	slices.SortFunc(list, func(a, b facts.Partition) int { return a.Number - b.Number })
	return list
}

// ueventValue is the value of KEY=VALUE in a uevent file.
func ueventValue(uevent, key string) string {
	for line := range strings.Lines(uevent) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	return ""
}
