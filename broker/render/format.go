package render

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"muster/boot/kargs"
)

// A format is how a kind of file takes a value.
type format struct {
	quotes template.FuncMap // the functions that a value may end in
	// open tells in which quote, comment or the like a text ends that began outside of any, or "": no value may stand
	// there, nor a condition.
	open func(text string) string
	// at says whether a value that ends in the function may stand behind this beginning of its line; if nil, everywhere.
	at func(function, line string) bool
}

// formats is the table; a new format is one row.
var formats = map[string]format{
	"sh":      {quotes: template.FuncMap{"sh": shellWord}, open: openShell},
	"ks":      {quotes: template.FuncMap{"ks": oneLine(shellWord), "sh": oneLine(shellWord), "word": plainWord}, open: openShell},
	"preseed": {quotes: template.FuncMap{"preseed": preseedValue, "sh": oneLine(shellWord)}, open: openShell, at: atDebconf},
	"yaml":    {quotes: template.FuncMap{"yaml": jsonText}, at: atYAML},
	"json":    {quotes: template.FuncMap{"json": jsonText}, open: openJSON},
	"xml":     {quotes: template.FuncMap{"xml": xmlText}, open: openXML},
	"ps":      {quotes: template.FuncMap{"ps": powerShell}, open: openPowerShell},
	"cmd":     {quotes: template.FuncMap{"word": plainWord}},
	"arg":     {quotes: template.FuncMap{"arg": kernelArg}},
	"text":    {quotes: template.FuncMap{"line": plainLine, "word": plainWord}},
}

// Formats names all formats, sorted.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

// extensions are the formats of file names that say what they hold.
var extensions = map[string]string{".sh": "sh", ".ks": "ks", ".preseed": "preseed", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".ign": "json",
	".xml": "xml", ".ps1": "ps", ".cmd": "cmd", ".bat": "cmd", ".service": "text", ".conf": "text", ".cfg": "text", ".pem": "text"}

// FormatOf tells the format by a file's name, "text" for any other.
func FormatOf(name string) string {
	if f, ok := extensions[path.Ext(name)]; ok {
		return f
	}
	return "text"
}

// functions are those of all formats; what text/template has beyond builtins could burn time or memory, or print
// without quoting.
var (
	functions = template.FuncMap{"json": jsonText, "join": join, "append": appendTo, "base64": base64Text, "has": has, "fail": fail,
		"address": address, "netmask": netmask}
	builtins = []string{"and", "or", "not", "eq", "ne", "len", "index"}
)

// text is a value as people write it: numbers without an exponent, and nothing for what is not there.
func text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []any, []string:
		return jsonText(v)
	}
	return fmt.Sprint(v), nil
}

// quoted is a quoting function for text that is fit to be quoted: valid UTF-8 without the zero byte.
func quoted(v any, quote func(string) (string, error)) (string, error) {
	s, err := text(v)
	switch {
	case err != nil:
		return "", err
	case strings.ContainsRune(s, 0):
		return "", errors.New("a value holds a zero byte, which no text can")
	case !utf8.ValidString(s):
		return "", errors.New("a value is not UTF-8")
	}
	return quote(s)
}

// shellWord quotes for POSIX sh (2.2.2): between single quotes nothing has a meaning but the single quote.
func shellWord(v any) (string, error) {
	return quoted(v, func(s string) (string, error) { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil })
}

// oneLine refuses what would go on to another line: one that is %end ends a section of a kickstart file, and a debconf
// line is over.
func oneLine(quote func(any) (string, error)) func(any) (string, error) {
	return func(v any) (string, error) {
		s, err := quote(v)
		if err == nil && strings.ContainsFunc(s, breaks) {
			err = fmt.Errorf("value %.40q has more than one line", s)
		}
		return s, err
	}
}

