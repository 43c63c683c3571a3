package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Block device requests of include/uapi/linux/fs.h.
const (
	blkRRPART   = 0x125f // read the partition table again
	blkFLSBUF   = 0x1261 // write out and drop what is cached
	blkZEROOUT  = 0x127f
	blkSectorSz = 512
)

// endBytes at each end of a disk hold what firmware and kernels look for: partition tables, boot sectors, the
// superblocks of file systems, LVM, RAID members at 4 KiB and at the end.
const endBytes = 1 << 20

// blockFile is the part of *os.File that a Disk uses; tests put faults behind it.
type blockFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// A Disk is an open disk, or a plain file that stands for one.
type Disk struct {
	Size int64 // bytes

	file  blockFile
	raw   *os.File // nil when file is not one
	block bool
	own   diskCommands // of the disk itself; nil for a plain file
}

// OpenDisk opens a disk for reading and writing, alone: the kernel refuses O_EXCL while a partition is mounted or
// in use by LVM, RAID or swap.
func OpenDisk(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%w: something on the disk is in use", err)
		}
		return nil, err
	}
	d, err := newDisk(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return d, nil
}

// openDevice opens a disk by kernel name, below root.
func openDevice(root, name string) (*Disk, error) {
	if name == "" || name != filepath.Base(name) {
		return nil, fmt.Errorf("%q is no name of a disk", name)
	}
	return OpenDisk(filepath.Join(root, "dev", name))
}

func newDisk(f *os.File) (*Disk, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d := &Disk{file: f, raw: f, Size: st.Size(), block: st.Mode().Type() == os.ModeDevice}
	if st.Mode().IsRegular() {
		return d, nil
	}
	if !d.block {
		return nil, errors.New("neither a disk nor a plain file")
	}
	d.own = blockDevice{f}
	// A block device is as long as its end is far; this needs no ioctl with a pointer.
	if d.Size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	return d, nil
}

// ReadAt and WriteAt are those of the file.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) { return d.file.ReadAt(p, off) }

// WriteAt refuses what would go past the end: a plain file would grow.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > d.Size-off {
		return 0, fmt.Errorf("write %d bytes at byte %d: the disk has %d", len(p), off, d.Size)
	}
	return d.file.WriteAt(p, off)
}

// Close ends the use of the disk.
func (d *Disk) Close() error { return d.file.Close() }

// Zero makes a range read as zeros without sending them, where the disk can. An error says that it must be written.
func (d *Disk) Zero(off, n int64) error {
	if !d.block || off%blkSectorSz != 0 || n%blkSectorSz != 0 {
		return errors.ErrUnsupported
	}
	return zeroOut(d.raw, off, n)
}

// Sync waits until everything written is on the disk.
func (d *Disk) Sync() error { return d.file.Sync() }

// Flow starts writing out a range and waits for the range before it, so that a long image neither fills the memory
// with dirty pages nor hides a write error until its end. It also drops the pages of the earlier range.
func (d *Disk) Flow(from, mid, to int64) error {
	if d.raw == nil || !d.block {
		return nil
	}
	fd := int(d.raw.Fd())
	if err := unix.SyncFileRange(fd, mid, to-mid, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return fmt.Errorf("write out bytes %d to %d: %w", mid, to-1, err)
	}
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if mid > from {
		if err := unix.SyncFileRange(fd, from, mid-from, wait); err != nil {
			return fmt.Errorf("write out bytes %d to %d: %w", from, mid-1, err)
		}
		_ = unix.Fadvise(fd, from, mid-from, unix.FADV_DONTNEED)
	}
	return nil
}

// Forget drops what the kernel keeps of the disk in memory, so that the next read asks the disk itself.
func (d *Disk) Forget() error {
	if d.raw == nil {
		return nil
	}
	fd := int(d.raw.Fd())
	if d.block {
		if err := unix.IoctlSetInt(fd, blkFLSBUF, 0); err != nil {
			return fmt.Errorf("drop what is cached of the disk: %w", err)
		}
	}
	return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
}

// Dropped says that a range was read for the last time.
func (d *Disk) Dropped(off, n int64) {
	if d.raw != nil {
		_ = unix.Fadvise(int(d.raw.Fd()), off, n, unix.FADV_DONTNEED) // advice
	}
}

// Reread makes the kernel read the partition table again.
func (d *Disk) Reread() error {
	if !d.block {
		return nil
	}
	if err := unix.IoctlSetInt(int(d.raw.Fd()), blkRRPART, 0); err != nil {
		return fmt.Errorf("read the partition table again: %w", err)
	}
	return nil
}

// ends are the ranges at the two ends of the disk; one when it is short.
func (d *Disk) ends() [][2]int64 {
	if d.Size <= 2*endBytes {
		return [][2]int64{{0, d.Size}}
	}
	return [][2]int64{{0, endBytes}, {d.Size - endBytes, endBytes}}
}

// Blank says whether both ends hold nothing but zeros; if not, where the first other byte is.
func (d *Disk) Blank() (blank bool, at int64, err error) {
	for _, r := range d.ends() {
		b := make([]byte, r[1])
		if _, err := d.ReadAt(b, r[0]); err != nil && err != io.EOF {
			return false, 0, fmt.Errorf("read the disk at byte %d: %w", r[0], err)
		}
		for i, c := range b {
			if c != 0 {
				return false, r[0] + int64(i), nil
			}
		}
	}
	return true, 0, nil
}

// EraseEnds writes zeros over both ends: no firmware and no kernel finds anything on the disk afterwards.
func (d *Disk) EraseEnds() error {
	for _, r := range d.ends() {
		if _, err := d.WriteAt(make([]byte, r[1]), r[0]); err != nil {
			return fmt.Errorf("erase %d bytes at byte %d: %w", r[1], r[0], err)
		}
	}
	return d.Sync()
}
