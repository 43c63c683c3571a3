package inspection

import (
	"fmt"
	"strings"
)

// pyEscapes are the letters that may stand behind a backslash in Python's patterns and can be said in RE2; in a class
// there is no way to say all but some.
const (
	pyEscapes      = "AbBdDsSwWZafnrtvx"
	pyClassEscapes = "dDswafnrtvx"
)

const rewrite = "rewrite it, or use several conditions, with invert or ! where that is needed"

// pyGroups are the ways to open a group that RE2 has not, or Python has not.
var pyGroups = []struct{ begins, says string }{
	{"(?P=", "(?P= (a back-reference); " + rewrite},
	{"(?P<", ""},
	{"(?P", "(?P; " + rewrite},
	{"(?<=", "(?<= (a look-behind); " + rewrite},
	{"(?<!", "(?<! (a look-behind); " + rewrite},
	{"(?<", "(?< as Python has it; write (?P<name>..)"},
	{"(?=", "(?= (a look-ahead); " + rewrite},
	{"(?!", "(?! (a look-ahead); " + rewrite},
	{"(?>", "(?> (an atomic group); write (?:"},
	{"(?(", "(?( (a condition); " + rewrite},
	{"(?#", "(?# (a comment); leave it out"},
}

// A scanner reads a pattern as Python does, one construct after the other.
type scanner struct {
	src      string
	pos      int
	depth    int
	branches bool // there are some outside of any group
	lines    bool // the flag m, by which ^ and $ stand at lines, is named
}

// readPattern finds the first construct of Python's patterns that RE2 has not or reads in another way, or the reverse,
// and says what to write.
func readPattern(src string) (*scanner, error) {
	s := &scanner{src: src}
	for s.pos < len(s.src) {
		if says := s.construct(); says != "" {
			return nil, fmt.Errorf("RE2 has no %s", says)
		}
	}
	return s, nil
}

func (s *scanner) construct() (says string) {
	switch s.src[s.pos] {
	case '\\':
		return s.escape(pyEscapes)
	case '[':
		return s.class()
	case '(':
		s.depth++
		return s.group()
	case ')':
		s.depth--
	case '|':
		s.branches = s.branches || s.depth == 0
	case '{':
		if count, _, closed := strings.Cut(s.src[s.pos+1:], "}"); closed && strings.HasPrefix(count, ",") && strings.Trim(count[1:], "0123456789") == "" {
			return "{" + count + "} as Python reads it (zero to n); write {0" + count + "}"
		}
	}
	s.pos++
	return ""
}

// escape reads a backslash and what belongs to it. A letter that means nothing is an error in Python; signs are
// themselves in both.
func (s *scanner) escape(letters string) (says string) {
	if s.pos+1 == len(s.src) {
		s.pos++
		return "" // the compiler says it
	}
	letter := s.src[s.pos+1]
	s.pos += 2
	word := `\` + string(letter)
	switch {
	case letter >= '0' && letter <= '9':
		return word + " (a back-reference, or octal); " + rewrite
	case letter >= 0x80:
		return `\ before a letter that is not ASCII; leave the backslash out`
	case letter == 'x' && strings.HasPrefix(s.src[s.pos:], "{"):
		return `\x{ as Python has it; write \xhh, or the character`
	case isLetter(letter) && !strings.ContainsRune(letters, rune(letter)):
		return word + " as Python has it here, or Python has it not; write the character, or a class such as [0-9a-f]"
	}
	return ""
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// class reads [ ... ].
func (s *scanner) class() (says string) {
	s.pos++
	if s.has("^") {
		s.pos++
	}
	for first := true; s.pos < len(s.src); first = false {
		switch {
		case s.src[s.pos] == ']' && !first:
			s.pos++
			return ""
		case s.has("[:"):
			return `[: in a class as Python reads it (two characters); write \[:, or the characters of the class`
		case s.src[s.pos] == '\\':
			if says := s.escape(pyClassEscapes); says != "" {
				return says
			}
		default:
			s.pos++
		}
	}
	return "" // not closed: the compiler says it
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.src[s.pos:], prefix) }

// group reads what opens one.
func (s *scanner) group() (says string) {
	start := s.pos
	s.pos++
	if !strings.HasPrefix(s.src[start:], "(?") {
		return ""
	}
	for _, g := range pyGroups {
		if strings.HasPrefix(s.src[start:], g.begins) {
			return g.says
		}
	}
	s.pos++
	flags := s.src[s.pos:]
	flags = flags[:len(flags)-len(strings.TrimLeft(flags, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"))]
	s.pos += len(flags)
	s.lines = s.lines || strings.Contains(flags, "m")
	switch {
	case strings.Trim(flags, "ims-") != "":
		return "(?" + flags + " as Python has it; there are the flags i, m and s"
	case s.has(")") && start > 0:
		return "(?" + flags + ") but at the start of a pattern; write (?" + flags + ":..)"
	}
	return ""
}

// unicodeClasses are Python's classes of characters, alone and inside [ ]; RE2's own know ASCII only.
var unicodeClasses = map[byte][2]string{
	'd': {`\p{Nd}`, `\p{Nd}`},
	'D': {`\P{Nd}`, `\P{Nd}`},
	'w': {`[_\p{L}\p{N}]`, `_\p{L}\p{N}`},
	'W': {`[^_\p{L}\p{N}]`, ""},
	's': {`[\s\v\x1c-\x1f\x85\p{Z}]`, `\s\v\x1c-\x1f\x85\p{Z}`},
	'S': {`[^\s\v\x1c-\x1f\x85\p{Z}]`, ""},
}

// inGo is a pattern that was read, for RE2: classes are those of Unicode, \Z is \z, and where lines are not asked for, $
// stands before a newline at the end of the text, too.
func inGo(src string, lines bool) string {
	var b strings.Builder
	inClass := 0 // where its first member stands; 0 outside
	for i := 0; i < len(src); i++ {
		word := src[i : i+1]
		switch c := src[i]; {
		case c == '\\' && i+1 < len(src):
			i++
			word = escapeInGo(src[i], inClass > 0)
		case inClass > 0 && c == ']' && i > inClass:
			inClass = 0
		case inClass > 0:
		case c == '[':
			inClass = i + 1
			if strings.HasPrefix(src[i+1:], "^") {
				inClass = i + 2
			}
		case c == '$' && !lines:
			word = `(?:\n?\z)`
		}
		b.WriteString(word)
	}
	return b.String()
}

func escapeInGo(letter byte, inClass bool) string {
	class, ok := unicodeClasses[letter]
	switch {
	case ok && inClass:
		return class[1]
	case ok:
		return class[0]
	case letter == 'Z':
		return `\z`
	}
	return `\` + string(rune(letter))
}
