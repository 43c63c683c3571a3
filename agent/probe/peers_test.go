package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/smbios"

	"muster/agent/facts"
)

// A peer is a program that reads the same bytes; the test is skipped where it is not installed.
func peer(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// ask writes bytes to a file and gives what a peer says of it; what it complains of is not compared.
func ask(t testing.TB, content []byte, argv ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bytes")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], append(argv[1:], file)...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	out, _ := cmd.Output()
	return string(out)
}

// smbiosDump is a table behind an entry point of SMBIOS 3.1 (DSP0134 5.2.2), as dmidecode --dump-bin writes it.
func smbiosDump(table []byte) []byte {
	entry := make([]byte, 32)
	copy(entry, "_SM3_\x00\x18\x03\x01\x00\x01\x00")
	binary.LittleEndian.PutUint32(entry[12:], uint32(len(table)))
	binary.LittleEndian.PutUint64(entry[16:], 32)
	var sum byte
	for _, b := range entry[:24] {
		sum += b
	}
	entry[5] = -sum
	return append(entry, table...)
}

var dmiHandle = regexp.MustCompile(`^Handle 0x([0-9A-F]{4}), DMI type (\d+), (\d+) bytes$`)

// A dmiBlock is a structure as dmidecode prints it.
type dmiBlock struct {
	handle, kind, length int
	values               map[string]string
}

func dmiBlocks(t testing.TB, out string) (blocks []dmiBlock) {
	t.Helper()
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if m := dmiHandle.FindStringSubmatch(line); m != nil {
			handle, _ := strconv.ParseInt(m[1], 16, 32)
			kind, _ := strconv.Atoi(m[2])
			length, _ := strconv.Atoi(m[3])
			blocks = append(blocks, dmiBlock{int(handle), kind, length, map[string]string{}})
		} else if key, value, ok := strings.Cut(line, ": "); ok && len(blocks) > 0 && strings.HasPrefix(key, "\t") && !strings.HasPrefix(key, "\t\t") {
			blocks[len(blocks)-1].values[key[1:]] = value
		}
	}
	return blocks
}

// dmiStrings are the strings that both read: type, offset, dmidecode's word.
var dmiStrings = []struct {
	kind, offset int
	key          string
}{
	{smbiosBaseboard, 0x0a, "Location In Chassis"},
	{smbiosCPU, 0x04, "Socket Designation"}, {smbiosCPU, 0x10, "Version"}, {smbiosCPU, 0x20, "Serial Number"}, {smbiosCPU, 0x21, "Asset Tag"}, {smbiosCPU, 0x22, "Part Number"},
	{smbiosSlot, 0x04, "Designation"},
	{smbiosDIMM, 0x10, "Locator"}, {smbiosDIMM, 0x11, "Bank Locator"}, {smbiosDIMM, 0x17, "Manufacturer"}, {smbiosDIMM, 0x18, "Serial Number"},
	{smbiosDIMM, 0x19, "Asset Tag"}, {smbiosDIMM, 0x1a, "Part Number"},
}

// dmiNumber reads "2667 MT/s", "8 GB", "512 kB"; 0 for words.
func dmiNumber(s string) int64 {
	words := strings.Fields(s)
	if len(words) < 2 {
		n, _ := strconv.ParseInt(s, 10, 64)
		return n
	}
	n, err := strconv.ParseInt(strings.Join(words[:len(words)-1], ""), 10, 64)
	if err != nil {
		return 0
	}
	return n << map[string]int{"kB": 10, "MB": 20, "GB": 30, "TB": 40}[words[len(words)-1]]
}

