package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

const wipeDiskSize = 34 << 20 // more than both ends

// A wipeCase is a machine with disks a, b and c, and an order that names the first two.
type wipeCase struct {
	a     *Agent
	b     *testBroker
	s     *screen
	disks []facts.Disk
	order facts.Order
	fault map[string]func(*Disk) // by name, what is wrong with a disk once it is open
}

func newWipeCase(t *testing.T, method string) *wipeCase {
	t.Helper()
	a, b, s := newAgent(t)
	c := &wipeCase{a: a, b: b, s: s, fault: map[string]func(*Disk){}}
	c.order = facts.Order{ID: 2, Kind: facts.OrderWipe, Because: "node clean", Wipe: &facts.Wipe{Method: method}}
	for _, name := range []string{"sda", "sdb", "sdc"} {
		d := facts.Disk{ID: "naa." + name, Name: name, SizeBytes: wipeDiskSize, Serial: "S-" + name, WWN: "naa." + name, Transport: "sata"}
		c.disks = append(c.disks, d)
		put(t, c.path(name), "")
		for _, m := range marks {
			c.fill(t, name, m.off, []byte(m.text))
		}
		if name != "sdc" {
			c.order.Wipe.Disks = append(c.order.Wipe.Disks, facts.Target{ID: d.ID, SizeBytes: d.SizeBytes, Serial: d.Serial, WWN: d.WWN})
		}
	}
	a.Probe = func(context.Context, ...string) Probed {
		f := facts.Facts{Schema: facts.Schema, Disks: slices.Clone(c.disks)}
		hash, err := f.Hash()
		if err != nil {
			t.Error(err)
		}
		return Probed{Facts: f, Hash: hash}
	}
	a.OpenDisk = func(name string) (*Disk, error) {
		d, err := openDevice(a.Root, name)
		if f := c.fault[name]; err == nil && f != nil {
			f(d)
		}
		return d, err
	}
	return c
}

func (c *wipeCase) path(name string) string { return filepath.Join(c.a.Root, "dev", name) }

// fill writes bytes at an offset of a disk.
func (c *wipeCase) fill(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(c.path(name), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, off)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *wipeCase) run(t *testing.T) facts.Report {
	t.Helper()
	c.b.orders = []facts.Order{c.order}
	live(t, c.a, 10*time.Minute)
	return c.b.last()
}

// marks are what stands on each disk before.
var marks = []struct {
	off  int64
	text string
}{{0, "boot"}, {wipeDiskSize / 2, "in the middle"}, {wipeDiskSize - 4, "last"}}

// left says which of its marks a disk still has, and whether it is as long as before.
func (c *wipeCase) left(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(c.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var left []string
	for _, m := range marks {
		b := make([]byte, len(m.text))
		if _, err := f.ReadAt(b, m.off); err != nil {
			t.Fatal(err)
		}
		if string(b) == m.text {
			left = append(left, m.text)
		}
	}
	return strings.Join(left, ", ")
}

const untouched = "boot, in the middle, last"

// What each method leaves, and that it touches no disk which the order does not name.
func TestWipeMethods(t *testing.T) {
	for _, row := range []struct {
		method, left, message string
	}{
		{facts.WipeSignatures, "in the middle", "wiped sda (signatures), sdb (signatures)"},
		{facts.WipeOverwrite, "", "wiped sda (overwrite), sdb (overwrite)"},
		{facts.WipeDiscard, "", "wiped sda (discard), sdb (discard)"},
		{facts.WipeAuto, "", "wiped sda (discard), sdb (discard)"},
	} {
		t.Run(row.method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWipeCase(t, row.method)
				for _, name := range []string{"sda", "sdb", "sdc"} {
					put(t, filepath.Join(c.a.Root, "sys/block", name, "queue/discard_max_bytes"), "2147483648\n")
					c.fault[name] = func(d *Disk) { d.own = &fakeCommands{disk: d} }
				}
				got := c.run(t)
				if got.Status != facts.StatusDone || got.Message != row.message || got.DoneBytes != got.AllBytes || got.DoneBytes == 0 {
					t.Errorf("report %+v; want done, %q\n%s", got, row.message, c.s)
				}
				left := fmt.Sprintf("%s|%s|%s", c.left(t, "sda"), c.left(t, "sdb"), c.left(t, "sdc"))
				if want := row.left + "|" + row.left + "|" + untouched; left != want {
					t.Errorf("the disks hold %s; want %s", left, want)
				}
			})
		})
	}
}

