package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Lines as depmod writes them for Debian's 6.1 kernel.
const (
	depTable = `kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko: kernel/drivers/ptp/ptp.ko kernel/drivers/pps/pps_core.ko
kernel/drivers/ptp/ptp.ko: kernel/drivers/pps/pps_core.ko
kernel/drivers/pps/pps_core.ko:
kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko
kernel/drivers/nvme/host/nvme-core.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/scsi/virtio_scsi.ko:
kernel/drivers/ata/ahci.ko:
kernel/drivers/scsi/megaraid/megaraid_sas.ko:
kernel/drivers/usb/host/xhci-pci.ko: kernel/drivers/usb/host/xhci-hcd.ko
kernel/drivers/usb/host/xhci-hcd.ko:
kernel/drivers/usb/storage/uas.ko: kernel/drivers/usb/storage/usb-storage.ko
kernel/drivers/usb/storage/usb-storage.ko:
kernel/drivers/scsi/sd_mod.ko: kernel/lib/crc-t10dif.ko
kernel/lib/crc-t10dif.ko:
kernel/crypto/crct10dif_generic.ko:
kernel/drivers/scsi/sr_mod.ko:
kernel/drivers/char/ipmi/ipmi_si.ko:
kernel/drivers/char/ipmi/ipmi_ssif.ko:
kernel/drivers/platform/x86/dell/dcdbas.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/efivarfs/efivarfs.ko:
kernel/lib/circle-a.ko: kernel/lib/circle-b.ko
kernel/lib/circle-b.ko: kernel/lib/circle-a.ko
`
	aliasTable = `# Aliases extracted from modules themselves.
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
alias virtio:d00000002v* virtio_blk
alias virtio:d00000008v* virtio_scsi
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v00001000d00000079sv*sd*bc*sc*i* megaraid_sas
alias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* uas
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias scsi:t-0x00* sd_mod
alias scsi:t-0x0[45]* sr_mod
alias acpi*:IPI0001:* ipmi_si
alias acpi*:IPI0001:* ipmi_ssif
alias dmi*:[bs]vnDell*:*:rnDELL* dcdbas
alias crct10dif crct10dif_generic
`
	softdepTable = `softdep sd_mod pre: crct10dif post: sr_mod
softdep ext4 pre: crc32c
`
)

// insertions records what is loaded, in order.
type insertions struct {
	mu     sync.Mutex
	names  []string
	params map[string]string
	fail   map[string]error
}

func (i *insertions) insert(path, params string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := moduleName(path)
	i.names = append(i.names, name)
	i.params[name] = params
	return i.fail[name]
}

// fixtureModules is a module directory with the tables above.
func fixtureModules(t *testing.T, blacklist ...string) (*Modules, *insertions, string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules/6.1.0")
	put(t, filepath.Join(dir, "modules.dep"), depTable)
	put(t, filepath.Join(dir, "modules.alias"), aliasTable)
	put(t, filepath.Join(dir, "modules.softdep"), softdepTable)
	put(t, filepath.Join(dir, "modules.load"), "efivarfs\n")
	i := &insertions{params: map[string]string{}, fail: map[string]error{}}
	m, err := OpenModules(root, "6.1.0", blacklist, i.insert)
	if err != nil {
		t.Fatal(err)
	}
	return m, i, root
}

