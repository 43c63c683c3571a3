package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/boot/pin"
	"muster/boot/pin/pintest"
)

// secureAgent is an agent with the HTTP client of its own, and a broker that it has to find by Args.
func secureAgent(t *testing.T) (*Agent, *testBroker, *screen) {
	t.Helper()
	a, b, s := newAgent(t)
	a.HTTP, a.Args.Server = nil, ""
	return a, b, s
}

// untilPolled lives until the agent has checked in and asks for orders, or says what is looked for, or the limit of
// what hangs is over.
func untilPolled(t *testing.T, a *Agent, b *testBroker, s *screen, says string) (polled bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == routeOrder {
			polled = true
			cancel()
		}
		return false
	}
	if says != "" {
		a.Console.W = &watched{s, says, cancel}
	}
	if err := a.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v:\n%s", err, s)
	}
	return polled
}

// watched ends something when a console says what is looked for.
type watched struct {
	*screen
	says string
	end  func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.screen.Write(p)
	if strings.Contains(w.String(), w.says) {
		w.end()
	}
	return n, err
}

func TestAgentChecksInOverTLS(t *testing.T) {
	ca := pintest.New(t, "ours")
	for name, trust := range map[string]func(a *Agent){
		"pinned by the kernel line": func(a *Agent) { a.Args.CA = pin.Of(ca.Cert).String() },
		"baked into the ramdisk": func(a *Agent) {
			put(t, filepath.Join(a.Root, bakedCA), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, s := secureAgent(t)
			a.Args.Server = pintest.Serve(t, ca.Leaf(t, nil, "127.0.0.1"), http.HandlerFunc(b.serve)).URL
			trust(a)
			if !untilPolled(t, a, b, s, "") || len(b.checkIns) != 1 {
				t.Errorf("%d check-ins:\n%s", len(b.checkIns), s)
			}
		})
	}
}

// TestT13ARelayWithAnotherCA (T51): somebody between shows a chain of his own and passes everything on. The agent tells
// him nothing, not even its key, says which CA it wanted and which it saw, and goes on when he is gone.
func TestT13ARelayWithAnotherCA(t *testing.T) {
	ours, theirs := pintest.New(t, "ours"), pintest.New(t, "theirs")
	a, b, s := secureAgent(t)
	real := pintest.Serve(t, ours.Leaf(t, nil, "127.0.0.1"), http.HandlerFunc(b.serve))
	to, err := url.Parse(real.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = real.Client().Transport
	proxy.Transport.(*http.Transport).TLSClientConfig = pin.Of(ours.Cert).Config("127.0.0.1", pin.Now)
	var gone atomic.Bool
	var early atomic.Int32 // requests while the relay shows its own chain
	relay := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !gone.Load() {
			early.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	evil := &tls.Config{Certificates: []tls.Certificate{theirs.Leaf(t, nil, "127.0.0.1")}}
	good := &tls.Config{Certificates: []tls.Certificate{ours.Leaf(t, nil, "127.0.0.1")}}
	relay.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if gone.Load() {
			return good, nil
		}
		return evil, nil
	}}
	relay.Config.ErrorLog = log.New(io.Discard, "", 0)
	relay.StartTLS()
	t.Cleanup(relay.Close)
	a.Args.Server, a.Args.CA = relay.URL, pin.Of(ours.Cert).String()
	why := "another CA: pinned is " + pin.Of(ours.Cert).String() + ", the server shows " + pin.Of(theirs.Cert).String()
	a.Console.W = &watched{s, why, func() { gone.Store(true) }}
	if !untilPolled(t, a, b, s, "") {
		t.Errorf("the agent did not come through when the relay was gone:\n%s", s)
	}
	if !strings.Contains(s.String(), why) || !strings.Contains(s.String(), "attempt 1, next try in ") {
		t.Errorf("the console does not say why:\n%s", s)
	}
	if early.Load() != 0 || len(b.checkIns) != 1 {
		t.Errorf("the relay was sent %d requests and the broker %d check-ins; want 0 and 1", early.Load(), len(b.checkIns))
	}
}

