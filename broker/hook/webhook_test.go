package hook

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/boot/pin/pintest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

var message = Message{ID: "msg_1", Time: time.Unix(1614265330, 0), Body: []byte(`{"event":"node.active"}`)}

func webhook(t *testing.T, url, ca string, allowed []netip.Prefix) *Webhook {
	t.Helper()
	w, err := NewWebhook(url, nil, ca, allowed)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The vector is the one that the libraries of Standard Webhooks test themselves with.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	secret, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	w := &Webhook{secret: secret}
	h := w.headers(Message{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Time: time.Unix(1614265330, 999), Body: []byte(`{"test": 2432232314}`)})
	if got := h.Get("webhook-signature"); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
	if h.Get("webhook-id") != "msg_p5jXN8AQM9LWM0D4loKWxJek" || h.Get("webhook-timestamp") != "1614265330" {
		t.Errorf("headers %v", h)
	}
}

// T11
func TestT11SecretsPrintAsStars(t *testing.T) {
	secret, err := ParseSecret("whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5")
	if err != nil {
		t.Fatal(err)
	}
	if raw := string([]byte(secret)); raw != "canarycanarycanarycanary" {
		t.Fatalf("the secret is %q", raw)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, secret); got != "***" {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, Webhook{secret: secret}); strings.Contains(got, "canary") || strings.Contains(got, "63616e617279") || strings.Contains(got, "99 97 110") {
			t.Errorf("%s of the webhook prints %s", verb, got)
		}
	}
	for _, text := range []string{"", "canary", "whsec_", "whsec_canary", "whsec_Y2FuYXJ5", "sealed:" + strings.Repeat("canary", 8)} {
		if _, err := ParseSecret(text); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("ParseSecret(%q) = %v", text, err)
		}
	}
}

func TestWhatReceiversAnswer(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   Answer
		class  error
		says   string
	}{
		{"200 takes it", func(http.ResponseWriter, *http.Request) {}, Answer{}, nil, ""},
		{"so does 204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, Answer{}, nil, ""},
		{"JSON is an answer", answer("application/json; charset=utf-8", `{"a":1}`), Answer{Body: []byte(`{"a":1}`)}, nil, ""},
		{"a page for people is none", answer("text/html", `{"a":1}`), Answer{}, nil, ""},
		{"a huge answer is not read", answer("application/json", `"`+strings.Repeat("x", MaxAnswer)+`"`),
			Answer{Note: "its answer has over 65536 bytes and was not read"}, nil, ""},
		{"a redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
			Answer{}, ErrRefused, "redirect (307 Temporary Redirect)"},
		{"nor a permanent one", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusMovedPermanently)
		},
			Answer{}, ErrRefused, "redirect (301 Moved Permanently)"},
		{"400 is a refusal", status(400), Answer{}, ErrRefused, "400 Bad Request"},
		{"401 is a refusal", status(401), Answer{}, ErrRefused, "401"},
		{"410 is for ever", status(410), Answer{}, ErrGone, "410 Gone"},
		{"429 is for later", status(429), Answer{}, nil, "429"},
		{"408 is for later", status(408), Answer{}, nil, "408"},
		{"500 is for later", status(500), Answer{}, nil, "500 Internal Server Error"},
		{"a connection that is cut is for later", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Answer{}, nil, "call: EOF"},
		{"an answer that is cut is no answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{") // the rest never comes
		}, Answer{}, nil, "read the answer"},
		{"headers without end are not read", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
			Answer{}, nil, "call: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("webhook-id") != message.ID || r.Header.Get("webhook-signature") != "" {
					t.Errorf("the receiver got %s %v, %v", r.Method, r.Header, err)
				}
				body = string(b)
				tt.answer(w, r)
			}))
			defer srv.Close()
			got, err := webhook(t, srv.URL+"/canary-in-the-path", "", loopback).Call(t.Context(), message)
			if string(got.Body) != string(tt.want.Body) || got.Note != tt.want.Note || body != string(message.Body) {
				t.Errorf("answer %+v to %q; want %+v", got, body, tt.want)
			}
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %v; want %q and no path", err, tt.says)
			}
			for _, class := range []error{ErrRefused, ErrGone} {
				if errors.Is(err, class) != (class == tt.class) {
					t.Errorf("error %v is %v: %v", err, class, errors.Is(err, class))
				}
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d messages went where the redirects led", n)
	}
}

