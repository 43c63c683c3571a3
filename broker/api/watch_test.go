package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/broker"
	"muster/broker/api"
)

// plainServer serves the handler of a rig with more in front of it.
func (r *rig) plainServer(t *testing.T, f func(http.ResponseWriter, *http.Request)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(f))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (r *rig) tell(t *testing.T, text string) {
	t.Helper()
	if err := r.broker.Tell(t.Context(), "test", text); err != nil {
		t.Fatal(err)
	}
}

// watch opens a stream and gives its lines.
func watch(t *testing.T, url, query, last string) *bufio.Scanner {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/api/v1/watch"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("watch = %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return lines
}

// until reads lines up to one with a text.
func until(t *testing.T, lines *bufio.Scanner, text string) (read []string) {
	t.Helper()
	for lines.Scan() {
		if read = append(read, lines.Text()); strings.Contains(lines.Text(), text) {
			return read
		}
	}
	t.Fatalf("the stream ended before %q: %v", text, lines.Err())
	return nil
}

func TestWatchTellsWhatHappens(t *testing.T) {
	r := newRig(t, func(c *api.Config) { c.Heartbeat = time.Millisecond })
	url := r.plainServer(t, r.handler.ServeHTTP)
	r.tell(t, "before")
	lines := watch(t, url, "?kind=test", "")
	until(t, lines, ": still here") // it listens, and has nothing to say
	r.tell(t, "first\nid: 9\ndata: x")
	got := until(t, lines, `"text":"first\nid: 9\ndata: x"`)
	if all := strings.Join(got, "|"); strings.Contains(all, "before") || !strings.Contains(all, "event: test|data: {") {
		t.Errorf("the stream is %s", all)
	}
	var first string
	for _, l := range got {
		if id, ok := strings.CutPrefix(l, "id: "); ok {
			first = id
		}
	}
	r.tell(t, "second")
	r.tell(t, "third")
	again := strings.Join(until(t, watch(t, url, "?kind=test&after=0", first), "third"), "|")
	if strings.Contains(again, "first") || !strings.Contains(again, "second") {
		t.Errorf("after event %s the stream is %s", first, again)
	}
	if all := strings.Join(until(t, watch(t, url, "?after=0", ""), "third"), "|"); !strings.Contains(all, "the broker started") {
		t.Errorf("from the beginning the stream is %s", all)
	}
	for query, want := range map[string]int{"?after=x": 422, "?after=-1": 422, "?nodes=node99": 404, "?nodes=[": 422} {
		if a := r.call(t, "GET", "/api/v1/watch"+query, operatorToken, "", ""); a.Status != want {
			t.Errorf("watch%s = %d %s; want %d", query, a.Status, a.Body, want)
		}
	}
}

// TestWatchersHoldNobodyUp: who does not read is dropped, and neither writers nor other readers wait for him.
func TestWatchersHoldNobodyUp(t *testing.T) {
	r := newRig(t, func(c *api.Config) { c.Patience = 50 * time.Millisecond })
	ended := make(chan struct{}, 1)
	slow := r.plainServer(t, func(w http.ResponseWriter, req *http.Request) {
		r.handler.ServeHTTP(w, req)
		ended <- struct{}{}
	})
	watch(t, slow, "?after=0", "") // and never reads
	big := strings.Repeat("x", 60_000)
	for i := range 400 { // more than kernels keep for a socket
		r.tell(t, fmt.Sprintf("%d %s", i, big))
	}
	r.tell(t, "the end")
	<-ended
	until(t, watch(t, r.plainServer(t, r.handler.ServeHTTP), "?after=400", ""), "the end")
}

// TestWatchersAreBounded: the 65th is told to come back.
func TestWatchersAreBounded(t *testing.T) {
	r := newRig(t)
	url := r.plainServer(t, r.handler.ServeHTTP)
	for range 64 {
		until(t, watch(t, url, "", ""), ": muster")
	}
	if a := r.call(t, "GET", "/api/v1/watch", operatorToken, "", ""); a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("one more = %d %s", a.Status, a.Body)
	}
}

// TestClientTakesUpBrokenStreams: each answer is cut after one event; every event comes, once and in order.
func TestClientTakesUpBrokenStreams(t *testing.T) {
	r := newRig(t)
	for i := range 6 {
		r.tell(t, fmt.Sprint("event ", i))
	}
	var streams atomic.Int64
	url := r.plainServer(t, func(w http.ResponseWriter, req *http.Request) {
		streams.Add(1)
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		r.handler.ServeHTTP(&cutter{ResponseWriter: w, cut: cancel}, req.WithContext(ctx))
	})
	c, err := api.NewClient(url, operatorToken, "")
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var got []string
	err = c.Impatient().Watch(t.Context(), broker.JournalQuery{Kinds: []string{"test"}}, func(e broker.Event) error {
		if got = append(got, e.Text); len(got) == 6 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || strings.Join(got, ",") != "event 0,event 1,event 2,event 3,event 4,event 5" || streams.Load() < 3 {
		t.Errorf("%d streams, %v: %v", streams.Load(), got, err)
	}
}

// A cutter ends a stream within its second event.
type cutter struct {
	http.ResponseWriter
	cut context.CancelFunc
}

func (c *cutter) Write(b []byte) (int, error) {
	if i := strings.Index(string(b), "\n\nid: "); i > 0 {
		n, err := c.ResponseWriter.Write(b[:i+2])
		c.cut()
		return n, errors.Join(err, io.ErrShortWrite)
	}
	return c.ResponseWriter.Write(b)
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
