package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// NVM Express Base 2.0: admin commands (figure 138) and what Identify answers (section 5.17).
const (
	nvmeGetLog   = 0x02
	nvmeIdentify = 0x06
	nvmeFormat   = 0x80
	nvmeSanitize = 0x84

	cnsNamespace  = 0x00
	cnsController = 0x01
	cnsActive     = 0x02 // namespaces attached to the controller
	cnsAllocated  = 0x10 // those of the subsystem; not every controller knows it

	nvmePage  = 4096
	nvmeAll   = 0xffffffff // every namespace
	nvmeQuick = 10 * time.Second
	// Of a user data erase. The kernel resets a controller that is late, in the middle of it.
	nvmeFormatTime = 6 * time.Hour
)

// An nvmeCommand is an admin command as far as they are used here.
type nvmeCommand struct {
	opcode      uint8
	nsid, cdw10 uint32
	timeout     time.Duration
}

// An nvmeErase is how one disk erases itself.
type nvmeErase struct {
	command nvmeCommand
	detail  string
}

// planNVMe asks the controller which erase it has. It changes nothing. Format with a secure erase comes first, because it
// can be of one namespace only; that by forgetting a key comes before that of the cells, because it is at once.
func (d *diskWipe) planNVMe() error {
	if d.disk.own == nil {
		return errors.New("no commands reach it")
	}
	nsid, err := d.disk.own.namespace()
	if err != nil {
		return fmt.Errorf("ask for its namespace: %w", err)
	}
	if int(nsid) != d.entry.NSID {
		return fmt.Errorf("namespace %d is open; the disk that was found is namespace %d", nsid, d.entry.NSID)
	}
	id, err := d.nvmeIdentify(cnsController, 0)
	if err != nil {
		return err
	}
	oacs, fna, sanicap := binary.LittleEndian.Uint16(id[256:]), id[524], binary.LittleEndian.Uint32(id[328:])
	const canFormat, formatsAll, cryptographic = 1 << 1, 3, 1 << 2
	const sanitizesKeys, sanitizesBlocks = 1 << 0, 1 << 1
	wide := true
	switch {
	case oacs&canFormat != 0:
		wide = fna&formatsAll != 0
		d.nvme, err = d.planFormat(nsid, fna&cryptographic != 0)
	case sanicap&sanitizesKeys != 0:
		d.nvme = nvmeErase{nvmeCommand{nvmeSanitize, 0, 4, nvmeQuick}, "NVMe sanitize, cryptographic"}
	case sanicap&sanitizesBlocks != 0:
		d.nvme = nvmeErase{nvmeCommand{nvmeSanitize, 0, 2, nvmeQuick}, "NVMe sanitize, of all blocks"}
	default:
		return errors.New("its controller has neither Format nor Sanitize: use discard or overwrite")
	}
	if err != nil || !wide {
		return err
	}
	return d.allNamed()
}

// planFormat formats a namespace as it is formatted now (figure 189), with a secure erase.
func (d *diskWipe) planFormat(nsid uint32, cryptographic bool) (nvmeErase, error) {
	ns, err := d.nvmeIdentify(cnsNamespace, nsid)
	if err != nil {
		return nvmeErase{}, err
	}
	flbas, dps := uint32(ns[26]), uint32(ns[29])
	cdw10 := flbas&0xf | flbas>>4&1<<4 | dps&7<<5 | dps>>3&1<<8 | flbas>>5&3<<12
	erase, detail := uint32(1), "NVMe format, of all user data"
	if cryptographic {
		erase, detail = 2, "NVMe format, cryptographic"
	}
	return nvmeErase{nvmeCommand{nvmeFormat, nsid, cdw10 | erase<<9, nvmeFormatTime}, detail}, nil
}

