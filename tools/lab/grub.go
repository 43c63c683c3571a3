package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// GRUB starts a BIOS machine in three parts (GRUB manual, "BIOS installation"; grub-core/boot/i386/pc/boot.S and diskboot.S):
// boot.img in the first sector loads one sector from a fixed LBA; that sector, the first of core.img, loads the rest by a
// block list at its own end; the rest knows GPT and ext4 and reads grub.cfg from the root file system. grub-install would
// write the same bytes, but only to a block device of the host, so they are placed here.

const grubBootImage = "/usr/lib/grub/i386-pc/boot.img"

// Offsets in boot.img and in the first sector of core.img (include/grub/i386/pc/boot.h: GRUB_BOOT_MACHINE_KERNEL_SECTOR,
// GRUB_BOOT_MACHINE_LIST_SIZE and the part of the sector before the partition table).
const (
	mbrCodeBytes    = 440   // what follows is the disk signature and the protective partition table
	mbrKernelSector = 0x5c  // 64 bits, little endian: LBA of core.img
	coreListStart   = 0x1f4 // 64 bits: LBA of core.img's second sector
	coreListLength  = 0x1fc // 16 bits: sectors to load from there
)

// grubModules are built into core.img: it finds nothing else before the root file system, where no module is kept.
var grubModules = []string{
	"biosdisk", "part_gpt", "ext2", "normal", "linux", "configfile", "test", "echo", "ls", "cat",
	"search", "search_fs_uuid", "search_label", "serial", "terminal", "minicmd", "halt", "reboot",
}

// debianGRUBConfig is /boot/grub/grub.cfg of the installed system, read by both GRUBs. It names the links that Debian's kernel
// packages keep (linux-update-symlinks), so that a kernel upgrade needs no new configuration. root is the file system that
// the file itself was read from. Without a wait, a key held down still opens the menu.
const debianGRUBConfig = `# Written when the image was made; kernel upgrades move the links it names.
set timeout_style=hidden
set timeout=0
set default=0
menuentry "Debian GNU/Linux" {
	linux /vmlinuz root=PARTUUID=` + debianRootGUID + ` ro console=tty0 console=ttyS0,115200
	initrd /initrd.img
}
menuentry "Debian GNU/Linux, previous kernel" {
	linux /vmlinuz.old root=PARTUUID=` + debianRootGUID + ` ro console=tty0 console=ttyS0,115200
	initrd /initrd.img.old
}
`

// espGRUBConfig is /EFI/debian/grub.cfg in the ESP, where Debian's signed GRUB looks. $root is the ESP then, such as hd0,gpt2:
// the root file system of the same disk comes first, a search over all disks only after it.
const espGRUBConfig = `regexp --set=1:disk '^([^,]+),' "$root"
if [ -e "($disk,gpt3)/boot/grub/grub.cfg" ]; then
	set root="$disk,gpt3"
else
	search --no-floppy --fs-uuid --set=root ` + debianRootUUID + `
fi
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
`

// writeGRUB makes core.img and places the BIOS loader on the disk. The prefix without a disk name, "(,gpt3)", is completed by
// GRUB with the disk that the BIOS booted from.
func (b *debianBuild) writeGRUB(ctx context.Context, raw, core string) error {
	args := []string{"-O", "i386-pc", "-p", fmt.Sprintf("(,gpt%d)/boot/grub", debianRoot.number), "-o", core}
	if err := b.run(ctx, "grub-mkimage", append(args, grubModules...)...); err != nil {
		return err
	}
	bootImage, err := os.ReadFile(grubBootImage)
	if err != nil {
		return err
	}
	coreImage, err := os.ReadFile(core)
	if err != nil {
		return err
	}
	disk, err := os.OpenFile(raw, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := embedGRUB(disk, bootImage, coreImage, debianBIOSBoot.first, debianBIOSBoot.sectors); err != nil {
		disk.Close()
		return fmt.Errorf("embed GRUB: %w", err)
	}
	return disk.Close()
}

// embedGRUB writes boot.img to the first 440 bytes of disk and core.img to the BIOS boot partition of the given first LBA and
// size, and patches where each finds its successor. The partition table behind the 440 bytes is left as it is.
func embedGRUB(disk io.WriterAt, bootImage, coreImage []byte, first, sectors uint64) error {
	mbr, err := patchBootImage(bootImage, first)
	if err != nil {
		return err
	}
	core, err := patchCoreImage(coreImage, first, sectors)
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(core, int64(first)*sectorBytes); err != nil {
		return err
	}
	_, err = disk.WriteAt(mbr, 0)
	return err
}

// patchBootImage returns the boot code of boot.img, told to load the sector at LBA kernel.
func patchBootImage(image []byte, kernel uint64) ([]byte, error) {
	if len(image) != sectorBytes {
		return nil, fmt.Errorf("boot.img has %d bytes, not one sector", len(image))
	}
	if binary.LittleEndian.Uint16(image[510:]) != 0xaa55 {
		return nil, fmt.Errorf("boot.img ends in %x, not in the boot signature", image[510:])
	}
	code := append([]byte(nil), image[:mbrCodeBytes]...)
	binary.LittleEndian.PutUint64(code[mbrKernelSector:], kernel)
	return code, nil
}

// patchCoreImage returns core.img, told that its second sector is at LBA first+1, and padded to whole sectors.
func patchCoreImage(image []byte, first, sectors uint64) ([]byte, error) {
	need := (len(image) + sectorBytes - 1) / sectorBytes
	switch {
	case need < 2:
		return nil, fmt.Errorf("core.img has %d bytes: nothing behind its first sector", len(image))
	case uint64(need) > sectors:
		return nil, fmt.Errorf("core.img takes %d sectors, its partition has %d", need, sectors)
	}
	if loads := int(binary.LittleEndian.Uint16(image[coreListLength:])); loads != need-1 {
		return nil, fmt.Errorf("core.img loads %d sectors, but has %d behind its first", loads, need-1)
	}
	core := make([]byte, need*sectorBytes)
	copy(core, image)
	binary.LittleEndian.PutUint64(core[coreListStart:], first+1)
	return core, nil
}
