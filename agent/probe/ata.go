package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"

	"muster/agent/facts"
)

// ATA commands of ACS-4. All of them read; none waits for the medium.
const (
	ataCheckPowerMode = 0xe5
	ataReadLogExt     = 0x2f
	ataSMART          = 0xb0
	smartReadData     = 0xd0 // in the features register
	smartReturnStatus = 0xda
	smartMid          = 0x4f // with these in LBA mid and high a SMART command is one
	smartHigh         = 0xc2
	ataSector         = 512
)

// An ataCommand is what stands in the registers of one command.
type ataCommand struct {
	command, feature, count byte
	low, mid, high          byte // of the LBA
	extended                bool // 48 bits of LBA
	reads                   bool // one sector
}

// cdb is the command inside ATA PASS-THROUGH (16) (SAT-5). A command without data asks for the registers
// after it.
func (c ataCommand) cdb() []byte {
	const (
		pioIn, nonData      = 4 << 1, 3 << 1
		checkCondition      = 1 << 5           // give the registers back
		fromDevice, sectors = 1 << 3, 1<<2 | 2 // the length is a number of sectors, in the count
	)
	protocol, flags := byte(nonData), byte(checkCondition)
	if c.reads {
		protocol, flags = pioIn, fromDevice|sectors
	}
	if c.extended {
		protocol |= 1
	}
	return []byte{0x85, protocol, flags, 0, c.feature, 0, c.count, 0, c.low, 0, c.mid, 0, c.high, 0, c.command, 0}
}

// ataRegisters are those after a command, as far as they are asked for.
type ataRegisters struct{ errors, count, low, mid, high, status byte }

// Bits of the status and error registers (ACS-4).
const (
	ataError   = 1 << 0
	ataFault   = 1 << 5
	ataAborted = 1 << 2
)

// runATA sends a command without data. A disk that does not know the command aborts it: errNotTold.
func runATA(dev device, c ataCommand) (ataRegisters, error) {
	a, err := dev.scsi(c.cdb(), 0)
	if err != nil {
		return ataRegisters{}, err
	}
	s := parseSense(a.sense)
	switch {
	case s.ata == nil && s.key == senseIllegal, s.ata == nil && a.status == scsiGood:
		return ataRegisters{}, errNotTold // nobody between here and the disk passes ATA commands, or registers back
	case s.ata == nil:
		return ataRegisters{}, fmt.Errorf("ATA command %02x: %w", c.command, s.error(a.status))
	case s.ata.status&ataError != 0 && s.ata.errors&ataAborted != 0:
		return ataRegisters{}, errNotTold
	case s.ata.status&(ataError|ataFault) != 0:
		return ataRegisters{}, fmt.Errorf("ATA command %02x: status %02x, error %02x", c.command, s.ata.status, s.ata.errors)
	}
	return *s.ata, nil
}

// readATASector sends a command that gives one sector.
func readATASector(dev device, c ataCommand) ([]byte, error) {
	c.reads, c.count = true, 1
	a, err := dev.scsi(c.cdb(), ataSector)
	if err != nil {
		return nil, err
	}
	s := parseSense(a.sense)
	switch {
	case a.status == scsiGood && len(a.data) == ataSector:
		return a.data, nil
	case a.status == scsiGood:
		return nil, malformed{fmt.Errorf("ATA command %02x: %d bytes of %d", c.command, len(a.data), ataSector)}
	case s.key == senseIllegal, s.key == senseAborted:
		return nil, errNotTold
	}
	return nil, fmt.Errorf("ATA command %02x: %w", c.command, s.error(a.status))
}

// readATAHealth asks a disk that is awake. id is what it says of itself, if that is known.
func readATAHealth(dev device, id identify, d facts.Disk, h *facts.DiskHealth) error {
	if !id.smart() {
		return errNotTold
	}
	asleep, err := isAsleep(dev)
	if err != nil || asleep {
		h.Asleep = asleep
		return err
	}
	if err := readATAStatus(dev, h); err != nil && !errors.Is(err, errNotTold) {
		return err // a disk that fails here fails again
	}
	b, err := readATASector(dev, ataCommand{command: ataSMART, feature: smartReadData, mid: smartMid, high: smartHigh})
	if err == nil {
		err = parseSMART(b, wearAttribute(d), h)
	}
	if id.logs() && (err == nil || errors.Is(err, errNotTold)) {
		return readATAStatistics(dev, max(d.LogicalBlockBytes, ataSector), h)
	}
	return err
}

// smart is false when IDENTIFY says that SMART is not there or switched off (ACS-4 words 82 and 85, which count when
// 83 and 87 say so). It is not switched on here: that would change the disk.
func (id identify) smart() bool {
	const mask, valid, smart = 3 << 14, 1 << 14, 1
	lacks := id.word(83)&mask == valid && id.word(82)&smart == 0
	off := id.word(87)&mask == valid && id.word(85)&smart == 0
	return !lacks && !off
}

// logs is true when the disk has the General Purpose Logging feature set (word 84 bit 5).
func (id identify) logs() bool { return id.word(84)&(3<<14|1<<5) == 1<<14|1<<5 }

