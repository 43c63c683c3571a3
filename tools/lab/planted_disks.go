package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A plantedDisk is an image, how it is plugged in, and the programs that fill it.
type plantedDisk struct {
	name   string
	size   int64  // bytes
	device string // QEMU's, without the drive
	fill   [][]string
}

func (d plantedDisk) path(dir string) string { return filepath.Join(dir, d.name+".img") }

const (
	mib = 1 << 20
	gib = 1 << 30
)

// plantedDisks are of each transport that QEMU has. In fill, IMAGE stands for the path. The e2fsprogs and dosfstools write
// at an offset, mkswap of Debian 12 does not: its partition is made as a file of its own, PART, and laid into the image.
var plantedDisks = []plantedDisk{
	{"hdd", 2 * gib, "ide-hd,bus=ide.0,serial=SATA0001,model=PLANTEDHDD,ver=FW1.0,wwn=0x5000c500a1b2c3d4,rotation_rate=7200", [][]string{
		{"sgdisk", "--clear", "--set-alignment=1", "--disk-guid=8b2a6c70-2222-4333-8444-555566667777",
			"--new=1:2048:133119", "--typecode=1:c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "--partition-guid=1:0a0b0c0d-0001-4000-8000-000000000001", "--change-name=1:EFI System",
			"--new=2:133120:1181695", "--typecode=2:0fc63daf-8483-4772-8e79-3d69d8477de4", "--partition-guid=2:0a0b0c0d-0001-4000-8000-000000000002", "--change-name=2:root",
			"--new=3:1181696:1443839", "--typecode=3:0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "--partition-guid=3:0a0b0c0d-0001-4000-8000-000000000003", "--change-name=3:swap", "IMAGE"},
		{"mkfs.vfat", "-F", "16", "-i", "1234ABCD", "-n", "ESP", "--offset", "2048", "IMAGE", "65536"},
		{"mkfs.ext4", "-q", "-F", "-L", "rootfs", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-E", "offset=68157440", "IMAGE", "524288k"},
		{"truncate", "--size=134217728", "PART"},
		{"mkswap", "-L", "swp", "-U", "0fedcba9-8765-4321-0fed-cba987654321", "PART"},
		{"dd", "if=PART", "of=IMAGE", "bs=1M", "seek=577", "conv=notrunc,sparse", "status=none"},
	}},
	{"ssd", 3 * gib, "scsi-hd,bus=vs0.0,vendor=PLANTED,product=SSD-3G,ver=S1,serial=SCSI0001,wwn=0x5002538a00000001,rotation_rate=1," +
		"logical_block_size=512,physical_block_size=4096", nil},
	{"mega", gib, "scsi-hd,bus=raid0.0,serial=MEGA0001", [][]string{
		{"mkfs.btrfs", "-q", "-L", "pool", "-U", "deadbeef-0000-4000-8000-000000000002", "IMAGE"}}},
	{"usb", 512 * mib, "usb-storage,bus=xhci.0,serial=USB0001,removable=on", [][]string{
		{"mkfs.vfat", "-F", "16", "-i", "00C0FFEE", "-n", "STICK", "IMAGE"}}},
	{"nvme1", 4 * gib, "nvme-ns,bus=nvme0,nsid=1,eui64=0x5254000011223344,uuid=11111111-aaaa-4bbb-8ccc-000000000001", nil},
	{"nvme2", gib, "nvme-ns,bus=nvme0,nsid=2,uuid=11111111-aaaa-4bbb-8ccc-000000000002", [][]string{
		{"sfdisk", "--quiet", "--label=dos", "IMAGE"}}},
	{"vblk", gib, "virtio-blk-pci,bus=rp4,serial=VBLK0001", [][]string{
		{"mkfs.xfs", "-q", "-L", "data", "-m", "uuid=deadbeef-0000-4000-8000-000000000001", "IMAGE"}}},
}

// plantedMBR is what sfdisk is told: the first partition as parted makes it, the second up to the end.
const plantedMBR = "label-id: 0x504c4e54\n2048,204800,83\n206848,1890304,83\n"

var plantedPrograms = []hostNeed{
	{"sgdisk", "gdisk"}, {"sfdisk", "fdisk"}, {"mkfs.ext4", "e2fsprogs"}, {"mkfs.vfat", "dosfstools"}, {"mkfs.xfs", "xfsprogs"},
	{"mkfs.btrfs", "btrfs-progs"}, {"mkswap", "util-linux"}, {"swtpm", "swtpm"},
}

// makePlantedDisks makes the images anew, sparse, without loop devices. A file system that has an identity has the same
// each time.
func makePlantedDisks(ctx context.Context, dir string) error {
	for _, need := range plantedPrograms {
		if _, err := exec.LookPath(need.path); err != nil {
			return missingNeed(need)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the planted disks: %w", err)
	}
	for _, d := range plantedDisks {
		if err := d.make(ctx, dir); err != nil {
			return fmt.Errorf("make the planted disk %s: %w", d.name, err)
		}
	}
	return nil
}

func (d plantedDisk) make(ctx context.Context, dir string) error {
	part := filepath.Join(dir, d.name+".part")
	for _, old := range []string{d.path(dir), part} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := makeSparse(d.path(dir), d.size); err != nil {
		return err
	}
	names := strings.NewReplacer("IMAGE", d.path(dir), "PART", part)
	for _, words := range d.fill {
		cmd := exec.CommandContext(ctx, words[0])
		for _, w := range words[1:] {
			cmd.Args = append(cmd.Args, names.Replace(w))
		}
		if words[0] == "sfdisk" {
			cmd.Stdin = strings.NewReader(plantedMBR)
		}
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("run %s: %w: %s", words[0], err, said)
		}
	}
	return nil
}
