package facts

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Limits of a State: what the broker keeps of one machine.
const (
	MaxStateDisks = 1024
	MaxTemps      = 256
	MaxWarnings   = 16 // of one disk
)

// State is what changes from minute to minute; it is never part of the facts hash.
type State struct {
	BootID       string                `json:"boot_id,omitempty"`   // /proc/sys/kernel/random/boot_id
	UptimeMS     int64                 `json:"uptime_ms,omitempty"` // since the kernel started
	ClockSkewMS  *int64                `json:"clock_skew_ms,omitempty"`
	RTCEpochS    int64                 `json:"rtc_epoch_s,omitempty"`
	MemFreeBytes int64                 `json:"mem_free_bytes,omitempty"`
	Disks        map[string]DiskHealth `json:"disks,omitempty"` // by disks[].id; a disk that tells nothing has no entry
	Temps        []Temperature         `json:"temps,omitzero"`  // by sensor, then label
}

// What a disk's health may be: what the disk itself says, by its own thresholds.
const (
	HealthOK      = "ok"
	HealthFailing = "failing"
)

// DiskHealth is what a disk says of itself: the NVMe SMART log, ATA SMART and device statistics, or SCSI log pages.
// A nil pointer is a figure that this disk does not tell; 0 is one that it does.
type DiskHealth struct {
	Health               string   `json:"health,omitempty"`
	Asleep               bool     `json:"asleep,omitempty"`        // spun down and left so: nothing else was asked
	Warnings             []string `json:"warnings,omitempty"`      // why it is failing, in words of Warnings
	WearPercent          *int64   `json:"wear_percent,omitempty"`  // of the rated life used; above 100 is past it
	SparePercent         *int64   `json:"spare_percent,omitempty"` // of the spare blocks left
	TempC                *int64   `json:"temp_c,omitempty"`
	PowerOnHours         *int64   `json:"power_on_hours,omitempty"`
	PowerCycles          *int64   `json:"power_cycles,omitempty"`
	UnsafeShutdowns      *int64   `json:"unsafe_shutdowns,omitempty"`
	WrittenBytes         *int64   `json:"written_bytes,omitempty"` // by the host, over its life
	ReadBytes            *int64   `json:"read_bytes,omitempty"`
	MediaErrors          *int64   `json:"media_errors,omitempty"` // data that could not be read or written for good
	ReallocatedSectors   *int64   `json:"reallocated_sectors,omitempty"`
	PendingSectors       *int64   `json:"pending_sectors,omitempty"` // unreadable, not yet reallocated
	UncorrectableSectors *int64   `json:"uncorrectable_sectors,omitempty"`
}

// Warnings are the words of DiskHealth.Warnings. The first six are the bits of the critical warning of NVMe (NVM
// Express Base 2.0, section 5.16.1.3), in their order.
var Warnings = []string{
	"spare", "temperature", "reliability", "read_only", "backup", "pmr",
	"threshold", // ATA: an attribute has passed the threshold of its maker
	"predicted", // SCSI: failure prediction threshold exceeded (ASC 5Dh)
	"warning",   // SCSI: another warning of ASC 0Bh; NVMe: a bit that has no name yet
}

// Temperature is what one sensor of the machine says (/sys/class/hwmon); those of disks are in DiskHealth.
type Temperature struct {
	Sensor string `json:"sensor"`          // name of the chip: coretemp
	Label  string `json:"label,omitempty"` // of the sensor on it: Package id 0
	TempC  int64  `json:"temp_c"`
}

// Temperatures beyond these are no temperatures; sensors that are not there read so.
const (
	MinTempC = -60
	MaxTempC = 200
)

// maxPercent bounds wear: NVMe counts up to 255 and stays there.
const maxPercent = 255

// Validate says what is wrong with a state, as a *FieldError, or nil.
func (s *State) Validate() error {
	if err := walk(reflect.ValueOf(s), checkText); err != nil {
		return err
	}
	return s.checkMeaning()
}