// compareSMBIOS wants of each structure what dmidecode says of it.
func compareSMBIOS(t *testing.T, dmidecode string, table []byte) {
	t.Helper()
	tables, err := parseSMBIOS(table)
	blocks := dmiBlocks(t, ask(t, smbiosDump(table), dmidecode, "--from-dump"))
	if i := slices.IndexFunc(blocks, func(b dmiBlock) bool { return b.kind == smbiosEnd }); i >= 0 {
		blocks = blocks[:i]
	}
	if err == nil && len(tables) != len(blocks) {
		t.Errorf("%d structures, dmidecode sees %d", len(tables), len(blocks))
	}
	for i := range min(len(tables), len(blocks)) {
		own, b := tables[i], blocks[i]
		if int(own.Handle) != b.handle || int(own.Type) != b.kind || own.Len() != b.length {
			t.Fatalf("structure %d: handle %#x, type %d, %d bytes; dmidecode: %+v", i, own.Handle, own.Type, own.Len(), b)
		}
		for _, row := range dmiStrings {
			value, said := b.values[row.key]
			raw := own.str(row.offset)
			if !said || row.kind != b.kind || strings.IndexFunc(raw, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				continue
			}
			if want, got := facts.Clean(value), facts.Clean(raw); want != got {
				t.Errorf("structure %d: %s %q; dmidecode %q", i, row.key, got, want)
			}
		}
		if b.kind == smbiosDIMM {
			compareDIMM(t, own, b)
		}
	}
}

func compareDIMM(t *testing.T, own smbiosTable, b dmiBlock) {
	t.Helper()
	d := dimm(own)
	for _, row := range []struct {
		key  string
		got  int64
		skip bool // what dmidecode takes from a later field, or from one that is not there
	}{
		{"Size", d.SizeBytes, own.u16(0x0c) == 0x7fff && own.Len() < 0x20},
		{"Speed", int64(d.SpeedMTs), own.u16(0x15) == 0xffff},
		{"Configured Memory Speed", int64(d.ConfiguredMTs), own.u16(0x20) == 0xffff},
		{"Rank", int64(d.Rank), false},
	} {
		if value, said := b.values[row.key]; said && !row.skip && dmiNumber(value) != row.got {
			t.Errorf("handle %#x: %s %d; dmidecode %q", b.handle, row.key, row.got, value)
		}
	}
	// u-root reads some sizes that say unknown as numbers (0xffff), and needs whole structures.
	if second, err := smbios.NewMemoryDevice(own.Table); err == nil && own.u16(0x0c) != 0xffff && own.Len() >= 0x20 {
		if size := int64(second.GetSizeBytes()); size != d.SizeBytes {
			t.Errorf("handle %#x: size %d; u-root %d", b.handle, d.SizeBytes, size)
		}
	}
}

// uRootTables are the SMBIOS tables in u-root's own tests; none where its source is not.
func uRootTables(t testing.TB) (tables [][]byte) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/u-root/u-root").Output()
	if err != nil {
		return nil
	}
	for _, name := range []string{"smbios_table.bin", "satellite_pro_l70_testdata.bin"} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "pkg/smbios/testdata", name))
		if err == nil && len(b) > 32 {
			tables = append(tables, b[32:])
		}
	}
	return tables
}

// FuzzSMBIOSPeers (Z19): dmidecode and u-root read the fields that we read, of real tables of which some bytes are
// other ones. Each three bytes of the script are an offset and a value.
func FuzzSMBIOSPeers(f *testing.F) {
	dmidecode := peer(f, "dmidecode")
	tables := append([][]byte{plantedSMBIOS(f)}, uRootTables(f)...)
	for i := range tables {
		f.Add(uint8(i), uint16(0), []byte{})
		f.Add(uint8(i), uint16(300), []byte{})
	}
	at := memoryDevice(tables[0])
	for offset, value := range map[int]byte{1: 0x12, 0x0d: 0xff, 0x18: 9, 0x1b: 0xf3} {
		f.Add(uint8(0), uint16(0), []byte{byte((at + offset) >> 8), byte(at + offset), value})
	}
	f.Fuzz(func(t *testing.T, which uint8, cut uint16, script []byte) {
		table := slices.Clone(tables[int(which)%len(tables)])
		for ; len(script) >= 3; script = script[3:] {
			table[(int(script[0])<<8|int(script[1]))%len(table)] = script[2]
		}
		compareSMBIOS(t, dmidecode, table[:len(table)-int(cut)%len(table)])
	})
}

