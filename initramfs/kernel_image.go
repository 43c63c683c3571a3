package initramfs

import (
	"bufio"
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
)

// A KernelImage is what a kernel image says of itself.
type KernelImage struct {
	Arch    string // GOARCH
	Release string // e.g. 6.1.0-56-amd64; "" when it does not say
}

// maxImage is how far into a kernel image its release is looked for; Debian's have 8 to 40 MB.
const maxImage = 256 << 20

// ReadKernelImage reads the header of a kernel image that boot loaders take: x86's bzImage, arm64's Image, or one that unpacks
// itself under EFI.
func ReadKernelImage(r io.Reader) (KernelImage, error) {
	in := bufio.NewReaderSize(io.LimitReader(r, maxImage), 64<<10)
	head, err := in.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return KernelImage{}, fmt.Errorf("read kernel image: %w", err)
	}
	release, ok := imageRelease(head)
	if !ok {
		return KernelImage{}, errors.New("read kernel image: it is no bzImage, no arm64 Image and no EFI image")
	}
	img := KernelImage{Arch: imageArch(head), Release: release}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return KernelImage{}, errors.New("read kernel image: it is compressed with gzip, which boot loaders do not unpack: gunzip it first")
	case img.Arch == "":
		return KernelImage{}, errors.New("read kernel image: its architecture is not known here")
	case img.Arch == "arm64":
		img.Release, err = banner(in)
		return img, err
	}
	return img, nil
}

// x86's header has at 0x236 the flags of protocol 2.12 (version at 0x206), of which bit 0 says that there is a 64-bit
// entry point (Documentation/arch/x86/boot.rst).
const (
	x86Protocol  = 0x206
	x86LoadFlags = 0x236
)

// imageArch gives GOARCH of an image, or "".
func imageArch(head []byte) string {
	switch {
	case len(head) >= x86LoadFlags+2 && string(head[0x202:0x206]) == "HdrS":
		if binary.LittleEndian.Uint16(head[x86Protocol:]) >= 0x20c && head[x86LoadFlags]&1 != 0 {
			return "amd64"
		}
		return "386"
	case len(head) >= 0x3c && string(head[0x38:0x3c]) == "ARM\x64":
		return "arm64"
	}
	return peArch(head)
}

// peArch reads what machine an EFI program is for: the offset of "PE\0\0" lies at 0x3c, the machine behind it.
func peArch(head []byte) string {
	if len(head) < 0x40 {
		return ""
	}
	at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+6 > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return ""
	}
	return map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64",
		pe.IMAGE_FILE_MACHINE_RISCV64: "riscv64"}[binary.LittleEndian.Uint16(head[at+4:])]
}

// banner finds the text that the kernel prints first (init/version.c): arm64's header has no release. An image that is
// compressed inside does not show it.
func banner(in *bufio.Reader) (string, error) {
	const start = "Linux version "
	for {
		_, err := in.ReadSlice(start[0])
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("read kernel image: %w", err)
		}
		next, _ := in.Peek(len(start) - 1 + 65)
		rest, ok := bytes.CutPrefix(next, []byte(start[1:]))
		release, _, found := bytes.Cut(rest, []byte(" "))
		if ok && found && len(release) > 0 && release[0] != '%' && string(release) == path.Base(string(release)) {
			return string(release), nil
		}
	}
}
