package rule

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A function is called by its name. The usage is what an error shows and what the manual lists.
type function struct {
	name        string
	usage       string
	least, most int  // arguments; most 0 is any number
	each        bool // the second argument is a test of each element of the first
	typ         *typ // of the result; check may set a narrower one on the term
	check       func(c *checker, at int, t *term) *Error
	eval        func(*run, *term) value
}

var functions = byName(
	function{"any", "any(list, test)", 2, 2, true, boolType, checkTest, evalAny},
	function{"all", "all(list, test)", 2, 2, true, boolType, checkTest, evalAll},
	function{"none", "none(list, test)", 2, 2, true, boolType, checkTest, evalNone},
	function{"one", "one(list, test)", 2, 2, true, boolType, checkTest, evalOne},
	function{"count", "count(list, test)", 2, 2, true, numberType, checkTest, evalCount},
	function{"filter", "filter(list, test)", 2, 2, true, nil, checkFilter, evalFilter},
	function{"sum", "sum(list, number)", 2, 2, true, numberType, checkSum, evalSum},
	function{"len", "len(list or string)", 1, 1, false, numberType, checkLen, evalLen},
	function{"known", "known(fact)", 1, 1, false, boolType, checkKnown, evalKnown},
	function{"default", "default(x, y)", 2, 2, false, nil, checkDefault, evalDefault},
	function{"lower", "lower(string)", 1, 1, false, stringType, checkStrings, evalLower},
	function{"num", "num(string)", 1, 1, false, numberType, checkStrings, evalNum},
	function{"tag", `tag("name")`, 1, 1, false, boolType, checkTag, evalTag},
	function{"version_less", "version_less(a, b)", 2, 2, false, boolType, checkStrings, evalVersionLess},
	function{"cidr_contains", `cidr_contains("10.0.0.0/8", ip)`, 2, 2, false, boolType, checkCIDR, evalCIDR},
	function{"mac_in", `mac_in(mac, "52:54:00:12:34:56", ...)`, 2, 0, false, boolType, checkMAC, evalMAC},
)

func byName(list ...function) map[string]*function {
	named := make(map[string]*function, len(list))
	for _, fn := range list {
		named[fn.name] = &fn
	}
	return named
}

func checkTest(c *checker, at int, t *term) *Error { return c.want(at, t, t.args[1], kindBool) }

func checkFilter(c *checker, at int, t *term) *Error {
	t.typ = t.args[0].typ
	return checkTest(c, at, t)
}

func checkSum(c *checker, at int, t *term) *Error { return c.want(at, t, t.args[1], kindNumber) }

func checkLen(c *checker, at int, t *term) *Error {
	if t.args[0].typ.kind == kindString {
		return nil
	}
	return c.want(at, t, t.args[0], kindList)
}

func checkStrings(c *checker, at int, t *term) *Error { return c.wantAll(at, t, kindString) }

// checkKnown takes facts only: whether an expression is known is a riddle to its reader.
func checkKnown(c *checker, at int, t *term) *Error {
	if t.args[0].shape != fact {
		return c.fault(at, "known takes a fact; %s is none", t.args[0])
	}
	return nil
}

func evalKnown(r *run, t *term) value { return boolean(!r.value(t.args[0]).isUnknown()) }

func checkDefault(c *checker, at int, t *term) *Error {
	x, y := t.args[0], t.args[1]
	if !x.typ.fits(y.typ.kind) {
		return c.fault(at, "the default of %s is a %s, not a %s", x, x.typ.kind, y.typ.kind)
	}
	if t.typ = x.typ; x.typ.kind == kindAny {
		t.typ = y.typ
	}
	return nil
}

func evalDefault(r *run, t *term) value {
	if v := r.value(t.args[0]); !v.isUnknown() {
		return v
	}
	return r.value(t.args[1])
}

func evalLower(r *run, t *term) value {
	v := r.want(t.args[0], kindString)
	if v.isUnknown() || !r.charge(len(v.s)/16) {
		return v
	}
	return text(strings.ToLower(v.s))
}

// evalNum reads decimal integers and fractions: custom facts are strings.
func evalNum(r *run, t *term) value {
	v := r.want(t.args[0], kindString)
	if v.isUnknown() {
		return v
	}
	if i, err := strconv.ParseInt(v.s, 10, 64); err == nil {
		return integer(i)
	}
	f, err := strconv.ParseFloat(v.s, 64)
	if err != nil || strings.ContainsAny(v.s, "xXpPnN_") {
		return unknown(fmt.Sprintf("%s is not a number: %s", r.name(t.args[0]), v))
	}
	return number(f, r.name(t.args[0]))
}