// A pcap of one Ethernet frame (draft-ietf-opsawg-pcap).
func pcap(frame []byte) []byte {
	b := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00")
	b = append(b, make([]byte, 16)...)
	binary.LittleEndian.PutUint32(b[32:], uint32(len(frame)))
	binary.LittleEndian.PutUint32(b[36:], uint32(len(frame)))
	return append(b, frame...)
}

// tcpdumpSays are lines of tcpdump about an LLDP frame. Of what stands there more than once the last counts.
var tcpdumpSays = map[string]*regexp.Regexp{
	"ttl":  regexp.MustCompile(`(?m)Time to Live TLV \(3\), length \d+: TTL (\d+)s`),
	"pvid": regexp.MustCompile(`(?m)port vlan id \(PVID\): (\d+)$`),
	"mtu":  regexp.MustCompile(`(?m)MTU size (\d+)$`),
	"agg":  regexp.MustCompile(`(?m)aggregation status \[.*\], aggregation port ID (\d+)$`),
	"name": regexp.MustCompile(`(?m)System Name TLV \(5\), length \d+: (.*)$`),
	"port": regexp.MustCompile(`(?m)Port Description TLV \(4\), length \d+: (.*)$`),
	"caps": regexp.MustCompile(`(?m)Enabled Capabilities \[(.*)\] \(0x`),
}

var (
	tcpdumpVLAN    = regexp.MustCompile(`(?m)vlan id \(VID\): (\d+)$`)
	tcpdumpAddress = regexp.MustCompile(`(?m)Management Address length \d+, AFI IPv[46] \(\d\): (\S+)$`)
	tcpdumpCaps    = map[string]string{"Other": "other", "Repeater": "repeater", "Bridge": "bridge", "WLAN AP": "wlan-ap", "Router": "router",
		"Telephone": "telephone", "Docsis": "docsis", "Station Only": "station"}
)

