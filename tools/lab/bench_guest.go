package lab

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The guest in which inventory tools are measured is a Debian without an init system, unpacked into memory: the tools, all
// they call, and a running udev, whose database most of them read. It has no disk of its own, which would be one more to find.

// peerPackages are the tools with the programs that they ask when those are there; what they merely recommend is theirs by name.
var peerPackages = []string{
	"udev", "kmod", "iproute2", "util-linux",
	"lshw", "hwinfo", "facter", "ohai", "dmidecode", "pciutils",
	"virt-what", "ruby-sys-filesystem", "ethtool", "usbutils",
}

// peerModulesOut are folders of the kernel's modules that no machine here asks for. All must fit into the planted 2 GiB.
var peerModulesOut = []string{
	"sound", "drivers/media", "drivers/infiniband", "drivers/iio", "drivers/staging", "drivers/comedi", "drivers/isdn", "drivers/mtd",
	"drivers/bluetooth", "drivers/target", "drivers/net/wireless", "drivers/gpu/drm/amd", "drivers/gpu/drm/i915",
	"drivers/gpu/drm/nouveau", "drivers/gpu/drm/radeon",
}

// peersInit brings the machine into the state that tools know: devices found by udev and settled, links up. It writes the
// record to its console and switches the machine off. The kernel makes a word of its command line that it does not know a
// variable of init's.
const peersInit = `#!/bin/sh
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t securityfs securityfs /sys/kernel/security
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --type=subsystems
udevadm trigger --action=add --type=devices
udevadm settle --timeout=120
modprobe -a sg ipmi_si ipmi_devintf cpuid efivarfs
test -d /sys/firmware/efi && mount -t efivarfs efivarfs /sys/firmware/efi/efivars
for nic in /sys/class/net/*; do ip link set "${nic##*/}" up; done
sleep 5
udevadm settle --timeout=120
echo "peers: begin"
measure --rounds "${rounds:-5}" --tools "$tools" -o /dev/console && echo "peers: done" || echo "peers: failed"
echo o > /proc/sysrq-trigger
sleep 60
`

// The files of the guest in its cache directory.
const (
	peersTreeName = "peers.cpio.zst" // what Debian has, kept while the recipe is the same
	peersInfoName = "peers.key"
)

// peersKey sums the recipe and the kernel package. The versions of the other packages are not part of it, as in debianKey.
func peersKey(kernel string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q %q %q", 1, peerPackages, peerModulesOut, debianDpkgOptions, filepath.Base(kernel)))
	return hex.EncodeToString(sum[:])
}

// buildPeersTree makes the archive with mmdebstrap, unless one of the same recipe is there, and gives its path.
func buildPeersTree(ctx context.Context, dir, kernel string, say func(string)) (_ string, err error) {
	packed, info := filepath.Join(dir, peersTreeName), filepath.Join(dir, peersInfoName)
	key := peersKey(kernel)
	if have, err := os.ReadFile(info); err == nil && string(have) == key {
		return packed, nil
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("the tree has owners and device nodes: run as root, not as user %d", os.Geteuid())
	}
	b := debianBuild{dir: dir, epoch: debianEpoch(time.Time{}), say: say}
	tree := filepath.Join(dir, "peers.tar")
	defer func() { err = errors.Join(err, os.Remove(tree)) }()
	if err := b.run(ctx, "mmdebstrap", peersArgs(kernel, tree)...); err != nil {
		return "", err
	}
	say("pack the tree")
	if err := packTree(ctx, tree, packed+".new"); err != nil {
		return "", fmt.Errorf("pack %q: %w", tree, err)
	}
	if err := os.Rename(packed+".new", packed); err != nil {
		return "", err
	}
	return packed, os.WriteFile(info, []byte(key), 0o644)
}

// peersArgs installs the packages and lays the kernel's modules beside them. The kernel package itself would want an
// initramfs made.
func peersArgs(kernel, tree string) []string {
	args := []string{
		"--mode=root", "--format=tar", "--variant=minbase", "--include=" + strings.Join(peerPackages, ","),
		`--aptopt=Apt::Install-Recommends "false"`,
	}
	for _, option := range debianDpkgOptions {
		args = append(args, "--dpkgopt="+option)
	}
	unpack := `dpkg-deb --fsys-tarfile "` + kernel + `" | tar -x -C "$1"`
	for _, out := range peerModulesOut {
		unpack += " --exclude='./lib/modules/*/kernel/" + out + "'"
	}
	return append(args,
		"--customize-hook="+unpack+" ./lib/modules", // goes to usr/lib where lib is a link
		`--customize-hook=chroot "$1" sh -c 'depmod $(ls /lib/modules)'`,
		"bookworm", tree)
}

// packTree turns a tar archive into a compressed newc one, which is all a kernel unpacks.
func packTree(ctx context.Context, tree, packed string) error {
	in, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(packed)
	if err != nil {
		return err
	}
	defer out.Close()
	enc, err := zstd.NewWriter(out, zstd.WithWindowSize(imageWindow))
	if err != nil {
		return err
	}
	w := &newc{w: enc}
	for r := tar.NewReader(contextReader{ctx, in}); ; {
		h, err := r.Next()
		if err == io.EOF {
			return errors.Join(w.close(), enc.Close(), out.Close())
		}
		if err != nil {
			return err
		}
		if err := w.addTar(h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}
