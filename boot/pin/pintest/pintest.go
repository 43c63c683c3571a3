// Package pintest makes certificate authorities and chains for tests, right ones and ones with a chosen fault. It is a
// package of its own so that every side of a TLS connection is tested with the same chains.
package pintest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// An Authority issues certificates.
type Authority struct {
	Cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // from its own certificate to the root
}

// New makes a root.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	return authority(t, name, nil)
}

// Under makes an intermediate below a.
func (a *Authority) Under(t testing.TB, name string) *Authority {
	t.Helper()
	return authority(t, name, a)
}

func authority(t testing.TB, name string, above *Authority) *Authority {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a := &Authority{key: newKey(t)}
	if above == nil {
		above = &Authority{Cert: c, key: a.key}
	}
	a.Cert = sign(t, c, a.key, above)
	a.chain = append([][]byte{a.Cert.Raw}, above.chain...)
	return a
}

// Leaf issues for hosts; change, if not nil, spoils the template.
func (a *Authority) Leaf(t testing.TB, change func(*x509.Certificate), hosts ...string) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		c.DNSNames = append(c.DNSNames, h)
	}
	if change != nil {
		change(c)
	}
	key := newKey(t)
	leaf := sign(t, c, key, a)
	return tls.Certificate{Certificate: append([][]byte{leaf.Raw}, a.chain...), PrivateKey: key, Leaf: leaf}
}

// Serve answers over TLS with a chain until the test ends. Of handshakes that fail the client tells.
func Serve(t testing.TB, c tls.Certificate, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// PEM writes a chain and its key as files hold them.
func PEM(t testing.TB, c tls.Certificate) (chain, key []byte) {
	t.Helper()
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey, by *Authority) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by.Cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
