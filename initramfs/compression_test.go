package initramfs

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// Z8, S34: what the real programs write is read, and what follows it is left alone.
func TestDecompressionAgreesWithThePrograms(t *testing.T) {
	text := strings.Repeat("a sentence that compresses well, number ", 5000)
	tests := []struct {
		name    string
		command []string
	}{
		{"gzip at its best", []string{"gzip", "-9"}},
		{"xz with a dictionary of 64 MB", []string{"xz", "-9"}},
		{"xz for a kernel", []string{"xz", "--check=crc32"}},
		{"xz of many blocks", []string{"xz", "--block-size=20000"}},
		{"xz of many blocks whose headers say their sizes", []string{"xz", "-T2", "--block-size=20000", "--check=sha256"}},
		{"xz without sums", []string{"xz", "-0", "--check=none"}},
		{"zstd as dpkg uses it", []string{"zstd", "-19"}},
		{"lz4 for a kernel", []string{"lz4", "-l", "-9"}},
		{"bzip2", []string{"bzip2", "-9"}},
		{"lzma", []string{"lzma", "-7"}},
		{"zstd without sums", []string{"zstd", "--no-check"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.command[0]); err != nil {
				t.Skipf("no %s here", tt.command[0])
			}
			cmd := exec.Command(tt.command[0], append(tt.command[1:], "-c")...)
			cmd.Stdin = strings.NewReader(text)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			follows := zeros + "what follows"
			r := bufio.NewReader(bytes.NewReader(append(packed, follows...)))
			c, ok := detect(r)
			if !ok {
				t.Fatalf("% x is not known", packed[:6])
			}
			z, err := c.decompressor(r)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			got, err := io.ReadAll(z)
			if err != nil || string(got) != text {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(text))
			}
			if rest, _ := io.ReadAll(r); string(rest) != follows {
				t.Errorf("left %q behind", rest)
			}
		})
	}
}

// Z8. A crash, a hang or memory without bound is a failure.
func FuzzDecompress(f *testing.F) {
	for _, s := range []string{packGzip(f, "text"), packZstd(f, "text"), packXZ(f, "text"), "BZh9"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		c, ok := detect(r)
		if !ok {
			return
		}
		z, err := c.decompressor(r)
		if err != nil {
			return
		}
		defer z.Close()
		_, _ = io.CopyN(io.Discard, z, 16<<20)
	})
}
