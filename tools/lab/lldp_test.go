package lab

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The frame that lldpd sends to the first NIC of the planted machine, TLV by TLV. What stands between those of the
// configuration lldpd says by itself: it is a bridge (02, 04, 07: what it can be depends on the host), the index of the
// interface in the management address, and 802.3's link aggregation and MAC of a tap.
var switchTLVs = []string{
	"0207" + "04001cab12aa00", // chassis, a MAC
	"040c" + "07" + hex.EncodeToString([]byte("Ethernet1/7")),
	"0602" + "0078", // 120 s
	"0a08" + hex.EncodeToString([]byte("tor-r12a")),
	"0c0b" + hex.EncodeToString([]byte("PlantOS 4.2")),
	"100c" + "0501c000020b", // 192.0.2.11
	"080b" + hex.EncodeToString([]byte("r12-u7 nic0")),
	"fe06" + "0080c2010064",
	"fe0b" + "0080c203006404" + hex.EncodeToString([]byte("prov")),
	"fe09" + "0080c2070300000005",
	"fe06" + "00120f042400",
}

// TestSwitchSpeaks holds the tap of a machine as QEMU does, and reads what the switch says.
func TestSwitchSpeaks(t *testing.T) {
	r := upRack(t, "mustert7")
	m := addMachine(t, r, MachineConfig{Name: "a", MACs: []string{PlantedMAC, plantedVirtio, plantedCut}})
	for range 2 { // a switch may be switched on again
		tap := holdTap(t, r, m.taps[0])
		s, err := r.Switch(t.Context(), PlantedSwitch(m))
		if err != nil {
			t.Fatal(err)
		}
		frame := readLLDP(t, tap)
		for _, tlv := range switchTLVs {
			if !strings.Contains(frame, tlv) {
				t.Errorf("frame %s lacks %s", frame, tlv)
			}
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		tap.Close()
		if pids := remaining(r.Name(), 0); len(pids) != 0 {
			t.Errorf("processes of the rack = %v; want none after Stop", pids)
		}
	}
}

// holdTap opens a tap (Linux, Documentation/networking/tuntap.rst), which gives it a carrier.
func holdTap(t *testing.T, r *Rack, name string) *os.File {
	t.Helper()
	var tap *os.File
	if err := r.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		tap = os.NewFile(uintptr(fd), name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return tap
}

// readLLDP gives the first LLDP frame in hexadecimal; what else the rack says is passed over.
func readLLDP(t *testing.T, tap *os.File) string {
	t.Helper()
	if err := tap.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 2048)
	for {
		n, err := tap.Read(frame)
		if err != nil {
			t.Fatalf("await an LLDP frame on %s: %v", tap.Name(), err)
		}
		if n > 14 && hex.EncodeToString(frame[12:14]) == "88cc" {
			return hex.EncodeToString(frame[:n])
		}
	}
}
