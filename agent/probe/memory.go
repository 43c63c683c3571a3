package probe

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/u-root/u-root/pkg/smbios"

	"muster/agent/facts"
)

const memoryDir = "/sys/devices/system/memory"

// memory reads what is installed (SMBIOS 16 and 17), what is online, and what the kernel may use.
func memory(ctx context.Context, m machine) (section, error) {
	var mem facts.Memory
	total, _, err := m.meminfo(ctx)
	if err != nil {
		return nil, err
	}
	mem.TotalBytes = total
	mem.OnlineBytes = m.onlineBytes(memoryDir)
	tables, err := m.smbiosTables()
	if tables != nil {
		err = partial(errors.Join(err, installed(tables, &mem)))
	}
	mem.PhysicalBytes, mem.PhysicalSource = physical(mem)
	return func(f *facts.Facts, _ *facts.State) { f.Memory = &mem }, err
}

// physical is the best of three answers to how much is installed.
func physical(mem facts.Memory) (n int64, source string) {
	for _, d := range mem.DIMMs {
		if d.SizeBytes > 0 && n+d.SizeBytes > n {
			n += d.SizeBytes
		}
	}
	switch {
	case n > 0:
		return n, "smbios17"
	case mem.OnlineBytes > 0:
		return mem.OnlineBytes, "blocks"
	case mem.TotalBytes > 0:
		return mem.TotalBytes, "meminfo"
	}
	return 0, ""
}

// onlineBytes adds up the online memory blocks below dir, which is that of all memory or of one node.
func (t tree) onlineBytes(dir string) int64 {
	size, err := strconv.ParseInt(t.text(memoryDir+"/block_size_bytes"), 16, 64)
	if err != nil || size <= 0 {
		return 0
	}
	var n int64
	for _, name := range t.blocks(dir) {
		if t.text(dir+"/"+name+"/state") == "online" {
			n++
		}
	}
	if over, _ := bits.Mul64(uint64(n), uint64(size)); over != 0 || n*size < 0 {
		return 0
	}
	return n * size
}

// maxBlocks is the number of memory blocks looked at: 64 TiB in the smallest blocks that large machines use.
const maxBlocks = 1 << 15

// blocks names the memory blocks in dir.
func (t tree) blocks(dir string) []string {
	f, err := t.open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxBlocks) // what was read before an error is good
	return slices.DeleteFunc(names, func(name string) bool {
		digits, ok := strings.CutPrefix(name, "memory")
		_, err := strconv.Atoi(digits)
		return !ok || err != nil
	})
}

// installed reads the error correction of the system memory (type 16) and the modules (type 17).
func installed(tables []smbiosTable, mem *facts.Memory) error {
	for _, t := range ofType(tables, smbiosArray) {
		if t.u8(0x05) == 3 && mem.ECC == "" { // use: system memory
			mem.ECC = eccModes[t.u8(0x06)]
		}
	}
	mem.DIMMs = []facts.DIMM{}
	var errs []error
	for _, t := range ofType(tables, smbiosDIMM) {
		if mem.Slots++; mem.Slots > maxEntries {
			break
		}
		if t.Len() < 0x15 { // the first version of the structure
			errs = append(errs, malformed{fmt.Errorf("memory device %#04x: length %d", t.Handle, t.Len())})
			continue
		}
		if d := dimm(t); d.SizeBytes > 0 {
			mem.DIMMs = append(mem.DIMMs, d)
		}
	}
	mem.SlotsUsed = len(mem.DIMMs)
	return errors.Join(errs...)
}

// eccModes are those of DSP0134 7.17.3.
var eccModes = map[uint8]string{3: "none", 4: "parity", 5: "single", 6: "multi", 7: "crc"}

// dimm reads one memory device (DSP0134 7.18).
func dimm(t smbiosTable) facts.DIMM {
	return facts.DIMM{
		Locator:       facts.Clean(t.str(0x10)),
		Bank:          facts.Clean(t.str(0x11)),
		SizeBytes:     dimmSize(t),
		Type:          dimmWord(smbios.MemoryDeviceType(t.u8(0x12)).String()),
		FormFactor:    dimmWord(smbios.MemoryDeviceFormFactor(t.u8(0x0e)).String()),
		SpeedMTs:      dimmSpeed(t.u16(0x15)),
		ConfiguredMTs: dimmSpeed(t.u16(0x20)),
		Rank:          int(t.u8(0x1b) & 0x0f),
		Manufacturer:  facts.Clean(t.str(0x17)),
		Serial:        facts.CleanSerial(t.str(0x18)),
		Part:          facts.Clean(t.str(0x1a)),
		AssetTag:      facts.CleanSerial(t.str(0x19)),
	}
}

// dimmSize is the size in bytes: 0 for an empty slot and for the value that says unknown.
func dimmSize(t smbiosTable) int64 {
	switch size := t.u16(0x0c); {
	case size == 0xffff:
		return 0
	case size == 0x7fff:
		return int64(t.u32(0x1c)&0x7fffffff) << 20
	case size&0x8000 != 0:
		return int64(size&0x7fff) << 10
	default:
		return int64(size) << 20
	}
}

// dimmSpeed drops the values that say unknown (0) and see elsewhere (FFFFh).
func dimmSpeed(v uint16) int {
	if v == 0xffff {
		return 0
	}
	return int(v)
}

// dimmWord drops the words for other and unknown and numbers without a name.
func dimmWord(s string) string {
	if s == "Other" || strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "<") {
		return ""
	}
	return facts.Clean(s)
}

const nodeDir = "/sys/devices/system/node"

// numa reads the memory nodes. Their size is counted in blocks: the MemTotal of a node moves from boot to boot.
func numa(_ context.Context, m machine) (section, error) {
	names, err := m.list(nodeDir)
	if err != nil {
		return nil, err
	}
	nodes := []facts.NUMANode{}
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "node")
		id, err := strconv.Atoi(digits)
		if !ok || err != nil || id < 0 {
			continue
		}
		dir := nodeDir + "/" + name
		nodes = append(nodes, facts.NUMANode{
			ID:          id,
			CPUs:        facts.Clean(m.text(dir + "/cpulist")),
			MemoryBytes: m.onlineBytes(dir),
			Distances:   distances(m.text(dir + "/distance")),
		})
	}
	slices.SortFunc(nodes, func(a, b facts.NUMANode) int { return a.ID - b.ID })
	return func(f *facts.Facts, _ *facts.State) { f.NUMA = nodes }, nil
}

func distances(s string) []int {
	var list []int
	for _, word := range strings.Fields(s) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || len(list) == maxEntries {
			return nil
		}
		list = append(list, n)
	}
	return list
}
