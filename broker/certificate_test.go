package broker

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/boot/pin"
	"muster/boot/pin/pintest"
)

// shake makes a TLS connection to c as that client, and gives the leaf that was shown.
func shake(t *testing.T, c *Certificate, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Server(a, c.Config()).Handshake() }() // the client knows
	conn := tls.Client(b, client)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func pinned(c *Certificate, host string) *tls.Config { return pin.Of(c.CA).Config(host, pin.Now) }

func ownCertificate(t *testing.T, dir string, hosts ...string) *Certificate {
	t.Helper()
	c, err := OwnCertificate(dir, func() []string { return hosts })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOwnCertificateKeepsItsCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first := ownCertificate(t, dir, "192.0.2.10", "muster.example.net")
	for host, good := range map[string]bool{"192.0.2.10": true, "muster.example.net": true, "192.0.2.11": false, "example.net": false} {
		if _, err := shake(t, first, pinned(first, host)); (err == nil) != good {
			t.Errorf("called as %s: %v", host, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "ca.key": 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s/%s: %v, %v; want %v", dir, name, st.Mode(), err, mode)
		}
	}
	again := ownCertificate(t, dir, "192.0.2.10")
	if pin.Of(again.CA) != pin.Of(first.CA) {
		t.Error("another start has another CA")
	}
	leaf, err := shake(t, again, pinned(first, "192.0.2.10"))
	if err != nil || pin.Of(leaf) == pin.Of(first.shown.Load().Leaf) {
		t.Errorf("another start: %v, or the leaf has the old key", err)
	}
	// The certificate can be lost, the pin stays.
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if c := ownCertificate(t, dir, "192.0.2.10"); pin.Of(c.CA) != pin.Of(first.CA) {
		t.Error("a certificate made anew has another pin")
	}
	for _, year := range []int{2020, 2026, 2099, 2200} {
		at := time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)
		if _, err := shake(t, again, pin.Of(first.CA).Config("192.0.2.10", func(*x509.Certificate) time.Time { return at })); err != nil {
			t.Errorf("in %d: %v", year, err)
		}
	}
}

func TestOwnCertificateFollowsTheHosts(t *testing.T) {
	hosts := []string{"192.0.2.10"}
	c, err := OwnCertificate(filepath.Join(t.TempDir(), "tls"), func() []string { return hosts })
	if err != nil {
		t.Fatal(err)
	}
	before := c.shown.Load()
	if err := c.Renew(); err != nil || c.shown.Load() != before {
		t.Errorf("the same hosts: %v, or another chain", err)
	}
	hosts = []string{"192.0.2.10", "192.0.2.20"}
	if err := c.Renew(); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, c, pinned(c, "192.0.2.20")); err != nil {
		t.Errorf("a new address: %v", err)
	}
}