// FuzzLLDPPeer (Z20): tcpdump reads the frames that we take whole as we do.
func FuzzLLDPPeer(f *testing.F) {
	tcpdump := peer(f, "tcpdump")
	first := frameOf(f, lldpFirst)
	f.Add(frameOf(f, lldpFrame)[len(frameOf(f, lldpHeader))+9+14+4:])
	f.Add(frameOf(f, "0a0278790a03616263"))
	f.Add(frameOf(f, "080b7231322d7500646e6961630000")) // a NUL within a description
	f.Add(frameOf(f, "fe0a0080c2030001036d6774"))
	f.Add(frameOf(f, "1012110220010db80000000000000000000000010200000001"+"00"))
	f.Fuzz(func(t *testing.T, tail []byte) {
		frame := append(slices.Clone(first), tail[:min(len(tail), 1400)]...)
		n, err := parseLLDP(frame)
		if err != nil {
			return
		}
		out := ask(t, pcap(frame), tcpdump, "-nvvvr")
		if strings.Contains(out, "[|lldp]") || strings.Contains(out, "(invalid)") {
			return // tcpdump knows more of what is in private TLVs, and gives up there
		}
		says := map[string]string{}
		for key, form := range tcpdumpSays {
			if all := form.FindAllStringSubmatch(out, -1); all != nil {
				says[key] = all[len(all)-1][1]
			}
		}
		for key, got := range map[string]int{"ttl": n.TTL, "mtu": n.MTU} {
			if want, _ := strconv.Atoi(says[key]); want != got {
				t.Errorf("%s %d; tcpdump %q\n%s", key, got, says[key], out)
			}
		}
		if want, _ := strconv.Atoi(says["pvid"]); want < 4095 && n.PVID != want && !strings.Contains(out, "(PVID): 4095") && !strings.Contains(out, "(PVID): 6") {
			t.Errorf("pvid %d; tcpdump %d\n%s", n.PVID, want, out)
		}
		for key, got := range map[string]string{"name": n.SysName, "port": n.PortDesc} {
			if want := says[key]; !strings.HasPrefix(got, want) && facts.Clean(want) == want && // tcpdump ends text at a NUL; we leave NULs out
				!strings.ContainsAny(want, `^\`) && !strings.Contains(want, "M-") {
				t.Errorf("%s %q; tcpdump %q\n%s", key, got, want, out)
			}
		}
		compareLLDPLists(t, n, says, out)
	})
}

func compareLLDPLists(t *testing.T, n facts.Neighbor, says map[string]string, out string) {
	t.Helper()
	var vlans, caps []string
	for _, v := range n.VLANs {
		vlans = append(vlans, strconv.Itoa(v.ID))
	}
	var want []string
	for _, m := range tcpdumpVLAN.FindAllStringSubmatch(out, -1) {
		want = append(want, m[1])
	}
	if diff := gocmp.Diff(want, vlans); diff != "" {
		t.Errorf("VLANs: -tcpdump +ours\n%s\n%s", diff, out)
	}
	want = nil
	for _, m := range tcpdumpAddress.FindAllStringSubmatch(out, -1) {
		if !slices.Contains(want, m[1]) {
			want = append(want, m[1])
		}
	}
	mgmt := slices.DeleteFunc(slices.Clone(n.Mgmt), func(s string) bool { return strings.Count(s, ":") == 5 && len(s) == 17 }) // 802 addresses
	if diff := gocmp.Diff(want, mgmt); diff != "" && len(want) > 0 {
		t.Errorf("addresses: -tcpdump +ours\n%s\n%s", diff, out)
	}
	want = nil
	for word := range strings.SplitSeq(says["caps"], ", ") {
		if name := tcpdumpCaps[word]; name != "" {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	for _, c := range n.Caps {
		if !slices.Contains([]string{"c-vlan", "s-vlan", "tpmr"}, c) { // younger than tcpdump's list
			caps = append(caps, c)
		}
	}
	if diff := gocmp.Diff(want, caps); diff != "" {
		t.Errorf("capabilities: -tcpdump +ours\n%s\n%s", diff, out)
	}
}

// sfdiskTable is what sfdisk -J says of an image.
func sfdiskTable(t testing.TB, out string) (table partitionTable) {
	t.Helper()
	var dump struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct{ Node, Type, UUID, Name string }
		}
	}
	if json.Unmarshal([]byte(out), &dump) != nil {
		return partitionTable{}
	}
	p := dump.PartitionTable
	table = partitionTable{kind: p.Label, uuid: strings.ToLower(strings.TrimPrefix(p.ID, "0x")), entries: map[int]partitionEntry{}}
	for _, row := range p.Partitions {
		number, _ := strconv.Atoi(row.Node[strings.LastIndexFunc(row.Node, func(r rune) bool { return r < '0' || r > '9' })+1:])
		table.entries[number] = partitionEntry{kind: strings.ToLower(row.Type), uuid: strings.ToLower(row.UUID), name: row.Name}
	}
	return table
}

// gptDoubt is what sgdisk says of a table whose checksums do not fit; it prints that table, and not the good one.
var gptDoubt = regexp.MustCompile(`(?i)warning|caution|problem|damaged|corrupt|mismatch|invalid`)

// FuzzPartitionPeers (Z22): sfdisk and sgdisk see the partitions that we see, of a GPT of which some bytes are other
// ones. Each four bytes of the script are an end of the disk, an offset and a value.
func FuzzPartitionPeers(f *testing.F) {
	sfdisk, sgdisk := peer(f, "sfdisk"), peer(f, "sgdisk")
	m := newImage(2 * mib)
	m.gpt(512, "8b2a6c70-2222-4333-8444-555566667777",
		gptPart{64, 127, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0a0b0c0d-0001-4000-8000-000000000001", "EFI System"},
		gptPart{128, 1023, "0fc63daf-8483-4772-8e79-3d69d8477de4", "0a0b0c0d-0001-4000-8000-000000000002", "root"})
	whole := m.bytes()
	const reach = 34 * 512
	f.Add([]byte{})
	f.Add([]byte{0, 2, 0, 'X'})                       // the first header has no signature
	f.Add([]byte{0, 2, 16, 'X'})                      // nor a checksum that fits
	f.Add([]byte{0, 4, 0, 'X'})                       // the first table is not what the header says
	f.Add([]byte{1, 0, 0, 'X', 0, 2, 0, 'X'})         // both are damaged
	f.Add([]byte{1, 66, 0, 'X', 0, 4, 128 + 56, 'X'}) // a name
	f.Fuzz(func(t *testing.T, script []byte) {
		b := slices.Clone(whole)
		for ; len(script) >= 4; script = script[4:] {
			at := (int(script[1])<<8 | int(script[2])) % reach
			if script[0]&1 == 1 {
				at = len(b) - reach + at
			}
			b[at] = script[3]
		}
		got := readTable(bytes.NewReader(b), int64(len(b)), 512, true)
		want := sfdiskTable(t, ask(t, b, sfdisk, "-J"))
		if got.kind != "gpt" || want.kind != "gpt" || got.entries == nil {
			return
		}
		for number, e := range want.entries {
			if own := got.entries[number]; facts.Clean(e.name) != e.name || strings.ContainsAny(e.name, `\?`) {
				e.name = own.name
				want.entries[number] = e
			}
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(partitionTable{}, partitionEntry{})); diff != "" {
			t.Errorf("-sfdisk +ours\n%s", diff)
		}
		out := ask(t, b, sgdisk, "-p")
		if rows := regexp.MustCompile(`(?m)^ +\d+ +\d+ +\d+ `).FindAllString(out, -1); len(rows) != len(got.entries) && !gptDoubt.MatchString(out) {
			t.Errorf("%d partitions; sgdisk\n%s", len(got.entries), out)
		}
	})
}

// FuzzGUID (Z29): the bytes of a GUID on disk are those that Python's uuid calls bytes_le.
func FuzzGUID(f *testing.F) {
	python := peer(f, "python3")
	f.Add(guidBytes("f7b4d8c9-cce8-418c-8b52-8a6f124e8655"), []byte{0x52, 0x54, 0, 0xaa, 0, 1})
	f.Add(bytes.Repeat([]byte{0xff}, 16), []byte{1, 0, 0x5e, 0, 0, 1})
	f.Add(make([]byte, 15), []byte{})
	speak := newPython(f, python, `
import sys, uuid
for line in sys.stdin:
    b = bytes.fromhex(line)
    print(uuid.UUID(bytes_le=b), uuid.UUID(bytes=b), flush=True)`)
	f.Fuzz(func(t *testing.T, b, mac []byte) {
		if len(b) == 16 && [16]byte(b) != [16]byte{} {
			want := strings.Fields(speak(t, hex.EncodeToString(b)))
			if got := []string{guid(b), rawUUID(b)}; !slices.Equal(got, want) {
				t.Errorf("guid, rawUUID of %x: %q; python %q", b, got, want)
			}
			for _, s := range want {
				for _, spelt := range []string{s, strings.ToUpper(s), "{" + s + "}", strings.ReplaceAll(s, "-", "")} {
					if got := facts.CleanUUID(spelt); got != s && got != "" || got != facts.CleanUUID(s) {
						t.Errorf("CleanUUID(%q) = %q; want %q", spelt, got, s)
					}
				}
			}
		}
		if len(mac) == 6 {
			want := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
			if mac[0]&1 == 1 || bytes.Equal(mac, make([]byte, 6)) {
				want = ""
			}
			text := hex.EncodeToString(mac)
			for _, spelt := range []string{text, strings.ToUpper(text), "01" + text, text[:4] + "." + text[4:8] + "." + text[8:]} {
				if got := facts.CleanMAC(spelt); got != want {
					t.Errorf("CleanMAC(%q) = %q; want %q", spelt, got, want)
				}
			}
		}
	})
}

// newPython is a program of Python that answers each line by a line.
func newPython(f *testing.F, python, program string) func(t *testing.T, line string) string {
	f.Helper()
	cmd := exec.Command(python, "-c", program)
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := cmp.Or(err, err2, cmd.Start()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { in.Close(); cmd.Wait() })
	answers := bufio.NewReader(out)
	return func(t *testing.T, line string) string {
		t.Helper()
		if _, err := fmt.Fprintln(in, line); err != nil {
			t.Fatal(err)
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}
