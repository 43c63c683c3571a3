package agent

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// maxModule bounds what one module unpacks to; the largest of Debian 6.1 has 9 MB.
const maxModule = 64 << 20

// insertModule loads one module file into the running kernel, with parameters. What is compressed with zstd, as our
// ramdisks have it, is unpacked here, because few kernels can (CONFIG_MODULE_DECOMPRESS); what the kernel gets are the
// signed bytes, and it verifies them as those of a file. Other compressions are left to it.
func insertModule(path, params string) error {
	if strings.HasSuffix(path, ".zst") {
		module, err := unpackModule(path)
		if err != nil {
			return err
		}
		return unix.InitModule(module, params)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), params, flags)
}

// moduleDecoder unpacks as many modules at a time as there are processors.
var moduleDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxModule))
})

// unpackModule reads a module that is compressed with zstd.
func unpackModule(path string) ([]byte, error) {
	z, err := moduleDecoder()
	if err != nil {
		return nil, err
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	module, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return module, nil
}
