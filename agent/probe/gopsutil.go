package probe

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"path/filepath"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
)

// gopsutil is frozen: this is the only file that knows it.

// psContext points gopsutil at a root.
func psContext(ctx context.Context, root string) context.Context {
	return context.WithValue(ctx, common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(root, "proc"),
		common.HostSysEnvKey:  filepath.Join(root, "sys"),
	})
}

const (
	cpuinfoFile = "/proc/cpuinfo"
	meminfoFile = "/proc/meminfo"
)

// firstCPU is the first processor of /proc/cpuinfo. There is one per thread, each with all flags: the others are not
// looked at.
func (t tree) firstCPU(ctx context.Context) (cpu.InfoStat, error) {
	var all []cpu.InfoStat
	err := t.lend(func(root string) (err error) {
		all, err = cpu.InfoWithContext(psContext(ctx, root))
		return err
	}, cpuinfoFile)
	if err != nil && len(all) == 0 {
		return cpu.InfoStat{}, malformed{fmt.Errorf("/proc/cpuinfo: %w", err)}
	}
	if len(all) == 0 {
		return cpu.InfoStat{}, fmt.Errorf("/proc/cpuinfo: no processor: %w", fs.ErrNotExist)
	}
	return all[0], nil
}

// meminfo gives MemTotal and MemFree in bytes.
func (t tree) meminfo(ctx context.Context) (total, free int64, err error) {
	var vm *mem.VirtualMemoryStat
	err = t.lend(func(root string) (err error) {
		vm, err = mem.VirtualMemoryWithContext(psContext(ctx, root))
		return err
	}, meminfoFile)
	switch {
	case err != nil:
		return 0, 0, err
	case vm.Total == 0: // also its answer to a file that is not there
		return 0, 0, fmt.Errorf("%s: no MemTotal: %w", meminfoFile, fs.ErrNotExist)
	case vm.Total > math.MaxInt64, vm.Free > math.MaxInt64:
		return 0, 0, malformed{fmt.Errorf("%s: MemTotal of %d bytes, MemFree of %d", meminfoFile, vm.Total, vm.Free)}
	}
	return int64(vm.Total), int64(vm.Free), nil
}

// uname gives the machine and the release of the running kernel.
func uname() (arch, release string, err error) {
	if arch, err = host.KernelArch(); err != nil {
		return "", "", err
	}
	release, err = host.KernelVersion()
	return arch, release, err
}

// addresses gives the addresses of the running machine by interface, with their prefix length, global scope only.
func addresses(ctx context.Context) (map[string][]netip.Prefix, error) {
	all, err := net.InterfacesWithContext(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string][]netip.Prefix{}
	for _, i := range all {
		for _, a := range i.Addrs {
			p, err := netip.ParsePrefix(a.Addr)
			if err == nil && p.Addr().IsGlobalUnicast() {
				byName[i.Name] = append(byName[i.Name], p)
			}
		}
	}
	return byName, nil
}
