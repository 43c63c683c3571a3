package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"muster/agent/facts"
)

// fakeCommands is a disk's own commands: an NVMe controller as the specification has it, as far as an erase asks, and a
// discard after which the disk gives garbage, as it may.
type fakeCommands struct {
	disk       *Disk
	nsid       uint32
	oacs       uint16
	fna        byte
	sanicap    uint32
	flbas, dps byte
	spaces     []uint32      // of the subsystem; nil: the controller does not know the list, and there is one
	status     map[uint8]int // that an opcode is refused with
	states     []uint16      // of a sanitize, one for each look; the last stays
	sent       []string      // what changes the disk
}

func (f *fakeCommands) discard(off, n int64, secure bool) error {
	f.sent = append(f.sent, fmt.Sprintf("discard %d %d %t", off, n, secure))
	return f.garbage(off, n)
}

// garbage fills a part of the disk with what nobody wrote.
func (f *fakeCommands) garbage(off, n int64) error {
	_, err := io.Copy(io.NewOffsetWriter(f.disk, off), io.LimitReader(ones{}, n))
	return err
}

type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 0xff
	}
	return len(p), nil
}

func (f *fakeCommands) namespace() (uint32, error) { return f.nsid, nil }

func (f *fakeCommands) admin(c nvmeCommand, data []byte) (int, error) {
	if s := f.status[c.opcode]; s != 0 {
		return s, nil
	}
	switch c.opcode {
	case nvmeIdentify:
		return f.identify(c, data), nil
	case nvmeFormat:
		f.sent = append(f.sent, fmt.Sprintf("format %d %#x", c.nsid, c.cdw10))
		return 0, f.garbage(0, f.disk.Size)
	case nvmeSanitize:
		f.sent = append(f.sent, fmt.Sprintf("sanitize %d %#x", c.nsid, c.cdw10))
		return 0, f.garbage(0, f.disk.Size)
	case nvmeGetLog:
		if c.nsid != nvmeAll || c.cdw10 != 127<<16|0x81 {
			return 0x4109, nil // invalid log page, do not retry
		}
		binary.LittleEndian.PutUint16(data[2:], f.states[0])
		f.states = f.states[min(1, len(f.states)-1):]
		return 0, nil
	}
	return 0x4001, nil
}

func (f *fakeCommands) identify(c nvmeCommand, page []byte) int {
	switch c.cdw10 {
	case cnsController:
		binary.LittleEndian.PutUint16(page[256:], f.oacs)
		binary.LittleEndian.PutUint32(page[328:], f.sanicap)
		page[524] = f.fna
	case cnsNamespace:
		page[26], page[29] = f.flbas, f.dps
	case cnsActive:
		binary.LittleEndian.PutUint32(page, f.nsid)
	case cnsAllocated:
		if f.spaces == nil {
			return 0x4002
		}
		for i, id := range f.spaces {
			binary.LittleEndian.PutUint32(page[4*i:], id)
		}
	}
	return 0
}

