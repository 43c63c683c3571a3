package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"muster/boot"
)

// names of message types as a Sighting says them.
var names = map[dhcpv4.MessageType]string{
	dhcpv4.MessageTypeDiscover: "discover", dhcpv4.MessageTypeOffer: "offer", dhcpv4.MessageTypeRequest: "request",
	dhcpv4.MessageTypeDecline: "decline", dhcpv4.MessageTypeAck: "ack", dhcpv4.MessageTypeNak: "nak",
	dhcpv4.MessageTypeRelease: "release", dhcpv4.MessageTypeInform: "inform",
}

// handle reads one packet, answers it at most once, and reports both.
func (s *Server) handle(ctx context.Context, in inbound) {
	q, err := parseRequest(in)
	if err != nil {
		s.malformed.Add(1)
		s.cfg.Log.Debug("dhcp packet dropped", "from", in.from, "err", err)
		return
	}
	if q.unended {
		s.unended.Add(1)
	}
	s.note(q)
	if in.heard {
		s.heard.Add(1)
		return
	}
	s.respond(ctx, q)
}

// respond answers a request, or leaves that to the end of a probe.
func (s *Server) respond(ctx context.Context, q request) {
	a, ok := s.answer(ctx, q)
	switch {
	case a.later:
		s.probing.Add(1)
		return
	case !ok:
		s.ignored.Add(1)
		return
	}
	if err := s.send(a); err != nil {
		s.cfg.Log.Error("send DHCP reply", "client", q.client.MAC, "to", a.to, "err", err)
		return
	}
	s.sent.Add(1)
	s.noteReply(q, a)
}

// answer decides what is said to a request; false is silence.
func (s *Server) answer(ctx context.Context, q request) (answer, bool) {
	if !s.site.admits(q.relay()) {
		s.cfg.Log.Info("dhcp packet of a foreign relay dropped", "relay", q.relay(), "client", q.client.MAC)
		return answer{}, false
	}
	g, ok := s.grant(q)
	if !ok {
		return answer{later: g.later}, false
	}
	l := s.load(ctx, q, g)
	if l.kind == nothing && !g.addr.IsValid() && g.kind != dhcpv4.MessageTypeNak && !s.informed(q) {
		return answer{}, false // neither an address nor a file: silence
	}
	a, err := reply(s.site, q, g, l)
	if err != nil {
		s.cfg.Log.Error("answer a boot client", "client", q.client.MAC, "kind", q.client.Kind, "err", err)
		if !g.addr.IsValid() {
			return answer{}, false
		}
		if a, err = reply(s.site, q, g, load{}); err != nil { // the lease at least
			return answer{}, false
		}
	}
	return a, true
}

// informed says that the request is an INFORM which a lease server answers for anyone.
func (s *Server) informed(q request) bool {
	return s.leases != nil && q.kind == dhcpv4.MessageTypeInform
}

// grant says what the client is told of its address; false is silence.
func (s *Server) grant(q request) (grant, bool) {
	switch {
	case q.in.port == proxyPort:
		return s.bootServer(q)
	case q.kind == dhcpv4.MessageTypeInform:
		return s.inform(q)
	case q.kind == dhcpv4.MessageTypeRequest && q.item != nil:
		return s.chosen(q)
	case s.leases != nil:
		return s.lease(q)
	}
	return grant{kind: dhcpv4.MessageTypeOffer}, q.boots && q.kind == dhcpv4.MessageTypeDiscover
}

// bootServer is for port 4011: PXE 2.1 clients that have their address ask there for a file. The answer goes where the
// request came from, so that must be a client's port.
func (s *Server) bootServer(q request) (grant, bool) {
	port := q.in.from.Port()
	asked := q.kind == dhcpv4.MessageTypeRequest || q.kind == dhcpv4.MessageTypeInform
	ours := q.item == nil || q.item.kind == itemMuster
	return grant{kind: dhcpv4.MessageTypeAck}, q.boots && asked && ours && (port == clientPort || port >= 1024)
}

// inform is for a client that has an address and asks for the rest. An address that is not its own gets nothing.
func (s *Server) inform(q request) (grant, bool) {
	own := q.client.Addr.IsValid() && (q.client.Addr == q.in.from.Addr() || q.relay().IsValid())
	g := grant{kind: dhcpv4.MessageTypeAck}
	if i := networkOf(s.site.nets, q); s.leases != nil && i >= 0 {
		g.net = s.site.nets[i]
	}
	return g, own && (s.leases != nil || q.boots)
}

