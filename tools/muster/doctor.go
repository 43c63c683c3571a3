package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/boot"
	"muster/tools/storm"
)

// A finding is one line of the doctor's: what was looked at, how it is, and what to do about it.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warn, fail
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// The states of a finding.
const (
	wellOK   = "ok"
	wellWarn = "warn"
	wellFail = "fail"
)

func doctorCommand(o *options) *cobra.Command {
	cfg := serveConfig{}
	var file string
	var wait time.Duration
	c := &cobra.Command{
		Use: "doctor", Short: "find out why machines would not boot",
		Long: "doctor looks, on the server's host, at what a booting machine needs: the interface, the ports, the DHCP servers that\n" +
			"answer there (it asks, and takes nothing), the loaders, the kernel and the ramdisk. It is told what serve is told.\n\n" +
			"doctor client replays every request that a machine would make, and shows each answer.",
		Example: "  muster doctor --config /etc/muster.yaml\n" +
			"  muster doctor --interface eth1 --dhcp proxy --ramdisk /var/lib/muster/ramdisk\n" +
			"  muster doctor client --interface eth1 --mac 52:54:00:12:34:56 --arch uefi",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readConfig(cmd, file, &cfg); err != nil {
				return err
			}
			d := &doctor{cfg: cfg, wait: wait, ctx: cmd.Context()}
			found := d.examine()
			if err := o.show(cmd.OutOrStdout(), found, func(w io.Writer) { findingTable(w, found) }); err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(f finding) bool { return f.State == wellFail }) {
				return statusError{code: 1}
			}
			return nil
		},
	}
	serveFlags(c, &cfg, &file)
	c.Flags().DurationVar(&wait, "wait", 4*time.Second, "how long to listen for DHCP servers")
	c.AddCommand(doctorClientCommand(o))
	return c
}

func findingTable(w io.Writer, found []finding) {
	row(w, "STATE", "CHECK", "FOUND", "DO")
	for _, f := range found {
		row(w, f.State, f.Check, f.Found, f.Do)
	}
}

// A doctor examines one server's surroundings.
type doctor struct {
	ctx   context.Context
	cfg   serveConfig
	wait  time.Duration
	addr  netip.Addr
	found []finding

	astray []string // lease servers that send machines elsewhere for their files
}

func (d *doctor) say(state, check, do, format string, a ...any) {
	d.found = append(d.found, finding{Check: check, State: state, Found: fmt.Sprintf(format, a...), Do: do})
}

// examine runs the checks in the order in which a machine meets them.
func (d *doctor) examine() []finding {
	for _, check := range []func(){d.theInterface, d.theDHCP, d.theTFTP, d.theHTTP, d.theLoaders, d.theRamdisk} {
		check()
	}
	return d.found
}

func (d *doctor) theInterface() {
	if d.cfg.Interface == "" {
		d.say(wellWarn, "interface", "--interface", "none given: DHCP is not looked at")
		return
	}
	addr, err := interfaceAddr(d.cfg.Interface)
	if err != nil {
		d.say(wellFail, "interface", "ip address add ADDRESS/BITS dev "+d.cfg.Interface, "%v", err)
		return
	}
	d.addr = addr
	i, err := net.InterfaceByName(d.cfg.Interface)
	if err != nil || i.Flags&net.FlagRunning == 0 {
		d.say(wellFail, "interface", "look at the cable: ip link show "+d.cfg.Interface, "%s has %s but no link", d.cfg.Interface, addr)
		return
	}
	d.say(wellOK, "interface", "", "%s has %s and a link", d.cfg.Interface, addr)
}

// strange is the MAC that the doctor asks with: a local one, so that it is known in leases and timelines.
var strange = boot.MAC{0x02, 'd', 'o', 'c', 't', 'r'}

