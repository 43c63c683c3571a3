package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/agent/facts"
)

const blockDir = "/sys/block"

// notDisks are block devices on which no system can be installed though some have hardware behind them: optical
// drives, floppies, the boot areas of an eMMC chip, raw flash, the network.
var notDisks = regexp.MustCompile(`^(loop|ram|zram|dm-|md|sr|fd|mtdblock|nbd|rbd|drbd|zd)[0-9]|^mmcblk[0-9]+(boot[0-9]+|rpmb|gp[0-9]+)$`)

// SCSI peripheral device types of what can hold a system (SPC-6 table 145): disk, simplified disk, zoned disk.
var diskTypes = map[string]bool{"": true, "0": true, "14": true, "20": true}

var opticalName = regexp.MustCompile(`^sr[0-9]+$`)

// scsiOptical is the peripheral device type of a CD or DVD drive.
const scsiOptical = "5"

// isHardware says whether something real stands behind a name in /sys/block or /sys/class/net. The head of a multipath
// NVMe namespace is a virtual device with a real one behind it.
func (t tree) isHardware(name string) bool {
	device := t.resolve(name)
	if strings.HasPrefix(device, "/sys/devices/virtual/") {
		return strings.Contains(device, "/nvme-subsystem/")
	}
	return strings.HasPrefix(device, "/sys/devices/") || t.exists(name+"/device")
}

// diskNames gives the block devices that are disks. Those of hidden paths of a multipath NVMe namespace are not.
func (t tree) diskNames() ([]string, error) {
	names, err := t.list(blockDir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		dir := blockDir + "/" + name
		return notDisks.MatchString(name) || !t.isHardware(dir) || t.text(dir+"/hidden") == "1"
	}), nil
}

// A blockDevice is one disk while it is read.
type blockDevice struct {
	machine
	dir    string // /sys/block/NAME
	device string // where sysfs keeps it: /sys/devices/.../block/NAME
	pci    string
	ata    identify // of an ATA disk
	facts.Disk
}

// disks reads every disk, then what is on it. A disk that hangs keeps what sysfs said of it.
func disks(ctx context.Context, m machine) (section, error) {
	names, err := m.diskNames()
	if err != nil {
		return nil, err
	}
	all, lost := each(ctx, m, names, m.wholeDisk)
	list := slices.DeleteFunc(all, noDisk)
	byName := map[string]facts.Disk{} // a copy: late goroutines read it while list is written
	for _, d := range list {
		byName[d.Name] = d
	}
	layouts, late := each(ctx, m, slices.Sorted(maps.Keys(byName)), func(name string) (layout, error) { return m.layout(byName[name]) })
	for _, l := range layouts {
		i := slices.IndexFunc(list, func(d facts.Disk) bool { return d.Name == l.disk })
		l.write(&list[i])
	}
	markDuplicates(list)
	slices.SortStableFunc(list, func(a, b facts.Disk) int {
		return cmp.Or(comparePCI(a.PCI, b.PCI), cmp.Compare(a.ID, b.ID))
	})
	err = errors.Join(partial(errors.Join(lost...)), errors.Join(late...))
	return func(f *facts.Facts, _ *facts.State) { f.Disks = list }, err
}

// wholeDisk is disk for one that is still there when it has been read, and says how large it is.
func (m machine) wholeDisk(name string) (facts.Disk, error) {
	d := m.disk(name)
	if err := m.stat(blockDir + "/" + name); err != nil {
		return d, fmt.Errorf("went while it was read: %w", err)
	}
	if size := m.text(blockDir + "/" + name + "/size"); d.Name != "" && d.SizeBytes == 0 && size != "0" {
		return d, malformed{fmt.Errorf("size %.32q: want a number of sectors", size)}
	}
	return d, nil
}

// noDisk is true for what is not a disk on a second look: an optical drive or an enclosure, which disk left without a
// name, or a card reader without a card.
func noDisk(d facts.Disk) bool { return d.Name == "" || d.Removable && d.SizeBytes == 0 }

// markDuplicates notes which disks share an id: paths to one disk, or bridges that repeat a serial.
func markDuplicates(list []facts.Disk) {
	count := map[string]int{}
	for _, d := range list {
		count[d.ID]++
	}
	for i := range list {
		list[i].Dup = count[list[i].ID] > 1
	}
}

