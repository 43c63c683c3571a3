package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigureDebianStaysInTheTree(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(outside, []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hostname", "resolv.conf"} { // one is to become a file, the other a link
		if err := os.Symlink(outside, filepath.Join(root, "etc", name)); err != nil {
			t.Fatal(err)
		}
	}
	b := testBuild(t)
	if err := b.configureDebian(root); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "host\n" {
		t.Errorf("a file outside of the tree became %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc", "hostname")); string(got) != "debian\n" {
		t.Errorf("hostname is %q, %v; want debian", got, err)
	}
	if got, err := os.Readlink(filepath.Join(root, "etc", "resolv.conf")); got != "../run/systemd/resolve/stub-resolv.conf" {
		t.Errorf("resolv.conf links to %q, %v", got, err)
	}
	st, err := os.Stat(filepath.Join(root, "etc", "machine-id"))
	if err != nil || st.Size() != 0 || st.Mode().Perm() != 0o444 || !st.ModTime().Equal(b.epoch) {
		t.Errorf("machine-id is %+v, %v; want it empty, read-only, of the epoch", st, err)
	}
}

func TestDebianKernelAndInitrdAreOfOneRelease(t *testing.T) {
	for _, tt := range []struct {
		name            string
		vmlinuz, initrd string   // links
		files           []string // in /boot
		want, fails     string
	}{
		{"a kernel with its initrd", "boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9",
			[]string{"vmlinuz-6.1.0-9", "initrd.img-6.1.0-9"}, "6.1.0-9", ""},
		{"the initrd was made but not linked", "boot/vmlinuz-6.1.0-9", "",
			[]string{"vmlinuz-6.1.0-9", "initrd.img-6.1.0-9"}, "", `find the initrd of kernel "6.1.0-9": readlink`},
		{"the initrd was linked but not made", "boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9",
			[]string{"vmlinuz-6.1.0-9"}, "", `find the initrd of kernel "6.1.0-9": stat`},
		{"the initrd is of another kernel", "boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-8",
			[]string{"vmlinuz-6.1.0-9", "initrd.img-6.1.0-8"}, "", `find the initrd of kernel "6.1.0-9": it is of "6.1.0-8"`},
		{"the link is odd", "boot/linux", "", []string{"linux"}, "", `find the kernel: link to "boot/linux" has no release`},
		{"no kernel was installed", "", "", nil, "", "find the kernel: readlink"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			err := os.Mkdir(filepath.Join(root, "boot"), 0o755)
			for link, target := range map[string]string{"vmlinuz": tt.vmlinuz, "initrd.img": tt.initrd} {
				if target != "" {
					err = errors.Join(err, os.Symlink(target, filepath.Join(root, link)))
				}
			}
			for _, name := range tt.files {
				err = errors.Join(err, os.WriteFile(filepath.Join(root, "boot", name), nil, 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := debianKernel(root)
			if got != tt.want || (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("debianKernel() = %q, %v; want %q, %q", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestPartitionArgsLeaveNoGapAndNoOverlap(t *testing.T) {
	want := []string{"--clear", "--set-alignment=1", "--disk-guid=6d757374-6572-4c61-8264-656269616e00",
		"--new=1:2048:4095", "--typecode=1:ef02", "--partition-guid=1:6d757374-6572-4c61-8264-656269616e01", "--change-name=1:bios",
		"--new=2:4096:102399", "--typecode=2:ef00", "--partition-guid=2:6d757374-6572-4c61-8264-656269616e02", "--change-name=2:esp",
		"--new=3:102400:103423", "--typecode=3:4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
		"--partition-guid=3:6d757374-6572-4c61-8264-656269616e03", "--change-name=3:root", "disk.img"}
	if diff := cmp.Diff(want, partitionArgs("disk.img", 1024)); diff != "" {
		t.Errorf("sgdisk's arguments (-want +got):\n%s", diff)
	}
}

// TestWriteDiskMakesWhatOthersRead makes a disk of a small tree, without root, and asks other programs what is on it.
func TestWriteDiskMakesWhatOthersRead(t *testing.T) {
	if err := checkDebianTools(0); err != nil {
		t.Skip(err)
	}
	b, root, work := testBuild(t), t.TempDir(), t.TempDir()
	if err := b.configureDebian(root); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "fresh"), []byte("now"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(work, "disk.img")
	if err := b.writeDisk(t.Context(), raw, root, work); err != nil {
		t.Fatal(err)
	}
	fs := fmt.Sprintf("%s?offset=%d", raw, 102400*512)
	esp := fmt.Sprintf("%s@@%d", raw, 4096*512)
	for _, tt := range []struct {
		name string
		cmd  []string
		want string
	}{
		{"sgdisk finds nothing wrong", []string{"sgdisk", "-v", raw}, "No problems found."},
		{"sgdisk sees the type of a root partition", []string{"sgdisk", "-i", "3", raw}, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"},
		{"e2fsck finds nothing wrong", []string{"e2fsck", "-f", "-n", fs}, "rootfs: "},
		{"the root file system has GRUB's menu", []string{"debugfs", "-R", "cat /boot/grub/grub.cfg", fs}, `menuentry "Debian GNU/Linux" {`},
		{"no file in it is younger than the epoch", []string{"debugfs", "-R", "stat /etc/fresh", fs}, fmt.Sprintf("mtime: 0x%08x", b.epoch.Unix())},
		{"no inode tells when it was built", []string{"debugfs", "-R", "stat /etc/fresh", fs}, fmt.Sprintf("ctime: 0x%08x", b.epoch.Unix())},
		{"the ESP has shim at the removable path", []string{"mdir", "-b", "-i", esp, "::/EFI/BOOT"}, "BOOTX64.EFI"},
		{"the ESP has the menu's way", []string{"mtype", "-i", esp, "::/EFI/debian/grub.cfg"}, "configfile $prefix/grub.cfg"},
		{"the ESP is FAT32", []string{"minfo", "-i", esp, "::"}, `disk type="FAT32   "`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(tt.cmd[0], tt.cmd[1:]...)
			cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%q: %v; want %q in\n%s", tt.cmd, err, tt.want, out)
			}
		})
	}
	checkBIOSChain(t, raw)
}

// checkBIOSChain follows the disk as the BIOS does, to the magic of GRUB's decompressor.
func checkBIOSChain(t *testing.T, raw string) {
	t.Helper()
	disk, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	sector := make([]byte, 512)
	if _, err := disk.ReadAt(sector, 0); err != nil {
		t.Fatal(err)
	}
	if sector[0] == 0 || sector[450] != 0xee || sector[510] != 0x55 || sector[511] != 0xaa {
		t.Errorf("first sector begins with %#x, has a partition of type %#x, ends in %x; want code, 0xee, 55aa",
			sector[0], sector[450], sector[510:])
	}
	core := int64(binary.LittleEndian.Uint64(sector[0x5c:]))
	if _, err := disk.ReadAt(sector, core*512); err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint64(sector[0x1f4:]); core != 2048 || got != 2049 || !strings.Contains(string(sector), "loading") {
		t.Errorf("BIOS goes to LBA %d, GRUB from there to %d: % x", core, got, sector)
	}
}

func TestRunSaysWhyAProgramFailed(t *testing.T) {
	var said []string
	b := debianBuild{epoch: debianEpoch(time.Time{}), say: func(what string) { said = append(said, what) }}
	err := b.run(t.Context(), "sh", "-c", "echo I: unpacking...; for n in 1 2 3; do echo E: line $n >&2; done; echo; exit 3")
	if want := "run sh: exit status 3: E: line 1; E: line 2; E: line 3"; err == nil || err.Error() != want {
		t.Errorf("run() = %v; want %q", err, want)
	}
	if diff := cmp.Diff([]string{"  unpacking"}, said); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}

func testBuild(t *testing.T) *debianBuild {
	return &debianBuild{dir: t.TempDir(), epoch: debianEpoch(time.Time{}), say: func(what string) { t.Log(what) }}
}