func evalVersionLess(r *run, t *term) value { return r.strings(t, versionLess) }

// versionLess compares runs of digits as numbers and all else byte by byte, so that 2.9 comes before 2.10 and a date
// before a later one. A version comes before itself with more behind it.
func versionLess(a, b string) bool {
	for a != "" && b != "" {
		x, y := leadingPart(a), leadingPart(b)
		a, b = a[len(x):], b[len(y):]
		if order := comparePart(x, y); order != 0 {
			return order < 0
		}
	}
	return a == "" && b != ""
}

// leadingPart is the digits that s begins with, else its first character.
func leadingPart(s string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 {
		_, n = utf8.DecodeRuneInString(s)
	}
	return s[:n]
}

func comparePart(x, y string) int {
	if isDigit(x) && isDigit(y) {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
	}
	return strings.Compare(x, y)
}

func isDigit(s string) bool { return s[0] >= '0' && s[0] <= '9' }

// checkTag takes a name in quotes, so that the tags that a rule refers to are known before any node is seen.
func checkTag(c *checker, at int, t *term) *Error {
	name := t.args[0]
	if !name.folded || name.konst.kind != kindString {
		return c.fault(at, "tag takes the name of a tag in quotes")
	}
	if c.tags[name.konst.s] == "" {
		place := c.fault(at, "")
		c.tags[name.konst.s] = fmt.Sprintf("line %d, column %d", place.Line, place.Column)
	}
	t.live = true
	return nil
}

// evalTag takes what another tag says of the node, and the cause along when that is undecided.
func evalTag(r *run, t *term) value {
	name := t.args[0].konst.s
	var result Result
	ok := false
	if r.env.Tag != nil {
		result, ok = r.env.Tag(name)
	}
	switch {
	case !ok:
		return unknown(fmt.Sprintf("there is no tag %q", name))
	case result.Verdict == Undecided:
		return unknown(fmt.Sprintf("tag %s: %s", name, result.Cause))
	}
	return boolean(result.Verdict == Yes)
}

func checkCIDR(c *checker, at int, t *term) *Error {
	net := t.args[0]
	if !net.folded || net.konst.kind != kindString {
		return c.fault(at, "cidr_contains takes a network in quotes first: %s", t.fn.usage)
	}
	if _, err := netip.ParsePrefix(net.konst.s); err != nil {
		return c.fault(at, "%s is not a network such as \"10.0.0.0/8\"", net)
	}
	return c.want(at, t, t.args[1], kindString)
}

// evalCIDR takes an address, or an address with its prefix length as facts have it.
func evalCIDR(r *run, t *term) value {
	v := r.want(t.args[1], kindString)
	if v.isUnknown() {
		return v
	}
	host, _, _ := strings.Cut(v.s, "/")
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return unknown(fmt.Sprintf("%s is not an address: %s", r.name(t.args[1]), v))
	}
	net, err := netip.ParsePrefix(t.args[0].konst.s)
	return boolean(err == nil && net.Contains(ip.Unmap()))
}

func checkMAC(c *checker, at int, t *term) *Error {
	for _, arg := range t.args[1:] {
		if !arg.folded || arg.konst.kind != kindString || len(canonicalMAC(arg.konst.s)) != 12 && len(canonicalMAC(arg.konst.s)) != 6 {
			return c.fault(at, "%s is not a MAC such as \"52:54:00:12:34:56\" nor a maker's part of one such as \"52:54:00\"", arg)
		}
	}
	return c.want(at, t, t.args[0], kindString)
}

// evalMAC compares without regard to case and separators.
func evalMAC(r *run, t *term) value {
	v := r.want(t.args[0], kindString)
	if v.isUnknown() {
		return v
	}
	mac := canonicalMAC(v.s)
	if len(mac) != 12 {
		return unknown(fmt.Sprintf("%s is not a MAC: %s", r.name(t.args[0]), v))
	}
	for _, arg := range t.args[1:] {
		if strings.HasPrefix(mac, canonicalMAC(arg.konst.s)) {
			return boolean(true)
		}
	}
	return boolean(false)
}

// canonicalMAC keeps the hexadecimal digits of at most 6 octets; "" when s holds anything but them and separators.
func canonicalMAC(s string) string {
	const longest = len("52:54:00:12:34:56")
	if len(s) > longest {
		return ""
	}
	digits := make([]byte, 0, longest)
	for _, c := range []byte(strings.ToLower(s)) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
			digits = append(digits, c)
		case c != ':' && c != '-' && c != '.':
			return ""
		}
	}
	return string(digits)
}