// The goldens of real machines and of QEMU.
func TestMatch(t *testing.T) {
	m, _, _ := fixtureModules(t)
	for _, row := range []struct{ modalias, want string }{
		{"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "e1000e"},
		{"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "nvme"},
		{"pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", "virtio_pci"},
		{"virtio:d00000001v00001AF4", "virtio_net"},
		{"virtio:d00000002v00001AF4", "virtio_blk"},
		{"virtio:d00000008v00001AF4", "virtio_scsi"},
		{"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "ahci"},
		{"pci:v00001000d00000079sv00001000sd00009261bc01sc04i00", "megaraid_sas"},
		{"pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30", "xhci_pci"},
		{"usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00", "uas usb_storage"},
		{"scsi:t-0x00", "sd_mod"},
		{"scsi:t-0x05", "sr_mod"},
		{"acpi:IPI0001:", "ipmi_si ipmi_ssif"},
		{"acpi:MSFT0101:", ""},                                        // built in
		{"dmi:bvnDellInc.:bvr2.19:rnDELLBoard:", ""},                  // not followed
		{"pci:v00008086d000010d3sv00008086sd00000000bc02sc00i00", ""}, // case counts
	} {
		if got := strings.Join(m.Match(row.modalias), " "); got != row.want {
			t.Errorf("Match(%q) = %q; want %q", row.modalias, got, row.want)
		}
	}
}

func TestLoad(t *testing.T) {
	for _, row := range []struct {
		name      string
		load      []string
		blacklist string
		want      string // insertions in order
	}{
		{"what a module needs comes first", []string{"e1000e"}, "", "pps_core ptp e1000e"},
		{"dash and underscore are one letter", []string{"nvme", "nvme_core", "nvme-core"}, "", "nvme_core nvme"},
		{"nothing is loaded twice", []string{"virtio_net", "virtio_blk"}, "", "virtio virtio_ring virtio_net virtio_blk"},
		{"a softdep may name an alias", []string{"sd_mod"}, "", "crct10dif_generic crc_t10dif sd_mod"},
		{"a softdep that is not there is no fault", []string{"ext4"}, "", "jbd2 ext4"},
		{"a module of the blacklist stays out", []string{"ahci", "sr_mod"}, "ahci", "sr_mod"},
		{"a circle in the tables ends", []string{"circle_a"}, "", "circle_b circle_a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, i, _ := fixtureModules(t, row.blacklist)
			for _, name := range row.load {
				if err := m.Load(t.Context(), name); err != nil {
					t.Errorf("Load(%q): %v", name, err)
				}
			}
			if got := strings.Join(i.names, " "); got != row.want {
				t.Errorf("inserted %q; want %q", got, row.want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	m, i, _ := fixtureModules(t)
	i.fail["pps_core"] = syscall.EEXIST // part of the kernel or loaded by another
	i.fail["jbd2"] = syscall.ENOEXEC
	if err := m.Load(t.Context(), "e1000e"); err != nil {
		t.Errorf("a module that is there already is no fault: %v", err)
	}
	if err := m.Load(t.Context(), "ext4"); !errors.Is(err, syscall.ENOEXEC) || !strings.Contains(err.Error(), "load ext4") {
		t.Errorf("Load(ext4) = %v; want load ext4: ENOEXEC", err)
	}
	if slices.Contains(i.names, "ext4") {
		t.Error("ext4 was inserted without jbd2")
	}
	if err := m.Load(t.Context(), "zfs"); err == nil {
		t.Error("Load(zfs) of a ramdisk without it gave no error")
	}
	if got := m.Loaded(); slices.Contains(got, "pps_core") || !slices.Contains(got, "e1000e") {
		t.Errorf("Loaded() = %v", got)
	}
}

// What is needed by others is inserted without waiting for devices; what was asked for, last, waits for all of them.
func TestNeedsDoNotWaitForDevices(t *testing.T) {
	m, i, _ := fixtureModules(t)
	for _, name := range []string{"virtio_blk", "virtio_net", "ahci"} {
		if err := m.Load(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"virtio": "async_probe", "virtio_ring": "async_probe", "virtio_blk": "", "virtio_net": "", "ahci": ""}
	if diff := cmp.Diff(want, i.params); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

// Virtio disks appear behind their PCI device only once its driver is there.
func TestColdplugFollowsNewBuses(t *testing.T) {
	m, i, root := fixtureModules(t)
	bus := filepath.Join(root, "sys/bus")
	put(t, filepath.Join(bus, "pci/devices/0000:00:03.0/modalias"), "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00\n")
	put(t, filepath.Join(bus, "pci/devices/0000:00:04.0/modalias"), "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n")
	m.insert = func(path, params string) error {
		if moduleName(path) == "virtio_pci" {
			put(t, filepath.Join(bus, "virtio/devices/virtio0/modalias"), "virtio:d00000001v00001AF4\n")
		}
		return i.insert(path, params)
	}
	s := &screen{}
	p := &Plug{Root: root, Modules: m, Now: func() time.Time { return time.Time{} }, Console: &Console{W: s, Uptime: func() time.Duration { return 0 }}}
	if err := p.Coldplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Hotplug(t.Context(), "scsi:t-0x05")
	p.Hotplug(t.Context(), "scsi:t-0x05")
	p.await()
	want := []string{"ahci", "efivarfs", "sr_mod", "virtio", "virtio_net", "virtio_pci", "virtio_ring"}
	if diff := cmp.Diff(want, m.Loaded()); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	if !strings.Contains(s.String(), "loaded 6 modules in 0.0 s: ahci efivarfs virtio") {
		t.Errorf("console: %s", s)
	}
	if len(i.names) != 7 {
		t.Errorf("inserted %v; want each once", i.names)
	}
}

// Devices come while the loading of others is waited for.
func TestEventsComeAtAnyTime(t *testing.T) {
	m, i, root := fixtureModules(t)
	p := &Plug{Root: root, Modules: m}
	var events sync.WaitGroup
	for bus := range 3 {
		events.Go(func() {
			for n := range 10000 {
				p.Hotplug(t.Context(), fmt.Sprintf("scsi:t-0x05-%d-%d", bus, n))
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		events.Wait()
		close(ended)
	}()
	for going := true; going; p.await() {
		select {
		case <-ended:
			going = false
		default:
		}
	}
	if got := strings.Join(i.names, " "); got != "sr_mod" || p.loading != 0 {
		t.Errorf("inserted %q, %d are being loaded; want sr_mod once, and none", got, p.loading)
	}
}

// Work for a disk controller comes first, whatever the buses and devices are called, and while its ports are looked at the
// others are loaded: its insertion ends here only after that of the NIC's bus, on a machine with one processor.
func TestColdplugBeginsWithTheDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, i, root := fixtureModules(t)
		m.slots = make(chan struct{}, 1)
		m.always = nil
		bus := filepath.Join(root, "sys/bus/pci/devices")
		put(t, filepath.Join(bus, "0000:00:01.0/modalias"), "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n")
		put(t, filepath.Join(bus, "0000:00:04.0/modalias"), "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\n")
		link := make(chan struct{})
		m.insert = func(path, params string) error {
			switch moduleName(path) {
			case "nvme":
				<-link
			case "e1000e":
				defer close(link)
			}
			return i.insert(path, params)
		}
		p := &Plug{Root: root, Modules: m, Now: time.Now}
		if err := p.Coldplug(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(i.names, " "); got != "nvme_core pps_core ptp e1000e nvme" {
			t.Errorf("inserted %q; want what the disks need, then the NIC, then the disks", got)
		}
	})
}

// What makes loading faster comes before everything, one after the other, and one that the processor lacks stops nothing.
func TestColdplugLoadsTheFirstFirst(t *testing.T) {
	_, i, root := fixtureModules(t)
	put(t, filepath.Join(root, "sys/bus/pci/devices/0000:00:04.0/modalias"), "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n")
	put(t, filepath.Join(root, "lib/modules/6.1.0/modules.first"), "# of the signatures\njbd2\ncrct10dif_generic\n")
	m, err := OpenModules(root, "6.1.0", nil, i.insert)
	if err != nil {
		t.Fatal(err)
	}
	i.fail["jbd2"] = syscall.ENODEV
	m.always = nil
	if err := (&Plug{Root: root, Modules: m, Now: time.Now}).Coldplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(i.names, " "); got != "jbd2 crct10dif_generic ahci" {
		t.Errorf("inserted %q; want jbd2 crct10dif_generic ahci", got)
	}
}

func TestColdplugWithoutModules(t *testing.T) {
	m, err := OpenModules(t.TempDir(), "6.1.0", nil, func(string, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p := &Plug{Root: t.TempDir(), Modules: m, Now: func() time.Time { return time.Time{} }}
	if err := p.Coldplug(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Coldplug without /sys = %v; want that it does not exist", err)
	}
}

func TestGlobs(t *testing.T) {
	for _, row := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"a*", "a", true}, {"a*b*c", "aXbYbc", true}, {"a*b*c", "aXbYb", false},
		{"?", "", false}, {"a?c", "abc", true}, {"[0-9a-f]", "e", true}, {"[!0-9]", "5", false}, {"[^0-9]x", "ax", true},
		{"[45]*", "5z", true}, {"[", "[", true}, {"[]", "[]", true}, {`\*`, "*", true}, {`\*`, "x", false}, {"a**b", "ab", true},
		{"of:N*T*Cvendor,x", "of:NfooT<NULL>Cvendor,x", true}, {"a/b*", "a/b/c", true}, {"A", "a", false},
	} {
		if got := globs(row.pattern, row.name); got != row.want {
			t.Errorf("globs(%q, %q) = %t; want %t", row.pattern, row.name, got, row.want)
		}
	}
}

// FuzzModuleTables: tables of a damaged or hostile ramdisk end in an error or in a set that answers, never in a path
// outside the module directory.
func FuzzModuleTables(f *testing.F) {
	f.Add(depTable, aliasTable, softdepTable, "scsi:t-0x05")
	f.Add("../../etc/passwd: x.ko\n", "alias * x\n", "softdep a pre: a\n", "pci:")
	f.Add("a.ko: b.ko\nb.ko: a.ko\n", "alias pci:[ a\nalias pci:[!] a\n", "softdep a pre: b\nsoftdep b pre: a\n", "pci:[")
	f.Fuzz(func(t *testing.T, dep, aliases, soft, modalias string) {
		var bad error
		m := &Modules{dir: "/lib/modules/x", aliases: map[string][]alias{}, files: map[string]moduleFile{},
			pre: map[string][]string{}, begun: map[string]*loading{}, slots: make(chan struct{}, 1)}
		m.insert = func(path, params string) error {
			if !strings.HasPrefix(path, "/lib/modules/x/") {
				bad = errors.New(path)
			}
			return nil
		}
		_ = m.parseDep(strings.NewReader(dep))
		_ = m.parseAlias(strings.NewReader(aliases))
		_ = m.parseSoftdep(strings.NewReader(soft))
		for _, name := range append(m.Match(modalias), "a") {
			_ = m.Load(t.Context(), name)
		}
		if bad != nil {
			t.Errorf("inserted %v, outside the module directory", bad)
		}
	})
}

func FuzzGlobs(f *testing.F) {
	f.Add("a*b?[c-d]", "aXbYc")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 1000 || len(name) > 1000 {
			return
		}
		_ = globs(pattern, name)
		plainName := !strings.ContainsAny(name, `*?[\`)
		if plainName && (!globs(name, name) || !globs(name+"*", name) || !globs("*"+name, name)) {
			t.Errorf("%q does not match itself", name)
		}
	})
}
