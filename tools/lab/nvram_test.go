package lab

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// emptyVars is an OVMF_VARS image with nothing set and room for size bytes.
func emptyVars(size int) []byte {
	image := make([]byte, 0x48)
	copy(image[40:], "_FVH")
	binary.LittleEndian.PutUint16(image[48:], 0x48)
	image = append(image, authStoreGUID...)
	image = binary.LittleEndian.AppendUint32(image, uint32(storeHeaderSize+size))
	image = append(image, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0) // formatted, healthy
	return append(image, bytes.Repeat([]byte{0xff}, size)...)
}

// globals reads back what is set, by an own walk over the image: names to data in hexadecimal.
func globals(t *testing.T, image []byte) map[string]string {
	t.Helper()
	s, err := openVarStore(image)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	if err := s.walk(func(at int, name string) {
		if _, twice := got[name]; twice {
			t.Errorf("%s is set twice", name)
		}
		n, d := binary.LittleEndian.Uint32(s.bytes[at+36:]), binary.LittleEndian.Uint32(s.bytes[at+40:])
		got[name] = hex.EncodeToString(s.bytes[at+varHeaderSize+int(n):][:d])
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBootOrderIsWrittenAsOVMFWritesIt(t *testing.T) {
	image := emptyVars(2048)
	s, err := openVarStore(image)
	if err != nil {
		t.Fatal(err)
	}
	mac := macAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	// The second order replaces the first.
	for _, options := range [][]bootOption{{{"x", filePath("x")}}, {{"N", pxePath(mac, 1)}, {"D", filePath("d")}}} {
		if err := s.setBootOrder(options); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"BootOrder": "80008100",
		// The path was read out of Boot0002 "UEFI PXEv4" that OVMF 2022.11 made for a NIC in this place.
		"Boot0080": "01000000" + "5600" + "4e000000" +
			"02010c00d041030a00000000" + "010106000001" +
			"030b2500525400123456" + strings.Repeat("00", 26) + "01" +
			"030c1b00" + strings.Repeat("00", 23) + "7fff0400",
		"Boot0081": "01000000" + "0c00" + "44000000" + "0404080064000000" + "7fff0400",
	}
	if diff := cmp.Diff(want, globals(t, image)); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

// TestBootOrderGoesIntoTheRealVariables: beside the keys of the image with Secure Boot, which stay as they are.
func TestBootOrderGoesIntoTheRealVariables(t *testing.T) {
	for _, fw := range []Firmware{UEFI, SecureBoot} {
		t.Run(string(fw), func(t *testing.T) {
			before, err := os.ReadFile(recipes[fw].vars)
			if err != nil {
				t.Skip(err)
			}
			path := filepath.Join(t.TempDir(), "vars.fd")
			c := MachineConfig{}
			if err := recipes[fw].writeVars(path, c.bootOptions([]macAddr{{2}, {4}})); err != nil {
				t.Fatal(err)
			}
			image, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			old, got := globals(t, before), globals(t, image)
			if got["BootOrder"] != "800081008200" {
				t.Errorf("BootOrder = %s; want 0080 0081 0082", got["BootOrder"])
			}
			for name, data := range old {
				if name != "BootOrder" && got[name] != data {
					t.Errorf("%s has changed", name)
				}
			}
			if len(image) != len(before) {
				t.Errorf("image has %d bytes; want %d", len(image), len(before))
			}
		})
	}
}

func TestHTTPBootIsAnotherPath(t *testing.T) {
	c := MachineConfig{HTTPBoot: true}
	options := c.bootOptions([]macAddr{{2}})
	uri := []byte{3, 24, 4, 0, 0x7f, 0xff, 4, 0} // an empty Uri() and the end
	if len(options) != 2 || !bytes.HasSuffix(options[0].path, uri) {
		t.Errorf("bootOptions() = %x; want a NIC with Uri() and the disk", options)
	}
}

func TestVarStoreRefusesWhatDoesNotAddUp(t *testing.T) {
	spoil := func(at int, b ...byte) []byte {
		image := emptyVars(256)
		copy(image[at:], b)
		return image
	}
	for _, tt := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"an empty file", nil, "no firmware volume"},
		{"a volume of something else", spoil(0x48, 1), "no store"},
		{"a store beyond the image", spoil(0x48+16, 0xff, 0xff, 0xff, 0xff), "store of 4294967295 bytes"},
		{"a variable beyond the store", spoil(0x48+28, 0xaa, 0x55, 0x3f), "beyond the store"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := openVarStore(tt.image); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("openVarStore() = %v; want %q", err, tt.want)
			}
		})
	}
	s, err := openVarStore(emptyVars(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.set("A", make([]byte, 100)); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("set() in a store without room = %v; want that it is full", err)
	}
}

func FuzzVarStore(f *testing.F) {
	full := emptyVars(512)
	if s, err := openVarStore(full); err != nil || s.setBootOrder([]bootOption{{"x", filePath("x")}}) != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add(emptyVars(8))
	f.Add([]byte("_FVH"))
	f.Fuzz(func(t *testing.T, image []byte) {
		s, err := openVarStore(image)
		if err != nil {
			return
		}
		if s.set("BootOrder", []byte{0x80, 0}) == nil && globals(t, image)["BootOrder"] != "8000" {
			t.Error("what was set is not there")
		}
	})
}

// TestVariablesAreForgotten: what the image brought is gone, and what is set afterwards is there.
func TestVariablesAreForgotten(t *testing.T) {
	image := emptyVars(2048)
	for _, name := range []string{"SecureBootEnable", "Boot0080"} {
		s, err := openVarStore(image)
		if err != nil {
			t.Fatal(err)
		}
		s.clear()
		if err := s.set(name, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"Boot0080": "01"}, globals(t, image)); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}
