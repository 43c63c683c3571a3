// Package noderange is the language of NODE arguments: which nodes an operator means by r12n[01-36],-r12n07. It is a
// leaf, so that the broker, which knows the nodes, is the one place where a range is read, and every command and every
// caller of the API means the same by it. The forms are xCAT's, as far as they can be told from hostnames with dashes.
//
// A range is a list of terms by comma. Blanks around a term do not matter.
//
//	r12n07                   a node by id, hostname (whole, or up to its first dot) or MAC
//	r12n[01-36]              thirty-six of them; zeros in front are kept
//	r[01-04]n[1-8,12]        every combination; a bracket holds numbers and ranges of numbers
//	/r12n.*/                 those with a name that the regular expression (RE2) matches, all of it
//	@gpu                     those that carry the tag
//	r12n[01-36]@gpu@nvme     those of the term that carry all the tags
//	-r12n07, -@prod, -/r1.*/ not these, wherever in the range it stands: an exclusion always wins
//	all                      every node; nothing else means that
//
// A name that no node has is an error that says so, in an exclusion too: who spares a node and misspells it would lose
// it. So is a tag that does not exist, an expression that matches nothing, and a term that comes to nothing. Where a tag is undecided on a node, @tag does not take the node and -@tag does
// spare it, and the selection tells which nodes these are.
package noderange

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Limits of a range, so that a short text cannot ask for much.
const (
	MaxBytes = 8 << 10
	MaxNames = 10_000 // that all brackets together make
	maxTerms = 1000
	maxRegex = 256
)

// A Range is a parsed range.
type Range struct {
	terms []term
}

type term struct {
	text    string // as written, without the dash
	exclude bool
	all     bool
	names   []string       // if not nil, these
	match   *regexp.Regexp // if not nil, names that it matches
	tags    []string       // carried, all of them
}

// An Error says what of a range cannot be read, and where.
type Error struct {
	Offset int
	Msg    string
}

func (e *Error) Error() string { return fmt.Sprintf("node range, offset %d: %s", e.Offset, e.Msg) }

// Parse reads a range.
func Parse(s string) (*Range, error) {
	if len(s) > MaxBytes {
		return nil, &Error{0, fmt.Sprintf("%d bytes; at most %d are read", len(s), MaxBytes)}
	}
	p := &parser{s: s, room: MaxNames}
	r := &Range{}
	for {
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		r.terms = append(r.terms, t)
		switch {
		case p.at == len(p.s) && r.onlyExcludes():
			return nil, &Error{0, "only exclusions: say what they are taken from, such as all," + s}
		case p.at == len(p.s):
			return r, nil
		case p.s[p.at] != ',':
			return nil, p.fault("%q is not expected here: terms are separated by commas", p.s[p.at])
		case len(r.terms) == maxTerms:
			return nil, p.fault("more than %d terms", maxTerms)
		}
		p.at++
	}
}

func (r *Range) onlyExcludes() bool {
	for _, t := range r.terms {
		if !t.exclude {
			return false
		}
	}
	return true
}

// Name is the name when the range is nothing but one.
func (r *Range) Name() (string, bool) {
	if len(r.terms) != 1 || len(r.terms[0].names) != 1 || len(r.terms[0].tags) > 0 || strings.Contains(r.terms[0].text, "[") {
		return "", false
	}
	return r.terms[0].names[0], true
}

// parser reads terms from s.
type parser struct {
	s    string
	at   int
	room int // names that brackets may still make
}

func (p *parser) fault(format string, a ...any) error { return &Error{p.at, fmt.Sprintf(format, a...)} }

func (p *parser) blanks() {
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t') {
		p.at++
	}
}

// upTo reads bytes as long as they fit.
func (p *parser) upTo(fits func(byte) bool) string {
	from := p.at
	for p.at < len(p.s) && fits(p.s[p.at]) {
		p.at++
	}
	return p.s[from:p.at]
}

func (p *parser) term() (t term, err error) {
	p.blanks()
	if p.at < len(p.s) && p.s[p.at] == '-' {
		t.exclude = true
		p.at++
	}
	from := p.at
	switch {
	case p.at == len(p.s) || p.s[p.at] == ',':
		return t, p.fault("a term is missing")
	case p.s[p.at] == '/':
		t.match, err = p.regex()
	case p.s[p.at] != '@':
		t.names, err = p.names()
	}
	if err != nil {
		return t, err
	}
	if len(t.names) == 1 && t.names[0] == "all" {
		t.all, t.names = true, nil
	}
	if t.tags, err = p.tags(); err != nil {
		return t, err
	}
	t.text = p.s[from:p.at]
	p.blanks()
	return t, nil
}