// chosen is for a choice of our boot menu on port 67, which is no renewal although it looks like one.
func (s *Server) chosen(q request) (grant, bool) {
	id := q.serverID()
	forUs := q.item.kind == itemMuster && (!id.IsValid() || s.site.us(id) == id)
	return grant{kind: dhcpv4.MessageTypeAck}, q.boots && forUs && q.client.Addr.IsValid()
}

// claimOf is what a request says of who asks.
func (s *Server) claimOf(q request) claim {
	return claim{mac: q.client.MAC, uuid: q.client.UUID, circuit: string(q.agent(1)), wish: q.requested(),
		known: s.cfg.Known != nil && s.cfg.Known(q.client.MAC)}
}

// lease is the lease server: RFC 2131 section 4.3.
func (s *Server) lease(q request) (grant, bool) {
	i := networkOf(s.site.nets, q)
	if i < 0 {
		s.cfg.Log.Info("no pool for the subnet of a relay", "relay", q.relay(), "client", q.client.MAC)
		return grant{}, false
	}
	mac, now := q.client.MAC, s.now()
	switch q.kind {
	case dhcpv4.MessageTypeDiscover:
		return s.offer(q, i, now)
	case dhcpv4.MessageTypeRequest:
		return s.request(q, i, now)
	case dhcpv4.MessageTypeRelease:
		s.record(s.leases.release(mac, q.client.Addr, now), mac)
	case dhcpv4.MessageTypeDecline:
		s.cfg.Log.Warn("address in use by someone else", "addr", q.requested(), "client", mac)
		s.record(s.leases.decline(mac, q.requested(), now), mac)
	}
	return grant{}, false
}

// granted is what goes with an address of a network.
func (s *Server) granted(kind dhcpv4.MessageType, q request, i int, addr netip.Addr) grant {
	n := s.site.nets[i]
	return grant{kind: kind, addr: addr, time: n.leaseFor(q), net: n, host: s.leases.kept[toUint(addr)].Host}
}

// offer finds an address. One that the machine never had is looked for on the link first, unless the machine is known
// or behind a relay, where ARP does not reach.
func (s *Server) offer(q request, i int, now time.Time) (grant, bool) {
	c := s.claimOf(q)
	o, ok := s.leases.offer(s.leases.pools[i], c, now)
	if !ok {
		s.cfg.Log.Error("no free address in the pool", "client", c.mac, "network", s.site.nets[i].Prefix)
		return grant{}, false
	}
	if s.prober != nil && !o.proved && !c.known && !q.relay().IsValid() {
		return grant{later: s.prober.start(q, o.addr)}, false
	}
	return s.granted(dhcpv4.MessageTypeOffer, q, i, o.addr), true
}

// request binds the address a client asks for: of our offer, of an earlier life, or the one it has.
func (s *Server) request(q request, i int, now time.Time) (grant, bool) {
	c := s.claimOf(q)
	if id := q.serverID(); id.IsValid() && s.site.us(id) != id {
		s.leases.withdraw(c.mac, now) // it took another server's offer
		return grant{}, false
	}
	addr := c.wish
	if !addr.IsValid() {
		addr = q.client.Addr
	}
	if !addr.IsValid() {
		return grant{}, false
	}
	if !c.wish.IsValid() && !q.relay().IsValid() && q.in.to != broadcast.Addr() { // a renewal comes straight from behind a relay (RFC 2131 section 4.3.2)
		if at := slices.IndexFunc(s.site.nets, func(n *Network) bool { return n.Prefix.Contains(addr) }); at >= 0 {
			i = at
		}
	}
	err := s.leases.bind(s.leases.pools[i], c, addr, now, s.site.nets[i].leaseFor(q))
	switch {
	case err == nil:
		return s.granted(dhcpv4.MessageTypeAck, q, i, addr), true
	case isRefused(err):
		return grant{kind: dhcpv4.MessageTypeNak, why: err.Error()}, true
	}
	s.record(err, c.mac)
	return grant{}, false // what is not on disk is not acknowledged; the client asks again
}

func (s *Server) record(err error, mac boot.MAC) {
	if err != nil {
		s.cfg.Log.Error("write the lease file", "client", mac, "err", err)
	}
}

