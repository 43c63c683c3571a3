package inspection

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A value is what Python has for JSON: nil, bool, int64, float64, string, []any or map[string]any. Integers beyond 64
// bits are refused in rules and do not occur in facts.

// native reads a member of a JSON tree; numbers become int64 or float64.
func native(raw any) any {
	switch x := raw.(type) {
	case int:
		return int64(x)
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i
		}
		f, _ := x.Float64()
		return f
	}
	return raw
}

// integer is int() of a value, as Python has it.
func integer(v any) (int64, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int64:
		return x, true
	case float64:
		return int64(x), math.Abs(x) < 1<<63
	case string:
		return parseInteger(x)
	}
	return 0, false
}

var integerText = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)

func parseInteger(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if !integerText.MatchString(s) {
		return 0, false
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 64)
	return i, err == nil
}

// float is float() of a value, as Python has it, but for underscores between digits.
func float(v any) (float64, bool) {
	switch x := v.(type) {
	case float64:
		return x, true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		return f, !strings.ContainsAny(x, "xXpP_") && (err == nil || math.IsInf(f, 0))
	}
	i, ok := integer(v)
	return float64(i), ok
}

// equal is == of Python: true is 1, and 1 is 1.0.
func equal(a, b any) bool {
	a, b = native(a), native(b)
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k, v := range x {
			if other, ok := y[k]; !ok || !equal(v, other) {
				return false
			}
		}
		return true
	case nil:
		return b == nil
	}
	order, ok := compare(a, b)
	return ok && order == 0
}

// compare orders two strings, or two numbers exactly; false for what has no order in Python.
func compare(a, b any) (order int, ok bool) {
	if x, ok := a.(string); ok {
		y, ok := b.(string)
		return cmp.Compare(x, y), ok
	}
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y), true
		}
	}
	x, y := exact(a), exact(b)
	if x == nil || y == nil {
		return 0, false
	}
	return x.Cmp(y), true
}

// exact is a number without loss; nil for what is none, which NaN is.
func exact(v any) *big.Float {
	switch x := v.(type) {
	case bool, int64:
		i, _ := integer(x)
		return new(big.Float).SetInt64(i)
	case float64:
		if !math.IsNaN(x) {
			return big.NewFloat(x)
		}
	}
	return nil
}

// typeName is what errors call a value.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// text is str() of a value, as Python has it; false for an object, whose members have an order there and none here.
func text(v any) (string, bool) {
	switch x := native(v).(type) {
	case nil:
		return "None", true
	case bool:
		return map[bool]string{true: "True", false: "False"}[x], true
	case int64:
		return strconv.FormatInt(x, 10), true
	case float64:
		return formatFloat(x), true
	case string:
		return x, true
	case []any:
		return listText(x)
	}
	return "", false
}

func listText(list []any) (string, bool) {
	parts := make([]string, len(list))
	for i, v := range list {
		s, ok := text(v)
		if !ok {
			return "", false
		}
		if _, ok := v.(string); ok {
			s = quoted(s)
		}
		parts[i] = s
	}
	return "[" + strings.Join(parts, ", ") + "]", true
}

// quoted is repr() of a string: single quotes, unless only the other kind needs no backslash.
func quoted(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\\' || string(c) == quote:
			b.WriteString(`\` + string(c))
		case unicode.IsPrint(c):
			b.WriteRune(c)
		case strings.ContainsRune("\n\r\t", c):
			b.WriteString(strings.Trim(strconv.QuoteRune(c), "'"))
		case c < 0x100:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	return quote + b.String() + quote
}

// formatFloat writes the shortest digits that read back: plain from 1e-4 up to below 1e16, with a fraction always, else
// with an exponent of two digits or more.
func formatFloat(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, found := strings.Cut(s, "e")
	if !found {
		return map[string]string{"+Inf": "inf", "-Inf": "-inf", "NaN": "nan"}[s]
	}
	if e, _ := strconv.Atoi(exponent); f != 0 && (e < -4 || e >= 16) {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// isEmpty is what is-empty calls so: false and 0 are not.
func isEmpty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

// encode writes a value as JSON. What was decoded can be encoded.
func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "?"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// show is a value as causes and explanations write it.
func show(v any) string {
	switch v.(type) {
	case map[string]any:
		return "an object"
	case float64:
		s, _ := text(v)
		return s
	}
	return clip(encode(v))
}

// clip bounds what errors and causes repeat: rules are long, and facts are written by machines that are not trusted.
func clip(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func quote(s string) string { return strconv.Quote(clip(s)) }