// The disks are others afterwards: the broker is told at once what they hold now.
func TestWipedMachineChecksInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWipeCase(t, facts.WipeSignatures)
		c.disks[0].Table = "gpt"
		look := c.a.Probe
		c.a.Probe = func(ctx context.Context, only ...string) Probed {
			if c.left(t, "sda") != untouched {
				c.disks[0].Table = ""
			}
			return look(ctx, only...)
		}
		c.run(t)
		if len(c.b.checkIns) != 2 || c.b.checkIns[1].Facts == nil || c.b.checkIns[1].Facts.Disks[0].Table != "" {
			t.Errorf("%d check-ins; want a second one with the disks as they are now", len(c.b.checkIns))
		}
	})
}

// The agent knows every way to wipe that an order may name, and no other.
func TestWipeMethodsAreThoseOfTheWire(t *testing.T) {
	want := slices.Sorted(slices.Values(facts.WipeMethods))
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(wipeWays))); diff != "" {
		t.Errorf("methods (-wire +agent):\n%s", diff)
	}
}

// T52: one id on two disks names neither, whether the probe noticed or not.
func TestT52OneIDOnTwoDisks(t *testing.T) {
	d := facts.Disk{ID: "naa.5", Name: "sda", SizeBytes: 1}
	if _, err := findTarget([]facts.Disk{d, d}, facts.Target{ID: "naa.5", SizeBytes: 1}); err == nil {
		t.Error("one of two disks with the same id was found")
	}
}

