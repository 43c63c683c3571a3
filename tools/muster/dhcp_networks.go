package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"muster/boot"
	"muster/boot/dhcp"
)

// networksFile is the file of --networks: what a lease server tells beyond the flags.
type networksFile struct {
	Networks     []networkLine     `yaml:"networks"`
	Reservations []reservationLine `yaml:"reservations"`
	Relays       []netip.Prefix    `yaml:"relays"`
}

// networkLine is one network. The one without a prefix is the interface's own.
type networkLine struct {
	Prefix netip.Prefix `yaml:"prefix"`
	Pools  []string     `yaml:"pools"`
	Router netip.Addr   `yaml:"router"`
	DNS    []netip.Addr `yaml:"dns"`
	NTP    []netip.Addr `yaml:"ntp"`
	Domain string       `yaml:"domain"`
	Search []string     `yaml:"search"`
	MTU    uint16       `yaml:"mtu"`
	Routes []routeLine  `yaml:"routes"`
	Lease  string       `yaml:"lease"`
}

type routeLine struct {
	To  netip.Prefix `yaml:"to"`
	Via netip.Addr   `yaml:"via"`
}

type reservationLine struct {
	MAC     string     `yaml:"mac"`
	UUID    string     `yaml:"uuid"`
	Circuit string     `yaml:"circuit"`
	Addr    netip.Addr `yaml:"addr"`
	Host    string     `yaml:"host"`
}

// readNetworks adds the file to the configuration.
func readNetworks(name string, d *dhcp.Config) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read networks: %w", err)
	}
	var file networksFile
	if err := yaml.UnmarshalWithOptions(raw, &file, yaml.Strict()); err != nil {
		return usageError{fmt.Errorf("networks %s: %s", name, yaml.FormatError(err, false, true))}
	}
	d.Relays = file.Relays
	for i, line := range file.Networks {
		n, err := line.network()
		if err != nil {
			return usageError{fmt.Errorf("networks %s: network %d: %w", name, i+1, err)}
		}
		if n.Prefix.IsValid() {
			d.Networks = append(d.Networks, n)
		} else {
			d.Network = n
		}
	}
	for i, line := range file.Reservations {
		r, err := line.reservation()
		if err != nil {
			return usageError{fmt.Errorf("networks %s: reservation %d: %w", name, i+1, err)}
		}
		d.Reservations = append(d.Reservations, r)
	}
	return nil
}

func (l networkLine) network() (dhcp.Network, error) {
	n := dhcp.Network{Prefix: l.Prefix, Router: l.Router, DNS: l.DNS, NTP: l.NTP, Domain: l.Domain, Search: l.Search, MTU: l.MTU}
	for _, r := range l.Routes {
		n.Routes = append(n.Routes, dhcp.Route{To: r.To, Via: r.Via})
	}
	for _, p := range l.Pools {
		r, err := parsePool(p)
		if err != nil {
			return n, err
		}
		n.Ranges = append(n.Ranges, r)
	}
	if l.Lease == "" {
		return n, nil
	}
	var err error
	if n.Lease, err = time.ParseDuration(l.Lease); err != nil || n.Lease < time.Minute {
		return n, fmt.Errorf("lease %q: want a time of at least 1m", l.Lease)
	}
	return n, nil
}

func (l reservationLine) reservation() (r dhcp.Reservation, err error) {
	r = dhcp.Reservation{Addr: l.Addr, Host: l.Host}
	if l.MAC != "" {
		r.MAC, err = boot.ParseMAC(l.MAC)
	}
	if l.UUID != "" && err == nil {
		r.UUID, err = boot.ParseUUID(l.UUID)
	}
	if text, ok := strings.CutPrefix(l.Circuit, "0x"); ok && err == nil {
		var b []byte
		b, err = hex.DecodeString(text)
		r.Circuit = string(b)
	} else {
		r.Circuit = l.Circuit
	}
	return r, err
}

// parsePool reads FIRST-LAST.
func parsePool(text string) (dhcp.Range, error) {
	first, last, ok := strings.Cut(text, "-")
	a, errA := netip.ParseAddr(strings.TrimSpace(first))
	b, errB := netip.ParseAddr(strings.TrimSpace(last))
	if err := errors.Join(errA, errB); !ok || err != nil {
		return dhcp.Range{}, fmt.Errorf("pool %q: want FIRST-LAST with two addresses", text)
	}
	return dhcp.Range{First: a, Last: b}, nil
}

// parsePrompt reads "SECONDS TEXT".
func parsePrompt(text string) (*dhcp.Prompt, error) {
	number, words, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseUint(number, 10, 8)
	if err != nil {
		return nil, fmt.Errorf("boot prompt %q: want SECONDS TEXT, e.g. 5 Press F8 for menu", text)
	}
	if words = boot.Printable(strings.TrimSpace(words)); words == "" {
		words = "Press F8 for menu"
	}
	return &dhcp.Prompt{Seconds: uint8(n), Text: words[:min(len(words), 100)]}, nil
}
