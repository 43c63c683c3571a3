package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"muster/agent"
	"muster/agent/facts"
	"muster/agent/probe"
)

// wholeLook is what "facts --errors" prints.
type wholeLook struct {
	Facts    facts.Facts        `json:"facts"`
	Hash     string             `json:"facts_hash"`
	State    facts.State        `json:"state"`
	Errors   []facts.ProbeError `json:"errors"`
	TimingMS map[string]int64   `json:"timing_ms"`
}

// printFacts is the command "facts".
func printFacts(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("muster-agent facts", flag.ContinueOnError)
	fs.SetOutput(stderr)
	format := fs.String("o", "json", "how to print: `json|table`")
	root := fs.String("root", "/", "read /proc, /sys and /dev below `DIR`")
	only := fs.String("only", "", "run these collectors only: `A,B`")
	all := fs.Bool("errors", false, "print also what could not be read, and the times")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if fs.NArg() > 0 || *format != "json" && *format != "table" {
		fmt.Fprintf(stderr, "muster-agent facts: -o takes json or table, and there are no other words\n%s\n", usage)
		return errUsage
	}
	line, err := agent.ReadArgs(*root)
	if err != nil {
		line = agent.Args{} // a tree without /proc/cmdline
	}
	o := probe.Options{Root: *root, BootMAC: line.BootMAC, Custom: line.Custom}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	p := look(ctx, o, func(*probe.Result) {}) // nobody listened before: no neighbour is known
	var doc any = p.Facts
	if *all {
		doc = wholeLook{p.Facts, p.Hash, p.State, p.Errors, p.TimingMS}
	}
	if *format == "json" {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(doc)
	}
	return printTable(stdout, doc)
}

// printTable prints a document as dotted names and values, one in a line, as rules name them.
func printTable(w io.Writer, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printTree(t, "", tree)
	return t.Flush()
}

func printTree(w io.Writer, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			printTree(w, strings.TrimPrefix(name+"."+k, "."), v[k])
		}
	case []any:
		if words, ok := scalars(v); ok {
			fmt.Fprintf(w, "%s\t%s\n", name, words)
			return
		}
		for i, e := range v {
			printTree(w, name+"["+strconv.Itoa(i)+"]", e)
		}
	case string:
		fmt.Fprintf(w, "%s\t%s\n", name, printable(v))
	default:
		fmt.Fprintf(w, "%s\t%v\n", name, v)
	}
}

// scalars joins a list of plain values; ok is false when it holds anything else.
func scalars(list []any) (s string, ok bool) {
	words := make([]string, len(list))
	for i, e := range list {
		switch e := e.(type) {
		case map[string]any, []any:
			return "", false
		default:
			words[i] = printable(fmt.Sprint(e))
		}
	}
	return strings.Join(words, " "), true
}

// printable keeps a hostile serial number from moving the cursor.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