// TestF44AnyClockComesThrough: the clock says what it likes; the check-in goes over TLS and the broker's Date corrects it.
func TestF44AnyClockComesThrough(t *testing.T) {
	ca := pintest.New(t, "ours")
	for _, year := range []int{1970, 2001, 2099} {
		t.Run(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006"), func(t *testing.T) {
			a, b, s := secureAgent(t)
			a.Args.Server, a.Args.CA = pintest.Serve(t, ca.Leaf(t, nil, "127.0.0.1"), http.HandlerFunc(b.serve)).URL, pin.Of(ca.Cert).String()
			a.Built = time.Now().AddDate(0, -1, 0)
			shift := time.Until(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
			a.Now = func() time.Time { return time.Now().Add(shift) }
			var set []time.Time
			a.SetClock = func(to time.Time) error {
				set = append(set, to)
				if len(set) > 1 || year > 2050 { // the first of an old clock is the build's, which a broken clock chip does not take
					shift = time.Until(to)
				}
				return nil
			}
			if !untilPolled(t, a, b, s, "") {
				t.Fatalf("no check-in:\n%s", s)
			}
			last := b.checkIns[len(b.checkIns)-1]
			if skew := last.State.ClockSkewMS; skew == nil || time.Duration(*skew)*time.Millisecond > 75*365*24*time.Hour || (*skew > 0) != (year > 2050) {
				t.Errorf("the broker was told a skew of %v ms in the year %d", skew, year)
			}
			if off := time.Since(set[len(set)-1]).Abs(); off > time.Minute {
				t.Errorf("the clock was set %s off", off)
			}
		})
	}
}

// What ended before the agent was built is over, whatever the clock says; what may be right is believed.
func TestJudgeAt(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	built := day(10)
	for _, tt := range []struct {
		name          string
		clock         time.Time
		from, to      time.Time
		want          time.Time
		believedUntil bool
	}{
		{"a right clock is taken", day(15), day(1), day(20), day(15), true},
		{"a clock behind the build counts as the build", day(2), day(1), day(20), day(10), true},
		{"a clock behind the certificate counts as its first day", day(2), day(12), day(20), day(12), true},
		{"a clock ahead counts as its last day", day(29), day(1), day(20), day(20), true},
		{"what ended before the build has ended", day(29), day(1), day(9), day(29), false},
		{"however old the clock", day(2), day(1), day(9), day(10), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &Agent{Built: built, Now: func() time.Time { return tt.clock }}
			leaf := &x509.Certificate{NotBefore: tt.from, NotAfter: tt.to}
			got := a.judgeAt(leaf)
			if !got.Equal(tt.want) || tt.believedUntil == got.After(tt.to) {
				t.Errorf("= %s; want %s", got, tt.want)
			}
		})
	}
}

func TestExpiredBeforeTheBuildIsRefused(t *testing.T) {
	ca := pintest.New(t, "ours")
	a, b, s := secureAgent(t)
	old := ca.Leaf(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
	}, "127.0.0.1")
	a.Args.Server, a.Args.CA, a.Built = pintest.Serve(t, old, http.HandlerFunc(b.serve)).URL, pin.Of(ca.Cert).String(), time.Now().AddDate(0, -1, 0)
	if untilPolled(t, a, b, s, "expired") || len(b.calls) != 0 {
		t.Errorf("%d calls:\n%s", len(b.calls), s)
	}
}

// Without a CA to trust the agent goes nowhere and says what is missing.
func TestT13NoTrustNoCall(t *testing.T) {
	ca := pintest.New(t, "ours")
	good := pin.Of(ca.Cert).String()
	for _, tt := range []struct {
		name, server, ca, baked string
		says                    string
	}{
		{"https without a pin", "https", "", "", "needs a CA to trust: muster.ca=PIN on the kernel line, or one in the ramdisk"},
		{"a pin cut short", "https", good[:63], "", "read muster.ca: pin has 63 characters"},
		{"a pin that is none", "https", good[:63] + "x", "", "read muster.ca: pin"},
		{"a broken pin beside a CA in the ramdisk", "https", "x", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})), "read muster.ca: pin"},
		{"a baked CA that is none", "https", "", "none\n", "read /etc/muster/ca.pem: no certificate"},
		{"a pin and plain http", "http", good, "", "is not https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b, s := secureAgent(t)
			srv := pintest.Serve(t, ca.Leaf(t, nil, "127.0.0.1"), http.HandlerFunc(b.serve))
			a.Args.Server, a.Args.CA = strings.Replace(srv.URL, "https", tt.server, 1), tt.ca
			if tt.baked != "" {
				put(t, filepath.Join(a.Root, bakedCA), tt.baked)
			}
			if untilPolled(t, a, b, s, "this boot can not go on") || len(b.calls) != 0 || !strings.Contains(s.String(), tt.says) {
				t.Errorf("%d calls; want none and %q:\n%s", len(b.calls), tt.says, s)
			}
		})
	}
}
