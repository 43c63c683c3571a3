package lab

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// foreignRamdisks are what others make for any machine, how far each gets without a disk, and what it says on the way. Each
// is made once.
var foreignRamdisks = []struct {
	name  string
	file  string                                                        // in the cache, under foreign
	make  func(t *testing.T, root, release, out string) (kernel string) // if "", Debian's
	args  string
	there *regexp.Regexp
	says  *regexp.Regexp // its own words, that are the same each time
}{
	{
		"Debian's own, with microcode in front", "debian.img", withMicrocode, "loglevel=3 break=mount",
		regexp.MustCompile(`Spawning shell within the initramfs`),
		regexp.MustCompile(`Loading, please wait|Starting systemd-udevd version [0-9]+|Begin: [^.]* \.\.\. done|Spawning shell`),
	},
	{
		"the one of Debian's installer", "installer.gz", ofInstaller, "loglevel=3",
		regexp.MustCompile(`Starting system log daemon: syslogd, klogd\.`),
		regexp.MustCompile(`Starting system log daemon: syslogd, klogd`),
	},
	{
		"dracut's", "dracut.img", func(t *testing.T, root, release, out string) string {
			makeForeign(t, "dracut", root, release, out)
			return ""
		}, "loglevel=3 root=/dev/nowhere rd.break=initqueue",
		regexp.MustCompile(`Dropping to debug shell|Press Enter for maintenance`),
		regexp.MustCompile(`dracut: FATAL|Warning: /dev/nowhere does not exist|Dropping to debug shell|Press Enter for maintenance`),
	},
}

// makeForeign has a program of makers write its ramdisk.
func makeForeign(t *testing.T, program, root, release, out string) {
	t.Helper()
	if _, err := os.Stat(out); err == nil {
		return
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
	for _, m := range makers {
		if m.program != program {
			continue
		}
		if err := m.run(release, root, out, t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
}

// withMicrocode is initramfs-tools' ramdisk behind an archive that is not compressed, as iucode-tool puts microcode there.
func withMicrocode(t *testing.T, root, release, out string) string {
	if _, err := os.Stat(out); err == nil {
		return ""
	}
	main := filepath.Join(t.TempDir(), "main")
	makeForeign(t, "mkinitramfs", root, release, main)
	err := shell(`cd $1 && mkdir -p kernel/x86/microcode && head -c 40000 /dev/zero >kernel/x86/microcode/AuthenticAMD.bin &&
		{ find kernel | cpio --quiet -o -H newc; cat $2; } >$3`, t.TempDir(), main, out)
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// ofInstaller is what the package debian-installer-12-netboot-amd64 has, with a kernel of its own.
func ofInstaller(t *testing.T, _, _, out string) string {
	dir := filepath.Join(debianInstaller, "debian-installer/amd64")
	if err := os.Symlink(filepath.Join(dir, "initrd.gz"), out); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); err != nil {
		t.Skip(err)
	}
	return filepath.Join(dir, "linux")
}

// TestForeignRamdiskBoots boots ramdisks that others made: as they came, and unpacked and packed again by muster, in zstd, so
// that nothing is copied as it was. The judges are their own init and scripts: both must get equally far and say the same.
func TestForeignRamdiskBoots(t *testing.T) {
	deb, vmlinuz := ramdiskKernel(t)
	root, release := unpackKernel(t, deb)
	made, err := filepath.Abs(filepath.Join(labCache(), "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(made, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, row := range foreignRamdisks {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			before, work, after := filepath.Join(made, row.file), filepath.Join(dir, "work"), filepath.Join(dir, "after")
			kernel := cmp.Or(row.make(t, root, release, before), vmlinuz)
			muster(t, "ramdisk", "unpack", before, "-C", work)
			muster(t, "ramdisk", "repack", work, "-o", after, "--compress", "zstd")
			var said [2][]string
			for i, image := range []string{before, after} {
				s, err := aloneBoot{emulator: emulatesX64, kernel: kernel, ramdisk: image, mib: 1024, args: row.args, there: row.there}.run(t, bootLimit)
				if err != nil {
					t.Fatalf("%s: %v", filepath.Base(image), err)
				}
				for _, line := range row.says.FindAllString(s.console, -1) {
					said[i] = append(said[i], strings.TrimSpace(line))
				}
			}
			if diff := gocmp.Diff(said[0], said[1]); diff != "" || len(said[0]) == 0 {
				t.Errorf("its words (-before +after):\n%s", diff)
			}
			t.Logf("both said %q", said[0])
		})
	}
}
