package probe

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
)

// gopsutil is frozen: this is the only file that knows it.

// psContext points gopsutil at the tree.
func (t tree) psContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(t.dir, "proc"),
		common.HostSysEnvKey:  filepath.Join(t.dir, "sys"),
	})
}

// firstCPU is the first processor of /proc/cpuinfo. There is one per thread, each with all flags: the others are not
// looked at.
func (t tree) firstCPU(ctx context.Context) (cpu.InfoStat, error) {
	all, err := cpu.InfoWithContext(t.psContext(ctx))
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
	vm, err := mem.VirtualMemoryWithContext(t.psContext(ctx))
	if err != nil {
		return 0, 0, err
	}
	if vm.Total == 0 { // also its answer to a file that is not there
		return 0, 0, fmt.Errorf("/proc/meminfo: no MemTotal: %w", fs.ErrNotExist)
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
