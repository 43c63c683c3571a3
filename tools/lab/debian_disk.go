package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The disk is made as a plain file: sgdisk, mkfs.ext4 and mtools write at an
// offset of it, so no loop device, mount or kernel feature of the building host is used.

// An espFile is one file of the EFI system partition: a signed loader copied from the host, or a text of the recipe.
type espFile struct {
	path string // in the ESP
	from string // on the building host; empty: text
	pkg  string // the Debian package of from
	text string
}

const (
	shimLoader  = "/usr/lib/shim/shimx64.efi.signed"
	shimMOK     = "/usr/lib/shim/mmx64.efi.signed"
	signedGRUB  = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	shimPackage = "shim-signed"
	mokPackage  = "shim-helpers-amd64-signed"
	grubPackage = "grub-efi-amd64-signed"
)

// espFiles: a disk without a boot entry in NVRAM is started by the removable path (UEFI 2.10 section 3.5.1.1), others look
// for the vendor's folder. shim loads grubx64.efi from its own folder; Debian's signed GRUB has the prefix /EFI/debian built
// in wherever it was loaded from. There is no fallback loader (fbx64): it would write a boot entry and reset the machine.
// Copies of one loader stand side by side so that they fall into one compression window.
var espFiles = []espFile{
	{path: "EFI/BOOT/BOOTX64.EFI", from: shimLoader, pkg: shimPackage},
	{path: "EFI/debian/shimx64.efi", from: shimLoader, pkg: shimPackage},
	{path: "EFI/BOOT/grubx64.efi", from: signedGRUB, pkg: grubPackage},
	{path: "EFI/debian/grubx64.efi", from: signedGRUB, pkg: grubPackage},
	{path: "EFI/BOOT/mmx64.efi", from: shimMOK, pkg: mokPackage},
	{path: "EFI/debian/mmx64.efi", from: shimMOK, pkg: mokPackage},
	{path: "EFI/debian/grub.cfg", text: espGRUBConfig},
}

// espLoaders are the files of the host that the ESP takes.
func espLoaders() []hostNeed {
	var needs []hostNeed
	for _, f := range espFiles {
		if f.from != "" {
			needs = append(needs, hostNeed{f.from, f.pkg})
		}
	}
	return needs
}

// writeDisk makes the raw image: partition table, root file system, ESP, then the BIOS loader in the gap between.
func (b *debianBuild) writeDisk(ctx context.Context, raw, root, work string) error {
	b.say("make the root file system")
	if err := clampTimes(root, b.epoch); err != nil {
		return err
	}
	used, err := treeBytes(root)
	if err != nil {
		return err
	}
	rootSectors := rootSectorsFor(used)
	disk := debianRoot.first + rootSectors + 2048 // the backup GPT takes the last 33 sectors
	if err := makeSparse(raw, int64(disk)*sectorBytes); err != nil {
		return err
	}
	if err := b.run(ctx, "sgdisk", partitionArgs(raw, rootSectors)...); err != nil {
		return err
	}
	if err := b.run(ctx, "mkfs.ext4", rootFSArgs(raw, root, rootSectors)...); err != nil {
		return err
	}
	if err := b.stampInodes(ctx, raw, filepath.Join(work, "stamps")); err != nil {
		return err
	}
	b.say("make the EFI system partition")
	if err := b.writeESP(ctx, raw, filepath.Join(work, "esp")); err != nil {
		return err
	}
	b.say("install the BIOS boot loader")
	return b.writeGRUB(ctx, raw, filepath.Join(work, "core.img"))
}

// rootSectorsFor adds what ext4 needs for itself (about a twelfth: inode tables, journal) and the slack, in whole 8 MiB.
func rootSectorsFor(used int64) uint64 {
	const step = 8 << 20
	size := used + used/12 + rootSlackBytes
	return uint64((size+step-1)/step*step) / sectorBytes
}

