package agent

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"os"

	"muster/boot/pin"
)

// bakedCA is the file by which an operator can bake trust into a ramdisk.
const bakedCA = "etc/muster/ca.pem"

// secure makes the HTTP client, unless the agent was given one.
func (a *Agent) secure() error {
	if a.HTTP != nil {
		return nil
	}
	trusted, err := a.trust()
	if err != nil {
		return err
	}
	a.HTTP = newHTTP(trusted)
	return nil
}

// trust says which brokers are believed: those under the CA that the kernel line pins, else those under the CAs baked
// into the ramdisk. There is no third way, since a ramdisk has no roots of its own; a broker with another CA is told
// nothing. Over plain http there is nobody to tell apart (nil).
func (a *Agent) trust() (*tls.Config, error) {
	server, err := url.Parse(a.Args.Server)
	if err != nil {
		return nil, fmt.Errorf("read muster.server=%q: %w", a.Args.Server, err)
	}
	secure := server.Scheme == "https"
	switch {
	case a.Args.CA != "" && !secure:
		return nil, fmt.Errorf("muster.ca pins a CA, but muster.server=%s is not https", a.Args.Server)
	case a.Args.CA != "":
		p, err := pin.Parse(a.Args.CA)
		if err != nil {
			return nil, fmt.Errorf("read muster.ca: %w", err)
		}
		return p.Config(server.Hostname(), a.judgeAt), nil
	case !secure:
		return nil, nil
	}
	pem, err := os.ReadFile(a.path(bakedCA))
	if err != nil {
		return nil, fmt.Errorf("muster.server=%s needs a CA to trust: muster.ca=PIN on the kernel line, or one in the ramdisk: %w", a.Args.Server, err)
	}
	trusted, err := pin.FileConfig(pem, server.Hostname(), a.judgeAt)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", bakedCA, err)
	}
	return trusted, nil
}
