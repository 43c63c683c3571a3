package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
)

// asData says that no table is wanted.
func (o *options) asData() bool { return o.output != "table" && o.output != "wide" }

// show prints v as JSON, YAML or names when that is asked for, else calls table.
func (o *options) show(w io.Writer, v any, table func(io.Writer)) error {
	switch o.output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "yaml":
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		y, err := yaml.JSONToYAML(raw)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		_, err = w.Write(y)
		return err
	case "name":
		return showNames(w, v)
	case "table", "wide":
		g := newGrid(w, o)
		table(g)
		return g.flush()
	}
	return usageError{fmt.Errorf("output %q: want table, wide, json, yaml or name", o.output)}
}

// showNames prints the id or the name of each member of a list, or of v alone.
func showNames(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	var list []struct{ ID, Node, Name string }
	if json.Unmarshal(raw, &list) != nil {
		list = make([]struct{ ID, Node, Name string }, 1)
		if err := json.Unmarshal(raw, &list[0]); err != nil {
			return fmt.Errorf("read the names: %w", err)
		}
	}
	for _, x := range list {
		if _, err := fmt.Fprintln(w, cmp.Or(x.ID, x.Node, x.Name)); err != nil {
			return err
		}
	}
	return nil
}

// row writes one line of a table: what a machine says of itself is printed here (T23).
func row(w io.Writer, cells ...any) {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = plain(fmt.Sprint(c))
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(words, "\t"), "\t"))
}

// plain replaces what a terminal does not print but obeys: control characters and, of Unicode, what turns the direction
// of text or has no width.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// orDash keeps empty cells visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
