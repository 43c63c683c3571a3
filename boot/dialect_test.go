package boot

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot/kargs"
)

var update = flag.Bool("update", false, "write the goldens of testdata")

const testBase = "http://192.0.2.10:8080"

var (
	testMAC = MAC{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}
	onBIOS  = Client{MAC: testMAC, Kind: KindIPXE, Arch: ArchBIOS}
	onUEFI  = Client{MAC: testMAC, Kind: KindIPXE, Arch: ArchX64}
)

func discovery() Step {
	return Step{Kind: StepRamdisk, Kernel: "vmlinuz", Initrds: []string{"ramdisk.cpio.gz"}, Because: "node1: nothing is known of this machine yet",
		Args: kargs.Line{kargs.Set("muster.server", testBase), kargs.Set("muster.token", "node1.1.0123456789abcdef"), kargs.Set("console", "ttyS0,115200")}}
}

func signed(only bool) Step {
	s := discovery()
	s.Signatures, s.TrustOnly = []string{"vmlinuz.sig", "ramdisk.cpio.gz.sig"}, only
	return s
}

func installer() Step {
	return Step{Kind: StepKernel, Kernel: "debian-12/vmlinuz", Initrds: []string{"debian-12/initrd.gz", "overlay.cpio.gz"}, Because: "policy ceph-osd because storage-heavy, rack-b",
		Args: kargs.Line{kargs.Flag("auto"), kargs.Set("muster.x", "a b"), kargs.Flag("---"), kargs.Flag("quiet")}}
}

// steps are the kinds of steps that each dialect says, each on the firmware where its words differ.
var steps = []struct {
	name   string
	client Client
	step   Step
}{
	{"ramdisk", onUEFI, discovery()},
	{"ramdisk-signed", onBIOS, signed(false)},
	{"ramdisk-trust", onUEFI, signed(true)},
	{"kernel", onBIOS, installer()},
	{"local-bios", onBIOS, Step{Kind: StepLocal, Because: "installed by policy ceph-osd"}},
	{"local-efi", onUEFI, Step{Kind: StepLocal, Because: "installed by policy ceph-osd"}},
	{"wait-bios", onBIOS, Step{Kind: StepWait, After: 12500 * time.Millisecond, Text: "waiting for a policy", Because: "no policy has taken it yet"}},
	{"wait-efi", onUEFI, Step{Kind: StepWait, Text: "waiting", Because: "no policy has taken it yet"}},
	{"refuse-bios", onBIOS, Step{Kind: StepRefuse, Text: "held: it's been started 3 times", Because: "on hold"}},
	{"refuse-efi", onUEFI, Step{Kind: StepRefuse, Because: "on hold"}},
	{"chain-bios", onBIOS, Step{Kind: StepChain, Chain: "pxelinux.0", Because: "this machine's loader is pxelinux.0"}},
	{"chain-efi", onUEFI, Step{Kind: StepChain, Chain: "http://192.0.2.7/x/y.efi", Because: "another site's"}},
	{"chain-words-bios", onBIOS, mboot("http://192.0.2.10:8080/repo/esxi/mboot.c32")},
	{"chain-words-efi", onUEFI, mboot("http://192.0.2.10:8080/repo/esxi/efi/boot/bootx64.efi")},
	{"winpe-bios", onBIOS, windows()},
	{"winpe-efi", onUEFI, windows()},
	{"menu", onUEFI, choices(false)},
	{"menu-hidden", onBIOS, choices(true)},
}

func mboot(program string) Step {
	return Step{Kind: StepChain, Chain: program, Words: []string{"-c", testBase + "/node/v1/install/node1.1.00ff/file/boot.cfg"}, Because: "stage install"}
}

func windows() Step {
	file := func(name string) Inject { return Inject{name, testBase + "/node/v1/install/node1.1.00ff/file/" + name} }
	return Step{Kind: StepWinPE, Kernel: "wimboot", Args: kargs.Line{kargs.Flag("quiet"), kargs.Set("index", "2")}, Because: "stage install",
		Inject: []Inject{file("startnet.cmd"), file("unattend.xml")}, Initrds: []string{"repo/windows/sources/boot.wim", "repo/windows/curl.exe"}}
}

func choices(hidden bool) Step {
	return Step{Kind: StepMenu, Because: "asked by the operator", Menu: &Menu{Title: "node1", Hidden: hidden, Timeout: 5 * time.Second, Entries: []Entry{
		{"local", "l", "Boot from the local disk", Step{Kind: StepLocal}},
		{"ramdisk", "", "Discovery ramdisk", discovery()},
		{"memtest", "m", "Memory test", Step{Kind: StepChain, Chain: "memtest.0"}},
	}}}
}

