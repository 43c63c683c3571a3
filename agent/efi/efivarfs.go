package efi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// global is EFI_GLOBAL_VARIABLE (section 3.3).
const global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

const (
	attributes  = 7       // non-volatile, boot services, runtime
	immutable   = 0x10    // FS_IMMUTABLE_FL of linux/fs.h
	maxVariable = 1 << 16 // bytes that are read
)

// A Dir is where the kernel shows the firmware's variables (Documentation/filesystems/efivarfs.rst): files NAME-GUID, which
// hold four bytes of attributes and the value, and are written by one write.
type Dir string

var _ Variables = Dir("")

func (d Dir) file(name string) string { return filepath.Join(string(d), name+global) }

// List gives the names of the global variables.
func (d Dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), global); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Get reads a variable.
func (d Dir) Get(name string) ([]byte, error) {
	f, err := os.Open(d.file(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxVariable+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) < 4 || len(b) > maxVariable:
		return nil, fmt.Errorf("variable %s has %d bytes", name, len(b))
	}
	return b[4:], nil
}

// Set writes a variable.
func (d Dir) Set(name string, data []byte) error {
	if err := d.release(name); err != nil {
		return err
	}
	return os.WriteFile(d.file(name), append(binary.LittleEndian.AppendUint32(nil, attributes), data...), 0o644)
}

// Remove removes a variable.
func (d Dir) Remove(name string) error {
	if err := d.release(name); err != nil {
		return err
	}
	return os.Remove(d.file(name))
}

// release takes the mark away by which the kernel keeps a variable from being removed by accident.
func (d Dir) release(name string) error {
	f, err := os.Open(d.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil // no such marks here
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}
