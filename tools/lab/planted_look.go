package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"muster/broker"
)

// PlantedPolicy keeps the machine in the ramdisk at each boot.
const PlantedPolicy = "kind: Policy\nname: keep\nmatch: all\ntask: discover-only\napproval: automatic\n"

// PlantedBMC is what the BMC of a looked-at planted machine says of itself.
var PlantedBMC = BMCConfig{
	Address: netip.MustParsePrefix("192.0.2.77/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
	MAC: net.HardwareAddr{0xd0, 0x94, 0x66, 0x77, 0x88, 0xaa}, Source: BMCStatic, VLAN: 100,
	Firmware: [2]byte{3, 0x21}, ManufacturerID: 0x0002a2, ProductID: 0x0100,
	GUID: [16]byte{0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11, 0x22},
}

// PlantedServeArgs are the flags of a muster serve for the planted machine: ServeArgs, a custom fact, and a first check-in
// that waits until each switch port has spoken.
func (r *Rack) PlantedServeArgs(f Firmware) []string {
	return append(r.ServeArgs(f), "--kernel-args", kernelArgs+" muster.lldp=35 muster.fact.rack=r12")
}

// A PlantedLook is a planted machine that boots from the network, with its switch and its BMC.
type PlantedLook struct {
	Life   *Life
	server *Server
	sw     *Switch
	bmc    chan error // how it ended
}

// LookAtPlanted makes the machine, its switch and its BMC, and switches it on. The server is one with PlantedServeArgs;
// what happens is told to out, if that is not nil.
func (r *Rack) LookAtPlanted(ctx context.Context, s *Server, f Firmware, out io.Writer) (p *PlantedLook, err error) {
	if _, err := s.Apply(ctx, []byte(PlantedPolicy)); err != nil {
		return nil, err
	}
	socket := "/run/muster-lab-" + r.config.Name + ".bmc"
	m, err := r.Planted(ctx, PlantedConfig{Name: "planted-" + string(f), Firmware: f, BMC: BMCArgs(socket)})
	if err != nil {
		return nil, err
	}
	p = &PlantedLook{server: s, bmc: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Life, err = NewLife(ctx, s, m, out); err != nil {
		return nil, err
	}
	if p.sw, err = r.Switch(ctx, PlantedSwitch(m)); err != nil {
		return nil, err
	}
	if err := p.Life.On(); err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("call the machine from its BMC: %w", err)
	}
	go func() { p.bmc <- NewBMC(PlantedBMC).Serve(conn) }()
	return p, nil
}

// Node waits for the next order of the agent, which follows its facts, and gives the node as the broker knows it.
func (p *PlantedLook) Node(ctx context.Context) (*broker.Record, error) {
	if _, err := p.Life.Until(ctx, "the facts of the planted machine", Kind(broker.EventOrder, "order wait: ")); err != nil {
		return nil, err
	}
	return p.server.Node(ctx, p.Life.MAC())
}

// Close cuts the power and ends the switch. The error says what had ended by itself.
func (p *PlantedLook) Close() error {
	var errs []error
	if p.Life != nil {
		errs = append(errs, p.Life.Machine.Off())
	}
	if p.sw != nil {
		errs = append(errs, p.sw.Stop())
	}
	select {
	case err := <-p.bmc:
		errs = append(errs, err)
	default: // it has not been called, or ends with its line
	}
	return errors.Join(errs...)
}
