package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/agent/facts"
)

const canary = "CANARY7f3a" // stands in files outside of the root only

// A hostileTree is the planted machine, of which files are put out of order and back in order.
type hostileTree struct {
	root    string
	outside string   // a directory beside the root
	files   []string // of the root, sorted
}

// plantHostile makes one beside a canary that answers to every name a collector asks a device for.
func plantHostile(t testing.TB) *hostileTree {
	t.Helper()
	h := &hostileTree{root: plantedMachine(t), outside: t.TempDir()}
	names := map[string]bool{"CANARY": true}
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			h.files = append(h.files, path)
			names[d.Name()] = true
		}
		return err
	})
	for name := range names {
		err = errors.Join(err, os.WriteFile(filepath.Join(h.outside, name), []byte(canary+"\n"), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(h.files)
	return h
}

// A spoiling is a way in which a file can be other than a collector thinks. Those that hang are not among them.
type spoiling struct {
	name  string
	spoil func(h *hostileTree, file string, content []byte) error
}

var spoils = []spoiling{
	{"gone", func(*hostileTree, string, []byte) error { return nil }},
	{"empty", func(_ *hostileTree, file string, _ []byte) error { return os.WriteFile(file, nil, 0o644) }},
	{"other bytes", func(_ *hostileTree, file string, content []byte) error { return os.WriteFile(file, content, 0o644) }},
	{"huge", func(_ *hostileTree, file string, content []byte) error {
		return os.WriteFile(file, bytes.Repeat(append(content, 'A'), 2*mib/(len(content)+1)), 0o644)
	}},
	{"sparse", func(_ *hostileTree, file string, _ []byte) error {
		return errors.Join(os.WriteFile(file, nil, 0o644), os.Truncate(file, 1<<40))
	}},
	{"a directory", func(_ *hostileTree, file string, _ []byte) error { return os.Mkdir(file, 0o755) }},
	{"a link to itself", func(_ *hostileTree, file string, _ []byte) error { return os.Symlink(filepath.Base(file), file) }},
	{"a link up", func(_ *hostileTree, file string, _ []byte) error { return os.Symlink("..", file) }},
	{"a link out of the root", func(h *hostileTree, file string, _ []byte) error {
		return os.Symlink(filepath.Join(h.outside, filepath.Base(file)), file)
	}},
	{"a relative link out of the root", func(h *hostileTree, file string, _ []byte) error {
		out, err := filepath.Rel(filepath.Dir(file), filepath.Join(h.outside, filepath.Base(file)))
		return errors.Join(err, os.Symlink(out, file))
	}},
	{"a link to a directory outside", func(h *hostileTree, file string, _ []byte) error { return os.Symlink(h.outside, file) }},
}

// spoil puts a file out of order, and gives what puts it back.
func (h *hostileTree) spoil(t testing.TB, file string, how int, content []byte) (restore func()) {
	t.Helper()
	saved := file + ".saved"
	if err := os.Rename(file, saved); err != nil {
		t.Fatal(err)
	}
	if err := spoils[how].spoil(h, file, content); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.RemoveAll(file), os.Rename(saved, file)); err != nil {
			t.Fatal(err)
		}
	}
}

// look runs all collectors on the tree and says what must hold of every tree: valid facts in time and in bounds,
// errors of a known code, no fault of ours, and nothing from outside.
func (h *hostileTree) look(t testing.TB, deadline time.Duration) Result {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := Run(context.Background(), Options{Root: h.root, Deadline: deadline})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256*mib {
		t.Errorf("%d MiB were allocated", used/mib)
	}
	if err := r.Facts.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	for _, e := range r.Errors {
		if !slices.Contains([]string{"missing", "parse", "io", "denied", "timeout", "shadowed"}, e.Code) {
			t.Errorf("error %+v", e)
		}
	}
	b, err := json.Marshal(facts.CheckIn{Facts: &r.Facts, State: &r.State, Errors: r.Errors, TimingMS: r.TimingMS})
	if err != nil || len(b) > facts.MaxBody {
		t.Errorf("a check-in of %d bytes, %v", len(b), err)
	}
	if i := strings.Index(strings.ToLower(string(b)), strings.ToLower(canary)); i >= 0 {
		t.Errorf("read outside of the root: %.200s", b[max(0, i-100):])
	}
	return r
}

