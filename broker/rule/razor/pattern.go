package razor

import (
	"strings"

	"muster/broker/rule"
)

// compile makes the pattern of a literal string. In Ruby ^ and $ stand at lines, which is Go's flag m. It is a prefix and
// not a group around the pattern, which would let a)(b pass.
func (c *checker) compile(t *term, src string, fold bool) {
	if construct, advice := foreign(src); construct != "" {
		c.fault(BadRegex, t.path, "RE2 has no %s; %s", construct, advice)
		return
	}
	prefix := "(?m)"
	if fold {
		prefix = "(?mi)"
	}
	var err error
	if t.pattern, t.weight, err = rule.CompilePattern(prefix + src); err != nil {
		c.fault(BadRegex, t.path, "%v", err)
	}
}

// A scanner reads a pattern as Ruby does, one construct after the other.
type scanner struct {
	src    string
	pos    int
	before string // what ended here: "" nothing to repeat, "atom", "repeat", or "{n}"
}

// foreign finds the first construct of Ruby's regular expressions that RE2 has not, or reads in another way, and says
// what to write instead.
func foreign(src string) (construct, advice string) {
	s := &scanner{src: src}
	for s.pos < len(s.src) && construct == "" {
		switch c := s.src[s.pos]; c {
		case '\\':
			construct, advice = s.escape(escapes)
			s.before = "atom"
		case '[':
			construct, advice = s.class()
			s.before = "atom"
		case '(':
			construct, advice = s.group()
			s.before = ""
		case '*', '+', '?', '{':
			construct, advice = s.repeat(c)
		default:
			s.pos++
			s.before = "atom"
			if c == '|' {
				s.before = ""
			}
		}
	}
	return construct, advice
}

const rewrite = "rewrite it, or use several like under and, or, not"

// escapes that RE2 has not, by the letter behind the backslash, with what to write.
var escapes = map[byte][2]string{
	'k': {`\k (a back-reference)`, rewrite},
	'g': {`\g (a call of a group)`, rewrite},
	'K': {`\K`, rewrite},
	'G': {`\G`, rewrite},
	'R': {`\R`, `write (?:\r\n|[\n\v\f\r])`},
	'X': {`\X`, rewrite},
	'h': {`\h`, `write [0-9a-fA-F]`},
	'H': {`\H`, `write [^0-9a-fA-F]`},
	'Z': {`\Z`, `write \n?\z`},
	'u': {`\u`, `write \x{XXXX}`},
	'e': {`\e`, `write \x1b`},
	'c': {`\c`, `write the character as \x08`},
	'C': {`\C`, `write the character as \x08`},
	'M': {`\M`, `write the character as \x{XXXX}`},
	'Q': {`\Q as Ruby reads it (the letter Q)`, `write Q, or put a backslash before each sign`},
}

// classEscapes are those inside [ ].
var classEscapes = func() map[byte][2]string {
	all := map[byte][2]string{'b': {`[\b] (a backspace)`, `write \x08`}}
	for letter, e := range escapes {
		all[letter] = e
	}
	all['h'] = [2]string{`\h`, `write 0-9a-fA-F`}
	return all
}()

