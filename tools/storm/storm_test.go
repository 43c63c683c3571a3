package storm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/boot"
	"muster/boot/dhcp"
	"muster/boot/kargs"
	"muster/boot/tftp"
)

const inside = "MUSTER_STORM_INSIDE"

// TestMain runs the tests in a network namespace of their own, so that DHCP's ports are free and nobody else hears.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command(os.Args[0], os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	if errors.Is(err, syscall.EPERM) { // root of a container that may make none: newRack skips
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests in a network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

const (
	iface = "wire0"
	us    = "192.0.2.10"
)

// A rack is muster's boot services on one interface, with a Source that answers one step.
type rack struct {
	wire *Wire
	mu   sync.Mutex
	step boot.Step
	kind boot.Kind // of the last client
}

func (r *rack) Next(_ context.Context, c boot.Client) (boot.Step, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kind = c.Kind
	return r.step, nil
}

func (r *rack) set(s boot.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = s
}

var files = map[string]string{"ramdisk/vmlinuz": "kernel", "ramdisk/ramdisk.cpio.gz": "ramdisk"}

// newRack starts the services; edit may change DHCP.
func newRack(t *testing.T, loaders boot.Loaders, edit func(*dhcp.Config)) *rack {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root for a network namespace")
	}
	ip(t, "link add "+iface+" type veth peer name wire1")
	ip(t, "link set wire1 up")
	t.Cleanup(func() { exec.Command("ip", "link", "del", iface).Run() })
	ip(t, "address add "+us+"/24 brd + dev "+iface)
	ip(t, "link set "+iface+" up")
	ip(t, "link set lo up")

	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, "files", name), text)
	}
	for _, name := range []string{"undionly.kpxe", "snponly.efi", "shimx64.efi", "grubx64.efi", "pxelinux.0", "ldlinux.c32"} {
		write(t, filepath.Join(dir, "loaders", name), strings.Repeat(name, 1000))
	}
	root, err := os.OpenRoot(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	r := &rack{}
	web, err := net.Listen("tcp", us+":8080")
	if err != nil {
		t.Fatal(err)
	}
	loaders.Dir, loaders.Root = filepath.Join(dir, "loaders"), dir
	b, err := boot.New(boot.Config{BaseURL: "http://" + us + ":8080", Source: r, Files: root, Loaders: loaders})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: b}
	go h.Serve(web)
	t.Cleanup(func() { h.Close() })
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 69})
	if err != nil {
		t.Fatal(err)
	}
	files := tftp.New(tftp.Config{Resolve: b.Resolve})
	serve(t, func(ctx context.Context) error { return files.Serve(ctx, udp) })
	cfg := dhcp.Config{Interface: iface, Mode: dhcp.ModeServer, Network: dhcp.Network{Ranges: []dhcp.Range{{First: netip.MustParseAddr("192.0.2.80"), Last: netip.MustParseAddr("192.0.2.180")}}}, NoProbe: true,
		Source: r, Loader: b.Loader, Script: b.ScriptURL}
	if edit != nil {
		edit(&cfg)
	}
	d, err := dhcp.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, d.Serve)
	if r.wire, err = Listen(iface); err != nil {
		t.Fatal(err)
	}
	r.wire.Rounds = 15 // a minute: how busy a machine is must not count
	t.Cleanup(r.wire.Close)
	return r
}

func serve(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v %s", line, err, out)
	}
}

// The steps that a machine is sent to.
var (
	ramdisk = boot.Step{Kind: boot.StepRamdisk, Kernel: "ramdisk/vmlinuz", Initrds: []string{"ramdisk/ramdisk.cpio.gz"},
		Args: kargs.Parse(`muster.server=http://192.0.2.10:8080 muster.x="a b"`), Because: "nothing is known of it"}
	local  = boot.Step{Kind: boot.StepLocal, Because: "installed by policy web"}
	wait   = boot.Step{Kind: boot.StepWait, After: 5 * time.Second, Text: "waiting", Because: "no policy"}
	refuse = boot.Step{Kind: boot.StepRefuse, Text: "not you", Because: "held"}
)

var mac = boot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}

var machines byte

func machine(t *testing.T, profile string) Machine {
	t.Helper()
	p, ok := ProfileNamed(profile)
	if !ok {
		t.Fatalf("no profile %q", profile)
	}
	machines++ // each is another: a server hears one MAC only so often
	m := Machine{MAC: mac, UUID: boot.UUID{1, 2, 3, machines}, Profile: p, Disk: true, Lease: true}
	m.MAC[5] = machines
	return m
}

