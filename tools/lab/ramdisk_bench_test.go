package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"muster/agent/facts"
)

// ramdiskBench is a bench of discovery ramdisks: one kernel, one directory, and a table.
type ramdiskBench struct {
	t       *testing.T
	dir     string // scratch
	deb     string // Debian's kernel package
	root    string // the same, unpacked
	release string
	rounds  int
	table   *tabwriter.Writer
}

// TestBenchRamdisk is make bench-ramdisk. It says nothing about good or bad: the table is for people. Peers that are
// not installed are left out, with a line.
func TestBenchRamdisk(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-ramdisk")
	}
	deb, err := FetchKernel(t.Context(), filepath.Join(os.Getenv("MUSTER_CACHE"), "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	b := &ramdiskBench{t: t, dir: t.TempDir(), deb: deb, rounds: 3}
	if n, err := strconv.Atoi(os.Getenv("MUSTER_BENCH_ROUNDS")); err == nil && n > 0 {
		b.rounds = n
	}
	b.root, b.release = unpackKernel(t, deb)
	for _, part := range []struct {
		name string
		run  func()
	}{{"sizes", b.sizes}, {"builds", b.builds}, {"opens", b.opens}, {"memory", b.memory}, {"starts", b.starts}} {
		t.Run(part.name, func(t *testing.T) {
			b.t = t
			var out bytes.Buffer
			b.table = tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
			part.run()
			b.table.Flush()
			t.Log("\n" + out.String())
		})
	}
}

// unpackKernel gives the root of the files of a kernel's package and its release, with an index of its modules.
func unpackKernel(t *testing.T, deb string) (root, release string) {
	t.Helper()
	root = t.TempDir()
	muster(t, "dpkg-deb", "-x", deb, root)
	kernels, _ := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if len(kernels) != 1 {
		t.Fatalf("kernels in %s: %q; want one", deb, kernels)
	}
	release = filepath.Base(kernels[0])
	muster(t, "depmod", "-b", root, release)
	return root, release
}

func (b *ramdiskBench) must(name string, args ...string) []byte {
	b.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// muster builds a ramdisk with the userland that bin/muster carries.
func (b *ramdiskBench) muster(out string, args ...string) {
	b.t.Helper()
	_ = os.Remove(out + ".manifest.json") // or nothing would be built
	b.must("../../bin/muster", append([]string{"ramdisk", "build", "-o", out}, args...)...)
}

// sizes are bytes of file, per content and compression.
func (b *ramdiskBench) sizes() {
	fmt.Fprintln(b.table, "SIZE\tgzip\tzstd\txz\tnone\t")
	for _, content := range []struct {
		name string
		args []string
	}{
		{"userland", nil},
		{"userland, net, storage", []string{"--kernel", b.deb, "--modules", "net,storage"}},
		{"userland, common", []string{"--kernel", b.deb}},
		{"userland, all modules", []string{"--kernel", b.deb, "--modules", "all"}},
	} {
		fmt.Fprint(b.table, content.name)
		for _, suffix := range []string{".gz", ".zst", ".xz", ".cpio"} {
			if content.name == "userland, all modules" && suffix == ".xz" {
				fmt.Fprint(b.table, "\t-") // five minutes, for what nobody boots
				continue
			}
			out := filepath.Join(b.dir, "size"+suffix)
			b.muster(out, content.args...)
			b.t.Logf("%s, %s: %s", content.name, suffix, mebibytes(b.t, out))
			fmt.Fprintf(b.table, "\t%s", mebibytes(b.t, out))
		}
		fmt.Fprintln(b.table, "\t")
	}
}

func mebibytes(t *testing.T, name string) string {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%.2f MiB", float64(info.Size())/(1<<20))
}

type maker struct {
	program, name string
	command       string // of sh: $1 the release, $2 the root of the kernel's files, $3 the image to write, $4 a scratch directory
	args          string
	there         *regexp.Regexp
}

// run writes an image.
func (m maker) run(release, root, out, scratch string) error {
	return shell(`script=$1; shift; exec unshare -m sh -ec "$script" sh "$@"`, m.command, release, root, out, scratch)
}

// makers build an initramfs of the same kernel for any machine. Both read /lib/modules, so they run where that is the
// unpacked package (unshare, as root). With args on the kernel's line what they made stops when drivers are loaded and udev
// has settled, and says there.
var makers = []maker{
	{"mkinitramfs", "initramfs-tools MODULES=most", `mkdir -p /lib/modules $4/conf && mount --bind $2/lib/modules /lib/modules && mount --bind $2/boot /boot &&
		cp -r /etc/initramfs-tools/. $4/conf && printf 'MODULES=most\nCOMPRESS=gzip\n' >$4/conf/initramfs.conf && mkinitramfs -d $4/conf -o $3 $1`,
		"break=mount", regexp.MustCompile(`Spawning shell within the initramfs`)},
	{"dracut", "dracut --no-hostonly", `mkdir -p /lib/modules && mount --bind $2/lib/modules /lib/modules &&
		dracut --quiet --no-hostonly --force --gzip --kver $1 $3`,
		"root=/dev/nowhere rd.break=initqueue", regexp.MustCompile(`Dropping to debug shell|Press Enter for maintenance`)},
}

// A contestant of a part of the bench does something that takes time, and leaves a file.
type contestant struct {
	name, out string
	rounds    int // if 0, those of the bench
	run       func(out string) error
}

// compare lets contestants run in turn and prints how long they took beside the first.
func (b *ramdiskBench) compare(title string, all []contestant) {
	fmt.Fprintf(b.table, "%s (%d rounds)\tsize\tmedian\tleast\tmost\tratio\t\n", title, b.rounds)
	took := make([][]float64, len(all))
	for round := range b.rounds {
		for i, one := range all {
			if one.rounds > 0 && round >= one.rounds {
				continue
			}
			began := time.Now()
			if err := one.run(one.out); err != nil {
				b.t.Logf("%s: %v", one.name, err)
				continue
			}
			took[i] = append(took[i], time.Since(began).Seconds())
			b.t.Logf("%s: %.1f s, %s", one.name, time.Since(began).Seconds(), mebibytes(b.t, one.out))
		}
	}
	for i, one := range all {
		if len(took[i]) > 0 && len(took[0]) > 0 {
			b.row(one.name+"\t"+mebibytes(b.t, one.out), took[i], took[0])
		}
	}
}

// made is where the initramfs of a maker lies after builds.
func (b *ramdiskBench) made(program string) string { return filepath.Join(b.dir, program+".img") }

// builds are seconds on this machine, ours and the peers' in turn. A peer takes more than a minute, so it has one round;
// the first of ours has warmed the page cache, where the kernel's modules are.
func (b *ramdiskBench) builds() {
	all := []contestant{{"muster, common", filepath.Join(b.dir, "build.gz"), 0, func(out string) error {
		b.muster(out, "--kernel", b.deb)
		return nil
	}}}
	for _, p := range makers {
		if _, err := exec.LookPath(p.program); err != nil {
			b.t.Logf("%s is not installed: left out", p.program)
			continue
		}
		all = append(all, contestant{p.name + ", 1 round", b.made(p.program), 1, func(out string) error {
			return p.run(b.release, b.root, out, b.t.TempDir())
		}})
	}
	b.compare("BUILD", all)
}

// opens are seconds to unpack and pack again one ramdisk with a device node in it, by muster and by cpio with gzip.
func (b *ramdiskBench) opens() {
	image := filepath.Join(b.dir, "open.gz")
	b.muster(image, "--kernel", b.deb)
	ours, theirs := filepath.Join(b.dir, "ours"), filepath.Join(b.dir, "theirs")
	b.compare("UNPACK", []contestant{
		{"muster ramdisk unpack", image, 0, func(string) error {
			return shell("rm -rf $2 && ../../bin/muster ramdisk unpack $1 -C $2", image, ours)
		}},
		{"gzip -d, cpio -i", image, 0, func(string) error {
			return shell("rm -rf $2 && mkdir $2 && cd $2 && gzip -dc $1 | cpio -idm --quiet", image, theirs)
		}},
	})
	b.compare("REPACK", []contestant{
		{"muster ramdisk repack", filepath.Join(b.dir, "ours.gz"), 0, func(out string) error {
			return shell("../../bin/muster ramdisk repack $1 -o $2", ours, out)
		}},
		{"cpio -o, gzip", filepath.Join(b.dir, "theirs.gz"), 0, func(out string) error {
			return shell("cd $1 && find . | cpio --quiet -o -H newc | gzip >$2", theirs, out)
		}},
	})
}

// shell runs a line of sh with words for its $1, $2...
func shell(line string, words ...string) error {
	if said, err := exec.Command("sh", append([]string{"-ec", line, "sh"}, words...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// row prints a median, its spread, and its ratio to that of the first.
func (b *ramdiskBench) row(name string, seconds, first []float64) {
	middle := func(s []float64) float64 { slices.Sort(s); return s[len(s)/2] }
	m := middle(seconds)
	fmt.Fprintf(b.table, "%s\t%.2f s\t%.2f\t%.2f\t%.2f\t\n", name, m, seconds[0], seconds[len(seconds)-1], m/middle(first))
}

// enough is memory in which anything here boots, in MiB; tooLittle is less than a kernel takes.
const tooLittle, enough = 64, 1024

// memory finds the least memory of a machine whose facts arrive, to 16 MiB; for peers, of one that has loaded its drivers.
func (b *ramdiskBench) memory() {
	fmt.Fprintln(b.table, "MEMORY\tleast that works\tmost that does not\t")
	for _, modules := range []string{"net,storage", "common"} {
		out := filepath.Join(b.dir, "memory.gz")
		b.muster(out, "--kernel", b.deb, "--modules", modules)
		b.least("muster, "+modules+": facts accepted", func(mib int, limit time.Duration) error {
			_, err := b.boot(out, mib, limit)
			return err
		})
	}
	for _, p := range makers {
		if _, err := os.Stat(b.made(p.program)); err != nil {
			b.t.Logf("%s: no image: %v", p.name, err)
			continue
		}
		b.least(p.name+": drivers loaded", func(mib int, limit time.Duration) error {
			_, err := aloneBoot{emulator: emulatesX64, kernel: b.vmlinuz(), ramdisk: b.made(p.program), mib: mib, args: p.args, there: p.there}.run(b.t, limit)
			return err
		})
	}
}

// least halves the distance between memory that is enough and such that is not. What has not come in twice the time of a
// machine with enough, and some, does not come: it swaps files out and in, or starts again and again.
func (b *ramdiskBench) least(name string, boot func(mib int, limit time.Duration) error) {
	began := time.Now()
	if err := boot(enough, bootLimit); err != nil {
		b.t.Logf("%s in %d MiB: %v: left out", name, enough, err)
		return
	}
	limit := 2*time.Since(began) + 5*time.Second
	low, high := tooLittle, enough
	for high-low > 16 {
		mib := (low + high) / 32 * 16
		err := boot(mib, limit)
		b.t.Logf("%s in %d MiB: %v", name, mib, err)
		if err != nil {
			low = mib
		} else {
			high = mib
		}
	}
	fmt.Fprintf(b.table, "%s\t%d MiB\t%d MiB\t\n", name, high, low)
}

// starts are seconds from kernel start to accepted facts, beside those of an init that asks for an address and ends. Both
// are in zstd, muster's own choice for this kernel.
func (b *ramdiskBench) starts() {
	fmt.Fprintf(b.table, "START (%d rounds)\tsize\tmedian\tleast\tmost\tratio\t\n", b.rounds)
	ours, bare := filepath.Join(b.dir, "start.zst"), filepath.Join(b.dir, "bare.zst")
	b.muster(ours, "--kernel", b.deb, "--modules", "net,storage")
	if err := b.bareRamdisk(bare); err != nil {
		b.t.Skipf("no bare ramdisk: %v", err)
	}
	images := []struct{ name, file string }{{"bare kernel, virtio_net, udhcpc", bare}, {"muster, facts accepted", ours}}
	took, cpu := make([][]float64, len(images)), make([][]float64, len(images))
	for range b.rounds {
		for i, image := range images {
			s, err := b.boot(image.file, 512, bootLimit)
			if err != nil {
				b.t.Fatalf("%s: %v", image.name, err)
			}
			took[i], cpu[i] = append(took[i], s.seconds), append(cpu[i], s.cpu.Seconds())
			b.t.Logf("%s: %.2f s, %.2f s of processor time", image.name, s.seconds, s.cpu.Seconds())
		}
	}
	counted := make([][]float64, len(images))
	for i, image := range images {
		s, err := bootAlone(b.t, countsX64, b.vmlinuz(), image.file, 512, bootLimit)
		if err != nil {
			b.t.Fatalf("%s: %v", image.name, err)
		}
		counted[i] = []float64{s.seconds}
	}
	for i, image := range images {
		b.row(image.name+"\t"+mebibytes(b.t, image.file), took[i], took[0])
		b.row("  processor time of the emulator\t", cpu[i], cpu[0])
		b.row("  one processor of 2 ns for an instruction, once\t", counted[i], counted[0])
	}
}

// bareModules are a virtio NIC's, in an order in which they can be inserted.
const bareModules = "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net"

// bareInit does what a machine needs for an address, and nothing else. Without a lease it says nothing.
const bareInit = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for m in ` + bareModules + `; do /bin/busybox insmod /$m.ko; done
/bin/busybox ip link set eth0 up
if /bin/busybox udhcpc -i eth0 -n -q -f -t 20 -T 1 -s /bin/true; then
	read up idle </proc/uptime
	echo "bench: address after $up s"
fi
/bin/busybox poweroff -f
`

func (b *ramdiskBench) bareRamdisk(out string) error {
	dir := filepath.Join(b.dir, "bare")
	for _, name := range []string{"bin", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "init"), []byte(bareInit), 0o755); err != nil {
		return err
	}
	script := `cd $1 && cp "$(command -v busybox)" bin/busybox && ln -sf busybox bin/true && mknod dev/console c 5 1
		for m in ` + bareModules + `; do
			f=$(find $2/lib/modules -name $m.ko); [ -z "$f" ] || cp $f .; done
		find . | cpio --quiet -o -H newc | zstd -q -19 >$3`
	if said, err := exec.Command("sh", "-ec", script, "sh", dir, b.root, out).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// A started machine says one of these on its console; the number is seconds since the kernel started.
var startedAt = regexp.MustCompile(`muster \[ *([0-9.]+)s\] checked in as node|bench: address after ([0-9.]+) s`)

// gone is what a machine says from which nothing more is to be had. Without memory for a ramdisk's files a kernel goes on to
// an init that is not whole, and without memory for a process it ends one after the other.
var gone = regexp.MustCompile(`Kernel panic|Initramfs unpacking failed|Out of memory|the agent ended`)

// bootLimit is for a boot on a busy host.
const bootLimit = 4 * time.Minute

func (b *ramdiskBench) vmlinuz() string { return filepath.Join(b.root, "boot/vmlinuz-"+b.release) }

// boot starts a machine of so much memory with the kernel of the bench.
func (b *ramdiskBench) boot(ramdisk string, mib int, limit time.Duration) (started, error) {
	return bootAlone(b.t, emulatesX64, b.vmlinuz(), ramdisk, mib, limit)
}

// A started machine has done what it was booted for.
type started struct {
	seconds float64       // since its kernel started
	cpu     time.Duration // that the emulator took since power-on, which says more on a busy host
	told    facts.CheckIn // what the last check-in said; empty for a machine without agent
	console string
}

// An emulator is QEMU for an architecture: what is called, and what of the call differs.
type emulator struct {
	program string
	machine []string
	console string // of the kernel
}

var (
	emulatesX64 = emulator{"qemu-system-x86_64", []string{"-M", "q35", "-accel", "tcg,thread=multi", "-cpu", fastestCPU, "-smp", "2"}, "ttyS0"}
	// countsX64 has a clock of instructions, so that a busy host changes nothing.
	countsX64     = emulator{"qemu-system-x86_64", []string{"-M", "q35", "-accel", "tcg", "-icount", "shift=1,sleep=on", "-cpu", fastestCPU}, "ttyS0"}
	emulatesArm64 = emulator{"qemu-system-aarch64", []string{"-M", "virt", "-cpu", "cortex-a57", "-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}, "ttyAMA0"}
)

// bootAlone starts a machine whose network is QEMU's own and whose broker agrees with everything.
func bootAlone(t *testing.T, e emulator, kernel, ramdisk string, mib int, limit time.Duration) (started, error) {
	t.Helper()
	broker := acceptFacts(t)
	defer broker.stop()
	s, err := aloneBoot{emulator: e, kernel: kernel, ramdisk: ramdisk, mib: mib, there: startedAt,
		args: fmt.Sprintf("quiet muster.token=bench muster.server=http://10.0.2.2:%d", broker.port)}.run(t, limit)
	if err != nil {
		return s, err
	}
	m := startedAt.FindStringSubmatch(s.console)
	s.told = broker.last()
	s.seconds, err = strconv.ParseFloat(m[1]+m[2], 64)
	return s, err
}

// An aloneBoot is of a machine without rack, whose network is QEMU's own.
type aloneBoot struct {
	emulator
	kernel, ramdisk string
	mib             int
	args            string         // of the kernel, beside its console's
	there           *regexp.Regexp // what it says when it is where it is to get
}

// run boots until the machine is there, which it must be within limit, or gone.
func (a aloneBoot) run(t *testing.T, limit time.Duration) (started, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.program, append(slices.Clone(a.machine),
		"-m", strconv.Itoa(a.mib), "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=", "-kernel", a.kernel, "-initrd", a.ramdisk,
		"-append", fmt.Sprintf("console=%s panic=-1 %s", a.emulator.console, a.args))...)
	said := &lineWatch{want: regexp.MustCompile(a.there.String() + "|" + gone.String()), found: cancel}
	cmd.Stdout, cmd.Stderr = said, said
	err := cmd.Run()
	s := started{console: said.text.String()}
	if !a.there.MatchString(s.console) {
		return s, fmt.Errorf("it did not get there: %w; the console ends with %q", err, s.console[max(0, len(s.console)-200):])
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return s, nil
}

// A lineWatch keeps what is written and tells once it holds what is wanted.
type lineWatch struct {
	text  strings.Builder
	want  *regexp.Regexp
	found func()
}

// Write implements io.Writer.
func (l *lineWatch) Write(p []byte) (int, error) {
	l.text.Write(p)
	if l.want.MatchString(l.text.String()) {
		l.found()
	}
	return len(p), nil
}

// An agreeable is a broker that reads check-ins as ours does and has no orders.
type agreeable struct {
	port int
	stop func()

	mu   sync.Mutex
	told facts.CheckIn
}

func (a *agreeable) last() facts.CheckIn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told
}

// ServeHTTP implements http.Handler.
func (a *agreeable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost { // a poll for orders: there are none as long as the machine asks
		<-r.Context().Done()
		return
	}
	c, err := facts.DecodeCheckIn(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.told = *c
	a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(facts.CheckInReply{Node: "bench", Order: facts.Order{Kind: facts.OrderWait}})
}

func acceptFacts(t *testing.T) *agreeable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &agreeable{port: l.Addr().(*net.TCPAddr).Port}
	server := &http.Server{Handler: a}
	a.stop = func() { _ = server.Close() }
	go func() { _ = server.Serve(l) }() // until stop
	return a
}
