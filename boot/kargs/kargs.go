// Package kargs reads and writes Linux kernel command lines as the kernel splits them (lib/cmdline.c, next_arg).
// It is a leaf so that the broker, which writes arguments, and the agent, which reads them, cannot disagree.
//
// The arguments of the discovery ramdisk:
//
//	muster.server=URL       base URL of the broker for agents, e.g. https://192.0.2.10:8443
//	muster.ca=PIN           with https: the only CA to trust, by the SHA-256 of its public key in hex (package boot/pin);
//	                        without it the ramdisk must hold /etc/muster/ca.pem
//	muster.token=TOKEN      one-time token of this boot, traded for the boot key at the first check-in
//	muster.fact.NAME=VALUE  a custom fact; NAME is [a-z][a-z0-9_]{0,62}, VALUE at most 1 KiB
//	muster.mac=MAC          the NIC that booted, put by the broker
//	muster.disk_wait=N      seconds to wait for late disks (default 15)
//	muster.lldp=N           seconds, at most 35, that the first check-in waits for the switches to speak LLDP (default 0)
//	muster.debug            more words on the console
//	muster.shell            a shell on the console
//	muster.sshd             an sshd on port 22, for the keys that muster ramdisk build --ssh-key put into the ramdisk
//	BOOTIF=01-MAC           the NIC that booted, put by the loader (PXELINUX IPAPPEND 2 form)
package kargs

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest command line that x86 and arm64 kernels take, in bytes (COMMAND_LINE_SIZE less the NUL).
const MaxLine = 2047

// An Arg is one word: KEY or KEY=VALUE.
type Arg struct {
	Key   string
	Value string
	Flag  bool // no "=" was there
}

// A Line is a command line, in order.
type Line []Arg

// Flag makes an argument without a value.
func Flag(key string) Arg { return Arg{Key: key, Flag: true} }

// Set makes KEY=VALUE.
func Set(key, value string) Arg { return Arg{Key: key, Value: value} }

// Parse splits a command line as the kernel does: words end at white space outside double quotes; one pair of quotes
// around the whole word or around the value is dropped; a single quote is an ordinary character. A NUL ends the line.
func Parse(s string) Line {
	var l Line
	s, _, _ = strings.Cut(s, "\x00")
	for {
		for s != "" && isBlank(s[0]) {
			s = s[1:]
		}
		if s == "" {
			return l
		}
		var word string
		word, s = nextWord(s)
		l = append(l, parseArg(word))
	}
}

// isBlank is the kernel's isspace (lib/ctype.c): byte 0xa0, a no-break space in Latin-1, is one as well.
func isBlank(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r' || c == 0xa0
}

// nextWord cuts the first word, quotes included.
func nextWord(s string) (word, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && isBlank(c):
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func parseArg(word string) Arg {
	whole := strings.HasPrefix(word, `"`)
	if whole {
		word = strings.TrimSuffix(word[1:], `"`)
	}
	equals := strings.IndexByte(word, '=')
	if equals == 0 { // the kernel takes one in front for a letter of the name
		equals = strings.IndexByte(word[1:], '=') + 1
	}
	if equals <= 0 {
		return Flag(word)
	}
	value := word[equals+1:]
	if strings.HasPrefix(value, `"`) {
		value = value[1:]
		if !whole {
			value = strings.TrimSuffix(value, `"`)
		}
	}
	return Set(word[:equals], value)
}

// Lookup gives the value of the last argument with that key.
func (l Line) Lookup(key string) (string, bool) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Key == key {
			return l[i].Value, true
		}
	}
	return "", false
}

// Get is Lookup without the second answer.
func (l Line) Get(key string) string {
	v, _ := l.Lookup(key)
	return v
}

// Words renders each argument as one word, quoted for the kernel where it holds blanks. What the kernel or a boot
// loader could read as something else is refused, never escaped: control bytes, "${" (iPXE expands it), quotes,
// backslash and backquote (GRUB), runs of blanks (iPXE folds them), and byte 0xa0, a blank to the kernel that GRUB does
// not quote.
func (l Line) Words() ([]string, error) {
	words := make([]string, 0, len(l))
	for _, a := range l {
		w, err := a.word()
		if err != nil {
			return nil, err
		}
		words = append(words, w)
	}
	return words, nil
}

// Render joins Words with single blanks and checks the length.
func (l Line) Render() (string, error) {
	words, err := l.Words()
	if err != nil {
		return "", err
	}
	s := strings.Join(words, " ")
	if len(s) > MaxLine {
		return "", fmt.Errorf("kernel command line has %d bytes; the kernel reads %d", len(s), MaxLine)
	}
	return s, nil
}

func (a Arg) word() (string, error) {
	if err := checkKey(a.Key); err != nil {
		return "", fmt.Errorf("kernel argument %q: %w", a.Key, err)
	}
	if a.Flag {
		return a.Key, nil
	}
	if err := CheckValue(a.Value); err != nil {
		return "", fmt.Errorf("kernel argument %s=%q: %w", a.Key, a.Value, err)
	}
	if strings.Contains(a.Value, " ") {
		return a.Key + `="` + a.Value + `"`, nil
	}
	return a.Key + "=" + a.Value, nil
}

func checkKey(key string) error {
	if key == "" {
		return errors.New("the name is empty")
	}
	if key == "--" || key == "---" {
		return nil // start of init's arguments, Debian's marker
	}
	if strings.HasPrefix(key, "-") {
		return errors.New("the name starts with a dash")
	}
	for _, c := range []byte(key) {
		if !isAlnum(c) && c != '_' && c != '.' && c != '-' && c != '/' { // debian-installer's questions have a slash
			return fmt.Errorf("the name may hold letters, digits, dot, dash, slash and underscore, not %q", c)
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// CheckValue says why a value can not stand on a command line that travels through boot loaders, or nil.
func CheckValue(v string) error {
	if !utf8.ValidString(v) {
		return errors.New("not UTF-8")
	}
	for _, r := range v {
		if r < 0x20 || r == 0x7f {
			return fmt.Errorf("control character %#02x", r)
		}
		if strings.ContainsRune("\"'`\\", r) {
			return fmt.Errorf("character %q", r)
		}
	}
	switch {
	case strings.Contains(v, "\xa0"):
		return errors.New("a character with byte 0xa0, at which the kernel splits words")
	case strings.Contains(v, "${"):
		return errors.New(`"${" would be expanded by iPXE`)
	case strings.Contains(v, "  "), strings.HasPrefix(v, " "), strings.HasSuffix(v, " "):
		return errors.New("blanks at an end or in a row are lost in boot loaders")
	}
	return checkWords(v)
}

// checkWords refuses blanks that would make iPXE see a command end or a comment inside the value.
func checkWords(v string) error {
	for i, w := range strings.Split(v, " ") {
		if i > 0 && (w == "||" || w == "&&" || w == ";" || strings.HasPrefix(w, "#")) {
			return fmt.Errorf("the word %q ends a command in iPXE", w)
		}
	}
	return nil
}
