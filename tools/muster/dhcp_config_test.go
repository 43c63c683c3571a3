package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
	"muster/boot/dhcp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// dhcpConfig runs the command on a host that has these loaders.
func dhcpConfig(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"ipxe/undionly.kpxe", "ipxe/snponly.efi", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c := dhcpConfigCommand(root)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	c.SetOut(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// printed is what muster dhcp-config prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	out, err := dhcpConfig(t, args...)
	if err != nil {
		t.Fatalf("muster dhcp-config %v: %v", args, err)
	}
	return out
}

// dhcpCases are every server in every way.
func dhcpCases(f func(server, name string, args []string)) {
	for _, server := range dhcpServers {
		for name, more := range map[string][]string{"": nil, "-shim": {"--uefi-loader", "shim", "--url", "http://192.0.2.10:8081"}, "-same-host": {"--same-host"}} {
			f(server, server+name, append([]string{server, "--address", "192.0.2.10"}, more...))
		}
	}
}

func TestDHCPConfigs(t *testing.T) {
	dhcpCases(func(_, name string, args []string) {
		got := printed(t, args...)
		golden := filepath.Join("testdata", "dhcp-config", name+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	})
}

// The daemons themselves read what is printed, inside a configuration as a site has it.
func TestDHCPConfigsAreReadByTheirDaemons(t *testing.T) {
	for server, check := range map[string]func(t *testing.T, text string) (string, []string){
		"isc": func(t *testing.T, text string) (string, []string) {
			return "dhcpd", []string{"-t", "-4", "-cf", written(t, text+"\nsubnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.80 192.0.2.99; }\n")}
		},
		"kea": func(t *testing.T, text string) (string, []string) {
			return "kea-dhcp4", []string{"-t", written(t, keaSite(t, text))}
		},
		"dnsmasq": func(t *testing.T, text string) (string, []string) {
			return "dnsmasq", []string{"--test", "-C", written(t, "port=0\ndhcp-range=192.0.2.80,192.0.2.99\n"+text)}
		},
	} {
		dhcpCases(func(of, name string, args []string) {
			if of != server {
				return
			}
			t.Run(name, func(t *testing.T) {
				program, checkArgs := check(t, printed(t, args...))
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
				out, err := exec.Command(program, checkArgs...).CombinedOutput()
				if err != nil || strings.Contains(string(out), "WARN") {
					t.Errorf("%s %s: %v\n%s", program, strings.Join(checkArgs, " "), err, out)
				}
			})
		})
	}
}

func written(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// keaSite puts the printed object into a whole configuration.
func keaSite(t *testing.T, text string) string {
	t.Helper()
	var file map[string]map[string]any
	if err := json.Unmarshal([]byte(text[strings.Index(text, "\n{")+1:]), &file); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	site := file["Dhcp4"]
	site["interfaces-config"] = map[string]any{"interfaces": []string{}}
	site["lease-database"] = map[string]any{"type": "memfile", "persist": false}
	site["subnet4"] = []any{map[string]any{"id": 1, "subnet": "192.0.2.0/24", "pools": []any{map[string]any{"pool": "192.0.2.80 - 192.0.2.99"}}}}
	whole, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(whole)
}

func TestDHCPConfigsThatCannotBe(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"a server that nobody knows", []string{"pump", "--address", "192.0.2.10"}, `DHCP server "pump": want isc, kea, dnsmasq, windows`},
		{"no address", []string{"isc"}, `--address "": want the IPv4 address`},
		{"an address of IPv6", []string{"isc", "--address", "2001:db8::1"}, "want the IPv4 address"},
		{"a URL that ends a string", []string{"isc", "--address", "192.0.2.10", "--url", `http://a"b`}, "want http://ADDRESS:PORT"},
		{"a URL with a comma, which dnsmasq would split at", []string{"dnsmasq", "--address", "192.0.2.10", "--url", `http://a,b`}, "want http://ADDRESS:PORT"},
		{"a path", []string{"isc", "--address", "192.0.2.10", "--url", "http://a/b"}, "want http://ADDRESS:PORT"},
		{"a name too long for the file field", []string{"isc", "--address", "192.0.2.10", "--url", "http://" + strings.Repeat("a.", 40) + "example"}, "holds 127"},
		{"a loader that nobody knows", []string{"isc", "--address", "192.0.2.10", "--uefi-loader", "lilo"}, `UEFI loader "lilo": want snponly`},
	} {
		_, err := dhcpConfig(t, row.args...)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want a wrong call and %q", row.name, err, row.want)
		}
	}
}

