package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"muster/agent/efi"
	"muster/agent/facts"
	"muster/agent/loader"
)

// note says that something went otherwise than ordered; the system that was written is right all the same.
func (w *imageWrite) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.agent.Console.Printf("%s", text)
	w.notes = append(w.notes, text)
}

// prepareLeave makes ready what the order says comes after it. A kernel that can not be started from here leaves the
// firmware to do it.
func (w *imageWrite) prepareLeave(ctx context.Context) error {
	a := w.agent
	switch w.want.Then {
	case facts.ThenReboot:
		a.then = a.Reboot
	case facts.ThenKexec:
		a.then = a.Reboot
		if err := w.loadInstalled(ctx); err != nil {
			w.note("the firmware starts the system, kexec can not: %v", err)
			break
		}
		a.then = func() error {
			if err := a.Kexec(); err != nil {
				a.Console.Printf("kexec: %v; leaving through the firmware", err)
			}
			return a.Reboot()
		}
	}
	return nil
}

// loadInstalled loads the kernel that the loader of the written system would start.
func (w *imageWrite) loadInstalled(ctx context.Context) error {
	disk, err := w.agent.partitions(ctx, w.want.Disk.ID)
	if err != nil {
		return err
	}
	errs := []error{fmt.Errorf("no file system of disk %s says which kernel", disk.Name)}
	for _, p := range append(rootPlaces(disk), espPlaces(disk)...) {
		err := w.agent.within(ctx, p, func(root *os.Root) error { return w.loadFrom(root, p) })
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s: %w", p.device, err))
		}
	}
	return errors.Join(errs[min(1, len(errs)-1):]...)
}

func (w *imageWrite) loadFrom(root *os.Root, p place) error {
	e, err := loader.Find(root.FS())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kexec")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kernel, initrd := filepath.Join(dir, "kernel"), ""
	if err := gather(root, kernel, e.Kernel); err != nil {
		return err
	}
	if len(e.Initrds) > 0 {
		initrd = filepath.Join(dir, "initrd")
		if err := gather(root, initrd, e.Initrds...); err != nil {
			return err
		}
	}
	if err := w.agent.Load(kernel, initrd, e.Cmdline); err != nil {
		return fmt.Errorf("load %s: %w", e.Kernel, err)
	}
	w.agent.Console.Printf("loaded %s of %s, by %s: %s", e.Kernel, p.device, e.From, e.Cmdline)
	return nil
}

// gather puts files of the written system one after the other into one local file, padded as fetch does.
func gather(root *os.Root, local string, names ...string) error {
	out, err := os.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, name := range names {
		in, err := root.Open(name)
		if err != nil {
			return err
		}
		n, err := io.Copy(out, io.LimitReader(in, maxBootFile+1))
		in.Close()
		if err == nil && n > maxBootFile {
			err = fmt.Errorf("%s has more than %d bytes", name, maxBootFile)
		}
		if err == nil {
			_, err = out.Write(make([]byte, -n&3))
		}
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// espTypes are the types of an EFI system partition: of a GPT, and of an MBR.
var espTypes = []string{"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"}

func esp(d facts.Disk) (facts.Partition, bool) {
	for _, p := range d.Partitions {
		for _, t := range espTypes {
			if strings.EqualFold(p.Type, t) && p.Content != nil && p.Content.Type == "vfat" {
				return p, true
			}
		}
	}
	return facts.Partition{}, false
}

func espPlaces(d facts.Disk) []place {
	if p, ok := esp(d); ok {
		return []place{{partitionName(d.Name, p.Number), "vfat"}}
	}
	return nil
}

// efiEntry makes the firmware know the system that was written, on machines that were started by UEFI. What goes wrong is
// noted only: without an entry, firmware starts what it finds at the removable path (UEFI 2.10 section 3.5.1.1).
func (w *imageWrite) efiEntry(ctx context.Context) error {
	dir := w.agent.path("sys/firmware/efi/efivars")
	if _, err := os.Stat(dir); err != nil || w.want.EFIEntry == "" {
		return nil
	}
	if err := w.putEFIEntry(ctx, efi.Dir(dir)); err != nil {
		w.note("the firmware has no entry for the system: %v", err)
	}
	return nil
}

func (w *imageWrite) putEFIEntry(ctx context.Context, vars efi.Variables) error {
	disk, err := w.agent.partitions(ctx, w.want.Disk.ID)
	if err != nil {
		return err
	}
	p, ok := esp(disk)
	if !ok {
		return fmt.Errorf("disk %s has no EFI system partition", disk.Name)
	}
	e := efi.Entry{Name: w.want.EFIEntry}
	if e.Partition, err = efiPartition(disk, p); err != nil {
		return err
	}
	if err := w.agent.within(ctx, espPlaces(disk)[0], func(root *os.Root) (err error) {
		e.Loader, err = efiLoader(root.FS(), runtime.GOARCH)
		return err
	}); err != nil {
		return err
	}
	name, behind, err := efi.Install(vars, e)
	if err != nil {
		return err
	}
	w.agent.Console.Printf("boot entry %s starts %s, behind %q", name, e.Loader, behind)
	return nil
}

// efiPartition says a partition as a device path does.
func efiPartition(d facts.Disk, p facts.Partition) (efi.Partition, error) {
	sector := uint64(max(d.LogicalBlockBytes, blkSectorSz))
	out := efi.Partition{Number: uint32(p.Number), First: uint64(p.StartBytes) / sector, Count: uint64(p.SizeBytes) / sector}
	if d.Table != "gpt" {
		signature, err := strconv.ParseUint(strings.TrimPrefix(d.TableUUID, "0x"), 16, 32)
		out.Signature = uint32(signature)
		return out, err
	}
	b, err := hex.DecodeString(strings.ReplaceAll(p.UUID, "-", ""))
	if err != nil || len(b) != 16 {
		return out, fmt.Errorf("partition %d has no GUID: %q", p.Number, p.UUID)
	}
	// A GUID's first three numbers are little-endian on a disk (UEFI 2.10 appendix A).
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		out.GUID[i] = b[from]
	}
	return out, nil
}

// efiNames are what UEFI calls an architecture in the names of files (section 3.5.1.1).
var efiNames = map[string]string{"amd64": "x64", "arm64": "aa64"}

// efiLoaders are the loaders of an EFI system partition in the order in which they count: a vendor's shim, which passes
// Secure Boot, before his GRUB, and the removable path last: shim's own there may reset the machine to write an entry.
var efiLoaders = []string{"shim%s.efi", "grub%s.efi", "systemd-boot%s.efi", "bootmgfw.efi", "boot%s.efi"}

// efiLoader finds the loader below EFI. Names are compared as FAT does, without case.
func efiLoader(files fs.FS, arch string) (string, error) {
	found := map[string]string{} // by lower-case name
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.Count(name, "/") > 3, len(found) > maxLoaders:
			return fs.SkipDir
		case d.IsDir() || !strings.HasPrefix(strings.ToLower(name), "efi/"):
			return nil
		}
		base := strings.ToLower(path.Base(name))
		removable := strings.HasPrefix(strings.ToLower(name), "efi/boot/")
		if _, ok := found[base]; !ok && removable == (base == "boot"+efiNames[arch]+".efi") {
			found[base] = name
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, name := range efiLoaders {
		if at, ok := found[strings.Replace(name, "%s", efiNames[arch], 1)]; ok {
			return at, nil
		}
	}
	return "", fmt.Errorf("the EFI system partition has none of the loaders %q for %s", efiLoaders, arch)
}

// maxLoaders bounds the files that are looked at.
const maxLoaders = 4096
