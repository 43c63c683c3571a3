package razor

import (
	"regexp"
	"strings"
)

// The forms that num reads, after Ruby: Integer for binary and octal, Float for all else. Between two digits may stand
// one underscore.
const (
	digits = `[0-9]+(?:_[0-9]+)*`
	hex    = `[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*`
)

var (
	binaryOrOctal = regexp.MustCompile(`\A(-?)(?:0[bB]([01]+)|(0[0-7]+))\n?\z`)
	decimal       = regexp.MustCompile(`\A[+-]?(?:` + digits + `)?(?:\.` + digits + `)?(?:[eE][+-]?` + digits + `)?\z`)
	hexadecimal   = regexp.MustCompile(`\A[+-]?0[xX]` + hex + `(?:\.` + hex + `)?([pP][+-]?` + digits + `)?\z`)
)

// asciiSpace is what may stand around a float.
const asciiSpace = " \t\n\v\f\r"

// toNumber is num of a string.
func toNumber(s string) (any, bool) {
	if m := binaryOrOctal.FindStringSubmatch(s); m != nil {
		if m[2] != "" {
			return parseInteger(m[1]+m[2], 2), true
		}
		return parseInteger(m[1]+m[3], 8), true
	}
	s = strings.Trim(s, asciiSpace)
	plain := strings.ReplaceAll(s, "_", "")
	if m := hexadecimal.FindStringSubmatch(s); m != nil {
		if m[1] == "" {
			plain += "p0"
		}
		return parseFloat(plain), true
	}
	if hasMantissa(s) && decimal.MatchString(s) {
		return parseFloat(plain), true
	}
	return nil, false
}

// hasMantissa says that there is a digit before any exponent.
func hasMantissa(s string) bool {
	s = strings.TrimLeft(s, "+-.")
	return s != "" && s[0] >= '0' && s[0] <= '9'
}
