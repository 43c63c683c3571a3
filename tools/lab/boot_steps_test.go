package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/boot"
	"muster/boot/dhcp"
	"muster/boot/tftp"
)

// A stepRow is a step that real firmware and a real loader are told, and what the machine must then show. next is the
// Source of that machine; read says whether it has had a file of that name.
type stepRow struct {
	name     string
	firmware Firmware
	http     bool
	loader   string // of boot.LoaderFor; if empty, the usual one
	disk     bool   // it has a disk that says so when it is started
	next     func(c boot.Client, read func(name string) bool) boot.Step
	asks     []string // protocol and part of the name, in this order; of HTTP how often it has waited, too
	shows    string   // on the console, a regular expression
}

// always is the Source that does not change its mind.
func always(s boot.Step) func(boot.Client, func(string) bool) boot.Step {
	return func(boot.Client, func(string) bool) boot.Step { return s }
}

// waits is one that says wait three times, then no. Each machine must come back by itself.
func waits(c boot.Client, _ func(string) bool) boot.Step {
	if c.Try >= 3 {
		return boot.Step{Kind: boot.StepRefuse, Text: "asked three times"}
	}
	return boot.Step{Kind: boot.StepWait, After: time.Second, Text: "nothing to do yet"}
}

// diskFor tells a loader, and not the firmware before it, to start the disk.
func diskFor(k boot.Kind) func(boot.Client, func(string) bool) boot.Step {
	return func(c boot.Client, _ func(string) bool) boot.Step {
		if c.Kind == k {
			return boot.Step{Kind: boot.StepLocal}
		}
		return boot.Step{Kind: boot.StepRefuse, Text: "not yet"}
	}
}

var (
	refused = boot.Step{Kind: boot.StepRefuse, Text: "no ramdisk for this machine"}
	local   = boot.Step{Kind: boot.StepLocal}
)

const (
	showsRefused = `muster: no ramdisk for this machine`
	showsEnough  = `muster: asked three times`
	showsDisk    = `The disk starts`
	stepsURL     = "http://10.77.0.1:8080"
)

var stepRows = []stepRow{
	{name: "refuse, ipxe on BIOS", firmware: BIOS, next: always(refused), asks: []string{"http boot/ipxe 0"}, shows: showsRefused},
	{name: "refuse, pxelinux", firmware: BIOS, loader: "pxelinux", next: always(refused), asks: []string{"tftp pxelinux.cfg/"}, shows: showsRefused},
	{name: "refuse, grub on BIOS", firmware: BIOS, loader: "grub", next: always(refused), asks: []string{"tftp i386-pc.cfg"}, shows: showsRefused},
	{name: "refuse, ipxe on UEFI", firmware: UEFI, next: always(refused), asks: []string{"tftp snponly.efi", "http boot/ipxe 0"}, shows: showsRefused},
	{name: "refuse, grub on UEFI", firmware: UEFI, loader: "grub", next: always(refused), asks: []string{"tftp x86_64-efi.cfg"}, shows: showsRefused},

	{name: "wait, ipxe", firmware: BIOS, next: waits, asks: []string{"http boot/ipxe 0", "http boot/ipxe 1", "http boot/ipxe 2", "http boot/ipxe 3"}, shows: showsEnough},
	{name: "wait, pxelinux", firmware: BIOS, loader: "pxelinux", next: waits, shows: showsEnough,
		asks: []string{"tftp pxelinux.cfg/", "tftp /wait.1", "tftp /wait.2", "tftp /wait.3"}},
	{name: "wait, grub on UEFI", firmware: UEFI, loader: "grub", next: waits, shows: showsEnough,
		asks: []string{"tftp x86_64-efi.cfg", "tftp /wait.1.cfg", "tftp /wait.2.cfg", "tftp /wait.3.cfg"}},

	{name: "disk, ipxe on BIOS", firmware: BIOS, disk: true, next: always(local), asks: []string{"http boot/ipxe 0"}, shows: showsDisk},
	{name: "disk, pxelinux", firmware: BIOS, loader: "pxelinux", disk: true, next: diskFor(boot.KindPXELINUX), asks: []string{"tftp pxelinux.cfg/"}, shows: showsDisk},
	{name: "disk, grub on BIOS", firmware: BIOS, loader: "grub", disk: true, next: diskFor(boot.KindGRUB), asks: []string{"tftp i386-pc.cfg"}, shows: showsDisk},
	{name: "disk, UEFI itself", firmware: UEFI, disk: true, next: always(local), shows: showsDisk},
	{name: "disk, UEFI itself by HTTP boot", firmware: UEFI, http: true, disk: true, next: always(local), shows: showsDisk},
	{name: "disk, ipxe on UEFI", firmware: UEFI, disk: true, next: diskFor(boot.KindIPXE), asks: []string{"tftp snponly.efi", "http boot/ipxe 0"}, shows: showsDisk},
	{name: "disk, grub on UEFI", firmware: UEFI, loader: "grub", disk: true, next: diskFor(boot.KindGRUB), asks: []string{"tftp x86_64-efi.cfg"}, shows: showsDisk},

	// undionly.kpxe, loaded by the ROM's iPXE, finds the card by the ROM's UNDI and comes back for a script of its own.
	{name: "chain, undionly.kpxe", firmware: BIOS, shows: "muster: undionly is here", asks: []string{"http boot/ipxe 0", "http undionly.kpxe 0", "http boot/ipxe 0"},
		next: func(_ boot.Client, read func(string) bool) boot.Step {
			if read("boot/undionly.kpxe") {
				return boot.Step{Kind: boot.StepRefuse, Text: "undionly is here"}
			}
			return boot.Step{Kind: boot.StepChain, Chain: "undionly.kpxe"}
		}},
	// What iPXE makes of a value is expanded once more: this is why no value with ${ is ever written into a script.
	{name: "I6, ipxe on BIOS", firmware: BIOS, shows: `expanded twice: 52:54:00:be:00:[0-9a-f]{2}`, asks: []string{"http boot/ipxe 0"},
		next: always(boot.Step{Kind: boot.StepChain, Chain: stepsURL + "/twice"})},
}

