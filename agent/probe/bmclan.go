package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/u-root/u-root/pkg/ipmi"

	"muster/agent/facts"
)

const bmcDevice = "/dev/ipmi0" // of ipmi_devintf

// A bmcLink carries a request to the BMC and gives its answer, or an ipmi.CompletionError. It waits ten seconds for one;
// Close ends that.
type bmcLink interface {
	SendRecv(function ipmi.NetFn, command ipmi.Command, data []byte) ([]byte, error)
	Close() error
}

// openBMC is the link of the running machine.
func openBMC() (bmcLink, error) {
	link, err := ipmi.OpenPath(bmcDevice)
	if err != nil {
		return nil, err
	}
	return link, nil
}

// Requests of IPMI 2.0: its sections 20.1, 22.24 and 23.2.
var (
	getDeviceID    = ipmiRequest{0x06, 0x01, "Get Device ID"}
	getChannelInfo = ipmiRequest{0x06, 0x42, "Get Channel Info"}
	getLANConfig   = ipmiRequest{0x0c, 0x02, "Get LAN Configuration Parameters"}
)

type ipmiRequest struct {
	function ipmi.NetFn
	command  ipmi.Command
	name     string
}

// A completion is the code of IPMI (table 5-2) with which a BMC refused a request.
type completion byte

func (c completion) Error() string {
	return fmt.Sprintf("completion code %02xh: %s", byte(c), ipmi.CompletionCode(c))
}

// Is sorts the refusals: nothing is there to be asked about, it is not for us, or whoever stands between us and the BMC
// waited in vain.
func (c completion) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return notThere[c]
	case fs.ErrPermission:
		return c == 0xd4 // insufficient privilege level
	case context.DeadlineExceeded:
		return c == 0xc3 // timeout while processing command
	}
	return false
}

// notThere are the codes that say that a channel, a parameter or a whole command is not there.
var notThere = map[completion]bool{
	0x80: true, // parameter not supported, of Get LAN Configuration Parameters
	0xc1: true, // invalid command
	0xc2: true, // invalid for the LUN
	0xc9: true, // parameter out of range
	0xcb: true, // not present
	0xcc: true, // invalid data field
	0xd6: true, // disabled
}

// bmcTalk is a conversation with the BMC. It ends with the first request that is not answered: behind it the others
// would wait for as long.
type bmcTalk struct {
	link     bmcLink
	ctx      context.Context
	patience time.Duration // for one request
	moved    func()
}

// askBMC adds what only the BMC itself says: where it is on the network and, when the driver did not tell, what it is.
func (m machine) askBMC(ctx context.Context, b *facts.BMC) error {
	link, err := m.openBMC()
	if err != nil {
		return err
	}
	defer link.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*m.patience)
	defer cancel()
	talk := bmcTalk{link, ctx, m.patience, func() { m.steps.Add(1) }}
	if b.Firmware == "" || b.IPMIVersion == "" || b.ManufacturerID == "" || b.ProductID == "" {
		if err := talk.deviceID(b); err != nil {
			return err
		}
	}
	return talk.lan(b)
}

// ask gives the data of an answer, which is what stands after the completion code.
func (t bmcTalk) ask(r ipmiRequest, data ...byte) ([]byte, error) {
	type answer struct {
		bytes []byte
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		b, err := t.link.SendRecv(r.function, r.command, data)
		answers <- answer{b, err}
	}()
	ctx, cancel := context.WithTimeout(t.ctx, t.patience)
	defer cancel()
	select {
	case a := <-answers:
		t.moved()
		b, err := ipmiData(a.bytes, a.err)
		if err != nil {
			return nil, fmt.Errorf("%s % x: %w", r.name, data, err)
		}
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s % x: no answer: %w", r.name, data, context.DeadlineExceeded)
	}
}

// ipmiData cuts the completion code off an answer.
func ipmiData(answer []byte, err error) ([]byte, error) {
	var refused ipmi.CompletionError
	switch {
	case errors.As(err, &refused):
		return nil, completion(refused)
	case err != nil:
		return nil, err
	case len(answer) == 0:
		return nil, malformed{errors.New("an answer without a completion code")}
	case answer[0] != 0:
		return nil, completion(answer[0])
	}
	return answer[1:], nil
}

func (t bmcTalk) deviceID(b *facts.BMC) error {
	data, err := t.ask(getDeviceID)
	if err == nil {
		err = parseDeviceID(data, b)
	}
	return err
}

