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
	"slices"
	"strings"
	"time"
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
	rack   *Rack
	stop   context.CancelFunc
	cmd    *exec.Cmd
	said   bytes.Buffer
	ended  chan struct{}
	socket string
}

// chassisPort carries the chassis address: lldpd takes its id from an interface.
const chassisPort = "sw0"

// Switch starts lldpd in the rack, which speaks on each port that has a carrier and then every other second; a machine may be
// switched on before or after. A rack has one at a time.
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
	s := &Switch{rack: r, socket: "/run/muster-lab-" + r.config.Name + ".lldpd", ended: make(chan struct{})}
	ports := []string{chassisPort}
	for _, p := range c.Ports {
		ports = append(ports, p.tap())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	// In the foreground. In place of lldpcli it starts true: lldpcli would give it the host's configuration and let it speak.
	s.cmd = r.Command(life, "lldpd", "-d", "-d", "-L", "/bin/true", "-u", s.socket,
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
	if err := s.configure(ctx, c.lldpd(), ports); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// configure waits until lldpd knows the ports, since it takes no configuration for others, and lets it speak.
func (s *Switch) configure(ctx context.Context, config string, ports []string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		known, err := exec.CommandContext(ctx, "lldpcli", "-u", s.socket, "show", "interfaces").CombinedOutput()
		if err == nil && !slices.ContainsFunc(ports, func(p string) bool { return !bytes.Contains(known, []byte(p)) }) {
			break
		}
		select {
		case <-s.ended:
			return fmt.Errorf("start lldpd: it ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for lldpd to know the ports %s: %w: %s", strings.Join(ports, ", "), ctx.Err(), known)
		case <-time.After(consoleBeat):
		}
	}
	// lldpcli gives up its rights before it opens a file: the rack's directory may not be for its user.
	cmd := exec.CommandContext(ctx, "lldpcli", "-u", s.socket)
	cmd.Stdin = strings.NewReader(config + "resume\n")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("WARN")) || bytes.Contains(out, []byte("ERR")) {
		return fmt.Errorf("configure lldpd: %v: %s", err, bytes.TrimSpace(out))
	}
	return nil
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
	err = errors.Join(err, ip(context.Background(), "-n", s.rack.config.Name, "link", "del", "dev", chassisPort))
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
