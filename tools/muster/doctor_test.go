package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/boot"
	"muster/tools/storm"
)

// A ward is a network namespace with one link, where the program serves and the doctor calls.
type ward struct {
	t    *testing.T
	name string
	bin  string // the program: this test's binary by its other name
	data string
}

const wardLink = "ward0"

func newWard(t *testing.T) *ward {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{t: t, name: fmt.Sprintf("mward%d", os.Getpid()), bin: filepath.Join(t.TempDir(), "muster"), data: t.TempDir()}
	if err := os.Symlink(self, w.bin); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "add", w.name).CombinedOutput(); err != nil {
		t.Skipf("no named namespace here: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", w.name).Run() })
	w.ip("-n " + w.name + " link add " + wardLink + " type veth peer name ward1")
	w.ip("-n " + w.name + " address add 192.0.2.10/24 brd + dev " + wardLink)
	for _, l := range []string{"lo", "ward1", wardLink} {
		w.ip("-n " + w.name + " link set " + l + " up")
	}
	for name, text := range map[string]string{"ramdisk/vmlinuz": string(bzImage("6.1.0-56-amd64", true)), "ramdisk/ramdisk.cpio.gz": "ramdisk",
		"loaders/undionly.kpxe": "1", "loaders/snponly.efi": "2"} {
		p := filepath.Join(w.data, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *ward) ip(line string) {
	w.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v %s", line, err, out)
	}
}

func (w *ward) command(args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", w.name}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// flags are what server and doctor are told alike.
func (w *ward) flags() []string {
	return []string{"--data", filepath.Join(w.data, "data"), "--interface", wardLink, "--dhcp", "server", "--pool", "192.0.2.80-192.0.2.99",
		"--ramdisk", filepath.Join(w.data, "ramdisk"), "--loaders", filepath.Join(w.data, "loaders")}
}

// serve starts the program and gives what ends it, once it serves.
func (w *ward) serve() (stop func()) {
	w.t.Helper()
	c := w.command(append([]string{w.bin, "serve"}, w.flags()...)...)
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "muster serves") {
			return func() {
				c.Process.Signal(syscall.SIGTERM)
				c.Wait()
			}
		}
	}
	c.Wait()
	w.t.Fatalf("serve ended: %s", log.String())
	return nil
}

// muster runs the program and gives what it printed and its exit status.
func (w *ward) muster(args ...string) (string, int) {
	w.t.Helper()
	c := w.command(append([]string{w.bin}, args...)...)
	out, err := c.Output()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		w.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// doctor gives the states by check. It is called until it finds what is wanted, for a minute at most: on a busy machine a
// server may need longer for its answer than doctor listens, and the kernel its moment to say that a link is up.
func (w *ward) doctor(wanted func(states map[string]string, code int) bool) (states map[string]string, code int) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		if states, code = w.examine(); wanted(states, code) || time.Now().After(end) {
			return states, code
		}
	}
}

func (w *ward) examine() (map[string]string, int) {
	w.t.Helper()
	out, code := w.muster(append([]string{"doctor", "-o", "json", "--wait", "2s"}, w.flags()...)...)
	var found []finding
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		w.t.Fatalf("doctor printed %s: %v", out, err)
	}
	states := map[string]string{}
	for _, f := range found {
		if states[f.Check] != wellFail {
			states[f.Check] = f.State
		}
	}
	return states, code
}

func TestDoctor(t *testing.T) {
	w := newWard(t)
	absent := func(s map[string]string, code int) bool {
		return s["dhcp"] == wellWarn && s["tftp"] == wellWarn && s["http"] == wellWarn && code == 0
	}
	if states, code := w.doctor(absent); !absent(states, code) {
		t.Errorf("before the server runs: %v, exit %d; want warnings that it does not", states, code)
	}
	stop := w.serve()
	well := map[string]string{"interface": wellOK, "dhcp": wellOK, "tftp": wellOK, "http": wellOK, "loaders": wellOK, "task loaders": wellOK, "ramdisk": wellOK}
	sound := func(s map[string]string, code int) bool { return maps.Equal(s, well) && code == 0 }
	if states, code := w.doctor(sound); !sound(states, code) {
		t.Errorf("with the server: %v, exit %d; want %v", states, code, well)
	}
	t.Run("client", w.clients)
	t.Run("another server", w.another)
	if err := os.Truncate(filepath.Join(w.data, "ramdisk", "vmlinuz"), 0); err != nil {
		t.Fatal(err)
	}
	if states, code := w.examine(); states["ramdisk"] != wellFail || code != 1 {
		t.Errorf("with an empty kernel: %v, exit %d", states, code)
	}
	stop()
}

