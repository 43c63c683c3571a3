// Package lab is a virtual rack: machines with real firmware, emulated in software by QEMU, on a network of their own.
// It exists so that a whole life of a machine, from power-on through DHCP, TFTP and HTTP to an installed disk, can be
// watched and tested on any Linux host, without KVM and without touching the host's network.
//
// A Rack is a network namespace with one bridge. A Machine is one QEMU process with its ports in that bridge: it can be
// switched on, reset and cut off from power, and its serial console is kept in a file from the first line of firmware.
// Servers run inside the namespace (Rack.Command, Rack.Do); clients of this process reach them by Rack.DialContext.
//
// Nothing outlives the process that made a rack: machines and commands are killed by the kernel with their parent, and
// the namespace that a killed run left behind is removed by the next Up of the same name.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Config describes a rack. Name, Dir and Prefix are required.
type Config struct {
	Name   string       // of the namespace; 1 to 10 of a-z, 0-9 and dash, such as muster0
	Dir    string       // state: consoles, disks, firmware variables; made if missing, never removed
	Prefix netip.Prefix // the bridge's own IPv4 address and its network, such as 10.77.0.1/24
	Log    *slog.Logger // if nil, nothing is logged
}

// Bridge is the name of the rack's bridge, the interface for servers to listen on, inside the namespace.
const Bridge = "br0"

// A Rack is a network of its own and the machines in it. Its methods may be called at the same time.
type Rack struct {
	config Config
	log    *slog.Logger
	lock   *os.File // held while the rack is up; tells a rack in use from one left behind

	mu       sync.Mutex
	machines []*Machine
	down     bool
}

var rackName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,9}$`)

// Up makes the namespace, its loopback and its bridge. It refuses, in one line that names everything missing and what
// to do about it, on a host that cannot hold a rack, and when a running process holds a rack of the same name. What an
// ended process left behind under that name is ended and removed first. ctx bounds Up alone.
func Up(ctx context.Context, c Config) (*Rack, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := checkHost(hostRequirements); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the rack's directory %q: %w", c.Dir, err)
	}
	c.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the rack's directory: %w", err)
	}
	lock, err := lockRack(c.Name)
	if err != nil {
		return nil, err
	}
	r := &Rack{config: c, log: c.Log, lock: lock}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if err := r.up(ctx); err != nil {
		return nil, errors.Join(err, r.Down())
	}
	return r, nil
}

func (r *Rack) up(ctx context.Context) error {
	if err := removeNamespace(r.config.Name); err != nil {
		return err
	}
	return makeNamespace(ctx, r.config.Name, r.config.Prefix)
}

func (c Config) check() error {
	if !rackName.MatchString(c.Name) {
		return fmt.Errorf("name a rack %q: want 1 to 10 of a-z, 0-9 and dash, such as muster0", c.Name)
	}
	if c.Dir == "" {
		return fmt.Errorf("make rack %q: no directory is named for its state", c.Name)
	}
	if !c.Prefix.IsValid() || !c.Prefix.Addr().Is4() || c.Prefix.Bits() > 30 || c.Prefix.Addr() == c.Prefix.Masked().Addr() {
		return fmt.Errorf("make rack %q: address %q: want an IPv4 address inside its network, such as 10.77.0.1/24", c.Name, c.Prefix)
	}
	return nil
}

// Name is the name of the rack and of its namespace.
func (r *Rack) Name() string { return r.config.Name }

// Addr is the bridge's own address: where servers of the rack are reached.
func (r *Rack) Addr() netip.Addr { return r.config.Prefix.Addr() }

// Prefix is the bridge's address and network.
func (r *Rack) Prefix() netip.Prefix { return r.config.Prefix }

// Dir is the directory of the rack's state, as an absolute path.
func (r *Rack) Dir() string { return r.config.Dir }

// Machines lists the rack's machines in the order of their making.
func (r *Rack) Machines() []*Machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.machines)
}

// Down cuts the power of every machine, ends what else runs in the namespace, and removes taps, bridge and namespace.
// Files in Dir stay. A second call does nothing. Connections still open keep their sockets until closed, and no more.
func (r *Rack) Down() error {
	r.mu.Lock()
	if r.down {
		r.mu.Unlock()
		return nil
	}
	r.down = true
	machines := slices.Clone(r.machines)
	r.mu.Unlock()

	var errs []error
	for _, m := range machines {
		errs = append(errs, m.Off())
	}
	errs = append(errs, removeNamespace(r.config.Name), r.lock.Close())
	return errors.Join(errs...)
}

// A requirement is something the host must have before a rack can be made.
type requirement struct {
	what string      // how a person calls it
	pkg  string      // the Debian package that brings it, or ""
	fix  string      // what else to do when there is no package
	met  func() bool // looks at the host
}

var hostRequirements = []requirement{
	{what: "root", fix: "run as root", met: func() bool { return os.Geteuid() == 0 }},
	{what: "/dev/net/tun", fix: "modprobe tun", met: exists("/dev/net/tun")},
	{what: "ip", pkg: "iproute2", met: installed("ip")},
	{what: "qemu-system-x86_64", pkg: "qemu-system-x86", met: installed(qemuX64)},
	{what: "SeaBIOS", pkg: "seabios", met: exists("/usr/share/seabios/bios-256k.bin")},
	{what: "iPXE ROMs for QEMU", pkg: "ipxe-qemu", met: exists("/usr/lib/ipxe/qemu/pxe-virtio.rom")},
	{what: "OVMF", pkg: "ovmf", met: exists(recipes[UEFI].code, recipes[UEFI].vars, recipes[SecureBoot].code, recipes[SecureBoot].vars)},
}

func installed(program string) func() bool {
	return func() bool { _, err := exec.LookPath(program); return err == nil }
}

func exists(paths ...string) func() bool {
	return func() bool {
		for _, p := range paths {
			if _, err := os.Stat(p); err != nil {
				return false
			}
		}
		return true
	}
}

// checkHost says in one line everything that is missing and what brings it.
func checkHost(needs []requirement) error {
	var missing, packages, fixes []string
	for _, n := range needs {
		if n.met() {
			continue
		}
		missing = append(missing, n.what)
		if n.pkg != "" {
			packages = append(packages, n.pkg)
		} else {
			fixes = append(fixes, n.fix)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if len(packages) > 0 {
		fixes = append(fixes, "apt-get install --no-install-recommends "+strings.Join(packages, " "))
	}
	return fmt.Errorf("make a rack here: missing %s: %s", strings.Join(missing, ", "), strings.Join(fixes, "; "))
}
