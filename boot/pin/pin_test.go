package pin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"muster/boot/pin/pintest"
)

// ask calls a server with that chain by a host's name or address, and gives the error.
func ask(t *testing.T, shown tls.Certificate, conf *tls.Config, host string) error {
	t.Helper()
	asked := false
	s := pintest.Serve(t, shown, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DialContext: dial}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://" + net.JoinHostPort(host, port) + "/")
	if err == nil {
		resp.Body.Close()
	}
	if asked != (err == nil) {
		t.Errorf("the request reached the server: %t, with error %v", asked, err)
	}
	return err
}

func TestT13OnlyThePinnedCAIsBelieved(t *testing.T) {
	ca, other := pintest.New(t, "ours"), pintest.New(t, "theirs")
	between := ca.Under(t, "between")
	day := 24 * time.Hour
	good := ca.Leaf(t, nil, "127.0.0.1", "::1", "muster.example.net")
	alone := ca.Leaf(t, nil, "127.0.0.1")
	alone.Certificate = alone.Certificate[:1]
	both := other.Leaf(t, nil, "127.0.0.1") // shows our CA beside its own, whose name it can not have signed in
	both.Certificate = append(both.Certificate, ca.Cert.Raw)
	old := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-3*day), time.Now().Add(-2*day) }
	early := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(2*day), time.Now().Add(3*day) }
	client := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	for _, tt := range []struct {
		name  string
		shown tls.Certificate
		host  string
		pin   Pin
		says  string // "": believed
	}{
		{"its address", good, "127.0.0.1", Of(ca.Cert), ""},
		{"its address of IPv6", good, "::1", Of(ca.Cert), ""},
		{"its name", good, "muster.example.net", Of(ca.Cert), ""},
		{"a leaf below an intermediate", between.Leaf(t, nil, "127.0.0.1"), "127.0.0.1", Of(ca.Cert), ""},
		{"the intermediate is pinned", between.Leaf(t, nil, "127.0.0.1"), "127.0.0.1", Of(between.Cert), ""},
		{"the leaf itself is pinned", alone, "127.0.0.1", Of(alone.Leaf), ""},
		{"another address", good, "127.0.0.2", Of(ca.Cert), "not 127.0.0.2"},
		{"another name", good, "other.example.net", Of(ca.Cert), "not other.example.net"},
		{"another CA", good, "127.0.0.1", Of(other.Cert), "another CA: pinned is " + Of(other.Cert).String() + ", the server shows " + Of(ca.Cert).String()},
		{"another CA that shows ours", both, "127.0.0.1", Of(ca.Cert), "unknown authority"},
		{"our chain without our CA", alone, "127.0.0.1", Of(ca.Cert), "another CA"},
		{"a leaf that has ended", ca.Leaf(t, old, "127.0.0.1"), "127.0.0.1", Of(ca.Cert), "expired"},
		{"a leaf of tomorrow", ca.Leaf(t, early, "127.0.0.1"), "127.0.0.1", Of(ca.Cert), "not yet valid"},
		{"a client's certificate", ca.Leaf(t, client, "127.0.0.1"), "127.0.0.1", Of(ca.Cert), "incompatible key usage"},
		{"no pin at all", good, "127.0.0.1", Pin{}, "another CA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := ask(t, tt.shown, tt.pin.Config(tt.host, Now), tt.host)
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("= %v; want %q", err, tt.says)
			}
		})
	}
}

func TestAFileOfCAs(t *testing.T) {
	const host = "127.0.0.1"
	ca, other := pintest.New(t, "ours"), pintest.New(t, "theirs")
	file := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), "# a remark\n"...)
	conf, err := FileConfig(file, host, Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(t, ca.Under(t, "between").Leaf(t, nil, host), conf, host); err != nil {
		t.Errorf("a chain below it: %v", err)
	}
	if err := ask(t, other.Leaf(t, nil, host), conf, host); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another CA: %v", err)
	}
	if err := ask(t, ca.Leaf(t, nil, "127.0.0.2"), conf, host); err == nil || !strings.Contains(err.Error(), "not 127.0.0.1") {
		t.Errorf("another host: %v", err)
	}
	for _, bad := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := FileConfig([]byte(bad), host, Now); err == nil {
			t.Errorf("FileConfig(%q) is taken", bad)
		}
	}
}

// A session that is resumed is judged as a new one: its chain may have ended since.
func TestResumedSessionsAreJudged(t *testing.T) {
	ca := pintest.New(t, "ours")
	s := pintest.Serve(t, ca.Leaf(t, nil, "127.0.0.1"), http.NotFoundHandler())
	at := time.Now()
	conf := Of(ca.Cert).Config("127.0.0.1", func(*x509.Certificate) time.Time { return at })
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	call := func() (resumed bool, err error) {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		resp, err := c.Get(s.URL)
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		return resp.TLS.DidResume, nil
	}
	if _, err := call(); err != nil {
		t.Fatal(err)
	}
	if resumed, err := call(); !resumed || err != nil {
		t.Fatalf("resumed %t, %v: this test tests nothing", resumed, err)
	}
	at = at.AddDate(2, 0, 0)
	if _, err := call(); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("resumed past its end: %v", err)
	}
}

func TestNoHostIsNotAnyHost(t *testing.T) {
	ca := pintest.New(t, "ours")
	leaf := ca.Leaf(t, nil, "127.0.0.1")
	if err := Of(ca.Cert).Verify([]*x509.Certificate{leaf.Leaf, ca.Cert}, "", Now); err == nil {
		t.Error("a chain was believed for no host")
	}
}

func TestParse(t *testing.T) {
	want := Of(pintest.New(t, "x").Cert)
	for _, s := range []string{want.String(), strings.ToUpper(want.String())} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %s, %v", s, got, err)
		}
	}
	s := want.String()
	for _, bad := range []string{"", "00", s[:63], s + "0", s + s, "sha256:" + s[7:], s[:63] + "g", " " + s[1:], strings.Repeat("é", 32)} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %s; want an error", bad, got)
		}
	}
}

// TestOfIsWhatOpenSSLSays: the pin is a hash that other programs make too.
func TestOfIsWhatOpenSSLSays(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	c := pintest.New(t, "x").Cert
	sum := exec.Command("sh", "-c", "openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r")
	sum.Stdin = strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	out, err := sum.Output()
	if err != nil || !strings.HasPrefix(string(out), Of(c).String()+" ") {
		t.Errorf("openssl: %s, %v; Of: %s", out, err, Of(c))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(strings.Repeat("0a", 32))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Parse(s); err == nil && !strings.EqualFold(p.String(), s) {
			t.Errorf("Parse(%q) = %s", s, p)
		}
	})
}
