package loader

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// grubEntry reads the default entry of grub.cfg, as grub-mkconfig writes it. Every line is taken as it comes, those of
// both branches of an if: there, the last word on a variable is the one for a plain start.
func grubEntry(files fs.FS) (Entry, bool, error) {
	name, text, err := first(files, "boot/grub/grub.cfg", "grub/grub.cfg", "boot/grub2/grub.cfg", "grub2/grub.cfg", "grub.cfg")
	if err != nil || name == "" {
		return Entry{}, false, err
	}
	g := &grub{from: name, vars: grubEnv(files)}
	for line := range strings.Lines(text) {
		if len(g.entries) > maxEntries {
			return Entry{}, false, fmt.Errorf("%s has more than %d entries", name, maxEntries)
		}
		g.line(line)
	}
	for _, e := range g.chosen() {
		if e.Kernel != "" {
			return e.Entry, true, nil
		}
	}
	return Entry{}, false, fmt.Errorf("%s names no kernel", name)
}

// A grub is a configuration being read.
type grub struct {
	from    string
	vars    map[string]string
	blocks  []bool // open braces; true is an entry's or a submenu's
	top     int    // entries and submenus of the menu so far
	entries []grubItem
}

// A grubItem is an entry of the menu; index is that of itself or of the submenu that it is in.
type grubItem struct {
	Entry
	index int
	names []string // title and id
}

// chosen are the entries that may be the default, the surest first.
func (g *grub) chosen() []grubItem {
	wanted, _, _ := strings.Cut(g.vars["default"], ">")
	n, err := strconv.Atoi(wanted)
	var first []grubItem
	for _, e := range g.entries {
		if err == nil && e.index == n || err != nil && wanted != "" && (e.names[0] == wanted || e.names[1] == wanted) {
			first = append(first, e)
		}
	}
	return append(first, g.entries...)
}

func (g *grub) line(line string) {
	words := g.words(line)
	if len(words) == 0 {
		return
	}
	switch command := words[0]; {
	case command == "menuentry", command == "submenu":
		g.open(command, words)
	case words[len(words)-1] == "{":
		g.blocks = append(g.blocks, false)
	case command == "}":
		g.blocks = g.blocks[:max(0, len(g.blocks)-1)]
	case command == "set" && len(words) > 1:
		g.set(words[1])
	case len(g.entries) > 0:
		g.entries[len(g.entries)-1].command(command, words[1:])
	}
}

// set takes an assignment. Values have a bound: a few lines that double one would fill the memory.
func (g *grub) set(word string) {
	if name, value, ok := strings.Cut(word, "="); ok && len(value) <= maxValue && len(g.vars) < maxWords {
		g.vars[name] = value
	}
}

// open begins an entry or a submenu.
func (g *grub) open(command string, words []string) {
	if g.inMenu() == 0 {
		g.top++
	}
	g.blocks = append(g.blocks, true)
	if command == "submenu" || len(words) < 2 {
		return
	}
	item := grubItem{Entry: Entry{From: g.from}, index: g.top - 1, names: []string{words[1], ""}}
	if n := len(words); n > 3 { // its id is the last word before the brace; what names it as one is no word when it is empty
		item.names[1] = words[n-2]
	}
	g.entries = append(g.entries, item)
}

// inMenu is how many entries and submenus are open.
func (g *grub) inMenu() int {
	n := 0
	for _, menu := range g.blocks {
		if menu {
			n++
		}
	}
	return n
}

func (e *grubItem) command(name string, args []string) {
	switch name {
	case "linux", "linux16", "linuxefi":
		if len(args) > 0 && e.Kernel == "" {
			e.Kernel, e.Cmdline = onDisk(args[0]), strings.Join(strings.Fields(strings.Join(args[1:], " ")), " ")
		}
	case "initrd", "initrd16", "initrdefi":
		for _, a := range args {
			if len(e.Initrds) < maxEntries {
				e.Initrds = append(e.Initrds, onDisk(a))
			}
		}
	}
}

// onDisk drops the device in front of a path: (hd0,gpt1)/boot/vmlinuz. Which one it is, the caller knows.
func onDisk(name string) string {
	if rest, ok := strings.CutPrefix(name, "("); ok {
		_, name, _ = strings.Cut(rest, ")")
	}
	return name
}

// words splits a line as GRUB's shell does (GRUB manual, section 6.3): blanks outside quotes, variables outside single
// quotes, a backslash that takes the next letter as it is, and the rest of the line after #.
func (g *grub) words(line string) []string {
	var words []string
	var word bounded
	open := false
	end := func() {
		if open && len(words) < maxWords {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	line = strings.TrimRight(line, "\r\n")
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', ';':
			end()
			continue
		case '#':
			if !open {
				return words
			}
			word.WriteByte(c)
		case '\'', '"':
			n := g.quoted(&word, line[i+1:], c)
			i += n
		case '\\':
			if i++; i < len(line) {
				word.WriteByte(line[i])
			}
		case '$':
			n, value := variable(line[i:], g.vars)
			word.WriteString(value)
			i += n - 1
			if value == "" && !open { // no word, as in GRUB
				continue
			}
		default:
			word.WriteByte(c)
		}
		open = true
	}
	end()
	return words
}

// quoted adds what is between quotes and gives how much was read, the closing quote with it.
func (g *grub) quoted(word *bounded, s string, quote byte) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return i + 1
		case quote == '"' && s[i] == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
		case quote == '"' && s[i] == '$':
			n, value := variable(s[i:], g.vars)
			word.WriteString(value)
			i += n - 1
		default:
			word.WriteByte(s[i])
		}
	}
	return len(s)
}

// bounded is a word that does not grow without end.
type bounded struct{ strings.Builder }

func (b *bounded) WriteString(s string) {
	if b.Len()+len(s) <= maxConfig {
		b.Builder.WriteString(s)
	}
}

// variable reads $name or ${name} and gives how long that is and its value.
func variable(s string, vars map[string]string) (int, string) {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return end + 1, vars[s[2:end]]
		}
		return len(s), ""
	}
	n := 1
	for n < len(s) && (s[n] == '_' || isDigit(s[n]) || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
		n++
	}
	return n, vars[s[1:n]]
}

// expand puts variables into a line of an entry.
func expand(s string, vars map[string]string) string {
	var out bounded
	for i := 0; i < len(s); i++ {
		if s[i] != '$' {
			out.WriteByte(s[i])
			continue
		}
		n, value := variable(s[i:], vars)
		out.WriteString(value)
		i += n - 1
	}
	return out.String()
}
