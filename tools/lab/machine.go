package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MachineConfig describes a machine. Only Name is required.
type MachineConfig struct {
	Name      string   // 1 to 32 of a-z, 0-9 and dash; names its files
	Firmware  Firmware // if empty, BIOS
	MemoryMiB int      // if 0, 1024
	CPUs      int      // if 0, 1
	CPU       string   // QEMU's processor model; if empty, that of the firmware's recipe
	MACs      []string // one NIC for each, 8 at most; if empty, one whose address is derived from the names
	NIC       string   // QEMU's device; if empty, virtio-net-pci, the only one OVMF boots from
	HTTPBoot  bool     // UEFI asks for HTTP boot instead of PXE
	Disks     []DiskConfig

	// SMBIOS type 1. An empty UUID is derived from the names; the others stay QEMU's own.
	Serial, Manufacturer, Product, UUID string

	// A kernel that QEMU itself loads, in place of all that the firmware would boot from: for machines whose boot is
	// not what is looked at. There is no BootCurrent then, and no BOOTIF but the one in Append.
	Kernel, Initrd, Append string

	TPM   bool     // a TPM 2.0 (swtpm) on a command response buffer; what it keeps lasts over power cycles
	Extra []string // further arguments for QEMU

	board *board // if nil, the plain one
}

// A board is how a machine is put together that is not the lab's plain one.
type board struct {
	args   func(m *Machine) []string // QEMU's, for processors, clock, SMBIOS and all that is plugged in
	boots  []bootOption              // of UEFI, in their order
	pulled []int                     // NICs without a cable
}

// DiskConfig describes a disk. The network comes before disks in the boot order, and they come in their own order.
type DiskConfig struct {
	SizeBytes int64  // of a disk to create, sparse and empty
	Path      string // of a raw disk that exists, used in place
	Serial    string // if empty, disk and its number
	Bus       string // virtio, nvme or sata; if empty, virtio

	// Cache is QEMU's cache mode. If empty, unsafe: fastest, what the guest flushes stays in the host's memory.
	// That survives a power cut of the machine, since the host lives on; for one of the host take writeback.
	Cache string
}

// A Machine is one machine of a rack, off at first.
type Machine struct {
	rack   *Rack
	config MachineConfig
	macs   []macAddr
	taps   []string
	disks  []string // paths

	mu  sync.Mutex
	run *process // nil before the first On

	scan    sync.Mutex
	scanned int64 // offset of the console file up to which WaitConsole has looked
}

var machineName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Machine adds a machine that is off: its disks, its variables and its ports in the bridge. Disks it creates replace
// those of an earlier run with the same names, and so does the console.
func (r *Rack) Machine(c MachineConfig) (*Machine, error) {
	c = c.withDefaults(r.config.Name)
	macs, err := c.check()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return nil, fmt.Errorf("add machine %q: rack %q is down", c.Name, r.config.Name)
	}
	for _, m := range r.machines {
		if m.config.Name == c.Name {
			return nil, fmt.Errorf("add machine %q: the rack has one of this name", c.Name)
		}
	}
	m := &Machine{rack: r, config: c, macs: macs}
	for i := range macs {
		m.taps = append(m.taps, fmt.Sprintf("%s%d.%d", r.config.Name[:min(8, len(r.config.Name))], len(r.machines), i))
	}
	if err := m.build(); err != nil {
		return nil, fmt.Errorf("add machine %q: %w", c.Name, err)
	}
	r.machines = append(r.machines, m)
	return m, nil
}

func (m *Machine) build() error {
	for _, name := range []string{"console.log", "qemu.log"} {
		if err := os.WriteFile(m.path(name), nil, 0o644); err != nil {
			return err
		}
	}
	if m.config.TPM {
		if err := m.newTPM(); err != nil {
			return err
		}
	}
	for i, d := range m.config.Disks {
		path := d.Path
		if path == "" {
			path = m.path(fmt.Sprintf("disk%d.raw", i))
			if err := newDisk(path, d.SizeBytes); err != nil {
				return err
			}
		} else if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("find disk %d: %w", i, err)
		}
		m.disks = append(m.disks, path)
	}
	if p := recipes[m.config.Firmware]; p.vars != "" {
		if err := p.writeVars(m.path("vars.fd"), m.config.bootOptions(m.macs)); err != nil {
			return err
		}
	}
	for _, tap := range m.taps {
		if err := addTap(context.Background(), m.rack.config.Name, tap); err != nil {
			return err
		}
	}
	return nil
}

