package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// BMCConfig is what a BMC says of itself. What is zero is not configured on it.
type BMCConfig struct {
	Address netip.Prefix     // IPv4 address and network mask, such as 192.0.2.77/24
	Gateway netip.Addr       // IPv4
	MAC     net.HardwareAddr // six bytes
	Source  BMCSource        // of the address
	VLAN    int              // 1 to 4094; if 0, none
	Channel int              // that leads to the LAN, 1 to 11; if 0, 1

	Firmware       [2]byte // major version, minor version in BCD: 3, 0x21 is 3.21
	ManufacturerID uint32  // IANA enterprise number, 20 bits
	ProductID      uint16
	GUID           [16]byte // in the order of the wire

	NoLAN bool // refuses LAN commands, as a BMC without a network does
	Mute  bool // never answers LAN commands: a BMC that hangs
}

// A BMCSource says where the address of a BMC is from (IPMI 2.0 table 23-4, parameter 4).
type BMCSource byte

const (
	BMCStatic BMCSource = 1
	BMCDHCP   BMCSource = 2
	BMCBIOS   BMCSource = 3
)

// A BMC is a baseboard management controller outside of QEMU, for its device ipmi-bmc-extern. QEMU has one built in,
// ipmi-bmc-sim, but that has no LAN.
type BMC struct {
	config BMCConfig

	mu      sync.Mutex
	enables byte // Set BMC Global Enables, of the driver
}

// NewBMC makes a BMC. It answers on connections given to Serve, one after the other or at the same time.
func NewBMC(c BMCConfig) *BMC {
	if c.Channel == 0 {
		c.Channel = 1
	}
	return &BMC{config: c}
}

// BMCArgs gives a machine (MachineConfig.Extra) an IPMI interface of the kind KCS whose BMC is reached over the unix
// socket at path. QEMU listens there; the BMC calls once the machine is on (QEMU 7.2 ends with a fault when it is
// connected while the device is made), and again after each power-on:
//
//	conn, err := net.Dial("unix", path)
//	go bmc.Serve(conn)
func BMCArgs(path string) []string {
	return []string{
		"-chardev", "socket,id=bmc,server=on,wait=off,path=" + escape(path),
		"-device", "ipmi-bmc-extern,id=bmc0,chardev=bmc", "-device", "isa-ipmi-kcs,bmc=bmc0",
	}
}

// Bytes of QEMU's VM protocol (OpenIPMI's lanserv/README.vm, hw/ipmi/ipmi_bmc_extern.c): a frame ends with one of the
// first two; where they or the third stand in a frame, the third and the byte with bit 4 set stand for them.
const (
	vmMessage = 0xa0 // ends a message of IPMI
	vmCommand = 0xa1 // ends a command about the machine
	vmEscape  = 0xaa

	maxVMFrame = 300 // bytes; IPMI messages have 255 at most
)

// Commands about the machine, from the BMC to QEMU.
const (
	vmPowerOff = 0x03
	vmReset    = 0x04
	vmShutdown = 0x09
)

// Serve answers on a connection to QEMU until it ends; a nil error is that QEMU hung up.
func (b *BMC) Serve(conn io.ReadWriteCloser) error {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		frame, end, err := readVMFrame(r)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("serve BMC: %w", err)
		case end == vmCommand: // QEMU's version and what it can do
			continue
		}
		out, err := b.message(frame)
		if err != nil {
			return fmt.Errorf("serve BMC: %w", err)
		}
		if _, err := conn.Write(out); err != nil {
			return fmt.Errorf("serve BMC: %w", err)
		}
	}
}

// readVMFrame reads one frame, and says which byte ended it.
func readVMFrame(r io.ByteReader) (frame []byte, end byte, err error) {
	escaped := false
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil && len(frame) > 0 && errors.Is(err, io.EOF):
			return nil, 0, io.ErrUnexpectedEOF
		case err != nil:
			return nil, 0, err
		case c == vmMessage, c == vmCommand:
			return frame, c, nil
		case c == vmEscape:
			escaped = true
			continue
		case escaped:
			c, escaped = c&^0x10, false
		}
		if len(frame) == maxVMFrame {
			return nil, 0, fmt.Errorf("a frame of more than %d bytes", maxVMFrame)
		}
		frame = append(frame, c)
	}
}

// vmFrame is a frame as it is sent.
func vmFrame(end byte, frame ...byte) []byte {
	var out []byte
	for _, c := range frame {
		if c == vmMessage || c == vmCommand || c == vmEscape {
			out = append(out, vmEscape)
			c |= 0x10
		}
		out = append(out, c)
	}
	return append(out, end)
}

// checksum is what makes the sum of all bytes zero (IPMI 2.0 section 13.8).
func checksum(b []byte) byte {
	var sum byte
	for _, c := range b {
		sum += c
	}
	return -sum
}

// message answers a request: sequence number, network function and LUN, command, data, checksum. The answer has the
// completion code before its data; nothing is answered by a mute BMC.
func (b *BMC) message(frame []byte) ([]byte, error) {
	if len(frame) < 4 || checksum(frame) != 0 {
		return nil, fmt.Errorf("message % x: want sequence number, function, command and a checksum", frame)
	}
	function, command, data := frame[1]>>2, frame[2], frame[3:len(frame)-1]
	if b.config.Mute && function == netfnTransport {
		return nil, nil
	}
	answer, power := []byte{ccUnknownCommand}, byte(0)
	if function == netfnChassis && command == 0x02 {
		answer, power = chassisControl(data)
	} else if f := bmcCommands[[2]byte{function, command}]; f != nil {
		answer = f(b, data)
	}
	reply := append([]byte{frame[0], frame[1] | 1<<2, command}, answer...)
	out := vmFrame(vmMessage, append(reply, checksum(reply))...)
	if power != 0 {
		out = append(out, vmFrame(vmCommand, power)...)
	}
	return out, nil
}

