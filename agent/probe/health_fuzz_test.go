package probe

import (
	"encoding/hex"
	"slices"
	"testing"

	"muster/agent/facts"
)

// valid fails when a health could not be sent.
func valid(t *testing.T, h facts.DiskHealth) {
	t.Helper()
	s := facts.State{Disks: map[string]facts.DiskHealth{"a": h}}
	if err := s.Validate(); err != nil {
		t.Errorf("%+v: %v", h, err)
	}
}

func FuzzNVMeHealth(f *testing.F) {
	f.Add([]byte(unhex(page(map[int64]string{0: "04 4301 64"}))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseNVMeHealth(b); err == nil {
			valid(t, h)
		}
	})
}

// FuzzSMART mends the sum, which no fuzzer guesses.
func FuzzSMART(f *testing.F) {
	f.Add([]byte(unhex(smartData("05 3300 24 24 0800 0000 0100 00", "c2 2200 45 3c fb00 f628 0000 00"))), byte(177))
	f.Fuzz(func(t *testing.T, b []byte, wear byte) {
		var h facts.DiskHealth
		if parseSMART(b, wear, &h) == nil {
			valid(t, h)
		}
		if len(b) >= 512 {
			b = slices.Clone(b)
			for _, c := range b[:512] {
				b[511] -= c
			}
			_ = parseSMART(b, wear, &h)
		}
		valid(t, h)
	})
}

// FuzzATAStatistics gives every page the same bytes, but for its number.
func FuzzATAStatistics(f *testing.F) {
	f.Add([]byte(unhex(page(map[int64]string{0: "0100 05", 8: "f6000000 000000c0"}))), byte(5))
	f.Add([]byte(unhex(page(map[int64]string{0: "0100 00", 8: "ff 01"}))), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, number byte) {
		var h facts.DiskHealth
		if checkATALog(b, number) == nil {
			parseATAStatistics(b, number, 4096, &h)
		}
		log := scripted{}
		b = slices.Clone(b)
		for n := range 8 {
			if len(b) > 2 {
				b[2] = byte(n)
			}
			log[askLog(n)] = scriptedAnswer{data: hex.EncodeToString(b)}
		}
		_ = readATAStatistics(log.disk(nil), 512, &h)
		valid(t, h)
	})
}

// FuzzSense lets a device answer every command with the same sense or data.
func FuzzSense(f *testing.F) {
	f.Add([]byte(unhex("72 01 00 1d 00 00 00 0e 09 0c 00 00 00 00 00 00 00 4f 00 c2 00 50")), []byte{})
	f.Add([]byte(unhex("70 00 01 00 50 00 00 0a 00 00 f4 2c 00 1d 00 00 00 00")), []byte(unhex("2f 00 0008 0000 03 04 5d 10 ff 00")))
	f.Fuzz(func(t *testing.T, sense, data []byte) {
		for _, status := range []byte{0, 2, 8} {
			var h facts.DiskHealth
			_ = readATAHealth(sameAnswer{scsiAnswer{status, sense, data}}, nil, facts.Disk{Name: "sda"}, &h)
			_ = readSCSIHealth(sameAnswer{scsiAnswer{status, sense, data}}, &h)
			valid(t, h)
		}
		for _, p := range logPages {
			var h facts.DiskHealth
			parseLogPage(data, p, &h)
			valid(t, h)
		}
	})
}

type sameAnswer struct{ scsiAnswer }

func (a sameAnswer) nvme(byte, uint32, uint32, int) ([]byte, error) { return a.data, nil }
func (a sameAnswer) scsi([]byte, int) (scsiAnswer, error)           { return a.scsiAnswer, nil }
func (a sameAnswer) close()                                         {}
