package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"muster/broker/repo"
)

// A signer is a code-signing key with its certificates. A nil one signs nothing.
type signer struct {
	cert  *x509.Certificate
	chain []*x509.Certificate
	key   crypto.Signer
}

// newSigner reads PEM files; without both names there is none.
func newSigner(certFile, keyFile string) (*signer, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil
	case certFile == "" || keyFile == "":
		return nil, usageError{errors.New("--sign-key and --sign-cert need each other")}
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read signing key %s and certificate %s: %w", keyFile, certFile, err)
	}
	s := &signer{cert: pair.Leaf}
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s: %w", certFile, err)
		}
		s.chain = append(s.chain, c)
	}
	var ok bool
	if s.key, ok = pair.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("signing key %s can not sign", keyFile)
	}
	return s, nil
}

// signature makes one, or reads the one that lies beside a file; nil when there is none.
func (s *signer) signature(name, sum string) ([]byte, error) {
	if s != nil {
		return repo.Sign(sum, s.cert, s.chain, s.key)
	}
	f, err := os.Open(name + ".sig")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	der, err := io.ReadAll(io.LimitReader(f, repo.MaxSignature+1))
	if err == nil && len(der) > repo.MaxSignature {
		err = fmt.Errorf("%s.sig is larger than %d bytes", name, repo.MaxSignature)
	}
	return der, err
}

func ramdiskSignCommand() *cobra.Command {
	var certFile, keyFile string
	c := &cobra.Command{
		Use: "sign FILE... --sign-key KEY --sign-cert CERT", Short: "sign kernels and ramdisks for iPXE's imgverify",
		Long: "Sign writes FILE.sig beside each file: a detached CMS signature in DER, which muster ramdisk import takes along and\n" +
			"iPXE verifies where muster serve --imgverify asks it to. The key stays here; the server never sees it.\n\n" +
			"CERT is PEM: the signer's certificate first (RSA, for signing code), then those between it and the root that your\n" +
			"iPXE was built with (make TRUST=root.crt). It is the same as\n" +
			"openssl cms -sign -binary -noattr -in FILE -signer CERT -inkey KEY -outform DER -out FILE.sig.",
		Example: "  muster ramdisk sign out/vmlinuz out/ramdisk.cpio.gz --sign-key code.key --sign-cert code.pem",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := newSigner(certFile, keyFile)
			if err == nil && s == nil {
				err = usageError{errors.New("say who signs: --sign-key KEY --sign-cert CERT")}
			}
			if err != nil {
				return err
			}
			b := newBars(cmd, "sign")
			defer b.end()
			for _, name := range args {
				if err := s.signFile(cmd, name, b); err != nil {
					return err
				}
			}
			return nil
		},
	}
	signFlags(c, &certFile, &keyFile)
	return c
}

func signFlags(c *cobra.Command, certFile, keyFile *string) {
	c.Flags().StringVar(keyFile, "sign-key", "", "PEM key that signs code; it stays on this machine")
	c.Flags().StringVar(certFile, "sign-cert", "", "PEM certificate of that key, and those between it and the root")
}

func (s *signer) signFile(cmd *cobra.Command, name string, b *bars) error {
	sum, _, err := sumFile(cmd.Context(), name, b)
	if err != nil {
		return err
	}
	der, err := s.signature(name, sum)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err = replaceFile(name+".sig", func(w io.Writer) error {
		_, err := w.Write(der)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s.sig: %w", name, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s.sig: signed by %s\n", name, plain(s.cert.Subject.String()))
	return err
}