// theDHCP asks on the wire as a BIOS and as a UEFI machine, and holds the answers against the mode.
func (d *doctor) theDHCP() {
	if !d.addr.IsValid() {
		return
	}
	w, err := storm.Listen(d.cfg.Interface)
	if err != nil {
		d.say(wellWarn, "dhcp", "run doctor as root, while no DHCP client has port 68", "not asked: %v", err)
		return
	}
	w.Patience, w.Rounds = d.wait, 1
	p, _ := storm.ProfileNamed("bios")
	servers, err := storm.Machine{MAC: strange, Profile: p}.Servers(d.ctx, w)
	w.Close() // its port 4011 would look like a server's
	if err != nil {
		d.say(wellFail, "dhcp", "", "%v", err)
		return
	}
	d.judge(servers)
}

// judge says what the servers that answered mean for the mode.
func (d *doctor) judge(servers []storm.Server) {
	var lease, boots []string
	ours := false
	for _, s := range servers {
		switch {
		case s.Addr == d.addr:
			ours = true
		case s.Boots:
			boots = append(boots, s.Addr.String())
		}
		if s.Lease.IsValid() && s.Addr != d.addr {
			lease = append(lease, s.Addr.String())
			if s.Next != d.addr {
				d.astray = append(d.astray, s.Addr.String())
			}
		}
	}
	switch {
	case d.cfg.DHCP == "same-host":
		d.sameHost(ours || len(boots) > 0)
		return
	case ours:
		d.say(wellOK, "dhcp", "", "muster answers here as %s (mode %s)", d.addr, d.cfg.DHCP)
	case d.cfg.DHCP == "off":
		d.say(wellOK, "dhcp", "", "muster does not answer: --dhcp off")
	default:
		d.absent("dhcp", "muster does not answer here as "+d.addr.String(), 67, 4011)
	}
	switch {
	case d.cfg.DHCP == "server" && len(lease) > 0:
		d.say(wellFail, "dhcp: others", "stop them, or use --dhcp proxy", "%s gives leases here too", strings.Join(lease, ", "))
	case d.cfg.DHCP != "server" && len(lease) == 0:
		d.say(wellFail, "dhcp: others", "start the site's DHCP server, or use --dhcp server", "nobody gives leases here")
	case len(lease) > 0:
		d.say(wellOK, "dhcp: others", "", "%s gives leases", strings.Join(lease, ", "))
	}
	switch {
	case d.cfg.DHCP == "off" && len(boots) == 0:
		d.say(wellFail, "dhcp: boot", "muster dhcp-config prints what it must be told", "the site's DHCP server names no boot file")
	case d.cfg.DHCP != "off" && len(boots) > 0:
		d.say(wellWarn, "dhcp: boot", "stop the other boot server: machines may follow it", "%s has boot fields for PXE clients too", strings.Join(boots, ", "))
	case len(boots) > 0:
		d.say(wellOK, "dhcp: boot", "", "%s names the boot file", strings.Join(boots, ", "))
	}
}

// sameHost is for the mode in which another server of this host has port 67 and must send boot clients to port 4011.
func (d *doctor) sameHost(told bool) {
	if told {
		d.say(wellOK, "dhcp", "", "a DHCP server answers boot clients; muster waits for them on port 4011")
		return
	}
	d.say(wellFail, "dhcp", "muster dhcp-config prints what it must be told", "no DHCP server answers boot clients here")
}

// absent tells of a part of the server that does not answer: a server that does not run has its ports free.
func (d *doctor) absent(check, found string, ports ...int) {
	for _, p := range ports {
		if !portFree(p) {
			d.say(wellFail, check, "stop what has the port (ss -lunp), or look at a firewall", "%s, and UDP port %d is taken", found, p)
			return
		}
	}
	d.say(wellWarn, check, "start muster serve", "%s; its ports are free", found)
}

