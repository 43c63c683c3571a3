package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
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
	format := fs.String("o", "json", "how to print: `json|yaml|table|facter|ironic`")
	root := fs.String("root", "/", "read /proc, /sys and /dev below `DIR`")
	only := fs.String("only", "", "run these collectors only: `A,B`")
	programs := fs.Bool("programs", false, "run the programs of DIR/etc/muster/facts.d too: they are code of whoever made DIR")
	all := fs.Bool("errors", false, "print also the state (health of disks, temperatures), what could not be read, and the times")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	print, known := printers[*format]
	if fs.NArg() > 0 || !known {
		fmt.Fprintf(stderr, "muster-agent facts: -o takes json, yaml, table, facter or ironic, and there are no other words\n%s\n", usage)
		return errUsage
	}
	line, err := agent.ReadArgs(*root)
	if err != nil {
		line = agent.Args{} // a tree without /proc/cmdline
	}
	o := probe.Options{Root: *root, BootMAC: line.BootMAC, Custom: line.Custom, Programs: *programs}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	p := look(ctx, o, func(*probe.Result) {}) // nobody listened before: no neighbour is known
	return print(stdout, p, *all)
}

// printers are the values of -o. With all, errors and times are printed too, where the form has room for them.
var printers = map[string]func(w io.Writer, p agent.Probed, all bool) error{
	"json": func(w io.Writer, p agent.Probed, all bool) error { return printJSON(w, document(p, all)) },
	"yaml": func(w io.Writer, p agent.Probed, all bool) error { return printAs(printYAML, w, document(p, all)) },
	"table": func(w io.Writer, p agent.Probed, all bool) error {
		return errors.Join(printAs(printTable, w, document(p, all)), printHealth(w, p))
	},
	"facter": func(w io.Writer, p agent.Probed, _ bool) error {
		return printJSON(w, p.Facts.Facter())
	},
	"ironic": printIronic,
}

// document is the facts, or the whole look.
func document(p agent.Probed, all bool) any {
	if all {
		return wholeLook{p.Facts, p.Hash, p.State, p.Errors, p.TimingMS}
	}
	return p.Facts
}

// printIronic puts errors into the inventory, as ironic-python-agent does: what was found is of use without the rest.
func printIronic(w io.Writer, p agent.Probed, all bool) error {
	view := p.Facts.Ironic()
	if all && len(p.Errors) > 0 {
		said := make([]string, len(p.Errors))
		for i, e := range p.Errors {
			said[i] = fmt.Sprintf("%s: %s: %s", e.Collector, e.Code, e.Msg)
		}
		view["error"] = strings.Join(said, "\n")
	}
	return printJSON(w, view)
}

func printJSON(w io.Writer, doc any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

// printAs prints a document through its JSON, so that all forms have the same names.
func printAs(print func(io.Writer, any) error, w io.Writer, doc any) error {
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
	return print(w, tree)
}

// printHealth prints a line for each disk that says how it is, and for each sensor.
func printHealth(w io.Writer, p agent.Probed) error {
	names := map[string]string{}
	for _, d := range p.Facts.Disks {
		names[d.ID] = d.Name + " "
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, id := range slices.Sorted(maps.Keys(p.State.Disks)) {
		fmt.Fprintf(t, "health %s%s\t%s\n", printable(names[id]), printable(id), p.State.Disks[id])
	}
	for _, s := range p.State.Temps {
		fmt.Fprintf(t, "temperature %s\t%d C\n", printable(strings.TrimSpace(s.Sensor+" "+s.Label)), s.TempC)
	}
	return t.Flush()
}

// printTable prints a tree as dotted names and values, one in a line, as rules name them.
func printTable(w io.Writer, tree any) error {
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
