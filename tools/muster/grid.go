package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// A grid lays out what row writes as a table that fits the terminal: the widest columns are cut, with an ellipsis, and no
// line is broken. To a file or a pipe, and with -o wide, everything is written.
type grid struct {
	lines  bytes.Buffer
	out    io.Writer
	width  int // of the terminal; 0: no limit
	colour bool
	raw    bool // what was written is no table
}

func newGrid(out io.Writer, o *options) *grid {
	g := &grid{out: out}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return g
	}
	// https://no-color.org: set and not empty.
	g.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && o.output != "wide" {
		g.width = w
	}
	return g
}

func (g *grid) Write(b []byte) (int, error) { return g.lines.Write(b) }

// verbatim writes a text that is no table, such as a script.
func verbatim(w io.Writer, text string) {
	if g, ok := w.(*grid); ok {
		g.raw = true
	}
	io.WriteString(w, text) // to memory
}

const (
	gap      = 2
	leastCol = 8 // a column is not cut below this
)

func (g *grid) flush() error {
	if g.raw {
		_, err := g.out.Write(g.lines.Bytes())
		return err
	}
	var rows [][]string
	for _, l := range strings.Split(strings.TrimSuffix(g.lines.String(), "\n"), "\n") {
		rows = append(rows, strings.Split(l, "\t"))
	}
	if g.lines.Len() == 0 {
		return nil
	}
	widths := columns(rows)
	if g.width > 0 {
		fit(widths, rows[0], g.width)
	}
	var b strings.Builder
	for _, r := range rows {
		g.line(&b, r, widths)
	}
	_, err := io.WriteString(g.out, b.String())
	return err
}

// columns are as wide as their widest cells; the last cell of a line that is shorter than others may reach further.
func columns(rows [][]string) []int {
	var widths []int
	for _, r := range rows {
		for len(widths) < len(r) {
			widths = append(widths, 0)
		}
	}
	for _, r := range rows {
		for i, cell := range r {
			if i < len(r)-1 || i == len(widths)-1 {
				widths[i] = max(widths[i], runewidth.StringWidth(cell))
			}
		}
	}
	return widths
}

// kept are heads of columns that are of little use when they are cut: they are cut last.
var kept = []string{"NODE", "STATE", "SINCE", "SEEN", "TIME", "KIND", "RESULT", "TOOK", "BEGAN", "PHASE"}

// fit takes what is too much from the widest column that may be cut, again and again.
func fit(widths []int, head []string, room int) {
	much := gap*(len(widths)-1) - room
	for _, w := range widths {
		much += w
	}
	for _, last := range []bool{false, true} {
		for ; much > 0; much-- {
			widest := -1
			for i, w := range widths {
				spared := i == 0 || i < len(head) && slices.Contains(kept, head[i])
				if w > leastCol && spared == last && (widest < 0 || w > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
		}
	}
}

func (g *grid) line(b *strings.Builder, cells []string, widths []int) {
	at, blanks := 0, 0
	for i, cell := range cells {
		room := widths[i]
		if i == len(cells)-1 {
			room = runewidth.StringWidth(cell)
			if g.width > 0 {
				room = min(room, g.width-at)
			}
		}
		if room <= 0 {
			at, blanks = at+room+gap, blanks+room+gap
			continue
		}
		cut := runewidth.Truncate(cell, room, "…")
		if cut != "" {
			b.WriteString(strings.Repeat(" ", blanks) + g.paint(cut))
			blanks = 0
		}
		at += room + gap
		blanks += room - runewidth.StringWidth(cut) + gap
	}
	b.WriteByte('\n')
}

// colours of words that a cell may begin with: what is well, what is under way, what wants somebody.
var colours = []struct {
	word string
	code string
}{
	{"active", "32"}, {"done", "32"},
	{"deploying", "33"}, {"wait call-back", "33"}, {"cleaning", "33"}, {"inspecting", "33"}, {"inspect wait", "33"}, {"undecided", "33"},
	{"deploy failed", "31"}, {"clean failed", "31"}, {"inspect failed", "31"}, {"error", "31"}, {"failed", "31"},
}

// paint colours a cell that is a word of the table, with or without what stands in brackets behind it.
func (g *grid) paint(cell string) string {
	if !g.colour {
		return cell
	}
	word, more, _ := strings.Cut(cell, " (")
	if strings.HasPrefix(more, "hold") || strings.HasPrefix(more, "conflict") {
		return "\x1b[31m" + cell + "\x1b[0m"
	}
	for _, c := range colours {
		if word == c.word {
			return "\x1b[" + c.code + "m" + cell + "\x1b[0m"
		}
	}
	return cell
}
