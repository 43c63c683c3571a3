// Package pin is trust in a certificate authority by the hash of its key, which is short enough for a kernel command
// line. It is a leaf so that the broker, which makes a pin, and the agent and the operator's client, which judge a
// server by it, cannot disagree.
//
// A server must send its whole chain, the pinned certificate included: a pin tells that certificate from others, but
// does not bring it.
package pin

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo, in DER (what RFC 7469 section 2.4 hashes). It stays
// when a certificate is made anew for the same key.
type Pin [sha256.Size]byte

// Of gives the pin of a certificate.
func Of(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Parse reads what String writes.
func Parse(s string) (Pin, error) {
	var p Pin
	if len(s) != hex.EncodedLen(len(p)) {
		return p, fmt.Errorf("pin has %d characters: want %d hexadecimal digits, the SHA-256 of a CA's public key", len(s), hex.EncodedLen(len(p)))
	}
	if _, err := hex.Decode(p[:], []byte(s)); err != nil {
		return p, fmt.Errorf("pin %q: %w", s, err)
	}
	return p, nil
}

// String is 64 hexadecimal digits.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// When says at which time a server's certificate is judged.
type When func(leaf *x509.Certificate) time.Time

// Now is for those whose clock is right.
func Now(*x509.Certificate) time.Time { return time.Now() }

// Config is TLS for a client of one host, a name or an address, that believes chains up to the pinned certificate and
// nothing else: the roots of the system do not count.
func (p Pin) Config(host string, at When) *tls.Config { return config(p.root, host, at) }

// FileConfig is TLS for a client of one host that believes the authorities of a PEM file and no others.
func FileConfig(pem []byte, host string, at When) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in PEM form")
	}
	return config(func([]*x509.Certificate) (*x509.CertPool, error) { return roots, nil }, host, at), nil
}

// root finds the pinned certificate among those that a server sent.
func (p Pin) root(sent []*x509.Certificate) (*x509.CertPool, error) {
	for _, c := range sent {
		if Of(c) == p {
			roots := x509.NewCertPool()
			roots.AddCert(c)
			return roots, nil
		}
	}
	last := sent[len(sent)-1]
	return nil, fmt.Errorf("another CA: pinned is %s, the server shows %s (%.80q)", p, Of(last), last.Subject)
}

// config verifies in VerifyConnection, which crypto/tls calls for every handshake, resumed ones too; what it would do
// itself knows neither pins nor the time for a leaf. The host comes with the configuration because a connection's
// ServerName is what SNI said, and SNI says no addresses (RFC 6066 section 3).
func config(roots func([]*x509.Certificate) (*x509.CertPool, error), host string, at When) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			pool, err := roots(s.PeerCertificates)
			if err != nil {
				return err
			}
			return verify(s.PeerCertificates, host, pool, at)
		},
	}
}

// Verify judges a chain as a client would that calls host.
func (p Pin) Verify(sent []*x509.Certificate, host string, at When) error {
	pool, err := p.root(sent)
	if err != nil {
		return err
	}
	return verify(sent, host, pool, at)
}

func verify(sent []*x509.Certificate, host string, roots *x509.CertPool, at When) error {
	if host == "" { // x509 would take it for "any host"
		return errors.New("no name to verify the server's certificate by")
	}
	between := x509.NewCertPool()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	_, err := sent[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: at(sent[0])})
	return err
}
