package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/broker/repo"
)

// A generation is what the operator imports one after the other under one name.
type generation struct{ kernel, initrd string }

func newGeneration(n uint64) generation {
	random := rand.NewChaCha8([32]byte{byte(n)})
	part := func() string {
		b := make([]byte, 1<<20)
		random.Read(b)
		return string(b)
	}
	return generation{part(), part()}
}

func sumOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// loader is a machine that loads by HTTP what its script names, slowly: it stops in the middle of the kernel.
type loader struct {
	http           *http.Client
	base           string
	kernel, initrd string // paths
	tag            string
	begun          *http.Response
}

var loadLine = regexp.MustCompile(`(?m)^(kernel|initrd) --name \S+ http://[^/]+(\S+)`)

// begin reads the script and the first part of the kernel.
func (l *loader) begin(n int) error {
	resp, err := l.http.Get(fmt.Sprintf("%s/boot/ipxe?mac=52:54:00:00:%02x:%02x", l.base, n>>8, n&255))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	script, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	lines := loadLine.FindAllSubmatch(script, -1)
	if len(lines) != 2 {
		return fmt.Errorf("the script loads nothing:\n%s", script)
	}
	l.kernel, l.initrd = string(lines[0][2]), string(lines[1][2])
	if l.begun, err = l.http.Get(l.base + l.kernel); err != nil {
		return err
	}
	l.tag = l.begun.Header.Get("ETag")
	return nil
}

const firstPart = 64 << 10

// finish loads the rest of the kernel, on a new connection when the first breaks off, and then the initrd.
func (l *loader) finish(breaks bool) (kernel, initrd string, err error) {
	h := sha256.New()
	defer l.begun.Body.Close()
	if _, err := io.CopyN(h, l.begun.Body, firstPart); err != nil {
		return "", "", err
	}
	rest := l.begun
	if breaks {
		l.begun.Body.Close()
		if rest, err = l.resume(); err != nil {
			return "", "", err
		}
		defer rest.Body.Close()
	}
	if _, err := io.Copy(h, rest.Body); err != nil {
		return "", "", err
	}
	resp, err := l.http.Get(l.base + l.initrd)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	i := sha256.New()
	if _, err := io.Copy(i, resp.Body); err != nil {
		return "", "", err
	}
	return hex.EncodeToString(h.Sum(nil)), hex.EncodeToString(i.Sum(nil)), nil
}

func (l *loader) resume() (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, l.base+l.kernel, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", firstPart))
	req.Header.Set("If-Range", l.tag)
	resp, err := l.http.Do(req)
	if err == nil && resp.StatusCode != http.StatusPartialContent {
		return nil, errors.Join(fmt.Errorf("resumed with %s", resp.Status), resp.Body.Close())
	}
	return resp, err
}