// escape reads a backslash and what belongs to it.
func (s *scanner) escape(refused map[byte][2]string) (construct, advice string) {
	if s.pos+1 >= len(s.src) {
		s.pos++
		return "", "" // the compiler says it
	}
	letter := s.src[s.pos+1]
	rest := s.src[s.pos+2:]
	s.pos += 2
	switch {
	case letter >= '1' && letter <= '9':
		return `\` + string(letter) + " (a back-reference)", rewrite
	case refused[letter][0] != "":
		return refused[letter][0], refused[letter][1]
	case letter != 'p' && letter != 'P':
		return "", ""
	case !strings.HasPrefix(rest, "{"):
		return `\` + string(letter) + " without braces as Ruby reads it (a letter)", `write \` + string(letter) + `{L}`
	}
	name, _, closed := strings.Cut(rest[1:], "}")
	if class := posixClasses[strings.ToLower(strings.TrimPrefix(name, "^"))]; class != "" && closed {
		if letter == 'P' != strings.HasPrefix(name, "^") {
			class = "^" + class
		}
		return `\` + string(letter) + "{" + name + "}", "write [[:" + class + ":]]"
	}
	if closed {
		s.pos += len(name) + 2
	}
	return "", ""
}

// posixClasses are the names of classes that Ruby takes as properties, too, and RE2 does not.
var posixClasses = func() map[string]string {
	classes := map[string]string{}
	for _, name := range strings.Fields("alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit") {
		classes[name] = name
	}
	return classes
}()

// class reads [ ... ].
func (s *scanner) class() (construct, advice string) {
	s.pos++
	if s.has("^") {
		s.pos++
	}
	for first := true; s.pos < len(s.src); first = false {
		switch {
		case s.src[s.pos] == ']' && !first:
			s.pos++
			return "", ""
		case s.has("&&"):
			return "&& in a class (an intersection)", `write the characters out, or \& twice`
		case s.has("[:") && strings.Contains(s.src[s.pos:], ":]"):
			s.pos += strings.Index(s.src[s.pos:], ":]") + 2
		case s.src[s.pos] == '[':
			return "[ in a class (a set in a set)", `write the characters in one class, or \[`
		case s.src[s.pos] == '\\':
			if construct, advice = s.escape(classEscapes); construct != "" {
				return construct, advice
			}
		default:
			s.pos++
		}
	}
	return "", "" // not closed: the compiler says it
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.src[s.pos:], prefix) }

// groups that RE2 has not, by how they begin.
var groups = [][3]string{
	{"(?<=", "(?<= (a look-behind)", rewrite},
	{"(?<!", "(?<! (a look-behind)", rewrite},
	{"(?=", "(?= (a look-ahead)", rewrite},
	{"(?!", "(?! (a look-ahead)", rewrite},
	{"(?>", "(?> (an atomic group)", "write (?:"},
	{"(?(", "(?( (a condition)", rewrite},
	{"(?~", "(?~ (an absence)", rewrite},
	{"(?'", "(?' (a name)", "write (?<n>..)"},
	{"(?#", "(?# (a comment)", "leave it out"},
}

// group reads what opens one.
func (s *scanner) group() (construct, advice string) {
	for _, g := range groups {
		if s.has(g[0]) {
			return g[1], g[2]
		}
	}
	if !s.has("(?") {
		s.pos++
		return "", ""
	}
	start := s.pos
	s.pos += len("(?")
	flags := s.src[s.pos:]
	flags = flags[:len(flags)-len(strings.TrimLeft(flags, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"))]
	s.pos += len(flags)
	return flagGroup(flags, s.has(")") && start > 0)
}

// flagGroup judges the flags of (?flags) or (?flags:..); bare says that it stands alone, and not at the very start.
func flagGroup(flags string, bare bool) (construct, advice string) {
	named := strings.HasPrefix(flags, "P")
	switch {
	case named:
		return "", ""
	case strings.Contains(flags, "m"):
		return "(?m as Ruby reads it (. takes a newline)", "write (?s; ^ and $ stand at lines anyway"
	case strings.ContainsAny(flags, "x"):
		return "(?x", "write the pattern without blanks and comments"
	case strings.ContainsAny(flags, "adu"):
		return "(?" + flags[strings.IndexAny(flags, "adu"):][:1], `write [[:alpha:]] for ASCII, \p{L} for Unicode`
	case bare:
		return "(?" + flags + ") as Ruby reads it (for the rest of its group, alternatives included)", "write (?" + flags + ":..), or put it first"
	}
	return "", ""
}

// repeat reads a quantifier.
func (s *scanner) repeat(c byte) (construct, advice string) {
	text := string(c)
	if c == '{' {
		text = s.count()
		switch {
		case strings.HasPrefix(text, "{,"):
			return text + " as Ruby reads it (zero to n)", "write {0" + text[1:]
		case text == "{":
			s.pos++
			s.before = "atom" // literal in both
			return "", ""
		}
	}
	s.pos += len(text)
	before := s.before
	s.before = "repeat"
	if c == '{' && !strings.Contains(text, ",") {
		s.before = "{n}"
	}
	switch {
	case before != "repeat" && before != "{n}":
		return "", ""
	case text == "?" && before == "{n}":
		return "{n}? as Ruby reads it (n times or not at all)", "write (?:a{n})?"
	case text == "?":
		s.before = "lazy"
		return "", ""
	case text == "+" && before == "repeat":
		return "a possessive quantifier such as *+", "leave the + out, or put a group around the inner repeat"
	}
	return "a repeat of a repeat, " + text, "put a group around the inner repeat"
}

// count is {n}, {n,}, {n,m} or {,m} at the place; "{" when it is none of them.
func (s *scanner) count() string {
	text, _, closed := strings.Cut(s.src[s.pos+1:], "}")
	low, high, _ := strings.Cut(text, ",")
	if !closed || strings.Trim(low+high, "0123456789") != "" || low+high == "" {
		return "{"
	}
	return "{" + text + "}"
}