// load says what a boot client shall load.
func (s *Server) load(ctx context.Context, q request, g grant) load {
	if !q.boots || g.kind == dhcpv4.MessageTypeNak {
		return load{}
	}
	l := load{kind: program, profile: s.profiles.of(q.client, q.kind == dhcpv4.MessageTypeDiscover, s.now())}
	if q.client.Kind == boot.KindIPXE {
		l.file = s.cfg.Script(q.client) // which says local, too
		return l
	}
	if q.item == nil && s.bootsDisk(ctx, q.client) {
		l.kind = disk
	}
	if s.prompts(q) {
		l.prompt = s.cfg.HotKey
	}
	switch {
	case q.client.Kind == boot.KindRPi && l.kind == disk:
		return load{}
	case q.client.Kind == boot.KindRPi, l.kind == disk && q.client.Kind != boot.KindUEFIHTTP:
		return l
	}
	name, ok := s.cfg.Loader(q.client)
	if !ok {
		s.cfg.Log.Warn("no loader for a boot client", "client", q.client.MAC, "kind", q.client.Kind, "arch", q.client.Arch)
		s.see(q, "refused", "", fmt.Sprintf("no loader for %s (%s)", q.client.Arch, q.client.Kind))
		return load{}
	}
	l.file = name
	s.profiles.tells(q.client.MAC, name)
	return l
}

// prompts says whether a client is shown the boot menu's prompt: firmware is, before it has chosen.
func (s *Server) prompts(q request) bool {
	return s.cfg.HotKey != nil && q.item == nil && q.in.port == serverPort && (q.client.Kind == boot.KindBIOS || q.client.Kind == boot.KindUEFI)
}

// bootsDisk asks the Source. When that cannot tell, the client gets its loader: that asks again, and can wait.
func (s *Server) bootsDisk(ctx context.Context, c boot.Client) bool {
	if s.cfg.Source == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, deciding)
	defer cancel()
	step, err := s.cfg.Source.Next(ctx, c)
	if err != nil {
		s.cfg.Log.Error("ask what a machine boots next", "client", c.MAC, "err", err)
		return false
	}
	return step.Kind == boot.StepLocal
}

// note reports a packet of a boot client, and remembers whose address is whose.
func (s *Server) note(q request) {
	if addr := q.requested(); addr.IsValid() && q.kind == dhcpv4.MessageTypeRequest {
		s.addrs.add(addr, q.client.MAC)
	}
	if q.client.Addr.IsValid() {
		s.addrs.add(q.client.Addr, q.client.MAC)
	}
	if q.class != plain {
		s.see(q, names[q.kind], "", strings.Join(q.notes, "; "))
	}
}

func (s *Server) noteReply(q request, a answer) {
	if q.class == plain {
		s.cfg.Log.Debug("dhcp reply", "client", q.client.MAC, "type", names[a.p.MessageType()], "addr", addrOf(a.p.YourIPAddr))
		return
	}
	if addr := addrOf(a.p.YourIPAddr); addr.IsValid() {
		q.client.Addr = addr
	}
	file := a.p.BootFileName
	if file == "" {
		file = string(a.p.Options.Get(dhcpv4.OptionBootfileName))
	}
	text := "to " + a.to.String()
	if v, ok := parseVendor(a.p.Options.Get(dhcpv4.OptionVendorSpecificInformation)); ok && len(v.menu) > 0 && v.menu[0].kind == itemDisk {
		text += "; boot your disk"
	}
	s.see(q, names[a.p.MessageType()], file, text)
}

func (s *Server) see(q request, what, name, text string) {
	if what == "" {
		what = fmt.Sprintf("type %d", q.kind)
	}
	s.cfg.Observe(boot.Sighting{Time: s.now(), Client: q.client, Proto: "dhcp", What: what, Name: name, Text: text})
}

// siteOf is what the configuration and the interface say of the network.
func siteOf(cfg Config, l *link) site {
	st := site{mode: cfg.Mode, addr: cfg.Addr, own: []netip.Addr{cfg.Addr}, prefix: cfg.Network.Prefix.Masked(), relays: cfg.Relays, prefixOf: cfg.Prefix}
	if l == nil {
		return st
	}
	st.addr, st.own = l.addr, l.own
	if !st.prefix.IsValid() {
		st.prefix = l.prefix
	}
	return st
}