// elsewhere are the steps that a dialect has no words for.
var elsewhere = map[string]string{
	"grub chain-bios":           "GRUB on BIOS starts no program",
	"grub chain-words-bios":     "GRUB on BIOS starts no program",
	"grub chain-words-efi":      "is started by iPXE, not by GRUB",
	"grub winpe-bios":           "Windows is started by iPXE and wimboot, not by grub",
	"grub winpe-efi":            "Windows is started by iPXE and wimboot, not by grub",
	"pxelinux chain-efi":        "pxelinux runs on BIOS",
	"pxelinux chain-words-bios": "lpxelinux.0 from http, too",
	"pxelinux chain-words-efi":  "pxelinux runs on BIOS",
	"pxelinux winpe-bios":       "Windows is started by iPXE and wimboot, not by pxelinux",
	"pxelinux winpe-efi":        "Windows is started by iPXE and wimboot, not by pxelinux",
}

func TestRenderGoldens(t *testing.T) {
	for d, ext := range map[Dialect]string{IPXE: ".ipxe", GRUB: ".cfg", PXELINUX: ".pxe"} {
		for _, tt := range steps {
			t.Run(string(d)+" "+tt.name, func(t *testing.T) {
				got, err := Render(d, testBase, tt.client, tt.step)
				if says, none := elsewhere[string(d)+" "+tt.name]; none {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("Render = %q, %v; want an error with %s", got, err, says)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata", tt.name+ext), got)
			})
		}
	}
	byHTTP := onBIOS
	byHTTP.HTTP = true
	for name, step := range map[string]Step{"http-kernel": installer(), "http-wait": {Kind: StepWait, Text: "waiting"}, "http-menu": choices(true), "http-chain": {Kind: StepChain, Chain: "memtest.0"},
		"http-chain-words": mboot("http://192.0.2.10:8080/repo/esxi/mboot.c32")} {
		got, err := Render(PXELINUX, testBase, byHTTP, step)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		golden(t, filepath.Join("testdata", name+".pxe"), got)
	}
	golden(t, "testdata/autoexec.ipxe", autoexec(testBase))
	golden(t, "testdata/stub.cfg", grubStub("${net_default_mac}"))
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestGRUBReadsItsGoldens asks GRUB's own parser (Z14).
func TestGRUBReadsItsGoldens(t *testing.T) {
	check, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Skip("grub-script-check is not installed (Debian package grub-common)")
	}
	files, err := filepath.Glob("testdata/*.cfg")
	said := 0 // GRUB has no words for some steps
	for _, tt := range steps {
		if _, err := Render(GRUB, testBase, tt.client, tt.step); err == nil {
			said++
		}
	}
	if err != nil || said < 10 || len(files) < said {
		t.Fatalf("%d goldens of %d steps: %v, %v", len(files), said, files, err)
	}
	for _, f := range files {
		if out, err := exec.Command(check, f).CombinedOutput(); err != nil {
			t.Errorf("grub-script-check %s: %v\n%s", f, err, out)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.cfg")
	if err := os.WriteFile(broken, []byte("echo 'it's'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := exec.Command(check, broken).Run(); !errors.As(err, &exit) {
		t.Errorf("grub-script-check finds nothing wrong with an open quote: %v", err)
	}
}

func TestRenderRefuses(t *testing.T) {
	with := func(change func(*Step)) Step {
		s := installer()
		change(&s)
		return s
	}
	win := func(change func(*Step)) Step {
		s := windows()
		change(&s)
		return s
	}
	called := func(name string) Step { return win(func(s *Step) { s.Inject[0].Name = name }) }
	entry := func(change func(*Entry)) Step {
		s := choices(false)
		change(&s.Menu.Entries[0])
		return s
	}
	for _, tt := range []struct {
		name string
		step Step
		says string
	}{
		{"a step of no kind", Step{}, "has no"},
		{"a kernel step without a kernel", with(func(s *Step) { s.Kernel = "" }), `file name ""`},
		{"an initrd without a name", with(func(s *Step) { s.Initrds = []string{""} }), `file name ""`},
		{"a file name that climbs", with(func(s *Step) { s.Kernel = "../vmlinuz" }), `file name "../vmlinuz"`},
		{"a file name from the root", with(func(s *Step) { s.Kernel = "/vmlinuz" }), `file name "/vmlinuz"`},
		{"a file name with a blank", with(func(s *Step) { s.Initrds[0] = "a b" }), `file name "a b"`},
		{"a file name with a line feed", with(func(s *Step) { s.Initrds[1] = "a\n" }), `file name "a\n"`},
		{"a file name that expands", with(func(s *Step) { s.Kernel = "a${b}" }), `file name "a${b}"`},
		{"a signature with a blank", with(func(s *Step) { s.Signatures = []string{"a", "b c", "d"} }), `file name "b c"`},
		{"a signature too few", with(func(s *Step) { s.Signatures = []string{"a", "b"} }), "2 signatures for a kernel and 2 initrds"},
		{"an argument with a single quote (G1)", with(func(s *Step) { s.Args[1].Value = "it's" }), "kernel argument muster.x"},
		{"arguments that fit alone, but not beside the loader's own (P2)", with(func(s *Step) {
			s.Args = kargs.Line{kargs.Set("k", strings.Repeat("x", kargs.MaxLine-10))}
		}), "with the boot loader's words"},
		{"an argument that loaders write", with(func(s *Step) { s.Args[1] = kargs.Set("initrd", "x") }), "boot loaders write it themselves"},
		{"a chain to nowhere", Step{Kind: StepChain}, `chain to ""`},
		{"a chain with a command", Step{Kind: StepChain, Chain: "http://h/x || reboot"}, "chain to"},
		{"a chain that expands", Step{Kind: StepChain, Chain: "tftp://h/${x}"}, "chain to"},
		{"a chain by another scheme", Step{Kind: StepChain, Chain: "file:///x"}, "chain to"},
		{"a word for a program with a blank", Step{Kind: StepChain, Chain: "x.efi", Words: []string{"-c", "a b"}}, "word 2"},
		{"a word for a program that ends the command", Step{Kind: StepChain, Chain: "x.efi", Words: []string{"||"}}, "word 1"},
		{"words for a program without an end", Step{Kind: StepChain, Chain: "x.efi", Words: []string{strings.Repeat("x", 3000)}}, "the kernel reads 2047"},
		{"W1: an argument that wimboot does not know", win(func(s *Step) { s.Args = append(s.Args, kargs.Set("console", "ttyS0")) }), "argument console=ttyS0: wimboot knows"},
		{"W1: an argument with more behind it", win(func(s *Step) { s.Args[1].Value = "2x" }), "argument index=2x"},
		{"W1: a virtual name of 32 characters", called(strings.Repeat("x", 28) + ".cmd"), "at most 31"},
		{"W1: a WIM of 32 characters", win(func(s *Step) { s.Initrds[0] = "a/" + strings.Repeat("x", 28) + ".wim" }), "at most 31"},
		{"a file that wimboot gives to the loader", called("BootMgr.exe"), "keeps that name"},
		{"a font", called("x.TTF"), "keeps that name"},
		{"a file in a folder", called("a/b.cmd"), "at most 31 letters"},
		{"a file twice, in another case", called("Unattend.XML"), "is there twice"},
		{"a file and one of the repo's", called("CURL.exe"), "is there twice"},
		{"a file from nowhere", win(func(s *Step) { s.Inject[0].URL = "http://h/a b" }), "file startnet.cmd: want an http"},
		{"no WIM", win(func(s *Step) { s.Initrds = s.Initrds[1:] }), "boots one WIM; here are 0"},
		{"two WIMs", win(func(s *Step) { s.Initrds = append(s.Initrds, "x.WIM") }), "boots one WIM; here are 2"},
		{"a WIM that climbs", win(func(s *Step) { s.Initrds[0] = "../boot.wim" }), `file name "../boot.wim"`},
		{"no wimboot", win(func(s *Step) { s.Kernel = "" }), "wimboot's name"},
		{"a menu of nothing", Step{Kind: StepMenu, Menu: &Menu{}}, "1 to 20 entries"},
		{"a menu without a menu", Step{Kind: StepMenu}, "1 to 20 entries"},
		{"menu text with a hot key (P2)", entry(func(e *Entry) { e.Text = "a^b" }), `text "a^b"`},
		{"menu text with a line feed (P2)", entry(func(e *Entry) { e.Text = "a\nLABEL x" }), "text"},
		{"menu text of nothing", entry(func(e *Entry) { e.Text = "" }), "text"},
		{"a label with a quote", entry(func(e *Entry) { e.Label = "a'b" }), "menu entry"},
		{"a label twice", entry(func(e *Entry) { e.Label = "ramdisk" }), `menu entry "ramdisk"`},
		{"a key twice", entry(func(e *Entry) { e.Key = "m" }), `key "m"`},
		{"a menu in a menu", entry(func(e *Entry) { e.Step = choices(false) }), `can not lead to step "menu"`},
		{"arguments of 5,000 bytes (P2)", with(func(s *Step) { s.Args[1].Value = strings.Repeat("x", 5000) }), "the kernel reads 2047"},
	} {
		for _, d := range []Dialect{IPXE, GRUB, PXELINUX} {
			t.Run(string(d)+" "+tt.name, func(t *testing.T) {
				got, err := Render(d, testBase, onBIOS, tt.step)
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("Render = %q, %v; want an error with %s", got, err, tt.says)
				}
			})
		}
	}
	if _, err := Render("lilo", testBase, onBIOS, installer()); err == nil {
		t.Error("a dialect that nobody speaks was rendered")
	}
}
