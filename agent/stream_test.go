package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/facts"
)

// cable is a transport that may be cut.
type cable struct {
	http.RoundTripper
	cut func() bool
}

func (c cable) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cut() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}
	}
	return c.RoundTripper.RoundTrip(r)
}

// F46: a link that is cut for hours in the middle of an image is a pause, not a failure.
func TestF46ALinkCutForHours(t *testing.T) {
	for _, compression := range []string{"none", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, compression)
				c.chunked(t)
				c.b.body = stopAt(2<<20, 1)
				var cutAt time.Time
				c.a.HTTP = &http.Client{Transport: cable{c.b, func() bool {
					c.b.mu.Lock()
					defer c.b.mu.Unlock()
					if cutAt.IsZero() && strings.HasPrefix(c.b.calls[max(0, len(c.b.calls)-1)], "GET /image/debian") {
						cutAt = time.Now()
					}
					return !cutAt.IsZero() && time.Since(cutAt) < 7*time.Hour
				}}}
				c.b.calls = []string{""}
				c.b.orders = []facts.Order{c.order}
				live(t, c.a, 9*time.Hour)
				if got := c.b.last(); got.Status != facts.StatusDone || !bytes.Equal(read(t, c.disk)[:len(c.raw)], c.raw) {
					t.Errorf("report %+v\n%s", got, c.s)
				}
				if cutAt.IsZero() {
					t.Error("the link was never cut")
				}
			})
		})
	}
}

// A broker that is reached and gives nothing is given up, however long the link was cut before.
func TestABrokerThatGivesNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		began := time.Now()
		c.b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/image/") {
				return false
			}
			http.Error(w, "no image today", http.StatusServiceUnavailable)
			return true
		}
		got := c.run(t)
		if got.Status != facts.StatusFailed || !strings.Contains(got.Message, "no byte for 10 min: 503 Service Unavailable: no image today") {
			t.Errorf("report %+v\n%s", got, c.s)
		}
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("given up after %s", took)
		}
	})
}

// A relay passes TCP connections on, and resets each after a number of bytes from the server.
type relay struct {
	net.Listener
	to    string
	mu    sync.Mutex
	after []int64 // of each connection in turn; then for ever
}

func (r *relay) run() {
	for {
		in, err := r.Accept()
		if err != nil {
			return
		}
		go r.pass(in)
	}
}

func (r *relay) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	go io.Copy(out, in)
	r.mu.Lock()
	n := int64(1 << 62)
	if len(r.after) > 0 {
		n, r.after = r.after[0], r.after[1:]
	}
	r.mu.Unlock()
	io.CopyN(in, out, n)
	in.(*net.TCPConn).SetLinger(0) // what was not read is thrown away, and the peer gets a reset
}

// F46 on real TCP: connections are reset in the middle of the image, one of them in the head of an answer, and the file is
// put together from ranges.
func TestF46ConnectionsAreReset(t *testing.T) {
	file := rawImage(10 << 20)
	var ranges []string
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		mu.Unlock()
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	}))
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := &relay{Listener: listener, to: server.Listener.Addr().String(), after: []int64{3 << 20, 20, 2<<20 + 77}}
	go r.run()

	a, _, s := newAgent(t)
	a.start()
	client := newHTTP(nil)
	defer client.CloseIdleConnections()
	a.broker = &broker{base: "http://" + listener.Addr().String(), key: "key", http: client, now: a.Now}
	st := a.newStream(t.Context(), "/image", int64(len(file)))
	defer st.Close()
	got, err := io.ReadAll(st)
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("read %d bytes, %v; want %d\n%s", len(got), err, len(file), s)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ranges) != 4 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") || ranges[2] != ranges[1] || ranges[3] == ranges[2] {
		t.Errorf("asked for %q; want all, the rest, the same rest again, a later rest", ranges)
	}
}
