package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A siteDHCP is a DHCP server of the field that leases 10.77.0.150 to 159 in a rack: what it needs around the lines
// that muster dhcp-config prints for it, and how it is started on an interface.
type siteDHCP struct {
	program, pkg string
	conf         func(printed, ifname string) (string, error)
	args         func(dir, ifname string) []string // its configuration is dir/conf
}

var siteDHCPs = map[string]siteDHCP{
	"dnsmasq": {"dnsmasq", "dnsmasq-base",
		func(printed, _ string) (string, error) {
			return printed + "\nport=0\ndhcp-authoritative\nno-ping\ndhcp-range=10.77.0.150,10.77.0.159,1h\n", nil
		},
		func(dir, ifname string) []string {
			return []string{"--keep-in-foreground", "--conf-file=" + filepath.Join(dir, "conf"), "--interface=" + ifname, "--bind-interfaces",
				"--user=root", "--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--pid-file=" + filepath.Join(dir, "pid")}
		}},
	"isc": {"dhcpd", "isc-dhcp-server",
		func(printed, _ string) (string, error) {
			return printed + "\nauthoritative;\nping-check false;\nsubnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.150 10.77.0.159; }\n", nil
		},
		func(dir, ifname string) []string {
			return []string{"-4", "-f", "-d", "-cf", filepath.Join(dir, "conf"), "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), ifname}
		}},
	"kea": {"kea-dhcp4", "kea-dhcp4-server", keaConf, func(dir, _ string) []string { return []string{"-c", filepath.Join(dir, "conf")} }},
}

// keaConf merges what muster dhcp-config prints, comments before one JSON object, into a whole configuration.
func keaConf(printed, ifname string) (string, error) {
	file := map[string]map[string]any{"Dhcp4": {}}
	if _, object, ok := strings.Cut(printed, "\n{"); ok {
		if err := json.Unmarshal([]byte("{"+object), &file); err != nil {
			return "", err
		}
	}
	site := file["Dhcp4"]
	site["interfaces-config"] = map[string]any{"interfaces": []string{ifname}}
	site["lease-database"] = map[string]any{"type": "memfile", "persist": false}
	site["subnet4"] = []any{map[string]any{"id": 1, "subnet": "10.77.0.0/24", "pools": []any{map[string]any{"pool": "10.77.0.150 - 10.77.0.159"}}}}
	text, err := json.Marshal(file)
	return string(text), err
}

// startSiteDHCP runs one on the rack's bridge: on muster's own host, or on another. What it says is shown when the test
// fails. muster does not wait for it, and neither does a machine, which asks again.
func startSiteDHCP(t *testing.T, r *Rack, kind, printed string, sameHost bool) {
	t.Helper()
	d := siteDHCPs[kind]
	if _, err := exec.LookPath(d.program); err != nil {
		t.Skipf("no %s: apt-get install %s", d.program, d.pkg)
	}
	ifname, dir := Bridge, t.TempDir()
	cmd := r.Command(t.Context(), d.program)
	if !sameHost {
		ifname = "up0"
		cmd = exec.CommandContext(t.Context(), "ip", "netns", "exec", otherHost(t, r, ifname), d.program)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	text, err := d.conf(printed, ifname)
	if err != nil {
		t.Fatalf("read what muster dhcp-config prints for %s: %v\n%s", kind, err, printed)
	}
	for name, content := range map[string]string{"conf": text, "leases": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Args = append(cmd.Args, d.args(dir, ifname)...)
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR=none")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	run := &process{ended: make(chan struct{})}
	if err := run.start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", kind, said.String())
		}
	})
}

// otherHost makes a host of its own on the rack's bridge, 10.77.0.2, and gives the name of its namespace.
func otherHost(t *testing.T, r *Rack, ifname string) string {
	t.Helper()
	host, port := r.Name()+"d", "site0"
	for _, line := range []string{
		"netns add " + host,
		"link add " + ifname + " netns " + host + " type veth peer name " + port + " netns " + r.Name(),
		"-n " + r.Name() + " link set " + port + " master " + Bridge + " up",
		"-n " + host + " addr add 10.77.0.2/24 brd + dev " + ifname,
		"-n " + host + " link set " + ifname + " up",
	} {
		if err := ip(t.Context(), strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := removeNamespace(host); err != nil {
			t.Error(err)
		}
	})
	return host
}

// dhcpConfig is what muster dhcp-config prints for a site's DHCP server.
func dhcpConfig(t *testing.T, r *Rack, kind string, flags ...string) string {
	t.Helper()
	args := append([]string{"dhcp-config", kind, "--address", r.Addr().String()}, flags...)
	out, err := exec.CommandContext(t.Context(), "../../bin/muster", args...).Output()
	if err != nil {
		t.Fatalf("muster %q: %v", args, fmt.Errorf("%w: %s", err, out))
	}
	return string(out)
}
