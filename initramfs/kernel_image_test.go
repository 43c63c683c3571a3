package initramfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// x86Image is a bzImage with the flags of its protocol.
func x86Image(release string, protocol uint16, flags byte) string {
	b := []byte(bzImage(release))
	binary.LittleEndian.PutUint16(b[x86Protocol:], protocol)
	b[x86LoadFlags] = flags
	return string(b)
}

// armImage is an arm64 Image with this text far inside.
func armImage(text string) string {
	b := make([]byte, 200<<10)
	copy(b[0x38:], "ARM\x64")
	return string(b) + text + strings.Repeat("\x00", 100)
}

// efiImage is an image that unpacks itself, for a machine of PE's numbers.
func efiImage(machine uint16) string {
	b := make([]byte, 0x100)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x84:], machine)
	return string(b)
}

func TestReadKernelImage(t *testing.T) {
	for _, tt := range []struct {
		name, image string
		want        KernelImage
		wrong       string
	}{
		{"x86 with 64 bits", x86Image("6.1.0-56-amd64", 0x20f, 0x3f), KernelImage{"amd64", "6.1.0-56-amd64"}, ""},
		{"x86 with 32 bits", x86Image("6.1.0-56-686", 0x20f, 0x3e), KernelImage{"386", "6.1.0-56-686"}, ""},
		{"x86 before the flags", x86Image("3.2.0", 0x20b, 1), KernelImage{"386", "3.2.0"}, ""},
		{"arm64", armImage("Linux version 6.1.0-56-arm64 (debian-kernel@lists.debian.org) (gcc-12)"), KernelImage{"arm64", "6.1.0-56-arm64"}, ""},
		{"arm64 with the format of the banner before it", armImage("Linux version %s (%s)\x00LLinux version 6.12 (x)"), KernelImage{"arm64", "6.12"}, ""},
		{"arm64 without a banner", armImage("Linux"), KernelImage{"arm64", ""}, ""},
		{"arm64 that unpacks itself", efiImage(0xaa64), KernelImage{"arm64", ""}, ""},
		{"riscv64 that unpacks itself", efiImage(0x5064), KernelImage{"riscv64", ""}, ""},
		{"an EFI program of an unknown machine", efiImage(0x1234), KernelImage{}, "architecture is not known"},
		{"an EFI header that lies", "MZ\x00\x00zimg" + strings.Repeat("\xff", 0x40), KernelImage{}, "architecture is not known"},
		{"a compressed one", "\x1f\x8b\x08" + strings.Repeat("x", 100), KernelImage{}, "gunzip it first"},
		{"a ramdisk", "070701" + strings.Repeat("0", 600), KernelImage{}, "no bzImage"},
		{"nothing", "", KernelImage{}, "no bzImage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadKernelImage(iotest.HalfReader(strings.NewReader(tt.image)))
			if got != tt.want || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("ReadKernelImage = %+v, %v; want %+v, error with %q", got, err, tt.want, tt.wrong)
			}
		})
	}
	if _, err := ReadKernelImage(iotest.ErrReader(errors.New("gone"))); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a file that can not be read: %v", err)
	}
}

// The kernels that are installed here are what their names say.
func TestReadKernelImageOfRealKernels(t *testing.T) {
	kernels, _ := filepath.Glob("/boot/vmlinuz-*")
	if len(kernels) == 0 {
		t.Skip("no kernel is installed here")
	}
	for _, name := range kernels {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Skip(err)
		}
		img, err := ReadKernelImage(bytes.NewReader(b))
		if want := strings.TrimPrefix(filepath.Base(name), "vmlinuz-"); err != nil || img.Release != want || img.Arch == "" {
			t.Errorf("%s: %+v, %v", name, img, err)
		}
	}
}

func FuzzReadKernelImage(f *testing.F) {
	for _, image := range []string{x86Image("6.1", 0x20f, 1), armImage("Linux version 6.1 (x)")[190<<10:], efiImage(0xaa64)} {
		f.Add([]byte(image))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		img, err := ReadKernelImage(bytes.NewReader(image))
		if err == nil && img.Arch == "" || strings.ContainsAny(img.Release, "/ ") || len(img.Release) > 64 {
			t.Errorf("%+v, %v", img, err)
		}
	})
}
