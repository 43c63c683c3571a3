package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// image is two chunks of bytes around one of zeros, and a rest.
func image() []byte {
	b := make([]byte, 3*Size+700)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	clear(b[Size : 2*Size])
	return b
}

func TestTheListOfAnImage(t *testing.T) {
	raw := image()
	l, err := Read(iotest.OneByteReader(bytes.NewReader(raw[:9])))
	if err != nil || l.Raw != 9 || len(l.Sums) != 1 || l.Sums[0] != Sum(sha256.Sum256(raw[:9])) {
		t.Errorf("of nine bytes: %+v, %v", l, err)
	}
	if l, err = Read(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	want := []Sum{sha256.Sum256(raw[:Size]), {}, sha256.Sum256(raw[2*Size : 3*Size]), sha256.Sum256(raw[3*Size:])}
	if diff := cmp.Diff(&List{Size, int64(len(raw)), want}, l); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	again, err := Decode(l.Encode())
	if diff := cmp.Diff(l, again); diff != "" || err != nil {
		t.Errorf("encoded and decoded: %v, -want +got\n%s", err, diff)
	}
	if l.Zero(0) || !l.Zero(1) || l.Len(0) != Size || l.Len(3) != 700 {
		t.Errorf("chunk 0 zero %t, 1 zero %t, lengths %d %d", l.Zero(0), l.Zero(1), l.Len(0), l.Len(3))
	}
}

func TestAChunkIsCheckedAlone(t *testing.T) {
	raw := image()
	l, err := Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Sums {
		one := raw[int64(i)*Size:][:l.Len(i)]
		if err := l.Check(i, one); err != nil {
			t.Errorf("chunk %d: %v", i, err)
		}
		for _, at := range []int{0, len(one) / 2, len(one) - 1} {
			one[at] ^= 0x80
			if err := l.Check(i, one); err == nil || !strings.Contains(err.Error(), l.Sums[i].String()+" was promised") {
				t.Errorf("chunk %d with byte %d changed: %v", i, at, err)
			}
			one[at] ^= 0x80
		}
	}
}

func TestReadGivesTheReadersError(t *testing.T) {
	gone := errors.New("gone")
	if _, err := Read(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(gone))); !errors.Is(err, gone) {
		t.Errorf("Read = %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	list := func(size, raw uint64, sums int) string {
		b := binary.LittleEndian.AppendUint64([]byte(magic), size)
		return string(binary.LittleEndian.AppendUint64(b, raw)) + strings.Repeat("s", sums)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "no list"},
		{"another version", strings.Replace(list(Size, 1, 32), "1\n", "2\n", 1), "no list"},
		{"a cut head", list(Size, 1, 0)[:headBytes-1], "no list"},
		{"chunks of nothing", list(0, 1, 32), "power of two"},
		{"chunks of a gigabyte, which somebody would hold in memory", list(1<<30, 1, 32), "power of two"},
		{"chunks of no round size", list(3<<20, 1, 32), "power of two"},
		{"an image of nothing", list(Size, 0, 0), "an image of 0 bytes"},
		{"an image without end", list(Size, 1<<63, 32), "an image of 9223372036854775808 bytes"},
		{"a sum missing", list(Size, Size+1, 32), "32 bytes of sums for 2 chunks"},
		{"a sum too many", list(Size, Size, 64), "64 bytes of sums for 1 chunks"},
		{"a cut sum", list(Size, Size, 31), "31 bytes of sums"},
	} {
		if l, err := Decode([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", tt.name, l, err, tt.want)
		}
	}
}

// What is decoded is encoded to the same bytes, and is no larger than what was read.
func FuzzDecode(f *testing.F) {
	l, err := Read(bytes.NewReader(image()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Encode(), b) {
			t.Errorf("%d bytes decode to a list that encodes to others", len(b))
		}
		if last := l.Len(len(l.Sums) - 1); last <= 0 || last > l.Size {
			t.Errorf("the last chunk has %d bytes", last)
		}
	})
}
