package facts

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxRunes is the length of a cleaned string.
const MaxRunes = 256

// Line makes s one printable line of at most n bytes: invalid UTF-8 and NUL are dropped, control characters and
// U+2028 and U+2029 become blanks, runs of blanks collapse, ends are trimmed.
func Line(s string, n int) string {
	s = strings.Map(printable, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimSpace(s[:n])
}

func printable(r rune) rune {
	switch {
	case r == 0:
		return -1
	case breaksLine(r):
		return ' '
	}
	return r
}

// Clean makes a string of firmware or of a device fit to be a fact: Line, at most MaxRunes characters, and "" when it
// only says that nobody filled it in ("To Be Filled By O.E.M.", "Not Specified", "0000-00").
func Clean(s string) string {
	s = cutRunes(Line(s, len(s)), MaxRunes)
	if isPlaceholder(s) {
		return ""
	}
	return s
}

// CleanSerial is Clean for serial numbers and asset tags, which must also tell machines apart: three characters or
// more, and two different letters or digits or more.
func CleanSerial(s string) string {
	s = Clean(s)
	if utf8.RuneCountInString(s) < 3 || distinctAlnum(s) < 2 {
		return ""
	}
	return s
}

// CleanMAC is the canonical form of an address written with colons, dashes, dots or nothing, with or without the
// hardware type 01 in front; "" when it is not six bytes, all zero, all ones, or a group address.
func CleanMAC(s string) string {
	d := hexDigits(s, ":-. ")
	if len(d) == 14 && strings.HasPrefix(d, "01") {
		d = d[2:]
	}
	if len(d) != 12 || d == "000000000000" || strings.IndexByte("13579bdf", d[1]) >= 0 {
		return ""
	}
	return strings.Join([]string{d[:2], d[2:4], d[4:6], d[6:8], d[8:10], d[10:]}, ":")
}

// CleanUUID is the canonical form of a UUID with or without dashes, braces and blanks; "" when it is no UUID or one
// that vendors burn into whole batches.
func CleanUUID(s string) string {
	d := hexDigits(s, "{}- ")
	if len(d) != 32 || distinctAlnum(d) <= 2 {
		return ""
	}
	u := strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-")
	if batchUUIDs[u] {
		return ""
	}
	return u
}

// batchUUIDs are seen on many machines each.
var batchUUIDs = map[string]bool{
	"03000200-0400-0500-0006-000700080009": true,
	"00020003-0004-0005-0006-000700080009": true,
	"12345678-1234-5678-90ab-cddeefaabbcc": true,
	"12345678-1234-5678-1234-567812345678": true,
	"00112233-4455-6677-8899-aabbccddeeff": true,
	"11111111-2222-3333-4444-555555555555": true,
	"4c4c4544-0000-2010-8020-80c04f202020": true, // Dell with a blank service tag
}

// hexDigits is s in lower case without the separators, or "" when anything else than hexadecimal digits is left.
func hexDigits(s, separators string) string {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(separators, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, strings.TrimSpace(s))
	if strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

func cutRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return strings.TrimSpace(s[:i])
		}
		n--
	}
	return s
}

// placeholders are what vendors leave in fields nobody filled in, in lower case. "<bad index>" and "not specified"
// are what SMBIOS readers say for a missing string.
var placeholders = wordSet(`
	none|n/a|na|unknown|not specified|not settable|not present|not available|not applicable|default|default string
	to be filled by o.e.m.|o.e.m.|oem|empty|null|undefined|invalid|test|system serial number|system product name
	system manufacturer|system version|chassis serial number|base board serial number|serial number|no asset tag
	no asset information|asset tag|asset-1234567890|0123456789|123456789|1234567890|12345678|<bad index>`)

func wordSet(list string) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(list) {
		for word := range strings.SplitSeq(strings.TrimSpace(line), "|") {
			set[word] = true
		}
	}
	return set
}

// placeholderForm matches "Type2 - Board Serial Number", "OEM Chassis ..." (Toshiba) and what is made of filling only.
var placeholderForm = regexp.MustCompile(`^(type[0-9]+ - |oem chassis |[0x.\-_* ]*$)`)

func isPlaceholder(s string) bool {
	s = strings.ToLower(s)
	return placeholders[s] || placeholderForm.MatchString(s)
}

// distinctAlnum counts the different letters and digits of s, case folded.
func distinctAlnum(s string) int {
	seen := map[rune]bool{}
	for _, r := range strings.ToLower(s) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			seen[r] = true
		}
	}
	return len(seen)
}
