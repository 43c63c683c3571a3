package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// debianSource is where apt on this machine gets Debian from.
const debianSource = "http://deb.debian.org/"

// A DebianMirror is the archive as an installer sees it: what it asks for is fetched by apt's own downloader, which
// knows this machine's proxies, and kept. Its indices are Debian's, with their signatures.
type DebianMirror struct {
	Dir string // where it is kept

	mu    sync.Mutex
	under map[string]*sync.Mutex // by path, of what is being fetched
}

// Serve answers on the rack's address at a port until ctx ends, and gives the mirror's URL.
func (m *DebianMirror) Serve(ctx context.Context, r *Rack, port int) (url string, err error) {
	var l net.Listener
	at := net.JoinHostPort(r.Addr().String(), fmt.Sprint(port))
	if err := r.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		return "", fmt.Errorf("serve the mirror: %w", err)
	}
	srv := &http.Server{Handler: m}
	go func() { _ = srv.Serve(l) }() // ends with the listener
	context.AfterFunc(ctx, func() { srv.Close() })
	return "http://" + at + "/debian", nil
}

// ServeHTTP serves what lies below /debian/.
func (m *DebianMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if !strings.HasPrefix(name, "debian/") {
		http.NotFound(w, r)
		return
	}
	file, err := m.fetch(r.Context(), name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	http.ServeFile(w, r, file)
}

func (m *DebianMirror) fetch(ctx context.Context, name string) (string, error) {
	m.mu.Lock()
	if m.under == nil {
		m.under = map[string]*sync.Mutex{}
	}
	one := m.under[name]
	if one == nil {
		one = new(sync.Mutex)
		m.under[name] = one
	}
	m.mu.Unlock()
	one.Lock()
	defer one.Unlock()
	file := filepath.Join(m.Dir, filepath.FromSlash(name))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	part := file + ".part"
	defer os.Remove(part)
	if out, err := exec.CommandContext(ctx, "/usr/lib/apt/apt-helper", "download-file", debianSource+name, part).CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch %s: %w: %s", name, err, out)
	}
	return file, os.Rename(part, file)
}
