package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"muster/agent/facts"
)

// NVM Express Base 2.0: Get Log Page (section 5.16) and its SMART / Health Information log (section 5.16.1.3).
const (
	nvmeGetLogPage  = 0x02
	nvmeHealthLog   = 0x02
	nvmeHealthBytes = 512
	nvmeWhole       = 0xffffffff  // the namespace id that means the whole controller
	nvmeUnit        = 1000 * 512  // bytes in one data unit
	kelvin          = 273         // 0 degrees Celsius, as NVMe rounds it
	nvmeAborted     = 3<<8 | 0x71 // the host gave the command up
	nvmeStatusBits  = 0x07ff      // type and code, without "more" and "do not retry"
	nvmeWarningBits = 6           // that have a name
)

// An nvmeStatus is the status type and code with which a controller refuses a command (section 3.3.3.2.1).
type nvmeStatus uint16

func (s nvmeStatus) Error() string {
	if s&nvmeStatusBits == nvmeAborted {
		return "no answer in time (status 371)"
	}
	return fmt.Sprintf("status %03x", uint16(s&nvmeStatusBits))
}

// Is makes one that came too late a timeout.
func (s nvmeStatus) Is(target error) bool {
	return s&nvmeStatusBits == nvmeAborted && target == context.DeadlineExceeded
}

// readNVMeHealth asks the controller; its namespaces share one health.
func readNVMeHealth(dev device, h *facts.DiskHealth) error {
	const dwords = nvmeHealthBytes/4 - 1 // counted from 0
	b, err := dev.nvme(nvmeGetLogPage, nvmeWhole, dwords<<16|nvmeHealthLog, nvmeHealthBytes)
	if err != nil {
		return err
	}
	*h, err = parseNVMeHealth(b)
	return err
}

// parseNVMeHealth reads the log. What no controller can mean is left out.
func parseNVMeHealth(b []byte) (facts.DiskHealth, error) {
	switch {
	case len(b) < nvmeHealthBytes:
		return facts.DiskHealth{}, malformed{fmt.Errorf("health log: %d bytes of %d", len(b), nvmeHealthBytes)}
	case blank(b[:nvmeHealthBytes]):
		return facts.DiskHealth{}, malformed{errors.New("health log: nobody filled it in")}
	}
	h := facts.DiskHealth{
		Health:          facts.HealthOK,
		Warnings:        nvmeWarnings(b[0]),
		TempC:           within(int64(binary.LittleEndian.Uint16(b[1:]))-kelvin, facts.MinTempC, facts.MaxTempC),
		SparePercent:    within(int64(b[3]), 0, 100),
		WearPercent:     within(int64(b[5]), 0, 255),
		ReadBytes:       uint128(b[32:], nvmeUnit),
		WrittenBytes:    uint128(b[48:], nvmeUnit),
		PowerCycles:     uint128(b[112:], 1),
		PowerOnHours:    uint128(b[128:], 1),
		UnsafeShutdowns: uint128(b[144:], 1),
		MediaErrors:     uint128(b[160:], 1),
	}
	if b[3] == 0 && b[4] == 0 { // no spare, and no threshold to warn at: it is not counted (QEMU)
		h.SparePercent = nil
	}
	if h.Warnings != nil {
		h.Health = facts.HealthFailing
	}
	return h, nil
}

// nvmeWarnings are the words for the bits of the critical warning.
func nvmeWarnings(bits byte) (words []string) {
	for bit := range nvmeWarningBits {
		if bits&(1<<bit) != 0 {
			words = append(words, facts.Warnings[bit])
		}
	}
	if bits>>nvmeWarningBits != 0 {
		words = append(words, "warning")
	}
	return words
}

// uint128 is a counter of 16 bytes, little end first, times scale; nil when the product has more than 63 bits, which no
// disk has lived long enough for.
func uint128(b []byte, scale uint64) *int64 {
	low, high := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if high != 0 || low > math.MaxInt64/scale {
		return nil
	}
	n := int64(low * scale)
	return &n
}
