package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestADownloadIsGoneOnWith: after a line that breaks within the same file, from its start where the file is another, and
// not at all where there is no part.
func TestADownloadIsGoneOnWith(t *testing.T) {
	whole := bytes.Repeat([]byte("0123456789"), 5000)
	for _, tt := range []struct {
		name   string
		tags   []string // of the file at each request
		ranges bool
		want   string // ranges that were asked for
	}{
		{"a line that breaks twice", []string{`"a"`, `"a"`, `"a"`}, true, " bytes=20000- bytes=40000-"},
		{"another file meanwhile", []string{`"a"`, `"b"`, `"b"`, `"b"`}, true, " bytes=20000- bytes=20000- bytes=40000-"},
		{"a server that says nothing of the file", []string{"", "", ""}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Range"))
				if tag := tt.tags[min(len(asked), len(tt.tags))-1]; tag != "" {
					w.Header().Set("ETag", tag)
				}
				w = &cutting{w, 20000}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole))
			}))
			defer srv.Close()
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			c := &cobra.Command{}
			c.SetContext(t.Context())
			c.SetErr(io.Discard)
			name, err := fetch(c, "x", srv.URL+"/big.iso")
			if tt.tags[0] == "" {
				if err == nil || !strings.Contains(err.Error(), "goes on where it was cut short") {
					t.Errorf("fetch = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); !bytes.Equal(got, whole) || err != nil || filepath.Base(name) != "big.iso" {
				t.Errorf("%s has %d bytes, %v", name, len(got), err)
			}
			if got := strings.Join(asked, " "); got != tt.want {
				t.Errorf("asked for %q; want %q", got, tt.want)
			}
		})
	}
}

// cutting breaks the line after so many bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		c.ResponseWriter.Write(b[:len(b)+c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}

// TestSumsBesideAFile: as sha256sum(1) and Fedora's kin write them.
func TestSumsBesideAFile(t *testing.T) {
	sum, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, tt := range map[string]struct{ file, text, want string }{
		"text":          {"SHA256SUMS", other + "  other.iso\n" + sum + "  x.iso\n", sum},
		"binary":        {"sha256sum.txt", sum + " *x.iso\n", sum},
		"below a path":  {"SHA256SUMS", sum + "  ./isos/x.iso\n", sum},
		"upper case":    {"x.iso.sha256", strings.ToUpper(sum) + "  x.iso\n", sum},
		"Fedora's":      {"CHECKSUM", "# x.iso: 5 bytes\nSHA256 (other.iso) = " + other + "\nSHA256 (x.iso) = " + sum + "\n", sum},
		"of others":     {"SHA256SUMS", sum + "  y.iso\n", ""},
		"another name":  {"SUMS", sum + "  x.iso\n", ""},
		"another's end": {"SHA256SUMS", sum + "  ax.iso\n", ""},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, tt.file), tt.text)
		if got, err := sumBeside(filepath.Join(dir, "x.iso")); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}
