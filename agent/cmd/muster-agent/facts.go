package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"muster/agent"
	"muster/agent/facts"
	"muster/agent/probe"
)

// wholeLook is what "facts --errors" prints.
type wholeLook struct {
	Facts    facts.Facts        `json:"facts"`
	Hash     string             `json:"facts_hash"`
	HWHash   string             `json:"hw_hash"`
	State    facts.State        `json:"state"`
	Errors   []facts.ProbeError `json:"errors"`
	TimingMS map[string]int64   `json:"timing_ms"`
}

const factsHelp = `usage: muster-agent facts [-o FORM] [--only A,B] [--errors] [--root DIR [--programs]]

Print what this machine is. An ordinary user gets what he may read; --errors names the rest.

  -o FORM      json (the default), yaml, table, facter (the flat names of
               Facter 2) or ironic (inspection data)
  --only A,B   run these collectors only:
               %s
  --root DIR   read /proc, /sys, /dev and /etc/muster/facts.d below DIR
  --programs   run the programs of that facts.d too: they are code of whoever
               made DIR
  --errors     print also what could not be read, the state, hashes and times

Examples:
  muster-agent facts -o table                   all of this machine, for people
  muster-agent facts --only disks,nics -o yaml  its disks and interfaces
  muster-agent facts --errors | jq .errors      what could not be read, and why
  muster-agent facts --root ./machine7          a copy of a machine's /proc, /sys
`

// wrongFacts explains a command line that is wrong.
func wrongFacts(stderr io.Writer, format string, args ...any) error {
	fmt.Fprintf(stderr, "muster-agent facts: "+format+"\ntry muster-agent facts --help\n", args...)
	return errUsage
}

// printFacts is the command "facts".
func printFacts(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("muster-agent facts", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	format := fs.String("o", "json", "")
	root := fs.String("root", "/", "")
	only := fs.String("only", "", "")
	programs := fs.Bool("programs", false, "")
	all := fs.Bool("errors", false, "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, factsHelp, strings.Join(wrap(strings.Join(probe.Collectors(), ", "), 64), "\n               "))
		return nil
	case err != nil:
		return wrongFacts(stderr, "%v", err)
	case fs.NArg() > 0:
		return wrongFacts(stderr, "there are no other words; got %q", fs.Arg(0))
	}
	print, known := printers[*format]
	if !known {
		return wrongFacts(stderr, "-o takes json, yaml, table, facter or ironic; got %q", *format)
	}
	line, err := agent.ReadArgs(*root)
	if err != nil {
		line = agent.Args{} // a tree without /proc/cmdline
	}
	o := probe.Options{Root: *root, BootMAC: line.BootMAC, Custom: line.Custom, Programs: *programs}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	for _, name := range o.Only {
		if !slices.Contains(probe.Collectors(), name) {
			return wrongFacts(stderr, "--only: there is no collector %q%s; there are %s", name, nearest(name, probe.Collectors()), strings.Join(probe.Collectors(), ", "))
		}
	}
	if _, err := os.Stat(*root); err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	// One processor: a look is thousands of short system calls, which on many wait for each other's locks in the kernel.
	// Eight emulated ones spent 11.5 s of processor time on what one does in 1.9.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := look(ctx, o, func(*probe.Result) {}) // nobody listened before: no neighbour is known
	return print(stdout, p, *all)
}

// nearest is " (did you mean X?)" for the name that differs least, when it does not differ much.
func nearest(name string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is how many letters must be put in, left out or changed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// printers are the values of -o. With all, errors and times are printed too, where the form has room for them.
var printers = map[string]func(w io.Writer, p agent.Probed, all bool) error{
	"json":  func(w io.Writer, p agent.Probed, all bool) error { return printJSON(w, document(p, all)) },
	"yaml":  func(w io.Writer, p agent.Probed, all bool) error { return printAs(printYAML, w, document(p, all)) },
	"table": printTable,
	"facter": func(w io.Writer, p agent.Probed, _ bool) error {
		return printJSON(w, p.Facts.Facter())
	},
	"ironic": printIronic,
}

// document is the facts, or the whole look.
func document(p agent.Probed, all bool) any {
	if all {
		return wholeLook{p.Facts, p.Hash, hardwareHash(p.Facts), p.State, p.Errors, p.TimingMS}
	}
	return p.Facts
}

// hardwareHash is that of the facts without names, addresses, lifetimes and the command line; "" when there is none.
func hardwareHash(f facts.Facts) string {
	hash, err := f.HardwareHash()
	if err != nil {
		return ""
	}
	return hash
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
