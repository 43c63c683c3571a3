package api_test

import (
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/boot/pin"
	"muster/boot/pin/pintest"
	"muster/broker/api"
)

// TestT13TheClientTrustsTheNamedCA: by pin or by file, and nobody else gets the token.
func TestT13TheClientTrustsTheNamedCA(t *testing.T) {
	ca, other := pintest.New(t, "ours"), pintest.New(t, "theirs")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, ca, host string
		says           string // "": the call is answered
	}{
		{"its pin", pin.Of(ca.Cert).String(), "127.0.0.1", ""},
		{"its file", file, "127.0.0.1", ""},
		{"another pin", pin.Of(other.Cert).String(), "127.0.0.1", "another CA"},
		{"another host", pin.Of(ca.Cert).String(), "127.0.0.2", "not 127.0.0.1"},
		{"the system's CAs", "", "127.0.0.1", "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := ""
			s := pintest.Serve(t, ca.Leaf(t, nil, tt.host), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				heard = r.Header.Get("Authorization")
				w.Write([]byte("{}"))
			}))
			c, err := api.NewClient(s.URL, "secret", tt.ca)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Node(t.Context(), "node1")
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("= %v; want %q", err, tt.says)
			}
			if (heard == "Bearer secret") != (tt.says == "") {
				t.Errorf("the server heard %q", heard)
			}
		})
	}
}

// TestT13NoTokenInClear: a token goes over plain HTTP to this host only.
func TestT13NoTokenInClear(t *testing.T) {
	for _, tt := range []struct {
		server, token string
		says          string
	}{
		{"http://192.0.2.10:8080", "secret", "would travel in clear"},
		{"http://muster.example.net", "secret", "would travel in clear"},
		{"http://[2001:db8::1]:8080", "secret", "would travel in clear"},
		{"http://localhost.example.net", "secret", "would travel in clear"},
		{"http://192.0.2.10:8080", "", ""},
		{"http://127.0.0.1:8080", "secret", ""},
		{"http://[::1]:8080", "secret", ""},
		{"http://localhost:8080", "secret", ""},
		{"https://192.0.2.10:8443", "secret", ""},
		{"192.0.2.10:8080", "", "want https://HOST:PORT"},
		{"ftp://192.0.2.10", "", "want https://HOST:PORT"},
	} {
		if _, err := api.NewClient(tt.server, tt.token, ""); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("NewClient(%q, %q) = %v; want %q", tt.server, tt.token, err, tt.says)
		}
	}
	for _, ca := range []string{strings.Repeat("0", 63), "/nowhere/ca.pem", os.DevNull} {
		if _, err := api.NewClient("https://192.0.2.10:8443", "", ca); err == nil || !strings.Contains(err.Error(), ca) {
			t.Errorf("MUSTER_CA=%s: %v", ca, err)
		}
	}
}
