package dhcp

import (
	"strings"
	"sync"
	"time"

	"muster/boot"
)

// A loader that is fetched again and again, and never asks for its script, was started by a firmware that starts it
// anew each time: it does not run there, or it is told to load itself.
const (
	loopTimes  = 3
	loopWithin = 120 * time.Second
	loopHold   = 10 * time.Minute // so long such a machine is told to boot its disk
)

// Loops watches what machines load and finds those that turn in a circle.
type loops struct {
	mu      sync.Mutex
	clients recent[boot.MAC, turns]
}

type turns struct {
	fetched []time.Time // of the loader, since the last script
	until   time.Time   // held back
}

func newLoops() *loops { return &loops{clients: newRecent[boot.MAC, turns](maxSeen)} }

// saw takes a sighting and is true when it closes a circle. Loader is what this client is offered.
func (l *loops) saw(x boot.Sighting, loader string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, _ := l.clients.get(x.Client.MAC)
	switch {
	case x.What == "script" || isScript(x.Name):
		if len(t.fetched) > 0 || !t.until.IsZero() {
			l.clients.put(x.Client.MAC, turns{})
		}
		return false
	case x.What != "read" && x.What != "file" || x.Bytes == 0 || !sameFile(x.Name, loader):
		return false
	}
	t.fetched = append(t.fetched, x.Time)
	for len(t.fetched) > 0 && x.Time.Sub(t.fetched[0]) > loopWithin {
		t.fetched = t.fetched[1:]
	}
	circle := len(t.fetched) >= loopTimes
	if circle {
		t = turns{until: x.Time.Add(loopHold)}
	}
	l.clients.put(x.Client.MAC, t)
	return circle
}

// holds says whether a client is told to boot its disk for now.
func (l *loops) holds(m boot.MAC, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, _ := l.clients.get(m)
	return now.Before(t.until)
}

// isScript says whether a name is what a running loader asks for, there or not.
func isScript(name string) bool {
	return strings.HasSuffix(name, ".cfg") || strings.HasSuffix(name, ".ipxe") || strings.Contains(name, "pxelinux.cfg/") ||
		strings.HasPrefix(strings.TrimLeft(name, "/"), "boot/ipxe")
}

// sameFile compares a name as it was asked for, or the URL that it was told as.
func sameFile(asked, told string) bool {
	return told != "" && base(asked) == base(told)
}

func base(name string) string { return name[strings.LastIndexAny(name, `/\`)+1:] }

// Saw is told what a machine was seen to load, by TFTP or HTTP. It must not block and does not.
func (s *Server) Saw(x boot.Sighting) {
	if x.Client.MAC.IsZero() || x.Proto == "dhcp" {
		return
	}
	c, ok := s.addrs.client(x.Client.MAC)
	if !ok || c.Kind == boot.KindIPXE {
		c.Kind, c.Arch = x.Client.Kind, x.Client.Arch
	}
	c.MAC = x.Client.MAC
	loader, _ := s.cfg.Loader(c)
	s.profiles.loaded(c.MAC, x, loader)
	if !s.loops.saw(x, loader) {
		return
	}
	s.cfg.Log.Warn("loader-loop: a machine loads its loader again and again, and no script; it is told to boot its disk",
		"client", c.MAC, "loader", loader, "for", loopHold)
	s.cfg.Observe(boot.Sighting{Time: x.Time, Client: c, Proto: "dhcp", What: "loader-loop", Name: loader,
		Text: "loaded 3 times in 120 s and no script asked for; told to boot its disk for 10 minutes"})
}
