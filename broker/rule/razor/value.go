package razor

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// A value is nil, bool, string, int64, *big.Int (beyond 64 bits) or float64, which may be infinite. state may also give
// a list or an object, which equals nothing.

// literal is the value of what was decoded.
func literal(raw any) any {
	v, _ := simple(raw)
	return v
}

// simple reads a member of a JSON tree; false for a list or an object.
func simple(raw any) (any, bool) {
	switch x := raw.(type) {
	case nil, bool, string, int64, float64:
		return x, true
	case int:
		return int64(x), true
	case json.Number:
		return parseNumber(string(x)), true
	}
	return nil, false
}

// parseNumber reads a number of JSON: an integer exactly, any other as a float, which may be too large for one.
func parseNumber(s string) any {
	if strings.ContainsAny(s, ".eE") {
		return parseFloat(s)
	}
	return parseInteger(s, 10)
}

// parseInteger reads digits that were checked, with a sign before them.
func parseInteger(s string, base int) any {
	if i, err := strconv.ParseInt(s, base, 64); err == nil {
		return i
	}
	i, ok := new(big.Int).SetString(s, base)
	if !ok {
		return nil
	}
	return i
}

// parseFloat reads a number that was checked; one beyond floats is infinite.
func parseFloat(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

func typeOf(v any) types {
	switch v.(type) {
	case nil:
		return null
	case bool:
		return boolean
	case string:
		return str
	}
	return number
}

// equal converts nothing but integers and floats.
func equal(a, b any) bool {
	t := typeOf(a)
	if t != typeOf(b) {
		return false
	}
	if t != number {
		return a == b
	}
	order, ok := compare(a, b)
	return ok && order == 0
}

// compare orders two numbers exactly; false when one is no number.
func compare(a, b any) (int, bool) {
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return order(x, y), true
		}
	}
	x, y := exact(a), exact(b)
	if x == nil || y == nil {
		return 0, false
	}
	return x.Cmp(y), true
}

func order(x, y int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// exact is a number without loss; nil for what is none.
func exact(v any) *big.Float {
	switch x := v.(type) {
	case int64:
		return new(big.Float).SetInt64(x)
	case *big.Int:
		return new(big.Float).SetInt(x)
	case float64:
		if !math.IsNaN(x) {
			return big.NewFloat(x)
		}
	}
	return nil
}

// show is a value as causes and parts write it.
func show(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case string:
		return quote(x)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return clip(text(v))
}

// text is str: how a scalar reads as a string.
func text(v any) string {
	switch x := v.(type) {
	case bool:
		return strconv.FormatBool(x)
	case string:
		return x
	case int64:
		return strconv.FormatInt(x, 10)
	case *big.Int:
		return x.String()
	case float64:
		return formatFloat(x)
	}
	return ""
}

// formatFloat writes the shortest digits that read back, always with a fraction, as JRuby does: plain from 1e-4 up to
// below 1e15, else with an exponent of two digits or more.
func formatFloat(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, found := strings.Cut(s, "e")
	if !found {
		return map[string]string{"+Inf": "Infinity", "-Inf": "-Infinity"}[s]
	}
	if e, _ := strconv.Atoi(exponent); f == 0 || e >= -4 && e < 15 {
		return fraction(strconv.FormatFloat(f, 'f', -1, 64))
	}
	return fraction(mantissa) + "e" + exponent
}

func fraction(digits string) string {
	if strings.Contains(digits, ".") {
		return digits
	}
	return digits + ".0"
}

// clip bounds what errors and causes repeat: rules are long, and facts are written by machines that are not trusted.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func quote(s string) string { return strconv.Quote(clip(s)) }
