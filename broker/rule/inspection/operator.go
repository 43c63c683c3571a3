package inspection

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"muster/broker/rule"
)

// A matcher is a pattern with its price.
type matcher struct {
	pattern *regexp.Regexp
	weight  int
}

// match searches the text of a value.
func (m *matcher) match(r *run, path string, v any) (bool, *Error) {
	s, ok := text(v)
	if !ok {
		return false, &Error{Code: RuleFailed, Path: path, Msg: fmt.Sprintf(errObject, "this")}
	}
	if err := r.charge(path, 1+len(s)*m.weight/16); err != nil {
		return false, err
	}
	return m.pattern.MatchString(s), nil
}

// pattern checks a regular expression of Python. full is for matches, which appends $ to a pattern without one: of a|b
// only b is held to the end.
func (c *checker) pattern(path string, raw any, full bool) *matcher {
	src, ok := raw.(string)
	switch {
	case !ok:
		c.fault(BadRegex, path, "a pattern is a string, not %s", typeName(native(raw)))
		return nil
	case src == "" && full:
		c.fault(BadRegex, path, "an empty pattern fails on every node; write is-empty, or .*")
		return nil
	}
	read, err := readPattern(src)
	if err == nil {
		_, _, err = rule.CompilePattern(inGo(src, read.lines)) // before anything stands around it: a)(b is none
	}
	if err != nil {
		c.fault(BadRegex, path, "%v", err)
		return nil
	}
	if full {
		if !strings.HasSuffix(src, "$") {
			src += "$"
			if read.branches {
				c.warn(path, "matches holds only the last alternative of %s to the end of the text; write (?:a|b)", quote(src))
			}
		}
		src = `\A(?:` + src + ")"
	}
	m := &matcher{}
	if m.pattern, m.weight, err = rule.CompilePattern(inGo(src, read.lines)); err != nil {
		c.fault(BadRegex, path, "%v", err)
	}
	return m
}

// network reads a network; its host bits may be set, and an address alone is one.
func (c *checker) network(path string, raw any) netip.Prefix {
	src, _ := raw.(string)
	p, err := netip.ParsePrefix(src)
	if a, alone := netip.ParseAddr(src); err != nil && alone == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		c.fault(BadNetwork, path, "%s is no network; write it as 10.0.0.0/8 or fd00::/64", show(native(raw)))
	}
	return p
}

// inNet says whether an address is in a network. One of version 6 never is in one of version 4.
func inNet(p netip.Prefix, v any) (bool, error) {
	s, ok := v.(string)
	if !ok {
		return false, fmt.Errorf("%s is no address", show(v))
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return false, fmt.Errorf("%s is no address", quote(s))
	}
	return p.Contains(a), nil
}

var errOrder = errors.New("there is no order")

// A relation is a comparison of two values; an error for what has no order.
type relation func(a, b any) (bool, error)

func ordered(holds func(order int) bool) relation {
	return func(a, b any) (bool, error) {
		order, ok := compare(a, b)
		if !ok {
			return false, fmt.Errorf("%w between %s and %s", errOrder, show(a), show(b))
		}
		return holds(order), nil
	}
}

var relations = map[string]relation{
	"eq": func(a, b any) (bool, error) { return equal(a, b), nil },
	"ne": func(a, b any) (bool, error) { return !equal(a, b), nil },
	"lt": ordered(func(order int) bool { return order < 0 }),
	"gt": ordered(func(order int) bool { return order > 0 }),
	"le": ordered(func(order int) bool { return order <= 0 }),
	"ge": ordered(func(order int) bool { return order >= 0 }),
}
