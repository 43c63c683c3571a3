package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"muster/agent/facts"
)

// bootFacts says how this boot came about.
func bootFacts(_ context.Context, m machine) (section, error) {
	line, err := m.read("/proc/cmdline", maxFile)
	if err != nil {
		return nil, err
	}
	b := facts.Boot{Cmdline: facts.Line(maskSecrets(string(line)), facts.MaxString)}
	if macs := m.bootMACs(); len(macs) > 0 {
		b.BootIF = macs[0]
	}
	if entry, ok := m.efiBoot(); ok {
		b.EFIEntry, b.EFIDescription, b.EFIMAC = entry.name, facts.Clean(entry.description), entry.mac
	}
	first, _, _ := strings.Cut(argument(string(line), "ip"), ":") // ip=client:server:gateway:...
	if a, err := netip.ParseAddr(first); err == nil && !a.IsUnspecified() {
		b.IP = a.String()
	}
	return func(f *facts.Facts, _ *facts.State) { f.Boot = &b }, nil
}

// bootMACs are the addresses that may be of the NIC this boot came through, the surest first: what the caller knows,
// what the broker and what the loader put on the command line, what the firmware noted for itself and, when it boots
// from a disk over iSCSI, in the iBFT.
func (m machine) bootMACs() []string {
	line := m.text("/proc/cmdline")
	entry, _ := m.efiBoot()
	var macs []string
	for _, s := range append([]string{m.bootMAC, argument(line, "muster.mac"), argument(line, "BOOTIF"), entry.mac}, m.ibftMACs()...) {
		if mac := facts.CleanMAC(s); mac != "" {
			macs = append(macs, mac)
		}
	}
	return macs
}

// ibftMACs are the NICs of the iSCSI Boot Firmware Table that this boot came through (iscsi_ibft): bit 1 of their flags
// says so, bit 0 that the entry counts.
func (t tree) ibftMACs() []string {
	const dir = "/sys/firmware/ibft"
	var macs []string
	for _, name := range t.names(dir) {
		if flags := t.count(dir + "/" + name + "/flags"); strings.HasPrefix(name, "ethernet") && flags&3 == 3 {
			macs = append(macs, t.text(dir+"/"+name+"/mac"))
		}
	}
	return macs
}

// words splits a command line at blanks outside double quotes, as the kernel does. Quotes are kept.
func words(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\n\v\f\r\x00", r)
	})
}

// argument is the value of the last key=value on a command line.
func argument(line, key string) string {
	value := ""
	for _, word := range words(line) {
		if v, ok := strings.CutPrefix(strings.Trim(word, `"`), key+"="); ok {
			value = strings.Trim(v, `"`)
		}
	}
	return value
}

// secretKey matches keys of arguments whose values nobody shall see.
var secretKey = regexp.MustCompile(`(?i)token|key|secret|passw`)

// maskSecrets replaces the values of such keys by ***.
func maskSecrets(line string) string {
	masked := words(line)
	for i, word := range masked {
		key, _, ok := strings.Cut(word, "=")
		if !ok || !secretKey.MatchString(key) {
			continue
		}
		masked[i] = strings.Trim(key, `"`) + "=***"
	}
	return strings.Join(masked, " ")
}

// An efiEntry is a boot option of the firmware.
type efiEntry struct {
	name        string // 0001
	description string
	mac         string // when its device path leads through a NIC
}

// efiBoot is the boot option that the firmware started, from the variables BootCurrent and Boot####.
func (t tree) efiBoot() (efiEntry, bool) {
	current := t.efiVariable("BootCurrent")
	if len(current) != 2 {
		return efiEntry{}, false
	}
	name := fmt.Sprintf("%04X", binary.LittleEndian.Uint16(current))
	e := parseEFIOption(t.efiVariable("Boot" + name))
	e.name = name
	return e, true
}

// parseEFIOption reads EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3): attributes, the length of the device path, a
// description in UTF-16, the path. It gives what it understood before the first fault.
func parseEFIOption(b []byte) efiEntry {
	if len(b) < 6 {
		return efiEntry{}
	}
	length, b := int(binary.LittleEndian.Uint16(b[4:])), b[6:]
	e := efiEntry{description: utf16Text(b)}
	end := 0
	for end+1 < len(b) && (b[end] != 0 || b[end+1] != 0) {
		end += 2
	}
	if end += 2; end > len(b) {
		return e
	}
	e.mac = devicePathMAC(b[end:min(end+length, len(b))])
	return e
}

// devicePathMAC walks the nodes of a device path (UEFI 2.10, section 10.3) to the MAC address node, type 3 subtype 11.
func devicePathMAC(b []byte) string {
	for len(b) >= 4 {
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return ""
		}
		if b[0] == 3 && b[1] == 11 && n >= 10 {
			return facts.CleanMAC(net.HardwareAddr(b[4:10]).String())
		}
		b = b[n:]
	}
	return ""
}