// Network functions of IPMI (section 5.1).
const (
	netfnChassis   = 0x00
	netfnApp       = 0x06
	netfnTransport = 0x0c
)

// Completion codes of IPMI (table 5-2).
const (
	ccOK             = 0x00
	ccNoParameter    = 0x80 // of Get LAN Configuration Parameters
	ccUnknownCommand = 0xc1
	ccShortRequest   = 0xc7
	ccBadField       = 0xcc
)

// bmcCommands are the requests a BMC answers, by function and command. Linux asks all those of function App before it
// shows /dev/ipmi0.
var bmcCommands = map[[2]byte]func(*BMC, []byte) []byte{
	{netfnApp, 0x01}:       (*BMC).deviceID,
	{netfnApp, 0x08}:       (*BMC).guid, // Get Device GUID
	{netfnApp, 0x2e}:       (*BMC).setEnables,
	{netfnApp, 0x2f}:       (*BMC).getEnables,
	{netfnApp, 0x30}:       (*BMC).clearFlags,
	{netfnApp, 0x31}:       (*BMC).getFlags,
	{netfnApp, 0x37}:       (*BMC).guid, // Get System GUID
	{netfnApp, 0x42}:       (*BMC).channelInfo,
	{netfnChassis, 0x01}:   (*BMC).chassisStatus,
	{netfnTransport, 0x02}: (*BMC).lanConfig,
}

// deviceID is section 20.1: IPMI 2.0, a chassis device.
func (b *BMC) deviceID([]byte) []byte {
	c := b.config
	m, p := c.ManufacturerID, c.ProductID
	return []byte{ccOK, 0x20, 0x01, c.Firmware[0] & 0x7f, c.Firmware[1], 0x02, 0x80, byte(m), byte(m >> 8), byte(m>>16) & 0x0f, byte(p), byte(p >> 8)}
}

func (b *BMC) guid([]byte) []byte { return append([]byte{ccOK}, b.config.GUID[:]...) }

// setEnables keeps what the driver switches on; nothing here interrupts it.
func (b *BMC) setEnables(data []byte) []byte {
	if len(data) == 0 {
		return []byte{ccShortRequest}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enables = data[0]
	return []byte{ccOK}
}

func (b *BMC) getEnables([]byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte{ccOK, b.enables}
}

func (b *BMC) clearFlags([]byte) []byte { return []byte{ccOK} }

func (b *BMC) getFlags([]byte) []byte { return []byte{ccOK, 0} }

// channelInfo is section 22.24. The medium is 4, an 802.3 LAN, on one channel, and on channel 15, which the host is on,
// 12, a system interface.
func (b *BMC) channelInfo(data []byte) []byte {
	if len(data) == 0 {
		return []byte{ccShortRequest}
	}
	channel := data[0] & 0x0f
	switch {
	case channel == 0x0e, channel == 0x0f: // 0Eh is the channel that is asked over
		return []byte{ccOK, 0x0f, 12, 5, 0, 0xf2, 0x1b, 0, 0, 0}
	case int(channel) == b.config.Channel && !b.config.NoLAN:
		return []byte{ccOK, channel, 4, 1, 0x80, 0xf2, 0x1b, 0, 0, 0}
	}
	return []byte{ccBadField}
}

// lanConfig is section 23.2: the revision of the parameters, then one of them.
func (b *BMC) lanConfig(data []byte) []byte {
	switch {
	case b.config.NoLAN:
		return []byte{ccUnknownCommand}
	case len(data) < 4:
		return []byte{ccShortRequest}
	case int(data[0]&0x0f) != b.config.Channel:
		return []byte{ccBadField}
	}
	parameter := lanParameters[data[1]]
	if parameter == nil {
		return []byte{ccNoParameter}
	}
	return append([]byte{ccOK, 0x11}, parameter(b.config)...)
}

// lanParameters are those of table 23-4.
var lanParameters = map[byte]func(BMCConfig) []byte{
	3:  func(c BMCConfig) []byte { return ipv4(c.Address.Addr()) },
	4:  func(c BMCConfig) []byte { return []byte{byte(c.Source)} },
	5:  func(c BMCConfig) []byte { return append(make([]byte, 0, 6), append(c.MAC, make([]byte, 6)...)[:6]...) },
	6:  func(c BMCConfig) []byte { return net.CIDRMask(max(c.Address.Bits(), 0), 32) },
	12: func(c BMCConfig) []byte { return ipv4(c.Gateway) },
	20: func(c BMCConfig) []byte { return vlanID(c.VLAN) },
}

func ipv4(a netip.Addr) []byte {
	if !a.Is4() {
		return make([]byte, 4)
	}
	return a.AsSlice()
}

// vlanID is twelve bits and, in the highest, that they count.
func vlanID(id int) []byte {
	if id == 0 {
		return []byte{0, 0}
	}
	return []byte{byte(id), 0x80 | byte(id>>8)&0x0f}
}

// chassisStatus is section 28.2: the power is on, or nobody would ask.
func (b *BMC) chassisStatus([]byte) []byte { return []byte{ccOK, 1, 0, 0} }

// chassisControl is section 28.3, and what QEMU is told to do.
func chassisControl(data []byte) (answer []byte, power byte) {
	if len(data) == 0 {
		return []byte{ccShortRequest}, 0
	}
	power = map[byte]byte{0: vmPowerOff, 2: vmReset, 3: vmReset, 5: vmShutdown}[data[0]&0x0f]
	if power == 0 {
		return []byte{ccBadField}, 0
	}
	return []byte{ccOK}, power
}
