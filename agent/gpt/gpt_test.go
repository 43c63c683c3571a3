package gpt

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const mib = 1 << 20

// disk is a plain file of that size, on which programs ran.
func disk(t testing.TB, size int64, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		run(t, line, name)
	}
	return name
}

// run gives what a command line says about a disk.
func run(t testing.TB, line, disk string) string {
	t.Helper()
	for _, p := range []string{"sgdisk", "sfdisk", "parted", "mkfs.vfat"} {
		if _, err := exec.LookPath(p); err != nil && strings.Contains(line, p) {
			t.Skipf("%s is not installed", p)
		}
	}
	sh := exec.Command("sh", "-ec", line)
	sh.Env = append(os.Environ(), "DISK="+disk)
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func head(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b[:mib]
}

// fit puts the image onto a larger disk, as the agent does, and gives that.
func fit(t *testing.T, image string, size int64, grow bool) (string, *Fitted) {
	t.Helper()
	table, err := Read(head(t, image))
	if err != nil {
		t.Fatal(err)
	}
	f, err := table.Fit(size, grow)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, part := range []struct {
		at    int64
		bytes []byte
	}{{f.Old, make([]byte, 512)}, {f.At, f.Backup}, {0, f.Head}} {
		if _, err := out.WriteAt(part.bytes, part.at); err != nil {
			t.Fatal(err)
		}
	}
	return image, f
}

const threeParts = `sgdisk -a 1 -U 11111111-2222-4333-8444-555555555555 -n 14:2048:4095 -t 14:ef02 -n 15:4096:36863 -t 15:ef00 -n 1:36864:0 -t 1:8300 -c 1:root -A 1:set:2 $DISK`

// The judges are the programs of the field: they find a table of the disk's size without a fault, and the same partitions.
func TestFitGPT(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		grow bool
		end  string // of the last partition, as sgdisk has it
	}{
		{"the table only", 200 * mib, false, "131038"},
		{"and the last partition", 200 * mib, true, "407551"},
		{"on a disk of an odd size", 200*mib + 77*512, true, "409599"},
		{"on a disk of the same size", 64 * mib, true, "131038"},
		{"on a disk one sector larger", 64*mib + 512, true, "131038"},
		{"on a disk of 3 TB, which no MBR covers", 3 << 40, true, "6442448895"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := disk(t, 64*mib, threeParts)
			before := run(t, `sgdisk -i 1 -i 14 -i 15 $DISK`, image)
			made, f := fit(t, image, tt.size, tt.grow)
			if said := run(t, `sgdisk -v $DISK 2>&1`, made); !strings.Contains(said, "No problems found") || strings.Contains(said, "Warning") && !strings.Contains(said, "aligned") {
				t.Errorf("sgdisk -v: %s", said)
			}
			if said := run(t, `sfdisk --verify $DISK 2>&1`, made); !strings.Contains(said, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", said)
			}
			if said := run(t, `parted -s $DISK print 2>&1`, made); strings.Contains(said, "Warning") || strings.Contains(said, "Error") {
				t.Errorf("parted: %s", said)
			}
			after := run(t, `sgdisk -i 1 -i 14 -i 15 $DISK`, made)
			end := regexp.MustCompile(`(?m)^Last sector: (\d+) .*|^Partition size: .*`)
			if got := end.FindStringSubmatch(after)[1]; got != tt.end {
				t.Errorf("the last partition ends at sector %s; want %s", got, tt.end)
			}
			drop := func(s string) string {
				first, rest, _ := strings.Cut(s, "Partition GUID code: 2168")
				return end.ReplaceAllString(first, "") + rest
			}
			if drop(before) != drop(after) {
				t.Errorf("the partitions are others:\n%s\n%s", before, after)
			}
			if (f.Grown == 1) != (tt.end != "131038") {
				t.Errorf("grown: %d", f.Grown)
			}
			backup := run(t, `sgdisk -d 1 -d 14 -d 15 $DISK >/dev/null; sgdisk -p $DISK`, made) // writes both; the file is still sound
			if !strings.Contains(backup, fmt.Sprint(tt.size/512, " sectors")) {
				t.Errorf("sgdisk -p: %s", backup)
			}
		})
	}
}

