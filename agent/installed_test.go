package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"muster/agent/efi"
	"muster/agent/facts"
)

const grubConfig = "menuentry x {\n linux /boot/vmlinuz-1 root=PARTUUID=7 ro $x\n initrd /boot/initrd-1\n}\n"

// system puts a disk with a root and an EFI system partition behind an imageCase.
func (c *imageCase) system(t *testing.T) (root, esp string) {
	t.Helper()
	root, esp = t.TempDir(), t.TempDir()
	put(t, filepath.Join(root, "etc/os-release"), "ID=debian\n")
	put(t, filepath.Join(root, "boot/grub/grub.cfg"), grubConfig)
	put(t, filepath.Join(root, "boot/vmlinuz-1"), "kernel")
	put(t, filepath.Join(root, "boot/initrd-1"), "initrd")
	put(t, filepath.Join(esp, "EFI/debian/shimx64.efi"), "shim")
	put(t, filepath.Join(esp, "EFI/debian/shimaa64.efi"), "shim")
	looks := 0
	c.a.Probe = func(context.Context, ...string) Probed {
		d := c.entry
		if looks++; looks > 2 {
			d.Table = "gpt"
			d.Partitions = []facts.Partition{
				{Number: 15, Type: espTypes[0], UUID: "12345678-aabb-ccdd-eeff-001122334455", StartBytes: 1 << 20, SizeBytes: 16 << 20, Content: &facts.Content{Type: "vfat"}},
				{Number: 1, Type: rootTypes["amd64"], Content: &facts.Content{Type: "ext4"}},
			}
		}
		return Probed{Facts: facts.Facts{Schema: facts.Schema, Disks: []facts.Disk{d}}}
	}
	trees := map[string]string{"sda1 ext4": root, "sda15 vfat": esp}
	for _, name := range []string{"sda1", "sda15"} {
		put(t, filepath.Join(c.a.Root, "dev", name), "")
	}
	c.a.Module = func(context.Context, string) error { return nil }
	c.a.Mount = func(device, fstype, dir string) (func() error, error) {
		tree := trees[filepath.Base(device)+" "+fstype]
		if tree == "" {
			t.Errorf("mounted %s as %s", device, fstype)
		}
		if err := os.Remove(dir); err != nil {
			return nil, err
		}
		return func() error { return os.Remove(dir) }, os.Symlink(tree, dir)
	}
	return root, esp
}

