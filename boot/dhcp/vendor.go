package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Entries of option 43 for PXE clients (PXE 2.1 table 2-1).
const (
	subControl = 6
	subServers = 8
	subMenu    = 9
	subPrompt  = 10
	subItem    = 71
)

// Bits of the discovery control.
const (
	noBroadcast  = 1 << 0
	noMulticast  = 1 << 1
	onlyServers  = 1 << 2
	justLoadFile = 1 << 3
)

// Types of boot servers: 0 is the machine's own disk, the vendor's begin at 0x8000.
const (
	itemDisk   = 0
	itemMuster = 0x8001
)

// A vendor is option 43 of a PXE client or server.
type vendor struct {
	control *byte
	servers []bootServer
	menu    []menuItem // the first is the default
	prompt  *prompt
	item    *bootItem
	other   []suboption // kept as they came
}

type bootServer struct {
	kind  uint16
	addrs []netip.Addr
}

type menuItem struct {
	kind uint16
	text string
}

// A prompt, as option 43 has it, is shown for so many seconds; 0 takes the first item silently, 255 shows the menu for ever.
type prompt struct {
	seconds byte
	text    string
}

// A bootItem is the menu entry that a client chose.
type bootItem struct{ kind, layer uint16 }

var errVendor = errors.New("malformed")

// parseVendor reads option 43; it is false when that is absent or damaged.
func parseVendor(b []byte) (vendor, bool) {
	list, whole := parseSuboptions(b)
	if !whole || len(b) == 0 {
		return vendor{}, false
	}
	var v vendor
	for _, s := range list {
		if err := v.take(s); err != nil {
			return vendor{}, false
		}
	}
	return v, true
}

func (v *vendor) take(s suboption) (err error) {
	switch {
	case s.code == subControl && len(s.data) == 1:
		v.control = &s.data[0]
	case s.code == subServers:
		v.servers, err = parseServers(s.data)
	case s.code == subMenu:
		v.menu, err = parseMenu(s.data)
	case s.code == subPrompt && len(s.data) >= 1:
		v.prompt = &prompt{s.data[0], string(s.data[1:])}
	case s.code == subItem && len(s.data) == 4:
		v.item = &bootItem{binary.BigEndian.Uint16(s.data), binary.BigEndian.Uint16(s.data[2:])}
	default:
		v.other = append(v.other, s)
	}
	return err
}

func parseServers(b []byte) (list []bootServer, err error) {
	for len(b) > 0 {
		if len(b) < 3 || len(b) < 3+4*int(b[2]) {
			return nil, errVendor
		}
		s := bootServer{kind: binary.BigEndian.Uint16(b)}
		n := int(b[2])
		for b = b[3:]; n > 0; n, b = n-1, b[4:] {
			s.addrs = append(s.addrs, netip.AddrFrom4([4]byte(b)))
		}
		list = append(list, s)
	}
	return list, nil
}

func parseMenu(b []byte) (list []menuItem, err error) {
	for len(b) > 0 {
		if len(b) < 3 || len(b) < 3+int(b[2]) {
			return nil, errVendor
		}
		n := 3 + int(b[2])
		list = append(list, menuItem{binary.BigEndian.Uint16(b), string(b[3:n])})
		b = b[n:]
	}
	return list, nil
}

// encode writes the option for a reply that does or does not name a file. It refuses what makes UEFI firmware cancel
// its boot (golden D17): a control without its "just load the file" bit, beside a file and without a menu.
func (v vendor) encode(withFile bool) ([]byte, error) {
	if v.control != nil && *v.control&justLoadFile == 0 && withFile && len(v.menu) == 0 && v.item == nil {
		return nil, fmt.Errorf("write option 43: control %#02x beside a file and without a menu cancels a boot", *v.control)
	}
	var b []byte
	if v.control != nil {
		b = appendSuboption(b, subControl, []byte{*v.control})
	}
	if len(v.servers) > 0 {
		b = appendSuboption(b, subServers, encodeServers(v.servers))
	}
	if len(v.menu) > 0 {
		b = appendSuboption(b, subMenu, encodeMenu(v.menu))
	}
	if v.prompt != nil {
		b = appendSuboption(b, subPrompt, append([]byte{v.prompt.seconds}, v.prompt.text...))
	}
	if v.item != nil {
		data := binary.BigEndian.AppendUint16(nil, v.item.kind)
		b = appendSuboption(b, subItem, binary.BigEndian.AppendUint16(data, v.item.layer))
	}
	for _, s := range v.other {
		b = appendSuboption(b, s.code, s.data)
	}
	if b = append(b, 255); len(b) > 255 {
		return nil, fmt.Errorf("write option 43: %d bytes: want at most 255", len(b))
	}
	return b, nil
}

func encodeServers(list []bootServer) []byte {
	var b []byte
	for _, s := range list {
		b = append(binary.BigEndian.AppendUint16(b, s.kind), byte(len(s.addrs)))
		for _, a := range s.addrs {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}

func encodeMenu(list []menuItem) []byte {
	var b []byte
	for _, m := range list {
		b = append(binary.BigEndian.AppendUint16(b, m.kind), byte(len(m.text)))
		b = append(b, m.text...)
	}
	return b
}

// bypass tells a PXE client to load the file that the reply names and to look no further.
func bypass() vendor {
	c := byte(justLoadFile)
	return vendor{control: &c}
}

// diskMenu is a menu whose first entry, taken silently, is the machine's own disk: the fastest clean way to hand a
// machine back to its firmware, where silence costs a minute for each boot entry.
func diskMenu(us netip.Addr) vendor {
	return menuOf(us, prompt{seconds: 0}, menuItem{itemDisk, "Local disk"}, menuItem{itemMuster, "Muster"})
}

// hotKeyMenu is the menu behind a prompt: its first item is what is booted when nobody presses the key.
func hotKeyMenu(us netip.Addr, p Prompt, first loadKind) vendor {
	items := []menuItem{{itemMuster, "Muster"}, {itemDisk, "Local disk"}}
	if first == disk {
		slices.Reverse(items)
	}
	return menuOf(us, prompt{p.Seconds, p.Text}, items...)
}

// menuOf is a menu of one server. The server is always listed: without it iPXE broadcasts its choice and UEFI fails.
func menuOf(us netip.Addr, p prompt, items ...menuItem) vendor {
	c := byte(noBroadcast | noMulticast | onlyServers)
	return vendor{control: &c, servers: []bootServer{{itemMuster, []netip.Addr{us}}}, menu: items, prompt: &p}
}
