package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// The commands a disk may be sent, as it sees them. There are no others: a test fails on one that is not here.
const (
	askNVMe   = "02 ffffffff 007f0002"
	askPower  = "8506200000000000000000000000e500"
	askStatus = "85062000da00000000004f00c200b000"
	askSMART  = "85080e00d000010000004f00c200b000"
	askPages  = "4d00400000000000fc00"
)

// askLog is ATA READ LOG EXT of a page of the device statistics, askPage LOG SENSE of a SCSI log page.
func askLog(page int) string  { return fmt.Sprintf("85090e00000001000400%02x0000002f00", page) }
func askPage(page int) string { return fmt.Sprintf("4d00%02x0000000000fc00", 0x40|page) }

// A scripted disk answers commands, each in hexadecimal. What is not in it is refused as an unknown command is.
type scripted map[string]scriptedAnswer

type scriptedAnswer struct {
	data, sense string
	err         error
	hang        <-chan struct{}
}

// awake is how a healthy ATA disk answers the questions without data.
func awake(more scripted) scripted {
	s := scripted{
		askPower:  {sense: ataSense("00 00ff 0000 0000 0000 00 50")},
		askStatus: {sense: "72 01 00 1d 00 00 00 0e 09 0c 00 00 00 00 00 00 00 4f 00 c2 00 50"},
	}
	for command, answer := range more {
		s[command] = answer
	}
	return s
}

// ataSense is sense with an ATA Status Return descriptor: error, count, LBA low, mid and high, device, status.
func ataSense(registers string) string { return "72 01 00 1d 00 00 00 0e 09 0c 00" + registers }

// disk opens the script for commands, and notes them.
func (s scripted) disk(asked *[]string) device {
	return &scriptedDisk{mu: new(sync.Mutex), script: s, asked: asked}
}

type scriptedDisk struct {
	mu     *sync.Mutex // of asked, which is read while a disk hangs
	script scripted
	asked  *[]string
	closed bool
}

func (d *scriptedDisk) close() { d.closed = true }

func (d *scriptedDisk) answer(command string) (scriptedAnswer, bool) {
	d.mu.Lock()
	if d.asked != nil {
		*d.asked = append(*d.asked, command)
	}
	a, ok := d.script[command]
	d.mu.Unlock()
	if a.hang != nil {
		<-a.hang
	}
	return a, ok
}

func (d *scriptedDisk) nvme(opcode byte, nsid, cdw10 uint32, n int) ([]byte, error) {
	a, ok := d.answer(fmt.Sprintf("%02x %08x %08x", opcode, nsid, cdw10))
	switch {
	case a.err != nil:
		return nil, a.err
	case !ok:
		return nil, nvmeStatus(0x4001) // invalid opcode, do not retry
	}
	return []byte(unhex(a.data)), nil
}

func (d *scriptedDisk) scsi(cdb []byte, n int) (scsiAnswer, error) {
	a, ok := d.answer(hex.EncodeToString(cdb))
	switch {
	case a.err != nil:
		return scsiAnswer{}, a.err
	case !ok:
		return scsiAnswer{2, []byte(unhex("70 00 05 00 00 00 00 0a 00 00 00 00 20 00 00 00 00 00")), nil}, nil
	case a.sense != "":
		return scsiAnswer{2, []byte(unhex(a.sense)), []byte(unhex(a.data))}, nil
	}
	data := []byte(unhex(a.data))
	return scsiAnswer{0, nil, data[:min(n, len(data))]}, nil
}

func num(n int64) *int64 { return &n }

// sector is 512 bytes with some of them set.
func sector(at map[int64]string) []byte {
	m := newImage(512)
	for offset, s := range at {
		m.at[offset] = unhex(s)
	}
	return m.bytes()
}

// smartData is SMART data with a right sum.
func smartData(attributes ...string) string {
	b := sector(map[int64]string{0: "0100", 2: strings.Join(attributes, "")})
	sum := byte(0)
	for _, c := range b {
		sum += c
	}
	b[511] = -sum
	return hex.EncodeToString(b)
}

