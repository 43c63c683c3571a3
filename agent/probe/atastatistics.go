package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"muster/agent/facts"
)

// ataStatisticsLog is the address of the Device Statistics log of ACS-4: pages of 512 bytes, whose figures,
// unlike SMART attributes, mean the same for every maker.
const ataStatisticsLog = 0x04

// An ataStatistic is a figure that is taken, by page and offset. bytes is how much of its eight bytes is the number.
type ataStatistic struct {
	page   byte
	offset int
	bytes  int
	field  func(h *facts.DiskHealth) **int64
	reads  func(n, sector int64) *int64
}

// ataStatistics in the order of pages.
var ataStatistics = []ataStatistic{
	{1, 8, 4, func(h *facts.DiskHealth) **int64 { return &h.PowerCycles }, plainCount},
	{1, 16, 4, func(h *facts.DiskHealth) **int64 { return &h.PowerOnHours }, plainCount},
	{1, 24, 6, func(h *facts.DiskHealth) **int64 { return &h.WrittenBytes }, sectorCount},
	{1, 40, 6, func(h *facts.DiskHealth) **int64 { return &h.ReadBytes }, sectorCount},
	{3, 32, 4, func(h *facts.DiskHealth) **int64 { return &h.ReallocatedSectors }, plainCount},
	{4, 8, 4, func(h *facts.DiskHealth) **int64 { return &h.MediaErrors }, plainCount},
	{5, 8, 1, func(h *facts.DiskHealth) **int64 { return &h.TempC }, signedCelsius},
	{7, 8, 1, func(h *facts.DiskHealth) **int64 { return &h.WearPercent }, plainCount},
}

func plainCount(n, _ int64) *int64 { return &n }

// sectorCount is bytes; a disk that counts more than 2^63 of them lies.
func sectorCount(n, sector int64) *int64 {
	if n > (1<<63-1)/sector {
		return nil
	}
	n *= sector
	return &n
}

func signedCelsius(n, _ int64) *int64 { return within(int64(int8(n)), facts.MinTempC, facts.MaxTempC) }

// readATAStatistics reads the list of pages, and those of them that hold something we take.
func readATAStatistics(dev device, sector int64, h *facts.DiskHealth) error {
	b, err := readATALog(dev, 0)
	if err != nil {
		return err
	}
	pages := b[9 : 9+min(int(b[8]), len(b)-9)]
	for page := byte(1); page <= 7; page++ {
		has := slices.ContainsFunc(ataStatistics, func(s ataStatistic) bool { return s.page == page })
		if !has || !slices.Contains(pages, page) {
			continue
		}
		b, err := readATALog(dev, page)
		if err != nil {
			return err
		}
		parseATAStatistics(b, page, sector, h)
	}
	return nil
}

// readATALog reads one page, which must say that it is that page.
func readATALog(dev device, page byte) ([]byte, error) {
	b, err := readATASector(dev, ataCommand{command: ataReadLogExt, low: ataStatisticsLog, mid: page, extended: true})
	if err != nil {
		return nil, err
	}
	if err := checkATALog(b, page); err != nil {
		return nil, malformed{fmt.Errorf("device statistics, page %d: %w", page, err)}
	}
	return b, nil
}

func checkATALog(b []byte, page byte) error {
	switch {
	case len(b) < ataSector:
		return fmt.Errorf("%d bytes of %d", len(b), ataSector)
	case b[2] != page:
		return fmt.Errorf("it says that it is page %d", b[2])
	case binary.LittleEndian.Uint16(b) == 0:
		return errors.New("nobody filled it in")
	}
	return nil
}

// parseATAStatistics takes the figures of one page that the disk supports and has a value for: bits 7 and 6 of the
// last of their eight bytes.
func parseATAStatistics(b []byte, page byte, sector int64, h *facts.DiskHealth) {
	const known = 3 << 6
	for _, s := range ataStatistics {
		if s.page != page || b[s.offset+7]&known != known {
			continue
		}
		raw := [8]byte{}
		copy(raw[:s.bytes], b[s.offset:])
		if n := s.reads(int64(binary.LittleEndian.Uint64(raw[:])), sector); n != nil {
			*s.field(h) = n
		}
	}
}
