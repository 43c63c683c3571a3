package main

import (
	"context"
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
	if s.httpsIn, err = net.Listen("tcp", s.cfg.HTTPS); err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	port := s.httpsIn.Addr().(*net.TCPAddr).Port
	s.agentURL = "https://" + net.JoinHostPort(base.Hostname(), fmt.Sprint(port))
	if s.cfg.TLSCert != "" {
		s.cert, err = broker.FileCertificate(s.cfg.TLSCert, s.cfg.TLSKey, base.Hostname())
		return err
	}
	s.cert, err = broker.OwnCertificate(filepath.Join(s.cfg.Data, "tls"), func() []string { return hostNames(base.Hostname()) })
	return err
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

// keepCertificate shows another certificate when that is due, and warns once a day of one that ends.
func (s *server) keepCertificate(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for warned := (time.Time{}); ; {
		if err := s.cert.Renew(); err != nil {
			s.log.Error("renew the TLS certificate", "err", err)
		}
		if ends := s.cert.Ends(); time.Until(ends) < warnBefore && time.Since(warned) > 24*time.Hour {
			warned = time.Now()
			s.log.Warn("the TLS certificate ends", "at", ends, "file", s.cfg.TLSCert)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
