package repo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"muster/broker/hook"
)

// MirrorConfig says how files of mirrors are fetched.
type MirrorConfig struct {
	Dir   string         // where they are kept; what lies there is cleared at the start
	Allow []netip.Prefix // special addresses that may be called (package hook)
	TLS   *tls.Config    // if nil, the system's CAs
	Bytes int64          // of all that is kept; if 0, 16 GiB
	Stall time.Duration  // without a byte, after which a fetch is given up; if 0, 30 s
	Now   func() time.Time
	Log   *slog.Logger
}

// Bounds of one fetch.
const (
	maxMirrored   = 4 << 30
	mirrorTime    = 30 * time.Minute
	mirrorFresh   = 5 * time.Minute // in which a file is not asked about again
	maxRedirects  = 5
	mirrorDefault = 16 << 30
)

// Mirrors fetches the kernels and initrds of install trees that lie elsewhere, for loaders that cannot: over TFTP, or
// over plain HTTP where the mirror speaks HTTPS. A file is kept by its content and asked about again after a while;
// while its mirror is away, what was fetched before is served on.
type Mirrors struct {
	cfg   MirrorConfig
	files *Files
	http  *http.Client
	mu    sync.Mutex
	known map[string]*mirrored // by URL
}

// A mirrored file, as the mirror last told of it.
type mirrored struct {
	busy           chan struct{} // holds one while it is fetched
	sum            string
	size           int64
	etag, modified string
	checked, asked time.Time
}

// OpenMirrors makes the directory when it is not there.
func OpenMirrors(cfg MirrorConfig) (*Mirrors, error) {
	if cfg.Bytes == 0 {
		cfg.Bytes = mirrorDefault
	}
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	files, err := OpenFiles(cfg.Dir, cfg.Now)
	if err == nil {
		_, err = files.Sweep(nil, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open mirror store: %w", err)
	}
	trust := &tls.Config{}
	if cfg.TLS != nil {
		trust = cfg.TLS.Clone()
	}
	trust.MinVersion = tls.VersionTLS12
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: hook.Control(cfg.Allow)}
	return &Mirrors{cfg: cfg, files: files, known: map[string]*mirrored{}, http: &http.Client{
		// No proxy: it would be called in place of the address that was judged.
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: trust, MaxResponseHeaderBytes: 32 << 10, IdleConnTimeout: time.Minute},
		CheckRedirect: checkRedirect,
	}}, nil
}

// checkRedirect follows a mirror to its nearest host, not out of its protocol (T39): from https nothing may come in clear.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if req.URL.Scheme != via[0].URL.Scheme {
		return fmt.Errorf("a redirect from %s to %s is not followed", via[0].URL.Scheme, req.URL.Scheme)
	}
	return nil
}

// Open gives a file of a mirror, as it was at most some minutes ago, and its sha256. What is not there is
// fs.ErrNotExist.
func (m *Mirrors) Open(ctx context.Context, url string) (f *os.File, sum string, err error) {
	x := m.entry(url)
	select {
	case x.busy <- struct{}{}:
		defer func() { <-x.busy }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	if m.cfg.Now().Sub(x.checked) >= mirrorFresh {
		// Who asked may have gone by the time it is here; the next asks again.
		if err := m.fetch(context.WithoutCancel(ctx), url, x); err != nil {
			if x.sum == "" || errors.Is(err, fs.ErrNotExist) {
				return nil, "", fmt.Errorf("fetch %s: %w", url, err)
			}
			m.cfg.Log.Warn("a mirror is away; what was fetched before is served on", "url", url, "err", err)
		}
	}
	f, err = m.files.Open(Name(x.sum, "mirrored"))
	return f, x.sum, err
}

func (m *Mirrors) entry(url string) *mirrored {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.known[url]
	if x == nil {
		x = &mirrored{busy: make(chan struct{}, 1)}
		m.known[url] = x
	}
	x.asked = m.cfg.Now()
	return x
}

// fetch asks for the file, if it is another than the one that is kept.
func (m *Mirrors) fetch(ctx context.Context, url string, x *mirrored) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if x.etag != "" {
		req.Header.Set("If-None-Match", x.etag)
	}
	if x.modified != "" {
		req.Header.Set("If-Modified-Since", x.modified)
	}
	stall := time.AfterFunc(m.cfg.Stall, cancel)
	defer stall.Stop()
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && x.sum != "":
		x.checked = m.cfg.Now()
		return nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return fmt.Errorf("the mirror answers %s: %w", resp.Status, fs.ErrNotExist)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the mirror answers %s", resp.Status)
	}
	return m.keep(resp, x, &counting{resp.Body, ctx, func(int64) { stall.Reset(m.cfg.Stall) }})
}

func (m *Mirrors) keep(resp *http.Response, x *mirrored, body io.Reader) error {
	f, err := m.files.Import(&bounded{body, maxMirrored}, "")
	if err == nil && resp.ContentLength >= 0 && f.SizeBytes != resp.ContentLength {
		err = fmt.Errorf("it ends after %d of %d bytes", f.SizeBytes, resp.ContentLength)
	}
	if err != nil {
		return err
	}
	x.etag, x.modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	m.mu.Lock()
	defer m.mu.Unlock()
	old := x.sum
	x.sum, x.size, x.checked = f.SHA256, f.SizeBytes, m.cfg.Now()
	return errors.Join(m.drop(old), m.evict(x))
}

// evict forgets what nobody asked for the longest until the rest fits. The lock is held.
func (m *Mirrors) evict(newest *mirrored) error {
	for m.total() > m.cfg.Bytes {
		oldest := ""
		for url, x := range m.known {
			if x != newest && x.sum != "" && (oldest == "" || x.asked.Before(m.known[oldest].asked)) {
				oldest = url
			}
		}
		if oldest == "" {
			return nil
		}
		sum := m.known[oldest].sum
		delete(m.known, oldest)
		if err := m.drop(sum); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a file that no URL leads to any more; who has it open reads it to its end. The lock is held.
func (m *Mirrors) drop(sum string) error {
	for _, x := range m.known {
		if x.sum == sum {
			return nil
		}
	}
	p, err := m.files.path(sum)
	if err != nil {
		return nil // there was none
	}
	return os.Remove(p)
}

func (m *Mirrors) total() (n int64) {
	for _, x := range m.known {
		n += x.size
	}
	return n
}

// bounded is a stream that fails where it goes on for too long.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, fmt.Errorf("it is larger than %d bytes", int64(maxMirrored))
	}
	return n, err
}