// TestF37RamdiskReplacedUnderLoad: 200 machines load in five waves, each in the middle of its kernel while the ramdisk is
// replaced, by all of them while they go on. Every one gets the whole kernel and the whole initrd of its own script.
func TestF37RamdiskReplacedUnderLoad(t *testing.T) {
	const waves, inWave = 5, 40
	r := newRig(t)
	var underWay atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/boot/f/") {
			underWay.Add(1)
			defer underWay.Add(-1)
		}
		r.handler.ServeHTTP(w, req)
	}))
	srv.Listener = narrow{srv.Listener}
	srv.Start()
	t.Cleanup(srv.Close)
	generations := make([]generation, waves)
	for g := range generations {
		generations[g] = newGeneration(uint64(g))
	}
	loaders := make([]*loader, waves*inWave)
	errs := make([]error, len(loaders))
	each := func(first, last int, f func(n int) error) {
		var wg sync.WaitGroup
		for n := first; n < last; n++ {
			wg.Go(func() { errs[n] = f(n) })
		}
		wg.Wait()
	}
	before := liveHeap()
	for g := range waves {
		r.importRamdisk(t, generations[g].kernel, generations[g].initrd)
		each(g*inWave, (g+1)*inWave, func(n int) error {
			loaders[n] = &loader{http: &http.Client{Transport: &http.Transport{DialContext: dialNarrow}}, base: srv.URL}
			return loaders[n].begin(n)
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	// All are held in the middle of a file of 1 MiB: half of what they load would be 100 MiB.
	if n := underWay.Load(); n != waves*inWave {
		t.Errorf("%d downloads are under way; want all %d", n, waves*inWave)
	}
	if held := liveHeap() - before; held > 50<<20 {
		t.Errorf("200 downloads under way hold %d MiB", held>>20)
	}
	if gone, err := r.files.Sweep(r.broker.StoredFiles(), 24*time.Hour); len(gone) != 0 || err != nil {
		t.Errorf("what is being loaded was swept: %v, %v", gone, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		each(0, len(loaders), func(n int) error {
			defer loaders[n].http.CloseIdleConnections()
			kernel, initrd, err := loaders[n].finish(n%4 == 0)
			if want := generations[n/inWave]; err == nil && (kernel != sumOf(want.kernel) || initrd != sumOf(want.initrd)) {
				err = errors.New("other bytes than its script named")
			}
			if err != nil {
				return fmt.Errorf("machine %d: %w", n, err)
			}
			return nil
		})
	}()
	replaced := waves
	for ended := false; !ended; replaced++ {
		next := newGeneration(uint64(replaced))
		r.importRamdisk(t, next.kernel, next.initrd)
		if _, err := r.files.Sweep(r.broker.StoredFiles(), 24*time.Hour); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			ended = true
		default:
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	t.Logf("the ramdisk was replaced %d times", replaced)
	if _, err := r.files.Sweep(r.broker.StoredFiles(), 0); err != nil {
		t.Error(err)
	}
	if size, err := r.files.Held(sumOf(generations[0].kernel), ""); err == nil {
		t.Errorf("a kernel of %d bytes that nobody can be loading any more is kept", size)
	}
}

// A narrow listener's connections, and those of dialNarrow, hold little of a file that is not read.
type narrow struct{ net.Listener }

const window = 64 << 10

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(window)
	}
	return c, err
}

func dialNarrow(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		err = c.(*net.TCPConn).SetReadBuffer(window)
	}
	return c, err
}

// liveHeap is what is in use after a collection.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An operator's program sends only what is not stored, and a ramdisk is applied when its files are.
func TestFilesAreSentOnce(t *testing.T) {
	r := newRig(t)
	const kernel = "another kernel"
	sum := sumOf(kernel)
	path := "/api/v1/files/" + sum
	if a := r.call(t, "GET", path, operatorToken, "", ""); a.Status != 404 || !strings.Contains(a.Body, "is not stored") {
		t.Errorf("before it is sent: %d %s", a.Status, a.Body)
	}
	if a := r.call(t, "PUT", path, operatorToken, "application/octet-stream", kernel+"!"); a.Status != 422 || !strings.Contains(a.Body, "its sha256 is") {
		t.Errorf("other bytes: %d %s", a.Status, a.Body)
	}
	if a := r.call(t, "PUT", "/api/v1/files/x", operatorToken, "application/octet-stream", kernel); a.Status != 422 {
		t.Errorf("under a name that is no sum: %d %s", a.Status, a.Body)
	}
	doc := fmt.Sprintf("{kind: Ramdisk, name: r, arch: amd64, kernel: {name: k, sha256: %s, size_bytes: %d}, initrds: [{name: i, sha256: %s, size_bytes: 9}]}", sum, len(kernel), sumOf("an initrd"))
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", doc); a.Status != 422 || !strings.Contains(a.Body, "is not stored (muster ramdisk import sends it)") {
		t.Errorf("a ramdisk of files that are not there: %d %s", a.Status, a.Body)
	}
	want := fmt.Sprintf("{\"sha256\":%q,\"size_bytes\":%d}\n", sum, len(kernel))
	if a := r.call(t, "PUT", path, operatorToken, "application/octet-stream", kernel); a.Status != 200 || a.Body != want {
		t.Errorf("the file: %d %s; want %s", a.Status, a.Body, want)
	}
	if a := r.call(t, "GET", path, operatorToken, "", ""); a.Status != 200 || !strings.Contains(a.Body, sum) {
		t.Errorf("when it is stored: %d %s", a.Status, a.Body)
	}
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", doc); a.Status != 200 || !strings.Contains(a.Body, `"created"`) {
		t.Errorf("the ramdisk: %d %s", a.Status, a.Body)
	}
	if a := r.call(t, "GET", "/boot/f/"+repo.Name(sum, "k"), "", "", ""); a.Body != kernel || a.Header.Get("ETag") != `"`+sum+`/k"` {
		t.Errorf("a loader reads %q, ETag %s", a.Body, a.Header.Get("ETag"))
	}
}

// Whatever a stranger asks for, files come out of the store only.
func TestT26RamdiskFilesStayInside(t *testing.T) {
	r := newRig(t)
	sum := sumOf("a kernel")
	for _, path := range []string{sum, sum + "/", sum + "/a/b", sum + "/../../muster.db", "../muster.db", "..%2fmuster.db", "%2e%2e/muster.db", sum + "%00/x", strings.ToUpper(sum) + "/x", "import-1/x"} {
		if a := r.call(t, "GET", "/boot/f/"+path, "", "", ""); a.Status != 404 || bytes.Contains([]byte(a.Body), []byte("SQLite")) {
			t.Errorf("GET /boot/f/%s = %d %.40q", path, a.Status, a.Body)
		}
	}
	if a := r.call(t, "GET", "/boot/f/"+sum+"/vmlinuz", "", "", ""); a.Status != 200 || a.Body != "a kernel" {
		t.Errorf("the kernel: %d %q", a.Status, a.Body)
	}
}
