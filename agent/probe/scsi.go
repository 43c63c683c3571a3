package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"muster/agent/facts"
)

// SCSI status codes and sense keys (SAM-6, SPC-6).
const (
	scsiGood      = 0x00
	senseNotReady = 0x02
	senseIllegal  = 0x05
	senseAborted  = 0x0b
)

// A sense is what a device says of a command that did not simply succeed (SPC-6, sense data).
type sense struct {
	key, asc, ascq byte
	ata            *ataRegisters // when it passes them back
}

// error is the sense of a command that failed.
func (s sense) error(status byte) error {
	return fmt.Errorf("status %02x, sense %x/%02x/%02x", status, s.key, s.asc, s.ascq)
}

// parseSense reads both forms, fixed (70h, 71h) and descriptors (72h, 73h). What is cut off or neither is as if it were
// not said.
func parseSense(b []byte) sense {
	switch {
	case len(b) < 8:
	case b[0]&0x7e == 0x72:
		return sense{b[1] & 0xf, b[2], b[3], descriptorRegisters(b[8:min(8+int(b[7]), len(b))])}
	case b[0]&0x7e == 0x70 && len(b) >= 14:
		return sense{b[2] & 0xf, b[12], b[13], fixedRegisters(b)}
	}
	return sense{}
}

// descriptorRegisters finds the ATA Status Return descriptor of SAT-5.
func descriptorRegisters(b []byte) *ataRegisters {
	for len(b) >= 2 {
		n := 2 + int(b[1])
		if n > len(b) {
			return nil
		}
		if b[0] == 0x09 && n >= 14 {
			return &ataRegisters{errors: b[3], count: b[5], low: b[7], mid: b[9], high: b[11], status: b[13]}
		}
		b = b[n:]
	}
	return nil
}

// fixedRegisters are in the information field when the additional sense code says "ATA pass through information
// available" (SAT-5).
func fixedRegisters(b []byte) *ataRegisters {
	if b[12] != 0x00 || b[13] != 0x1d {
		return nil
	}
	return &ataRegisters{errors: b[3], status: b[4], count: b[6], low: b[9], mid: b[10], high: b[11]}
}

// LOG SENSE (SPC-6) and how much of a page is asked for: what is taken stands in front, and a length of
// more than one byte stops some bridges.
const (
	scsiLogSense  = 0x4d
	scsiCurrent   = 1 << 6 // cumulative values as of now
	scsiPageBytes = 252
)

// A logPage is one that is taken, and the parameters of it.
type logPage struct {
	page byte
	take func(parameter uint16, b []byte, h *facts.DiskHealth)
}

// logPages in the order in which they are asked for; page 0 is the list of those that there are.
var logPages = []logPage{
	{0x2f, takeException},
	{0x0d, takeTemperature},
	{0x11, takeEndurance},
	{0x15, takeScanStatus},
	{0x02, takeErrorCounter}, // write
	{0x03, takeErrorCounter}, // read
	{0x05, takeErrorCounter}, // verify
}

// readSCSIHealth reads the log pages that the device lists. None of them needs the medium.
func readSCSIHealth(dev device, h *facts.DiskHealth) error {
	list, err := readLogPage(dev, 0)
	if err != nil {
		return err
	}
	has := map[byte]bool{}
	for _, page := range list {
		has[page&0x3f] = true
	}
	for _, p := range logPages {
		if !has[p.page] {
			continue
		}
		b, err := readLogPage(dev, p.page)
		if errors.Is(err, errNotTold) {
			continue
		}
		if err != nil {
			return err
		}
		parseLogPage(b, p, h)
	}
	return nil
}

