package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"muster/broker"
)

// Page reads one page of nodes in brief.
func (c *Client) Page(ctx context.Context, q broker.NodeQuery) (*broker.NodePage, error) {
	v := url.Values{"tag": q.Tags, "state": q.States}
	for name, text := range map[string]string{"nodes": q.Range, "policy": q.Policy, "where": q.Where, "sort": q.Sort, "after": q.After} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	p := &broker.NodePage{}
	return p, c.Get(ctx, "/api/v1/nodes?"+v.Encode(), p)
}

// Nodes reads all pages.
func (c *Client) Nodes(ctx context.Context, q broker.NodeQuery) (*broker.NodePage, error) {
	q.Limit = broker.MaxPage
	all, err := c.Page(ctx, q)
	for next := all.Next; err == nil && next != ""; {
		q.After = next
		var p *broker.NodePage
		if p, err = c.Page(ctx, q); err == nil {
			all.Nodes, all.Undecided = append(all.Nodes, p.Nodes...), addUndecided(all.Undecided, p.Undecided)
			next = p.Next
		}
	}
	all.Next = ""
	return all, err
}

// addUndecided counts equal causes together.
func addUndecided(all, more []broker.UndecidedNodes) []broker.UndecidedNodes {
next:
	for _, u := range more {
		for i := range all {
			if all[i].Cause == u.Cause {
				all[i].Count += u.Count
				continue next
			}
		}
		all = append(all, u)
	}
	return all
}

// Object reads one object; rev in it is the revision that a change of it is made to.
func (c *Client) Object(ctx context.Context, kind, name string) (map[string]any, error) {
	var doc map[string]any
	head, err := c.do(ctx, http.MethodGet, "/api/v1/objects/"+kind+"/"+url.PathEscape(name), nil, "", &doc)
	if err != nil {
		return nil, err
	}
	doc["rev"] = strings.Trim(head.Get("ETag"), `"`)
	return doc, nil
}

// Timeline reads how far a node came, and where it is.
func (c *Client) Timeline(ctx context.Context, name string) (*broker.Timeline, error) {
	t := &broker.Timeline{}
	return t, c.Get(ctx, "/api/v1/nodes/"+url.PathEscape(name)+"/timeline", t)
}

func journalValues(q broker.JournalQuery, nodes string) url.Values {
	v := url.Values{}
	if len(q.Kinds) > 0 {
		v.Set("kind", strings.Join(q.Kinds, ","))
	}
	for name, text := range map[string]string{nodes: q.Range, "who": q.Who} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v
}

// Journal gives every event that there is now to each, in order, and the seq that a watch goes on after.
func (c *Client) Journal(ctx context.Context, q broker.JournalQuery, each func(broker.Event) error) (int64, error) {
	v := journalValues(q, "node")
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339))
	}
	for after := q.After; ; {
		v.Set("after", strconv.FormatInt(after, 10))
		var events []broker.Event
		head, err := c.do(ctx, http.MethodGet, "/api/v1/events?"+v.Encode(), nil, "", &events)
		if err != nil {
			return after, err
		}
		for _, e := range events {
			if err := each(e); err != nil {
				return after, err
			}
		}
		next, err := strconv.ParseInt(head.Get("Muster-Next"), 10, 64)
		if err != nil {
			return after, fmt.Errorf("read the server's answer: %w", err)
		}
		if next <= after {
			return after, nil
		}
		after = next
	}
}

// Watch gives every event after q.After to each as it happens, until ctx ends or each fails. A stream that breaks is
// taken up again where it broke.
func (c *Client) Watch(ctx context.Context, q broker.JournalQuery, each func(broker.Event) error) error {
	path := "/api/v1/watch?" + journalValues(q, "nodes").Encode()
	for pause := c.pause; ; pause = min(2*pause, 30*c.pause) {
		head := http.Header{"Last-Event-Id": {strconv.FormatInt(q.After, 10)}}
		resp, err := c.send(ctx, http.MethodGet, path, nil, head)
		if err == nil {
			last := q.After
			err = readEvents(resp.Body, &q.After, each)
			resp.Body.Close()
			if q.After > last {
				pause = c.pause
			}
		}
		var broken *brokenStream
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.As(err, &broken):
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// A brokenStream ended before its reader.
type brokenStream struct{ error }

func (b *brokenStream) Unwrap() error { return b.error }

// maxFrame is the most bytes of a line of a stream.
const maxFrame = 1 << 20

// readEvents reads server-sent events as watch writes them; last follows their ids.
func readEvents(r io.Reader, last *int64, each func(broker.Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxFrame)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e broker.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("read the server's events: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
		*last = e.Seq
	}
	err := lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read the server's events: %w", err)
	}
	return &brokenStream{errors.Join(errors.New("the stream of events ended"), err)}
}

// Tokens lists operators' tokens.
func (c *Client) Tokens(ctx context.Context) (list []broker.Token, err error) {
	return list, c.Get(ctx, "/api/v1/tokens", &list)
}

// CreateToken makes an operator's token.
func (c *Client) CreateToken(ctx context.Context, name string, role broker.Role, expires time.Time) (*NewToken, error) {
	in := map[string]any{"name": name, "role": role}
	if !expires.IsZero() {
		in["expires"] = expires.UTC().Format(time.RFC3339)
	}
	t := &NewToken{}
	return t, c.Post(ctx, "/api/v1/tokens", in, t)
}

// RevokeToken ends an operator's token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(name), nil, "", nil)
}