func TestThen(t *testing.T) {
	broken := func(root string) { os.Remove(filepath.Join(root, "boot/initrd-1")) }
	for _, tt := range []struct {
		name, then string
		change     func(root string)
		load       error
		kexec      error
		want       []string
		message    string
	}{
		{"nothing is said: the next order is waited for", "", nil, nil, nil, nil, ""},
		{"the firmware", facts.ThenReboot, nil, nil, nil, []string{"reboot"}, ""},
		{"kexec, which comes back only here", facts.ThenKexec, nil, nil, nil, []string{"load kernel\x00\x00 initrd\x00\x00 root=PARTUUID=7 ro", "kexec", "reboot"}, ""},
		{"kexec of a kernel that Secure Boot refuses", facts.ThenKexec, nil, errors.New("key was rejected"), nil, []string{"load kernel\x00\x00 initrd\x00\x00 root=PARTUUID=7 ro", "reboot"},
			"the firmware starts the system, kexec can not: sda1: load boot/vmlinuz-1: key was rejected"},
		{"kexec of a system without its initrd", facts.ThenKexec, broken, nil, nil, []string{"reboot"}, `boot/grub/grub.cfg names "boot/initrd-1"`},
		{"a kexec that comes back", facts.ThenKexec, nil, nil, errors.New("no"), []string{"load kernel\x00\x00 initrd\x00\x00 root=PARTUUID=7 ro", "kexec", "reboot"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				root, _ := c.system(t)
				if tt.change != nil {
					tt.change(root)
				}
				c.order.Image.Then = tt.then
				var did []string
				c.a.Load = func(kernel, initrd, cmdline string) error {
					did = append(did, "load "+string(read(t, kernel))+" "+string(read(t, initrd))+" "+cmdline)
					return tt.load
				}
				c.a.Kexec = func() error { did = append(did, "kexec"); return tt.kexec }
				c.a.Reboot = func() error { did = append(did, "reboot"); return nil }
				got := c.run(t)
				if got.Status != facts.StatusDone || !strings.Contains(got.Message, tt.message) || (tt.message == "") != (got.Message == "") {
					t.Errorf("report %+v; want done with %q\n%s", got, tt.message, c.s)
				}
				if diff := cmp.Diff(tt.want, did); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

// A kernel that lies behind a link out of the image is not of the image (T36).
func TestKexecStaysInTheImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		root, _ := c.system(t)
		outside := filepath.Join(t.TempDir(), "kernel")
		put(t, outside, "ours")
		os.Remove(filepath.Join(root, "boot/vmlinuz-1"))
		if err := os.Symlink(outside, filepath.Join(root, "boot/vmlinuz-1")); err != nil {
			t.Fatal(err)
		}
		c.order.Image.Then = facts.ThenKexec
		c.a.Load = func(string, string, string) error { t.Error("loaded"); return nil }
		c.a.Reboot = func() error { return nil }
		if got := c.run(t); got.Status != facts.StatusDone || !strings.Contains(got.Message, "which is not there") {
			t.Errorf("report %+v", got)
		}
	})
}

func TestBootEntryOfAnImage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(c *imageCase, esp string)
		want    []string
		message string
	}{
		{"UEFI", func(*imageCase, string) {}, []string{"Boot0000", "BootOrder"}, ""},
		{"no name is given", func(c *imageCase, _ string) { c.order.Image.EFIEntry = "" }, nil, ""},
		{"no loader", func(_ *imageCase, esp string) { os.RemoveAll(filepath.Join(esp, "EFI")) }, nil, "the firmware has no entry for the system: the EFI system partition has none of the loaders"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				_, esp := c.system(t)
				dir := filepath.Join(c.a.Root, "sys/firmware/efi/efivars")
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				c.order.Image.EFIEntry = "debian-12"
				tt.change(c, esp)
				if got := c.run(t); got.Status != facts.StatusDone || !strings.HasPrefix(got.Message, tt.message) || (tt.message == "") != (got.Message == "") {
					t.Errorf("report %+v; want done with %q", got, tt.message)
				}
				names, err := efi.Dir(dir).List()
				if slices.Sort(names); err != nil || !slices.Equal(names, tt.want) {
					t.Errorf("variables %q, %v; want %q", names, err, tt.want)
				}
			})
		})
	}
}

func TestEFIPartition(t *testing.T) {
	got, err := efiPartition(facts.Disk{Table: "gpt", LogicalBlockBytes: 4096}, facts.Partition{Number: 15, UUID: "12345678-aabb-ccdd-eeff-001122334455", StartBytes: 1 << 20, SizeBytes: 16 << 20})
	want := efi.Partition{Number: 15, First: 256, Count: 4096, GUID: [16]byte{0x78, 0x56, 0x34, 0x12, 0xbb, 0xaa, 0xdd, 0xcc, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v -want +got\n%s", err, diff)
	}
	got, err = efiPartition(facts.Disk{Table: "dos", TableUUID: "9d006a9a"}, facts.Partition{Number: 1, StartBytes: 1 << 20, SizeBytes: 16 << 20})
	if diff := cmp.Diff(efi.Partition{Number: 1, First: 2048, Count: 32768, Signature: 0x9d006a9a}, got); diff != "" || err != nil {
		t.Errorf("%v -want +got\n%s", err, diff)
	}
}

func TestEFILoader(t *testing.T) {
	for want, files := range map[string][]string{
		"EFI/debian/shimx64.efi":          {"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/debian/grubx64.efi", "EFI/debian/shimx64.efi", "EFI/debian/shimaa64.efi"},
		"EFI/fedora/SHIMX64.EFI":          {"EFI/BOOT/BOOTX64.EFI", "EFI/fedora/SHIMX64.EFI"},
		"EFI/systemd/systemd-bootx64.efi": {"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "EFI/Linux/a.efi"},
		"efi/boot/bootx64.efi":            {"efi/boot/bootx64.efi", "efi/boot/grubx64.efi", "shimx64.efi"},
		"EFI/Microsoft/Boot/bootmgfw.efi": {"EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Boot/bootx64.efi"},
		"":                                {"EFI/debian/shimaa64.efi", "shimx64.efi"},
	} {
		tree := fstest.MapFS{}
		for _, f := range files {
			tree[f] = &fstest.MapFile{}
		}
		got, err := efiLoader(tree, "amd64")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("of %q: %q, %v; want %q", files, got, err, want)
		}
	}
}
