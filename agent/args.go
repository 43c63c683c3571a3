package agent

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/boot/kargs"
)

// Args are the kernel arguments of the discovery ramdisk (package kargs lists them).
type Args struct {
	Server    string            // muster.server, without a slash at the end
	CA        string            // muster.ca: package boot/pin
	Token     string            // muster.token
	BootMAC   string            // muster.mac, else BOOTIF; lower case with colons, "" when there is none
	Custom    map[string]string // muster.fact.NAME
	DiskWait  time.Duration     // muster.disk_wait
	LLDPWait  time.Duration     // muster.lldp: of the first check-in, for the switches
	Debug     bool              // muster.debug
	Shell     bool              // muster.shell: a shell on the console, for people who look for a fault
	SSHD      bool              // muster.sshd: an sshd for the keys of the ramdisk, if it has any
	Blacklist []string          // modprobe.blacklist, module names
}

// defaultDiskWait is how long late disks are waited for.
const defaultDiskWait = 15 * time.Second

// maxDiskWait bounds what the kernel line may ask for.
const maxDiskWait = 10 * time.Minute

// maxLLDPWait is the number of seconds after which a silent switch port has no LLDP: others send every 30 s.
const maxLLDPWait = 35

// ReadArgs reads proc/cmdline below root.
func ReadArgs(root string) (Args, error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return Args{}, fmt.Errorf("read the kernel command line: %w", err)
	}
	return ParseArgs(kargs.Parse(string(b))), nil
}

// ParseArgs takes what concerns the agent out of a kernel command line. A value that makes no sense counts as absent.
func ParseArgs(l kargs.Line) Args {
	a := Args{
		Server:   strings.TrimRight(l.Get("muster.server"), "/"),
		CA:       l.Get("muster.ca"),
		Token:    l.Get("muster.token"),
		BootMAC:  bootMAC(l),
		Custom:   map[string]string{},
		DiskWait: defaultDiskWait,
	}
	_, a.Debug = l.Lookup("muster.debug")
	_, a.Shell = l.Lookup("muster.shell")
	_, a.SSHD = l.Lookup("muster.sshd")
	if n, err := strconv.Atoi(l.Get("muster.disk_wait")); err == nil && n >= 0 {
		a.DiskWait = min(time.Duration(n)*time.Second, maxDiskWait)
	}
	if n, err := strconv.Atoi(l.Get("muster.lldp")); err == nil && n > 0 {
		a.LLDPWait = time.Duration(min(n, maxLLDPWait)) * time.Second
	}
	for _, arg := range l {
		switch name, isFact := strings.CutPrefix(arg.Key, "muster.fact."); {
		case isFact && !arg.Flag:
			a.Custom[name] = arg.Value
		case arg.Key == "modprobe.blacklist":
			a.Blacklist = append(a.Blacklist, strings.Split(arg.Value, ",")...)
		}
	}
	return a
}

// bootMAC is the NIC that booted: the broker's word before the loader's, which puts the hardware type in front
// (PXELINUX: BOOTIF=01-52-54-00-aa-00-01).
func bootMAC(l kargs.Line) string {
	bootif := l.Get("BOOTIF")
	if len(bootif) == len("01-52-54-00-aa-00-01") {
		bootif = bootif[3:]
	}
	for _, s := range []string{l.Get("muster.mac"), bootif} {
		if mac, err := net.ParseMAC(s); err == nil && len(mac) == 6 {
			return mac.String()
		}
	}
	return ""
}

// check says what is missing for talking to a broker.
func (a Args) check() error {
	if a.Server == "" {
		return errors.New("the kernel command line has no muster.server=URL: the address of the broker is not known")
	}
	u, err := url.Parse(a.Server)
	if err != nil {
		return fmt.Errorf("read muster.server=%q: %w", a.Server, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("muster.server=%q is no URL like https://192.0.2.10:8443", a.Server)
	}
	return nil
}
