package facts

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of custom facts.
const (
	MaxCustom      = 256  // facts
	MaxCustomValue = 1024 // bytes
)

var (
	customName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	macForm    = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)
	uuidForm   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	hashForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// IsCustomName says whether s can name a custom fact: [a-z][a-z0-9_]{0,62}.
func IsCustomName(s string) bool { return customName.MatchString(s) }

// Validate says what is wrong with a check-in, as a *FieldError, or nil. It includes Facts.Validate, and the hash of
// the facts when both are there.
func (c *CheckIn) Validate() error {
	if err := walk(reflect.ValueOf(c), checkText); err != nil {
		return err
	}
	switch {
	case c.V != Version:
		return within("v", fault("want %d, got %d", Version, c.V))
	case c.BootID == "":
		return within("boot_id", fault("missing"))
	case c.Seq < 0:
		return within("seq", fault("want 0 or more"))
	case c.FactsHash != "" && !hashForm.MatchString(c.FactsHash):
		return within("facts_hash", fault("want 64 lower case hexadecimal digits"))
	}
	if err := c.State.checkMeaning(); err != nil {
		return within("state", err)
	}
	if c.Facts == nil {
		return nil
	}
	if err := c.Facts.checkMeaning(); err != nil {
		return within("facts", err)
	}
	return c.checkHash()
}

func (c *CheckIn) checkHash() error {
	if c.FactsHash == "" {
		return nil
	}
	sum, err := c.Facts.Hash()
	if err != nil {
		return err
	}
	if sum != c.FactsHash {
		return within("facts_hash", fault("got %s, the facts have %s", c.FactsHash, sum))
	}
	return nil
}

// Validate says what is wrong with a report, as a *FieldError, or nil.
func (r *Report) Validate() error {
	if err := walk(reflect.ValueOf(r), checkText); err != nil {
		return err
	}
	switch r.Status {
	case StatusStarted, StatusProgress, StatusDone, StatusFailed:
	default:
		return within("status", fault("unknown status %.32q", r.Status))
	}
	switch {
	case r.Order <= 0:
		return within("order", fault("want 1 or more"))
	case r.DoneBytes < 0:
		return within("done_bytes", fault("want 0 or more"))
	case r.AllBytes < 0:
		return within("all_bytes", fault("want 0 or more"))
	}
	return nil
}

// Validate says what is wrong with the facts, as a *FieldError, or nil.
func (f *Facts) Validate() error {
	if err := walk(reflect.ValueOf(f), checkText); err != nil {
		return err
	}
	return f.checkMeaning()
}

// checkMeaning is Validate for facts whose text is known to be clean.
func (f *Facts) checkMeaning() error {
	if f.Schema != Schema {
		return within("schema", fault("want %d, got %d", Schema, f.Schema))
	}
	if err := walk(reflect.ValueOf(f), checkSign); err != nil {
		return err
	}
	if f.System != nil && f.System.UUID != "" && !uuidForm.MatchString(f.System.UUID) {
		return within("system.uuid", fault("want 8-4-4-4-12 lower case hexadecimal digits, got %.64q", f.System.UUID))
	}
	if err := f.checkMACs(); err != nil {
		return err
	}
	if err := checkDiskIDs(f.Disks); err != nil {
		return within("disks", err)
	}
	return within("custom", checkCustom(f.Custom))
}

func (f *Facts) checkMACs() error {
	for i, n := range f.NICs {
		if err := checkMAC("mac", n.MAC); err != nil {
			return within("nics"+item(i), err)
		}
		if err := checkMAC("current_mac", n.CurrentMAC); err != nil {
			return within("nics"+item(i), err)
		}
	}
	if f.Boot != nil {
		if err := checkMAC("boot.bootif", f.Boot.BootIF); err != nil {
			return err
		}
		if err := checkMAC("boot.efi_mac", f.Boot.EFIMAC); err != nil {
			return err
		}
	}
	if f.BMC != nil {
		return checkMAC("bmc.mac", f.BMC.MAC)
	}
	return nil
}

func checkMAC(path, mac string) error {
	if mac == "" || macForm.MatchString(mac) {
		return nil
	}
	return within(path, fault("want an address such as 52:54:00:aa:00:01, got %.32q", mac))
}

// checkDiskIDs wants every disk to have an id of its own, or to say that others have it too.
func checkDiskIDs(disks []Disk) error {
	count := map[string]int{}
	for _, d := range disks {
		count[d.ID]++
	}
	for i, d := range disks {
		switch {
		case d.ID == "":
			return within(item(i)+".id", fault("missing"))
		case count[d.ID] > 1 && !d.Dup:
			return within(item(i)+".id", fault("%.64q is the id of %d disks and dup is not set", d.ID, count[d.ID]))
		}
	}
	return nil
}

func checkCustom(custom map[string]string) error {
	if len(custom) > MaxCustom {
		return fault("want at most %d facts, got %d", MaxCustom, len(custom))
	}
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		switch n := len(custom[name]); {
		case !IsCustomName(name):
			return within(member(name), fault("want a name of [a-z][a-z0-9_]{0,62}"))
		case n > MaxCustomValue:
			return within(member(name), fault("want at most %d bytes, got %d", MaxCustomValue, n))
		}
	}
	return nil
}

// checkText refuses strings that could break a log line, a terminal or a table: control characters, line separators,
// bytes that are not UTF-8, and more than MaxString bytes.
func checkText(v reflect.Value) error {
	if v.Kind() != reflect.String {
		return nil
	}
	s := v.String()
	if len(s) > MaxString {
		return fault("want at most %d bytes, got %d", MaxString, len(s))
	}
	if !utf8.ValidString(s) {
		return fault("want UTF-8")
	}
	if i := strings.IndexFunc(s, breaksLine); i >= 0 {
		return fault("control character at byte %d", i)
	}
	return nil
}

// breaksLine is true for control characters (C0, DEL, C1) and the Unicode line and paragraph separators.
func breaksLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// checkSign refuses negative numbers: no fact has a meaning below zero, and absent is how unknown is said.
func checkSign(v reflect.Value) error {
	if v.CanInt() && v.Int() < 0 {
		return fault("want 0 or more, got %d", v.Int())
	}
	return nil
}

// walk calls check for every scalar below v and for every key of a map, and stops at the first error.
func walk(v reflect.Value, check func(reflect.Value) error) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return walk(v.Elem(), check)
	case reflect.Struct:
		for i := range v.NumField() {
			if err := walk(v.Field(i), check); err != nil {
				return within(jsonName(v.Type().Field(i)), err)
			}
		}
	case reflect.Slice:
		if v.Len() > MaxItems {
			return fault("want at most %d items, got %d", MaxItems, v.Len())
		}
		for i := range v.Len() {
			if err := walk(v.Index(i), check); err != nil {
				return within(item(i), err)
			}
		}
	case reflect.Map:
		return walkMap(v, check)
	default:
		return check(v)
	}
	return nil
}

func walkMap(v reflect.Value, check func(reflect.Value) error) error {
	for it := v.MapRange(); it.Next(); {
		err := check(it.Key())
		if err == nil {
			err = walk(it.Value(), check)
		}
		if err != nil {
			return within(member(it.Key().String()), err)
		}
	}
	return nil
}
