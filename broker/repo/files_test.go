package repo

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// newFiles is a store whose clock the test moves.
func newFiles(t *testing.T) (s *Files, clock *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	s, err := OpenFiles(filepath.Join(t.TempDir(), "ramdisks"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return s, &now
}

func mustImport(t *testing.T, s *Files, content string) string {
	t.Helper()
	f, err := s.Import(strings.NewReader(content), "")
	if err != nil {
		t.Fatal(err)
	}
	return f.SHA256
}

func read(t *testing.T, s *Files, name string) string {
	t.Helper()
	f, err := s.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const kernelSum = "a3f7cb2d4e5d2f4ec8a1e2c3a8b3e1fbfb9a9d3e6e7cbe6c3f7d8a9b0c1d2e3f" // of nothing that is stored

func TestAFileIsServedByItsContent(t *testing.T) {
	s, _ := newFiles(t)
	sum := mustImport(t, s, "a kernel")
	if got := read(t, s, Name(sum, "vmlinuz")); got != "a kernel" {
		t.Errorf("the file reads %q", got)
	}
	for _, name := range []string{sum, sum + "/", sum + "/a/b", sum + "/../" + sum, "vmlinuz", kernelSum + "/vmlinuz", "../" + sum + "/x", strings.ToUpper(sum) + "/vmlinuz", sum[:63] + "/vmlinuz", ""} {
		if f, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) {
			f.Close()
			t.Errorf("Open(%q) = %v; want that it does not exist", name, err)
		}
	}
}

func TestNothingIsKeptOfAnImportThatFails(t *testing.T) {
	for _, tt := range []struct {
		name, sum, want string
		in              io.Reader
	}{
		{"other bytes than were meant", kernelSum, "its sha256 is", strings.NewReader("a kernel")},
		{"an empty file", "", "empty", strings.NewReader("")},
		{"a source that breaks off", "", "gone", io.MultiReader(strings.NewReader("a ker"), iotest.ErrReader(errors.New("gone")))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newFiles(t)
			if _, err := s.Import(tt.in, tt.sum); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Import = %v; want an error with %q", err, tt.want)
			}
			if left, _ := os.ReadDir(s.dir); len(left) != 0 {
				t.Errorf("%d files are left", len(left))
			}
		})
	}
}

func TestAnImportThatWasCutShortIsClearedAway(t *testing.T) {
	s, _ := newFiles(t)
	sum := mustImport(t, s, "a kernel")
	if err := os.WriteFile(filepath.Join(s.dir, "import-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFiles(s.dir, nil); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(s.dir)
	if len(left) != 1 || left[0].Name() != sum {
		t.Errorf("there are %v; want the kernel alone", left)
	}
}

// A disk that lost bytes of a stored file is made good by importing it again.
func TestImportingAgainMakesASpoiltFileGood(t *testing.T) {
	s, _ := newFiles(t)
	sum := mustImport(t, s, "a kernel")
	if err := os.WriteFile(filepath.Join(s.dir, sum), []byte("a kerne1"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustImport(t, s, "a kernel")
	if got := read(t, s, Name(sum, "x")); got != "a kernel" {
		t.Errorf("the file reads %q", got)
	}
}

func TestSweepKeepsWhatSomebodyMayStillLoad(t *testing.T) {
	s, now := newFiles(t)
	named, replaced, asked := mustImport(t, s, "named"), mustImport(t, s, "replaced"), mustImport(t, s, "asked about")
	sweep := func(names ...string) []string {
		set := map[string]bool{}
		for _, n := range names {
			set[n] = true
		}
		gone, err := s.Sweep(set, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	*now = now.Add(30 * 24 * time.Hour)
	if gone := sweep(named, replaced, asked); len(gone) != 0 {
		t.Fatalf("swept %v, which objects name", gone)
	}
	// An object named it until now, however old it is: machines may have been told of it a moment ago.
	*now = now.Add(23 * time.Hour)
	if gone := sweep(named); len(gone) != 0 {
		t.Errorf("swept %v within a day", gone)
	}
	if size, err := s.Held(asked, ""); size != int64(len("asked about")) || err != nil {
		t.Errorf("Held = %d, %v", size, err)
	}
	open, err := s.Open(Name(replaced, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	*now = now.Add(time.Hour)
	if gone := sweep(named); !slices.Equal(gone, []string{replaced}) {
		t.Errorf("swept %v; want what nothing named for a day, %s", gone, replaced)
	}
	if b, err := io.ReadAll(open); string(b) != "replaced" || err != nil {
		t.Errorf("a download that had begun reads %q, %v", b, err)
	}
	if _, err := s.Held(replaced, ""); err == nil || !strings.Contains(err.Error(), "not stored") {
		t.Errorf("a swept file is held: %v", err)
	}
	read(t, s, Name(named, "x"))
}

func TestSweepLeavesAnImportUnderWay(t *testing.T) {
	s, now := newFiles(t)
	*now = now.Add(365 * 24 * time.Hour)
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := s.Import(r, "")
		done <- err
	}()
	w.Write([]byte("half"))
	if gone, err := s.Sweep(nil, 0); len(gone) != 0 || err != nil {
		t.Errorf("Sweep = %v, %v", gone, err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFileHasABound(t *testing.T) {
	s, _ := newFiles(t)
	sum := mustImport(t, s, string(bytes.Repeat([]byte{0x30}, MaxSignature+1)))
	file := mustImport(t, s, "a kernel")
	if _, err := s.Held(file, sum); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a signature of %d bytes: %v", MaxSignature+1, err)
	}
}
