package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"muster/agent"
	"muster/agent/facts"
)

// A screen is where a table is printed: a terminal, or a file or pipe, which has no edge and no colour.
type screen struct {
	w     io.Writer
	width int // of a terminal; 0 is no edge
	bold  bool
}

func newScreen(w io.Writer) screen {
	s := screen{w: w}
	f, ok := w.(*os.File)
	if !ok {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.width = 80
	if size.Col >= 40 {
		s.width = int(size.Col)
	}
	s.bold = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// title prints the heading of a section.
func (s screen) title(text string) {
	if s.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	fmt.Fprintln(s.w, text)
}

// printTable prints facts for people: values under the dotted names that rules use, with their units, and lists of
// devices as one line each.
func printTable(w io.Writer, p agent.Probed, all bool) error {
	s := newScreen(w)
	doc := reflect.ValueOf(p.Facts)
	var top [][]string
	for i := range doc.NumField() {
		if f := doc.Type().Field(i); isScalar(f.Type) || f.Type == reflect.TypeFor[[]string]() {
			top = append(top, valueRows("", doc.Field(i), f)...)
		}
	}
	s.pairs("facts", top)
	for i := range doc.NumField() {
		name, v := jsonName(doc.Type().Field(i)), doc.Field(i)
		switch {
		case v.Kind() == reflect.Pointer && !v.IsNil():
			s.pairs(name, structRows(name+".", v.Elem()))
		case v.Kind() == reflect.Map && v.Len() > 0:
			s.pairs(name, mapRows(name+".", v))
		}
		shown := false
		for _, l := range lists {
			if l.section == name {
				s.columns(l.title, l.heads, l.rows(p.Facts))
				shown = true
			}
		}
		if !shown {
			s.structs(name, v)
		}
	}
	s.columns("disks health", []string{"name", "id", "health"}, healthRows(p))
	s.structs("temps", reflect.ValueOf(p.State.Temps))
	if all {
		state := p.State
		state.Disks, state.Temps = nil, nil // shown above
		s.pairs("state", structRows("state.", reflect.ValueOf(state)))
		s.pairs("sums", [][]string{{"facts_hash", p.Hash}, {"hw_hash", hardwareHash(p.Facts)}})
		s.columns("not read", []string{"collector", "code", "message"}, errorRows(p.Errors))
		s.pairs("took", mapRows("", reflect.ValueOf(p.TimingMS)))
	}
	return nil
}

// structs prints a list of structs with all their plain fields, if v is one.
func (s screen) structs(title string, v reflect.Value) {
	if v.Kind() != reflect.Slice || v.IsNil() || v.Type().Elem().Kind() != reflect.Struct {
		return
	}
	var heads []string
	rows := make([][]string, v.Len())
	t := v.Type().Elem()
	for i := range t.NumField() {
		heads = append(heads, jsonName(t.Field(i)))
		for n := range rows {
			cell := ""
			if value := valueRows("", v.Index(n).Field(i), t.Field(i)); len(value) == 1 {
				cell = value[0][1]
			}
			rows[n] = append(rows[n], cell)
		}
	}
	s.columns(title, heads, rows)
}

// healthRows are the disks that say how they are; nil when none does.
func healthRows(p agent.Probed) (rows [][]string) {
	names := map[string]string{}
	for _, d := range p.Facts.Disks {
		names[d.ID] = d.Name
	}
	for _, id := range slices.Sorted(maps.Keys(p.State.Disks)) {
		rows = append(rows, []string{names[id], id, p.State.Disks[id].String()})
	}
	return rows
}

func errorRows(errs []facts.ProbeError) (rows [][]string) {
	for _, e := range errs {
		rows = append(rows, []string{e.Collector, e.Code, e.Msg})
	}
	return rows
}

// structRows are the values of a struct that are known, but for lists of devices, which have tables of their own.
func structRows(prefix string, v reflect.Value) (rows [][]string) {
	for i := range v.NumField() {
		rows = append(rows, valueRows(prefix, v.Field(i), v.Type().Field(i))...)
	}
	return rows
}

func mapRows(prefix string, v reflect.Value) (rows [][]string) {
	for it := v.MapRange(); it.Next(); {
		rows = append(rows, []string{prefix + it.Key().String(), fmt.Sprint(it.Value())})
	}
	slices.SortFunc(rows, slices.Compare)
	return rows
}

// valueRows are the lines of one field; none when it is not known.
func valueRows(prefix string, v reflect.Value, f reflect.StructField) [][]string {
	name := jsonName(f)
	omit := strings.Contains(f.Tag.Get("json"), ",omit")
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil(), v.Kind() == reflect.Slice && v.IsNil(), omit && v.IsZero():
		return nil
	case v.Kind() == reflect.Pointer:
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		return structRows(prefix+name+".", v)
	case reflect.Map:
		return mapRows(prefix+name+".", v)
	case reflect.Slice:
		if !isScalar(v.Type().Elem()) {
			return nil
		}
		words := make([]string, v.Len())
		for i := range words {
			words[i] = fmt.Sprint(v.Index(i))
		}
		return [][]string{{prefix + name, strings.Join(words, " ")}}
	}
	return [][]string{{prefix + name, human(name, v)}}
}

func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return false
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// human says a value in the unit that its name ends in.
func human(name string, v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Bool:
		return yesNo(v.Bool())
	case !v.CanInt():
		return v.String()
	case strings.HasSuffix(name, "_bytes"):
		return binarySize(v.Int())
	}
	for suffix, unit := range map[string]string{"_mhz": " MHz", "_mts": " MT/s", "_mbps": " Mb/s", "_ms": " ms", "_s": " s", "_c": " °C"} {
		if strings.HasSuffix(name, suffix) {
			return strconv.FormatInt(v.Int(), 10) + unit
		}
	}
	return strconv.FormatInt(v.Int(), 10)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// binarySize says a number of bytes in the largest unit in which it is one or more.
func binarySize(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// pairs prints names and values; a value that does not fit goes on below itself.
func (s screen) pairs(title string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	s.title(title)
	left := 0
	for _, r := range rows {
		left = max(left, cells(r[0]))
	}
	for _, r := range rows {
		name := r[0] + strings.Repeat(" ", left-cells(r[0]))
		for _, line := range wrap(printable(r[1]), s.width-left-4) {
			fmt.Fprintf(s.w, "  %s  %s\n", name, line)
			name = strings.Repeat(" ", left)
		}
	}
}

// columns prints a table whose heads are names of fields. Nil rows are not known; none were looked for and not found.
// Columns that are empty in every row are left out. On a terminal that is too narrow lines are cut.
func (s screen) columns(title string, heads []string, rows [][]string) {
	switch {
	case rows == nil:
		return
	case len(rows) == 0:
		s.title(title)
		fmt.Fprintln(s.w, "  none")
		return
	}
	widths := make([]int, len(heads))
	for _, r := range rows {
		for i := range r {
			r[i] = printable(r[i])
			widths[i] = max(widths[i], cells(r[i]))
		}
	}
	for i := range widths {
		if widths[i] > 0 {
			widths[i] = max(widths[i], len(heads[i]))
		}
	}
	s.title(title)
	for _, r := range append([][]string{heads}, rows...) {
		line := " "
		for i, cell := range r {
			if widths[i] > 0 {
				line += " " + cell + strings.Repeat(" ", widths[i]-cells(cell)) + " "
			}
		}
		line = strings.TrimRight(line, " ")
		fmt.Fprintln(s.w, line[:fits(line, s.width)])
	}
}

// fits is how many bytes of a line a terminal of some width shows.
func fits(line string, width int) int {
	n := 0
	for at := range line {
		if n++; width > 0 && n > width {
			return at
		}
	}
	return len(line)
}

// wrap breaks text at blanks into lines of at most width, where that can be; 0 or less is no limit.
func wrap(s string, width int) []string {
	if width <= 0 || cells(s) <= width {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Split(s, " ") {
		if line != "" && cells(line)+1+cells(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

func cells(s string) int { return utf8.RuneCountInString(s) }

// printable keeps a hostile serial number from moving the cursor or turning the line round: what a terminal does not
// print is written as an escape of Go.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(s) {
		return s
	}
	return strconv.Quote(s)
}