// readLogPage gives the page behind its header, as far as it was asked for.
func readLogPage(dev device, page byte) ([]byte, error) {
	cdb := []byte{scsiLogSense, 0, scsiCurrent | page, 0, 0, 0, 0, 0, scsiPageBytes, 0}
	a, err := dev.scsi(cdb, scsiPageBytes)
	if err != nil {
		return nil, err
	}
	if a.status != scsiGood {
		s := parseSense(a.sense)
		if s.key == senseIllegal || s.key == senseNotReady {
			return nil, errNotTold
		}
		return nil, fmt.Errorf("LOG SENSE page %02x: %w", page, s.error(a.status))
	}
	b := a.data
	if len(b) < 4 || b[0]&0x3f != page {
		return nil, malformed{fmt.Errorf("LOG SENSE page %02x: another page, or none, in %d bytes", page, len(b))}
	}
	return b[4:min(4+int(binary.BigEndian.Uint16(b[2:])), len(b))], nil
}

// parseLogPage walks the parameters: a code, a byte of control, a length, the value. One that is cut off ends it: the
// page was longer than what was asked for.
func parseLogPage(b []byte, p logPage, h *facts.DiskHealth) {
	for len(b) >= 4 {
		n := 4 + int(b[3])
		if n > len(b) {
			return
		}
		p.take(binary.BigEndian.Uint16(b), b[4:n], h)
		b = b[n:]
	}
}

// Additional sense codes of informational exceptions (SPC-6).
const (
	ascWarning    = 0x0b // 01: specified temperature exceeded
	ascPrediction = 0x5d // FF: only a test
)

// takeException reads the general parameter of page 2Fh (SPC-6, Informational Exceptions): the sense that the device would have
// given, and a temperature.
func takeException(parameter uint16, b []byte, h *facts.DiskHealth) {
	if parameter != 0 || len(b) < 2 {
		return
	}
	switch asc, ascq := b[0], b[1]; {
	case asc == 0:
		h.Health = facts.HealthOK
	case asc == ascPrediction && ascq == 0xff:
	case asc == ascPrediction:
		h.Health, h.Warnings = facts.HealthFailing, []string{"predicted"}
	case asc == ascWarning && ascq == 0x01:
		h.Health, h.Warnings = facts.HealthFailing, []string{"temperature"}
	case asc == ascWarning:
		h.Health, h.Warnings = facts.HealthFailing, []string{"warning"}
	}
	if len(b) >= 3 && b[2] > 0 && b[2] < 0xff {
		h.TempC = within(int64(b[2]), facts.MinTempC, facts.MaxTempC)
	}
}

// takeTemperature reads parameter 0 of page 0Dh (SPC-6, Temperature); FFh is a sensor that does not work.
func takeTemperature(parameter uint16, b []byte, h *facts.DiskHealth) {
	if parameter == 0 && len(b) >= 2 && b[1] < 0xff {
		h.TempC = within(int64(b[1]), facts.MinTempC, facts.MaxTempC)
	}
}

// takeEndurance reads the percentage used of page 11h (SBC-4, Solid State Media).
func takeEndurance(parameter uint16, b []byte, h *facts.DiskHealth) {
	if parameter == 1 && len(b) >= 4 {
		h.WearPercent = within(int64(b[3]), 0, 255)
	}
}

// takeScanStatus reads the minutes since manufacture in page 15h (SBC-4, Background Scan).
func takeScanStatus(parameter uint16, b []byte, h *facts.DiskHealth) {
	if parameter == 0 && len(b) >= 4 {
		h.PowerOnHours = within(int64(binary.BigEndian.Uint32(b))/60, 0, 1<<32)
	}
}

// takeErrorCounter adds up the uncorrected errors of pages 02h, 03h and 05h (SPC-6, error counters).
func takeErrorCounter(parameter uint16, b []byte, h *facts.DiskHealth) {
	const uncorrected = 6
	if parameter != uncorrected || len(b) == 0 || len(b) > 8 {
		return
	}
	raw := [8]byte{}
	copy(raw[8-len(b):], b)
	n := int64(binary.BigEndian.Uint64(raw[:]) & (1<<48 - 1))
	if h.MediaErrors != nil {
		n += *h.MediaErrors
	}
	h.MediaErrors = &n
}
