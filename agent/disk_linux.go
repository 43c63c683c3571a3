package agent

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroOut asks the kernel for zeros (BLKZEROOUT); it falls back to writing them when the disk has no command for it.
func zeroOut(f *os.File, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkZEROOUT, uintptr(unsafe.Pointer(&r))); e != 0 {
		return e
	}
	return nil
}
