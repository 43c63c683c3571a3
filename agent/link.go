package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Times of bringing the network up.
const (
	linkPoll     = 100 * time.Millisecond
	linkTellsAll = 5 * time.Second  // how often the console hears what is waited for
	headStart    = 10 * time.Second // of the NIC that booted before others are tried
	leaseTry     = 20 * time.Second // of one attempt to get an address
	leaseRetry   = 500 * time.Millisecond
)

// A Link is a network interface with hardware behind it.
type Link struct {
	Name    string
	MAC     string // as it came; lower case with colons
	Up      bool   // administratively
	Carrier bool
}

// A Lease is an address that a DHCP server gave.
type Lease struct {
	Addr    netip.Prefix
	Gateway netip.Addr // invalid when there is none
	Routes  []Route    // classless static routes (RFC 3442), which replace the gateway
	DNS     []netip.Addr
	Domain  string
	MTU     int
	Server  netip.Addr
	Time    time.Duration // how long the address may be used
}

// A Route of a lease.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // unspecified: on the link
}

// A Network brings one NIC up with an address, the one that booted if it can. It never gives up: a switch port that
// runs spanning tree passes nothing for 30 to 50 s after the link is up, and a server may come back after an hour.
type Network struct {
	BootMAC string // "" when not known: all NICs are equal
	Console *Console
	Now     func() time.Time

	Links  func() ([]Link, error)
	LinkUp func(name string) error
	Lease  func(ctx context.Context, name string, old Lease) (Lease, error) // old is the lease to get again, if any
	Apply  func(name string, now, old Lease) error                          // put address, routes and name servers
	Came   <-chan struct{}                                                  // a NIC came; may be nil
}

// gotLease is a NIC that has an address.
type gotLease struct {
	name  string
	lease Lease
}

// Up returns when a NIC has an address. The lease is renewed until ctx ends.
func (n *Network) Up(ctx context.Context) error {
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan gotLease)
	w := &waiting{net: n, began: n.Now(), told: n.Now(), started: map[string]bool{}}
	for {
		for _, name := range w.ready() {
			w.started[name] = true
			go n.lease(try, name, got)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case g := <-got:
			cancel()
			if err := n.Apply(g.name, g.lease, Lease{}); err != nil {
				return fmt.Errorf("configure %s: %w", g.name, err)
			}
			n.Console.Printf("%s has %s from %s%s", g.name, g.lease.Addr, g.lease.Server, gateway(g.lease))
			go n.renew(ctx, g)
			return nil
		case <-n.Came:
		case <-time.After(linkPoll):
		}
	}
}

// Raise sets up the NICs that are there by now. Up has returned, maybe, before the driver of the last was loaded, and a NIC
// that is down tells neither its link nor its switch port.
func (n *Network) Raise() error {
	links, err := n.Links()
	if err != nil {
		return fmt.Errorf("list the network interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		if l.Up {
			continue
		}
		if err := n.LinkUp(l.Name); err != nil {
			errs = append(errs, fmt.Errorf("set %s up: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

func gateway(l Lease) string {
	if !l.Gateway.IsValid() {
		return ", no gateway"
	}
	return ", gateway " + l.Gateway.String()
}

// lease asks on one NIC until there is an answer.
func (n *Network) lease(ctx context.Context, name string, got chan<- gotLease) {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		n.Console.Debugf("asking for an address on %s", name)
		one, cancel := context.WithTimeout(ctx, leaseTry)
		l, err := n.Lease(one, name, Lease{})
		cancel()
		if err == nil {
			select {
			case got <- gotLease{name, l}:
			case <-ctx.Done():
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		n.Console.Printf("no address on %s: %v; attempt %d, next try in %s", name, err, attempt, seconds(leaseRetry))
		if sleep(ctx, leaseRetry) != nil {
			return
		}
	}
}

// renew asks again at half the time of every lease, as RFC 2131 section 4.4.5 has it, so that a machine may wait for
// days.
func (n *Network) renew(ctx context.Context, g gotLease) {
	for {
		if sleep(ctx, max(g.lease.Time/2, time.Minute)) != nil {
			return
		}
		one, cancel := context.WithTimeout(ctx, leaseTry)
		l, err := n.Lease(one, g.name, g.lease)
		cancel()
		if err == nil {
			err = n.Apply(g.name, l, g.lease)
		}
		if err != nil {
			n.Console.Printf("renew the address of %s: %v", g.name, err)
			g.lease.Time = max(g.lease.Time/2, time.Minute)
			continue
		}
		g.lease = l
	}
}

// waiting is what Up waits for.
type waiting struct {
	net     *Network
	began   time.Time
	told    time.Time
	started map[string]bool // an address is asked for
	upErr   map[string]bool // NICs that could not be set up, told once
}

// ready lists the NICs on which to ask now, sets all NICs up, and tells the console now and then what is missing.
func (w *waiting) ready() []string {
	links, err := w.net.Links()
	if err != nil {
		w.tell("cannot list the network interfaces: " + err.Error())
		return nil
	}
	w.setUp(links)
	boot := slices.IndexFunc(links, w.isBoot)
	alone := boot >= 0 && w.net.Now().Sub(w.began) < headStart
	if boot < 0 && w.net.BootMAC != "" && w.net.Now().Sub(w.began) < headStart {
		w.tell("waiting for the NIC " + w.net.BootMAC + " that booted to appear")
		return nil
	}
	var names, dark []string
	for i, l := range links {
		switch {
		case alone && i != boot, w.started[l.Name]:
		case l.Carrier:
			names = append(names, l.Name)
		default:
			dark = append(dark, l.Name+" ("+l.MAC+")")
		}
	}
	switch {
	case len(links) == 0:
		w.tell("waiting for a network interface; is its driver in the ramdisk?")
	case len(names) == 0 && len(dark) > 0:
		w.tell("waiting for a link on " + strings.Join(dark, ", "))
	}
	return names
}

func (w *waiting) isBoot(l Link) bool {
	return w.net.BootMAC != "" && strings.EqualFold(l.MAC, w.net.BootMAC)
}

// setUp sets every NIC up: an interface that is down shows no carrier.
func (w *waiting) setUp(links []Link) {
	for _, l := range links {
		if l.Up || w.upErr[l.Name] {
			continue
		}
		if err := w.net.LinkUp(l.Name); err != nil {
			if w.upErr == nil {
				w.upErr = map[string]bool{}
			}
			w.upErr[l.Name] = true
			w.net.Console.Printf("set %s up: %v", l.Name, err)
		}
	}
}

func (w *waiting) tell(what string) {
	now := w.net.Now()
	if now.Sub(w.told) < linkTellsAll {
		return
	}
	w.told = now
	w.net.Console.Printf("%s, %s so far", what, seconds(now.Sub(w.began)))
}

// errNoAddress is an answer without an address.
var errNoAddress = errors.New("the DHCP server gave no usable address")
