package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster/broker"
)

// openTLS listens on HTTPS and settles the certificate and the URL of agents: HTTPS on the host of the base URL.
func (s *server) openTLS(context.Context) (err error) {
	switch own := s.cfg.TLSCert == "" && s.cfg.TLSKey == ""; {
	case s.cfg.HTTPS == "off" && (!s.cfg.PlainSecrets || !own):
		return usageError{errors.New("--https off leaves agents plain HTTP: it needs --plain-secrets, and no --tls-cert or --tls-key")}
	case s.cfg.HTTPS == "off":
		s.agentURL = s.url
		return nil
	case !own && (s.cfg.TLSCert == "" || s.cfg.TLSKey == ""):
		return usageError{errors.New("--tls-cert and --tls-key need each other")}
	}
	base, err := url.Parse(s.url)
	if err != nil || base.Hostname() == "" {
		return usageError{fmt.Errorf("--url %q: want http://ADDRESS:PORT", s.url)}
	}
	if s.cfg.TLSCert != "" {
		s.cert, err = broker.FileCertificate(s.cfg.TLSCert, s.cfg.TLSKey, base.Hostname())
	} else {
		s.cert, err = broker.OwnCertificate(filepath.Join(s.cfg.Data, "tls"), func() []string { return hostNames(base.Hostname()) })
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.cfg.HTTPS)
	if err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	s.httpsIn = tls.NewListener(l, s.cert.Config())
	s.agentURL = "https://" + net.JoinHostPort(base.Hostname(), fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	return nil
}

// hostNames are all the names and addresses by which this host may be called.
func hostNames(more ...string) []string {
	names := append(more, "localhost")
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	addrs, _ := net.InterfaceAddrs() // without them, the names above are left
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			names = append(names, p.Addr().String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

const (
	renewEvery = time.Minute
	warnBefore = 30 * 24 * time.Hour
)

// keepCertificate looks after the certificate until ctx ends.
func (s *server) keepCertificate(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = s.checkCertificate(ctx) // it has told
		}
	}
}

// checkCertificate shows another certificate when that is due, and tells the log and the journal, once a day, of one
// that ends soon. Its error is always nil: what is wrong with a certificate that is shown stops no server.
func (s *server) checkCertificate(ctx context.Context) error {
	if s.cert == nil {
		return nil
	}
	if err := s.cert.Renew(); err != nil {
		s.tellCertificate(ctx, fmt.Sprintf("the TLS certificate is not renewed: %v", err))
	}
	ends := s.cert.Ends()
	if time.Until(ends) > warnBefore || time.Since(s.warned) < 24*time.Hour {
		return nil
	}
	s.warned = time.Now()
	s.tellCertificate(ctx, fmt.Sprintf("the TLS certificate %s ends %s: who verifies it with a right clock refuses it then", s.cfg.TLSCert, ends.UTC().Format(time.DateTime)))
	return nil
}

func (s *server) tellCertificate(ctx context.Context, text string) {
	s.log.Warn(text)
	if err := s.broker.Tell(ctx, broker.EventCertificate, text); err != nil {
		s.log.Error("tell of the TLS certificate", "err", err)
	}
}
