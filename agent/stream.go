package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// readTimeout ends a connection that gives no byte for so long; the stream goes on with another one.
const readTimeout = 30 * time.Second

// A stream reads one file of the broker, from its first to its last byte or a span of them. A connection that breaks, or
// a broker that restarts, is a pause: the next request asks for the rest (Range, and If-Range so that it is the rest of
// the same file). It ends with io.EOF exactly at the end.
//
// A broker that can not be reached is waited for without end: the link may be cut for hours, and nobody else has an order.
// One that is reached decides: it refuses when the order is over, and is given up when it sends no byte for Agent.Stall.
type stream struct {
	agent *Agent
	ctx   context.Context
	path  string
	size  int64 // -1: not known before the first answer
	most  int64 // largest size taken when it was not known
	until int64 // end of the span; 0: the end of the file

	pos      int64
	etag     string
	body     io.ReadCloser
	stop     context.CancelFunc // of the request that body belongs to
	attempts int                // since the last byte
	reached  bool               // by the last attempt
	moved    time.Time          // when the last byte came, or the broker could not be reached
}

func (a *Agent) newStream(ctx context.Context, path string, size int64) *stream {
	return &stream{agent: a, ctx: ctx, path: path, size: size, moved: a.Now()}
}

// span makes the next byte read that at from, and the last the one before to. The connection of a span that was read to its
// end is used again.
func (s *stream) span(from, to int64) {
	s.Close()
	s.pos, s.until = from, to
}

// last is the end of what is read.
func (s *stream) last() int64 {
	if s.until > 0 {
		return s.until
	}
	return s.size
}

// Read gives the next bytes, going back to the broker as often as needed.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if s.size >= 0 && s.pos == s.last() {
			return 0, s.end()
		}
		n, err := s.readSome(p)
		if n > 0 {
			s.pos += int64(n)
			s.attempts, s.moved = 0, s.agent.Now()
			return n, nil
		}
		if err == nil {
			continue
		}
		s.Close()
		if err := s.pause(err); err != nil {
			return 0, fmt.Errorf("read %q at byte %d: %w", s.path, s.pos, err)
		}
	}
}

// end is reached when every promised byte was read. More bytes than promised are another file.
func (s *stream) end() error {
	defer s.Close()
	if s.body == nil {
		return io.EOF
	}
	if n, _ := s.timed(make([]byte, 1)); n > 0 && s.pos == s.size {
		return fmt.Errorf("read %q: the broker serves more than the %d bytes that it promised", s.path, s.size)
	}
	return io.EOF
}

// Close drops the connection; the next Read would open another.
func (s *stream) Close() {
	if s.body != nil {
		s.stop()
		s.body.Close()
		s.body = nil
	}
}

// readSome reads from the open connection, opening one first when there is none.
func (s *stream) readSome(p []byte) (int, error) {
	if s.body == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	if rest := s.last() - s.pos; int64(len(p)) > rest {
		p = p[:rest]
	}
	n, err := s.timed(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// timed is one read that a silent connection cannot hold for longer than readTimeout.
func (s *stream) timed(p []byte) (int, error) {
	t := time.AfterFunc(readTimeout, s.stop)
	defer t.Stop()
	return s.body.Read(p)
}

// errChanged ends a stream whose file is not the one that was begun.
var errChanged = errors.New("the file changed on the broker while it was read")

// open asks for the bytes from pos on.
func (s *stream) open() error {
	ctx, stop := context.WithCancel(s.ctx)
	resp, err := s.ask(ctx)
	if s.reached = err == nil; err != nil {
		stop()
		return err
	}
	s.body, s.stop = resp.Body, stop
	if err := s.accept(resp); err != nil {
		s.Close()
		return err
	}
	return nil
}

func (s *stream) ask(ctx context.Context) (*http.Response, error) {
	b := s.agent.broker
	req, err := b.request(ctx, http.MethodGet, s.path, nil)
	if err != nil {
		return nil, err
	}
	if s.ranged() {
		span := "bytes=" + strconv.FormatInt(s.pos, 10) + "-"
		if s.until > 0 {
			span += strconv.FormatInt(s.until-1, 10)
		}
		req.Header.Set("Range", span)
		if s.etag != "" {
			req.Header.Set("If-Range", s.etag)
		}
	}
	return b.http.Do(req)
}

// ranged says whether a part of the file is asked for.
func (s *stream) ranged() bool { return s.pos > 0 || s.until > 0 }

// accept checks that an answer is the wanted part of the wanted file, and leaves its body at pos.
func (s *stream) accept(resp *http.Response) error {
	etag := resp.Header.Get("ETag")
	if strings.HasPrefix(etag, "W/") {
		etag = "" // RFC 9110 section 13.1.5: If-Range takes no weak one
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if s.etag != "" && s.etag != etag || s.pos > 0 && s.until == 0 && s.etag != etag {
			return errChanged
		}
		if err := s.checkSize(resp.ContentLength); err != nil {
			return err
		}
		s.etag = etag
		return s.skip(s.pos) // the server knows no ranges
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", s.pos, s.last()-1, s.size)
		if got := resp.Header.Get("Content-Range"); got != want || !s.ranged() {
			return fmt.Errorf("%w: asked for %q, got %q", errChanged, want, got)
		}
		if s.etag != "" && etag != s.etag {
			return errChanged
		}
		s.etag = etag
		return nil
	case http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return errChanged
	}
	return s.agent.broker.refusal(resp)
}

// skip reads past bytes that were read before.
func (s *stream) skip(n int64) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		got, err := s.timed(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// checkSize compares what the broker serves with what it promised, or learns it.
func (s *stream) checkSize(n int64) error {
	switch {
	case s.size >= 0 && n >= 0 && n != s.size:
		return fmt.Errorf("%w: it has %d bytes; %d were promised", errChanged, n, s.size)
	case s.size >= 0:
		return nil
	case n <= 0 || n > s.most:
		return fmt.Errorf("%w: it has %d bytes; 1 to %d are taken", errChanged, n, s.most)
	}
	s.size = n
	return nil
}

// pause waits before the next attempt, or gives the error that ends the stream.
func (s *stream) pause(cause error) error {
	code := refused(cause)
	if !s.reached {
		s.moved = s.agent.Now()
	}
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(cause, errChanged), code != 0 && !transient(code):
		return cause
	case s.agent.Now().Sub(s.moved) > s.agent.Stall:
		return fmt.Errorf("no byte for %s: %w", seconds(s.agent.Stall), unwrapURL(cause))
	}
	s.attempts++
	wait := retryIn(s.attempts, cause)
	s.agent.Console.Printf("%s%s stopped at byte %d: %v; attempt %d, going on in %s",
		s.agent.broker.base, s.path, s.pos, unwrapURL(cause), s.attempts, seconds(wait))
	return sleep(s.ctx, wait)
}