func page(at map[int64]string) string { return hex.EncodeToString(sector(at)) }

// What a disk tells, in each of the three languages, and what becomes of answers that are cut, false or missing.
func TestDiskHealth(t *testing.T) {
	yes, no := true, false
	hdd := facts.Disk{Name: "sda", Model: "PLANTEDHDD", Rotational: &yes, LogicalBlockBytes: 4096}
	ssd := facts.Disk{Name: "sda", Model: "Samsung SSD 860", Rotational: &no}
	logging := make(identify, 512)
	copy(logging[2*84:], "\x20\x40")
	off := make(identify, 512)
	copy(off[2*82:], "\x21\x40\x00\x74")
	copy(off[2*87:], "\x00\x41")
	absent := make(identify, 512)
	copy(absent[2*82:], "\x20\x40\x00\x74")
	ata := func(id identify, d facts.Disk) func(device, *facts.DiskHealth) error {
		return func(dev device, h *facts.DiskHealth) error { return readATAHealth(dev, id, d, h) }
	}
	ok := facts.DiskHealth{Health: facts.HealthOK}
	for _, tt := range []struct {
		name   string
		read   func(device, *facts.DiskHealth) error
		script scripted
		want   facts.DiskHealth
		err    string // "" none; "not told" no fault
	}{
		{"NVMe in good health", readNVMeHealth, scripted{askNVMe: {data: page(map[int64]string{
			0: "00 4301 64 0a 03", 32: "e803000000000000", 48: "d007000000000000", 112: "0c", 128: "3930", 144: "05", 160: "00"})}},
			facts.DiskHealth{Health: "ok", WearPercent: num(3), SparePercent: num(100), TempC: num(50), PowerOnHours: num(12345), PowerCycles: num(12),
				UnsafeShutdowns: num(5), MediaErrors: num(0), ReadBytes: num(512000000), WrittenBytes: num(1024000000)}, ""},
		{"NVMe that is worn out and warns of everything", readNVMeHealth, scripted{askNVMe: {data: page(map[int64]string{0: "ff 6b01 02 0a ff"})}},
			facts.DiskHealth{Health: "failing", Warnings: []string{"spare", "temperature", "reliability", "read_only", "backup", "pmr", "warning"},
				WearPercent: num(255), SparePercent: num(2), TempC: num(90), PowerOnHours: num(0), PowerCycles: num(0), UnsafeShutdowns: num(0),
				MediaErrors: num(0), ReadBytes: num(0), WrittenBytes: num(0)}, ""},
		{"NVMe of QEMU 7.2, which counts no spare, as a guest read it", readNVMeHealth, scripted{askNVMe: {data: page(map[int64]string{0: "00 4301", 32: "02", 64: "08"})}},
			facts.DiskHealth{Health: "ok", WearPercent: num(0), TempC: num(50), PowerOnHours: num(0), PowerCycles: num(0), UnsafeShutdowns: num(0),
				MediaErrors: num(0), ReadBytes: num(1024000), WrittenBytes: num(0)}, ""},
		{"NVMe whose figures can not be", readNVMeHealth, scripted{askNVMe: {data: page(map[int64]string{
			0: "00 ffff c8 0a 00", 32: "ffffffffffffff7f", 48: "0100000000000000 01", 112: "ffffffffffffffff", 128: "ffffffffffffff7f"})}},
			facts.DiskHealth{Health: "ok", WearPercent: num(0), PowerOnHours: num(1<<63 - 1), UnsafeShutdowns: num(0), MediaErrors: num(0)}, ""},
		{"NVMe of all ones", readNVMeHealth, scripted{askNVMe: {data: strings.Repeat("ff", 512)}}, facts.DiskHealth{}, "health log: nobody filled it in"},
		{"NVMe of all zeros", readNVMeHealth, scripted{askNVMe: {data: strings.Repeat("00", 512)}}, facts.DiskHealth{}, "health log: nobody filled it in"},
		{"NVMe cut short", readNVMeHealth, scripted{askNVMe: {data: "00430164"}}, facts.DiskHealth{}, "health log: 4 bytes of 512"},
		{"NVMe that refuses", readNVMeHealth, scripted{}, facts.DiskHealth{}, "status 001"},
		{"NVMe that is gone", readNVMeHealth, scripted{askNVMe: {err: syscall.ENODEV}}, facts.DiskHealth{}, "no such device"},

		{"ATA with nothing but a status", ata(nil, hdd), awake(nil), ok, "not told"},
		{"ATA that will fail", ata(nil, hdd), awake(scripted{askStatus: {sense: ataSense("00 0000 0000 00f4 002c 00 50")}}),
			facts.DiskHealth{Health: "failing", Warnings: []string{"threshold"}}, "not told"},
		{"ATA status in fixed sense", ata(nil, hdd), awake(scripted{askStatus: {sense: "70 00 01 00 50 00 00 0a 00 00 f4 2c 00 1d 00 00 00 00"}}),
			facts.DiskHealth{Health: "failing", Warnings: []string{"threshold"}}, "not told"},
		{"fixed sense about something else has no registers", ata(nil, hdd), awake(scripted{askStatus: {sense: "70 00 01 00 50 00 00 0a 00 00 f4 2c 17 01 00 00 00 00"}}),
			facts.DiskHealth{}, "ATA command b0: status 02, sense 1/17/01"},
		{"ATA with registers of neither", ata(nil, hdd), awake(scripted{askStatus: {sense: ataSense("00 0000 0000 00ff 00ff 00 50")}}),
			facts.DiskHealth{}, "SMART RETURN STATUS: registers ff ff"},
		{"ATA with a descriptor that is cut", ata(nil, hdd), awake(scripted{askStatus: {sense: "72 01 00 1d 00 00 00 0e 09 0c 00 00 00 00"}}),
			facts.DiskHealth{}, "ATA command b0: status 02, sense 1/00/1d"},
		{"ATA that aborts every command", ata(nil, hdd), scripted{askPower: {sense: ataSense("04 0000 0000 0000 0000 00 51")},
			askStatus: {sense: ataSense("04 0000 0000 004f 00c2 00 51")}, askSMART: {sense: "72 0b 00 00 00 00 00 00"}}, facts.DiskHealth{}, "not told"},
		{"ATA behind something that passes no ATA", ata(nil, hdd), scripted{}, facts.DiskHealth{}, "not told"},
		{"ATA that sleeps is left alone", ata(nil, hdd), scripted{askPower: {sense: ataSense("00 0000 0000 0000 0000 00 50")}, askStatus: {err: syscall.EIO}},
			facts.DiskHealth{Asleep: true}, ""},
		{"ATA that idles is awake", ata(nil, hdd), awake(scripted{askPower: {sense: ataSense("00 0081 0000 0000 0000 00 50")}}), ok, "not told"},
		{"ATA with a fault", ata(nil, hdd), awake(scripted{askPower: {sense: ataSense("10 0000 0000 0000 0000 00 71")}}),
			facts.DiskHealth{}, "ATA command e5: status 71, error 10"},
		{"ATA whose SMART is off", ata(off, hdd), awake(scripted{askPower: {err: syscall.EIO}}), facts.DiskHealth{}, "not told"},
		{"ATA without SMART", ata(absent, hdd), awake(scripted{askPower: {err: syscall.EIO}}), facts.DiskHealth{}, "not told"},
		{"ATA that stops answering", ata(nil, hdd), awake(scripted{askSMART: {err: hostStatus(3)}}), ok, "no answer in time (host status 03)"},
		{"ATA attributes", ata(nil, hdd), awake(scripted{askSMART: {data: smartData(
			"05 3300 24 24 0800 0000 0100 00", "09 3200 64 64 10270000 ab01 00", "0c 3200 64 64 2a0000000000 00", "be 2200 45 3c 1f00 1f1f 0000 00",
			"c2 2200 45 3c fb00 f628 0000 00", "c5 1200 64 64 020000000000 00", "c6 1000 64 64 010000000000 00", "b1 1300 5f 5f 640000000000 00")}}),
			facts.DiskHealth{Health: "ok", ReallocatedSectors: num(8), PowerOnHours: num(10000), PowerCycles: num(42), TempC: num(-5),
				PendingSectors: num(2), UncorrectableSectors: num(1)}, ""},
		{"SATA of QEMU 7.2, without logs, as a guest read it", ata(logging, hdd), awake(scripted{askSMART: {data: smartData(
			"01 0300 64 64 000000000000 00", "03 0300 64 64 100000000000 00", "04 0200 64 64 640000000000 00", "05 0300 64 64 000000000000 00",
			"09 0300 64 64 010000000000 00", "0c 0300 64 64 000000000000 00", "be 0300 45 45 1f001f1f0000 00")},
			askLog(0): {sense: "70 00 0b 00000000 0a 04410001 00 00 00 00 8004"}}),
			facts.DiskHealth{Health: "ok", ReallocatedSectors: num(0), PowerOnHours: num(1), PowerCycles: num(0), TempC: num(31)}, "not told"},
		{"ATA wear is told by an attribute of that maker only", ata(nil, ssd), awake(scripted{askSMART: {data: smartData(
			"b1 1300 5f 5f 640000000000 00", "e7 3200 0a 0a 0a0000000000 00", "e9 3200 0a 0a 0a0000000000 00")}}),
			facts.DiskHealth{Health: "ok", WearPercent: num(5)}, ""},
		{"ATA without a sensor", ata(nil, ssd), awake(scripted{askSMART: {data: smartData("c2 2200 64 64 000000000000 00")}}), ok, ""},
		{"ATA wear that is no percentage", ata(nil, ssd), awake(scripted{askSMART: {data: smartData("b1 1300 c8 c8 640000000000 00")}}), ok, ""},
		{"ATA attributes with a wrong sum keep the status", ata(nil, hdd), awake(scripted{askSMART: {data: page(map[int64]string{2: "05 3300 24 24 08"})}}),
			ok, "SMART data: the sum of the bytes is 88, not 00"},
		{"ATA attributes of all ones, whose sum is right", ata(nil, hdd), awake(scripted{askSMART: {data: strings.Repeat("ff", 512)}}), ok, "SMART data: nobody filled it in"},
		{"ATA attributes of all zeros, whose sum is right", ata(nil, hdd), awake(scripted{askSMART: {data: strings.Repeat("00", 512)}}), ok, "SMART data: nobody filled it in"},
		{"ATA attributes cut short", ata(nil, hdd), awake(scripted{askSMART: {data: "0100"}}), ok, "ATA command b0: 2 bytes of 512"},
		{"ATA statistics win over attributes", ata(logging, hdd), awake(scripted{
			askSMART:  {data: smartData("05 3300 24 24 0800 0000 0000 00", "09 3200 64 64 102700000000 00", "c2 2200 45 3c 1f00 0000 0000 00")},
			askLog(0): {data: page(map[int64]string{0: "0100 00", 8: "06 00 01 03 04 05 07"})},
			askLog(1): {data: page(map[int64]string{0: "0200 01", 8: "0c000000 000000c0", 16: "39300000 000000c0", 24: "e8030000 000000c0", 40: "d0070000 00000080"})},
			askLog(3): {data: page(map[int64]string{0: "0100 03", 32: "09000000 000000c0"})},
			askLog(4): {data: page(map[int64]string{0: "0100 04", 8: "07000000 000000d0"})},
			askLog(5): {data: page(map[int64]string{0: "0100 05", 8: "f6000000 000000c0"})},
			askLog(7): {data: page(map[int64]string{0: "0100 07", 8: "65ff0000 000000c0"})}}),
			facts.DiskHealth{Health: "ok", WearPercent: num(101), TempC: num(-10), PowerOnHours: num(12345), PowerCycles: num(12), WrittenBytes: num(4096000),
				ReallocatedSectors: num(9), MediaErrors: num(7)}, ""},
		{"ATA statistics that are another page", ata(logging, hdd), awake(scripted{
			askLog(0): {data: page(map[int64]string{0: "0100 00", 8: "02 00 05"})}, askLog(5): {data: page(map[int64]string{0: "0100 07"})}}),
			ok, "device statistics, page 5: it says that it is page 7"},
		{"ATA statistics that list more pages than there is room for", ata(logging, hdd), awake(scripted{
			askLog(0): {data: page(map[int64]string{0: "0100 00", 8: "ff"})}}), ok, ""},
		{"ATA statistics that nobody filled in", ata(logging, hdd), awake(scripted{askLog(0): {data: strings.Repeat("00", 512)}}), ok,
			"device statistics, page 0: nobody filled it in"},

		{"SAS that is well", readSCSIHealth, scripted{
			askPages:      {data: "00 00 0008 00 02 03 05 0d 11 15 2f"},
			askPage(0x2f): {data: "2f 00 0008 0000 03 04 00 00 26 00"},
			askPage(0x0d): {data: "0d 00 000c 0000 03 02 00 27 0001 03 02 00 41"},
			askPage(0x11): {data: "11 00 0008 0001 03 04 00000007"},
			askPage(0x15): {data: "15 00 0014 0000 03 10 000a4cb8 00 00 0000 0000 0000 0000 0000"},
			askPage(0x02): {data: "02 00 0018 0005 03 08 0000000000001000 0006 03 08 0000000000000001"},
			askPage(0x03): {data: "03 00 0008 0006 03 04 00000002"},
		}, facts.DiskHealth{Health: "ok", WearPercent: num(7), TempC: num(39), PowerOnHours: num(11250), MediaErrors: num(3)}, ""},
		{"SAS that foresees its end", readSCSIHealth, scripted{askPages: {data: "00 00 0002 00 2f"}, askPage(0x2f): {data: "2f 00 0008 0000 03 04 5d 10 ff 00"}},
			facts.DiskHealth{Health: "failing", Warnings: []string{"predicted"}}, ""},
		{"SAS that only tests the prediction", readSCSIHealth, scripted{askPages: {data: "00 00 0001 2f"}, askPage(0x2f): {data: "2f 00 0008 0000 03 04 5d ff 00 00"}},
			facts.DiskHealth{}, ""},
		{"SAS that is too hot", readSCSIHealth, scripted{askPages: {data: "00 00 0001 2f"}, askPage(0x2f): {data: "2f 00 0008 0000 03 04 0b 01 50 00"}},
			facts.DiskHealth{Health: "failing", Warnings: []string{"temperature"}, TempC: num(80)}, ""},
		{"SAS with pages longer than what was asked for, parameters without room, and a sensor that is broken", readSCSIHealth, scripted{
			askPages:      {data: "00 00 ffff 0d 11"},
			askPage(0x0d): {data: "0d 00 ffff 0000 03 02 00 ff 0001 03 ff 00"},
			askPage(0x11): {data: "11 00 0004 0001 03 04 00000007"},
		}, facts.DiskHealth{}, ""},
		{"SAS that gives another page", readSCSIHealth, scripted{askPages: {data: "00 00 0001 0d"}, askPage(0x0d): {data: "2f 00 0006 0000 03 02 00 27"}},
			facts.DiskHealth{}, "LOG SENSE page 0d: another page, or none, in 10 bytes"},
		{"SAS of all ones", readSCSIHealth, scripted{askPages: {data: strings.Repeat("ff", 252)}}, facts.DiskHealth{}, "LOG SENSE page 00: another page, or none, in 252 bytes"},
		{"SAS of all zeros", readSCSIHealth, scripted{askPages: {data: strings.Repeat("00", 252)}}, facts.DiskHealth{}, ""},
		{"SCSI without log pages", readSCSIHealth, scripted{}, facts.DiskHealth{}, "not told"},
		{"SCSI that is stopped", readSCSIHealth, scripted{askPages: {sense: "72 02 04 02 00 00 00 00"}}, facts.DiskHealth{}, "not told"},
		{"SCSI that lists a page and does not have it", readSCSIHealth, scripted{askPages: {data: "00 00 0002 0d 2f"}, askPage(0x2f): {data: "2f 00 0008 0000 03 04 00 00 26 00"}},
			facts.DiskHealth{Health: "ok", TempC: num(38)}, ""},
		{"SCSI with a broken medium", readSCSIHealth, scripted{askPages: {sense: "72 04 44 00 00 00 00 00"}}, facts.DiskHealth{}, "LOG SENSE page 00: status 02, sense 4/44/00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got facts.DiskHealth
			err := tt.read(tt.script.disk(nil), &got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			switch said := fmt.Sprint(err); {
			case err == nil && tt.err != "", err != nil && said != tt.err:
				t.Errorf("error %v; want %q", err, tt.err)
			}
			state := facts.State{Disks: map[string]facts.DiskHealth{"a": got}}
			if err := state.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// plantedHealth are the disks of the planted machine.
func plantedHealth() map[string]scripted {
	nvme := scripted{askNVMe: {data: page(map[int64]string{0: "04 4301 64"})}}
	return map[string]scripted{
		"sda":     awake(scripted{askSMART: {data: smartData("09 3200 64 64 010000000000 00", "be 2200 45 3c 1f00 1f1f 0000 00")}}),
		"sdb":     {},
		"sdc":     {askPages: {data: "00 00 0001 2f"}, askPage(0x2f): {data: "2f 00 0008 0000 03 04 00 00 26 00"}},
		"nvme0n1": nvme, "nvme0n2": nvme,
	}
}

// lookWith looks at the planted machine with disks that answer, and says what each was asked.
func lookWith(t *testing.T, disks map[string]scripted, deadline time.Duration) (Result, map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	asked := map[string]*[]string{}
	r := Run(context.Background(), Options{Root: plantedMachine(t), Deadline: deadline, Only: []string{"disks", "state", "health"},
		device: func(name string) (device, error) {
			script, ok := disks[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: "/dev/" + name, Err: syscall.EACCES}
			}
			mu.Lock()
			defer mu.Unlock()
			asked[name] = new([]string)
			return &scriptedDisk{mu: &mu, script: script, asked: asked[name]}, nil
		}})
	all := map[string][]string{}
	mu.Lock()
	defer mu.Unlock()
	for name, list := range asked {
		all[name] = *list
	}
	return r, all
}

func TestHealthOfThePlantedMachine(t *testing.T) {
	r, asked := lookWith(t, plantedHealth(), patient)
	nvme := facts.DiskHealth{Health: "failing", Warnings: []string{"reliability"}, WearPercent: num(0), SparePercent: num(100), TempC: num(50), PowerOnHours: num(0),
		PowerCycles: num(0), UnsafeShutdowns: num(0), MediaErrors: num(0), ReadBytes: num(0), WrittenBytes: num(0)}
	want := map[string]facts.DiskHealth{
		"naa.5000c500a1b2c3d4":             {Health: "ok", TempC: num(31), PowerOnHours: num(1)},
		"naa.5002538a00000001":             {Health: "ok", TempC: num(38)},
		"nvme-QEMU_NVMe_Ctrl-NVMESER01-n1": nvme, "nvme-QEMU_NVMe_Ctrl-NVMESER01-n2": nvme,
	}
	if diff := cmp.Diff(want, r.State.Disks); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if r.Errors != nil || r.State.UptimeMS == 0 {
		t.Errorf("errors %v, uptime %d", r.Errors, r.State.UptimeMS)
	}
	wantAsked := map[string][]string{ // nothing of sdd, a USB stick, and of vda
		"sda": {askPower, askStatus, askSMART}, "sdb": {askPages}, "sdc": {askPages, askPage(0x2f)},
		"nvme0n1": {askNVMe}, "nvme0n2": {askNVMe},
	}
	if diff := cmp.Diff(wantAsked, asked); diff != "" {
		t.Errorf("asked: -want +got\n%s", diff)
	}
}

// F40: a disk that answers no command costs its own health and no fact, and the hash of the facts stays.
func TestF40DiskThatAnswersNoCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet, _ := lookWith(t, plantedHealth(), patient)
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		disks := plantedHealth()
		disks["sda"] = awake(scripted{askStatus: {hang: release}})
		disks["sdc"] = scripted{askPages: {err: fmt.Errorf("command 4d: %w", hostStatus(3))}}
		delete(disks, "nvme0n1")
		r, _ := lookWith(t, disks, 2*time.Second)
		want := []facts.ProbeError{
			{Collector: "health", Code: "timeout", Msg: "sda: no answer: context deadline exceeded"},
			{Collector: "health", Code: "denied", Msg: "nvme0n1: open /dev/nvme0n1: permission denied"},
			{Collector: "health", Code: "timeout", Msg: "sdc: command 4d: no answer in time (host status 03)"},
		}
		if diff := cmp.Diff(want, r.Errors); diff != "" {
			t.Errorf("errors: -want +got\n%s", diff)
		}
		if _, ok := r.State.Disks["nvme-QEMU_NVMe_Ctrl-NVMESER01-n2"]; !ok || len(r.State.Disks) != 1 {
			t.Errorf("health of %v; want that of the second namespace alone", r.State.Disks)
		}
		before, err := quiet.Facts.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if after, err := r.Facts.Hash(); err != nil || after != before {
			t.Errorf("Hash() = %s, %v; with all disks well %s", after, err, before)
		}
	})
}