// parseDeviceID fills in what is not known yet.
func parseDeviceID(data []byte, b *facts.BMC) error {
	if len(data) < 11 {
		return malformed{fmt.Errorf("device id of %d bytes; want 11", len(data))}
	}
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&b.Firmware, fmt.Sprintf("%d.%02x", data[2]&0x7f, data[3])) // bit 7: an update is under way
	set(&b.IPMIVersion, fmt.Sprintf("%x.%x", data[4]&0x0f, data[4]>>4))
	maker := uint32(data[6]) | uint32(data[7])<<8 | uint32(data[8]&0x0f)<<16
	set(&b.ManufacturerID, bmcID(fmt.Sprintf("%06x", maker)))
	set(&b.ProductID, fmt.Sprintf("%04x", binary.LittleEndian.Uint16(data[9:])))
	return nil
}

// lan looks for the channel that leads to a LAN. Where there are several, as on boards with a port that is shared with
// the host and one that is not, it is the first with an address.
func (t bmcTalk) lan(b *facts.BMC) error {
	const lastChannel, medium8023 = 11, 4 // table 6-1, table 6-3
	for channel := byte(1); channel <= lastChannel; channel++ {
		info, err := t.ask(getChannelInfo, channel)
		switch {
		case errors.Is(err, completion(0xc1)):
			return nil // of IPMI 1.0, or without channels: no LAN that a host can see
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case len(info) < 2:
			return malformed{fmt.Errorf("%s: %d bytes; want 9", getChannelInfo.name, len(info))}
		case info[1]&0x7f != medium8023:
			continue
		}
		found, err := t.channel(channel)
		if b.Channel == 0 || found.IP != "" {
			copyLAN(b, found)
		}
		if err != nil || found.IP != "" {
			return err
		}
	}
	return nil
}

// lanParameters are those of table 23-4 that become facts.
var lanParameters = []struct {
	selector byte
	length   int
	write    func(b *facts.BMC, value []byte)
}{
	{3, 4, func(b *facts.BMC, v []byte) { b.IP = ipv4Text(v) }},
	{5, 6, func(b *facts.BMC, v []byte) { b.MAC = facts.CleanMAC(net.HardwareAddr(v).String()) }},
	{6, 4, func(b *facts.BMC, v []byte) { b.Netmask = ipv4Text(v) }},
	{12, 4, func(b *facts.BMC, v []byte) { b.Gateway = ipv4Text(v) }},
	{4, 1, func(b *facts.BMC, v []byte) { b.Source = lanSources[v[0]&0x0f] }},
	{20, 2, func(b *facts.BMC, v []byte) { b.VLAN = lanVLAN(v) }},
}

var lanSources = map[byte]string{1: "static", 2: "dhcp", 3: "bios", 4: "other"}

// channel reads the parameters of one channel. Those that the BMC does not have stay unknown; one that it refuses or
// garbles costs itself.
func (t bmcTalk) channel(channel byte) (facts.BMC, error) {
	b := facts.BMC{Channel: int(channel)}
	var lost []error
	for _, p := range lanParameters {
		data, err := t.ask(getLANConfig, channel, p.selector, 0, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, context.DeadlineExceeded):
			return b, errors.Join(append(lost, err)...)
		case err != nil:
			lost = append(lost, err)
		case len(data) < 1+p.length: // the revision of the parameter stands first
			lost = append(lost, malformed{fmt.Errorf("%s % x: %d bytes; want %d", getLANConfig.name, []byte{channel, p.selector}, len(data), 1+p.length)})
		default:
			p.write(&b, data[1:1+p.length])
		}
	}
	return b, errors.Join(lost...)
}

func copyLAN(to *facts.BMC, from facts.BMC) {
	to.IP, to.MAC, to.Netmask, to.Gateway = from.IP, from.MAC, from.Netmask, from.Gateway
	to.Source, to.VLAN, to.Channel = from.Source, from.VLAN, from.Channel
}

// ipv4Text is an address; "" for 0.0.0.0, which says that none is set.
func ipv4Text(v []byte) string {
	a := netip.AddrFrom4([4]byte(v))
	if a.IsUnspecified() {
		return ""
	}
	return a.String()
}

// lanVLAN is twelve bits, when the highest of sixteen says that they count.
func lanVLAN(v []byte) int {
	id := binary.LittleEndian.Uint16(v)
	if id&0x8000 == 0 {
		return 0
	}
	return int(id & 0x0fff)
}