// Orders that must be refused before any of their disks is touched.
func TestRefusedWipes(t *testing.T) {
	for _, row := range []struct {
		name    string
		change  func(t *testing.T, c *wipeCase)
		message string
	}{
		{"no disks", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Disks = nil }, "the order to wipe names no disk"},
		{"no wipe", func(_ *testing.T, c *wipeCase) { c.order.Wipe = nil }, "the order to wipe names no disk"},
		{"no method", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Method = "" }, `there is no way to wipe called ""`},
		{"T53: a method that is a command", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Method = "shred -n 3" },
			`there is no way to wipe called "shred -n 3"`},
		{"T53: a guard that is none", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Lift = []string{"all"} }, `there is no guard called "all"`},
		{"a disk of no bytes", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Disks[1].SizeBytes = 0 }, `the order says that disk "naa.sdb" has 0 bytes`},
		{"one disk twice", func(_ *testing.T, c *wipeCase) { c.order.Wipe.Disks[1] = c.order.Wipe.Disks[0] }, `the order names disk "naa.sda" twice`},
		{"T52: a disk that is gone", func(_ *testing.T, c *wipeCase) { c.disks = c.disks[:1] }, `no disk has the id "naa.sdb" now`},
		{"T52: another disk with the same id", func(_ *testing.T, c *wipeCase) { c.disks[2].ID, c.disks[1].Dup, c.disks[2].Dup = "naa.sdb", true, true }, `several disks have the id "naa.sdb"`},
		{"T52: another size", func(_ *testing.T, c *wipeCase) { c.disks[1].SizeBytes++ }, `disk "naa.sdb" has 35651585 bytes; the order says 35651584`},
		{"T52: another serial", func(_ *testing.T, c *wipeCase) { c.disks[1].Serial = "X" }, `disk "naa.sdb" has serial "X"; the order says "S-sdb"`},
		{"T52: another wwn", func(_ *testing.T, c *wipeCase) { c.disks[1].WWN = "naa.9" }, `disk "naa.sdb" has wwn "naa.9"; the order says "naa.sdb"`},
		{"T52: a disk whose size is not what the probe said", func(t *testing.T, c *wipeCase) { c.fill(t, "sdb", wipeDiskSize, []byte{1}) },
			"disk sdb has 35651585 bytes; the order says 35651584"},
		{"everything that is wrong is said at once", func(_ *testing.T, c *wipeCase) { c.disks[0].ReadOnly = true; c.disks[1].Serial = "X" },
			`disk "naa.sda" is read-only; disk "naa.sdb" has serial "X"; the order says "S-sdb"`},
		{"T54: a removable disk", func(_ *testing.T, c *wipeCase) { c.disks[1].Removable = true },
			`disk sdb is removable and the order does not lift the guard "removable"`},
		{"T54: a USB disk", func(_ *testing.T, c *wipeCase) { c.disks[1].Transport = "usb" },
			`disk sdb is behind USB and the order does not lift the guard "usb"`},
		{"T54: vmfs", func(_ *testing.T, c *wipeCase) { c.disks[1].Content = &facts.Content{Type: "vmfs"} },
			`disk sdb holds vmfs, which other machines may have mounted and the order does not lift the guard "shared"`},
		{"T54: gfs2 in a partition", func(_ *testing.T, c *wipeCase) {
			c.disks[1].Partitions = []facts.Partition{{Number: 1}, {Number: 2, Content: &facts.Content{Type: "gfs2"}}}
		}, `disk sdb holds gfs2, which other machines may have mounted and the order does not lift the guard "shared"`},
		{"T54: gpfs, which only the partition table tells", func(_ *testing.T, c *wipeCase) {
			c.disks[1].Partitions = []facts.Partition{{Number: 1, Type: "37AFFC90-EF7D-4E96-91C3-2D7AE055B174"}}
		}, `disk sdb holds gpfs, which other machines may have mounted and the order does not lift the guard "shared"`},
		{"T54: to lift another guard is not enough", func(_ *testing.T, c *wipeCase) {
			c.disks[1].Transport, c.order.Wipe.Lift = "usb", []string{"removable", "shared"}
		}, `disk sdb is behind USB and the order does not lift the guard "usb"`},
		{"a partition that is mounted", func(t *testing.T, c *wipeCase) {
			c.disks[1].Partitions = []facts.Partition{{Number: 1}}
			put(t, filepath.Join(c.a.Root, "proc/mounts"), "tmpfs /tmp tmpfs rw 0 0\n/dev/sdb1 /mnt ext4 rw 0 0\n")
		}, "disk sdb is in use: sdb1 is mounted on /mnt: unmount it first"},
		{"a disk that is swapped to", func(t *testing.T, c *wipeCase) {
			put(t, filepath.Join(c.a.Root, "proc/swaps"), "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n")
		}, "disk sdb is in use: sdb is swapped to: swapoff it first"},
		{"a partition of a RAID that runs", func(t *testing.T, c *wipeCase) {
			c.disks[1].Partitions = []facts.Partition{{Number: 3}}
			put(t, filepath.Join(c.a.Root, "sys/block/sdb/sdb3/holders/md127"), "")
		}, "disk sdb is in use: sdb3 is part of md127: stop that first"},
		{"a disk that the kernel does not give", func(_ *testing.T, c *wipeCase) {
			c.a.OpenDisk = func(string) (*Disk, error) { return nil, errors.New("device or resource busy") }
		}, "open disk sda: device or resource busy; open disk sdb: device or resource busy"},
		{"a disk that takes no discard", func(t *testing.T, c *wipeCase) {
			c.order.Wipe.Method = facts.WipeDiscard
			put(t, filepath.Join(c.a.Root, "sys/block/sda/queue/discard_max_bytes"), "4096\n")
			put(t, filepath.Join(c.a.Root, "sys/block/sdb/queue/discard_max_bytes"), "0\n")
			c.fault["sda"] = func(d *Disk) { d.own = &fakeCommands{disk: d} }
		}, "disk sdb: it takes no discard (TRIM, UNMAP): use overwrite, or signatures"},
		{"the erase of a SATA disk", func(_ *testing.T, c *wipeCase) {
			c.order.Wipe.Method, c.order.Wipe.Disks = facts.WipeSecure, c.order.Wipe.Disks[:1]
		}, "disk sda: the erase of ATA disks is not used, because a power cut in it leaves them locked: use discard for an SSD, overwrite for a hard disk"},
		{"the erase of a virtio disk", func(_ *testing.T, c *wipeCase) {
			c.order.Wipe.Method, c.order.Wipe.Disks, c.disks[0].Transport = facts.WipeSecure, c.order.Wipe.Disks[:1], "virtio"
		}, `disk sda: a disk of transport "virtio" has no erase of its own that is known here: use discard or overwrite`},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWipeCase(t, facts.WipeOverwrite)
				row.change(t, c)
				want := row.message
				if c.order.Wipe != nil && len(c.order.Wipe.Disks) > 0 {
					want += "; no disk was touched"
				}
				if got := c.run(t); got.Status != facts.StatusFailed || got.Message != want {
					t.Errorf("report %s %q\nwant failed %q", got.Status, got.Message, want)
				}
				for _, name := range []string{"sda", "sdb", "sdc"} {
					if left := c.left(t, name); left != untouched {
						t.Errorf("disk %s was written to: it holds %q", name, left)
					}
				}
			})
		})
	}
}

