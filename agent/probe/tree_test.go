package probe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The running machine is read by system calls, another root by package os: both must say the same.
func TestReadSaysTheSameOfBothRoots(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "short": "1\n", "long": strings.Repeat("0123456789", 1000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	here, err := openTree("/")
	if err != nil {
		t.Fatal(err)
	}
	other, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	for _, name := range []string{"empty", "short", "long", "none", "."} {
		for _, limit := range []int64{0, 1, 512, 513, 9999, 10000, 10001, maxFile} {
			got, gotErr := here.read(filepath.Join(dir, name), limit)
			want, wantErr := other.read("/"+name, limit)
			if string(got) != string(want) {
				t.Errorf("read %s, at most %d: %d bytes; want %d", name, limit, len(got), len(want))
			}
			if (gotErr == nil) != (wantErr == nil) || errors.Is(gotErr, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) {
				t.Errorf("read %s, at most %d: %v; want %v", name, limit, gotErr, wantErr)
			}
		}
	}
}
