package agent

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/fs.h and linux/nvme_ioctl.h.
const (
	blkDISCARD    = 0x1277
	blkSECDISCARD = 0x127d
	nvmeIoctlID   = 0x4e40     // NVME_IOCTL_ID
	nvmeIoctlAdm  = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD
)

// diskCommands are what a disk is told beside reads and writes; tests put a disk of their own behind it.
type diskCommands interface {
	discard(off, n int64, secure bool) error
	namespace() (uint32, error) // NVMe: the one that is open
	admin(c nvmeCommand, data []byte) (status int, err error)
}

// A blockDevice is a disk of this machine.
type blockDevice struct{ f *os.File }

func (b blockDevice) discard(off, n int64, secure bool) error {
	request := uintptr(blkDISCARD)
	if secure {
		request = blkSECDISCARD
	}
	r := [2]uint64{uint64(off), uint64(n)}
	_, err := b.ioctl(request, unsafe.Pointer(&r))
	return err
}

func (b blockDevice) namespace() (uint32, error) {
	id, err := b.ioctl(nvmeIoctlID, nil)
	return uint32(id), err
}

// nvmePassthru is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type nvmePassthru struct {
	opcode, flags     uint8
	_                 uint16
	nsid              uint32
	_                 [2]uint32
	_                 uint64 // metadata
	addr              uint64
	_                 uint32 // metadata_len
	dataLen           uint32
	cdw10             uint32
	_                 [5]uint32 // cdw11 to cdw15
	timeoutMS, result uint32
}

func (b blockDevice) admin(c nvmeCommand, data []byte) (status int, err error) {
	p := nvmePassthru{opcode: c.opcode, nsid: c.nsid, cdw10: c.cdw10, timeoutMS: uint32(c.timeout.Milliseconds())}
	if len(data) > 0 {
		var pin runtime.Pinner // the kernel gets the address as a number
		pin.Pin(&data[0])
		defer pin.Unpin()
		p.addr, p.dataLen = uint64(uintptr(unsafe.Pointer(&data[0]))), uint32(len(data))
	}
	got, err := b.ioctl(nvmeIoctlAdm, unsafe.Pointer(&p))
	return int(got), err
}

func (b blockDevice) ioctl(request uintptr, arg unsafe.Pointer) (uintptr, error) {
	got, _, errno := unix.Syscall(unix.SYS_IOCTL, b.f.Fd(), request, uintptr(arg))
	if errno != 0 {
		return 0, errno
	}
	return got, nil
}
