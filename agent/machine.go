package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"golang.org/x/sys/unix"
)

// Here gives the agent the machine that it runs on: its devices, network, clock, disks and power. What is probed is
// still the caller's.
func (a *Agent) Here() error {
	if a.Now == nil {
		a.Now = time.Now
	}
	if a.Root == "" {
		a.Root = "/"
	}
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	modules, err := OpenModules(a.Root, release, a.Args.Blacklist, insertModule)
	if err != nil {
		return err
	}
	a.here(modules)
	return nil
}

func (a *Agent) here(modules *Modules) {
	plug := &Plug{Root: a.Root, Modules: modules, Console: a.Console, Now: a.Now}
	changed, came := make(chan struct{}, 1), make(chan struct{}, 1)
	var events *Uevents
	a.Changed, a.Module = changed, modules.Load
	net := &Network{BootMAC: a.Args.BootMAC, Console: a.Console, Now: a.Now,
		Links:  func() ([]Link, error) { return kernelLinks(a.Root) },
		LinkUp: setLinkUp,
		Lease:  askLease,
		Apply:  func(name string, now, old Lease) error { return applyLease(a.Root, name, now, old) },
		Came:   came,
	}
	a.Network = net.Up
	raise := func() {
		if err := net.Raise(); err != nil {
			a.Console.Printf("%v", err)
		}
		notify(came)
	}
	a.Drivers = func(ctx context.Context) (err error) {
		if events, err = ListenUevents(a.Now); err != nil {
			a.Console.Printf("%v; devices that come later stay without driver", err)
		} else {
			go events.Run(ctx, func(e Uevent) { device(ctx, plug, raise, changed, e) })
		}
		if err := plug.Coldplug(ctx); err != nil {
			return err
		}
		return mountEFIVars(ctx, a.Root, modules)
	}
	a.Settle = func(ctx context.Context) {
		s := &Settler{Root: a.Root, Console: a.Console, Limit: a.Args.DiskWait, Now: a.Now,
			Quiet: func() time.Duration { return quietFor }}
		if events != nil {
			s.Quiet = events.Quiet
		}
		s.Wait(ctx)
		raise()  // without events, for one
		select { // what came until now is in the first look at the machine
		case <-changed:
		default:
		}
	}
	a.SetClock = setClock
	a.Reboot = func() error { return leave(unix.LINUX_REBOOT_CMD_RESTART) }
	a.Poweroff = func() error { return leave(unix.LINUX_REBOOT_CMD_POWER_OFF) }
	a.Load = loadKernelFile
	a.Kexec = func() error { unix.Sync(); return kexec.Reboot() }
	a.OpenDisk = func(name string) (*Disk, error) { return openDevice(a.Root, name) }
	a.Mount, a.Tmpfs = mountDevice, mountTmpfs
}

// device takes one event: a driver for what is new, a link for a new NIC, and another check-in for what facts hold.
func device(ctx context.Context, plug *Plug, raise func(), changed chan<- struct{}, e Uevent) {
	if e.Action == "add" {
		plug.Hotplug(ctx, e.Modalias)
		if e.Subsystem == "net" {
			raise()
		}
	}
	hardware := e.Subsystem == "pci" || e.Subsystem == "net" || e.Subsystem == "block"
	if hardware && (e.Action == "add" || e.Action == "remove") {
		notify(changed)
	}
}

// notify leaves word in a channel that has room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known already
	}
}

// kernelRelease is what uname -r says: the name of the module directory.
func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// Uptime is the time since the kernel started.
func Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// setClock sets the system's clock. The battery clock is left alone: it is the machine owner's.
func setClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}

// leave writes out what is dirty and ends this boot.
func leave(cmd int) error {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fmt.Errorf("reboot(%#x): %w", cmd, err)
	}
	return nil
}

// loadKernelFile loads a kernel by kexec_file_load(2), which works with Secure Boot when the kernel is signed.
func loadKernelFile(kernel, initrd, cmdline string) error {
	k, err := os.Open(kernel)
	if err != nil {
		return err
	}
	defer k.Close()
	var i *os.File
	if initrd != "" {
		if i, err = os.Open(initrd); err != nil {
			return err
		}
		defer i.Close()
	}
	return kexec.FileLoad(k, i, cmdline)
}

// mountTmpfs mounts a file system in memory, of at most half of it, for nobody but root.
func mountTmpfs(dir string) (func() error, error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	return func() error {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	}, nil
}

// mountEFIVars mounts the firmware's variables. u-root's init tries before the module is loaded, and fails (U9).
func mountEFIVars(ctx context.Context, root string, modules *Modules) error {
	efi := filepath.Join(root, "sys/firmware/efi")
	if _, err := os.Stat(efi); err != nil {
		return nil // BIOS
	}
	known, _ := os.ReadFile(filepath.Join(root, "proc/filesystems"))
	if !strings.Contains(string(known), "efivarfs") {
		if err := modules.Load(ctx, "efivarfs"); err != nil {
			return fmt.Errorf("mount efivarfs: %w; the state of Secure Boot stays unknown", err)
		}
	}
	dir := filepath.Join(efi, "efivars")
	if mounted, _ := filepath.Glob(filepath.Join(dir, "*")); len(mounted) > 0 {
		return nil
	}
	err := unix.Mount("efivarfs", dir, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount efivarfs: %w", err)
	}
	return nil
}