func (p *parser) tags() (tags []string, err error) {
	for p.at < len(p.s) && p.s[p.at] == '@' {
		p.at++
		tag := p.upTo(func(c byte) bool { return letterOrDigit(c) || c == '.' || c == '-' || c == '_' })
		if tag == "" {
			return nil, p.fault("the name of a tag is missing after @")
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// regex reads /.../, where \/ is a slash.
func (p *parser) regex() (*regexp.Regexp, error) {
	var expr strings.Builder
	for i := p.at + 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '\\' && i+1 < len(p.s):
			if p.s[i+1] != '/' {
				expr.WriteByte(c)
			}
			i++
			expr.WriteByte(p.s[i])
		case c != '/':
			expr.WriteByte(c)
		case expr.Len() == 0 || expr.Len() > maxRegex:
			return nil, p.fault("a regular expression of %d bytes: want 1 to %d", expr.Len(), maxRegex)
		default:
			// Grouped, because ^a|b$ would anchor only half of each.
			re, err := regexp.Compile("^(?:" + expr.String() + ")$")
			if err != nil {
				return nil, p.fault("%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			}
			p.at = i + 1
			return re, nil
		}
	}
	return nil, p.fault("the regular expression has no / at its end")
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// names reads a name with brackets and gives all that it stands for, in lower case as ids, hostnames and MACs are.
func (p *parser) names() ([]string, error) {
	names := []string{""}
	for from := p.at; p.at < len(p.s); {
		word := p.upTo(func(c byte) bool { return letterOrDigit(c) || strings.IndexByte("._:-", c) >= 0 })
		for i := range names {
			names[i] += strings.ToLower(word)
		}
		if p.at == len(p.s) || p.s[p.at] != '[' {
			if p.at == from {
				return nil, p.fault("%q is no part of a name", p.s[p.at])
			}
			break
		}
		numbers, err := p.bracket(p.room / len(names))
		if err != nil {
			return nil, err
		}
		names = combine(names, numbers)
	}
	p.room -= len(names)
	if p.room < 0 {
		return nil, p.fault("the range makes more than %d names", MaxNames)
	}
	return names, nil
}

func combine(heads, tails []string) []string {
	all := make([]string, 0, len(heads)*len(tails))
	for _, h := range heads {
		for _, t := range tails {
			all = append(all, h+t)
		}
	}
	return all
}

// bracket reads [01-36,40] into at most room numbers.
func (p *parser) bracket(room int) (numbers []string, err error) {
	for p.at++; ; p.at++ {
		first, width, err := p.number()
		if err != nil {
			return nil, err
		}
		last := first
		if p.at < len(p.s) && p.s[p.at] == '-' {
			p.at++
			var w int
			if last, w, err = p.number(); err != nil {
				return nil, err
			}
			if w < width || w > width && p.s[p.at-w] == '0' {
				return nil, p.fault("the ends of a range of numbers are written with as many digits")
			}
		}
		switch {
		case last < first:
			return nil, p.fault("%d to %d runs backwards", first, last)
		case last-first >= room-len(numbers):
			return nil, p.fault("the range makes more than %d names", MaxNames)
		}
		for n := first; n <= last; n++ {
			numbers = append(numbers, fmt.Sprintf("%0*d", width, n))
		}
		if p.at == len(p.s) || p.s[p.at] != ',' && p.s[p.at] != ']' {
			return nil, p.fault("want , or ] in a bracket")
		}
		if p.s[p.at] == ']' {
			p.at++
			return numbers, nil
		}
	}
}

// number reads digits; width is how many were written.
func (p *parser) number() (n, width int, err error) {
	digits := p.upTo(func(c byte) bool { return c >= '0' && c <= '9' })
	if len(digits) == 0 || len(digits) > 9 {
		return 0, 0, p.fault("want a number of 1 to 9 digits in a bracket")
	}
	n, err = strconv.Atoi(digits)
	return n, len(digits), err
}
