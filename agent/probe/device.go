package probe

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/nvme_ioctl.h and scsi/sg.h.
const (
	nvmeIoctlAdmin = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD
	sgIO           = 0x2285     // SG_IO
)

// A diskFile is a disk of this machine, open for commands.
type diskFile struct {
	fd    int
	steps *atomic.Int64
}

// openDevice opens a disk without waiting for a medium.
func (t tree) openDevice(name string) (device, error) {
	path := "/dev/" + strings.ReplaceAll(name, "!", "/")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return diskFile{fd, t.steps}, nil
}

func (f diskFile) close() { unix.Close(f.fd) }

func (f diskFile) ioctl(request uintptr, arg unsafe.Pointer) (uintptr, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), request, uintptr(arg))
	f.steps.Add(1)
	if errno != 0 {
		return 0, errno
	}
	return result, nil
}

// nvmePassthru is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type nvmePassthru struct {
	opcode, flags         uint8
	_                     uint16
	nsid                  uint32
	_                     [2]uint32
	_                     uint64 // metadata
	addr                  uint64
	_                     uint32 // metadata_len
	dataLen               uint32
	cdw10                 uint32
	_                     [5]uint32 // cdw11 to cdw15
	timeoutMS, resultCDW0 uint32
}

func (f diskFile) nvme(opcode byte, nsid, cdw10 uint32, n int) ([]byte, error) {
	data := make([]byte, n)
	var pin runtime.Pinner // the kernel gets the address as a number
	pin.Pin(&data[0])
	defer pin.Unpin()
	c := nvmePassthru{
		opcode: opcode, nsid: nsid, cdw10: cdw10, timeoutMS: uint32(healthTimeout.Milliseconds()),
		addr: uint64(uintptr(unsafe.Pointer(&data[0]))), dataLen: uint32(n),
	}
	status, err := f.ioctl(nvmeIoctlAdmin, unsafe.Pointer(&c))
	if err != nil {
		return nil, fmt.Errorf("admin command %02x: %w", opcode, err)
	}
	if status != 0 {
		return nil, fmt.Errorf("admin command %02x: %w", opcode, nvmeStatus(status))
	}
	return data, nil
}

// sgHeader is struct sg_io_hdr of scsi/sg.h.
type sgHeader struct {
	interfaceID, direction     int32
	cmdLen, maxSense           uint8
	_                          uint16
	dataLen                    uint32
	data, cmd, sense           unsafe.Pointer
	timeoutMS, flags           uint32
	packID                     int32
	_                          unsafe.Pointer
	status, masked, msg, wrote uint8
	hostStatus, driverStatus   uint16
	resid                      int32
	duration, info             uint32
}

const (
	sgNone    = -1 // SG_DXFER_NONE
	sgFromDev = -3 // SG_DXFER_FROM_DEV
)

// A scsiAnswer is what a device made of a command.
type scsiAnswer struct {
	status byte   // SAM-6: 0 good, 2 check condition
	sense  []byte // what it says of the command
	data   []byte
}

func (f diskFile) scsi(cdb []byte, n int) (scsiAnswer, error) {
	data, sense := make([]byte, n), make([]byte, 64)
	h := sgHeader{
		interfaceID: 'S', direction: sgNone, cmdLen: uint8(len(cdb)), maxSense: uint8(len(sense)),
		cmd: unsafe.Pointer(&cdb[0]), sense: unsafe.Pointer(&sense[0]), timeoutMS: uint32(healthTimeout.Milliseconds()),
	}
	if n > 0 {
		h.direction, h.data, h.dataLen = sgFromDev, unsafe.Pointer(&data[0]), uint32(n)
	}
	if _, err := f.ioctl(sgIO, unsafe.Pointer(&h)); err != nil {
		return scsiAnswer{}, fmt.Errorf("command %02x: %w", cdb[0], err)
	}
	if h.hostStatus != 0 {
		return scsiAnswer{}, fmt.Errorf("command %02x: %w", cdb[0], hostStatus(h.hostStatus))
	}
	left := min(max(int(h.resid), 0), n)
	return scsiAnswer{h.status, sense[:min(int(h.wrote), len(sense))], data[:n-left]}, nil
}

// A hostStatus is why the kernel did not bring a command to its end (include/scsi/scsi_status.h).
type hostStatus uint16

func (s hostStatus) Error() string {
	switch s {
	case 1:
		return "no connection (host status 01)"
	case 3:
		return "no answer in time (host status 03)"
	}
	return fmt.Sprintf("host status %02x", uint16(s))
}

// Is makes one that came too late a timeout.
func (s hostStatus) Is(target error) bool { return s == 3 && target == context.DeadlineExceeded }
