package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// installed makes the fake disk of an imageCase show partitions once the image is on it; mounting one gives a link
// to a directory.
func (c *imageCase) installed(t *testing.T, root string) *int {
	mounted, looks := 0, 0
	c.a.Probe = func(context.Context, ...string) Probed {
		d := c.entry
		if looks++; looks > 2 { // the first is that of the check-in, the second that before writing
			d.Table = "gpt"
			d.Partitions = []facts.Partition{
				{Number: 1, Content: &facts.Content{Type: "vfat"}},
				{Number: 2, Type: "0fc63daf-8483-4772-8e79-3d69d8477de4", Content: &facts.Content{Type: "ext4"}},
				{Number: 3, Type: rootTypes["amd64"], Content: &facts.Content{Type: "ext4"}},
			}
		}
		return Probed{Facts: facts.Facts{Schema: facts.Schema, Disks: []facts.Disk{d}}}
	}
	for _, name := range []string{"sda2", "sda3"} {
		put(t, filepath.Join(c.a.Root, "dev", name), "")
	}
	c.a.Mount = func(device, fstype, dir string) (func() error, error) {
		if device != filepath.Join(c.a.Root, "dev/sda3") || fstype != "ext4" {
			t.Errorf("mounted %s as %s; want sda3 as ext4", device, fstype)
		}
		mounted++
		if err := os.Remove(dir); err != nil {
			return nil, err
		}
		if err := os.Symlink(root, dir); err != nil {
			return nil, err
		}
		return func() error { mounted--; return os.Remove(dir) }, nil
	}
	return &mounted
}

func TestFilesOfAnImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		root := t.TempDir()
		put(t, filepath.Join(root, "etc/os-release"), "ID=debian\n")
		put(t, filepath.Join(root, "etc/hostname"), "localhost\n")
		mounted := c.installed(t, root)
		var module string
		c.a.Module = func(_ context.Context, name string) error { module = name; return nil }
		c.order.Image.Files = []facts.File{
			{Path: "/etc/hostname", Content: "osd001\n"},
			{Path: "/etc/systemd/system/multi-user.target.wants/done.service", Link: "/etc/systemd/system/done.service"},
			{Path: "/root/.ssh/authorized_keys", Content: "ssh-ed25519 AAAA\n", Mode: 0o600},
		}
		got := c.run(t)
		if got.Status != facts.StatusDone || *mounted != 0 || module != "ext4" {
			t.Fatalf("report %+v, still mounted %d, module %q\n%s", got, *mounted, module, c.s)
		}
		if b := read(t, filepath.Join(root, "etc/hostname")); string(b) != "osd001\n" {
			t.Errorf("hostname %q", b)
		}
		link, err := os.Readlink(filepath.Join(root, "etc/systemd/system/multi-user.target.wants/done.service"))
		if err != nil || link != "/etc/systemd/system/done.service" {
			t.Errorf("link %q, %v", link, err)
		}
		st, err := os.Stat(filepath.Join(root, "root/.ssh/authorized_keys"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("authorized_keys: %v, %v", st, err)
		}
		if _, ok := got.TimingMS["files"]; !ok {
			t.Errorf("timing %v", got.TimingMS)
		}
	})
}

func TestImageWithoutSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		c.installed(t, t.TempDir())
		c.order.Image.Files = []facts.File{{Path: "/etc/hostname", Content: "x"}}
		c.a.Mount = func(device, fstype, dir string) (func() error, error) { // empty file systems
			return func() error { return nil }, nil
		}
		got := c.run(t)
		if got.Status != facts.StatusFailed || !strings.Contains(got.Message, "has no root file system with /etc/os-release") {
			t.Errorf("report %+v", got)
		}
	})
}

// What files an order may put, and what no order may do to the machine that writes it.
func TestPutFile(t *testing.T) {
	for _, row := range []struct {
		name string
		file facts.File
		ok   bool
	}{
		{"a file in a new directory", facts.File{Path: "/etc/a/b/c", Content: "x"}, true},
		{"a link that replaces a file", facts.File{Path: "/etc/old", Link: "../run/x"}, true},
		{"a file that replaces a link to outside", facts.File{Path: "/etc/out", Content: "x"}, true},
		{"a file below a link that stays inside", facts.File{Path: "/lib/x", Content: "x"}, true},
		{"T36: a file below a link to outside", facts.File{Path: "/etc/outdir/x", Content: "x"}, false},
		{"T36: a file below a link that climbs", facts.File{Path: "/etc/climb/x", Content: "x"}, false},
		{"T36: a path that climbs", facts.File{Path: "/../x", Content: "x"}, false},
		{"T36: a path that climbs in the middle", facts.File{Path: "/etc/../../x", Content: "x"}, false},
		{"a relative path", facts.File{Path: "etc/x", Content: "x"}, false},
		{"a directory's path", facts.File{Path: "/etc/", Content: "x"}, false},
		{"the place of a directory", facts.File{Path: "/etc", Content: "x"}, false},
		{"the root itself", facts.File{Path: "/", Content: "x"}, false},
		{"no path", facts.File{Content: "x"}, false},
		{"a NUL in the path", facts.File{Path: "/etc/a\x00b", Content: "x"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			top := t.TempDir()
			outside, dir := filepath.Join(top, "outside"), filepath.Join(top, "root")
			put(t, filepath.Join(outside, "keep"), "untouched")
			put(t, filepath.Join(dir, "etc/old"), "old")
			put(t, filepath.Join(dir, "usr/lib/keep"), "")
			for name, to := range map[string]string{"etc/out": filepath.Join(outside, "keep"), "etc/outdir": outside, "etc/climb": "../../outside", "lib": "usr/lib"} {
				if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := putFile(root, row.file); (err == nil) != row.ok {
				t.Errorf("putFile(%+v) = %v; want ok %t", row.file, err, row.ok)
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 1 || string(read(t, filepath.Join(outside, "keep"))) != "untouched" {
				t.Errorf("outside changed: %v, %v", entries, err)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "*", "*.muster-new"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRootPlaces(t *testing.T) {
	ext4 := &facts.Content{Type: "ext4"}
	nvme := facts.Disk{Name: "nvme0n1", Partitions: []facts.Partition{
		{Number: 1, Content: ext4}, {Number: 2, Content: &facts.Content{Type: "swap"}}, {Number: 3}, {Number: 4, Type: strings.ToUpper(rootTypes["amd64"]), Content: ext4}}}
	want := []place{{"nvme0n1p4", "ext4"}, {"nvme0n1p1", "ext4"}}
	if diff := cmp.Diff(want, rootPlaces(nvme), cmp.AllowUnexported(place{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	whole := facts.Disk{Name: "sda", Content: ext4}
	if diff := cmp.Diff([]place{{"sda", "ext4"}}, rootPlaces(whole), cmp.AllowUnexported(place{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := partitionName("sdb", 12); got != "sdb12" {
		t.Errorf("partitionName(sdb, 12) = %s", got)
	}
}
