package lab

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memoryDisk is a disk of fixed size; writing outside of it panics, as a test should.
type memoryDisk []byte

func (d memoryDisk) WriteAt(p []byte, at int64) (int, error) {
	return copy(d[at:at+int64(len(p))], p), nil
}

// bootSector and coreOf make images of the right shape, filled with a byte that is not zero.
func bootSector(size int) []byte {
	image := bytes.Repeat([]byte{0xb0}, size)
	if size >= 512 {
		image[510], image[511] = 0x55, 0xaa
	}
	return image
}

func coreOf(size, loads int) []byte {
	image := bytes.Repeat([]byte{0xc0}, size)
	if size >= 512 {
		binary.LittleEndian.PutUint16(image[0x1fc:], uint16(loads))
	}
	return image
}

func TestEmbedGRUBChainsTheLoaders(t *testing.T) {
	const first = 5
	disk := memoryDisk(bytes.Repeat([]byte{0xee}, 16*512))
	if err := embedGRUB(disk, bootSector(512), coreOf(1100, 2), first, 8); err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint64(disk[0x5c:]); got != first {
		t.Errorf("boot sector loads LBA %d; want %d", got, first)
	}
	core := disk[first*512:]
	if got := binary.LittleEndian.Uint64(core[0x1f4:]); got != first+1 {
		t.Errorf("core.img loads its rest from LBA %d; want %d", got, first+1)
	}
	if got := binary.LittleEndian.Uint16(core[0x1fc:]); got != 2 {
		t.Errorf("core.img loads %d sectors; want 2", got)
	}
	// The code around the patches is as it came, and the partition table is as it was.
	for _, span := range []struct {
		what string
		got  []byte
		fill byte
	}{
		{"boot code before the patch", disk[:0x5c], 0xb0},
		{"boot code behind the patch", disk[0x64:440], 0xb0},
		{"disk signature and partition table", disk[440:512], 0xee},
		{"gap before core.img", disk[512 : first*512], 0xee},
		{"core.img before the patch", core[:0x1f4], 0xc0},
		{"core.img behind its first sector", core[512:1100], 0xc0},
		{"padding of core.img", core[1100 : 3*512], 0},
		{"room behind core.img", core[3*512:], 0xee},
	} {
		if want := bytes.Repeat([]byte{span.fill}, len(span.got)); !bytes.Equal(span.got, want) {
			t.Errorf("%s was changed: % x", span.what, span.got)
		}
	}
}

func TestEmbedGRUBRefusesAnotherLayout(t *testing.T) {
	for _, tt := range []struct {
		name       string
		boot, core []byte
		want       string
	}{
		{"boot.img is not a sector", bootSector(440), coreOf(1024, 1), "boot.img has 440 bytes, not one sector"},
		{"boot.img has no signature", make([]byte, 512), coreOf(1024, 1), "boot.img ends in 0000, not in the boot signature"},
		{"core.img is empty", bootSector(512), nil, "core.img has 0 bytes: nothing behind its first sector"},
		{"core.img is a first sector only", bootSector(512), coreOf(512, 0), "core.img has 512 bytes: nothing behind its first sector"},
		{"core.img loads less than it is", bootSector(512), coreOf(1536, 1), "core.img loads 1 sectors, but has 2 behind its first"},
		{"core.img is larger than its partition", bootSector(512), coreOf(9*512, 8), "core.img takes 9 sectors, its partition has 8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := make(memoryDisk, 16*512)
			err := embedGRUB(disk, tt.boot, tt.core, 5, 8)
			if err == nil || err.Error() != tt.want {
				t.Errorf("embedGRUB() = %v; want %q", err, tt.want)
			}
			if !bytes.Equal(disk, make(memoryDisk, 16*512)) {
				t.Error("a refused loader was written")
			}
		})
	}
}

func TestGRUBConfigsAreWhatTheMachineReads(t *testing.T) {
	const esp = `regexp --set=1:disk '^([^,]+),' "$root"
if [ -e "($disk,gpt3)/boot/grub/grub.cfg" ]; then
	set root="$disk,gpt3"
else
	search --no-floppy --fs-uuid --set=root 6d757374-6572-4c61-8264-656269616e10
fi
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
`
	if diff := cmp.Diff(esp, espGRUBConfig); diff != "" {
		t.Errorf("grub.cfg of the ESP (-want +got):\n%s", diff)
	}
	line := "\tlinux /vmlinuz root=PARTUUID=6d757374-6572-4c61-8264-656269616e03 ro console=tty0 console=ttyS0,115200\n"
	if !strings.Contains(debianGRUBConfig, line) {
		t.Errorf("grub.cfg of the root file system has no line %q:\n%s", line, debianGRUBConfig)
	}
	check, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Skip("no grub-script-check for a second opinion")
	}
	for _, text := range []string{espGRUBConfig, debianGRUBConfig} {
		cmd := exec.Command(check)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("grub-script-check: %v: %s\n%s", err, out, text)
		}
	}
}
