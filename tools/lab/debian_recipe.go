package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"
)

// What shapes the image is data, here and in the tables of the ESP and of GRUB; debianKey sums it, so that a change is a new
// image.

// debianSteps is raised when the steps over that data change what comes out.
const debianSteps = 3

// debianPackages are installed on top of the essential set, without recommended packages.
var debianPackages = []string{
	"linux-image-cloud-amd64", // Debian's signed kernel for virtual machines: virtio, NVMe, SCSI; no SATA, few network cards
	"initramfs-tools", "zstd",
	"systemd-sysv", "udev", "dbus", "systemd-resolved",
	"iproute2", "curl",
}

// debianDpkgOptions keep documentation and translations out, now and in what is installed later: the image is written and
// read back whole under emulation. Copyright files stay, as Debian's licences ask.
var debianDpkgOptions = []string{
	"path-exclude=/usr/share/doc/*",
	"path-include=/usr/share/doc/*/copyright",
	"path-exclude=/usr/share/info/*",
	"path-exclude=/usr/share/locale/*",
	"path-exclude=/usr/share/man/*",
}

// debianUnitsOn and debianUnitsOff are enabled and disabled by systemctl in the tree.
var (
	debianUnitsOn  = []string{"systemd-networkd.service", "systemd-networkd-wait-online.service", "systemd-resolved.service"}
	debianUnitsOff = []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
		"fstrim.timer",
	}
)

// debianUUIDs are fixed so that two builds are alike. Machines made from the image therefore share them: the loaders look at
// the disk they came from first, and only one disk of a machine should carry the image.
const (
	debianDiskGUID = "6d757374-6572-4c61-8264-656269616e00"
	debianBIOSGUID = "6d757374-6572-4c61-8264-656269616e01"
	debianESPGUID  = "6d757374-6572-4c61-8264-656269616e02"
	debianRootGUID = "6d757374-6572-4c61-8264-656269616e03" // lower case, as udev names /dev/disk/by-partuuid
	debianRootUUID = "6d757374-6572-4c61-8264-656269616e10" // of the file system
	debianESPID    = "6d757374"                             // FAT volume serial number
)

// A debianPartition is one entry of the image's GPT. The start and size of the last one depend on the tree.
type debianPartition struct {
	number  int
	name    string
	kind    string // sgdisk's type code or a GPT type GUID
	guid    string
	first   uint64 // LBA of 512 bytes
	sectors uint64 // 0: computed
}

const sectorBytes = 512

// The partitions, in disk order. The root file system is last so that systemd-repart can grow it to the end of the disk.
// FAT32 needs 65525 clusters, so 48 MiB of one sector each is the smallest round ESP that every firmware reads.
var (
	debianBIOSBoot = debianPartition{1, "bios", "ef02", debianBIOSGUID, 2048, 2048}
	debianESP      = debianPartition{2, "esp", "ef00", debianESPGUID, 4096, 48 << 11}
	debianRoot     = debianPartition{3, "root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", debianRootGUID, 4096 + 48<<11, 0}
)

// rootSlackBytes is the room left in the root file system of the image, for what an installer adds before the first boot.
const rootSlackBytes = 64 << 20

// A treeFile is a file (or, with link set, a symbolic link) that the recipe puts into the tree, in place of what is there.
type treeFile struct {
	path string // relative to the root of the tree
	mode fs.FileMode
	text string
	link string
}

// debianFiles is the configuration of the installed system. It holds no key, no password and no identity: root's password
// stays locked, and systemd fills the empty machine-id at the first boot (machine-id(5)).
var debianFiles = []treeFile{
	{path: "etc/hostname", mode: 0o644, text: "debian\n"},
	{path: "etc/hosts", mode: 0o644, text: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"},
	{path: "etc/machine-id", mode: 0o444},
	{path: "etc/resolv.conf", link: "../run/systemd/resolve/stub-resolv.conf"},
	{path: "etc/default/locale", mode: 0o644, text: "LANG=C.UTF-8\n"},
	{path: "etc/fstab", mode: 0o644, text: "PARTUUID=" + debianRootGUID + " / ext4 errors=remount-ro,x-systemd.growfs 0 1\n" +
		"PARTUUID=" + debianESPGUID + " /boot/efi vfat noauto,umask=0077 0 0\n"},
	{path: "etc/repart.d/50-root.conf", mode: 0o644, text: "[Partition]\nType=root\n"},
	{path: "etc/systemd/network/50-dhcp.network", mode: 0o644, text: "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n"},
	// A rack machine has ports without a cable: one port that is up is enough to be online.
	{path: "etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf", mode: 0o644,
		text: "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=60\n"},
	{path: "boot/grub/grub.cfg", mode: 0o644, text: debianGRUBConfig},
}

// A hostNeed is a program or file of the building host, and the Debian package that brings it.
type hostNeed struct{ path, pkg string }

var debianPrograms = []hostNeed{
	{"mmdebstrap", "mmdebstrap"},
	{"sgdisk", "gdisk"},
	{"mkfs.ext4", "e2fsprogs"},
	{"debugfs", "e2fsprogs"},
	{"mformat", "mtools"},
	{"mcopy", "mtools"},
	{"grub-mkimage", "grub-common"},
}

// checkDebianTools says in one line what this host lacks to build the image.
func checkDebianTools(euid int) error {
	if euid != 0 {
		return fmt.Errorf("the tree has device nodes and owners: run as root, not as user %d", euid)
	}
	for _, need := range debianPrograms {
		if _, err := exec.LookPath(need.path); err != nil {
			return missingNeed(need)
		}
	}
	for _, need := range append(espLoaders(), hostNeed{grubBootImage, "grub-pc-bin"}) {
		if _, err := os.Stat(need.path); err != nil {
			return missingNeed(need)
		}
	}
	return nil
}

func missingNeed(need hostNeed) error {
	return fmt.Errorf("%s is missing: apt-get install %s", need.path, need.pkg)
}

// debianEpoch gives the newest time stamp of the image, in whole seconds as SOURCE_DATE_EPOCH has it.
func debianEpoch(t time.Time) time.Time {
	if t.IsZero() {
		return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t.UTC().Truncate(time.Second)
}

// debianKey sums the recipe. The versions of Debian's packages are not part of it: an image is built again when the recipe
// changes or the cached one is removed.
func debianKey(epoch time.Time) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %d %q %q %q %q\n", debianSteps, epoch.Unix(), debianPackages, debianDpkgOptions, debianUnitsOn, debianUnitsOff)
	fmt.Fprintf(sum, "%q %q %q %v %d %d\n", debianDiskGUID, debianRootUUID, debianESPID, debianPartitions(), rootSlackBytes, imageWindow)
	fmt.Fprintf(sum, "%v %q %v %q\n", debianFiles, grubModules, espFiles, espGRUBConfig)
	return hex.EncodeToString(sum.Sum(nil))
}

func debianPartitions() []debianPartition {
	return []debianPartition{debianBIOSBoot, debianESP, debianRoot}
}