func TestEveryProfileReachesItsStep(t *testing.T) {
	r := newRack(t, boot.Loaders{}, nil)
	for _, row := range []struct {
		profile  string
		loader   string // that loads the kernel
		requests []string
	}{
		{"bios", "ipxe", []string{"undionly.kpxe tsize=0", "GET http://192.0.2.10:8080/boot/ipxe?mac=52:54:00:12:34:"}},
		{"bios-ipxe", "ipxe", []string{"GET http://192.0.2.10:8080/boot/ipxe?mac=52:54:00:12:34:"}},
		{"uefi", "ipxe", []string{"snponly.efi tsize=0", "snponly.efi blksize=1468 windowsize=4", "platform=efi"}},
		{"uefi-hp", "ipxe", []string{"REQUEST to 192.0.2.10:4011", "snponly.efi"}},
		{"uefi-ebc", "ipxe", []string{"snponly.efi"}},
		{"uefi-http", "ipxe", []string{"HEAD http://192.0.2.10:8080/boot/snponly.efi", "GET http://192.0.2.10:8080/boot/snponly.efi"}},
	} {
		t.Run(row.profile, func(t *testing.T) {
			r.set(ramdisk)
			m := machine(t, row.profile)
			got := m.Boot(context.Background(), r.wire)
			if got.End != EndKernel || got.Loader != row.loader || !strings.HasSuffix(got.Kernel, "/boot/f/ramdisk/vmlinuz") || len(got.Initrds) != 1 {
				t.Fatalf("got %s", dump(got))
			}
			if want := []string{"BOOTIF=01-" + m.MAC.Dashes(), `muster.x="a b"`, "muster.server=http://192.0.2.10:8080"}; !containsAll(got.Args, want) {
				t.Errorf("arguments %q lack one of %q", got.Args, want)
			}
			var asked []string
			for _, q := range got.Requests {
				asked = append(asked, q.Asked)
			}
			if !containsAll(strings.Join(asked, "\n"), row.requests) {
				t.Errorf("asked %q; want %q among it", asked, row.requests)
			}
			disk := EndLocal
			if row.profile == "uefi-http" {
				disk = EndBack // its one way to the disk is a file that is not there
			}
			for step, want := range map[*boot.Step]End{&local: disk, &wait: EndAgain, &refuse: EndBack} {
				r.set(*step)
				if got := machine(t, row.profile).Boot(context.Background(), r.wire); got.End != want {
					t.Errorf("%s ends in %s", step.Kind, dump(got))
				}
			}
		})
	}
}

func TestSecureBootChain(t *testing.T) {
	r := newRack(t, boot.Loaders{UEFI: "shim"}, nil)
	for _, profile := range []string{"uefi", "uefi-http"} {
		t.Run(profile, func(t *testing.T) {
			r.set(ramdisk)
			got := machine(t, profile).Boot(context.Background(), r.wire)
			if got.End != EndKernel || got.Loader != "grub" || !strings.Contains(got.Args, "muster.x=a b") {
				t.Fatalf("got %s", dump(got))
			}
			disk := EndLocal
			if profile == "uefi-http" {
				disk = EndBack
			}
			for step, want := range map[*boot.Step]End{&local: disk, &wait: EndAgain, &refuse: EndRestart} {
				r.set(*step)
				if got := machine(t, profile).Boot(context.Background(), r.wire); got.End != want {
					t.Errorf("%s ends in %s", step.Kind, dump(got))
				}
			}
		})
	}
}

func TestPXELinuxFollowsEveryStep(t *testing.T) {
	r := newRack(t, boot.Loaders{BIOS: "pxelinux"}, nil)
	r.set(ramdisk)
	m := machine(t, "bios")
	got := m.Boot(context.Background(), r.wire)
	if got.End != EndKernel || got.Loader != "pxelinux" || !containsAll(got.Args, []string{"BOOTIF=01-" + m.MAC.Dashes(), `muster.x="a b"`}) {
		t.Fatalf("got %s", dump(got))
	}
	for step, want := range map[*boot.Step]End{&local: EndLocal, &wait: EndAgain, &refuse: EndBack} {
		r.set(*step)
		if got := machine(t, "bios").Boot(context.Background(), r.wire); got.End != want {
			t.Errorf("%s ends in %s", step.Kind, dump(got))
		}
	}
}

func TestProxyWithoutALeaseServer(t *testing.T) {
	r := newRack(t, boot.Loaders{}, func(c *dhcp.Config) { c.Mode = dhcp.ModeProxy })
	r.set(ramdisk)
	r.wire.Patience, r.wire.Rounds = time.Second, 60
	m := machine(t, "bios")
	m.Lease = false
	if got := m.Boot(context.Background(), r.wire); got.End != EndKernel {
		t.Errorf("got %s", dump(got))
	}
}

func TestNobodyAnswers(t *testing.T) {
	r := newRack(t, boot.Loaders{}, func(c *dhcp.Config) { c.Mode = dhcp.ModeProxy })
	r.wire.Patience, r.wire.Rounds = 50*time.Millisecond, 1
	m := machine(t, "arm64") // no loader for it
	got := m.Boot(context.Background(), r.wire)
	if got.End != EndBack || !strings.Contains(got.Why, "no") {
		t.Errorf("got %s", dump(got))
	}
}

func containsAll(s string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}

func dump(b Boot) string {
	out := &strings.Builder{}
	fmt.Fprintf(out, "%s: %s (kernel %q, initrds %q, args %q, screen %q)\n", b.End, b.Why, b.Kernel, b.Initrds, b.Args, b.Screen)
	for _, q := range b.Requests {
		fmt.Fprintf(out, "  %s %s -> %s (%d bytes)\n", q.Proto, q.Asked, q.Answer, q.Bytes)
	}
	return out.String()
}
