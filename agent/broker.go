package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is taken from a broker.
const (
	maxAnswer     = 1 << 20 // bytes of a JSON answer
	maxErrorText  = 300     // bytes of an error answer shown on the console
	maxRetryAfter = 10 * time.Minute
	callTimeout   = 30 * time.Second
	pollTimeout   = 100 * time.Second // the broker holds a poll for about 60 s
)

// Back-off between attempts.
const (
	firstRetry = 1 * time.Second
	lastRetry  = 60 * time.Second
)

// NewKey makes the boot key: 256 random bits that name this boot to the broker, in hex.
func NewKey() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return hex.EncodeToString(b[:])
}

// newHTTP is a client for brokers: no proxy, no redirects (a boot key goes to the broker that the kernel line names
// and nowhere else), no transparent decompression. trusted says which brokers are believed over https.
func newHTTP(trusted *tls.Config) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           dialer.DialContext,
			TLSClientConfig:       trusted,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: pollTimeout,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   4,
			DisableCompression:    true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// broker is the broker as the agent sees it.
type broker struct {
	base string // URL without a slash at the end
	key  string
	http *http.Client
	now  func() time.Time
}

// A refusal is an answer outside 2xx.
type refusal struct {
	Code  int
	Text  string        // of the body, cut
	After time.Duration // Retry-After, 0 when there is none
}

func (e *refusal) Error() string {
	s := fmt.Sprintf("%d %s", e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// refused gives the status code of a refusal, 0 for other errors.
func refused(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.Code
	}
	return 0
}

// answer is what came with a call besides the JSON body.
type answer struct {
	code      int
	header    http.Header
	sent, got time.Time
}

// call sends in as JSON, when it is not nil, and reads the answer into out when there is one with a body.
func (b *broker) call(ctx context.Context, method, path string, in, out any) (answer, error) {
	req, err := b.request(ctx, method, path, in)
	if err != nil {
		return answer{}, err
	}
	a := answer{sent: b.now()}
	resp, err := b.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a.code, a.header, a.got = resp.StatusCode, resp.Header, b.now()
	if resp.StatusCode/100 != 2 {
		return a, b.refusal(resp)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return a, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return a, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	if len(body) > maxAnswer {
		return a, fmt.Errorf("read the answer of %s %s: more than %d bytes", method, path, maxAnswer)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return a, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	return a, nil
}

// request makes a request with the boot key. path must be absolute, so that it cannot change the host.
func (b *broker) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q does not start with a slash", path)
	}
	var body io.Reader
	if in != nil {
		j, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func (b *broker) refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
	return &refusal{
		Code:  resp.StatusCode,
		Text:  strings.TrimSpace(problem(text)),
		After: retryAfter(resp.Header.Get("Retry-After"), b.now()),
	}
}

// problem takes the sentence out of an RFC 9457 problem document; other text stays as it is.
func problem(body []byte) string {
	var p struct{ Title, Detail string }
	if json.Unmarshal(body, &p) == nil && (p.Detail != "" || p.Title != "") {
		if p.Detail != "" {
			return p.Detail
		}
		return p.Title
	}
	return string(body)
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return min(t.Sub(now), maxRetryAfter)
	}
	return 0
}

// retryIn is the pause after the given attempt, the first being 1. Jitter of up to a half keeps a rack that lost its
// broker at one moment from coming back at one moment.
func retryIn(attempt int, err error) time.Duration {
	d := lastRetry
	if attempt < 7 {
		d = min(lastRetry, firstRetry*time.Duration(math.Exp2(float64(attempt-1))))
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		switch {
		case r.After > 0:
			d = r.After
		case !transient(r.Code):
			d = lastRetry
		}
	}
	return d + time.Duration(mathrand.Int64N(int64(d)/2+1))
}

// transient says whether a refusal may pass by itself.
func transient(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// insist calls until it is answered, telling the console what fails and when it is tried again. It gives up when ctx
// ends, or when stop, if not nil, says that the error is for the caller.
func (a *Agent) insist(ctx context.Context, method, path string, in, out any, stop func(error) bool) (answer, error) {
	for attempt := 1; ; attempt++ {
		one, cancel := context.WithTimeout(ctx, callTimeout)
		ans, err := a.broker.call(one, method, path, in, out)
		cancel()
		if err == nil {
			if attempt > 1 {
				a.Console.Printf("the broker answers again")
			}
			return ans, nil
		}
		if ctx.Err() != nil {
			return ans, ctx.Err()
		}
		if stop != nil && stop(err) {
			return ans, err
		}
		wait := retryIn(attempt, err)
		a.Console.Printf("%s%s: %v; attempt %d, next try in %s", a.broker.base, path, unwrapURL(err), attempt, seconds(wait))
		if err := sleep(ctx, wait); err != nil {
			return ans, err
		}
	}
}

// unwrapURL drops the method and URL that net/http puts before its errors; the line says them already.
func unwrapURL(err error) error {
	var u interface {
		Unwrap() error
		Timeout() bool
	}
	if _, ok := err.(*refusal); !ok && errors.As(err, &u) && u.Unwrap() != nil {
		return u.Unwrap()
	}
	return err
}
