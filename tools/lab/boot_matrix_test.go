package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/broker"
)

func (c cell) String() string {
	way, beside := "pxe", c.beside
	if c.http {
		way = "http"
	}
	if beside == "" && c.dhcp != "server" {
		beside = "dnsmasq"
	}
	return fmt.Sprintf("%-10s  %-4s  %-9s  %-7s  %s", c.firmware, way, c.dhcp, beside, c.loader)
}

// TestLabBootMatrix: every way in the table ends in the agent, or in what a person chose. make test-boot runs all, two
// at a time, and prints the times from power-on; make test the quick cells. A cell that fails shows its timeline and
// what was last on the machine's console, and its row the last that is known.
func TestLabBootMatrix(t *testing.T) {
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 (make test-boot)")
	}
	table := make([]string, len(cells)) // each cell its own row
	t.Cleanup(func() {
		t.Logf("from power-on to facts accepted, or to what was chosen:\n%s", strings.Join(rowsOf(table), "\n"))
	})
	for i, c := range cells {
		if !c.quick && os.Getenv("MUSTER_BOOT") == "" {
			continue
		}
		name := strings.Join(strings.FieldsFunc(c.String(), func(r rune) bool { return strings.ContainsRune(" ,()", r) }), "-")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &cellBoot{cell: c}
			t.Cleanup(func() { table[i] = fmt.Sprintf("%-68s %s", c, b.outcome(t)) })
			b.up(t, fmt.Sprintf("mboot%d", i))
			b.boot(t)
		})
	}
}