func portFree(port int) bool {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// theTFTP reads a name that muster renders and no other server has.
func (d *doctor) theTFTP() {
	if d.cfg.TFTP == "off" || d.cfg.TFTP == "" || !d.addr.IsValid() {
		return
	}
	if portFree(69) {
		d.absent("tftp", "nobody serves TFTP here", 69)
		return
	}
	const name = "autoexec.ipxe"
	body, err := storm.ReadTFTP(d.ctx, d.addr, name)
	switch {
	case err == nil && strings.HasPrefix(string(body), "#!ipxe"):
		d.say(wellOK, "tftp", "", "%s answers on port 69", d.addr)
	case err == nil:
		d.say(wellFail, "tftp", "stop the other TFTP server", "another server answers on %s port 69", d.addr)
	default:
		d.absent("tftp", fmt.Sprintf("%s port 69: %v", d.addr, err), 69)
	}
}

// theHTTP asks the server how it is.
func (d *doctor) theHTTP() {
	u := d.cfg.URL
	if u == "" {
		_, port, err := net.SplitHostPort(d.cfg.HTTP)
		if err != nil || !d.addr.IsValid() {
			return
		}
		u = "http://" + net.JoinHostPort(d.addr.String(), port)
	}
	ctx, cancel := context.WithTimeout(d.ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"/healthz", nil)
	if err != nil {
		d.say(wellFail, "http", "--url", "%v", err)
		return
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		d.say(wellWarn, "http", "start muster serve, or look at a firewall", "%s: %v", u, errors.Unwrap(err))
		return
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		d.say(wellFail, "http", "read the server's log", "%s answers %s", u, a.Status)
		return
	}
	d.say(wellOK, "http", "", "%s answers", u)
}

// theLoaders finds every program that firmware may be given.
func (d *doctor) theLoaders() {
	l := boot.Loaders{Dir: d.cfg.Loaders, UEFI: d.cfg.UEFILoader, BIOS: d.cfg.BIOSLoader}
	if err := l.Check(); err != nil {
		d.say(wellFail, "loaders", "install its package, or put it into --loaders DIR", "%v", err)
		return
	}
	d.say(wellOK, "loaders", "", "BIOS machines have %s, UEFI machines %s", d.cfg.BIOSLoader, d.cfg.UEFILoader)
	d.theTaskLoaders(l)
	state := wellWarn // a machine that starts nothing else is sent to the signed chain
	if d.cfg.UEFILoader == "shim" {
		state = wellFail
	}
	// Behind a site's DHCP server that names muster as its next-server, every GRUB finds its way (golden case H5).
	for _, w := range l.Warnings(d.cfg.DHCP == "proxy" && len(d.astray) > 0) {
		d.say(state, "secure boot", "muster dhcp-config, a newer shim and GRUB, or --uefi-loader snponly", "%s", w)
	}
}

// theTaskLoaders says which programs are not there that tasks start and no package puts where loaders are looked for. A
// site without those tasks needs none of them.
func (d *doctor) theTaskLoaders(l boot.Loaders) {
	var lacks []string
	for _, of := range []struct{ name, tasks string }{{"wimboot", "windows"}, {"memtest.lkrn", "memtest on BIOS"}, {"memtest.efi", "memtest on UEFI"}} {
		if !l.Has(of.name) {
			lacks = append(lacks, of.name+" (task "+of.tasks+")")
		}
	}
	if len(lacks) > 0 {
		d.say(wellOK, "task loaders", "put them into --loaders DIR before such a task is used", "not there: %s", strings.Join(lacks, ", "))
		return
	}
	d.say(wellOK, "task loaders", "", "wimboot and memtest are there")
}

// theRamdisk reads kernel and ramdisk whole, as serve does when it starts.
func (d *doctor) theRamdisk() {
	if d.cfg.Ramdisk == "" {
		d.say(wellWarn, "ramdisk", "muster ramdisk build, then --ramdisk DIR; or muster ramdisk import", "no --ramdisk: muster get ramdisks tells what was imported")
		return
	}
	names, err := filesIn(d.cfg.Ramdisk)
	var r *ramdiskSource
	if err == nil {
		r, err = readSource(d.ctx, names, "", nil, &bars{})
	}
	if err != nil {
		d.say(wellFail, "ramdisk", "muster ramdisk build", "%v", err)
		return
	}
	size := r.object.Kernel.SizeBytes
	for _, f := range r.object.Initrds {
		size += f.SizeBytes
	}
	d.say(wellOK, "ramdisk", "", "kernel %s for %s with its ramdisk, %s", r.object.KernelVersion, r.object.Arch, bytesText(size))
}
