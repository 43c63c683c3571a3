package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// SwitchConfig is what the rack's switch says of itself by LLDP (IEEE 802.1AB).
type SwitchConfig struct {
	Chassis     net.HardwareAddr
	Name        string
	Description string
	Management  netip.Addr
	Ports       []SwitchPort
}

// A SwitchPort is where a NIC of a machine is plugged in.
type SwitchPort struct {
	Machine     *Machine
	NIC         int // counted from 0
	ID          string
	Description string
	VLAN        uint16 // of frames without a tag
	VLANName    string
	Aggregation uint32 // port of a link aggregation; 0: it is in none
	MTU         uint16 // longest frame
}

// A Switch speaks LLDP on ports of the rack. It is Debian's lldpd, not frames made here, so that a reader is tried on
// what others write.
type Switch struct {
	stop   context.CancelFunc
	cmd    *exec.Cmd
	said   bytes.Buffer
	ended  chan struct{}
	socket string
}

// chassisPort carries the chassis address: lldpd takes its id from an interface.
const chassisPort = "sw0"

// Switch starts lldpd in the rack. It says nothing while a machine is off and speaks as soon as it is on, then every other
// second. A rack has one.
func (r *Rack) Switch(ctx context.Context, c SwitchConfig) (*Switch, error) {
	if _, err := exec.LookPath("lldpd"); err != nil {
		return nil, missingNeed(hostNeed{"lldpd", "lldpd"})
	}
	for _, args := range [][]string{
		{"-n", r.config.Name, "tuntap", "add", "dev", chassisPort, "mode", "tap"},
		{"-n", r.config.Name, "link", "set", "dev", chassisPort, "address", c.Chassis.String(), "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return nil, fmt.Errorf("start the switch: %w", err)
		}
	}
	// A socket's path has 107 bytes at most; the rack's directory may be anywhere.
	s := &Switch{socket: "/run/muster-lab-" + r.config.Name + ".lldpd", ended: make(chan struct{})}
	config := r.config.Dir + "/lldpd.conf"
	if err := os.WriteFile(config, []byte(c.lldpd()), 0o644); err != nil {
		return nil, fmt.Errorf("start the switch: %w", err)
	}
	ports := []string{chassisPort}
	for _, p := range c.Ports {
		ports = append(ports, p.tap())
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.cmd = r.Command(ctx, "lldpd", "-d", "-d", "-u", s.socket, "-O", config, // in the foreground, with no file of the host's configuration
		"-I", strings.Join(ports, ","), "-C", chassisPort, "-m", c.Management.String(), "-S", c.Description)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		s.stop()
		return nil, fmt.Errorf("start lldpd: %w", err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // how it ended is in what it said
	}()
	return s, nil
}

// Stop ends it. The error holds what lldpd said if it had ended by itself.
func (s *Switch) Stop() error {
	var err error
	select {
	case <-s.ended:
		err = fmt.Errorf("lldpd ended by itself: %s", bytes.TrimSpace(s.said.Bytes()))
	default:
	}
	s.stop()
	<-s.ended
	for _, name := range []string{s.socket, s.socket + ".lock"} {
		if rm := os.Remove(name); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}

func (p SwitchPort) tap() string { return p.Machine.taps[p.NIC] }

// lldpd is the configuration (lldpcli(8)). What lldpd tells of interfaces that are in VLANs and bonds is told here by
// TLVs of the same form: the rack's bridge has none. Organizations: 00-80-C2 is IEEE 802.1 (802.1Q annex D: 1 PVID, 3 VLAN
// name, 7 link aggregation), 00-12-0F is 802.3 (802.3 clause 79: 4 longest frame).
func (c SwitchConfig) lldpd() string {
	var b strings.Builder
	fmt.Fprintf(&b, "configure system hostname %q\nconfigure lldp tx-interval 2\nconfigure lldp tx-hold 60\n", c.Name)
	for _, p := range c.Ports {
		port := "configure ports " + p.tap() + " lldp "
		fmt.Fprintf(&b, "%sportidsubtype local %q\n%sportdescription %q\n", port, p.ID, port, p.Description)
		aggregation := append([]byte{1}, byte(p.Aggregation>>24), byte(p.Aggregation>>16), byte(p.Aggregation>>8), byte(p.Aggregation)) // capable
		if p.Aggregation != 0 {
			aggregation[0] = 3 // and in one
		}
		vlan := []byte{byte(p.VLAN >> 8), byte(p.VLAN)}
		for _, tlv := range []struct {
			oui     string
			subtype int
			info    []byte
		}{
			{"00,80,c2", 1, vlan},
			{"00,80,c2", 3, append(append(vlan[:2:2], byte(len(p.VLANName))), p.VLANName...)},
			{"00,80,c2", 7, aggregation},
			{"00,12,0f", 4, []byte{byte(p.MTU >> 8), byte(p.MTU)}},
		} {
			fmt.Fprintf(&b, "%scustom-tlv oui %s subtype %d oui-info %s\n", port, tlv.oui, tlv.subtype, strings.ReplaceAll(fmt.Sprintf("% x", tlv.info), " ", ","))
		}
	}
	return b.String()
}

// PlantedSwitch is where the planted machine is plugged in.
func PlantedSwitch(m *Machine) SwitchConfig {
	return SwitchConfig{
		Chassis: net.HardwareAddr{0x00, 0x1c, 0xab, 0x12, 0xaa, 0x00}, Name: "tor-r12a", Description: "PlantOS 4.2", Management: netip.MustParseAddr("192.0.2.11"),
		Ports: []SwitchPort{
			{Machine: m, NIC: 0, ID: "Ethernet1/7", Description: "r12-u7 nic0", VLAN: 100, VLANName: "prov", Aggregation: 5, MTU: 9216},
			{Machine: m, NIC: 1, ID: "Ethernet1/8", Description: "r12-u7 nic1", VLAN: 200, VLANName: "stor", MTU: 9216},
			{Machine: m, NIC: 2, ID: "Ethernet1/9", Description: "r12-u7 nic2", VLAN: 300, VLANName: "none", MTU: 9216},
		},
	}
}