// makePipe puts a FIFO in the place of a file, and gives what puts the file back and lets those go who wait.
func makePipe(t testing.TB, file string) (restore func()) {
	t.Helper()
	saved := file + ".saved"
	if err := errors.Join(os.Rename(file, saved), syscall.Mkfifo(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	return func() {
		for range 64 { // each that waits in open
			w, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				break
			}
			w.Close()
		}
		if err := errors.Join(os.Remove(file), os.Rename(saved, file)); err != nil {
			t.Fatal(err)
		}
	}
}

var sharedTree struct {
	sync.Mutex
	*hostileTree
}

// FuzzTree (Z21): a tree in which any few files are gone, empty, binary, huge, a directory, a link out of the root, or
// never answer. Each three bytes of the script name a file and a way; the rest is what stands in it.
func FuzzTree(f *testing.F) {
	sharedTree.hostileTree = plantHostile(f)
	at := func(suffix string) [2]byte {
		i := slices.IndexFunc(sharedTree.files, func(s string) bool { return strings.HasSuffix(s, suffix) })
		if i < 0 {
			f.Fatalf("no file %s", suffix)
		}
		return [2]byte{byte(i >> 8), byte(i)}
	}
	add := func(content string, script ...any) {
		var b []byte
		for i := 0; i < len(script); i += 2 {
			file, how := at(script[i].(string)), script[i+1].(string)
			n := slices.IndexFunc(spoils, func(s spoiling) bool { return s.name == how })
			b = append(b, file[0], file[1], byte(n))
		}
		f.Add(b, []byte(content))
	}
	add("MemTotal: 9223372036854775807 kB", "/proc/meminfo", "other bytes")
	add("", "/class/dmi/id/product_serial", "a link out of the root", "/proc/cpuinfo", "a relative link out of the root")
	add("processor: 0\nprocessor: 99999999999\n", "/proc/cpuinfo", "other bytes")
	add("0-8191,0-8191", "/cpu/online", "other bytes")
	add("\x1b[2J\xff\x00\u202e", "/sys/firmware/dmi/tables/DMI", "huge", "/class/dmi/id/board_name", "other bytes")
	add("9223372036854775807", "/block/sda/size", "other bytes", "/block/sdb/size", "huge")
	f.Fuzz(func(t *testing.T, script, content []byte) {
		sharedTree.Lock()
		defer sharedTree.Unlock()
		h := sharedTree.hostileTree
		seen := map[string]bool{}
		deadline := patient
		for ; len(script) >= 3 && len(seen) < 8; script = script[3:] {
			file := h.files[(int(script[0])<<8|int(script[1]))%len(h.files)]
			if seen[file] {
				continue
			}
			seen[file] = true
			how := int(script[2]) % (len(spoils) + 1)
			if how == len(spoils) {
				deadline = 500 * time.Millisecond
				defer makePipe(t, file)()
				continue
			}
			defer h.spoil(t, file, how, content[:min(len(content), 4096)])()
		}
		start := time.Now()
		h.look(t, deadline)
		if took := time.Since(start); deadline != patient && took > (mostDeadlines+8)*deadline {
			t.Errorf("took %v with a file that hangs", took)
		}
	})
}

// Issue 3, bad input: each kind costs what it is in, and has a name.
func TestBadFiles(t *testing.T) {
	const sda, eth2 = "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda/", "/sys/devices/pci0000:00/0000:00:11.0/0000:02:00.0/net/eth2/"
	for _, tt := range []struct {
		name, file, how, content string
		want                     string // code, collector and message; "" when absence tells
		good                     func(f facts.Facts) bool
	}{
		{"an empty serial is not known", "/sys/class/dmi/id/product_serial", "empty", "", "", func(f facts.Facts) bool { return f.System.Serial == "" }},
		{"a serial of bytes is what of it is text", "/sys/class/dmi/id/product_serial", "other bytes", "\xff\x00AB\x1b[2JCD\xfe1\n", "",
			func(f facts.Facts) bool { return f.System.Serial == "AB [2JCD1" }},
		{"a serial of megabytes is none", "/sys/class/dmi/id/product_serial", "huge", "S1",
			"parse system read /sys/class/dmi/id/product_serial: more than 64 KiB", func(f facts.Facts) bool { return f.System.Serial == "" && f.System.Product != "" }},
		{"a serial without end is none", "/sys/class/dmi/id/board_serial", "sparse", "",
			"parse baseboard read /sys/class/dmi/id/board_serial: more than 64 KiB", func(f facts.Facts) bool { return f.Baseboard.Serial == "" }},
		{"a model of megabytes is none", "/0:0:0:0/model", "huge", "M",
			"parse disks read /sys/block/sda/device/model: more than 64 KiB", func(f facts.Facts) bool { return len(f.Disks) == 7 && f.Incomplete == nil }},
		{"a disk without a size is no disk of 0 bytes", sda + "size", "empty", "", `parse disks sda: size "": want a number of sectors`,
			func(f facts.Facts) bool { return len(f.Disks) == 6 && slices.Equal(f.Incomplete, []string{"disks"}) }},
		{"nor is one whose size is a word", sda + "size", "other bytes", "many\n", `parse disks sda: size "many": want a number of sectors`,
			func(f facts.Facts) bool { return len(f.Disks) == 6 }},
		{"a directory in the place of an attribute", eth2 + "address", "a directory", "", "", func(f facts.Facts) bool { return len(f.NICs) == 3 && f.NICs[1].MAC == "" }},
		{"a list of processors that is none", "/cpu/online", "other bytes", "0-99999\n", `parse cpu /sys/devices/system/cpu/online: parse list "0-99999": bad range "0-99999"`,
			func(f facts.Facts) bool { return f.CPU == nil }},
		{"a memory of more bytes than there are", "/proc/meminfo", "other bytes", "MemTotal: 9999999999999999 kB\n", "parse memory /proc/meminfo: MemTotal of",
			func(f facts.Facts) bool { return f.Memory == nil }},
		{"SMBIOS of nothing but FFh", "/tables/DMI", "huge", "\xff", "parse memory SMBIOS structure 0: ", func(f facts.Facts) bool { return f.Memory == nil || f.Memory.DIMMs == nil }},
		{"SMBIOS of structures without end", "/tables/DMI", "huge", "\x0b\x05\x00\x01\x00\x00\x00", "parse oem_strings SMBIOS structure", func(f facts.Facts) bool { return len(f.OEMStrings) == 0 }},
		{"a link out of the root leads nowhere", "/sys/class/dmi/id/sys_vendor", "a link out of the root", "", "", func(f facts.Facts) bool { return f.System.Manufacturer == "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := plantHostile(t)
			at := slices.IndexFunc(h.files, func(s string) bool { return strings.HasSuffix(s, tt.file) })
			if at < 0 {
				t.Fatalf("no file %s", tt.file)
			}
			h.spoil(t, h.files[at], slices.IndexFunc(spoils, func(s spoiling) bool { return s.name == tt.how }), []byte(tt.content))
			r := h.look(t, patient)
			if !tt.good(r.Facts) {
				b, _ := json.Marshal(r.Facts)
				t.Errorf("facts %s", b)
			}
			found := tt.want == ""
			for _, e := range r.Errors {
				found = found || strings.HasPrefix(e.Code+" "+e.Collector+" "+e.Msg, tt.want)
			}
			if !found || (tt.want == "") != (len(r.Errors) == 0) {
				t.Errorf("errors %+v; want %q", r.Errors, tt.want)
			}
		})
	}
}

// What goes while it is read is not there with half of what it was: it is named.
func TestVanishing(t *testing.T) {
	root := plantedMachine(t)
	m, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for _, name := range []string{"sys/block/sda", "sys/class/net/eth2"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil { // between the list and the look
			t.Fatal(err)
		}
	}
	if d, err := (machine{tree: m}).wholeDisk("sda"); code(err) != "missing" || !strings.HasPrefix(err.Error(), "went while it was read") {
		t.Errorf("disk %+v, %v", d, err)
	}
	if n, err := (machine{tree: m}).wholeNIC("eth2"); code(err) != "missing" || !strings.HasPrefix(err.Error(), "went while it was read") {
		t.Errorf("NIC %+v, %v", n, err)
	}
}

// A directory of more names than a document may carry is cut, and says so.
func TestManyNames(t *testing.T) {
	root := t.TempDir()
	for i := range maxEntries + 1 {
		if err := os.MkdirAll(filepath.Join(root, usbDir, "x"+strings.Repeat("y", i%200)+string(rune('a'+i/200))), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"usb"}})
	if len(r.Errors) != 1 || r.Errors[0].Code != "parse" || r.Errors[0].Msg != "list /sys/bus/usb/devices: more than 4096 names" || len(r.Facts.Incomplete) != 1 {
		t.Errorf("errors %+v, incomplete %v", r.Errors, r.Facts.Incomplete)
	}
}

