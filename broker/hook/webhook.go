package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// A Webhook POSTs messages to one URL.
type Webhook struct {
	url    string
	secret Secret
	client *http.Client
}

// Format hides what is inside: fmt asks no method of a field that is not exported.
func (Webhook) Format(f fmt.State, _ rune) { fmt.Fprint(f, "webhook") }

// NewWebhook checks a URL and what goes with it. secret may be nil: messages are then not signed. ca is PEM of what the
// server's certificate must lead to; if empty, the system's CAs. allowed are special addresses that may be called.
func NewWebhook(address string, secret Secret, ca string, allowed []netip.Prefix) (*Webhook, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("url: want https://HOST/PATH")
	case u.User != nil:
		return nil, errors.New("url: a user and password in it would be shown to readers: let the receiver verify the signature")
	case ca != "" && u.Scheme != "https":
		return nil, errors.New("ca: only https has one")
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("ca: want certificates in PEM")
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: Control(allowed)}
	return &Webhook{address, secret, &http.Client{
		// No proxy: it would be called in place of the address that was judged.
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: trust, DisableKeepAlives: true, MaxResponseHeaderBytes: 32 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Call POSTs the message. Any answer of 200 to 299 takes it; its body counts when it is JSON.
func (w *Webhook) Call(ctx context.Context, m Message) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(m.Body))
	if err != nil {
		return Answer{}, errors.New("make the request: the url cannot be called")
	}
	req.Header = w.headers(m)
	resp, err := w.client.Do(req)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer resp.Body.Close()
	if err := verdict(resp); err != nil {
		return Answer{}, err
	}
	return read(resp)
}

// headers are those of Standard Webhooks: the signature covers id, time and body, so that none can be taken from
// another message.
func (w *Webhook) headers(m Message) http.Header {
	at := strconv.FormatInt(m.Time.Unix(), 10)
	h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"muster"}}
	h.Set("Webhook-Id", m.ID)
	h.Set("Webhook-Timestamp", at)
	if w.secret != nil {
		h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(w.secret.sign(m.ID, at, m.Body)))
	}
	return h
}

func (s Secret) sign(id, at string, body []byte) []byte {
	mac := hmac.New(sha256.New, s)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	return mac.Sum(nil)
}

// withoutURL is the cause alone: some services keep their secret in the path.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("call: %w", err)
}

// verdict reads the status. 408, 425 and 429 ask to come again later (RFC 9110, RFC 8470, RFC 6585); other refusals of
// 4xx would be the same tomorrow.
func verdict(resp *http.Response) error {
	code := resp.StatusCode
	switch {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("the answer is a redirect (%s), which is not followed: give the hook the new url (%w)", resp.Status, ErrRefused)
	case code == http.StatusGone:
		return fmt.Errorf("the answer is %s (%w)", resp.Status, ErrGone)
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		return fmt.Errorf("the answer is %s (%w)", resp.Status, ErrRefused)
	}
	return fmt.Errorf("the answer is %s", resp.Status)
}

// read takes a JSON answer of bounded size; what else a receiver says is its own.
func read(resp *http.Response) (Answer, error) {
	typ, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || typ != "application/json" {
		return Answer{}, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("read the answer: %w", withoutURL(err))
	case len(body) > MaxAnswer:
		return Answer{Note: fmt.Sprintf("its answer has over %d bytes and was not read", MaxAnswer)}, nil
	}
	return Answer{Body: body}, nil
}