// When the primary table is lost, the backup that was written is enough.
func TestTheBackupIsWhole(t *testing.T) {
	made, _ := fit(t, disk(t, 64*mib, threeParts), 100*mib, true)
	want := run(t, `sgdisk -p $DISK`, made)
	out, err := os.OpenFile(made, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteAt(make([]byte, 34*512), 512); err != nil {
		t.Fatal(err)
	}
	run(t, `printf 'r\nb\nw\ny\n' | gdisk $DISK`, made)
	if got := run(t, `sgdisk -p $DISK`, made); got != want {
		t.Errorf("from the backup:\n%s\nwant\n%s", got, want)
	}
}

func TestFitMBR(t *testing.T) {
	const parts = `printf 'label: dos\nstart=2048,size=20480,type=ef\nstart=22528,type=83,bootable\n' | sfdisk -q $DISK`
	for _, tt := range []struct {
		name, parts string
		size        int64
		grow        bool
		want        string
	}{
		{"nothing to do", parts, 200 * mib, false, "size=      108544"},
		{"the last partition", parts, 200 * mib, true, "size=      387072"},
		{"the last partition on 3 TB, of which an MBR covers two", parts, 3 << 40, true, "size=  4294944768"},
		{"a logical partition is left", `printf 'label: dos\nstart=2048,size=20480,type=83\nstart=22528,type=5\nstart=24576,type=83\n' | sfdisk -q $DISK`, 200 * mib, true, "size=      108544"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made, _ := fit(t, disk(t, 64*mib, tt.parts), tt.size, tt.grow)
			if said := run(t, `sfdisk --verify $DISK 2>&1`, made); !strings.Contains(said, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", said)
			}
			if said := run(t, `sfdisk -d $DISK`, made); !strings.Contains(said, tt.want) {
				t.Errorf("sfdisk -d has no %q: %s", tt.want, said)
			}
		})
	}
}

// The boot sector of a file system on the whole disk has the last bytes of an MBR.
func TestWhatIsNoTableIsLeft(t *testing.T) {
	for name, line := range map[string]string{"FAT": `mkfs.vfat $DISK`, "nothing": "true"} {
		image := disk(t, 64*mib, line)
		before := head(t, image)
		table, err := Read(before)
		if err != nil || table.Kind != None {
			t.Errorf("%s: kind %q, %v", name, table.Kind, err)
		}
		f, err := table.Fit(100*mib, true)
		if err != nil || !bytes.Equal(f.Head, before) || f.Backup != nil {
			t.Errorf("%s: %v, or its bytes were changed", name, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good := head(t, disk(t, 64*mib, threeParts))
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"a bit of the header", func(b []byte) { b[512+60] ^= 1 }, "header does not fit its sum"},
		{"a bit of an entry", func(b []byte) { b[1024+300] ^= 1 }, "entries do not fit their sum"},
		{"a header without end", func(b []byte) { put32(b[512+12:], 1<<31) }, "a GPT header of 2147483648 bytes"},
		{"a million entries", func(b []byte) { put32(b[512+80:], 1<<20); put32(b[512+16:], headerSum(b[512:512+92])) }, "at most 1024 are read"},
		{"entries of no size", func(b []byte) { put32(b[512+84:], 0); put32(b[512+16:], headerSum(b[512:512+92])) }, "entries of 0 bytes"},
		{"entries beyond the head", func(b []byte) { put64(b[512+72:], 1<<62); put32(b[512+16:], headerSum(b[512:512+92])) }, "do not end within the first"},
	} {
		b := bytes.Clone(good)
		tt.change(b)
		if _, err := Read(b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want an error with %q", tt.name, err, tt.want)
		}
	}
	table, err := Read(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Fit(32*mib, false); err == nil || !strings.Contains(err.Error(), "partition 1 lies in sectors 36864 to 131038; the disk's last for partitions is 65502") {
		t.Errorf("a disk that is too small: %v", err)
	}
	if _, err := table.Fit(16<<10, false); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a disk of 16 KiB: %v", err)
	}
}

// Whatever is called a table, what comes out of it is as long as the head and lies on the disk, and is read again.
func FuzzFit(f *testing.F) {
	f.Add(head(f, disk(f, 64*mib, threeParts))[:64<<10], int64(200*mib), true)
	f.Add(head(f, disk(f, 64*mib, `printf 'label: dos\nstart=2048,type=83\n' | sfdisk -q $DISK`))[:512], int64(200*mib), true)
	f.Fuzz(func(t *testing.T, head []byte, size int64, grow bool) {
		table, err := Read(head)
		if err != nil || size < int64(len(head)) {
			return
		}
		fitted, err := table.Fit(size, grow)
		if err != nil {
			return
		}
		if len(fitted.Head) != len(head) || fitted.At < 0 || fitted.At+int64(len(fitted.Backup)) > size || fitted.Old < 0 || fitted.Old >= size {
			t.Fatalf("%d bytes at %d, old at %d, on a disk of %d", len(fitted.Backup), fitted.At, fitted.Old, size)
		}
		again, err := Read(fitted.Head)
		if err != nil || again.Kind != table.Kind {
			t.Fatalf("what was fitted is read as %q, %v", again.Kind, err)
		}
	})
}
