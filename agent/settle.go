package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// quietFor is how long no device must come or go before the disks count as settled.
const quietFor = 300 * time.Millisecond

// usbPatience is how long a USB storage interface may have no disk: usb-storage waits a second before it looks.
const usbPatience = 5 * time.Second

// A Settler waits for disks that appear late: behind USB, behind an NVMe controller that still resets.
type Settler struct {
	Root    string
	Console *Console
	Quiet   func() time.Duration // how long no device came or went
	Limit   time.Duration        // go on after so long
	Now     func() time.Time
}

// Wait returns when the disks have settled, or after Limit.
func (s *Settler) Wait(ctx context.Context) {
	began := s.Now()
	told := false
	for {
		passed := s.Now().Sub(began)
		reason := s.pending(passed)
		if reason == "" {
			return
		}
		if passed >= s.Limit {
			s.Console.Printf("not waiting any longer for disks: %s", reason)
			return
		}
		if !told && passed >= 2*time.Second {
			s.Console.Printf("waiting for disks: %s, at most %s", reason, seconds(s.Limit))
			told = true
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

// pending says what is still to come; "" when nothing is.
func (s *Settler) pending(passed time.Duration) string {
	if s.Quiet() < quietFor && s.late() {
		return "devices still appear"
	}
	if name := s.nvmeStarting(); name != "" {
		return "controller " + name + " is not ready"
	}
	if passed < usbPatience {
		if name := s.usbWithoutDisk(); name != "" {
			return "USB storage " + name + " has no disk yet"
		}
	}
	return ""
}

// lateBuses are those on which disks appear after their driver has been loaded. Elsewhere (ATA, SAS, virtio) the
// insertion of a driver does not end before its disks are there: do_init_module calls async_synchronize_full.
var lateBuses = []string{"sys/bus/usb/devices/*", "sys/class/nvme/*", "sys/class/mmc_host/*", "sys/class/fc_host/*",
	"sys/class/iscsi_session/*", "sys/bus/firewire/devices/*", "sys/bus/vmbus/devices/*", "sys/bus/xen/devices/*"}

// late says whether a disk may still come without a driver being loaded for it.
func (s *Settler) late() bool {
	return slices.ContainsFunc(lateBuses, func(bus string) bool { return len(s.glob(bus)) > 0 })
}

// nvmeStarting names an NVMe controller that is on its way to "live".
func (s *Settler) nvmeStarting() string {
	for _, file := range s.glob("sys/class/nvme/nvme*/state") {
		switch state := readLine(file); state {
		case "new", "resetting", "connecting":
			return filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// usbWithoutDisk names a USB interface of class 08 (mass storage) below which no block device is.
func (s *Settler) usbWithoutDisk() string {
	for _, file := range s.glob("sys/bus/usb/devices/*/bInterfaceClass") {
		if readLine(file) != "08" {
			continue
		}
		dir := filepath.Dir(file)
		hosts, _ := filepath.Glob(filepath.Join(dir, "host*/target*/*/block/*"))
		if len(hosts) == 0 {
			return filepath.Base(dir)
		}
	}
	return ""
}

func (s *Settler) glob(pattern string) []string {
	files, _ := filepath.Glob(filepath.Join(s.Root, pattern)) // the patterns are constants
	return files
}

// readLine reads a small file of sysfs; "" when it cannot be read.
func readLine(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
