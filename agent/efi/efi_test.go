package efi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func le(numbers ...uint16) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

// loadOption is an entry of somebody else.
func loadOption(description string, path ...[]byte) []byte {
	all := append(bytes.Join(path, nil), node(0x7f, 0xff, nil)...)
	b := append(binary.LittleEndian.AppendUint32(nil, 1), le(uint16(len(all)))...)
	return append(append(b, wide(description)...), all...)
}

var (
	nic    = loadOption("UEFI PXEv4", node(3, 11, make([]byte, 33)), node(3, 12, make([]byte, 23)))
	disk   = loadOption("debian", node(4, 4, wide(`\EFI\debian\shimx64.efi`)))
	posing = loadOption("not muster: x", node(4, 4, wide(`\EFI\x.efi`)))
	earlie = loadOption("muster: old", node(4, 4, wide(`\EFI\old.efi`)))
)

var entry = Entry{Name: "debian-12", Loader: "/EFI/debian/shimx64.efi",
	Partition: Partition{Number: 15, First: 4096, Count: 32768, GUID: [16]byte{0x28, 0x73, 0x2a, 0xc1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}}

// variables fills a directory as the kernel shows it.
func variables(t testing.TB, vars map[string][]byte) Dir {
	t.Helper()
	d := Dir(t.TempDir())
	for name, data := range vars {
		if err := d.Set(name, data); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestInstall(t *testing.T) {
	for _, tt := range []struct {
		name   string
		vars   map[string][]byte
		at     string
		behind string
		order  []byte
		gone   []string
	}{
		{"behind the entry that started this boot", map[string][]byte{"Boot0000": disk, "Boot0001": nic, "Boot0002": nic, "BootOrder": le(1, 2, 0), "BootCurrent": le(1)},
			"Boot0003", "Boot0001", le(1, 3, 2, 0), nil},
		{"behind the last network entry, when this boot was started otherwise", map[string][]byte{"Boot0001": nic, "Boot0002": nic, "Boot0004": disk, "BootOrder": le(1, 2, 4), "BootCurrent": le(9)},
			"Boot0000", "Boot0002", le(1, 2, 0, 4), nil},
		{"first, when the order asks no network", map[string][]byte{"Boot0000": disk, "BootOrder": le(0), "BootCurrent": le(7)},
			"Boot0001", "", le(1, 0), nil},
		{"alone, when there is no order", map[string][]byte{}, "Boot0000", "", le(0), nil},
		{"in place of earlier ones, wherever they stood", map[string][]byte{"Boot0000": earlie, "Boot0001": nic, "Boot0002": earlie, "Boot0003": disk, "BootOrder": le(2, 0, 1, 3), "BootCurrent": le(1)},
			"Boot0000", "Boot0001", le(1, 0, 3), []string{"Boot0002"}},
		{"beside one that only looks like it", map[string][]byte{"Boot0000": posing, "Boot0001": nic, "BootOrder": le(1, 0), "BootCurrent": le(1)},
			"Boot0002", "Boot0001", le(1, 2, 0), nil},
		{"beside entries that make no sense", map[string][]byte{"Boot0000": {1}, "Boot0001": nic, "Bootabcd": disk, "Boot00": disk, "BootOrder": le(1, 0), "BootCurrent": le(1)},
			"Boot0002", "Boot0001", le(1, 2, 0), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := variables(t, tt.vars)
			at, behind, err := Install(d, entry)
			if err != nil || at != tt.at || behind != tt.behind {
				t.Errorf("Install = %s behind %q, %v; want %s behind %q", at, behind, err, tt.at, tt.behind)
			}
			want := map[string][]byte{tt.at: entry.Option(), "BootOrder": tt.order}
			for name, data := range tt.vars { // of others: nothing is touched
				if _, changed := want[name]; !changed {
					want[name] = data
				}
			}
			for _, name := range tt.gone {
				delete(want, name)
			}
			got := map[string][]byte{}
			names, err := d.List()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if got[name], err = d.Get(name); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A write that fails leaves what the machine started by, and the same again writes nothing.
func TestInstallFailsSafely(t *testing.T) {
	v := &counting{Dir: variables(t, map[string][]byte{"Boot0001": nic, "BootOrder": le(1), "BootCurrent": le(1)}), left: 1}
	if _, _, err := Install(v, entry); err == nil || !strings.Contains(err.Error(), "write BootOrder: the firmware's memory is full") {
		t.Errorf("Install = %v", err)
	}
	if order, err := v.Get("BootOrder"); err != nil || !bytes.Equal(order, le(1)) {
		t.Errorf("BootOrder is % x, %v", order, err)
	}
	v.left = 10
	for range 2 {
		if _, _, err := Install(v, entry); err != nil {
			t.Fatal(err)
		}
	}
	if v.left != 9 {
		t.Errorf("%d writes; want one, of the order: the entry was there from the first try", 10-v.left)
	}
}

type counting struct {
	Dir
	left int
}

func (c *counting) Set(name string, data []byte) error {
	if c.left--; c.left < 0 {
		return errors.New("the firmware's memory is full")
	}
	return c.Dir.Set(name, data)
}

// efibootmgr reads our entry as it is meant.
func TestEfibootmgrReadsIt(t *testing.T) {
	if _, err := exec.LookPath("efibootmgr"); err != nil {
		t.Skip("efibootmgr is not installed")
	}
	d := variables(t, map[string][]byte{"Boot0001": nic, "BootOrder": le(1), "BootCurrent": le(1), "Timeout": le(0)})
	if _, _, err := Install(d, entry); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("efibootmgr", "-v")
	c.Env = append(os.Environ(), "EFIVARFS_PATH="+filepath.Clean(string(d))+"/")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"BootOrder: 0001,0000", "Boot0000* muster: debian-12", `HD(15,GPT,c12a7328-0201-0403-0506-0708090a0b0c,0x1000,0x8000)/File(\EFI\debian\shimx64.efi)`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("efibootmgr does not say %q:\n%s", want, out)
		}
	}
}

// Whatever the firmware holds, our own entry is told from others, and reading ends.
func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{nic, disk, posing, entry.Option()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := parse("Boot0000", b)
		if o.ours != (len(b) >= 6 && bytes.HasPrefix(b[6:], wide(prefix)[:2*len(prefix)])) {
			t.Errorf("ours = %t", o.ours)
		}
	})
}