func TestTLS12IsTheFloor(t *testing.T) {
	c := ownCertificate(t, filepath.Join(t.TempDir(), "tls"), "192.0.2.10")
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conf := pinned(c, "192.0.2.10")
		conf.MinVersion, conf.MaxVersion = version, version
		if _, err := shake(t, c, conf); (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

// TestT44ABrokenCAStopsTheServer (T12): one line says which file and what to do; nothing is made anew over it.
func TestT44ABrokenCAStopsTheServer(t *testing.T) {
	otherKey := "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n" // Ed25519
	for _, tt := range []struct {
		name, file, content string
		mode                os.FileMode
		says                string
	}{
		{"others can read the key", "ca.key", "", 0o644, "ca.key may be read by others: chmod 600 it"},
		{"the group can", "ca.key", "", 0o640, "ca.key may be read by others: chmod 600 it"},
		{"an empty key", "ca.key", "\x00", 0o600, "ca.key with 0 bytes is no PEM"},
		{"a key that is text", "ca.key", "hello\n", 0o600, "ca.key with 6 bytes is no PEM"},
		{"a key cut short", "ca.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "ca.key: "},
		{"a key of another kind", "ca.key", otherKey, 0o600, "not an ECDSA key"},
		{"no key beside the certificate", "ca.key", "gone", 0o600, "ca.key is missing beside its certificate"},
		{"an empty certificate", "ca.pem", "\x00", 0o600, "ca.pem is no PEM"},
		{"a certificate that is none", "ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o600, "ca.pem: "},
		{"a certificate of another", "ca.pem", "other", 0o600, "do not belong together"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tls")
			ownCertificate(t, dir, "192.0.2.10")
			path := filepath.Join(dir, tt.file)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch tt.content {
			case "":
			case "\x00":
				content = nil
			case "other":
				content, _ = pintest.PEM(t, pintest.New(t, "other").Leaf(t, nil, "x"))
			default:
				content = []byte(tt.content)
			}
			if err := os.WriteFile(path, content, tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			if tt.content == "gone" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			_, err = OwnCertificate(dir, func() []string { return []string{"192.0.2.10"} })
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("= %v; want one line with %q", err, tt.says)
			}
		})
	}
}

// files writes an operator's chain and key.
func files(t *testing.T, dir string, c tls.Certificate, mode os.FileMode) (chain, key string) {
	t.Helper()
	chain, key = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	certPEM, keyPEM := pintest.PEM(t, c)
	for path, b := range map[string][]byte{chain: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, b, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return chain, key
}

func TestFileCertificateIsRenewedUnderTheSameCA(t *testing.T) {
	dir, ca, other := t.TempDir(), pintest.New(t, "ours"), pintest.New(t, "theirs")
	between := ca.Under(t, "between")
	chain, key := files(t, dir, between.Leaf(t, nil, "muster.example.net"), 0o600)
	c, err := FileCertificate(chain, key, "muster.example.net")
	if err != nil {
		t.Fatal(err)
	}
	if pin.Of(c.CA) != pin.Of(ca.Cert) {
		t.Errorf("the pinned CA is %s; want the last of the chain", c.CA.Subject)
	}
	first, err := shake(t, c, pin.Of(ca.Cert).Config("muster.example.net", pin.Now))
	if err != nil {
		t.Fatal(err)
	}
	renewed := between.Leaf(t, nil, "muster.example.net")
	files(t, dir, renewed, 0o600)
	if err := c.Renew(); err != nil {
		t.Fatal(err)
	}
	if leaf, err := shake(t, c, pin.Of(ca.Cert).Config("muster.example.net", pin.Now)); err != nil || leaf.Equal(first) || !leaf.Equal(renewed.Leaf) {
		t.Errorf("after a renewal: %v, or the old leaf", err)
	}
	// What would lose the machines under way is not shown.
	for what, spoil := range map[string]func(){
		"another CA":   func() { files(t, dir, other.Leaf(t, nil, "muster.example.net"), 0o600) },
		"another name": func() { files(t, dir, ca.Leaf(t, nil, "other.example.net"), 0o600) },
		"no key":       func() { os.Remove(key) },
		"an open key":  func() { files(t, dir, between.Leaf(t, nil, "muster.example.net"), 0o644) },
	} {
		spoil()
		if err := c.Renew(); err == nil {
			t.Errorf("%s was taken", what)
		}
		if leaf, err := shake(t, c, pin.Of(ca.Cert).Config("muster.example.net", pin.Now)); err != nil || !leaf.Equal(renewed.Leaf) {
			t.Errorf("after %s: %v, or another leaf", what, err)
		}
	}
}

func TestFileCertificateRefusals(t *testing.T) {
	ca := pintest.New(t, "ours")
	good := ca.Leaf(t, nil, "192.0.2.10")
	swapped := ca.Leaf(t, nil, "192.0.2.10")
	swapped.PrivateKey = good.PrivateKey
	backwards := ca.Leaf(t, nil, "192.0.2.10")
	backwards.Certificate = [][]byte{backwards.Certificate[1], backwards.Certificate[0]}
	strange := ca.Leaf(t, nil, "192.0.2.10")
	strange.Certificate[1] = pintest.New(t, "theirs").Cert.Raw
	alone := ca.Leaf(t, nil, "192.0.2.10")
	alone.Certificate = alone.Certificate[:1]
	ended := ca.Leaf(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "192.0.2.10")
	for _, tt := range []struct {
		name string
		cert tls.Certificate
		mode os.FileMode
		says string // "": shown
	}{
		{"a chain", good, 0o600, ""},
		{"a leaf alone is its own CA", alone, 0o600, ""},
		{"one that has ended is shown, and warned of", ended, 0o600, ""},
		{"others can read the key", good, 0o644, "key.pem may be read by others"},
		{"another key", swapped, 0o600, "private key does not match"},
		{"the CA first", backwards, 0o600, "private key does not match"},
		{"another name", ca.Leaf(t, nil, "192.0.2.11"), 0o600, "agents that call 192.0.2.10 would refuse it"},
		{"a CA that did not sign", strange, 0o600, "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain, key := files(t, t.TempDir(), tt.cert, tt.mode)
			_, err := FileCertificate(chain, key, "192.0.2.10")
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("= %v; want %q", err, tt.says)
			}
		})
	}
	for _, empty := range []string{"chain.pem", "key.pem"} {
		chain, key := files(t, t.TempDir(), good, 0o600)
		if err := os.Truncate(filepath.Join(filepath.Dir(chain), empty), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := FileCertificate(chain, key, "192.0.2.10"); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("an empty %s: %v", empty, err)
		}
	}
}