// What an NVMe disk is told, by what its controller can; nothing that takes more than the order names.
func TestNVMeErase(t *testing.T) {
	const format, sanitize = 2, 0
	for _, row := range []struct {
		name    string
		method  string
		disk    fakeCommands
		both    bool // the order names namespace 2 of the same subsystem too
		sent    string
		message string // "wiped sda (" is left out
	}{
		{"a format of user data keeps the block format", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, flbas: 0x31, dps: 0xb}, false,
			"format 1 0x1371", "secure: NVMe format, of all user data)"},
		{"a cryptographic format where there is one", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, fna: 4}, false,
			"format 1 0x400", "secure: NVMe format, cryptographic)"},
		{"auto takes it", facts.WipeAuto, fakeCommands{nsid: 1, oacs: format, fna: 4}, false,
			"format 1 0x400", "secure: NVMe format, cryptographic)"},
		{"a format of all namespaces of which one is not named", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, fna: 2, spaces: []uint32{1, 2}}, false,
			"", "disk sda: its erase is one of all namespaces, and the order does not name namespaces [2]: name them too, or use discard; no disk was touched"},
		{"auto discards then", facts.WipeAuto, fakeCommands{nsid: 1, oacs: format, fna: 1, spaces: []uint32{1, 2}}, false,
			"discard 0 35651584 false", "discard)"},
		{"a format of all namespaces that are named", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, fna: 3, spaces: []uint32{1, 2}}, true,
			"format 1 0x200", "secure: NVMe format, of all user data), sdb (secure: NVMe format, of all user data)"},
		{"a controller of one namespace that knows no list", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, fna: 3}, false,
			"format 1 0x200", "secure: NVMe format, of all user data)"},
		{"a sanitize where there is no format", facts.WipeSecure, fakeCommands{nsid: 1, oacs: sanitize, sanicap: 3, states: []uint16{2, 2, 1}}, false,
			"sanitize 0 0x4", "secure: NVMe sanitize, cryptographic)"},
		{"a sanitize of blocks", facts.WipeSecure, fakeCommands{nsid: 1, sanicap: 2, states: []uint16{2, 4}}, false,
			"sanitize 0 0x2", "secure: NVMe sanitize, of all blocks)"},
		{"a sanitize takes all namespaces", facts.WipeSecure, fakeCommands{nsid: 1, sanicap: 2, spaces: []uint32{1, 2, 7}}, true,
			"", "disk sda: its erase is one of all namespaces, and the order does not name namespaces [7]: name them too, or use discard; disk sdb: its erase is one of all namespaces, and the order does not name namespaces [7]: name them too, or use discard; no disk was touched"},
		{"a sanitize that fails", facts.WipeSecure, fakeCommands{nsid: 1, sanicap: 2, states: []uint16{2, 3}}, false,
			"sanitize 0 0x2", "disk sda (naa.sda): secure: the disk says that its sanitize failed: it takes no data until one succeeds; use the maker's tool"},
		{"neither", facts.WipeSecure, fakeCommands{nsid: 1}, false,
			"", "disk sda: its controller has neither Format nor Sanitize: use discard or overwrite; no disk was touched"},
		{"a disk that is locked", facts.WipeSecure, fakeCommands{nsid: 1, oacs: format, status: map[uint8]int{nvmeFormat: 0x4015}}, false,
			"", "disk sda (naa.sda): secure: NVMe command 80h: the disk refuses it with status 015h: a security function locks the disk: unlock it, or revert it with the PSID on its label (sedutil-cli)"},
		{"auto goes on with discard and says so", facts.WipeAuto, fakeCommands{nsid: 1, oacs: format, status: map[uint8]int{nvmeFormat: 0x4020}}, false,
			"discard 0 35651584 false", "discard; not secure: NVMe command 80h: the disk refuses it with status 020h: the namespace is write protected: clear that with nvme set-feature --feature-id 0x84)"},
		{"a controller that does not say what it is", facts.WipeSecure, fakeCommands{nsid: 1, status: map[uint8]int{nvmeIdentify: 0x6}}, false,
			"", "disk sda: NVMe command 06h: the disk refuses it with status 006h; no disk was touched"},
		{"T52: another namespace behind the name", facts.WipeSecure, fakeCommands{nsid: 3, oacs: format}, false,
			"", "disk sda: namespace 3 is open; the disk that was found is namespace 1; no disk was touched"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWipeCase(t, row.method)
				first, second := row.disk, row.disk
				first.spaces, second.nsid = row.disk.spaces, 2
				for i, f := range []*fakeCommands{&first, &second} {
					d := &c.disks[i]
					d.Transport, d.SubsysNQN, d.NSID = "nvme", "nqn.test", i+1
					put(t, c.a.path("sys/block/"+d.Name+"/queue/discard_max_bytes"), "4096\n")
					c.fault[d.Name] = func(open *Disk) { f.disk, open.own = open, f }
				}
				if !row.both {
					c.order.Wipe.Disks = c.order.Wipe.Disks[:1]
				}
				got := c.run(t)
				want := row.message
				if strings.HasPrefix(want, "secure:") || strings.HasPrefix(want, "discard") {
					want = "wiped sda (" + want
				}
				if done := strings.HasPrefix(want, "wiped"); got.Message != want || done != (got.Status == facts.StatusDone) {
					t.Errorf("report %s %q\nwant %q", got.Status, got.Message, want)
				}
				if sent := strings.Join(first.sent, ", "); sent != row.sent {
					t.Errorf("the disk was told %q; want %q", sent, row.sent)
				}
				if !row.both && len(second.sent) > 0 || c.left(t, "sdc") != untouched {
					t.Errorf("a disk that the order does not name was told %q", second.sent)
				}
				if strings.HasPrefix(want, "wiped") { // the ends, after the disk gave back garbage
					d := &diskWipe{agent: c.a, disk: first.disk, spots: signatureSpots(c.disks[0], wipeDiskSize)}
					if disk, err := c.a.OpenDisk("sda"); err != nil {
						t.Fatal(err)
					} else {
						d.disk = disk
						defer disk.Close()
					}
					if err := d.readBack(t.Context(), d.spots); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
