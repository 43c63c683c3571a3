package render

import (
	"regexp"
	"strings"
)

// openShell follows the quotes of a POSIX shell (2.2), whose words kickstart has as well. A comment may not run into a
// value, nor a here-document, in which no quotes hold.
func openShell(s string) string {
	s, in := dropHereDocuments(s)
	if in != "" {
		return in
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '#' && (i == 0 || strings.ContainsRune(" \t\n;", rune(s[i-1]))):
			end := strings.IndexByte(s[i:], '\n')
			if end < 0 {
				return "a comment"
			}
			i += end
		case c == '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "a ' quote"
			}
			i += 1 + end
		case c == '"':
			end := endOfString(s[i+1:], '\\')
			if end < 0 {
				return `a " quote`
			}
			i += 1 + end
		}
	}
	return ""
}

// dropHereDocuments leaves out those that end in the text.
func dropHereDocuments(s string) (rest, open string) {
	for {
		m := hereDocument.FindStringSubmatchIndex(s)
		if m == nil {
			return s, ""
		}
		end := regexp.MustCompile(`(?m)^\t*` + regexp.QuoteMeta(s[m[2]:m[3]]) + `$`).FindStringIndex(s[m[1]:])
		if end == nil {
			return s, "a here-document"
		}
		s = s[:m[0]] + s[m[1]+end[1]:]
	}
}

var hereDocument = regexp.MustCompile(`<<-?\s*['"\\]?([A-Za-z_]+)['"]?`)

// endOfString finds the double quote that ends a string, past those behind an escape.
func endOfString(s string, escape byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case escape:
			i++
		case '"':
			return i
		}
	}
	return -1
}

// openPowerShell follows PowerShell's quotes; its escape is the backquote.
func openPowerShell(s string) string {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '`':
			i++
		case '#':
			end := strings.IndexByte(s[i:], '\n')
			if end < 0 {
				return "a comment"
			}
			i += end
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "a ' quote"
			}
			i += 1 + end
		case '"':
			end := endOfString(s[i+1:], '`')
			if end < 0 {
				return `a " quote`
			}
			i += 1 + end
		}
	}
	return ""
}

// openJSON follows strings (RFC 8259, 7).
func openJSON(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		end := endOfString(s[i+1:], '\\')
		if end < 0 {
			return `a " quote`
		}
		i += 1 + end
	}
	return ""
}

// openXML knows where character references are not read (XML 1.0, 2.5 to 2.8), and names of elements. An attribute's
// quotes may stand around a value: both are escaped in it.
func openXML(s string) string {
	for _, m := range [][2]string{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}, {"<!DOCTYPE", ">"}} {
		if at := strings.LastIndex(s, m[0]); at >= 0 && !strings.Contains(s[at:], m[1]) {
			return m[0]
		}
	}
	if at := strings.LastIndexByte(s, '<'); at >= 0 && !strings.ContainsAny(s[at:], ">\"'") {
		return "a tag"
	}
	return ""
}

// atDebconf lets a value of preseed be all that a question is given, and none of what is run.
func atDebconf(function, line string) bool {
	if function != "preseed" {
		return true
	}
	m := debconfLine.FindStringSubmatch(line)
	return m != nil && !strings.HasSuffix(m[1], "_command")
}

var debconfLine = regexp.MustCompile(`^[a-z0-9-]+ (\S+) (?:string|password|select|multiselect|boolean) $`)

// atYAML lets a value be a whole scalar: what else stands on its line is its key, or the mark of a list. In the lines
// of a block scalar nothing would quote it.
func atYAML(_, line string) bool { return yamlLine.MatchString(line) }

var yamlLine = regexp.MustCompile(`^ *(?:- +)*(?:- +|[A-Za-z0-9_./-]+: +)$`)