// A health collector that never comes back is named, and no fact is incomplete for it.
func TestHungHealthIsNoFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := collector{"health", func(ctx context.Context, _ machine) (section, error) { <-ctx.Done(); return nil, ctx.Err() }}
		r := Result{TimingMS: map[string]int64{}}
		for _, o := range collect(t.Context(), machine{tree: testTree()}, []collector{hung}, time.Second) {
			r.take(o)
		}
		if len(r.Errors) != 1 || r.Errors[0].Code != "timeout" || r.Facts.Incomplete != nil {
			t.Errorf("errors %v, incomplete %v", r.Errors, r.Facts.Incomplete)
		}
	})
}

// Two disks may have one id: the one that fails speaks for both.
func TestWorse(t *testing.T) {
	ok, failing := facts.DiskHealth{Health: "ok"}, facts.DiskHealth{Health: "failing"}
	for _, tt := range []struct{ a, b, want facts.DiskHealth }{{ok, failing, failing}, {failing, ok, failing}, {facts.DiskHealth{}, ok, ok}} {
		if got := worse(tt.a, tt.b); got.Health != tt.want.Health {
			t.Errorf("worse(%q, %q) = %q", tt.a.Health, tt.b.Health, got.Health)
		}
	}
}

// The kernel's structures have these sizes on machines of 64 bits, and a file that is no disk refuses both ioctls.
func TestDeviceFile(t *testing.T) {
	if a, b := unsafe.Sizeof(nvmePassthru{}), unsafe.Sizeof(sgHeader{}); a != 72 || unsafe.Sizeof(uintptr(0)) == 8 && b != 88 {
		t.Errorf("nvme_passthru_cmd has %d bytes, sg_io_hdr %d; want 72, 88", a, b)
	}
	if got := unsafe.Offsetof(sgHeader{}.hostStatus); unsafe.Sizeof(uintptr(0)) == 8 && got != 68 {
		t.Errorf("host_status is at %d; want 68", got)
	}
	tree := testTree()
	if _, err := tree.openDevice("no/such!disk"); code(err) != "missing" {
		t.Errorf("open: %v", err)
	}
	dev, err := tree.openDevice("null")
	if err != nil {
		t.Skip(err)
	}
	defer dev.close()
	if _, err := dev.nvme(nvmeGetLogPage, 1, 2, 512); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("nvme: %v; want %v", err, syscall.ENOTTY)
	}
	if _, err := dev.scsi([]byte{scsiLogSense, 0, 0, 0, 0, 0, 0, 0, 4, 0}, 4); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("scsi: %v; want %v", err, syscall.ENOTTY)
	}
	if tree.steps.Load() != 2 {
		t.Errorf("%d steps; want 2", tree.steps.Load())
	}
}