// isAsleep asks for the power mode (CHECK POWER MODE, count field): standby and its variants are a spun down disk, which the next
// command might start. One that does not know the command is taken to be awake.
func isAsleep(dev device) (bool, error) {
	r, err := runATA(dev, ataCommand{command: ataCheckPowerMode})
	if errors.Is(err, errNotTold) {
		return false, nil
	}
	switch r.count {
	case 0x00, 0x01, 0x40: // standby z, standby y, spun down behind a cache
		return err == nil, err
	}
	return false, err
}

// readATAStatus asks whether an attribute has passed its threshold (SMART RETURN STATUS): the disk turns 4F C2 over.
func readATAStatus(dev device, h *facts.DiskHealth) error {
	r, err := runATA(dev, ataCommand{command: ataSMART, feature: smartReturnStatus, mid: smartMid, high: smartHigh})
	if err != nil {
		return err
	}
	switch [2]byte{r.mid, r.high} {
	case [2]byte{smartMid, smartHigh}:
		h.Health = facts.HealthOK
	case [2]byte{0xf4, 0x2c}:
		h.Health, h.Warnings = facts.HealthFailing, []string{"threshold"}
	default:
		return malformed{fmt.Errorf("SMART RETURN STATUS: registers %02x %02x", r.mid, r.high)}
	}
	return nil
}

// A smartAttribute is one row of SMART data. What its numbers mean is the maker's business, but for the few below.
type smartAttribute struct {
	id      byte
	current byte // normalized, falling
	raw     []byte
}

func (a smartAttribute) low(n int) int64 {
	raw := [8]byte{}
	copy(raw[:n], a.raw)
	return int64(binary.LittleEndian.Uint64(raw[:]))
}

// smartAttributes are those that all makers mean alike, in this order: a later one has the last word. Some put other
// counters into the upper bytes.
var smartAttributes = []struct {
	id   byte
	take func(a smartAttribute, h *facts.DiskHealth)
}{
	{5, func(a smartAttribute, h *facts.DiskHealth) { h.ReallocatedSectors = within(a.low(2), 0, 1<<16) }},
	{9, func(a smartAttribute, h *facts.DiskHealth) { h.PowerOnHours = within(a.low(3), 0, 1<<24) }},
	{12, func(a smartAttribute, h *facts.DiskHealth) { h.PowerCycles = within(a.low(3), 0, 1<<24) }},
	{190, smartTemperature},
	{194, smartTemperature},
	{197, func(a smartAttribute, h *facts.DiskHealth) { h.PendingSectors = within(a.low(4), 0, 1<<32) }},
	{198, func(a smartAttribute, h *facts.DiskHealth) { h.UncorrectableSectors = within(a.low(4), 0, 1<<32) }},
}

// smartTemperature is the lowest byte, signed; above it stand the lowest and the highest of the disk's life. An SSD
// without a sensor has zeros there.
func smartTemperature(a smartAttribute, h *facts.DiskHealth) {
	if blank(a.raw) && a.raw[0] == 0 {
		return
	}
	h.TempC = within(int64(int8(a.raw[0])), facts.MinTempC, facts.MaxTempC)
}

// wearAttributes say which attribute falls from 100 to 0 over the rated life of an SSD, by maker: the same number
// means another thing elsewhere.
var wearAttributes = []struct {
	model *regexp.Regexp
	id    byte
}{
	{regexp.MustCompile(`(?i)^samsung `), 177},              // Wear_Leveling_Count
	{regexp.MustCompile(`^INTEL SSD`), 233},                 // Media_Wearout_Indicator
	{regexp.MustCompile(`^(Micron_|Crucial_CT|CT\d)`), 202}, // Percent_Lifetime_Remain
	{regexp.MustCompile(`^KINGSTON S`), 231},                // SSD_Life_Left
}

// wearAttribute is 0 for a disk that turns or whose maker is not in the table.
func wearAttribute(d facts.Disk) byte {
	if d.Rotational == nil || *d.Rotational {
		return 0
	}
	for _, row := range wearAttributes {
		if row.model.MatchString(d.Model) {
			return row.id
		}
	}
	return 0
}

// parseSMART reads the answer to SMART READ DATA: two bytes of version, thirty attributes of twelve bytes, and in the
// last byte what makes the sum of all 0 (ACS-4; that these bytes are attributes stands in SFF-8035 only). wear is the
// attribute that tells it, or 0.
func parseSMART(b []byte, wear byte, h *facts.DiskHealth) error {
	if err := checkSMART(b); err != nil {
		return malformed{fmt.Errorf("SMART data: %w", err)}
	}
	attributes := map[byte]smartAttribute{}
	for row := b[2:362]; len(row) > 0; row = row[12:] {
		if id := row[0]; id != 0 {
			attributes[id] = smartAttribute{id, row[3], row[5:11]}
		}
	}
	for _, row := range smartAttributes {
		if a, ok := attributes[row.id]; ok {
			row.take(a, h)
		}
	}
	if a, ok := attributes[wear]; ok && wear != 0 && a.current >= 1 && a.current <= 100 {
		h.WearPercent = within(100-int64(a.current), 0, 100)
	}
	return nil
}

func checkSMART(b []byte) error {
	if len(b) < ataSector {
		return fmt.Errorf("%d bytes of %d", len(b), ataSector)
	}
	sum := byte(0)
	for _, c := range b[:ataSector] {
		sum += c
	}
	switch {
	case sum != 0:
		return fmt.Errorf("the sum of the bytes is %02x, not 00", sum)
	case blank(b[:ataSector]):
		return errors.New("nobody filled it in")
	}
	return nil
}
