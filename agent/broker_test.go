package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/facts"
)

// A testBroker answers an agent in memory, so that whole lives run in the made-up time of testing/synctest.
type testBroker struct {
	t        *testing.T
	mu       sync.Mutex
	checkIns []facts.CheckIn
	reports  []facts.Report
	orders   []facts.Order                                     // given one after the other by poll
	reply    facts.CheckInReply                                // to every check-in
	files    map[string][]byte                                 // served by http.ServeContent
	before   func(w http.ResponseWriter, r *http.Request) bool // true: it answered
	body     func(r *http.Request, b io.Reader) io.Reader      // put faults into a file's body
	calls    []string
	date     time.Duration // what the broker's clock is ahead
}

// RoundTrip makes the broker a transport.
func (b *testBroker) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	w.Header().Set("Date", time.Now().Add(b.date).UTC().Format(http.TimeFormat))
	b.serve(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.Result()
	if b.body != nil {
		resp.Body = io.NopCloser(b.body(r, resp.Body))
	}
	return resp, nil
}

func (b *testBroker) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.calls = append(b.calls, r.Method+" "+r.URL.RequestURI())
	before := b.before
	b.mu.Unlock()
	if got := r.Header.Get("Authorization"); got != "Bearer key" {
		b.t.Errorf("%s came with Authorization %q", r.URL, got)
	}
	if before != nil && before(w, r) {
		return
	}
	switch {
	case r.URL.Path == routeCheckIn:
		b.serveCheckIn(w, r)
	case r.URL.Path == routeReport:
		rep, err := facts.DecodeReport(r.Body)
		if err != nil {
			b.t.Errorf("report: %v", err)
			return
		}
		b.mu.Lock()
		b.reports = append(b.reports, *rep)
		b.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == routeOrder:
		b.serveOrder(w, r)
	case b.files[r.URL.Path] != nil:
		w.Header().Set("ETag", fmt.Sprintf(`"%.8s"`, sha(b.files[r.URL.Path])))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.files[r.URL.Path]))
	default:
		http.NotFound(w, r)
	}
}

func (b *testBroker) serveCheckIn(w http.ResponseWriter, r *http.Request) {
	c, err := facts.DecodeCheckIn(r.Body)
	if err != nil {
		b.t.Errorf("check-in: %v", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	b.mu.Lock()
	b.checkIns = append(b.checkIns, *c)
	reply := b.reply
	b.mu.Unlock()
	reply.WantFacts = reply.WantFacts && c.Facts == nil
	json.NewEncoder(w).Encode(reply)
}

// serveOrder holds the poll until there is an order or a minute went by.
func (b *testBroker) serveOrder(w http.ResponseWriter, r *http.Request) {
	for range 60 {
		b.mu.Lock()
		if len(b.orders) > 0 {
			o := b.orders[0]
			b.orders = b.orders[1:]
			b.mu.Unlock()
			json.NewEncoder(w).Encode(o)
			return
		}
		b.mu.Unlock()
		if sleep(r.Context(), time.Second) != nil {
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// statuses are the reports without those of progress.
func (b *testBroker) statuses() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s []string
	for _, r := range b.reports {
		if r.Status != facts.StatusProgress {
			s = append(s, fmt.Sprintf("%d %s", r.Order, r.Status))
		}
	}
	return strings.Join(s, ", ")
}

func (b *testBroker) last() facts.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.reports) == 0 {
		return facts.Report{}
	}
	return b.reports[len(b.reports)-1]
}

// screen is a console that can be read.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newAgent is an agent of a machine without hardware, with a broker.
func newAgent(t *testing.T) (*Agent, *testBroker, *screen) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "proc/sys/kernel/random/boot_id"), "7c1f4e0e-0000-4000-8000-000000000001\n")
	b := &testBroker{t: t, files: map[string][]byte{}, reply: facts.CheckInReply{Node: "n1"}}
	s := &screen{}
	began := time.Now()
	a := &Agent{
		Args:    Args{Server: "http://broker.test:8080", Token: "once"},
		Version: "test",
		Key:     "key",
		Root:    root,
		Console: &Console{W: s, Uptime: func() time.Duration { return time.Since(began) }},
		HTTP:    &http.Client{Transport: b},
		Probe: func(context.Context, ...string) Probed {
			f := facts.Facts{Schema: facts.Schema, System: &facts.System{Manufacturer: "Dell Inc.", Product: "R640"}}
			hash, err := f.Hash()
			if err != nil {
				t.Error(err)
			}
			return Probed{Facts: f, Hash: hash}
		},
	}
	return a, b, s
}

// put writes a file and its directories.
func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRetryIn(t *testing.T) {
	for _, row := range []struct {
		name     string
		attempt  int
		err      error
		min, max time.Duration
	}{
		{"the first pause is a second", 1, nil, time.Second, 1500 * time.Millisecond},
		{"the pause doubles", 3, nil, 4 * time.Second, 6 * time.Second},
		{"a minute is the longest pause", 500, nil, 60 * time.Second, 90 * time.Second},
		{"a broken broker is asked soon", 1, &refusal{Code: 502}, time.Second, 1500 * time.Millisecond},
		{"a broker that says when is believed", 1, &refusal{Code: 503, After: 7 * time.Second}, 7 * time.Second, 10500 * time.Millisecond},
		{"a refusal is not expected to pass soon", 1, &refusal{Code: 422}, 60 * time.Second, 90 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			for range 100 {
				if got := retryIn(row.attempt, row.err); got < row.min || got > row.max {
					t.Fatalf("retryIn(%d, %v) = %v; want %v to %v", row.attempt, row.err, got, row.min, row.max)
				}
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		header string
		want   time.Duration
	}{
		{"", 0},
		{"7", 7 * time.Second},
		{"99999999", maxRetryAfter},
		{"-3", 0},
		{"soon", 0},
		{"Sun, 22 Nov 2026 10:00:30 GMT", 30 * time.Second},
		{"Sun, 22 Nov 2026 09:00:30 GMT", 0},
	} {
		if got := retryAfter(row.header, now); got != row.want {
			t.Errorf("retryAfter(%q) = %v; want %v", row.header, got, row.want)
		}
	}
}

// A path of an order must not lead to another host.
func TestRequestStaysWithTheBroker(t *testing.T) {
	b := &broker{base: "http://broker.test:8080", key: "key"}
	for _, path := range []string{"", "images/x", "@evil.test/x", "http://evil.test/x"} {
		if r, err := b.request(t.Context(), "GET", path, nil); err == nil {
			t.Errorf("request(%q) asks %s; want an error", path, r.URL)
		}
	}
	r, err := b.request(t.Context(), "GET", "//evil.test/x", nil)
	if err != nil || r.URL.Host != "broker.test:8080" {
		t.Errorf("request(//evil.test/x) = %v, %v; want one to the broker", r.URL, err)
	}
}