// T55: names that devices have in sysfs are text of the machine like any other.
func TestHostileNames(t *testing.T) {
	root := plantedMachine(t)
	const evil = "\x1b]0;x\a\n\xff"
	for from, to := range map[string]string{"sys/block/sdc": "sys/block/sd" + evil, "sys/class/net/eth2": "sys/class/net/eth" + evil,
		"sys/block/sr0": "sys/block/sr0" + evil} {
		if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	driver := filepath.Join(root, "sys/devices/pci0000:00/0000:00:1f.2/driver")
	if err := errors.Join(os.Remove(driver), os.Symlink("../../../bus/pci/drivers/ahci"+evil, driver)); err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), Options{Root: root, Deadline: patient})
	if err := r.Facts.Validate(); err != nil {
		t.Error(err)
	}
	if d, n := r.Facts.Disks[0], r.Facts.NICs[1]; d.Name != "sd ]0;x" || d.Serial != "SCSI0001" || n.Name != "eth ]0;x" || n.MAC != "00:1b:21:aa:00:03" {
		t.Errorf("disk %+v, NIC %+v", d, n)
	}
	if c := r.Facts.Controllers[2]; c.Driver != "ahci ]0;x" {
		t.Errorf("controller %+v", c)
	}
	for _, e := range r.Errors {
		if e.Collector != "disks" || !strings.HasPrefix(e.Msg, "sd ]0;x") { // it has no device node
			t.Errorf("error %+v", e)
		}
	}
}
