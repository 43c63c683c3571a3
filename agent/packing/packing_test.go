package packing

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool gives what a program makes of in.
func tool(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	c := exec.Command(name, args...)
	var out, said bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, &said
	if err := c.Run(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, &said)
	}
	return out.Bytes()
}

func unpacked(b []byte) ([]byte, error) {
	raw, stop, err := New(bytes.NewReader(b), Detect(b))
	if err != nil {
		return nil, err
	}
	defer stop()
	return io.ReadAll(raw)
}

var text = bytes.Repeat([]byte("muster writes disks, "), 10_000)

// The programs of the field pack, we unpack.
func TestUnpackWhatOthersPack(t *testing.T) {
	for _, tt := range []struct {
		kind, program string
		args          []string
	}{
		{Zstd, "zstd", []string{"-19"}},
		{Zstd, "zstd", []string{"--ultra", "-21"}},
		{Gzip, "gzip", []string{"-9"}},
		{XZ, "xz", []string{"-9"}},
		{XZ, "xz", []string{"-0", "--check=none"}},
		{XZ, "xz", []string{"-T2", "--block-size=20000", "--check=sha256"}},
		{XZ, "xz", []string{"--check=crc32"}},
		{None, "cat", nil},
	} {
		t.Run(tt.program+" "+strings.Join(tt.args, " "), func(t *testing.T) {
			packed := tool(t, text, tt.program, tt.args...)
			if got := Detect(packed); got != tt.kind {
				t.Errorf("Detect = %s; want %s", got, tt.kind)
			}
			if got, err := unpacked(packed); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(text))
			}
			twice := append(bytes.Clone(packed), packed...)
			if got, err := unpacked(twice); err != nil || len(got) != 2*len(text) {
				t.Errorf("members in a row: %d bytes, %v; want %d", len(got), err, 2*len(text))
			}
			if got, err := unpacked(packed[:len(packed)-3]); tt.kind != None && err == nil {
				t.Errorf("a file that was cut unpacks to %d bytes without an error", len(got))
			}
		})
	}
}

func TestXZPadding(t *testing.T) {
	packed := tool(t, text, "xz")
	for _, tt := range []struct {
		zeros int
		ok    bool
	}{{4, true}, {4096, true}, {3, false}} {
		padded := append(append(bytes.Clone(packed), make([]byte, tt.zeros)...), packed...)
		if got, err := unpacked(padded); (err == nil) != tt.ok || tt.ok && len(got) != 2*len(text) {
			t.Errorf("%d zeros between streams: %d bytes, %v; want ok %t", tt.zeros, len(got), err, tt.ok)
		}
	}
	if got, err := unpacked(append(packed, "tail"...)); err == nil {
		t.Errorf("what is no stream after one: %d bytes and no error", len(got))
	}
}

// T37: what wants too much remembered is refused, and the command in the error makes a file that is taken.
func TestTheWindowIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		packed []byte
	}{
		{"xz with a dictionary of 128 MiB", tool(t, text, "xz", "--lzma2=preset=6,dict=128MiB")},
		{"xz whose second stream has it", append(tool(t, text, "xz"), tool(t, text, "xz", "--lzma2=preset=6,dict=1536MiB")...)},
		{"zstd with a window of 128 MiB", tool(t, text, "zstd", "--long=27")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := unpacked(tt.packed)
			if err == nil {
				t.Fatal("it was taken")
			}
			_, command, ok := strings.Cut(err.Error(), "packed with less: ")
			if !ok {
				t.Fatalf("the error %q names no command", err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "IN"), tt.packed, 0o600); err != nil {
				t.Fatal(err)
			}
			sh := exec.Command("sh", "-c", command)
			sh.Dir = dir
			if out, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
			smaller, err := os.ReadFile(filepath.Join(dir, "OUT"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unpacked(smaller); err != nil {
				t.Errorf("what %q made: %v", command, err)
			}
		})
	}
}

// The dictionary is refused before it is made: a file of 60 bytes costs no 4 GB.
func TestXZDictionaryIsNotTaken(t *testing.T) {
	head := []byte{2, 0, xzLZMA2, 1, 40, 0, 0, 0, 0, 0, 0, 0}
	if n, err := xzWindow(head); err != nil || n != 4<<30 {
		t.Errorf("window = %d, %v; want 4 GiB", n, err)
	}
	head[4] = 28 // xz -9
	if n, err := xzWindow(head); err != nil || n != 64<<20 {
		t.Errorf("window = %d, %v; want 64 MiB", n, err)
	}
	packed := tool(t, text, "xz", "--lzma2=preset=6,dict=1536MiB")
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := unpacked(packed); !errors.Is(err, ErrWindow) {
				b.Fatal(err)
			}
		}
	})
	if n := allocated.AllocedBytesPerOp(); n > 4<<20 {
		t.Errorf("the refusal takes %d bytes", n)
	}
}

// Z8. A crash, a hang or memory without bound is a failure.
func FuzzUnpack(f *testing.F) {
	small := []byte("muster")
	for _, args := range [][]string{{"zstd"}, {"gzip"}, {"xz"}, {"xz", "--block-size=2"}} {
		f.Add(tool(f, small, args[0], args[1:]...))
	}
	f.Add([]byte(XZMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, stop, err := New(bytes.NewReader(b), Detect(b))
		if err != nil {
			return
		}
		defer stop()
		_, _ = io.CopyN(io.Discard, raw, 16<<20)
	})
}
