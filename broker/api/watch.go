package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"muster/broker"
)

// Limits of watching. A watcher reads the store by itself, at its own pace, so that no writer ever waits for one; it is
// cut off when it does not take what it was sent, and comes back with Last-Event-ID.
const (
	maxWatchers = 64
	watchPause  = 100 * time.Millisecond // between two looks into the store
	watchBatch  = 256
)

// watch sends the journal as server-sent events (WHATWG HTML, section 9.2).
func (s *server) watch(w http.ResponseWriter, r *http.Request) error {
	q, err := s.watchQuery(r)
	if err != nil {
		return err
	}
	// A range that means nothing is refused now, not in the stream.
	if _, _, err := s.Broker.ReadJournal(r.Context(), broker.JournalQuery{Range: q.Range, After: q.After, Limit: 1}, false); err != nil {
		return err
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d watch already; no more are taken", maxWatchers))
		return nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx in between would hold the stream back
	c := &sender{w, http.NewResponseController(w), s.Patience}
	// A write that fails is a reader that went, or that was too slow: there is nobody to tell.
	if c.send(": muster\n\n") == nil {
		s.follow(r.Context(), q, c)
	}
	return nil
}

func (s *server) watchQuery(r *http.Request) (q broker.JournalQuery, err error) {
	v := r.URL.Query()
	q = broker.JournalQuery{Range: v.Get("nodes"), Who: v.Get("who"), Limit: watchBatch}
	q.Kinds = strings.FieldsFunc(v.Get("kind"), func(c rune) bool { return c == ',' })
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = v.Get("after")
	}
	if after == "" {
		q.After, err = s.Broker.LastSeq(r.Context())
		return q, err
	}
	if q.After, err = strconv.ParseInt(after, 10, 64); err != nil || q.After < 0 {
		return q, fmt.Errorf("after %.40q: want the seq of an event (%w)", after, broker.ErrInvalid)
	}
	return q, nil
}

// follow sends events until the reader is gone.
func (s *server) follow(ctx context.Context, q broker.JournalQuery, c *sender) {
	pause := time.NewTicker(watchPause)
	defer pause.Stop()
	for {
		wait, cancel := context.WithTimeout(ctx, s.Heartbeat)
		events, next, err := s.Broker.ReadJournal(wait, q, true)
		cancel()
		text := ": still here\n\n"
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Log.Error("watch", "err", err)
			return // the reader comes back, and is told by a status then
		case len(events) > 0:
			text = frames(events)
		}
		if c.send(text) != nil {
			return
		}
		q.After = next
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// frames writes events as the stream has them. JSON has no line feeds of its own, so that one data line is enough.
func frames(events []broker.Event) string {
	var b strings.Builder
	for _, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			continue // strings and a time: they have a form
		}
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, raw)
	}
	return b.String()
}

// A sender writes to a reader that may be slow.
type sender struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	patience time.Duration
}

func (c *sender) send(text string) error {
	if err := c.rc.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	if _, err := c.w.Write([]byte(text)); err != nil {
		return err
	}
	return c.rc.Flush()
}
