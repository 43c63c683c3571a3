package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxMemory is what a ramdisk may make us use, the program itself included.
const maxMemory = 64 << 20

// TestMain is, when told so, a process of its own that unpacks or checks one ramdisk, for TestMemoryIsBounded to see what it uses.
func TestMain(m *testing.M) {
	if name := os.Getenv("RAMDISK"); name != "" {
		os.Exit(openOne(os.Getenv("VERB"), name))
	}
	os.Exit(m.Run())
}

// openOne tells by its status whether the ramdisk was refused.
func openOne(verb, name string) int {
	debug.SetMemoryLimit(SoftMemory)
	f, err := os.Open(name)
	if err != nil {
		return 2
	}
	defer f.Close()
	switch verb {
	case "check":
		if _, problems := Check(f); len(problems) > 0 && problems[0].Error {
			err = errors.New(problems[0].String())
		}
	case "unpack":
		_, err = Unpack(f, name+".d", false)
	}
	// Not ru_maxrss, which begins with what the process that started this one had.
	status, readErr := os.ReadFile("/proc/self/status")
	_, high, _ := strings.Cut(string(status), "VmHWM:")
	high, _, _ = strings.Cut(high, "kB")
	fmt.Println(strings.TrimSpace(high), errors.Join(err, readErr))
	if err != nil {
		return 1
	}
	return 0
}

// peak runs a verb on a ramdisk in a process of its own and gives the most memory it had, and its status.
func peak(t *testing.T, verb, name string) (int64, int, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RAMDISK="+name, "VERB="+verb)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	high, said, _ := strings.Cut(string(out), " ")
	most, err := strconv.ParseInt(high, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return most << 10, cmd.ProcessState.ExitCode(), said
}

// bomb is an archive with one file of zeros.
func bomb(size int64) io.Reader {
	return io.MultiReader(strings.NewReader(newcSaying("bomb", typeRegular|0o644, "", 5, uint32(size))),
		io.LimitReader(zeroReader{}, size), strings.NewReader(end))
}

// writeBomb compresses by the library, or by a program, which may be absent.
func writeBomb(t *testing.T, to io.Writer, format string, size int64) {
	t.Helper()
	switch format {
	case "gzip":
		z := gzip.NewWriter(to)
		_, err := io.Copy(z, bomb(size))
		do(t, err, z.Close())
	case "zstd":
		z, err := zstd.NewWriter(to)
		do(t, err)
		_, err = io.Copy(z, bomb(size))
		do(t, err, z.Close())
	case "none":
		_, err := io.Copy(to, bomb(size))
		do(t, err)
	default:
		words := strings.Fields(format)
		if _, err := exec.LookPath(words[0]); err != nil {
			t.Skipf("no %s here", words[0])
		}
		cmd := exec.Command(words[0], append(words[1:], "-c")...)
		cmd.Stdin, cmd.Stdout = bomb(size), to
		do(t, cmd.Run())
	}
}

// T37: a bomb in each compression is refused, a large ramdisk is not, and neither takes more memory than said.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks gigabytes")
	}
	tests := []struct {
		format string
		size   int64
		status int
	}{
		{"gzip", 3 << 30, 1}, {"zstd", 3 << 30, 1}, {"xz -0", 3 << 29, 1}, {"lz4 -l", 3 << 30, 1}, {"lzma -0", 3 << 29, 1}, {"bzip2 -9", 3 << 29, 1},
		{"gzip", 1 << 30, 0}, {"zstd", 1 << 30, 0}, {"none", 1 << 30, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s of %d MB", tt.format, tt.size>>20), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "ramdisk")
			f, err := os.Create(name)
			do(t, err)
			writeBomb(t, f, tt.format, tt.size)
			do(t, f.Close())
			verb := "check"
			if tt.status == 0 {
				verb = "unpack"
			}
			most, status, said := peak(t, verb, name)
			t.Logf("%d MB, status %d, %s", most>>20, status, said)
			if status != tt.status || most > maxMemory {
				t.Errorf("%s: status %d and %d bytes of memory; want %d, at most %d", said, status, most, tt.status, maxMemory)
			}
		})
	}
}

// T37: as many entries as are read at all, each with a problem, or each to be written to disk.
func TestMemoryOfManyEntriesIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 64 Ki entries")
	}
	var same, many bytes.Buffer
	for i := range maxEntries {
		same.WriteString(file("a-name-that-is-not-short-"+strings.Repeat("x", 150), ""))
		many.WriteString(link(uint32(i), 2, fmt.Sprintf("%06d-%s", i, strings.Repeat("x", 150)), ""))
	}
	for verb, archive := range map[string]string{"check": same.String(), "unpack": many.String()} {
		name := filepath.Join(t.TempDir(), "ramdisk")
		do(t, os.WriteFile(name, []byte(packGzip(t, archive+end)), 0o644))
		most, status, said := peak(t, verb, name)
		t.Logf("%s: %d MB, status %d, %s", verb, most>>20, status, said)
		if status != 0 || most > maxMemory {
			t.Errorf("%s: status %d, %d bytes of memory: %s; want 0, at most %d", verb, status, most, said, maxMemory)
		}
	}
}