func makeSparse(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// partitionArgs writes the GPT with sgdisk.
func partitionArgs(raw string, rootSectors uint64) []string {
	args := []string{"--clear", "--set-alignment=1", "--disk-guid=" + debianDiskGUID}
	for _, p := range debianPartitions() {
		sectors := p.sectors
		if sectors == 0 {
			sectors = rootSectors
		}
		args = append(args,
			fmt.Sprintf("--new=%d:%d:%d", p.number, p.first, p.first+sectors-1),
			fmt.Sprintf("--typecode=%d:%s", p.number, p.kind),
			fmt.Sprintf("--partition-guid=%d:%s", p.number, p.guid),
			fmt.Sprintf("--change-name=%d:%s", p.number, p.name))
	}
	return append(args, raw)
}

// rootFSArgs makes the root file system inside the image and fills it from the tree. Nothing is left for the kernel to
// initialise later (lazy_*): that would be writing at the first boot. The type is named because mkfs would take so small a
// file system for a floppy's, with 1 KiB blocks.
func rootFSArgs(raw, root string, sectors uint64) []string {
	extended := []string{
		fmt.Sprintf("offset=%d", debianRoot.first*sectorBytes), "hash_seed=" + debianRootUUID,
		"lazy_itable_init=0", "lazy_journal_init=0",
	}
	return []string{"-q", "-F", "-L", "rootfs", "-U", debianRootUUID, "-T", "default", "-b", "4096", "-i", "8192", "-m", "1", "-J", "size=16",
		"-E", strings.Join(extended, ","), "-d", root, raw, fmt.Sprintf("%dk", sectors/2)}
}

// stampInodes sets the access and change times in the root file system to the epoch: mkfs.ext4 takes them from the tree, where
// nobody can set them, and they are all that differs between two builds from the same packages. mkfs fills inodes from the
// first on, so those in use are the numbers up to their count.
func (b *debianBuild) stampInodes(ctx context.Context, raw, script string) error {
	used, err := usedInodes(raw, int64(debianRoot.first)*sectorBytes)
	if err != nil {
		return err
	}
	var text strings.Builder
	for inode := range used {
		fmt.Fprintf(&text, "sif <%d> ctime @%d\nsif <%d> atime @%d\n", inode+1, b.epoch.Unix(), inode+1, b.epoch.Unix())
	}
	if err := os.WriteFile(script, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return b.run(ctx, "debugfs", "-w", "-f", script, fmt.Sprintf("%s?offset=%d", raw, debianRoot.first*sectorBytes))
}

// usedInodes reads the superblock of the ext4 file system at the offset (Linux, fs/ext4/ext4.h: struct ext4_super_block).
func usedInodes(raw string, offset int64) (uint32, error) {
	disk, err := os.Open(raw)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	super := make([]byte, 1024)
	if _, err := disk.ReadAt(super, offset+1024); err != nil {
		return 0, fmt.Errorf("read superblock: %w", err)
	}
	all, free := binary.LittleEndian.Uint32(super), binary.LittleEndian.Uint32(super[16:])
	if magic := binary.LittleEndian.Uint16(super[56:]); magic != 0xef53 || free > all {
		return 0, fmt.Errorf("read superblock: magic %#x, %d of %d inodes free: no ext4", magic, free, all)
	}
	return all - free, nil
}

// writeESP makes a FAT32 file system with one sector per cluster, and copies the loaders in the order of espFiles.
func (b *debianBuild) writeESP(ctx context.Context, raw, stage string) error {
	at := fmt.Sprintf("%s@@%d", raw, debianESP.first*sectorBytes)
	// Geometry is of no consequence but mformat wants one: 64 heads of 32 sectors are cylinders of 1 MiB.
	format := []string{"-i", at, "-F", "-c", "1", "-h", "64", "-s", "32", "-t", fmt.Sprint(debianESP.sectors >> 11),
		"-H", fmt.Sprint(debianESP.first), "-N", debianESPID, "-v", "ESP", "::"}
	if err := b.run(ctx, "mformat", format...); err != nil {
		return err
	}
	if err := stageESP(stage); err != nil {
		return err
	}
	if err := clampTimes(stage, b.epoch); err != nil {
		return err
	}
	return b.run(ctx, "mcopy", "-i", at, "-s", "-m", filepath.Join(stage, "EFI"), "::")
}

// stageESP lays the ESP's files out in a folder.
func stageESP(stage string) error {
	for _, f := range espFiles {
		content := []byte(f.text)
		if f.from != "" {
			var err error
			if content, err = os.ReadFile(f.from); err != nil {
				return err
			}
		}
		name := filepath.Join(stage, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