// T54: a guard that is lifted by its name holds no more.
func TestT54LiftedGuards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWipeCase(t, facts.WipeSignatures)
		c.disks[0].Removable, c.disks[0].Transport = true, "usb"
		c.disks[1].Content = &facts.Content{Type: "ocfs2"}
		c.order.Wipe.Lift = []string{facts.GuardUSB, facts.GuardShared, facts.GuardRemovable}
		if got := c.run(t); got.Status != facts.StatusDone {
			t.Errorf("report %+v", got)
		}
	})
}

// F45: a disk that fails in the middle is told with the place, and the others are wiped.
func TestF45OneDiskFails(t *testing.T) {
	for _, row := range []struct {
		name    string
		method  string
		fault   func(*Disk)
		message string
	}{
		{"a write in the middle", facts.WipeOverwrite, func(d *Disk) { d.file = &worn{blockFile: d.file, at: 17 << 20} },
			"disk sda (naa.sda): overwrite: write 1048576 bytes at byte 17825792: input/output error; wiped sdb (overwrite)"},
		{"a write at the end", facts.WipeSignatures, func(d *Disk) { d.file = &worn{blockFile: d.file, at: wipeDiskSize - 1} },
			"disk sda (naa.sda): erase signatures: write 1048576 bytes at byte 34603008: input/output error; wiped sdb (signatures)"},
		{"a write that the disk forgets in the middle", facts.WipeOverwrite, func(d *Disk) { d.file = &faulty{blockFile: d.file, liesAt: 17<<20 + 5} },
			"disk sda (naa.sda): overwrite: bytes 17825792 to 18874367 do not read back as zeros; wiped sdb (overwrite)"},
		{"a write that the disk forgets at the end", facts.WipeSignatures, func(d *Disk) { d.file = &faulty{blockFile: d.file, liesAt: wipeDiskSize - 5} },
			"disk sda (naa.sda): erase signatures: bytes 34603008 to 35651583 do not read back as zeros; wiped sdb (signatures)"},
		{"a fault of the agent itself", facts.WipeSignatures, func(d *Disk) { d.file = buggy{d.file} },
			"disk sda (naa.sda): agent panicked: index out of range; wiped sdb (signatures)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWipeCase(t, row.method)
				c.fault["sda"] = row.fault
				got := c.run(t)
				if got.Status != facts.StatusFailed || got.Message != row.message {
					t.Errorf("report %s %q\nwant failed %q", got.Status, got.Message, row.message)
				}
				if left := c.left(t, "sdb"); strings.Contains(left, "boot") || strings.Contains(left, "last") {
					t.Errorf("the other disk holds %q", left)
				}
				if c.left(t, "sdc") != untouched {
					t.Error("a disk that the order does not name was touched")
				}
			})
		})
	}
}

// worn is a disk of which one byte cannot be written.
type worn struct {
	blockFile
	at int64
}

func (w *worn) WriteAt(p []byte, off int64) (int, error) {
	if off <= w.at && w.at < off+int64(len(p)) {
		return 0, errors.New("input/output error")
	}
	return w.blockFile.WriteAt(p, off)
}

// buggy is a disk at which this program fails.
type buggy struct{ blockFile }

func (buggy) WriteAt([]byte, int64) (int, error) { panic("index out of range") }

