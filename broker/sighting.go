package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"muster/boot"
)

// Observe takes what a boot server saw. It never blocks: when the queue is full the sighting is counted and dropped.
func (b *Broker) Observe(s boot.Sighting) {
	select {
	case b.seen <- s:
	default:
		b.lost.Add(1)
	}
}

// keepSightings writes sightings to the journal, many in one transaction.
func (b *Broker) keepSightings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-b.seen:
			batch := append([]boot.Sighting{s}, b.drain(255)...)
			if err := b.journal(ctx, batch); err != nil && ctx.Err() == nil {
				b.cfg.Log.Error("write sightings", "count", len(batch), "err", err)
			}
		}
	}
}

func (b *Broker) drain(limit int) []boot.Sighting {
	var more []boot.Sighting
	for len(more) < limit {
		select {
		case s := <-b.seen:
			more = append(more, s)
		default:
			return more
		}
	}
	return more
}

// journal writes the sightings of known machines, and of unknown ones that boot from the network, which become nodes
// with it. Of other unknown machines nothing is kept.
func (b *Broker) journal(ctx context.Context, batch []boot.Sighting) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		var touched []string
		for _, s := range batch {
			n, err := known(tx, clientKeys(s.Client))
			if errors.Is(err, ErrNotFound) && s.Client.Kind != boot.KindUnknown {
				n, err = b.findOrSight(tx, s.Client)
			}
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) {
				continue
			}
			if err != nil {
				return nil, err
			}
			n.LastSeen = b.now()
			if s.Client.Addr.IsValid() {
				n.Boot.Addr = s.Client.Addr.String()
			}
			n.Boot.meet(s)
			events := []Event{sightingEvent(s)}
			b.bootedOnce(n, s)
			if s.What == "script" {
				held, err := b.booted(n)
				if err != nil {
					return nil, err
				}
				events = append(events, held...)
			}
			touched = append(touched, n.ID)
			if err := b.change(tx, n, events...); err != nil {
				return nil, err
			}
		}
		return touched, nil
	})
}

// meet keeps what a machine showed of its firmware and its loader.
func (k *BootKeys) meet(s boot.Sighting) {
	c := s.Client
	switch c.Kind {
	case boot.KindBIOS, boot.KindUEFI, boot.KindUEFIHTTP:
		k.Kind, k.EFI, k.CPU = string(c.Kind), c.Arch.EFI(), ramdiskArchs[c.Arch]
	case boot.KindIPXE, boot.KindRPi, boot.KindUBoot:
	default:
		return
	}
	if s.Proto != "dhcp" {
		return // only DHCP shows the rest
	}
	k.Arch = c.Arch.String()
	if c.Kind == boot.KindIPXE {
		k.NIC, k.IPXE, k.Features = c.NIC, c.Version, c.Features
	}
}

func sightingEvent(s boot.Sighting) Event {
	e := Event{Time: s.Time.UTC().Truncate(time.Millisecond), Kind: s.Proto, Who: s.Proto,
		Data: map[string]string{"what": s.What}}
	if s.Name != "" {
		e.Data["name"] = s.Name
	}
	e.Text = strings.TrimSpace(s.What+" "+s.Name) + colon(s.Text)
	if s.Bytes > 0 {
		e.Text += fmt.Sprintf(" (%d bytes)", s.Bytes)
	}
	return e
}
