package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
)

// A machine with a BMC on the LAN tells where it is, as far as Linux's own driver and QEMU's interface go.
func TestLabBMC(t *testing.T) {
	if os.Getenv("MUSTER_LAB") == "" {
		t.Skip("machines are tested with MUSTER_LAB=1 (make test-lab)")
	}
	ctx := deadline(t)
	stages++
	r, err := Up(ctx, Config{Name: fmt.Sprintf("mbmc%d", stages), Dir: t.TempDir(), Prefix: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	s, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: filepath.Join(labCache(), "ramdisk"), Args: r.ServeArgs(BIOS)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	socket := filepath.Join(r.Dir(), "bmc.sock")
	m, err := r.Machine(MachineConfig{Name: "bmc", Serial: "LAB0001", Extra: BMCArgs(socket)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLife(ctx, s, m, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.On(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- NewBMC(networkedBMC()).Serve(conn) }()
	if _, err := l.Until(ctx, "its facts", Kind(broker.EventRegistered, "")); err != nil {
		t.Fatal(err)
	}
	n, err := s.Node(ctx, l.MAC())
	if err != nil {
		t.Fatal(err)
	}
	checkBMC(t, n)
	if err := m.Off(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func checkBMC(t *testing.T, n *broker.Record) {
	t.Helper()
	want := &facts.BMC{
		Present: true, Interface: "kcs", Firmware: "4.45", IPMIVersion: "2.0", ManufacturerID: "0002a2", ProductID: "0100",
		GUID: "66554433-8877-aa99-bbcc-ddeeff001122", // Linux takes the bytes of the wire for the order of SMBIOS
		IP:   "192.0.2.77", MAC: "d0:94:66:77:88:aa", Netmask: "255.255.255.0", Gateway: "192.0.2.1", Source: "static", VLAN: 100, Channel: 1,
	}
	if diff := cmp.Diff(want, n.Facts.BMC); diff != "" {
		t.Errorf("facts.bmc: -want +got\n%s", diff)
	}
	for _, e := range n.Errors {
		if e.Collector == "bmc" {
			t.Errorf("error %+v", e)
		}
	}
}