// A spot that cannot be written does not save the others: nothing must start from the disk.
func TestEverySpotIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWipeCase(t, facts.WipeSignatures)
		c.fault["sda"] = func(d *Disk) { d.file = &worn{blockFile: d.file, at: 100} }
		c.run(t)
		if left := c.left(t, "sda"); left != "boot, in the middle" {
			t.Errorf("the disk holds %q; want its last bytes erased though the first cannot be", left)
		}
	})
}

// A long wipe is reported on the way, and the console is told how far it is.
func TestWipeProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWipeCase(t, facts.WipeOverwrite)
		for _, name := range []string{"sda", "sdb"} {
			c.fault[name] = func(d *Disk) { d.file = slow{d.file} }
		}
		if got := c.run(t); got.Status != facts.StatusDone {
			t.Fatalf("report %+v", got)
		}
		last := int64(-1)
		seen := 0
		for _, r := range c.b.reports {
			if r.Status != facts.StatusProgress {
				continue
			}
			seen++
			if r.DoneBytes < last || r.DoneBytes > r.AllBytes || !strings.Contains(r.Message, "sda overwrite") && !strings.Contains(r.Message, "sda signatures") && !strings.Contains(r.Message, "reading back") {
				t.Errorf("progress %+v after %d bytes", r, last)
			}
			last = r.DoneBytes
		}
		if seen < 10 || !strings.Contains(c.s.String(), "wiping: ") {
			t.Errorf("%d reports of progress; want one every two seconds, and lines on the console:\n%s", seen, c.s)
		}
	})
}

// slow is a disk of 2 MiB/s.
type slow struct{ blockFile }

func (s slow) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(500 * time.Millisecond)
	return s.blockFile.WriteAt(p, off)
}

func TestSpots(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		name string
		size int64
		part []facts.Partition
		want []span
	}{
		{"a disk of nothing but ends", 20 * mib, nil, []span{{0, 20 * mib}}},
		{"the third superblock of btrfs", 300 << 30, nil, []span{{0, 16 * mib}, {64 * mib, 64 << 10}, {256 << 30, 64 << 10}, {300<<30 - 16*mib, 16 * mib}}},
		{"partitions, one after the other", 1000 * mib, []facts.Partition{{StartBytes: mib, SizeBytes: 499 * mib}, {StartBytes: 500 * mib, SizeBytes: 499 * mib}},
			[]span{{0, 17 * mib}, {64 * mib, 64 << 10}, {65 * mib, 64 << 10}, {484 * mib, 32 * mib}, {564 * mib, 64 << 10}, {983 * mib, 17 * mib}}},
		{"a partition past the end, as the table of a larger disk says", 100 * mib, []facts.Partition{{StartBytes: 50 * mib, SizeBytes: 1000 * mib}, {StartBytes: 200 * mib, SizeBytes: mib}},
			[]span{{0, 16 * mib}, {50 * mib, 16 * mib}, {84 * mib, 16 * mib}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := signatureSpots(facts.Disk{Partitions: row.part}, row.size)
			if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("spots (-want +got):\n%s", diff)
			}
		})
	}
}

// What is read back of a large disk lies in it, in every part of it.
func TestSamples(t *testing.T) {
	for _, size := range []int64{1, 1 << 30, wipeSamples * wipeChunk, 5 << 30, 20e12} {
		end, read := int64(0), int64(0)
		for _, s := range samples(size) {
			if s.off < end || s.off-end > 2*size/wipeSamples {
				t.Fatalf("size %d: a sample at byte %d after byte %d", size, s.off, end)
			}
			end, read = s.off+s.n, read+s.n
		}
		if end > size || size-end > 2*size/wipeSamples || read > wipeSamples*wipeChunk*2 {
			t.Errorf("size %d: samples end at byte %d, %d bytes in all", size, end, read)
		}
	}
}

// A seed puts something onto a disk that wipefs finds.
type seed struct {
	name    string
	program []string         // with the file's name at the end
	bytes   map[int64]string // from the end when negative
}

