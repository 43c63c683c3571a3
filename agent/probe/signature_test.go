package probe

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

const someUUID = "01234567-89ab-cdef-0123-456789abcdef"

func TestSignatures(t *testing.T) {
	const size = 4 * mib
	for _, tt := range []struct {
		name string
		at   map[int64]string
		want *facts.Content
	}{
		{"nothing", nil, nil},
		{"ext2", map[int64]string{1080: "\x53\xef", 1128: unhex(someUUID), 1144: "boot"}, &facts.Content{Type: "ext2", UUID: someUUID, Label: "boot"}},
		{"ext3 has a journal", map[int64]string{1080: "\x53\xef", 1116: "\x04"}, &facts.Content{Type: "ext3"}},
		{"ext4 has extents", map[int64]string{1080: "\x53\xef", 1116: "\x04", 1120: "\x40"}, &facts.Content{Type: "ext4"}},
		{"the number of ext with a block size that cannot be", map[int64]string{1080: "\x53\xef", 1048: "\x07"}, nil},
		{"xfs", map[int64]string{0: "XFSB", 32: unhex(someUUID), 108: "data"}, &facts.Content{Type: "xfs", UUID: someUUID, Label: "data"}},
		{"btrfs", map[int64]string{65600: "_BHRfS_M", 65568: unhex(someUUID), 65835: "pool"}, &facts.Content{Type: "btrfs", UUID: someUUID, Label: "pool"}},
		{"swap", map[int64]string{4086: "SWAPSPACE2", 1036: unhex(someUUID), 1052: "swp"}, &facts.Content{Type: "swap", UUID: someUUID, Label: "swp"}},
		{"fat32", map[int64]string{82: "FAT32   ", 67: unhex("eeffc000"), 71: "NO NAME    "}, &facts.Content{Type: "vfat", UUID: "00C0-FFEE"}},
		{"fat12", map[int64]string{54: "FAT12   ", 39: unhex("eeffc000"), 43: "FLOPPY     "}, &facts.Content{Type: "vfat", UUID: "00C0-FFEE", Label: "FLOPPY"}},
		{"ntfs", map[int64]string{3: "NTFS    ", 72: unhex("efcdab8967452301")}, &facts.Content{Type: "ntfs", UUID: "0123456789ABCDEF"}},
		{"exfat", map[int64]string{3: "EXFAT   ", 100: unhex("eeffc000")}, &facts.Content{Type: "exfat", UUID: "00C0-FFEE"}},
		{"luks 1", map[int64]string{0: "LUKS\xba\xbe\x00\x01", 24: "xts-plain64", 168: someUUID}, &facts.Content{Type: "luks", UUID: someUUID}},
		{"luks 2", map[int64]string{0: "LUKS\xba\xbe\x00\x02", 24: "vault", 168: someUUID}, &facts.Content{Type: "luks", UUID: someUUID, Label: "vault"}},
		{"lvm2 in the second sector", map[int64]string{512: "LABELONE", 536: "LVM2 001abcdefghijklmnopqrstuvwxyz012345"},
			&facts.Content{Type: "lvm2", UUID: "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"}},
		{"md 1.2", map[int64]string{4096: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", 4112: unhex(someUUID), 4128: "host:0"}, &facts.Content{Type: "md", UUID: someUUID, Label: "host:0"}},
		{"md 1.0 at the end, around an ext4", map[int64]string{size - 8192: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", 1080: "\x53\xef", 1120: "\x40"}, &facts.Content{Type: "md"}},
		{"md 0.90 at the end", map[int64]string{size - 65536: "\xfc\x4e\x2b\xa9\x00\x00\x00\x00"}, &facts.Content{Type: "md"}},
		{"iso9660", map[int64]string{32769: "CD001", 32808: "DEBIAN 12                       "}, &facts.Content{Type: "iso9660", Label: "DEBIAN 12"}},
		{"squashfs", map[int64]string{0: "hsqs"}, &facts.Content{Type: "squashfs"}},
		{"zfs", map[int64]string{128<<10 + 5*1024: "\x0c\xb1\xba\x00\x00\x00\x00\x00"}, &facts.Content{Type: "zfs"}},
		{"zfs of a big-endian machine", map[int64]string{128 << 10: "\x00\x00\x00\x00\x00\xba\xb1\x0c"}, &facts.Content{Type: "zfs"}},
		{"bcache", map[int64]string{4120: unhex("c68573f64e1a45ca8265f57f48ba6d81"), 4136: unhex(someUUID), 4168: "cache"}, &facts.Content{Type: "bcache", UUID: someUUID, Label: "cache"}},
		{"vmfs", map[int64]string{mib: "\x0d\xd0\x01\xc0"}, &facts.Content{Type: "vmfs"}},
		{"gfs2", map[int64]string{64 << 10: "\x01\x16\x19\x70\x00\x00\x00\x01"}, &facts.Content{Type: "gfs2"}},
		{"ocfs2 of blocks of 4 KiB", map[int64]string{8192: "OCFSV2"}, &facts.Content{Type: "ocfs2"}},
		{"ocfs2 of blocks of 512 bytes", map[int64]string{1024: "OCFSV2"}, &facts.Content{Type: "ocfs2"}},
		{"ddf", map[int64]string{size - 512: "\xde\x11\xde\x11"}, &facts.Content{Type: "ddf"}},
		{"isw", map[int64]string{size - 1024: "Intel Raid ISM Cfg Sig. 1.3"}, &facts.Content{Type: "isw"}},
		{"a label with an escape", map[int64]string{0: "XFSB", 108: "a\x1b[2J\nb"}, &facts.Content{Type: "xfs", Label: "a [2J b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newImage(size)
			m.part(0, tt.at)
			got, err := readContent(bytes.NewReader(m.bytes()), size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestPartitionTables(t *testing.T) {
	const uuid, kind = "8b2a6c70-2222-4333-8444-555566667777", "0fc63daf-8483-4772-8e79-3d69d8477de4"
	gpt := func(lba int64) image {
		m := newImage(4 * mib)
		m.gpt(lba, uuid, gptPart{64, 127, kind, someUUID, "rööt"}, gptPart{}, gptPart{128, 255, kind, uuid, "a\nb"})
		return m
	}
	want := partitionTable{kind: "gpt", uuid: uuid, entries: map[int]partitionEntry{
		1: {kind: kind, uuid: someUUID, name: "rööt"}, 3: {kind: kind, uuid: uuid, name: "a b"},
	}}
	chain := newImage(4 * mib)
	chain.mbr(0xcafe1234, mbrPart{0x83, 64, 64}, mbrPart{0x05, 1024, 4096})
	chain.bootRecord(1024*512, 0, mbrPart{0x82, 64, 64}, mbrPart{0x05, 512, 512})
	chain.bootRecord(1536*512, 0, mbrPart{0x8e, 64, 64})
	loop := newImage(4 * mib)
	loop.mbr(0, mbrPart{0x0f, 1024, 4096})
	loop.bootRecord(1024*512, 0, mbrPart{0x83, 64, 64}, mbrPart{0x05, 0, 512})
	damaged := func(m image, offsets ...int64) image {
		for _, offset := range offsets {
			m.at[offset] = m.at[offset][:20] + "damaged" + m.at[offset][27:]
		}
		return m
	}
	boot := newImage(4 * mib)
	boot.at[510] = "\x55\xaa"
	odd := newImage(4 * mib)
	odd.mbr(1, mbrPart{0x83, 64, 64})
	odd.at[446] = "\x12"
	for _, tt := range []struct {
		name  string
		image image
		plain bool
		want  partitionTable
	}{
		{"gpt", gpt(512), true, want},
		{"gpt in blocks of 4 KiB", gpt(4096), true, want},
		{"gpt whose front is damaged", damaged(gpt(512), 512), true, want},
		{"gpt whose entries in front are damaged", damaged(gpt(512), 1024), true, want},
		{"gpt damaged at both ends", damaged(gpt(512), 512, 4*mib-512), true, partitionTable{kind: "gpt"}},
		{"logical partitions", chain, true, partitionTable{kind: "dos", uuid: "cafe1234", entries: map[int]partitionEntry{
			1: {kind: "0x83", uuid: "cafe1234-01"}, 2: {kind: "0x05", uuid: "cafe1234-02", container: true},
			5: {kind: "0x82", uuid: "cafe1234-05"}, 6: {kind: "0x8e", uuid: "cafe1234-06"},
		}}},
		{"a chain that turns back", loop, true, partitionTable{kind: "dos", entries: map[int]partitionEntry{
			1: {kind: "0x0f", container: true}, 5: {kind: "0x83"},
		}}},
		{"a boot sector without partitions", boot, true, partitionTable{}},
		{"a boot sector with code where entries would be", odd, true, partitionTable{}},
		{"the boot sector of a file system", chain, false, partitionTable{}},
		{"zeros", newImage(4 * mib), true, partitionTable{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readTable(bytes.NewReader(tt.image.bytes()), tt.image.size, 512, tt.plain)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(partitionTable{}, partitionEntry{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// S34: what the tools of the distribution write is read back. Each is skipped where it is not installed.
func TestRealTools(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		argv []string
		want facts.Content
	}{
		{"mkfs.ext4", 16 * mib, []string{"mkfs.ext4", "-q", "-F", "-U", someUUID, "-L", "rootfs"}, facts.Content{Type: "ext4", UUID: someUUID, Label: "rootfs"}},
		{"mkfs.ext3", 16 * mib, []string{"mkfs.ext3", "-q", "-F", "-U", someUUID}, facts.Content{Type: "ext3", UUID: someUUID}},
		{"mkfs.ext2", 16 * mib, []string{"mkfs.ext2", "-q", "-F", "-U", someUUID}, facts.Content{Type: "ext2", UUID: someUUID}},
		{"mkfs.xfs", 512 * mib, []string{"mkfs.xfs", "-q", "-m", "uuid=" + someUUID, "-L", "data"}, facts.Content{Type: "xfs", UUID: someUUID, Label: "data"}},
		{"mkfs.btrfs", 256 * mib, []string{"mkfs.btrfs", "-q", "-U", someUUID, "-L", "pool"}, facts.Content{Type: "btrfs", UUID: someUUID, Label: "pool"}},
		{"mkfs.vfat", 64 * mib, []string{"mkfs.vfat", "-F", "32", "-i", "1234abcd", "-n", "ESP"}, facts.Content{Type: "vfat", UUID: "1234-ABCD", Label: "ESP"}},
		{"mkswap", 16 * mib, []string{"mkswap", "-q", "-U", someUUID, "-L", "swp"}, facts.Content{Type: "swap", UUID: someUUID, Label: "swp"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := toolImage(t, tt.size, nil, tt.argv...)
			got, err := readContent(file, tt.size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// Z22: sfdisk sees the partitions we see.
func TestSfdiskAgrees(t *testing.T) {
	for name, script := range map[string]string{
		"gpt": "label: gpt\nsize=1MiB, name=\"EFI System\", type=U\nsize=2MiB, name=root\n",
		"dos": "label: dos\nsize=1MiB, type=83\nsize=8MiB, type=5\nsize=1MiB, type=82\nsize=1MiB, type=8e\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := toolImage(t, 16*mib, strings.NewReader(script), "sfdisk", "-q")
			out, err := exec.Command("sfdisk", "-J", file.Name()).Output()
			if err != nil {
				t.Skip(err)
			}
			var dump struct {
				PartitionTable struct {
					Label, ID  string
					Partitions []struct{ Node, Type, UUID, Name string }
				}
			}
			if err := json.Unmarshal(out, &dump); err != nil {
				t.Fatal(err)
			}
			want := partitionTable{kind: name, uuid: strings.ToLower(strings.TrimPrefix(dump.PartitionTable.ID, "0x")), entries: map[int]partitionEntry{}}
			got := readTable(file, 16*mib, 512, true)
			for _, p := range dump.PartitionTable.Partitions {
				number := int(p.Node[len(p.Node)-1] - '0')
				e := partitionEntry{kind: strings.ToLower(p.Type), uuid: strings.ToLower(p.UUID), name: p.Name}
				if name == "dos" {
					e = partitionEntry{kind: "0x" + strings.Repeat("0", 2-len(p.Type)) + p.Type, uuid: got.entries[number].uuid, container: p.Type == "5"}
				}
				want.entries[number] = e
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(partitionTable{}, partitionEntry{})); diff != "" {
				t.Errorf("-sfdisk +got\n%s", diff)
			}
		})
	}
}

// toolImage is an empty image after a tool wrote on it.
func toolImage(t *testing.T, size int64, stdin *strings.Reader, argv ...string) *os.File {
	t.Helper()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		if path, err = exec.LookPath("/sbin/" + argv[0]); err != nil {
			t.Skip(err)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "disk1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(argv[1:], file.Name())...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return file
}

// FuzzDisk (Z22): any bytes at both ends of a disk give a valid document, in bounded time.
func FuzzDisk(f *testing.F) {
	add := func(m image) {
		b := m.bytes()
		f.Add(b[:4096], b[len(b)-4096:])
	}
	gpt := newImage(mib)
	gpt.gpt(512, someUUID, gptPart{64, 127, someUUID, someUUID, "root"})
	add(gpt)
	dos := newImage(mib)
	dos.mbr(1, mbrPart{0x05, 1, 4096})
	add(dos)
	f.Add([]byte("LUKS\xba\xbe\x00\x02"), []byte{})
	f.Fuzz(func(t *testing.T, front, back []byte) {
		const size = mib
		b := make([]byte, size)
		copy(b, front)
		copy(b[size-min(len(back), size):], back)
		r := bytes.NewReader(b)
		content, err := readContent(r, size)
		if err != nil {
			t.Fatal(err)
		}
		table := readTable(r, size, 512, content == nil)
		d := facts.Disk{ID: "x", Name: "x", Content: content, Table: table.kind, TableUUID: table.uuid}
		if len(table.entries) > 1024+maxPartitions {
			t.Fatalf("%d entries", len(table.entries))
		}
		for number, e := range table.entries {
			d.Partitions = append(d.Partitions[:0], facts.Partition{Number: number, Type: e.kind, UUID: e.uuid, Name: e.name})
		}
		doc := facts.Facts{Schema: facts.Schema, Disks: []facts.Disk{d}}
		if err := doc.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
