package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// rogueEvery is how often the same other server is reported.
const rogueEvery = time.Hour

// Rogues remembers servers that should not be where muster leases.
type rogues struct {
	mu   sync.Mutex
	last recent[netip.Addr, time.Time]
}

func newRogues() *rogues { return &rogues{last: newRecent[netip.Addr, time.Time](maxMakers)} }

// isNews says whether a server was not reported lately.
func (r *rogues) isNews(a netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last.get(a); ok && now.Sub(last) < rogueEvery {
		return false
	}
	r.last.put(a, now)
	return true
}

// offered takes what another server was heard to say to port 68. One that leases addresses besides us takes machines
// away from here, or gives two of them one address.
func (s *Server) offered(in inbound) {
	p, _, err := decode(in.data)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || len(p.ClientHWAddr) != 6 {
		return
	}
	id, addr := addrOf(p.Options.Get(dhcpv4.OptionServerIdentifier)), addrOf(p.YourIPAddr)
	if !id.IsValid() || s.site.us(id) == id || !addr.IsValid() {
		return // ours, or a proxy's
	}
	s.rogue.Add(1)
	if !s.rogues.isNews(id, s.now()) {
		return
	}
	mac := boot.MAC(p.ClientHWAddr)
	s.cfg.Log.Warn("another DHCP server leases addresses here: end it, or use --dhcp proxy", "server", id, "client", mac, "addr", addr)
	s.cfg.Observe(boot.Sighting{Time: s.now(), Client: boot.Client{MAC: mac}, Proto: "dhcp", What: "rogue-server", Name: id.String(),
		Text: "offered " + addr.String()})
}
