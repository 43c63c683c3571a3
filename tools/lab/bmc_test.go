package lab

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// networkedBMC is one with all it can have.
func networkedBMC() BMCConfig {
	return BMCConfig{
		Address: netip.MustParsePrefix("192.0.2.77/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
		MAC: net.HardwareAddr{0xd0, 0x94, 0x66, 0x77, 0x88, 0xaa}, Source: BMCStatic, VLAN: 100,
		Firmware: [2]byte{4, 0x45}, ManufacturerID: 0x0002a2, ProductID: 0x0100,
		GUID: [16]byte{0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11, 0x22},
	}
}

// called starts a BMC and is QEMU's end of the line to it.
func called(t *testing.T, c BMCConfig) (net.Conn, *bufio.Reader) {
	t.Helper()
	qemu, bmc := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- NewBMC(c).Serve(bmc) }()
	t.Cleanup(func() {
		qemu.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return qemu, bufio.NewReader(qemu)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask sends a request as QEMU does, with a sequence number that has to be escaped, and gives the completion code and
// the data of the answer.
func ask(t *testing.T, conn net.Conn, r *bufio.Reader, function, command byte, data ...byte) []byte {
	t.Helper()
	request := append([]byte{0xa0, function << 2, command}, data...)
	if _, err := conn.Write(vmFrame(vmMessage, append(request, checksum(request))...)); err != nil {
		t.Fatal(err)
	}
	frame, end, err := readVMFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	if end != vmMessage || len(frame) < 5 || frame[0] != 0xa0 || frame[1] != (function|1)<<2 || frame[2] != command || checksum(frame) != 0 {
		t.Fatalf("answer % x with end %#x; want one to % x", frame, end, request)
	}
	return frame[3 : len(frame)-1]
}

func TestBMCAnswers(t *testing.T) {
	noVLAN, noLAN := networkedBMC(), networkedBMC()
	noVLAN.VLAN, noVLAN.Channel, noVLAN.Source = 0, 8, BMCDHCP
	noLAN.NoLAN = true
	for _, tt := range []struct {
		name              string
		c                 BMCConfig
		function, command byte
		data, want        string
	}{
		{"its device id", networkedBMC(), 6, 0x01, "", "00 20 01 04 45 02 80 a2 02 00 00 01"},
		{"its GUID", networkedBMC(), 6, 0x37, "", "00 33445566778899aabbccddeeff001122"},
		{"a channel that is the LAN", networkedBMC(), 6, 0x42, "01", "00 01 04 01 80 f2 1b 00 00 00"},
		{"a channel that is not there", networkedBMC(), 6, 0x42, "02", "cc"},
		{"the channel of the host", networkedBMC(), 6, 0x42, "0e", "00 0f 0c 05 00 f2 1b 00 00 00"},
		{"its address", networkedBMC(), 0x0c, 2, "01 03 00 00", "00 11 c0 00 02 4d"},
		{"its MAC", networkedBMC(), 0x0c, 2, "01 05 00 00", "00 11 d0 94 66 77 88 aa"},
		{"its mask", networkedBMC(), 0x0c, 2, "01 06 00 00", "00 11 ff ff ff 00"},
		{"its gateway", networkedBMC(), 0x0c, 2, "01 0c 00 00", "00 11 c0 00 02 01"},
		{"where the address is from", networkedBMC(), 0x0c, 2, "01 04 00 00", "00 11 01"},
		{"its VLAN", networkedBMC(), 0x0c, 2, "01 14 00 00", "00 11 64 80"},
		{"no VLAN, on another channel", noVLAN, 0x0c, 2, "08 14 00 00", "00 11 00 00"},
		{"nothing is set", BMCConfig{}, 0x0c, 2, "01 05 00 00", "00 11 00 00 00 00 00 00"},
		{"a parameter it does not have", networkedBMC(), 0x0c, 2, "01 c0 00 00", "80"},
		{"LAN without LAN", noLAN, 0x0c, 2, "01 03 00 00", "c1"},
		{"a channel without LAN", noLAN, 6, 0x42, "01", "cc"},
		{"a request without its data", networkedBMC(), 0x0c, 2, "01", "c7"},
		{"a command nobody knows", networkedBMC(), 0x0a, 0x10, "", "c1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, r := called(t, tt.c)
			if got, want := ask(t, conn, r, tt.function, tt.command, unhex(t, tt.data)...), unhex(t, tt.want); !bytes.Equal(got, want) {
				t.Errorf("answer % x; want % x", got, want)
			}
		})
	}
}

// The driver reads back what it switched on.
func TestBMCKeepsItsEnables(t *testing.T) {
	conn, r := called(t, networkedBMC())
	ask(t, conn, r, 6, 0x2e, 0x09)
	if got := ask(t, conn, r, 6, 0x2f); !bytes.Equal(got, []byte{0, 9}) {
		t.Errorf("enables % x; want 00 09", got)
	}
}

func TestBMCSwitchesTheMachine(t *testing.T) {
	for _, tt := range []struct {
		name          string
		control, want byte
	}{{"power down", 0, vmPowerOff}, {"hard reset", 3, vmReset}, {"soft shutdown", 5, vmShutdown}} {
		t.Run(tt.name, func(t *testing.T) {
			conn, r := called(t, networkedBMC())
			if got := ask(t, conn, r, 0, 2, tt.control); !bytes.Equal(got, []byte{0}) {
				t.Errorf("answer % x; want 00", got)
			}
			if frame, end, err := readVMFrame(r); err != nil || end != vmCommand || !bytes.Equal(frame, []byte{tt.want}) {
				t.Errorf("then % x, end %#x, %v; want the command %#x", frame, end, err, tt.want)
			}
		})
	}
}

// What QEMU says of itself when the line is there is no request.
func TestBMCPassesOverCommandsOfQEMU(t *testing.T) {
	conn, r := called(t, networkedBMC())
	if _, err := conn.Write([]byte{0xff, 1, vmCommand, 8, 0x3f, vmCommand}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, r, 0, 1); !bytes.Equal(got, []byte{0, 1, 0, 0}) {
		t.Errorf("chassis status % x; want 00 01 00 00", got)
	}
}

func TestBMCEndsAtALineThatIsNoVM(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"a checksum that is wrong", "01 18 01 00 a0", "message 01 18 01 00"},
		{"less than a message", "01 a0", "message 01"},
		{"a frame without end", strings.Repeat("11", maxVMFrame+1), "a frame of more than 300 bytes"},
		{"a line cut inside a frame", "01 18", "unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := NewBMC(networkedBMC()).Serve(line{bytes.NewReader(unhex(t, tt.line))})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Serve = %v; want %q", err, tt.want)
			}
		})
	}
}

// A line is what QEMU says, to a BMC that nobody listens to.
type line struct{ io.Reader }

func (line) Write(p []byte) (int, error) { return len(p), nil }
func (line) Close() error                { return nil }

func FuzzVMFrame(f *testing.F) {
	f.Add([]byte("\x01\x18\x01\xe6"))
	f.Add([]byte{vmEscape, vmMessage, vmCommand})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxVMFrame)]
		got, end, err := readVMFrame(bytes.NewReader(vmFrame(vmMessage, b...)))
		if err != nil || end != vmMessage || !bytes.Equal(got, b) {
			t.Fatalf("% x came back as % x, end %#x, %v", b, got, end, err)
		}
		_ = NewBMC(networkedBMC()).Serve(line{bytes.NewReader(b)}) // what it says is the line's own fault
	})
}
