package repo

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/smallstep/pkcs7"
)

// MaxSignature is the largest signature file taken: a signer and a few certificates above it.
const MaxSignature = 64 << 10

// VerifySignature says who signed the file with that sha256. der is a detached signature in the form that iPXE's
// imgverify reads (src/crypto/cms.c): CMS SignedData with the signer's certificate in it, one signer named by issuer and
// serial, RSA over the content's own sum. iPXE passes over signed attributes, so a signature made with them never fits.
// Whether the signer is one to be trusted is for the machines to say: their iPXE has the root certificate in it.
func VerifySignature(der []byte, sum string) (signer *x509.Certificate, err error) {
	digest, err := hex.DecodeString(sum)
	if err != nil {
		return nil, fmt.Errorf("verify signature: sha256 %q: %w", sum, err)
	}
	p, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("verify signature: it is no CMS signature in DER: %w", err)
	}
	if len(p.Signers) != 1 {
		return nil, fmt.Errorf("verify signature: it has %d signers; want one", len(p.Signers))
	}
	s, cert := p.Signers[0], p.GetOnlySigner()
	switch {
	case cert == nil:
		return nil, errors.New("verify signature: the signer's certificate is not in it")
	case len(p.Content) > 0:
		return nil, errors.New("verify signature: the file itself is in it; want it detached")
	case len(s.AuthenticatedAttributes) > 0:
		return nil, errors.New("verify signature: it has signed attributes, which iPXE does not read: sign with openssl cms -sign -binary -noattr")
	case !s.DigestAlgorithm.Algorithm.Equal(pkcs7.OIDDigestAlgorithmSHA256):
		return nil, errors.New("verify signature: it is not made with SHA-256: sign with -md sha256")
	}
	if err := codeSigner(cert); err != nil {
		return nil, fmt.Errorf("verify signature: %w", err)
	}
	if err := rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest, s.EncryptedDigest); err != nil {
		return nil, fmt.Errorf("verify signature of %s: it is of other bytes, or spoilt: %w", cert.Subject, err)
	}
	return cert, nil
}

// codeSigner says why iPXE would not take a certificate for signing code (cms_verify_signer_info in src/crypto/cms.c).
func codeSigner(c *x509.Certificate) error {
	_, isRSA := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !isRSA:
		return fmt.Errorf("certificate %s has no RSA key, which every iPXE with imgverify can use", c.Subject)
	case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("certificate %s has not the key usage digitalSignature", c.Subject)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		return fmt.Errorf("certificate %s has not the extended key usage codeSigning", c.Subject)
	}
	return nil
}

// Sign makes a signature of the file with that sha256. chain are certificates between the signer's and the root, for
// machines that know the root only. It is for the operator's side: a broker holds no signing key.
func Sign(sum string, cert *x509.Certificate, chain []*x509.Certificate, key crypto.Signer) ([]byte, error) {
	digest, err := hex.DecodeString(sum)
	if err != nil {
		return nil, fmt.Errorf("sign: sha256 %q: %w", sum, err)
	}
	if err := codeSigner(cert); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	d, err := pkcs7.NewSignedData(nil)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	d.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	d.SetEncryptionAlgorithm(pkcs7.OIDEncryptionAlgorithmRSA)
	if err := d.SignWithoutAttr(cert, summed{key, digest}, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	for _, c := range chain {
		d.AddCertificate(c)
	}
	d.Detach()
	der, err := d.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	// A key that is not the certificate's is found here, not by a machine.
	if _, err := VerifySignature(der, sum); err != nil {
		return nil, fmt.Errorf("sign: is this the key of certificate %s? %w", cert.Subject, err)
	}
	return der, nil
}

// summed signs a sum that is known already: pkcs7 would want the whole file in memory.
type summed struct {
	crypto.Signer
	sum []byte
}

// Sign implements crypto.Signer.
func (s summed) Sign(random io.Reader, _ []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(random, s.sum, opts)
}