func TestNetworksFile(t *testing.T) {
	name := written(t, `
relays: [203.0.113.0/24]
networks:
- pools: [192.0.2.80-192.0.2.99]
  ntp: [192.0.2.3]
- prefix: 198.51.100.0/24
  pools: [198.51.100.20-198.51.100.29, 198.51.100.40 - 198.51.100.49]
  router: 198.51.100.1
  dns: [192.0.2.2]
  domain: far.example.net
  search: [example.net]
  mtu: 9000
  routes: [{to: 10.0.0.0/8, via: 198.51.100.2}]
  lease: 30m
reservations:
- {mac: "52:54:00:12:34:56", addr: 192.0.2.33, host: node1}
- {uuid: f7b4d8c9-cce8-418c-8b52-8a6f124e8655, addr: 192.0.2.34}
- {circuit: "0x0001", addr: 198.51.100.7}
- {circuit: port7, addr: 198.51.100.8}
`)
	var got dhcp.Config
	if err := readNetworks(name, &got); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddr
	uuid, _ := boot.ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	want := dhcp.Config{
		Relays:  []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		Network: dhcp.Network{Ranges: []dhcp.Range{{First: at("192.0.2.80"), Last: at("192.0.2.99")}}, NTP: []netip.Addr{at("192.0.2.3")}},
		Networks: []dhcp.Network{{Prefix: netip.MustParsePrefix("198.51.100.0/24"),
			Ranges: []dhcp.Range{{First: at("198.51.100.20"), Last: at("198.51.100.29")}, {First: at("198.51.100.40"), Last: at("198.51.100.49")}},
			Router: at("198.51.100.1"), DNS: []netip.Addr{at("192.0.2.2")}, Domain: "far.example.net", Search: []string{"example.net"}, MTU: 9000,
			Routes: []dhcp.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: at("198.51.100.2")}}, Lease: 30 * time.Minute}},
		Reservations: []dhcp.Reservation{
			{MAC: boot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Addr: at("192.0.2.33"), Host: "node1"}, {UUID: uuid, Addr: at("192.0.2.34")},
			{Circuit: "\x00\x01", Addr: at("198.51.100.7")}, {Circuit: "port7", Addr: at("198.51.100.8")}},
	}
	compare := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type().Kind().String() == "func" }, cmp.Ignore()),
	}
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Errorf("read (-want +got):\n%s", d)
	}
	for text, want := range map[string]string{
		"networks: [{pools: [192.0.2.80]}]":                  "network 1: pool \"192.0.2.80\": want FIRST-LAST",
		"networks: [{lease: 5s}]":                            "lease \"5s\": want a time of at least 1m",
		"networks: [{poool: [a]}]":                           "poool",
		"reservations: [{mac: zz, addr: 192.0.2.1}]":         "reservation 1: parse MAC",
		"reservations: [{circuit: 0xzz, addr: 192.0.2.1}]":   "reservation 1",
		"reservations: [{uuid: \"1\", addr: 192.0.2.1}]":     "reservation 1: parse UUID",
		"reservations: [{mac: 5254.0012.3456, addr: 1.2.3}]": "addr",
	} {
		var d dhcp.Config
		if err := readNetworks(written(t, text), &d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func TestBootPrompts(t *testing.T) {
	for text, want := range map[string]string{"5 Press F8": "5 Press F8", "255": "255 Press F8 for menu", "0 a\x1b[2J": "0 a?[2J", "x": "", "256 y": "", "": ""} {
		p, err := parsePrompt(text)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%d %s", p.Seconds, p.Text)
		}
		if got != want {
			t.Errorf("parsePrompt(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestOwnNetworkByFlags(t *testing.T) {
	for _, row := range []struct{ pool, router, dns, want string }{
		{"192.0.2.80-192.0.2.89,192.0.2.95-192.0.2.99", "192.0.2.1", "192.0.2.2, 192.0.2.3", "[{192.0.2.80 192.0.2.89} {192.0.2.95 192.0.2.99}] 192.0.2.1 [192.0.2.2 192.0.2.3]"},
		{"192.0.2.80-192.0.2.89", "", "", "[{192.0.2.80 192.0.2.89}] invalid IP []"},
		{"", "", "", "--dhcp server needs --pool FIRST-LAST"},
		{"192.0.2.80", "", "", `--pool: pool "192.0.2.80": want FIRST-LAST with two addresses`},
		{"192.0.2.80-192.0.2.89", "x", "", `--router: ParseAddr("x"): unable to parse IP`},
		{"192.0.2.80-192.0.2.89", "", "y", `--dns: ParseAddr("y"): unable to parse IP`},
	} {
		var n dhcp.Network
		err := (&server{cfg: serveConfig{Pool: row.pool, Router: row.router, DNS: row.dns}}).ownNetwork(&n)
		got := fmt.Sprint(n.Ranges, n.Router, n.DNS)
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("--pool %q --router %q --dns %q: %s; want %s", row.pool, row.router, row.dns, got, row.want)
		}
	}
}
