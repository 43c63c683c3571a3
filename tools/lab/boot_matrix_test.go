package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/broker"
)

// A cell is one way to reach the agent: a firmware, who gives addresses, and what is loaded first. asks are parts of the
// names that the machine must have asked for, in this order, each with the protocol in front: they prove the way.
type cell struct {
	firmware Firmware
	http     bool   // HTTP boot, not PXE
	dhcp     string // server, or proxy beside dnsmasq on another host
	loader   string
	config   string // lines of muster's configuration
	asks     []string
	reset    string // the name after whose fetch a person presses reset: what was loaded did not start
	quick    bool   // part of make test
}

// forBIOS leads machines whose NIC has QEMU's iPXE ROM to another loader.
const forBIOS = "loader_for: [{arch: bios, loader: %s}]\n"

// menu is a menu that nobody looks at.
const menu = "menu: {timeout: 2s}\n"

var cells = []cell{
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM)", asks: []string{"http boot/ipxe", "http /vmlinuz"}},
	{firmware: BIOS, dhcp: "proxy", loader: "ipxe (ROM)", asks: []string{"http boot/ipxe", "http /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "pxelinux", config: fmt.Sprintf(forBIOS, "pxelinux"), quick: true,
		asks: []string{"tftp pxelinux.0", "tftp ldlinux.c32", "tftp pxelinux.cfg/", "tftp /vmlinuz", "tftp /ramdisk"}},
	{firmware: BIOS, dhcp: "proxy", loader: "pxelinux", config: fmt.Sprintf(forBIOS, "pxelinux"),
		asks: []string{"tftp pxelinux.0", "tftp ldlinux.c32", "tftp pxelinux.cfg/", "tftp /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "ipxe (ROM), menu", config: menu, asks: []string{"http boot/ipxe", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "pxelinux, menu", config: menu + fmt.Sprintf(forBIOS, "pxelinux"),
		asks: []string{"tftp pxelinux.0", "tftp menu.c32", "tftp libutil.c32", "tftp /decided", "tftp /vmlinuz"}},
	{firmware: BIOS, dhcp: "server", loader: "grub", config: fmt.Sprintf(forBIOS, "grub"),
		asks: []string{"tftp grub.0", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: UEFI, dhcp: "server", loader: "snponly", asks: []string{"tftp snponly.efi", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: UEFI, dhcp: "proxy", loader: "snponly", asks: []string{"tftp snponly.efi", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: UEFI, http: true, dhcp: "server", loader: "snponly", quick: true,
		asks: []string{"http boot/snponly.efi", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: UEFI, http: true, dhcp: "proxy", loader: "snponly", asks: []string{"http boot/snponly.efi", "http boot/ipxe", "http /vmlinuz"}},
	{firmware: UEFI, dhcp: "server", loader: "grub", config: "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: UEFI, dhcp: "server", loader: "grub, menu", config: menu + "uefi_loader: grub\n",
		asks: []string{"tftp grubx64.efi", "tftp grub/grub.cfg", "tftp /x86_64-efi.cfg", "tftp /decided.cfg", "tftp /vmlinuz"}},
	{firmware: SecureBoot, dhcp: "server", loader: "snponly, refused, then shim", reset: "snponly.efi",
		asks: []string{"tftp snponly.efi", "tftp shimx64.efi", "tftp grubx64.efi", "tftp muster/grub/", "tftp /vmlinuz"}},
	{firmware: SecureBoot, dhcp: "server", loader: "shim", config: "uefi_loader: shim\n",
		asks: []string{"tftp shimx64.efi", "tftp grubx64.efi", "tftp grub/grub.cfg", "tftp muster/grub/", "tftp /vmlinuz"}},
}

func (c cell) String() string {
	way := "pxe"
	if c.http {
		way = "http"
	}
	return fmt.Sprintf("%-10s  %-4s  %-6s  %s", c.firmware, way, c.dhcp, c.loader)
}

// TestLabBootMatrix: every way in the table ends in the agent. make test-boot runs all and prints the times from
// power-on to the facts; make test the quick cells.
func TestLabBootMatrix(t *testing.T) {
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 (make test-boot)")
	}
	var table []string
	for i, c := range cells {
		if !c.quick && os.Getenv("MUSTER_BOOT") == "" {
			continue
		}
		name := strings.Join(strings.FieldsFunc(c.String(), func(r rune) bool { return strings.ContainsRune(" ,()", r) }), "-")
		t.Run(name, func(t *testing.T) {
			table = append(table, fmt.Sprintf("%s  FAILED", c))
			took := bootCell(t, i, c)
			table[len(table)-1] = fmt.Sprintf("%-56s %6.1f s", c, took.Seconds())
		})
	}
	t.Logf("from power-on to facts accepted:\n%s", strings.Join(table, "\n"))
}

// bootCell switches a machine on and gives the time to its facts.
func bootCell(t *testing.T, i int, c cell) time.Duration {
	t.Helper()
	r, err := Up(t.Context(), Config{Name: fmt.Sprintf("mboot%d", i), Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	if c.dhcp == "proxy" {
		if _, err := exec.LookPath("dnsmasq"); err != nil {
			t.Skip("no dnsmasq: apt-get install dnsmasq-base")
		}
		otherDHCP(t, r)
	}
	s, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: filepath.Join(labCache(), "ramdisk"), Args: cellArgs(t, r, c)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	m, err := r.Machine(MachineConfig{Name: "m", Firmware: c.firmware, HTTPBoot: c.http})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLife(t.Context(), s, m, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 6*time.Minute, fmt.Errorf("not within 6 minutes"))
	defer cancel()
	if err := l.On(); err != nil {
		t.Fatal(err)
	}
	if c.reset != "" {
		if _, err := l.Until(ctx, c.reset+" to be fetched", Kind("tftp", "read "+c.reset+": sent")); err != nil {
			t.Fatal(err)
		}
		if err := m.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	e, err := l.Until(ctx, "the machine's facts", Kind(broker.EventRegistered, ""))
	if err != nil {
		t.Fatal(err)
	}
	checkWay(t, l, c.asks)
	return e.Time.Sub(l.Start)
}

func cellArgs(t *testing.T, r *Rack, c cell) []string {
	t.Helper()
	loaders := t.TempDir()
	if c.firmware == BIOS && c.loader == "grub" {
		makeGRUB(t, filepath.Join(loaders, "grub.0"))
	}
	file := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(file, []byte(c.config+"loaders: "+loaders+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--dhcp", "proxy", "--kernel-args", "console=ttyS0 quiet loglevel=4"}
	if c.dhcp == "server" {
		args = r.ServeArgs(BIOS)
	}
	return append(args, "--config", file)
}

// makeGRUB makes the image that grub-mknetdir would, its modules inside: a GRUB for PXE on BIOS.
func makeGRUB(t *testing.T, path string) {
	t.Helper()
	modules := strings.Fields("pxe tftp normal configfile linux echo sleep reboot test search chain biosdisk part_gpt part_msdos boot serial terminal")
	args := append([]string{"-O", "i386-pc-pxe", "-o", path, "-p", "(pxe)/grub"}, modules...)
	if out, err := exec.Command("grub-mkimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v: %s", err, out)
	}
}

// checkWay looks for the names in the machine's events, in their order.
func checkWay(t *testing.T, l *Life, asks []string) {
	t.Helper()
	for _, e := range l.Events {
		if len(asks) == 0 {
			return
		}
		proto, name, _ := strings.Cut(asks[0], " ")
		if e.Kind == proto && strings.Contains(e.Data["name"], name) && e.Data["what"] != "miss" {
			asks = asks[1:]
		}
	}
	if len(asks) > 0 {
		t.Errorf("the machine came without asking for %q:\n%s", asks, l.Timeline())
	}
}
