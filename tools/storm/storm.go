// Package storm is machines without hardware: a Machine does on real sockets what firmware and boot loaders do, packet
// by packet and file by file, and follows the scripts it is given to the kernel or the disk. It has a package of its own
// because it is the other side of package boot and must not share its mind: it reads what boot wrote as iPXE, GRUB and
// pxelinux read it.
//
// muster doctor client boots one Machine and prints what it saw; tests boot one of each Profile.
package storm

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"muster/boot"
)

// A Machine starts from the network.
type Machine struct {
	MAC     boot.MAC
	UUID    boot.UUID // zero: it shows none
	Profile Profile
	Disk    bool   // a system is on its disk, and its loaders find it
	Loader  string // it starts this file of the server, whatever DHCP names; "": what DHCP names
	Lease   bool   // it takes the address it is offered; false: it asks, and leaves no lease behind
}

// A Request is one thing that a machine asked, and the answer.
type Request struct {
	Proto  string        `json:"proto"` // dhcp, tftp, http
	Asked  string        `json:"asked"`
	Answer string        `json:"answer"`
	Bytes  int64         `json:"bytes,omitempty"`
	SHA256 string        `json:"sha256,omitempty"` // of a file that came by HTTP
	Took   time.Duration `json:"took_ns"`
	Failed bool          `json:"failed,omitempty"` // no answer, or an error; loaders ask for some files on the chance
}

// What became of a boot.
type End string

// The ends.
const (
	EndKernel  End = "kernel"  // kernel and ramdisks are loaded and started
	EndLocal   End = "local"   // the machine's own disk is started
	EndBack    End = "back"    // the firmware has it again and tries its next entry
	EndAgain   End = "again"   // it waits, and will ask the same again
	EndRestart End = "restart" // it resets itself
	EndOff     End = "off"     // it is switched off
	EndStuck   End = "stuck"   // nobody answers, or a prompt waits for a person
	EndUnknown End = "unknown" // it runs a program that storm does not know
)

// A Boot is the whole of a machine's start.
type Boot struct {
	Requests []Request `json:"requests"`
	Screen   []string  `json:"screen,omitempty"` // what the loaders wrote
	End      End       `json:"end"`
	Why      string    `json:"why"`
	Kernel   string    `json:"kernel,omitempty"` // as it was asked for
	Initrds  []string  `json:"initrds,omitempty"`
	Args     string    `json:"args,omitempty"`   // as the kernel sees them
	Loader   string    `json:"loader,omitempty"` // the last program that spoke: firmware, ipxe, grub, pxelinux, shim
}

// limits of one boot: a script may send a machine round in a ring.
const (
	maxRequests = 200
	maxCommands = 2000
	maxChains   = 20
)

// Boot starts the machine and follows it to its end. It sleeps for no script, and stops when ctx ends.
func (m Machine) Boot(ctx context.Context, w *Wire) Boot {
	s := &session{ctx: ctx, m: m, wire: w, seen: map[string]bool{}}
	s.log.Loader = "firmware"
	return s.ended(s.firmware())
}

// Follow is the machine from where its iPXE has an address and is told a URL: any host that reaches the server can be it.
func (m Machine) Follow(ctx context.Context, url string) Boot {
	s := &session{ctx: ctx, m: m, seen: map[string]bool{}}
	s.log.Loader = "ipxe"
	return s.ended(s.chain(url))
}

func (s *session) ended(e ending) Boot {
	s.log.End, s.log.Why = e.kind, e.why
	return s.log
}

// A session is a boot under way.
type session struct {
	ctx    context.Context
	m      Machine
	wire   *Wire
	log    Boot
	addr   netip.Addr // leased
	server netip.Addr // of TFTP
	dir    string     // where the running program came from: a directory of the TFTP server, or a URL
	seen   map[string]bool
	chains int

	files func(name string) ([]byte, error) // nil: the network's
}

// An ending says how a boot, or a program of it, ended. The zero ending is none.
type ending struct {
	kind End
	why  string
}

func stuck(format string, a ...any) ending { return ending{EndStuck, fmt.Sprintf(format, a...)} }

// firmware finds the first program and runs it; a ROM that is iPXE is that program itself.
func (s *session) firmware() ending {
	if s.m.Profile.ROM {
		return s.ipxe()
	}
	file, end := s.ask(s.m.Profile.firmwareOptions())
	switch {
	case s.m.Loader != "" && s.server.IsValid():
		file = s.m.Loader
	case end.kind != "":
		return end
	}
	return s.load(file)
}

// load fetches a program by name or URL and runs it.
func (s *session) load(name string) ending {
	if s.chains++; s.chains > maxChains {
		return stuck("%d programs were loaded one after the other: a loader loop", maxChains)
	}
	body, err := s.program(name)
	if err != nil {
		return ending{EndBack, fmt.Sprintf("the first program did not come: %v", err)}
	}
	return s.start(name, body)
}

// program fetches what firmware starts, the way it does: UEFI asks for the size first.
func (s *session) program(name string) ([]byte, error) {
	if isURL(name) {
		if _, err := s.http("HEAD", name); err != nil {
			return nil, err
		}
		return s.http("GET", name)
	}
	if s.m.Profile.Probe {
		if err := s.tftpSize(name); err != nil {
			return nil, err
		}
	}
	return s.tftp(name, s.m.Profile.TFTP)
}