// rowsOf leaves out the cells that were not asked for.
func rowsOf(table []string) []string {
	var rows []string
	for _, row := range table {
		if row != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

// A cellBoot is one cell under way.
type cellBoot struct {
	cell
	rack    *Rack
	server  *Server
	machine *Machine
	life    *Life
	took    time.Duration
}

func (b *cellBoot) outcome(t *testing.T) string {
	switch {
	case t.Skipped():
		return "skipped"
	case !t.Failed():
		return fmt.Sprintf("%6.1f s", b.took.Seconds())
	case b.life == nil || len(b.life.Events) == 0:
		return "FAILED  the machine was never heard of"
	}
	e := b.life.Events[len(b.life.Events)-1]
	return fmt.Sprintf("FAILED  last heard at %.1f s: %s %s", e.Time.Sub(b.life.Start).Seconds(), e.Kind, e.Text)
}

// up makes the rack, the servers and the machine, which is off.
func (b *cellBoot) up(t *testing.T, name string) {
	t.Helper()
	if program := recipes[b.firmware].program; !installed(program)() {
		t.Skipf("no %s: apt-get install qemu-system-arm qemu-efi-aarch64", program)
	}
	loaders := b.loaders(t)
	ramdisk := filepath.Join(labCache(), "ramdisk")
	if b.firmware == ARM64 {
		ramdisk = ramdiskARM64(t)
	}
	var err error
	b.rack, err = Up(t.Context(), Config{Name: name, Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.rack.Down(); err != nil {
			t.Error(err)
		}
	})
	b.besides(t)
	b.server, err = b.rack.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: ramdisk, Args: b.args(t, loaders)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.server.Kill)
	b.machine, err = b.rack.Machine(b.machineConfig(t))
	if err != nil {
		t.Fatal(err)
	}
}

// besides starts the other DHCP server, if there is one.
func (b *cellBoot) besides(t *testing.T) {
	t.Helper()
	kind := b.beside
	if kind == "" {
		kind = "dnsmasq"
	}
	switch b.dhcp {
	case "proxy":
		startSiteDHCP(t, b.rack, kind, "", false)
	case "same-host":
		startSiteDHCP(t, b.rack, kind, dhcpConfig(t, b.rack, kind, "--same-host"), true)
	case "off":
		startSiteDHCP(t, b.rack, kind, dhcpConfig(t, b.rack, kind), false)
	}
}

// loaders makes the loader directory.
func (b *cellBoot) loaders(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range b.files {
		path := filepath.Join(dir, f.name)
		if f.from.name == "" {
			makeGRUB(t, "i386-pc-pxe", path, "-p", "(pxe)/grub")
			continue
		}
		if err := os.Symlink(filepath.Join(f.from.root(t), f.file), path); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (b *cellBoot) args(t *testing.T, loaders string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(file, []byte(b.config+"loaders: "+loaders+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kernel := kernelArgs
	if b.firmware == ARM64 {
		kernel = "console=ttyAMA0 quiet loglevel=4"
	}
	args := []string{"--dhcp", b.dhcp}
	if b.dhcp == "server" {
		args = b.rack.ServeArgs(BIOS)
	}
	return append(args, "--kernel-args", kernel, "--config", file)
}

func (b *cellBoot) machineConfig(t *testing.T) MachineConfig {
	t.Helper()
	c := MachineConfig{Name: "m", Firmware: b.firmware, HTTPBoot: b.http}
	if b.choice != nil && b.choice.disk {
		c.Disks = []DiskConfig{{Path: speakingDisk(t, b.firmware)}}
	}
	if b.choice != nil && b.choice.screen != nil {
		c.Extra = []string{"-device", "VGA"}
	}
	return c
}

// boot switches the machine on and waits for its facts, or for what the choice shows.
func (b *cellBoot) boot(t *testing.T) {
	t.Helper()
	l, err := NewLife(t.Context(), b.server, b.machine, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	b.life = l
	ctx, cancel := context.WithTimeoutCause(t.Context(), 6*time.Minute, fmt.Errorf("not within 6 minutes"))
	defer cancel()
	if err := l.On(); err != nil {
		t.Fatal(err)
	}
	if b.reset != "" {
		if _, err := l.Until(ctx, b.reset+" to be fetched", Kind("tftp", "read "+b.reset+": sent")); err != nil {
			t.Fatal(err)
		}
		if err := b.machine.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	if b.choice != nil {
		err = b.choose(ctx)
	} else {
		var e broker.Event
		e, err = l.Until(ctx, "the machine's facts", Kind(broker.EventRegistered, ""))
		b.took = e.Time.Sub(l.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	checkWay(t, l, b.asks)
}

// choose presses the key at the menu and waits for what is to be seen.
func (b *cellBoot) choose(ctx context.Context) error {
	if _, err := b.machine.WaitConsole(ctx, regexp.MustCompile(regexp.QuoteMeta(b.choice.prompt))); err != nil {
		return b.stuck(err)
	}
	if err := b.machine.press(ctx, b.choice.key); err != nil {
		return err
	}
	var err error
	if b.choice.screen != nil {
		err = b.machine.waitScreen(ctx, b.choice.screen)
	} else {
		_, err = b.machine.WaitConsole(ctx, b.choice.shows)
	}
	if err != nil {
		return b.stuck(err)
	}
	b.took = time.Since(b.life.Start)
	left := ahead(b.life.Events, b.asks) // a name may be asked for twice: before the menu, and for what was chosen
	_, err = b.life.Until(ctx, strings.Join(left, ", "), func(e broker.Event) bool {
		left = ahead([]broker.Event{e}, left)
		return len(left) == 0
	})
	return err
}

// stuck adds the timeline to what the console said.
func (b *cellBoot) stuck(err error) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if b.life.Events == nil {
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
	}
	_, _ = b.life.Until(ctx, "the rest", func(broker.Event) bool { return false })
	return fmt.Errorf("%w; the timeline:\n%s", err, b.life.Timeline())
}

// press presses a key of the keyboard, by QEMU's name of it.
func (m *Machine) press(ctx context.Context, key string) error {
	_, err := m.QMP(ctx, "send-key", map[string]any{"keys": []any{map[string]any{"type": "qcode", "data": key}}})
	return err
}

// waitScreen waits for a text on the display, which must be in a text mode of VGA: at 0xb8000, a byte for the letter and
// one for its colour.
func (m *Machine) waitScreen(ctx context.Context, want *regexp.Regexp) error {
	for {
		file := m.path("screen")
		if _, err := m.QMP(ctx, "pmemsave", map[string]any{"val": 0xb8000, "size": 80 * 25 * 2, "filename": file}); err != nil {
			return err
		}
		cells, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var text strings.Builder
		for i := 0; i+1 < len(cells); i += 2 {
			if i%160 == 0 {
				text.WriteByte('\n')
			}
			text.WriteByte(min(max(cells[i], ' '), '~'))
		}
		if want.MatchString(text.String()) {
			return nil
		}
		if pause(ctx, time.Second); ctx.Err() != nil {
			return fmt.Errorf("await %q on the display: %w; it shows:%s", want, context.Cause(ctx), text.String())
		}
	}
}

// asks says whether an event is the machine's asking for a name, such as "tftp pxelinux.0", and getting it.
func asks(e broker.Event, what string) bool {
	proto, name, _ := strings.Cut(what, " ")
	return e.Kind == proto && strings.Contains(e.Data["name"], name) && e.Data["what"] != "miss"
}

// ahead are the names that the machine did not ask for yet, of those that it asks for in this order.
func ahead(events []broker.Event, names []string) []string {
	for _, e := range events {
		if len(names) > 0 && asks(e, names[0]) {
			names = names[1:]
		}
	}
	return names
}

// checkWay looks for the names in the machine's events, in their order.
func checkWay(t *testing.T, l *Life, names []string) {
	t.Helper()
	if names := ahead(l.Events, names); len(names) > 0 {
		t.Errorf("the machine came without asking for %q:\n%s", names, l.Timeline())
	}
}

// makeGRUB makes an image as grub-mknetdir would, its modules inside.
func makeGRUB(t *testing.T, format, path string, args ...string) {
	t.Helper()
	modules := "normal configfile linux echo sleep reboot test search boot serial terminal halt "
	if strings.HasPrefix(format, "i386-pc") {
		modules += "pxe tftp chain biosdisk part_gpt part_msdos"
	}
	args = append(append([]string{"-O", format, "-o", path}, args...), strings.Fields(modules)...)
	if out, err := exec.CommandContext(t.Context(), "grub-mkimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v: %s", err, out)
	}
}

// diskSays is what speakingDisk's system says.
var diskSays = regexp.MustCompile(`The disk starts`)

// speakingDisk makes a disk whose system says that it was started: a boot sector for BIOS, and a GRUB where UEFI looks
// for a loader on a disk.
func speakingDisk(t *testing.T, f Firmware) string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	if f == BIOS {
		// Print the text behind the code by INT 10h, function 0Eh, and halt.
		code := []byte{0x31, 0xc0, 0x8e, 0xd8, 0xfc, 0xbe, 0x19, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x09, 0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, 0xeb, 0xf2, 0xf4, 0xeb, 0xfd}
		sector := append(code, "The disk starts.\r\n\x00"...)
		image := make([]byte, 1<<20)
		copy(image, sector)
		binary.LittleEndian.PutUint16(image[510:], 0xaa55)
		if err := os.WriteFile(disk, image, 0o600); err != nil {
			t.Fatal(err)
		}
		return disk
	}
	loader, config := filepath.Join(dir, "loader.efi"), filepath.Join(dir, "early.cfg")
	if err := os.WriteFile(config, []byte("echo 'The disk starts.'\nsleep 600\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	makeGRUB(t, "x86_64-efi", loader, "-p", "/", "-c", config)
	for _, line := range [][]string{
		{"mformat", "-C", "-i", disk, "-T", "65536", "-h", "16", "-s", "32", "::"},
		{"mmd", "-i", disk, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", disk, loader, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		muster(t, line...)
	}
	return disk
}

// builtARM64 is the discovery ramdisk of 64-bit ARM, made once for all cells.
var builtARM64 struct {
	sync.Once
	dir string
	err error
}

// ramdiskARM64 builds it around Debian's kernel.
func ramdiskARM64(t *testing.T) string {
	t.Helper()
	deb := os.Getenv("MUSTER_ARM64_KERNEL")
	if deb == "" {
		deb = kernelARM64.deb(t)
	}
	b := &builtARM64
	b.Do(func() {
		b.dir = filepath.Join(labCache(), "ramdisk-arm64")
		out, err := exec.Command("../../bin/muster", "ramdisk", "build", "--source", "../..", "--arch", "arm64", "--kernel", deb, "-o", b.dir).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build the ramdisk of arm64: %w: %s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}
