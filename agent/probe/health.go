package probe

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
)

// healthTimeout is how long the kernel waits for one command. It is shorter than the patience with a disk in the agent,
// so that a disk that does not answer is named by the kernel's own error, and long enough for one that is at work: the
// kernel resets what is late.
const healthTimeout = 5 * time.Second

// A device answers commands that read and change nothing. Behind that of the running machine stand two ioctls; a test
// puts one of its own in its place.
type device interface {
	// nvme sends an admin command that gives n bytes.
	nvme(opcode byte, nsid, cdw10 uint32, n int) ([]byte, error)
	// scsi sends a command that gives at most n bytes. An error means that the device was not reached; what it says
	// against the command is in the answer.
	scsi(cdb []byte, n int) (scsiAnswer, error)
	close()
}

// errNotTold is an answer that says: I do not tell. It is no fault.
var errNotTold = errors.New("not told")

// health asks every disk how it is. Below another root there is nobody to ask: a tree answers no commands, and the
// disks of this machine are not those of the tree.
func health(ctx context.Context, m machine) (section, error) {
	nothing := func(*facts.Facts, *facts.State) {}
	if m.device == nil {
		return nothing, nil
	}
	names, err := m.diskNames()
	if err != nil {
		return nothing, err
	}
	answers, errs := each(ctx, m, names, func(name string) (healthAnswer, error) { return m.diskHealth(name), nil })
	all := map[string]facts.DiskHealth{}
	for _, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.name, a.err))
		}
		if a.told && len(all) < facts.MaxStateDisks {
			all[a.id] = worse(all[a.id], a.health)
		}
	}
	return func(_ *facts.Facts, s *facts.State) {
		if len(all) > 0 {
			s.Disks = all
		}
	}, errors.Join(errs...)
}

// worse is the one of two that share an id, paths to one disk or bridges that repeat a serial, that is failing.
func worse(a, b facts.DiskHealth) facts.DiskHealth {
	if a.Health == facts.HealthFailing {
		return a
	}
	return b
}

// A healthAnswer may hold both: what a disk told, and why not the rest.
type healthAnswer struct {
	name, id string
	health   facts.DiskHealth
	told     bool
	err      error
}

// diskHealth asks one disk, in the language that it speaks.
func (m machine) diskHealth(name string) healthAnswer {
	d := m.disk(name)
	ask := m.healthReader(d)
	if noDisk(d) || ask == nil {
		return healthAnswer{}
	}
	a := healthAnswer{name: name, id: d.ID}
	dev, err := m.device(name)
	if err != nil {
		a.err = err
		return a
	}
	defer dev.close()
	a.err = ask(dev, &a.health)
	a.told = !reflect.ValueOf(a.health).IsZero()
	if errors.Is(a.err, errNotTold) {
		a.err = nil
	}
	return a
}

// healthReader chooses the language; nil for disks that have none, as virtio, Xen and memory cards, and for those
// behind USB: bridges there translate what they like, and some stop answering for good when asked.
func (m machine) healthReader(d facts.Disk) func(device, *facts.DiskHealth) error {
	switch {
	case d.Transport == "usb":
		return nil
	case strings.HasPrefix(d.Name, "nvme"):
		return readNVMeHealth
	case !strings.HasPrefix(d.Name, "sd"):
		return nil
	}
	dir := blockDir + "/" + d.Name + "/device/"
	if id := ataIdentify(m.bytes(dir + "vpd_pg89")); id != nil || m.text(dir+"vendor") == "ATA" {
		return func(dev device, h *facts.DiskHealth) error { return readATAHealth(dev, id, d, h) }
	}
	return readSCSIHealth
}

// blank is true for bytes that nobody wrote: all the same.
func blank(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != b[0] })
}

// within is a pointer to n, or nil when no disk can be so.
func within(n, low, high int64) *int64 {
	if n < low || n > high {
		return nil
	}
	return &n
}