func answer(typ, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typ)
		_, _ = io.WriteString(w, body) // a client that reads no more has read enough
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// F18
func TestF18AReceiverThatHangsIsLeft(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"before it answers": func(http.ResponseWriter) {},
		"in its answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { begin(w); <-release }))
			defer srv.Close()
			defer close(release)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := webhook(t, srv.URL, "", loopback).Call(ctx, message); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("Call = %v", err)
			}
		})
	}
}

func TestT39CertificatesAreVerified(t *testing.T) {
	ca, other := pintest.New(t, "the operator's"), pintest.New(t, "another")
	var heard atomic.Int32
	serve := func(hosts ...string) string {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf(t, nil, hosts...)}}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	right, wrong := serve("127.0.0.1"), serve("elsewhere.example.net")
	pemOf := func(a *pintest.Authority) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw}))
	}
	for _, tt := range []struct{ name, url, ca, says string }{
		{"the system's CAs do not know it", right, "", "unknown authority"},
		{"another CA is not its own", right, pemOf(other), "unknown authority"},
		{"another host's certificate", wrong, pemOf(ca), "doesn't contain any IP SANs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := webhook(t, tt.url, tt.ca, loopback).Call(t.Context(), message)
			if err == nil || heard.Load() != 0 {
				t.Errorf("Call = %v, %d messages heard; want an error with %q", err, heard.Load(), tt.says)
			}
		})
	}
	if _, err := webhook(t, right, pemOf(ca), loopback).Call(t.Context(), message); err != nil || heard.Load() != 1 {
		t.Errorf("with its CA: %v, %d messages heard", err, heard.Load())
	}
}

func TestT39SpecialAddressesAreNotCalled(t *testing.T) {
	for _, tt := range []struct {
		addr string
		says string
	}{
		{"127.0.0.1", "loopback"}, {"127.8.9.10", "loopback"}, {"::1", "loopback"}, {"::ffff:127.0.0.1", "loopback"},
		{"0.0.0.0", "this host"}, {"::", "this host"}, {"169.254.169.254", "link-local"}, {"fe80::1%eth0", "link-local"},
		{"64:ff9b::a9fe:a9fe", "link-local"}, {"fd00:ec2::254", "metadata"}, {"100.100.100.200", "metadata"}, {"224.0.0.1", "multicast"},
		{"ff02::1", "multicast"}, {"255.255.255.255", "broadcast"},
		{"10.0.0.1", ""}, {"192.168.1.1", ""}, {"192.0.2.1", ""}, {"fd12::1", ""}, {"2001:db8::1", ""}, {"64:ff9b::c000:201", ""},
	} {
		err := judge(netip.MustParseAddr(tt.addr), nil)
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("judge(%s) = %v; want %q", tt.addr, err, tt.says)
		}
	}
	if err := judge(netip.MustParseAddr("::ffff:127.0.0.1"), loopback); err != nil {
		t.Errorf("an address that was allowed: %v", err)
	}
	var heard atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	defer srv.Close()
	if transport := webhook(t, srv.URL, "", nil).client.Transport.(*http.Transport); transport.Proxy != nil {
		t.Error("a proxy would be called in place of the address that is judged")
	}
	for _, url := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), strings.Replace(srv.URL, "127.0.0.1", "0.0.0.0", 1), strings.Replace(srv.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		if _, err := webhook(t, url, "", nil).Call(t.Context(), message); err == nil || heard.Load() != 0 {
			t.Errorf("%s: %v, %d messages heard", url, err, heard.Load())
		}
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ url, ca, says string }{
		{"", "", "want https"}, {"ftp://x/", "", "want https"}, {"file:///etc/passwd", "", "want https"}, {"unix:/run/x", "", "want https"},
		{"http://", "", "want https"}, {"/path", "", "want https"}, {"https://user:canary@x/", "", "user and password"},
		{"http://x/", "-----BEGIN", "only https"}, {"https://x/", "not PEM", "want certificates"}, {"https://x/\x00canary", "", "want https"},
	} {
		if _, err := NewWebhook(tt.url, nil, tt.ca, nil); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("NewWebhook(%q) = %v; want %q", tt.url, err, tt.says)
		}
	}
}
