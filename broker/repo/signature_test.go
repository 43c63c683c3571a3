package repo

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// signers are an operator's root, a signer below it, and one who may sign no code. Keys take long to make.
var signers = sync.OnceValue(func() (s struct {
	root, code, server, curve *x509.Certificate
	key, other                *rsa.PrivateKey
	curveKey                  *ecdsa.PrivateKey
}) {
	s.key, s.other, s.curveKey = rsaKey(), rsaKey(), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rootKey := rsaKey()
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	s.root = issue(ca, nil, rootKey, rootKey.Public())
	leaf := func(use x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "signer"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}}
	}
	s.code = issue(leaf(x509.ExtKeyUsageCodeSigning), s.root, rootKey, s.key.Public())
	s.server = issue(leaf(x509.ExtKeyUsageServerAuth), s.root, rootKey, s.key.Public())
	s.curve = issue(leaf(x509.ExtKeyUsageCodeSigning), s.root, rootKey, s.curveKey.Public())
	return s
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func rsaKey() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }

func issue(c, above *x509.Certificate, key crypto.Signer, public crypto.PublicKey) *x509.Certificate {
	c.SerialNumber, c.NotBefore, c.NotAfter = must(rand.Int(rand.Reader, big.NewInt(1<<40))), time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	if above == nil {
		above = c
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, above, public, key))))
}

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func mustSign(t *testing.T, content string) []byte {
	t.Helper()
	s := signers()
	der, err := Sign(sumOf(content), s.code, []*x509.Certificate{s.root}, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// writeFiles puts what openssl reads into a new directory.
func writeFiles(t *testing.T, files map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// openssl runs in dir.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	c := exec.Command("openssl", args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestOpenSSLVerifiesOurSignatures(t *testing.T) {
	dir := writeFiles(t, map[string][]byte{"vmlinuz": []byte("a kernel"), "other": []byte("another kernel"),
		"vmlinuz.sig": mustSign(t, "a kernel"), "root.pem": certPEM(signers().root)})
	verify := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", "vmlinuz.sig", "-CAfile", "root.pem", "-purpose", "any", "-out", "read", "-content"}
	if out, err := openssl(t, dir, append(verify, "vmlinuz")...); err != nil {
		t.Errorf("openssl cms -verify: %v\n%s", err, out)
	}
	if out, err := openssl(t, dir, append(verify, "other")...); err == nil {
		t.Errorf("openssl takes the signature for another file:\n%s", out)
	}
}

func TestWeReadWhatOpenSSLSigns(t *testing.T) {
	s := signers()
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(s.key))})
	for _, tt := range []struct {
		name string
		more []string
		want string // of the error
	}{
		{"as iPXE's users are told to", []string{"-noattr"}, ""},
		{"with certificates of the chain", []string{"-noattr", "-certfile", "root.pem"}, ""},
		{"with signed attributes, which is the default", nil, "signed attributes"},
		{"with the file in it", []string{"-noattr", "-nodetach"}, "detached"},
		{"with another digest", []string{"-noattr", "-md", "sha512"}, "not made with SHA-256"},
		{"without the signer", []string{"-noattr", "-nocerts"}, "certificate is not in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeFiles(t, map[string][]byte{"vmlinuz": []byte("a kernel"), "key": key, "cert": certPEM(s.code), "root.pem": certPEM(s.root)})
			args := append([]string{"cms", "-sign", "-binary", "-in", "vmlinuz", "-signer", "cert", "-inkey", "key", "-outform", "DER", "-out", "sig"}, tt.more...)
			if out, err := openssl(t, dir, args...); err != nil {
				t.Fatalf("openssl: %v\n%s", err, out)
			}
			der := must(os.ReadFile(filepath.Join(dir, "sig")))
			cert, err := VerifySignature(der, sumOf("a kernel"))
			switch {
			case tt.want == "" && (err != nil || cert.Subject.CommonName != "signer"):
				t.Errorf("VerifySignature = %v, %v", cert, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("VerifySignature = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

func TestASignatureThatIsNoneIsRefused(t *testing.T) {
	good := mustSign(t, "a kernel")
	spoilt := bytes.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	for _, tt := range []struct {
		name string
		der  []byte
		sum  string
		want string
	}{
		{"of another file", good, sumOf("another kernel"), "of other bytes, or spoilt"},
		{"spoilt", spoilt, sumOf("a kernel"), "of other bytes, or spoilt"},
		{"cut short", good[:len(good)/2], sumOf("a kernel"), "verify signature"},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: good}), sumOf("a kernel"), "no CMS signature in DER"},
		{"empty", nil, sumOf("a kernel"), "no CMS signature in DER"},
		{"not even a sum", good, "x", "sha256"},
	} {
		if _, err := VerifySignature(tt.der, tt.sum); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want an error with %q", tt.name, err, tt.want)
		}
	}
	if _, err := VerifySignature(good, sumOf("a kernel")); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestWhoMayNotSignIsTold(t *testing.T) {
	s := signers()
	for _, tt := range []struct {
		name string
		cert *x509.Certificate
		key  crypto.Signer
		want string
	}{
		{"a server's certificate", s.server, s.key, "codeSigning"},
		{"a CA", s.root, s.key, "digitalSignature"},
		{"another's key", s.code, s.other, "is this the key of certificate CN=signer?"},
		{"an elliptic key", s.curve, s.curveKey, "no RSA key"},
	} {
		if _, err := Sign(sumOf("a kernel"), tt.cert, nil, tt.key); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want an error with %q", tt.name, err, tt.want)
		}
	}
}

func TestHeldVerifiesTheStoredSignature(t *testing.T) {
	s, _ := newFiles(t)
	file, sig := mustImport(t, s, "a kernel"), mustImport(t, s, string(mustSign(t, "a kernel")))
	other := mustImport(t, s, "another kernel")
	if size, err := s.Held(file, sig); size != 8 || err != nil {
		t.Errorf("Held = %d, %v", size, err)
	}
	if _, err := s.Held(other, sig); err == nil || !strings.Contains(err.Error(), "spoilt") {
		t.Errorf("the signature of another file is taken: %v", err)
	}
	if _, err := s.Held(file, kernelSum); err == nil || !strings.Contains(err.Error(), "signature: file "+kernelSum+" is not stored") {
		t.Errorf("a signature that is not stored: %v", err)
	}
}

// Whatever a signature file holds, it is read or refused, and no other sum fits one that is good. The good one was made
// by a key that is lost.
func FuzzVerifySignature(f *testing.F) {
	good, err := os.ReadFile("testdata/kernel.sig")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := VerifySignature(good, sumOf("a kernel")); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := VerifySignature(der, sumOf("another kernel")); err == nil {
			t.Errorf("%x signs what was never signed", der)
		}
		if cert, err := VerifySignature(der, sumOf("a kernel")); err == nil && cert == nil {
			t.Error("a signature of nobody")
		}
	})
}
