package initramfs

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// S34: the programs that own the formats unpack what is written, and two writings are the same.
func TestCompressions(t *testing.T) {
	packed := make(tree)
	packed.addSkeleton()
	if err := packed.addBytes("etc/text", bytes.Repeat([]byte("the same again "), 1<<17)); err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if err := packed.writeTo(t.Context(), time.Unix(1e9, 0), &plain); err != nil {
		t.Fatal(err)
	}
	for _, name := range Compressions() {
		t.Run(name, func(t *testing.T) {
			write := func() (*Manifest, []byte) {
				var out bytes.Buffer
				m, err := writeMeasured(t.Context(), packed, time.Unix(1e9, 0), &out, compressor(name))
				if err != nil {
					t.Fatal(err)
				}
				return m, out.Bytes()
			}
			m, first := write()
			if _, second := write(); !bytes.Equal(first, second) {
				t.Error("two writings differ")
			}
			if m.Format != name || len(m.Entries) != len(packed) || m.Total.Gzip != int64(len(first)) {
				t.Errorf("read back as %s with %d entries, %d bytes", m.Format, len(m.Entries), m.Total.Gzip)
			}
			if diff := cmp.Diff(plain.Bytes(), unpackWith(t, name, first)); diff != "" {
				t.Errorf("%s unpacks something else", name)
			}
		})
	}
}

// unpackWith runs the program of a compression, if it is here. Of xz it also wants what a kernel can check.
func unpackWith(t *testing.T, name string, packed []byte) []byte {
	if name == "none" {
		return packed
	}
	program, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	cmd := exec.Command(program, "-dc")
	cmd.Stdin = bytes.NewReader(packed)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if name == "xz" && packed[7] != 1 { // stream flags, second byte: 1 is CRC32
		t.Errorf("check %#x; a kernel knows CRC32 alone", packed[7])
	}
	return out
}

func TestUnknownCompression(t *testing.T) {
	if _, err := Build(t.Context(), Config{Compress: "lzo"}, io.Discard); err == nil {
		t.Error("lzo was written")
	}
}
