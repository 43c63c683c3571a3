package probe

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The steps of a sysfs device path that say how a disk is reached.
var (
	hctlForm     = regexp.MustCompile(`^[0-9]+:[0-9]+:[0-9]+:[0-9]+$`)
	ataPort      = regexp.MustCompile(`^ata([0-9]+)$`)
	scsiHost     = regexp.MustCompile(`^host([0-9]+)$`)
	usbDevice    = regexp.MustCompile(`^[0-9]+-[0-9]+(\.[0-9]+)*$`)
	usbInterface = regexp.MustCompile(`^[0-9]+-([0-9.]+:[0-9]+\.[0-9]+)$`)
	unstable     = regexp.MustCompile(`^(virtio[0-9]+|host[0-9]+|target[0-9:]+|block|nvme|nvme[0-9]+|mmc_host)$`)
)

// transports are told by the path of the device, in this order; the first that matches names it.
var transports = []struct {
	in   *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`/usb[0-9]+/`), "usb"},
	{regexp.MustCompile(`/session[0-9]+/`), "iscsi"},
	{regexp.MustCompile(`/rport-[0-9]`), "fc"},
	{regexp.MustCompile(`/virtio[0-9]+/`), "virtio"},
	{regexp.MustCompile(`/ata[0-9]+/`), "sata"},
	{regexp.MustCompile(`/nvme(-subsystem)?/`), "nvme"},
	{regexp.MustCompile(`/mmc_host/`), "mmc"},
	{regexp.MustCompile(`/vbd-[0-9]`), "xen"},
	{regexp.MustCompile(`/VMBUS:`), "vmbus"},
}

// classTransports are told by the PCI class of the controller.
var classTransports = map[string]string{
	"0100": "scsi", "0101": "ide", "0104": "raid", "0106": "sata", "0107": "sas", "0108": "nvme", "0c04": "fc",
}

// transport is how the disk at a device path is connected; "" when nothing tells.
func (t tree) transport(device, pci string) string {
	for _, row := range transports {
		if row.in.MatchString(device) {
			return row.name
		}
	}
	if class := t.pciClass(pci); pci != "" && class != "" {
		return classTransports[class[:4]]
	}
	return ""
}

// usbAncestor is the path of the USB device a disk is in.
func usbAncestor(device string) string {
	for ; device != "/" && device != "."; device = path.Dir(device) {
		if usbDevice.MatchString(path.Base(device)) {
			return device
		}
	}
	return ""
}

// byPath names the port of a disk as udev's path_id does: pci-0000:00:1f.2-ata-1. It stays when the disk is changed.
func (t tree) byPath(device string) string {
	steps := strings.Split(strings.TrimPrefix(device, "/sys/devices/"), "/")
	pci := pciAncestor(device)
	if pci == "" {
		return platformPath(steps)
	}
	parts := []string{"pci-" + pci}
	below := steps[slices.Index(steps, pci)+1:]
	for i, step := range below {
		if m := usbInterface.FindStringSubmatch(step); m != nil {
			parts = append(parts, "usb-0:"+m[1])
		}
		if ataPort.MatchString(step) {
			port := device[:strings.Index(device, "/"+step+"/")+1] + step
			return strings.Join(append(parts, "ata-"+t.ataPort(port)), "-")
		}
		if hctlForm.MatchString(step) {
			return strings.Join(append(parts, t.scsiPort(device, below[:i+1])), "-")
		}
	}
	if strings.Contains(device, "/nvme/") {
		parts = append(parts, "nvme-"+t.text(blockDir+"/"+path.Base(device)+"/nsid"))
	}
	return strings.Join(parts, "-")
}

// ataPort is the number of a port on its controller; sysfs numbers ports over all controllers.
func (t tree) ataPort(dir string) string {
	name := path.Base(dir)
	if n, ok := t.number(dir + "/ata_port/" + name + "/port_no"); ok {
		return strconv.FormatInt(n, 10)
	}
	return strings.TrimPrefix(name, "ata")
}

// scsiPort is the address of a SCSI device on its controller. Host numbers are counted over all controllers in the
// order of loading, so that of this one is given from the lowest host of the same controller.
func (t tree) scsiPort(device string, steps []string) string {
	hctl := steps[len(steps)-1]
	if address := t.text(strings.SplitAfter(device, "/"+hctl+"/")[0] + "sas_address"); address != "" {
		return "sas-" + address + "-lun-" + hctl[strings.LastIndex(hctl, ":")+1:]
	}
	for _, step := range steps {
		m := scsiHost.FindStringSubmatch(step)
		if m == nil {
			continue
		}
		own, _ := strconv.Atoi(m[1])
		lowest := own
		for _, name := range t.names(device[:strings.Index(device, "/"+step+"/")]) {
			if m := scsiHost.FindStringSubmatch(name); m != nil {
				n, _ := strconv.Atoi(m[1])
				lowest = min(lowest, n)
			}
		}
		_, rest, _ := strings.Cut(hctl, ":")
		return fmt.Sprintf("scsi-%d:%s", own-lowest, rest)
	}
	return "scsi-" + hctl
}

// platformPath names a port that no PCI function leads to by the steps that do not depend on the order of loading.
func platformPath(steps []string) string {
	if len(steps) > 0 {
		steps = steps[:len(steps)-1] // the kernel name
	}
	steps = slices.DeleteFunc(slices.Clone(steps), func(s string) bool { return s == "platform" || unstable.MatchString(s) })
	return "platform-" + strings.Join(steps, "-")
}