// seeds are file systems and members by their own programs, and signatures where the libraries look for them
// (util-linux, libblkid/src/superblocks).
var seeds = []seed{
	{name: "ext4", program: []string{"mkfs.ext4", "-q", "-F"}},
	{name: "xfs", program: []string{"mkfs.xfs", "-q", "-f", "--unsupported"}},
	{name: "vfat", program: []string{"mkfs.vfat"}},
	{name: "swap", program: []string{"mkswap", "-q"}},
	{name: "btrfs", program: []string{"mkfs.btrfs", "-q", "-f", "--mixed"}},
	{name: "LVM 2", bytes: map[int64]string{512: lvmLabel()}},
	{name: "LUKS 2 by its second header, 4 MiB in", bytes: map[int64]string{4 << 20: "SKUL\xba\xbe\x00\x02"}},
	{name: "md 1.0, 8 KiB before the end", bytes: map[int64]string{-8192: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", -8192 + 144: "\xf0\xff\x03\x00"}},
	{name: "md 0.90, 64 KiB before the end", bytes: map[int64]string{-65536: md090}},
	{name: "Intel's RAID", bytes: map[int64]string{-1024: "Intel Raid ISM Cfg Sig. 1.0.00"}},
	{name: "Promise's RAID, 1.5 MiB before the end", bytes: map[int64]string{-3087 * 512: "Promise Technology, Inc."}},
	{name: "VMFS at 2 MiB", bytes: map[int64]string{2 << 20: "\x5e\xf1\xab\x2f"}},
	{name: "VMFS's volume at 1 MiB", bytes: map[int64]string{1 << 20: "\x0d\xd0\x01\xc0"}},
	{name: "GFS2", bytes: map[int64]string{64 << 10: "\x01\x16\x19\x70\x00\x00\x00\x01", 64<<10 + 24: "\x00\x00\x07\x09\x00\x00\x07\x6c"}},
	{name: "ZFS, the last label only", bytes: zfsLabel(-256<<10 + 128<<10)},
}

// md090 is the beginning of a member's superblock of version 0.90.
const md090 = "\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a\x00\x00\x00"

// lvmLabel is the second sector of a physical volume (lib/label/label.h of LVM2), with its own sum.
func lvmLabel() string {
	b := make([]byte, 512)
	copy(b, "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00....\x20\x00\x00\x00LVM2 001abcdefghijklmnopqrstuvwxyz012345")
	const begin = 0xf597a6cf // instead of all ones
	binary.LittleEndian.PutUint32(b[16:], ^crc32.Update(^uint32(begin), crc32.IEEETable, b[20:]))
	return string(b)
}

// zfsLabel is uberblocks, of which libblkid wants some.
func zfsLabel(at int64) map[int64]string {
	label := map[int64]string{}
	for i := range int64(32) {
		label[at+i*1024] = "\x0c\xb1\xba\x00\x00\x00\x00\x00"
	}
	return label
}

// plant makes a file of the seed.
func (s seed) plant(t *testing.T, file string, size int64) {
	t.Helper()
	put(t, file, "")
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	if s.program != nil {
		if out, err := exec.Command(s.program[0], append(s.program[1:len(s.program):len(s.program)], file)...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", s.program[0], err, out)
		}
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off, b := range s.bytes {
		if off < 0 {
			off += size
		}
		if _, err := f.WriteAt([]byte(b), off); err != nil {
			t.Fatal(err)
		}
	}
}

// found is what wipefs finds on a file.
func found(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("wipefs", "--no-act", "--parsable", file).CombinedOutput()
	if err != nil {
		t.Fatalf("wipefs: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// The judge is wipefs: whatever it finds on a disk before, it finds nothing after its signatures were erased.
func TestWipefsFindsNothing(t *testing.T) {
	if _, err := exec.LookPath("wipefs"); err != nil {
		t.Skip(err)
	}
	const size = 128 << 20
	for _, s := range seeds {
		t.Run(s.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			s.plant(t, file, size)
			if found(t, file) == "" {
				t.Fatal("wipefs finds nothing before")
			}
			wipeFile(t, file, facts.Disk{Name: "sda"})
			if left := found(t, file); left != "" {
				t.Errorf("wipefs still finds\n%s", left)
			}
		})
	}
}

// wipeFile erases the signatures of a file that stands for a disk.
func wipeFile(t *testing.T, file string, entry facts.Disk) {
	t.Helper()
	disk, err := OpenDisk(file)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	d := &diskWipe{entry: entry, disk: disk, spots: signatureSpots(entry, disk.Size)}
	if err := d.eraseSignatures(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A real block device, as far as one can be had of a file: opened alone, discarded, zeroed, and read back past the cache.
func TestWipeOfABlockDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	put(t, file, strings.Repeat("old data", 8<<20))
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("losetup: %v", err)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if err := exec.Command("losetup", "--detach", device).Run(); err != nil {
			t.Error(err)
		}
	}()
	disk, err := OpenDisk(device)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if again, err := OpenDisk(device); err == nil {
		again.Close()
		t.Error("a disk that is held alone was opened twice")
	}
	entry := facts.Disk{Name: filepath.Base(device), ID: "loop", Transport: "virtio"}
	d := &diskWipe{agent: &Agent{Root: "/", Console: &Console{W: io.Discard, Uptime: Uptime}}, entry: entry, disk: disk, spots: signatureSpots(entry, disk.Size)}
	if err := d.plan(facts.WipeDiscard); err != nil {
		t.Skip(err)
	}
	if err := d.wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := disk.Sync(); err != nil {
		t.Fatal(err)
	}
	if left := read(t, file); len(left) != 64<<20 || bytes.Contains(left, []byte("old data")) {
		t.Error("the file behind the device still holds the old data")
	}
}

// What is inside of partitions goes too: a table made the same way again must not show the old file systems.
func TestWipedPartitionsStayEmpty(t *testing.T) {
	for _, name := range []string{"wipefs", "sfdisk", "blkid", "mkfs.ext4"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "disk")
	put(t, file, "")
	const partition, start = 128 << 20, 1 << 20
	if err := os.Truncate(file, start+3*partition+start); err != nil {
		t.Fatal(err)
	}
	const layout = "label: gpt\nstart=2048, size=262144\nsize=262144\nsize=262144\n"
	write := func() {
		cmd := exec.Command("sfdisk", "--quiet", "--wipe", "never", "--wipe-partitions", "never", file)
		cmd.Stdin = strings.NewReader(layout)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v: %s", err, out)
		}
	}
	write()
	entry := facts.Disk{Name: "sda"}
	for i, s := range []seed{seeds[0], seeds[3], {bytes: map[int64]string{-65536: md090, 64<<20 + 64: "_BHRfS_M"}}} {
		from := int64(start + i*partition)
		entry.Partitions = append(entry.Partitions, facts.Partition{Number: i + 1, StartBytes: from, SizeBytes: partition})
		one := filepath.Join(dir, fmt.Sprint("part", i))
		s.plant(t, one, partition)
		if out, err := exec.Command("dd", "if="+one, "of="+file, "bs=1M", "conv=notrunc,sparse", fmt.Sprint("seek=", from>>20)).CombinedOutput(); err != nil {
			t.Fatalf("dd: %v: %s", err, out)
		}
		if found := inside(t, file, from, partition); found == "" {
			t.Fatalf("blkid finds nothing in partition %d before", i+1)
		}
	}
	wipeFile(t, file, entry)
	if left := found(t, file); left != "" {
		t.Errorf("wipefs still finds\n%s", left)
	}
	write()
	for _, p := range entry.Partitions {
		if left := inside(t, file, p.StartBytes, p.SizeBytes); left != "" {
			t.Errorf("in partition %d blkid still finds %s", p.Number, left)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	copied := make([]byte, 8)
	if _, err := f.ReadAt(copied, start+2*partition+64<<20+64); err != nil || !bytes.Equal(copied, make([]byte, 8)) {
		t.Errorf("the second superblock of btrfs is still there: %q, %v", copied, err)
	}
}

// inside is what blkid finds in a part of a file.
func inside(t *testing.T, file string, off, n int64) string {
	t.Helper()
	out, err := exec.Command("blkid", "--probe", "--offset", fmt.Sprint(off), "--size", fmt.Sprint(n), file).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return ""
	}
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	return strings.TrimSpace(string(out))
}
