package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// foreignRamdisks are what others make for any machine, how far each gets without a disk, and what it says on the way. The
// files are the caller's: a directory of MUSTER_RAMDISKS.
var foreignRamdisks = []struct {
	name, file string
	kernel     string // beside it; if "", Debian's
	args       string
	there      *regexp.Regexp
	says       *regexp.Regexp // its own words, that are the same each time
}{
	{"Debian's own, with microcode in front", "debian-early.img", "", "loglevel=3 break=mount",
		regexp.MustCompile(`Spawning shell within the initramfs`),
		regexp.MustCompile(`Loading, please wait|Starting systemd-udevd version [0-9]+|Begin: [^.]* \.\.\. done|Spawning shell`)},
	{"the one of Debian's installer", "di.gz", "di.linux", "loglevel=3",
		regexp.MustCompile(`Starting system log daemon: syslogd, klogd\.`),
		regexp.MustCompile(`Starting system log daemon: syslogd, klogd`)},
	{"dracut's", "dracut.img", "", "loglevel=3 root=/dev/nowhere rd.break=initqueue",
		regexp.MustCompile(`Dropping to debug shell`),
		regexp.MustCompile(`dracut: FATAL|Dropping to debug shell`)},
}

// TestForeignRamdiskBoots boots ramdisks that others made: as they came, and unpacked and packed again by muster, in zstd, so
// that nothing is copied as it was. The judges are their own init and scripts: both must get equally far and say the same.
func TestForeignRamdiskBoots(t *testing.T) {
	_, vmlinuz := ramdiskKernel(t)
	dir := os.Getenv("MUSTER_RAMDISKS")
	for _, row := range foreignRamdisks {
		t.Run(row.name, func(t *testing.T) {
			before, kernel := filepath.Join(dir, row.file), vmlinuz
			if row.kernel != "" {
				kernel = filepath.Join(dir, row.kernel)
			}
			for _, file := range []string{before, kernel} {
				if _, err := os.Stat(file); dir == "" || err != nil {
					t.Skipf("no %s in MUSTER_RAMDISKS", filepath.Base(file))
				}
			}
			work := filepath.Join(t.TempDir(), "work")
			after := filepath.Join(t.TempDir(), "after")
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
			if diff := cmp.Diff(said[0], said[1]); diff != "" || len(said[0]) == 0 {
				t.Errorf("its words (-before +after):\n%s", diff)
			}
			t.Logf("both said %q", said[0])
		})
	}
}
