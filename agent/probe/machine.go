package probe

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"muster/agent/facts"
)

// kernel says what the running kernel is.
func kernel(_ context.Context, m machine) (section, error) {
	arch, release := m.text("/proc/sys/kernel/arch"), m.text("/proc/sys/kernel/osrelease")
	if m.live() {
		var err error
		if arch, release, err = uname(); err != nil {
			return nil, err
		}
	}
	if arch == "" && release == "" {
		return nil, m.stat("/proc/sys/kernel/osrelease")
	}
	return func(f *facts.Facts, _ *facts.State) {
		f.Arch, f.Kernel = facts.Clean(arch), facts.Clean(release)
	}, nil
}

// found is a pointer to v, or nil when nothing in it is known.
func found[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// system reads SMBIOS type 1, or the device tree.
func system(_ context.Context, m machine) (section, error) {
	if err := m.checkDMI(); err != nil {
		return nil, err
	}
	p, err := m.ghwProduct()
	if err != nil {
		return nil, err
	}
	s := facts.System{
		Manufacturer: facts.Clean(p.Vendor),
		Product:      facts.Clean(p.Name),
		Version:      facts.Clean(p.Version),
		Serial:       facts.CleanSerial(p.SerialNumber),
		SKU:          facts.Clean(p.SKU),
		Family:       facts.Clean(p.Family),
		UUID:         facts.CleanUUID(p.UUID),
	}
	return func(f *facts.Facts, _ *facts.State) { f.System = found(s) },
		errors.Join(m.denied("product_serial"), m.denied("product_uuid"))
}

// baseboard reads SMBIOS type 2.
func baseboard(_ context.Context, m machine) (section, error) {
	if err := m.checkDMI(); err != nil {
		return nil, err
	}
	p, err := m.ghwBaseboard()
	if err != nil {
		return nil, err
	}
	b := facts.Baseboard{
		Manufacturer: facts.Clean(p.Vendor),
		Product:      facts.Clean(p.Product),
		Version:      facts.Clean(p.Version),
		Serial:       facts.CleanSerial(p.SerialNumber),
		AssetTag:     facts.CleanSerial(p.AssetTag),
	}
	tables, _ := m.smbiosTables()
	b.Location = facts.Clean(firstOf(tables, smbiosBaseboard).str(0x0a))
	return func(f *facts.Facts, _ *facts.State) { f.Baseboard = found(b) }, m.denied("board_serial")
}

// chassis reads SMBIOS type 3.
func chassis(_ context.Context, m machine) (section, error) {
	if err := m.checkDMI(); err != nil {
		return nil, err
	}
	p, err := m.ghwChassis()
	if err != nil {
		return nil, err
	}
	c := facts.Chassis{
		Type:         chassisType(p.Type),
		Manufacturer: facts.Clean(p.Vendor),
		Version:      facts.Clean(p.Version),
		Serial:       facts.CleanSerial(p.SerialNumber),
		AssetTag:     facts.CleanSerial(p.AssetTag),
	}
	tables, _ := m.smbiosTables()
	t := firstOf(tables, smbiosChassis)
	c.HeightU = int(t.u8(0x11))
	// DSP0134 7.4: the SKU stands after n contained elements of m bytes each.
	if t.Len() > 0x14 {
		c.SKU = facts.Clean(t.str(0x15 + int(t.u8(0x13))*int(t.u8(0x14))))
	}
	return func(f *facts.Facts, _ *facts.State) { f.Chassis = found(c) }, m.denied("chassis_serial")
}

// chassisType is the number of DSP0134 7.4.1; 2 means unknown.
func chassisType(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 1 || n > 127 || n == 2 {
		return 0
	}
	return n
}

// The global variables of UEFI 2.10, section 3.3: their vendor GUID.
const efiGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// efiVariable is the data of a global EFI variable, without the four bytes of attributes in front (efivarfs).
func (t tree) efiVariable(name string) []byte {
	b := t.bytes("/sys/firmware/efi/efivars/" + name + "-" + efiGlobal)
	if len(b) < 4 {
		return nil
	}
	return b[4:]
}

// firmware reads SMBIOS type 0 and how the firmware started this kernel.
func firmware(_ context.Context, m machine) (section, error) {
	if err := m.stat("/sys/firmware"); err != nil {
		return nil, err
	}
	fw := facts.Firmware{Mode: "bios"}
	if m.exists("/sys/firmware/efi") {
		fw.Mode = "uefi"
		fw.PlatformBits = int(m.count("/sys/firmware/efi/fw_platform_size"))
	}
	if b := m.efiVariable("SecureBoot"); len(b) == 1 {
		fw.SecureBoot = map[bool]string{true: "enabled", false: "disabled"}[b[0] == 1]
	}
	if b := m.efiVariable("SetupMode"); len(b) == 1 {
		setup := b[0] == 1
		fw.SetupMode = &setup
	}
	fw.Lockdown = lockdown(m.text("/sys/kernel/security/lockdown"))
	var err error
	if err = m.checkDMI(); err == nil {
		err = firmwareDMI(m, &fw)
	}
	return func(f *facts.Facts, _ *facts.State) { f.Firmware = &fw }, err
}

// lockdown is the mode in brackets: none [integrity] confidentiality.
func lockdown(s string) string {
	_, after, _ := strings.Cut(s, "[")
	mode, _, _ := strings.Cut(after, "]")
	switch mode {
	case "none", "integrity", "confidentiality":
		return mode
	}
	return ""
}

func firmwareDMI(m machine, fw *facts.Firmware) error {
	b, err := m.ghwBIOS()
	if err != nil {
		return err
	}
	fw.Vendor, fw.Version, fw.Date = facts.Clean(b.Vendor), facts.Clean(b.Version), biosDate(b.Date)
	fw.Release = facts.Clean(m.text("/sys/class/dmi/id/bios_release"))
	fw.ECRelease = facts.Clean(m.text("/sys/class/dmi/id/ec_firmware_release"))
	return nil
}

// biosDate turns MM/DD/YYYY, or MM/DD/YY of before SMBIOS 2.3, into YYYY-MM-DD; "" for anything else.
func biosDate(s string) string {
	s = strings.TrimSpace(s)
	if d, err := time.Parse("01/02/2006", s); err == nil {
		return d.Format(time.DateOnly)
	}
	if len(s) != len("01/02/06") {
		return ""
	}
	d, err := time.Parse("01/02/2006", s[:6]+"19"+s[6:])
	if err != nil {
		return ""
	}
	return d.Format(time.DateOnly)
}

// state reads what changes from minute to minute.
func state(ctx context.Context, m machine) (section, error) {
	var s facts.State
	seconds, _, _ := strings.Cut(m.text("/proc/uptime"), " ")
	if up, err := time.ParseDuration(seconds + "s"); err == nil && up > 0 {
		s.UptimeMS = up.Milliseconds()
	}
	s.RTCEpochS = m.count("/sys/class/rtc/rtc0/since_epoch")
	_, free, err := m.meminfo(ctx)
	s.MemFreeBytes = free
	s.BootID = facts.CleanUUID(m.text("/proc/sys/kernel/random/boot_id"))
	return func(_ *facts.Facts, to *facts.State) {
		to.BootID, to.UptimeMS, to.RTCEpochS, to.MemFreeBytes = s.BootID, s.UptimeMS, s.RTCEpochS, s.MemFreeBytes
	}, err
}
