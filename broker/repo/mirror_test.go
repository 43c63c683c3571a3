package repo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newMirrors may call loopback, and trusts a test server.
func newMirrors(t *testing.T, cfg MirrorConfig, trust *httptest.Server) (m *Mirrors, clock *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	cfg.Dir, cfg.Log, cfg.Now = filepath.Join(t.TempDir(), "mirror"), slog.New(slog.DiscardHandler), func() time.Time { return now }
	if cfg.Allow == nil {
		cfg.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	if trust != nil {
		cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		cfg.TLS.RootCAs.AddCert(trust.Certificate())
	}
	m, err := OpenMirrors(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, &now
}

// got is what a mirror's file reads, or why it does not.
func got(t *testing.T, m *Mirrors, url string) string {
	t.Helper()
	f, sum, err := m.Open(t.Context(), url)
	if err != nil {
		return "error: " + err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if whole, _ := Whole(t.Context(), strings.NewReader(string(b)), sum, nothing); err != nil || !whole {
		t.Errorf("%s: %v, and its sum is %s", url, err, sum)
	}
	return string(b)
}

// TestMirrorAsksAgainAfterAWhile: a file is fetched once, asked about by its tag, and served on while its mirror is away.
func TestMirrorAsksAgainAfterAWhile(t *testing.T) {
	var asked, sent atomic.Int32
	var text atomic.Value
	text.Store("one")
	away := atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		tag := `"` + text.Load().(string) + `"`
		switch {
		case away.Load():
			http.Error(w, "down", http.StatusBadGateway)
		case r.Header.Get("If-None-Match") == tag:
			w.WriteHeader(http.StatusNotModified)
		default:
			sent.Add(1)
			w.Header().Set("ETag", tag)
			io.WriteString(w, text.Load().(string))
		}
	}))
	defer srv.Close()
	m, now := newMirrors(t, MirrorConfig{}, nil)
	for _, step := range []struct {
		what        string
		do          func()
		want        string
		asked, sent int32
	}{
		{"first", func() {}, "one", 1, 1},
		{"again", func() {}, "one", 1, 1},
		{"after six minutes", func() { *now = now.Add(6 * time.Minute) }, "one", 2, 1},
		{"another, within the time", func() { text.Store("two") }, "one", 2, 1},
		{"another", func() { *now = now.Add(6 * time.Minute) }, "two", 3, 2},
		{"away", func() { away.Store(true); *now = now.Add(6 * time.Minute) }, "two", 4, 2},
		{"back", func() { away.Store(false); text.Store("three") }, "three", 5, 3},
	} {
		step.do()
		if got := got(t, m, srv.URL); got != step.want || asked.Load() != step.asked || sent.Load() != step.sent {
			t.Errorf("%s: %q after %d questions and %d answers; want %q, %d, %d", step.what, got, asked.Load(), sent.Load(), step.want, step.asked, step.sent)
		}
	}
	if left, _ := os.ReadDir(m.files.dir); len(left) != 1 {
		t.Errorf("%d files are kept; want the last alone", len(left))
	}
}

// TestT39MirrorsGoNowhereElse: not to special addresses, not out of https, not round and round.
func TestT39MirrorsGoNowhereElse(t *testing.T) {
	clear := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "in clear") }))
	defer clear.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down":
			http.Redirect(w, r, clear.URL, http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/file", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/file":
			io.WriteString(w, "sealed")
		case "/meta":
			http.Redirect(w, r, "https://169.254.169.254/latest", http.StatusFound)
		}
	}))
	defer secure.Close()
	m, _ := newMirrors(t, MirrorConfig{}, secure)
	for path, want := range map[string]string{"/file": "sealed", "/near": "sealed", "/down": "a redirect from https to http is not followed", "/round": "more than 5 redirects", "/meta": "where clouds hand out credentials", "/empty": "it is empty"} {
		if got := got(t, m, secure.URL+path); !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	strict, _ := newMirrors(t, MirrorConfig{Allow: []netip.Prefix{}}, nil)
	if got := got(t, strict, clear.URL); !strings.Contains(got, "loopback") {
		t.Errorf("loopback is called: %q", got)
	}
	unknown, _ := newMirrors(t, MirrorConfig{}, nil)
	if got := got(t, unknown, secure.URL+"/file"); !strings.Contains(got, "certificate") {
		t.Errorf("a certificate of nobody is taken: %q", got)
	}
}

// TestT38MirrorsThatStallOrLie: a fetch ends, and half a file is none.
func TestT38MirrorsThatStallOrLie(t *testing.T) {
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stall":
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			<-over
		case "/silent":
			<-over
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	defer close(over)
	m, _ := newMirrors(t, MirrorConfig{Stall: 50 * time.Millisecond}, nil)
	for path, want := range map[string]string{"/stall": "context canceled", "/silent": "context canceled", "/cut": "unexpected EOF", "/gone": "404"} {
		if got := got(t, m, srv.URL+path); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	if _, _, err := m.Open(t.Context(), srv.URL+"/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a mirror has not: %v", err)
	}
	if left, _ := os.ReadDir(m.files.dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// TestMirrorKeepsWhatFits: what nobody asked for the longest goes, and is fetched again when somebody does.
func TestMirrorKeepsWhatFits(t *testing.T) {
	var asked sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := asked.LoadOrStore(r.URL.Path, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		fmt.Fprintf(w, "%-100s", r.URL.Path)
	}))
	defer srv.Close()
	m, now := newMirrors(t, MirrorConfig{Bytes: 250}, nil)
	for _, path := range []string{"/a", "/b", "/a", "/c", "/a", "/b"} {
		*now = now.Add(time.Second)
		if got := strings.TrimSpace(got(t, m, srv.URL+path)); got != path {
			t.Errorf("%s reads %q", path, got)
		}
		if left, _ := os.ReadDir(m.files.dir); len(left) > 2 {
			t.Errorf("after %s, %d files are kept", path, len(left))
		}
	}
	for path, want := range map[string]int32{"/a": 1, "/b": 2, "/c": 1} {
		if n, _ := asked.Load(path); n.(*atomic.Int32).Load() != want {
			t.Errorf("%s was asked for %d times; want %d", path, n.(*atomic.Int32).Load(), want)
		}
	}
}

// TestMirrorIsAskedOnceForMany: a rack boots one kernel at once, and some machines give up meanwhile.
func TestMirrorIsAskedOnceForMany(t *testing.T) {
	var asked atomic.Int32
	begun, on := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			close(begun)
		}
		<-on
		io.WriteString(w, "kernel")
	}))
	defer srv.Close()
	m, _ := newMirrors(t, MirrorConfig{}, nil)
	first, gone := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	open := func(ctx context.Context) {
		f, _, err := m.Open(ctx, srv.URL)
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err == nil {
			f.Close()
		}
	}
	wg.Go(func() { open(first) })
	<-begun
	gone() // it asked, and went away
	for range 20 {
		wg.Go(func() { open(t.Context()) })
	}
	close(on)
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the mirror was asked %d times", n)
	}
}