// clients boot by each firmware that the loaders are for.
func (w *ward) clients(t *testing.T) {
	for _, arch := range []string{"bios", "bios-ipxe", "uefi", "uefi-hp", "uefi-ebc", "uefi-http"} {
		out, code := w.muster("doctor", "client", "-o", "json", "--interface", wardLink, "--mac", "52:54:00:12:34:56", "--arch", arch)
		var b storm.Boot
		if err := json.Unmarshal([]byte(out), &b); err != nil {
			t.Fatalf("%s printed %s: %v", arch, out, err)
		}
		if b.End != storm.EndKernel || code != 0 || !strings.Contains(b.Args, "muster.token=(hidden)") {
			t.Errorf("%s: exit %d, %s", arch, code, out)
		}
	}
	out, _ := w.muster("doctor", "client", "--interface", wardLink, "--mac", "52:54:00:12:34:56", "--arch", "bios")
	if lines := strings.Split(out, "\n"); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "end: kernel, in ipxe") }) {
		t.Errorf("the table is\n%s", out)
	}
	if _, code := w.muster("doctor", "client", "--interface", wardLink, "--mac", "52:54:00:12:34:56", "--arch", "amiga"); code != 2 {
		t.Errorf("an unknown firmware: exit %d; want 2", code)
	}
}

// another starts a second DHCP server at the other end of the link.
func (w *ward) another(t *testing.T) {
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Skip("dnsmasq is not installed")
	}
	far := w.name + "b"
	w.ip("netns add " + far)
	defer exec.Command("ip", "netns", "del", far).Run()
	w.ip("-n " + w.name + " link set ward1 netns " + far)
	w.ip("-n " + far + " address add 192.0.2.11/24 brd + dev ward1")
	w.ip("-n " + far + " link set ward1 up")
	c := exec.Command("ip", "netns", "exec", far, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-facility=-", "--log-dhcp",
		"--interface=ward1", "--bind-interfaces", "--no-ping", "--dhcp-range=192.0.2.150,192.0.2.160", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--pid-file=", "--user=root")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "DHCP, IP range"); {
	}
	go bufio.NewReader(out).WriteTo(&bytes.Buffer{})
	told := func(states map[string]string, code int) bool { return states["dhcp: others"] == wellFail && code == 1 }
	if states, code := w.doctor(told); !told(states, code) {
		t.Errorf("with another DHCP server: %v, exit %d; want that it is told", states, code)
	}
}

// A program that only one task needs is named, and no fault.
func TestDoctorNamesTheLoadersOfTasks(t *testing.T) {
	d := &doctor{cfg: serveConfig{Loaders: t.TempDir()}}
	for _, want := range []string{"not there: wimboot (task windows), memtest.lkrn (task memtest on BIOS), memtest.efi (task memtest on UEFI)",
		"not there: memtest.lkrn (task memtest on BIOS), memtest.efi (task memtest on UEFI)"} {
		d.found = nil
		d.theTaskLoaders(boot.Loaders{Dir: d.cfg.Loaders})
		if len(d.found) != 1 || d.found[0].State != wellOK || d.found[0].Found != want {
			t.Errorf("found %+v; want %q", d.found, want)
		}
		if err := os.WriteFile(filepath.Join(d.cfg.Loaders, "wimboot"), []byte("MZ"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Golden case H5: the site leases and names another server, muster is a proxy, and GRUB is Debian 12's.
func TestSignedLoadersBehindAProxy(t *testing.T) {
	signed := "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"
	grub, err := os.ReadFile(signed)
	if err != nil {
		t.Skip("grub-efi-amd64-signed is not installed")
	}
	for _, row := range []struct {
		astray []string
		uefi   string
		want   string
	}{{[]string{"192.0.2.1"}, "shim", wellFail}, {[]string{"192.0.2.1"}, "snponly", wellWarn}, {nil, "shim", ""}} {
		d := &doctor{cfg: serveConfig{DHCP: "proxy", UEFILoader: row.uefi, BIOSLoader: "undionly"}, astray: row.astray}
		d.theLoaders()
		got := ""
		for _, f := range d.found {
			if f.Check == "secure boot" && strings.Contains(f.Found, "next-server") {
				got = f.State
			}
		}
		if bytes.Contains(grub, []byte("HTTP/1.1")) {
			row.want = "" // a later GRUB
		}
		if got != row.want {
			t.Errorf("lease servers that name another %q, --uefi-loader %s: %q; want %q: %+v", row.astray, row.uefi, got, row.want, d.found)
		}
	}
}