// twice is golden case I6.
const twice = "#!ipxe\nset z ${\necho expanded twice: ${z}net0/mac}\nsleep 600\n"

func (r stepRow) index() int {
	for i := range stepRows {
		if stepRows[i].name == r.name {
			return i
		}
	}
	return -1
}

func (r stepRow) mac() boot.MAC { return boot.MAC{0x52, 0x54, 0, 0xbe, 0, byte(r.index())} }

// TestLabBootSteps: firmware and loaders do what a step says, and the screen shows it. One server, in a process of its
// own inside the rack, serves the machines of all rows.
func TestLabBootSteps(t *testing.T) {
	if os.Getenv("MUSTER_LAB") == "" || os.Getenv("MUSTER_BOOT") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 MUSTER_BOOT=1 (make test-boot)")
	}
	r := upRack(t, "mstep")
	makeGRUB(t, "i386-pc-pxe", filepath.Join(r.Dir(), "grub.0"), "-p", "(pxe)/grub")
	seen := startStepServer(t, r)
	table := make([]string, len(stepRows))
	t.Cleanup(func() { t.Logf("from power-on to what the screen must show:\n%s", strings.Join(rowsOf(table), "\n")) })
	for i, row := range stepRows {
		t.Run(strings.NewReplacer(", ", "-", " ", "-").Replace(row.name), func(t *testing.T) {
			t.Parallel()
			took, err := row.run(t, r)
			table[i] = fmt.Sprintf("%-32s %6.1f s", row.name, took.Seconds())
			if err != nil {
				table[i] = fmt.Sprintf("%-32s FAILED", row.name)
				t.Errorf("%v; it asked:\n%s", err, strings.Join(seen.of(row.mac()), "\n"))
				return
			}
			asked := seen.of(row.mac())
			if missing := without(row.asks, asked); len(missing) > 0 {
				table[i] = fmt.Sprintf("%-32s FAILED", row.name)
				t.Errorf("it did not ask for %q; it asked:\n%s", missing, strings.Join(asked, "\n"))
			}
		})
	}
}

// run switches the row's machine on, waits for what it must show, and switches it off.
func (r stepRow) run(t *testing.T, rack *Rack) (time.Duration, error) {
	t.Helper()
	c := MachineConfig{Name: fmt.Sprintf("s%d", r.index()), Firmware: r.firmware, HTTPBoot: r.http, MACs: []string{r.mac().String()}, MemoryMiB: 512}
	if r.disk {
		c.Disks = []DiskConfig{{Path: speakingDisk(t, r.firmware)}}
	}
	m := addMachine(t, rack, c)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, fmt.Errorf("not within 5 minutes"))
	defer cancel()
	start := time.Now()
	if err := m.On(); err != nil {
		return 0, err
	}
	defer m.Off()
	_, err := m.WaitConsole(ctx, regexp.MustCompile(r.shows))
	return time.Since(start), err
}