// newDisk makes an empty sparse file in place of what is there.
func newDisk(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create a disk: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("create a disk of %d bytes: %w", size, err)
	}
	return nil
}

func (c MachineConfig) withDefaults(rack string) MachineConfig {
	sum := sha256.Sum256([]byte(rack + "/" + c.Name))
	if c.Firmware == "" {
		c.Firmware = BIOS
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 1024
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.CPU == "" {
		c.CPU = recipes[c.Firmware].cpu
	}
	if len(c.MACs) == 0 {
		c.MACs = []string{fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])} // QEMU's prefix, locally administered
	}
	if c.NIC == "" {
		c.NIC = "virtio-net-pci"
	}
	if c.UUID == "" {
		sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, RFC 9562 section 5.8
		c.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	}
	disks := append([]DiskConfig(nil), c.Disks...)
	for i := range disks {
		if disks[i].Bus == "" {
			disks[i].Bus = "virtio"
		}
		if disks[i].Cache == "" {
			disks[i].Cache = "unsafe"
		}
		if disks[i].Serial == "" {
			disks[i].Serial = "disk" + strconv.Itoa(i)
		}
	}
	c.Disks = disks
	return c
}

func (c MachineConfig) check() ([]macAddr, error) {
	if !machineName.MatchString(c.Name) {
		return nil, fmt.Errorf("name a machine %q: want 1 to 32 of a-z, 0-9 and dash", c.Name)
	}
	if recipes[c.Firmware].program == "" {
		_, err := ParseFirmware(string(c.Firmware))
		return nil, fmt.Errorf("add machine %q: %w", c.Name, err)
	}
	if len(c.MACs) > maxNICs || len(c.Disks) > maxDisks {
		return nil, fmt.Errorf("add machine %q: %d NICs and %d disks: want at most %d and %d", c.Name, len(c.MACs), len(c.Disks), maxNICs, maxDisks)
	}
	if c.Firmware != BIOS && c.NIC != "virtio-net-pci" && c.board == nil {
		return nil, fmt.Errorf("add machine %q: NIC %q: OVMF boots from virtio-net-pci alone", c.Name, c.NIC)
	}
	if c.Kernel == "" && (c.Initrd != "" || c.Append != "") {
		return nil, fmt.Errorf("add machine %q: an initrd or a command line without a kernel: name one", c.Name)
	}
	for i, d := range c.Disks {
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("add machine %q: disk %d: %w", c.Name, i, err)
		}
	}
	var macs []macAddr
	for _, s := range c.MACs {
		hw, err := net.ParseMAC(s)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			return nil, fmt.Errorf("add machine %q: MAC %q: want the address of one NIC, such as 52:54:00:12:34:56", c.Name, s)
		}
		macs = append(macs, macAddr(hw))
	}
	return macs, nil
}

func (d DiskConfig) check() error {
	switch d.Bus {
	case "virtio", "nvme", "sata":
	default:
		return fmt.Errorf("bus %q: want virtio, nvme or sata", d.Bus)
	}
	if (d.Path == "") == (d.SizeBytes <= 0) {
		return fmt.Errorf("path %q and size %d: want one of them", d.Path, d.SizeBytes)
	}
	if d.SizeBytes%512 != 0 {
		return fmt.Errorf("size %d: want a multiple of 512", d.SizeBytes)
	}
	return nil
}

// Name is the machine's name.
func (m *Machine) Name() string { return m.config.Name }

// Config is what the machine was made of, defaults filled in.
func (m *Machine) Config() MachineConfig { return m.config }

// Disk is the path of the raw file that holds disk i, counted from 0.
func (m *Machine) Disk(i int) string { return m.disks[i] }

// path is where one of the machine's own files is.
func (m *Machine) path(name string) string {
	return filepath.Join(m.rack.config.Dir, m.config.Name+"."+name)
}

// startLimit bounds the time until QEMU greets; it maps its memory and reads its firmware before, on a busy host.
const startLimit = 60 * time.Second

