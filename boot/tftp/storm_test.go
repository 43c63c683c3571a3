package tftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"muster/boot"
)

// One client asks for the same file 10,000 times and acknowledges nothing. It is answered once, the rest is counted, and
// ten known machines boot twenty times each meanwhile.
func TestKnownMachinesBootBesideAClientThatAsksWithoutEnd(t *testing.T) {
	const asks, nodes, boots = 10_000, 10, 20
	file, stranger := noise(3000), netip.MustParseAddr("127.0.0.1")
	for _, row := range []struct {
		name    string
		options []string
	}{
		{"with options", []string{"blksize", "1468"}},
		{"without options", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			words := append([]string{"x", "octet"}, row.options...)
			tr, addr := start(t, map[string][]byte{"x": file}, func(s *Server) {
				s.cfg.Client = func(a netip.Addr) boot.Client {
					c := boot.Client{Addr: a}
					if a != stranger {
						c.MAC = boot.MAC{2, 0, 0, 0, 0, a.As4()[3]}
					}
					return c
				}
			})
			p := connect(t, addr)
			for range boots {
				for n := range nodes {
					for range asks / nodes / boots { // as many as surely fit the port's buffer
						p.ask(1, words...)
					}
					if got := connectFrom(t, fmt.Sprintf("127.0.0.%d", 2+n), addr).read(words...); !bytes.Equal(got.bytes, file) {
						t.Fatalf("node %d read %d bytes, error %q", n, len(got.bytes), got.err)
					}
				}
			}
			if heard := p.waiting(); len(heard) != 1 {
				t.Errorf("the client was answered %d times; want once", len(heard))
			}
			for served := 0; served < nodes*boots; {
				if s := <-tr.seen; s.What == "read" {
					served++
				}
			}
			c := tr.server.Counts()
			if c.Received != asks+nodes*boots || c.Served != nodes*boots || c.Ignored+c.Repeated != asks-1 || c.Ignored == 0 || c.Repeated == 0 {
				t.Errorf("counts %+v; want %d received, %d served, and all but one of the client's repeated or ignored", c, asks+nodes*boots, nodes*boots)
			}
		})
	}
}
