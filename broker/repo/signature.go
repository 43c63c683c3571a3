package repo

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// MaxSignature is the largest signature file taken: a signer and a few certificates above it.
const MaxSignature = 64 << 10

// A detached signature is a ContentInfo with SignedData and nothing in it (RFC 5652 sections 3 and 5), in DER.
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content signedData `asn1:"explicit,tag:0"`
	}
	signedData struct {
		Version      int
		Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
		Encapsulated encapsulated
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		CRLs         asn1.RawValue `asn1:"optional,tag:1"`
		Signers      []signerInfo  `asn1:"set"`
	}
	encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	signerInfo struct {
		Version    int
		ID         issuerAndSerial
		Digest     pkix.AlgorithmIdentifier
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
		Algorithm  pkix.AlgorithmIdentifier
		Signature  []byte
		Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
)

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1} // RFC 5652 section 4
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} // RFC 5652 section 5.1
	oidSHA256     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 3370 section 3.2
)

// VerifySignature says who signed the file with that sha256. der is a detached signature in the form that iPXE's
// imgverify reads (src/crypto/cms.c): the signer's certificate in it, one signer named by issuer and serial, RSA over the
// content's own sum. iPXE passes over signed attributes, so a signature made with them never fits. Whether the signer is
// one to be trusted is for the machines to say: their iPXE has the root certificate in it.
func VerifySignature(der []byte, sum string) (signer *x509.Certificate, err error) {
	digest, err := hex.DecodeString(sum)
	if err != nil {
		return nil, fmt.Errorf("verify signature: sha256 %q: %w", sum, err)
	}
	s, cert, err := readSignature(der)
	if err == nil {
		err = codeSigner(cert)
	}
	if err != nil {
		return nil, fmt.Errorf("verify signature: %w", err)
	}
	if err := rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest, s.Signature); err != nil {
		return nil, fmt.Errorf("verify signature of %s: it is of other bytes, or spoilt: %w", cert.Subject, err)
	}
	return cert, nil
}

// readSignature gives what is said of the one signer, and its certificate.
func readSignature(der []byte) (*signerInfo, *x509.Certificate, error) {
	var c contentInfo
	rest, err := asn1.Unmarshal(der, &c)
	if err != nil || len(rest) > 0 || !c.Type.Equal(oidSignedData) {
		return nil, nil, errors.Join(errors.New("it is no CMS signature in DER"), err)
	}
	if len(c.Content.Signers) != 1 {
		return nil, nil, fmt.Errorf("it has %d signers; want one", len(c.Content.Signers))
	}
	s := &c.Content.Signers[0]
	switch {
	case len(c.Content.Encapsulated.Content.FullBytes) > 0:
		return nil, nil, errors.New("the file itself is in it; want it detached")
	case len(s.Attributes.FullBytes) > 0:
		return nil, nil, errors.New("it has signed attributes, which iPXE does not read: sign with openssl cms -sign -binary -noattr")
	case !s.Digest.Algorithm.Equal(oidSHA256):
		return nil, nil, errors.New("it is not made with SHA-256: sign with -md sha256")
	}
	certs, err := x509.ParseCertificates(c.Content.Certificates.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("its certificates: %w", err)
	}
	for _, cert := range certs {
		if bytes.Equal(cert.RawIssuer, s.ID.Issuer.FullBytes) && cert.SerialNumber.Cmp(s.ID.Serial) == 0 {
			return s, cert, nil
		}
	}
	return nil, nil, errors.New("the signer's certificate is not in it")
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
	signature, err := key.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	certs := bytes.Clone(cert.Raw)
	for _, c := range chain {
		certs = append(certs, c.Raw...)
	}
	null := asn1.NullRawValue // RFC 3370 sections 2 and 3.2: what openssl writes, too
	sha, rsaOnly := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: null}, pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: null}
	der, err := asn1.Marshal(contentInfo{oidSignedData, signedData{Version: 1, Digests: []pkix.AlgorithmIdentifier{sha},
		Encapsulated: encapsulated{Type: oidData},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: certs},
		Signers: []signerInfo{{Version: 1, ID: issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber},
			Digest: sha, Algorithm: rsaOnly, Signature: signature}}}})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	// A key that is not the certificate's is found here, not by a machine.
	if _, err := VerifySignature(der, sum); err != nil {
		return nil, fmt.Errorf("sign: is this the key of certificate %s? %w", cert.Subject, err)
	}
	return der, nil
}