// On switches the machine on and returns when its processor runs.
func (m *Machine) On() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run.running() {
		return fmt.Errorf("switch on %s: it is on", m.config.Name)
	}
	run, err := m.start()
	if err != nil {
		return fmt.Errorf("switch on %s: %w", m.config.Name, err)
	}
	m.run = run
	if err := m.pullCables(); err != nil {
		run.kill()
		return fmt.Errorf("switch on %s: %w", m.config.Name, err)
	}
	m.rack.log.Info("machine on", "machine", m.config.Name, "pid", run.pid)
	return nil
}

func (m *Machine) start() (*process, error) {
	if err := endConsoleLine(m.Console()); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() // a second time does nothing
	stderr, err := os.OpenFile(m.path("qemu.log"), os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer stderr.Close()
	said, err := stderr.Stat()
	if err != nil {
		ours.Close()
		return nil, err
	}

	cmd := m.rack.Command(context.Background(), recipes[m.config.Firmware].program, m.args()...)
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.ExtraFiles = []*os.File{theirs} // becomes descriptor 3
	run := &process{ended: make(chan struct{})}
	if m.config.TPM {
		tpm, socket, err := m.startTPM()
		if err != nil {
			ours.Close()
			return nil, err
		}
		defer socket.Close()
		run.tpm = tpm
		cmd.ExtraFiles = append(cmd.ExtraFiles, socket) // descriptor 4
	}
	if err := run.start(cmd); err != nil {
		ours.Close()
		run.tpm.kill()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	theirs.Close() // QEMU has its own; ours would hide that it hung up
	run.qmp, err = newQMP(ctx, ours, m.event)
	if err != nil {
		ours.Close()
		run.kill()
		words, _ := readAt(m.path("qemu.log"), said.Size(), 4096)
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(words))
	}
	go func() {
		<-run.ended
		run.qmp.close()
	}()
	return run, nil
}

// event logs what the machine does by itself, such as RESET and SHUTDOWN.
func (m *Machine) event(name string, data json.RawMessage) {
	m.rack.log.Debug("machine event", "machine", m.config.Name, "event", name, "data", string(data))
}

// Off cuts the power: nothing in the machine is told. Off on a machine that is off does nothing.
func (m *Machine) Off() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.run.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := m.run.qmp.run(ctx, "quit", nil); err == nil {
		select {
		case <-m.run.ended:
		case <-ctx.Done():
		}
	}
	m.run.kill()
	m.rack.log.Info("machine off", "machine", m.config.Name)
	return nil
}

// Reset presses the reset button.
func (m *Machine) Reset() error {
	_, err := m.QMP(context.Background(), "system_reset", nil)
	return err
}

// pullCables cuts the links that are down from power-on; the firmware has not looked at them yet.
func (m *Machine) pullCables() error {
	if m.config.board == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for _, i := range m.config.board.pulled {
		if _, err := m.run.qmp.run(ctx, "set_link", map[string]any{"name": nicID(i), "up": false}); err != nil {
			return fmt.Errorf("pull the cable of NIC %d: %w", i, err)
		}
	}
	return nil
}

// SetLink plugs or pulls the cable of NIC i, counted from 0.
func (m *Machine) SetLink(i int, plugged bool) error {
	_, err := m.QMP(context.Background(), "set_link", map[string]any{"name": nicID(i), "up": plugged})
	return err
}

// QMP runs one command of QEMU's monitor protocol on a machine that is on, and gives its answer.
func (m *Machine) QMP(ctx context.Context, command string, args any) (json.RawMessage, error) {
	m.mu.Lock()
	run := m.run
	m.mu.Unlock()
	if !run.running() {
		return nil, fmt.Errorf("run %s on %s: %w", command, m.config.Name, errOff)
	}
	answer, err := run.qmp.run(ctx, command, args)
	if err != nil {
		return nil, fmt.Errorf("tell %s: %w", m.config.Name, err)
	}
	return answer, nil
}

// Running says whether the machine is on.
func (m *Machine) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run.running()
}

// Wait waits until the machine is off, by itself or by Off. A restart does not end it.
func (m *Machine) Wait(ctx context.Context) error {
	m.mu.Lock()
	run := m.run
	m.mu.Unlock()
	if run == nil {
		return nil
	}
	select {
	case <-run.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("await the end of %s: %w", m.config.Name, context.Cause(ctx))
	}
}

func nicID(i int) string { return "net" + strconv.Itoa(i) }

// escape keeps a comma in a value from ending it (QEMU's option syntax).
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
