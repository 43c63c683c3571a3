package probe

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"muster/agent/facts"
)

// bmcInterfaces are those of DSP0134 7.39.1.
var bmcInterfaces = map[uint8]string{1: "kcs", 2: "smic", 3: "bt", 4: "ssif"}

// bmc reads SMBIOS type 38 and what the IPMI driver learnt, and asks the BMC for its address. Without either of the
// first two nothing says that there is none.
func bmc(ctx context.Context, m machine) (section, error) {
	tables, err := m.smbiosTables()
	b := m.bmcSeen(ofType(tables, smbiosIPMI))
	if !b.Present && err != nil {
		return nil, fmt.Errorf("no BMC seen, no whole SMBIOS to tell: %w", err)
	}
	err = nil
	if b.Present && m.openBMC != nil {
		err = partial(m.askBMC(ctx, &b))
	}
	return func(f *facts.Facts, _ *facts.State) { f.BMC = &b }, err
}

// bmcSeen is what is known without a request of our own.
func (m machine) bmcSeen(records []smbiosTable) facts.BMC {
	const platform = "/sys/bus/platform/devices"
	dir := ""
	for _, name := range m.names(platform) {
		if strings.HasPrefix(name, "ipmi_bmc.") {
			dir = platform + "/" + name
			break
		}
	}
	b := facts.BMC{
		Present:   len(records) > 0 || dir != "" || m.exists(bmcDevice),
		Interface: m.bmcInterface(),
	}
	if len(records) > 0 {
		b.Interface = cmp.Or(bmcInterfaces[records[0].u8(0x04)], b.Interface)
	}
	if dir != "" {
		b.Firmware = bmcFirmware(m.text(dir + "/firmware_revision"))
		b.IPMIVersion = facts.Clean(m.text(dir + "/ipmi_version"))
		b.ManufacturerID = bmcID(m.hex(dir+"/manufacturer_id", 6))
		b.ProductID = m.hex(dir+"/product_id", 4)
		b.GUID = facts.CleanUUID(m.text(dir + "/guid"))
	}
	return b
}

// bmcInterface is the word of ipmi_si or ipmi_ssif, for machines without SMBIOS.
func (t tree) bmcInterface() string {
	word := t.text("/sys/class/ipmi/ipmi0/device/type")
	for _, known := range bmcInterfaces {
		if word == known {
			return word
		}
	}
	return ""
}

// bmcFirmware gives the minor version its two digits: Linux prints the BCD byte 05h as 5, and 50h as 50.
func bmcFirmware(s string) string {
	major, minor, ok := strings.Cut(s, ".")
	if ok && len(minor) == 1 {
		s = major + ".0" + minor
	}
	return facts.Clean(s)
}

// bmcID drops the manufacturer that says that none is given.
func bmcID(digits string) string {
	if strings.Trim(digits, "0") == "" {
		return ""
	}
	return digits
}
