package agent

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"muster/agent/facts"
)

// partitioned gives the image a GPT with one partition.
func (c *imageCase) partitioned(t *testing.T) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	put(t, name, string(c.raw))
	if out, err := exec.Command("sgdisk", "-n", "1:4096:0", name).CombinedOutput(); err != nil {
		t.Skipf("sgdisk: %v: %s", err, out)
	}
	c.raw = read(t, name)
	c.b.files["/image/debian"] = c.raw
	c.order.Image.SHA256 = sha(c.raw)
}

// The table that stands on the disk in the end is sound for sgdisk, and as large as the disk.
func TestTheTableIsFittedToTheDisk(t *testing.T) {
	for _, tt := range []struct{ grow, end, problem string }{
		{facts.GrowNone, "Last sector: 28638 ", "the backup"},
		{facts.GrowTable, "Last sector: 28638 ", ""},
		{facts.GrowLast, "Last sector: 38911 ", ""},
	} {
		t.Run(tt.grow, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				c.partitioned(t)
				c.order.Image.Grow, c.order.Image.Wipe = tt.grow, true
				put(t, c.disk, string(rawImage(diskSize)))
				if got := c.run(t); got.Status != facts.StatusDone {
					t.Fatalf("report %+v\n%s", got, c.s)
				}
				disk := read(t, c.disk)
				if !bytes.Equal(disk[2<<20:len(c.raw)-34*512], c.raw[2<<20:len(c.raw)-34*512]) {
					t.Error("what is in the partition changed")
				}
				said, _ := exec.Command("sgdisk", "-v", c.disk).CombinedOutput()
				if sound := strings.Contains(string(said), "No problems found"); sound != (tt.problem == "") {
					t.Errorf("sgdisk -v: %s", said)
				}
				if tt.problem != "" {
					return
				}
				if said, _ := exec.Command("sgdisk", "-i", "1", c.disk).CombinedOutput(); !strings.Contains(string(said), tt.end) {
					t.Errorf("sgdisk -i: %s; want %q", said, tt.end)
				}
				if bytes.Contains(disk[2<<20:diskSize-512], []byte("EFI PART")) {
					t.Error("the image's own backup table is still in the middle of the disk")
				}
			})
		})
	}
}

func TestATableThatDoesNotFitTouchesNoDisk(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(c *imageCase)
		message string
	}{
		{"a disk of larger sectors", func(c *imageCase) { c.entry.LogicalBlockBytes = 4096 },
			"look at the image: the image's GPT is for sectors of 512 bytes; disk sda has 4096"},
		{"a broken table", func(c *imageCase) { c.raw[600] ^= 1; c.order.Image.SHA256 = sha(c.raw) },
			"look at the image: fit the partition table to the disk: the GPT header does not fit its sum"},
		{"an image that was cut: its partition ends beyond the disk", func(c *imageCase) {
			c.raw = c.raw[:8<<20]
			c.b.files["/image/debian"] = c.raw
			c.order.Image.SizeBytes, c.order.Image.RawBytes, c.order.Image.SHA256 = 8<<20, 8<<20, sha(c.raw)
			c.entry.SizeBytes, c.order.Image.Disk.SizeBytes = 10<<20, 10<<20
		}, "look at the image: fit the partition table to the disk: partition 1 lies in sectors 4096 to 28638"},
		{"a word that is not known", func(c *imageCase) { c.order.Image.Grow = "all" }, `look at the image: grow "all" is not known`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				c.partitioned(t)
				c.order.Image.Grow = facts.GrowLast
				tt.change(c)
				c.b.files["/image/debian"] = c.raw
				before := make([]byte, c.entry.SizeBytes)
				put(t, c.disk, string(before))
				if got := c.run(t); got.Status != facts.StatusFailed || !strings.HasPrefix(got.Message, tt.message) {
					t.Errorf("report %q %q; want failed %q", got.Status, got.Message, tt.message)
				}
				c.untouched(t, before)
			})
		})
	}
}
