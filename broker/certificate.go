package broker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"muster/boot/pin"
)

// A Certificate is how the server shows itself over TLS: by a chain of its own authority, or by an operator's.
type Certificate struct {
	CA *x509.Certificate // the last of the chain: what agents and operators are told to trust

	renew func() (*tls.Certificate, error) // nil without an error: what is shown is still right
	shown atomic.Pointer[tls.Certificate]
}

// Config is TLS for the server. Boot loaders take no part in it, they fetch over HTTP: who speaks TLS to muster are the
// agent, curl and the operator's client, which know all that Go's defaults ask for.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.shown.Load(), nil },
	}
}

// Renew looks whether another chain must be shown: the server's names changed, or the operator's files. After an error
// the old one is shown on. Renew is called by one at a time.
func (c *Certificate) Renew() error {
	fresh, err := c.renew()
	if err != nil || fresh == nil {
		return err
	}
	last, err := x509.ParseCertificate(fresh.Certificate[len(fresh.Certificate)-1])
	if err != nil {
		return fmt.Errorf("read the last certificate of the chain: %w", err)
	}
	switch {
	case c.CA == nil:
		c.CA = last
	case pin.Of(last) != pin.Of(c.CA):
		return fmt.Errorf("the chain ends at another CA (%q) than before: machines under way trust the old one; restart to show it", last.Subject)
	}
	c.shown.Store(fresh)
	return nil
}

// Ends is when the chain that is shown ends.
func (c *Certificate) Ends() time.Time { return c.shown.Load().Leaf.NotAfter }

// OwnCertificate issues by an authority of the server's own, whose key is in dir; it is made when it is not there.
// The leaf's key stays in memory: each start has another, and so has each change of hosts.
func OwnCertificate(dir string, hosts func() []string) (*Certificate, error) {
	a, err := loadAuthority(dir)
	if err != nil {
		return nil, fmt.Errorf("open the CA in %s: %w", dir, err)
	}
	var last []string
	c := &Certificate{renew: func() (*tls.Certificate, error) {
		now := hosts()
		if slices.Equal(now, last) {
			return nil, nil
		}
		leaf, err := a.issue(now)
		if err == nil {
			last = now
		}
		return leaf, err
	}}
	return c, c.Renew()
}

// FileCertificate shows an operator's chain: the leaf first, the CA that machines are to trust last. The files are read
// again when they change. A chain that agents would refuse when they call host is an error at the start.
func FileCertificate(certFile, keyFile, host string) (*Certificate, error) {
	var last []byte
	c := &Certificate{renew: func() (*tls.Certificate, error) {
		chain, err := os.ReadFile(certFile)
		if err != nil {
			return nil, fmt.Errorf("read the TLS certificate: %w", err)
		}
		key, err := readSecret(keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the TLS key: %w", err)
		}
		both := slices.Concat(chain, key)
		if bytes.Equal(both, last) {
			return nil, nil
		}
		last = both // a broken pair is told once
		shown, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return nil, fmt.Errorf("read the TLS certificate %s and its key %s: %w", certFile, keyFile, err)
		}
		if err := judge(shown, host); err != nil {
			return nil, fmt.Errorf("TLS certificate %s: agents that call %s would refuse it: %w", certFile, host, err)
		}
		return &shown, nil
	}}
	return c, c.Renew()
}

// judge verifies a chain as agents will, but for the clock: one that has ended is told of and shown all the same.
func judge(c tls.Certificate, host string) error {
	var chain []*x509.Certificate
	for _, der := range c.Certificate {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, one)
	}
	return pin.Of(chain[len(chain)-1]).Verify(chain, host, func(leaf *x509.Certificate) time.Time { return leaf.NotAfter })
}

// Days of what the authority issues. Machines come with clocks that are years behind (an empty battery) or ahead, and
// the installed system's first call is judged by them. An end would protect nothing: the leaf's key ends with the
// process, and the authority's key, which lies beside all that the server knows, is trusted for one boot or one
// install. RFC 5280 section 4.1.2.5 gives the date that means no end.
var (
	issuedFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	issuedTill = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// An authority is the server's own CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// loadAuthority reads dir, or makes what is not there. The key is what counts: a certificate that is missing is made
// anew for it, with the same pin.
func loadAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	keyFile, certFile := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.pem")
	chain, err := os.ReadFile(certFile)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := loadCAKey(keyFile, made)
	if err != nil {
		return nil, err
	}
	if !made {
		if chain, err = newCA(key); err != nil {
			return nil, err
		}
		if err := writeNew(certFile, chain); err != nil {
			return nil, err
		}
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM: remove it, and it is made again for ca.key", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: remove it, and it is made again for ca.key", certFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together: restore the one that is not the server's", certFile, keyFile)
	}
	return &authority{cert, key}, nil
}

// loadCAKey reads the key, or makes it when there is no certificate that a key must be missing to.
func loadCAKey(path string, certified bool) (*ecdsa.PrivateKey, error) {
	raw, err := readSecret(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && certified:
		return nil, fmt.Errorf("%s is missing beside its certificate: restore it, or remove ca.pem to make a new CA (machines under way must boot again)", path)
	case errors.Is(err, fs.ErrNotExist):
		return newCAKey(path)
	case err != nil:
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s with %d bytes is no PEM: restore it, or remove it and ca.pem to make a new CA (machines under way must boot again)", path, len(raw))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%s is a %T, not an ECDSA key: give an own CA's chain with --tls-cert and --tls-key", path, key)
}

func newCAKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	return key, writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// newCA certifies the key by itself, in PEM.
func newCA(key *ecdsa.PrivateKey) ([]byte, error) {
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "muster CA"},
		NotBefore: issuedFrom, NotAfter: issuedTill,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// issue makes a leaf, with a key of its own, for hosts: names and addresses.
func (a *authority) issue(hosts []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the TLS key: %w", err)
	}
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "muster"},
		NotBefore: issuedFrom, NotAfter: issuedTill,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		c.DNSNames = append(c.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue the TLS certificate for %q: %w", hosts, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue the TLS certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