// disk reads sysfs about one disk. It opens no device.
func (m machine) disk(name string) facts.Disk {
	dir := blockDir + "/" + name
	if !diskTypes[m.text(dir+"/device/type")] && !strings.HasPrefix(name, "mmcblk") {
		return facts.Disk{}
	}
	b := blockDevice{machine: m, dir: dir, device: m.diskDevice(name)}
	b.pci = pciAncestor(b.device)
	b.Disk = facts.Disk{
		Name:               facts.Line(name, 64),
		Path:               facts.Clean(m.byPath(b.device)),
		SizeBytes:          sectors(m.count(dir + "/size")),
		LogicalBlockBytes:  m.count(dir + "/queue/logical_block_size"),
		PhysicalBlockBytes: m.count(dir + "/queue/physical_block_size"),
		Transport:          m.transport(b.device, b.pci),
		Removable:          m.text(dir+"/removable") == "1",
		ReadOnly:           m.text(dir+"/ro") == "1",
		PCI:                b.pci,
		NUMANode:           m.node(b.pci),
		Partitions:         m.partitions(name),
		RAIDLevel:          facts.Clean(m.text(dir + "/device/raid_level")),
	}
	if hctl := m.target(dir + "/device"); hctlForm.MatchString(hctl) {
		b.HCTL = hctl
	}
	b.readNames()
	b.readRotation()
	b.ID = diskID(b.Disk)
	return b.Disk
}

// sectors turns the size that sysfs gives, always in units of 512 bytes, into bytes.
func sectors(n int64) int64 {
	if n > 1<<53 {
		return 0
	}
	return n * 512
}

// diskDevice is where sysfs keeps a disk. The head of a multipath NVMe namespace is a virtual device: the disk is
// then where the first of its controllers is.
func (t tree) diskDevice(name string) string {
	device := t.resolve(blockDir + "/" + name)
	if !strings.Contains(device, "/nvme-subsystem/") {
		return device
	}
	for _, controller := range t.names(path.Dir(device)) {
		if nvmeController.MatchString(controller) {
			return t.resolve(path.Dir(device)+"/"+controller) + "/" + name
		}
	}
	return device
}

var nvmeController = regexp.MustCompile(`^nvme[0-9]+$`)

// readNames fills vendor, model, serial, firmware and WWN by the kind of disk.
func (b *blockDevice) readNames() {
	device := b.dir + "/device/"
	b.Vendor = facts.Clean(b.text(device + "vendor"))
	b.Model = facts.Clean(b.text(device + "model"))
	b.Firmware = facts.Clean(b.text(device + "rev"))
	b.Serial = facts.CleanSerial(vpdSerial(b.bytes(device + "vpd_pg80")))
	b.WWN = wwn(cmp.Or(b.text(b.dir+"/wwid"), b.text(device+"wwid")))
	switch {
	case strings.HasPrefix(b.Name, "nvme"):
		b.Vendor = ""
		b.Firmware = facts.Clean(b.text(device + "firmware_rev"))
		b.Serial = facts.CleanSerial(b.text(device + "serial"))
		b.NSID = int(b.count(b.dir + "/nsid"))
		b.SubsysNQN = facts.Clean(b.text(device + "subsysnqn"))
	case b.Transport == "mmc":
		b.Vendor = ""
		b.Model = facts.Clean(b.text(device + "name"))
		b.Firmware = facts.Clean(b.text(device + "fwrev"))
		b.Serial = facts.CleanSerial(strings.TrimPrefix(b.text(device+"serial"), "0x"))
	case strings.HasPrefix(b.Name, "vd"):
		b.Vendor = "" // of a virtio device it is a number
		b.Serial = facts.CleanSerial(b.text(b.dir + "/serial"))
	case b.Transport == "usb" && b.Serial == "":
		b.Serial = facts.CleanSerial(b.text(usbAncestor(b.device) + "/serial"))
	}
	b.readATA(b.bytes(device + "vpd_pg89"))
}

// readATA takes what the disk itself says over what the SCSI layer made of it: SCSI has room for the last four
// characters of the firmware version only, and calls every vendor "ATA".
func (b *blockDevice) readATA(page []byte) {
	if b.Vendor == "ATA" {
		b.Vendor = ""
	}
	if b.ata = ataIdentify(page); b.ata == nil {
		return
	}
	b.Serial = cmp.Or(facts.CleanSerial(b.ata.text(10, 20)), b.Serial)
	b.Firmware = cmp.Or(facts.Clean(b.ata.text(23, 27)), b.Firmware)
	b.Model = cmp.Or(facts.Clean(b.ata.text(27, 47)), b.Model)
	b.WWN = cmp.Or(b.WWN, b.ata.wwn())
}

// identify is the answer to ATA IDENTIFY DEVICE (ACS-4 section 7.12), 512 bytes as SAT passes them on in VPD page 89.
type identify []byte

