package peers

import (
	"regexp"
	"slices"
	"strings"
)

// An Item is one thing that was planted and that a tool may find.
type Item struct {
	Group, Name string
	Want        []string          // spellings, each accepted as a whole token
	Label       string            // a regular expression that what stands before the value in its line must match; if empty, anything
	Of          string            // the Thing it belongs to; if empty, the value alone says enough
	By          map[string]string // by tool: where a person finds it in another way, as a regular expression over the lines
}

// A Thing is something of which there are several alike.
type Thing struct {
	Name  string   // for Item.Of
	Kind  string   // those of one kind are told apart
	In    string   // the Thing of that kind that it is a piece of; the two are not told apart
	Place string   // part of the sysfs path of its kernel objects, which gives their names in this boot
	Names []string // others that the output may use: serial, address
}

// found says whether the output holds the item.
func (d *document) found(tool string, it Item, things []Thing) bool {
	if pattern, ok := it.By[tool]; ok && regexp.MustCompile("(?ms)"+pattern).MatchString(strings.Join(d.lines, "\n")) {
		return true
	}
	values := d.valueLines(it)
	if it.Of == "" || len(values) == 0 {
		return len(values) > 0
	}
	own, other := d.thingLines(it.Of, things)
	return slices.ContainsFunc(d.blocks, func(b span) bool { return b.holds(values) && b.holds(own) && !b.holds(other) }) ||
		slices.ContainsFunc(values, func(i int) bool { return slices.Contains(own, i) && !slices.Contains(other, i) })
}

// holds says whether one of the lines, in rising order, is in the block.
func (b span) holds(lines []int) bool {
	i, exact := slices.BinarySearch(lines, b.from)
	return exact || i < len(lines) && lines[i] < b.to
}

// valueLines are the lines with the value behind its label.
func (d *document) valueLines(it Item) []int {
	var label *regexp.Regexp
	if it.Label != "" {
		label = regexp.MustCompile("(?i)" + it.Label)
	}
	return d.linesWith(it.Want, func(before string) bool { return label == nil || label.MatchString(before) })
}

// thingLines are the lines that name the thing, and those that name another of its kind.
func (d *document) thingLines(name string, things []Thing) (own, other []int) {
	at := slices.IndexFunc(things, func(t Thing) bool { return t.Name == name })
	if at < 0 {
		return nil, nil
	}
	any := func(string) bool { return true }
	for _, t := range things {
		switch {
		case t.Name == name:
			own = d.linesWith(t.Names, any)
		case t.Kind == things[at].Kind && t.Name != things[at].In && t.In != name:
			other = append(other, d.linesWith(t.Names, any)...)
		}
	}
	slices.Sort(other)
	return own, slices.DeleteFunc(other, func(i int) bool { return slices.Contains(own, i) })
}

// linesWith lists the lines that hold one of the words as a whole token where ok takes what stands before it.
func (d *document) linesWith(words []string, ok func(before string) bool) []int {
	var lines []int
	for i, line := range d.lines {
		if slices.ContainsFunc(words, func(w string) bool { return holdsToken(line, fold(w), ok) }) {
			lines = append(lines, i)
		}
	}
	return lines
}

func holdsToken(line, word string, ok func(before string) bool) bool {
	if word == "" {
		return false
	}
	for from := 0; ; {
		i := strings.Index(line[from:], word)
		if i < 0 {
			return false
		}
		i += from
		if standsAlone(line, i, i+len(word)) && ok(line[:i]) {
			return true
		}
		from = i + 1
	}
}

// standsAlone says whether line[i:j] is a token of its own: no letter or digit goes on across its ends, and neither does a
// number across its point.
func standsAlone(line string, i, j int) bool {
	first, last := line[i], line[j-1]
	if i > 0 && isWord(first) && isWord(line[i-1]) || j < len(line) && isWord(last) && isWord(line[j]) {
		return false
	}
	if isDigit(first) && i > 1 && (line[i-1] == '.' || line[i-1] == ',') && isDigit(line[i-2]) {
		return false
	}
	return !(isDigit(last) && j+1 < len(line) && (line[j] == '.' || line[j] == ',') && isDigit(line[j+1]))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord says whether a byte is part of a word; all beyond ASCII is.
func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