// checkMeaning is Validate for a state whose text is known to be clean.
func (s *State) checkMeaning() error {
	switch {
	case s == nil:
		return nil
	case len(s.Disks) > MaxStateDisks:
		return within("disks", fault("want at most %d disks, got %d", MaxStateDisks, len(s.Disks)))
	case len(s.Temps) > MaxTemps:
		return within("temps", fault("want at most %d sensors, got %d", MaxTemps, len(s.Temps)))
	}
	for _, row := range []struct {
		name string
		n    int64
	}{{"uptime_ms", s.UptimeMS}, {"rtc_epoch_s", s.RTCEpochS}, {"mem_free_bytes", s.MemFreeBytes}} {
		if row.n < 0 {
			return within(row.name, fault("want 0 or more, got %d", row.n))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Disks)) {
		if id == "" {
			return within("disks", fault("a disk without id"))
		}
		if err := s.Disks[id].checkMeaning(); err != nil {
			return within("disks", within(member(id), err))
		}
	}
	for i, t := range s.Temps {
		if err := checkRange("temp_c", &t.TempC, MinTempC, MaxTempC); err != nil {
			return within("temps"+item(i), err)
		}
	}
	return nil
}

func (d DiskHealth) checkMeaning() error {
	if d.Health != "" && d.Health != HealthOK && d.Health != HealthFailing {
		return within("health", fault("want ok or failing, got %.32q", d.Health))
	}
	if len(d.Warnings) > MaxWarnings {
		return within("warnings", fault("want at most %d, got %d", MaxWarnings, len(d.Warnings)))
	}
	for i, w := range d.Warnings {
		if !slices.Contains(Warnings, w) {
			return within("warnings"+item(i), fault("unknown word %.32q", w))
		}
	}
	for _, f := range d.figures() {
		if err := checkRange(f.name, f.n, f.min, f.max); err != nil {
			return err
		}
	}
	return nil
}

// A figure is a number of a disk and what it may be.
type figure struct {
	name     string
	n        *int64
	min, max int64
}

func (d DiskHealth) figures() []figure {
	const most = 1<<63 - 1
	return []figure{
		{"wear_percent", d.WearPercent, 0, maxPercent},
		{"spare_percent", d.SparePercent, 0, 100},
		{"temp_c", d.TempC, MinTempC, MaxTempC},
		{"power_on_hours", d.PowerOnHours, 0, most},
		{"power_cycles", d.PowerCycles, 0, most},
		{"unsafe_shutdowns", d.UnsafeShutdowns, 0, most},
		{"written_bytes", d.WrittenBytes, 0, most},
		{"read_bytes", d.ReadBytes, 0, most},
		{"media_errors", d.MediaErrors, 0, most},
		{"reallocated_sectors", d.ReallocatedSectors, 0, most},
		{"pending_sectors", d.PendingSectors, 0, most},
		{"uncorrectable_sectors", d.UncorrectableSectors, 0, most},
	}
}

func checkRange(name string, n *int64, low, high int64) error {
	if n != nil && (*n < low || *n > high) {
		return within(name, fault("want %d to %d, got %d", low, high, *n))
	}
	return nil
}

// String is the health in one line, for people: what is wrong comes first, and counts that should be 0 only when they
// are not.
func (d DiskHealth) String() string {
	var words []string
	switch {
	case d.Asleep:
		words = append(words, "asleep")
	case d.Health == HealthFailing && d.Warnings != nil:
		words = append(words, "FAILING ("+strings.Join(d.Warnings, " ")+")")
	case d.Health == HealthFailing:
		words = append(words, "FAILING")
	case d.Health != "":
		words = append(words, d.Health)
	}
	for _, row := range []struct {
		n      *int64
		format string
		normal int64 // not told
	}{
		{d.MediaErrors, "%d media errors", 0},
		{d.ReallocatedSectors, "%d reallocated", 0},
		{d.PendingSectors, "%d pending", 0},
		{d.UncorrectableSectors, "%d uncorrectable", 0},
		{d.SparePercent, "spare %d%%", 100},
		{d.WearPercent, "wear %d%%", -1},
		{d.TempC, "%d C", MinTempC - 1},
		{d.PowerOnHours, "%d h", -1},
	} {
		if row.n != nil && *row.n != row.normal {
			words = append(words, fmt.Sprintf(row.format, *row.n))
		}
	}
	return strings.Join(words, ", ")
}