// ataIdentify is the one in VPD page 89; nil when there is none, as for a disk that is not ATA.
func ataIdentify(page []byte) identify {
	if len(page) < 60+512 || page[1] != 0x89 {
		return nil
	}
	return identify(page[60 : 60+512])
}

func (id identify) word(n int) uint16 {
	if len(id) < 2*n+2 {
		return 0
	}
	return binary.LittleEndian.Uint16(id[2*n:])
}

// text is that of words from to to; the first character of each is in its high byte.
func (id identify) text(from, to int) string {
	b := make([]byte, 0, 2*(to-from))
	for n := from; n < to; n++ {
		b = append(b, byte(id.word(n)>>8), byte(id.word(n)))
	}
	return strings.Trim(string(b), " \x00")
}

// wwn is words 108 to 111, when bit 8 of word 87 says that they are there and they begin as a registered name does.
func (id identify) wwn() string {
	if id.word(87)&(3<<14|1<<8) != 1<<14|1<<8 || id.word(108)>>12 != 5 {
		return ""
	}
	return fmt.Sprintf("naa.%04x%04x%04x%04x", id.word(108), id.word(109), id.word(110), id.word(111))
}

// vpdSerial is the unit serial number of VPD page 80 (SPC-6 7.7.19).
func vpdSerial(page []byte) string {
	if len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	n := int(binary.BigEndian.Uint16(page[2:]))
	return strings.Trim(string(page[4:min(4+n, len(page))]), " \x00")
}

// wwn keeps the world wide names among the ids of sysfs: naa., eui. and uuid. Others, as t10. and nvme., are made of
// vendor and serial.
func wwn(id string) string {
	id = strings.ToLower(id)
	kind, digits, _ := strings.Cut(id, ".")
	if kind != "naa" && kind != "eui" && kind != "uuid" {
		return ""
	}
	plain := strings.ReplaceAll(digits, "-", "")
	if b, err := hex.DecodeString(plain); err != nil || len(b) < 8 || len(b) > 16 || strings.Trim(plain, "0") == "" {
		return ""
	}
	return id
}

// readRotation asks the device: queue/rotational is only what the driver assumes. Medium rotation rate (SBC-4 6.6.2,
// ACS-4 word 217): 1 is solid state, above 1024 is turns per minute, 0 is not reported.
func (b *blockDevice) readRotation() {
	rate := b.ata.word(217)
	if page := b.bytes(b.dir + "/device/vpd_pgb1"); len(page) >= 6 && page[1] == 0xb1 {
		rate = cmp.Or(binary.BigEndian.Uint16(page[4:]), rate)
	}
	if b.Transport == "nvme" || b.Transport == "mmc" {
		rate = 1
	}
	if rate == 1 || rate > 1024 && rate < 0xffff {
		turns := rate > 1024
		b.Rotational = &turns
	}
	if rate > 1024 && rate < 0xffff {
		b.RPM = int(rate)
	}
}

// idUnsafe is what an id may not hold: it is typed by people and put into file names.
var idUnsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// diskID names a disk by what stays when it is moved to another port: its world wide name, else its serial; else, by
// the port.
func diskID(d facts.Disk) string {
	if d.WWN != "" {
		return d.WWN
	}
	if d.Serial == "" {
		return "path-" + idUnsafe.ReplaceAllString(cmp.Or(d.Path, d.Name), "_")
	}
	parts := []string{cmp.Or(d.Transport, "disk")}
	if d.Model != "" {
		parts = append(parts, d.Model)
	}
	parts = append(parts, d.Serial)
	if d.NSID > 0 {
		parts = append(parts, "n"+strconv.Itoa(d.NSID))
	}
	return idUnsafe.ReplaceAllString(strings.Join(parts, "-"), "_")
}

// optical reads CD and DVD drives. An empty one claims a size, so none of it is taken.
func optical(_ context.Context, m machine) (section, error) {
	names, err := m.list(blockDir)
	if err != nil {
		return nil, err
	}
	list := []facts.Optical{}
	for _, name := range names {
		device := blockDir + "/" + name + "/device/"
		if m.text(device+"type") != scsiOptical && !opticalName.MatchString(name) {
			continue
		}
		list = append(list, facts.Optical{
			Name:   facts.Line(name, 64),
			Vendor: facts.Clean(m.text(device + "vendor")),
			Model:  facts.Clean(m.text(device + "model")),
		})
	}
	return func(f *facts.Facts, _ *facts.State) { f.Optical = list }, nil
}