// breaks says of control characters and of all that some reader takes for the end of a line.
func breaks(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

// preseedValue is the rest of a line of debconf-set-selections(1): blanks around it are lost, a backslash at its end
// takes in the next line.
func preseedValue(v any) (string, error) {
	return quoted(v, func(s string) (string, error) {
		switch {
		case strings.ContainsFunc(s, breaks):
			return "", fmt.Errorf("value %.40q has more than one line", s)
		case strings.TrimSpace(s) != s, strings.HasSuffix(s, `\`):
			return "", fmt.Errorf("value %.40q: debconf drops blanks around it and a backslash at its end", s)
		}
		return s, nil
	})
}

// jsonText is JSON (RFC 8259), which is YAML 1.2 as well. What YAML 1.1 would not print is escaped: some readers end a
// line there.
func jsonText(v any) (string, error) {
	switch s := v.(type) {
	case nil:
		v = ""
	case string:
		if _, err := quoted(s, func(s string) (string, error) { return s, nil }); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, r := range string(b) {
		if r > 0x7e && (!unicode.IsPrint(r) || r == '\ufeff') {
			if r > 0xffff {
				return "", fmt.Errorf("value %.40q holds the character %U, which YAML does not print", b, r)
			}
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String(), nil
}

// xmlText is character data and the value of an attribute (XML 1.0, 2.4). Characters that XML has not are refused.
func xmlText(v any) (string, error) {
	return quoted(v, func(s string) (string, error) {
		for _, r := range s {
			if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				return "", fmt.Errorf("value %.40q holds the character %U, which XML has not", s, r)
			}
		}
		var out strings.Builder
		err := xml.EscapeText(&out, []byte(s))
		return out.String(), err
	})
}

// powerShell quotes by single quotes, of which PowerShell knows five.
func powerShell(v any) (string, error) {
	return quoted(v, func(s string) (string, error) {
		return "'" + regexp.MustCompile("['\u2018-\u201b]").ReplaceAllString(s, "$0$0") + "'", nil
	})
}

// kernelArg is a value on a kernel's command line that travels through boot loaders.
func kernelArg(v any) (string, error) {
	return quoted(v, func(s string) (string, error) { return s, kargs.CheckValue(s) })
}

var wordForm = regexp.MustCompile(`^[A-Za-z0-9._:/@+,=~\[\]-]*$`)

func plainWord(v any) (string, error) {
	return quoted(v, func(s string) (string, error) {
		if !wordForm.MatchString(s) {
			return "", fmt.Errorf("value %.40q: want letters, digits and ._:/@+,=~[]- here", s)
		}
		return s, nil
	})
}

func plainLine(v any) (string, error) {
	return quoted(v, func(s string) (string, error) {
		if strings.ContainsFunc(s, breaks) {
			return "", fmt.Errorf("value %.40q has more than one line", s)
		}
		return s, nil
	})
}

// join puts a separator between the members of a list.
func join(list any, separator string) (string, error) {
	switch list := list.(type) {
	case nil:
		return "", nil
	case []string:
		return strings.Join(list, separator), nil
	case []any:
		words := make([]string, len(list))
		for i, v := range list {
			var err error
			if words[i], err = text(v); err != nil {
				return "", err
			}
		}
		return strings.Join(words, separator), nil
	}
	return "", fmt.Errorf("join of %T: want a list", list)
}

// appendTo gives a list with more members.
func appendTo(list any, more ...string) ([]any, error) {
	var all []any
	switch list := list.(type) {
	case nil:
	case []string:
		for _, s := range list {
			all = append(all, s)
		}
	case []any:
		all = slices.Clone(list)
	default:
		return nil, fmt.Errorf("append to %T: want a list", list)
	}
	for _, s := range more {
		all = append(all, s)
	}
	return all, nil
}

// address is that of an address with its prefix length, as in 192.0.2.20/24.
func address(v any) (string, error) {
	p, err := prefix(v)
	return p.Addr().String(), err
}

// netmask is that of an IPv4 address with its prefix length, as in 255.255.255.0.
func netmask(v any) (string, error) {
	p, err := prefix(v)
	if err != nil || !p.Addr().Is4() {
		return "", fmt.Errorf("value %.40q: want an IPv4 address with its prefix length, as in 192.0.2.20/24", v)
	}
	return net.IP(net.CIDRMask(p.Bits(), 32)).String(), nil
}

func prefix(v any) (netip.Prefix, error) {
	s, err := text(v)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("value %.40q: want an address with its prefix length, as in 192.0.2.20/24", s)
	}
	return p, nil
}

func base64Text(v any) (string, error) {
	s, err := text(v)
	return base64.StdEncoding.EncodeToString([]byte(s)), err
}

// has says whether a list has a member.
func has(list any, member string) (bool, error) {
	switch list := list.(type) {
	case nil:
		return false, nil
	case []string:
		return slices.Contains(list, member), nil
	case []any:
		return slices.Contains(list, any(member)), nil
	}
	return false, fmt.Errorf("has of %T: want a list", list)
}

// A Refusal is what a template says of values that it is not rendered with, by the function fail.
type Refusal string

func (r Refusal) Error() string { return string(r) }

func fail(why string) (string, error) { return "", Refusal(why) }
