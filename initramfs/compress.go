package initramfs

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressors write what kernels unpack, by the name that --compress and CONFIG_RD_* have for them. All are written in
// Go, so that the bytes depend on go.sum alone and not on the programs of this machine.
var compressors = []struct {
	name   string
	suffix string
	write  func(io.Writer, func(io.Writer) error) error
}{
	{"gzip", ".gz", writeGzip},
	{"zstd", ".zst", writeZstd},
	{"xz", ".xz", writeXZ},
	{"none", "", func(w io.Writer, write func(io.Writer) error) error { return write(w) }},
}

// Compressions lists the words for Config.Compress.
func Compressions() []string {
	var names []string
	for _, c := range compressors {
		names = append(names, c.name)
	}
	return names
}

// Suffix is what the name of a ramdisk ends in after .cpio; "" for none and for what is not known.
func Suffix(compress string) string {
	for _, c := range compressors {
		if c.name == compress {
			return c.suffix
		}
	}
	return ""
}

// compressor finds how to write a compression; nil for one that is not written here.
func compressor(name string) func(io.Writer, func(io.Writer) error) error {
	for _, c := range compressors {
		if c.name == name {
			return c.write
		}
	}
	return nil
}

// packWindow is how far back a compressed ramdisk may refer. The kernel keeps as much beside the ramdisk while it
// unpacks, on machines of 128 MB.
const packWindow = 8 << 20

// writeZstd compresses what write writes; kernels unpack it since 5.9 (CONFIG_RD_ZSTD).
func writeZstd(w io.Writer, write func(io.Writer) error) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(packWindow),
		zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if err := write(z); err != nil {
		return err
	}
	return z.Close()
}

// writeXZ compresses what write writes. A kernel knows no check but CRC32 (Documentation/staging/xz.rst).
func writeXZ(w io.Writer, write func(io.Writer) error) error {
	z, err := xz.WriterConfig{DictCap: packWindow, CheckSum: xz.CRC32}.NewWriter(w)
	if err != nil {
		return fmt.Errorf("write xz: %w", err)
	}
	if err := write(z); err != nil {
		return err
	}
	return z.Close()
}