// without gives what is left of wants, parts of lines in their order, that the lines do not hold.
func without(wants, lines []string) []string {
	for _, line := range lines {
		if len(wants) == 0 {
			break
		}
		f := append(strings.Fields(wants[0]), "")
		if strings.HasPrefix(line, f[0]+" ") && strings.Contains(line, f[1]) && strings.HasSuffix(line, f[2]) {
			wants = wants[1:]
		}
	}
	return wants
}

// sightings are what the step server saw, a line for each request that had an answer: protocol, name, tries.
type sightings struct {
	mu    sync.Mutex
	lines map[boot.MAC][]string
}

func (s *sightings) of(m boot.MAC) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines[m]...)
}

func (s *sightings) add(x boot.Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[boot.MAC][]string{}
	}
	if x.What != "miss" {
		s.lines[x.Client.MAC] = append(s.lines[x.Client.MAC], fmt.Sprintf("%s %s %s %d", x.Proto, x.What, x.Name, x.Client.Try))
	}
}

// read says whether the machine has had a file.
func (s *sightings) read(m boot.MAC, name string) bool {
	for _, line := range s.of(m) {
		if strings.Contains(line, " "+name+" ") {
			return true
		}
	}
	return false
}

// startStepServer starts this test binary as the server and follows what it sees.
func startStepServer(t *testing.T, r *Rack) *sightings {
	t.Helper()
	cmd := r.Command(t.Context(), os.Args[0], "-test.run=^TestStepServer$", "-test.timeout=60m")
	cmd.Env = append(os.Environ(), "MUSTER_STEP_SERVER="+r.Dir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended with the test's context
		_ = cmd.Wait()
	})
	seen, up := &sightings{}, make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var x boot.Sighting
			if lines.Text() == "serving" {
				up <- true
			} else if json.Unmarshal(lines.Bytes(), &x) == nil {
				seen.add(x)
			}
		}
		close(up)
	}()
	if !<-up {
		t.Fatal("the step server did not start")
	}
	return seen
}

// TestStepServer is the server of TestLabBootSteps and no test.
func TestStepServer(t *testing.T) {
	dir := os.Getenv("MUSTER_STEP_SERVER")
	if dir == "" {
		t.Skip("TestLabBootSteps starts it")
	}
	if err := serveSteps(t.Context(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Next makes the rows a boot.Source: the machine tells the row.
func (s *sightings) Next(_ context.Context, c boot.Client) (boot.Step, error) {
	for _, r := range stepRows {
		if r.mac() == c.MAC {
			return r.next(c, func(name string) bool { return s.read(c.MAC, name) }), nil
		}
	}
	return boot.Step{}, boot.ErrNotFound
}

// serveSteps serves DHCP, TFTP and HTTP as muster serve does, with the rows as its Source.
func serveSteps(ctx context.Context, dir string) error {
	seen := &sightings{}
	var d *dhcp.Server
	observe := func(x boot.Sighting) {
		seen.add(x)
		line, _ := json.Marshal(x)
		fmt.Printf("%s\n", line)
		if d != nil && x.Proto != "dhcp" {
			d.Saw(x)
		}
	}
	client := func(a netip.Addr) boot.Client {
		m, _ := d.MACOf(a)
		return boot.Client{Addr: a, MAC: m}
	}
	loaders := boot.Loaders{Dir: dir}
	for _, r := range stepRows {
		if r.loader != "" {
			loaders.For = append(loaders.For, boot.LoaderFor{MAC: r.mac().String(), Loader: r.loader})
		}
	}
	b, err := boot.New(boot.Config{BaseURL: stepsURL, Source: seen, Loaders: loaders, Client: client, Observe: observe})
	if err != nil {
		return err
	}
	first, last := netip.MustParseAddr("10.77.0.100"), netip.MustParseAddr("10.77.0.199")
	d, err = dhcp.Listen(dhcp.Config{Interface: Bridge, Mode: dhcp.ModeServer, Source: b, Loader: b.Loader, Script: b.ScriptURL, Observe: observe,
		Network: dhcp.Network{Ranges: []dhcp.Range{{First: first, Last: last}}}})
	if err != nil {
		return err
	}
	files, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 69})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", b)
	mux.HandleFunc("/twice", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, twice) })
	web, err := net.Listen("tcp4", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("serving")
	failed := make(chan error, 3)
	go func() { failed <- d.Serve(ctx) }()
	go func() {
		failed <- tftp.New(tftp.Config{Resolve: b.Resolve, Client: client, Observe: observe}).Serve(ctx, files)
	}()
	go func() { failed <- http.Serve(web, mux) }()
	return <-failed
}

var _ boot.Source = (*sightings)(nil)