// allNamed refuses an erase that would take namespaces that the order does not name.
func (d *diskWipe) allNamed() error {
	page, err := d.nvmeIdentify(cnsAllocated, 0)
	if err != nil {
		page, err = d.nvmeIdentify(cnsActive, 0)
	}
	if err != nil {
		return err
	}
	var others []uint32
	for ; len(page) > 0; page = page[4:] {
		if id := binary.LittleEndian.Uint32(page); id != 0 && id != uint32(d.entry.NSID) && !slices.Contains(d.siblings, id) {
			others = append(others, id)
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("its erase is one of all namespaces, and the order does not name namespaces %v: name them too, or use discard", others)
	}
	return nil
}

func (d *diskWipe) nvmeIdentify(cns, nsid uint32) ([]byte, error) {
	page := make([]byte, nvmePage)
	return page, d.nvmeSend(nvmeCommand{nvmeIdentify, nsid, cns, nvmeQuick}, page)
}

func (d *diskWipe) nvmeSend(c nvmeCommand, data []byte) error {
	status, err := d.disk.own.admin(c, data)
	if err == nil && status != 0 {
		err = nvmeRefusal(status)
	}
	if err != nil {
		return fmt.Errorf("NVMe command %02xh: %w", c.opcode, err)
	}
	return nil
}

// An nvmeRefusal is the status of a command that was not carried out: type and code (section 3.3.3.2.1).
type nvmeRefusal int

func (r nvmeRefusal) code() int { return int(r) & 0x7ff }

// nvmeAdvice says what to do about statuses that stay until somebody does.
var nvmeAdvice = map[int]string{
	0x001: "the controller does not know it: use discard or overwrite",
	0x015: "a security function locks the disk: unlock it, or revert it with the PSID on its label (sedutil-cli)",
	0x01c: "an earlier sanitize failed: sanitize it with the maker's tool",
	0x01d: "a sanitize is under way: wait for its end",
	0x020: "the namespace is write protected: clear that with nvme set-feature --feature-id 0x84",
	0x084: "a format is under way: wait for its end",
	0x286: "a security function locks the namespace: unlock it, or revert it with the PSID on its label (sedutil-cli)",
}

func (r nvmeRefusal) Error() string {
	s := fmt.Sprintf("the disk refuses it with status %03xh", r.code())
	if advice := nvmeAdvice[r.code()]; advice != "" {
		s += ": " + advice
	}
	return s
}

// eraseNVMe carries out what was planned.
func (d *diskWipe) eraseNVMe(ctx context.Context) error {
	d.detail = d.nvme.detail
	err := d.nvmeSend(d.nvme.command, nil)
	if err == nil && d.nvme.command.opcode == nvmeSanitize {
		err = d.awaitSanitize(ctx)
	}
	if err != nil {
		d.detail = ""
		return err
	}
	d.done.Add(d.disk.Size)
	return nil
}

// sanitizeEvery is how often a sanitize, which goes on by itself and over power cycles, is asked how far it is.
const sanitizeEvery = 2 * time.Second

// awaitSanitize reads the Sanitize Status log (section 5.16.1.25) until it tells the end.
func (d *diskWipe) awaitSanitize(ctx context.Context) error {
	const sanitizeLog, dwords = 0x81, 128
	const completed, underWay, failed, deallocated = 1, 2, 3, 4
	page := make([]byte, 4*dwords)
	for {
		if err := d.nvmeSend(nvmeCommand{nvmeGetLog, nvmeAll, (dwords-1)<<16 | sanitizeLog, nvmeQuick}, page); err != nil {
			return err
		}
		switch state := binary.LittleEndian.Uint16(page[2:]) & 7; state {
		case completed, deallocated:
			return nil
		case underWay:
			d.step.Store(fmt.Sprintf("sanitize %d %%", int(binary.LittleEndian.Uint16(page))*100>>16))
		case failed:
			return errors.New("the disk says that its sanitize failed: it takes no data until one succeeds; use the maker's tool")
		default:
			return fmt.Errorf("the disk says of its sanitize %d, which is no state of one that began", state)
		}
		if err := sleep(ctx, sanitizeEvery); err != nil {
			return err
		}
	}
}
