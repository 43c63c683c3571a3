// Package efi keeps the one boot entry of a machine's firmware that is muster's: it starts the loader of the system that was
// written to a disk, and stands behind the entry that asks the network, so that the machine goes on asking muster first. It
// is a package of its own because it must never touch an entry of somebody else, which is proved best where nothing else is
// done. UEFI 2.10 sections 3.1.3, 3.3 and 10.3.
package efi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf16"
)

// Variables are the firmware's global variables (GUID 8be4df61-93ca-11d2-aa0d-00e098032b8c), without attributes: those of
// what is set are non-volatile, boot services and runtime. What is not there is fs.ErrNotExist.
type Variables interface {
	List() ([]string, error)
	Get(name string) ([]byte, error)
	Set(name string, data []byte) error
	Remove(name string) error
}

// prefix of the description says that an entry is muster's. It is no optional data: shim takes that for the name of the
// loader to go on with.
const prefix = "muster: "

// An Entry starts a loader from a partition.
type Entry struct {
	Name      string // of the system, for the firmware's menu
	Partition Partition
	Loader    string // path on the partition, with slashes
}

// A Partition as a device path names it (section 10.3.5.1). Sectors are those of its disk.
type Partition struct {
	Number       uint32
	First, Count uint64   // sectors
	GUID         [16]byte // as it stands in the GPT; zero: an MBR's, of which Signature is told
	Signature    uint32
}

// Bounds of what firmware holds.
const (
	maxName    = 40
	maxEntries = 1024
)

// Option is the EFI_LOAD_OPTION of the entry.
func (e Entry) Option() []byte {
	path := slices.Concat(e.Partition.node(), node(4, 4, wide(strings.ReplaceAll("/"+strings.TrimLeft(e.Loader, "/"), "/", `\`))), node(0x7f, 0xff, nil))
	b := binary.LittleEndian.AppendUint32(nil, 1) // LOAD_OPTION_ACTIVE
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	return slices.Concat(b, wide(prefix+e.Name), path)
}

func (p Partition) node() []byte {
	b := binary.LittleEndian.AppendUint32(nil, p.Number)
	b = binary.LittleEndian.AppendUint64(b, p.First)
	b = binary.LittleEndian.AppendUint64(b, p.Count)
	id, format, kind := p.GUID, byte(2), byte(2) // GPT, by GUID
	if id == ([16]byte{}) {
		binary.LittleEndian.PutUint32(id[:], p.Signature)
		format, kind = 1, 1
	}
	return node(4, 1, append(append(b, id[:]...), format, kind))
}

// node is one node of a device path.
func node(kind, sub byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(4+len(data))), data...)
}

// wide is UCS-2 with its final NUL.
func wide(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// An option is what is read of a variable Boot####.
type option struct {
	name    string
	ours    bool
	network bool // its device path leads through a NIC
}

// parse reads an EFI_LOAD_OPTION as far as it makes sense.
func parse(name string, b []byte) option {
	o := option{name: name}
	if len(b) < 6 {
		return o
	}
	length, b := int(binary.LittleEndian.Uint16(b[4:])), b[6:]
	o.ours = bytes.HasPrefix(b, wide(prefix)[:2*len(prefix)])
	end := 0
	for end+1 < len(b) && (b[end] != 0 || b[end+1] != 0) {
		end += 2
	}
	if end += 2; end <= len(b) {
		o.network = hasMAC(b[end:min(end+length, len(b))])
	}
	return o
}

// hasMAC walks the nodes of a device path to that of a MAC address, type 3 subtype 11.
func hasMAC(b []byte) bool {
	for len(b) >= 4 {
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return false
		}
		if b[0] == 3 && b[1] == 11 {
			return true
		}
		b = b[n:]
	}
	return false
}

// Install makes the entry the only one of muster's and puts it behind the one that started this boot, or behind the last
// that goes through a NIC; where there is neither, it becomes the first. It gives the entry's variable and the one before
// it. At every moment in between the machine starts as before, or as after.
func Install(v Variables, e Entry) (name, behind string, err error) {
	if e.Name = strings.ToValidUTF8(e.Name, ""); len(e.Name) > maxName {
		e.Name = e.Name[:maxName]
	}
	options, err := options(v)
	if err != nil {
		return "", "", err
	}
	ours := slices.DeleteFunc(slices.Clone(options), func(o option) bool { return !o.ours })
	if len(ours) > 0 {
		name = ours[0].name
	} else if name, err = free(options); err != nil {
		return "", "", err
	}
	if err := set(v, name, e.Option()); err != nil {
		return "", "", err
	}
	order, behind, err := arrange(v, name, options)
	if err != nil {
		return "", "", err
	}
	if err := set(v, "BootOrder", order); err != nil {
		return "", "", err
	}
	for _, o := range ours[min(1, len(ours)):] {
		if err := v.Remove(o.name); err != nil {
			return "", "", fmt.Errorf("remove %s, of an earlier install: %w", o.name, err)
		}
	}
	return name, behind, nil
}

// options reads all entries in the order of their numbers.
func options(v Variables) ([]option, error) {
	names, err := v.List()
	if err != nil {
		return nil, fmt.Errorf("list the boot entries: %w", err)
	}
	var found []option
	for _, name := range names {
		if _, ok := number(name); !ok || len(found) == maxEntries {
			continue
		}
		b, err := v.Get(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		found = append(found, parse(name, b))
	}
	slices.SortFunc(found, func(a, b option) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

// number reads Boot0012; digits are upper-case.
func number(name string) (uint16, bool) {
	var n uint16
	_, err := fmt.Sscanf(name, "Boot%04X", &n)
	return n, err == nil && name == bootName(n)
}

func bootName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

func free(options []option) (string, error) {
	for n := range uint16(maxEntries) {
		if !slices.ContainsFunc(options, func(o option) bool { return o.name == bootName(n) }) {
			return bootName(n), nil
		}
	}
	return "", fmt.Errorf("all of the first %d boot entries are taken", maxEntries)
}

// arrange is the new BootOrder, and what the entry stands behind in it.
func arrange(v Variables, name string, options []option) (order []byte, behind string, err error) {
	old, err := v.Get("BootOrder")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("read BootOrder: %w", err)
	}
	var names []string
	for ; len(old) >= 2; old = old[2:] {
		one := bootName(binary.LittleEndian.Uint16(old))
		if one == name || slices.ContainsFunc(options, func(o option) bool { return o.ours && o.name == one }) {
			continue
		}
		names = append(names, one)
	}
	at := 0
	for i, one := range names {
		if slices.ContainsFunc(options, func(o option) bool { return o.network && o.name == one }) {
			at = i + 1
		}
	}
	if current, err := v.Get("BootCurrent"); err == nil && len(current) == 2 {
		if i := slices.Index(names, bootName(binary.LittleEndian.Uint16(current))); i >= 0 {
			at = i + 1
		}
	}
	if at > 0 {
		behind = names[at-1]
	}
	for _, one := range slices.Insert(names, at, name) {
		n, _ := number(one)
		order = binary.LittleEndian.AppendUint16(order, n)
	}
	return order, behind, nil
}

// set writes what is not there already: the memory of firmware wears out.
func set(v Variables, name string, data []byte) error {
	if old, err := v.Get(name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := v.Set(name, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
