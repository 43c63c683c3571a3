package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/broker"
	"muster/broker/api"
)

// getFlags are what lists are chosen by.
type getFlags struct {
	q     broker.NodeQuery
	watch bool
	j     journalFlags
}

func getCommand(o *options) *cobra.Command {
	f := &getFlags{}
	c := &cobra.Command{
		Use: "get nodes|tags|policies|repos|ramdisks|hooks|handoffs|events [NAME]", Short: "list what the server knows",
		Long: "get lists nodes in brief, objects, or the journal. NAME is one object, or for nodes and events a range.\n\n" + rangeHelp,
		Example: "  muster get nodes --tag gpu --state hold\n  muster get nodes r12n[01-36],-r12n07 --sort -seen\n" +
			"  muster get nodes --where 'facts.memory.total_bytes < 64 * GiB' -o name\n  muster get nodes --watch\n" +
			"  muster get nodes --state active -o ansible   # an inventory\n  muster get policies -o yaml\n  muster get policy ceph-osd -o yaml   # its rev: apply refuses when another changed it since\n" +
			"  muster get events --who alice --since 24h",
		Args: between(1, 2, "nodes|tags|policies|repos|ramdisks|hooks|handoffs|events, and maybe NAME"), ValidArgsFunction: o.completeKindName(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ofNodes(cmd, args[0]); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			switch {
			case isNodes(args[0]):
				f.q.Range = name
				return getNodes(cmd, o, c, f)
			case strings.TrimSuffix(strings.ToLower(args[0]), "s") == "event":
				return printJournal(cmd, o, c, name, &f.j)
			}
			return getObjects(cmd, o, c, args)
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.q.Tags, "tag", nil, "nodes: that carry the tag; several: all of them")
	fl.StringSliceVar(&f.q.States, "state", nil, "nodes: in any of these provision states, or hold, conflict, protected")
	fl.StringVar(&f.q.Policy, "policy", "", "nodes: bound to the policy")
	fl.StringVar(&f.q.Where, "where", "", "nodes: on which the rule holds, written as a tag's")
	fl.StringVar(&f.q.Sort, "sort", "", "nodes: by "+strings.Join(broker.SortKeys(), ", ")+"; - in front turns it round")
	fl.IntVar(&f.q.Limit, "limit", 0, "nodes: one page of at most so many (default: all)")
	fl.StringVar(&f.q.After, "after", "", "nodes: the page after, as the last one said")
	fl.BoolVar(&f.watch, "watch", false, "nodes: go on with each that changes")
	f.j.add(fl)
	complete(c, "state", broker.StateWords()...)
	complete(c, "sort", broker.SortKeys()...)
	o.completeFlag(c, "tag", broker.KindTag)
	o.completeFlag(c, "policy", broker.KindPolicy)
	return c
}

// ofNodes refuses flags that mean nothing to other lists: one that is passed over looks as if it had done its work.
func ofNodes(cmd *cobra.Command, kind string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Usage, "nodes: ") && !isNodes(kind) {
			err = usageError{fmt.Errorf("--%s is for nodes, not for %s", f.Name, kind)}
		}
	})
	return err
}

func getNodes(cmd *cobra.Command, o *options, c *api.Client, f *getFlags) error {
	list := c.Nodes
	if f.q.Limit > 0 {
		list = c.Page
	}
	page, err := list(cmd.Context(), f.q)
	if err != nil {
		return err
	}
	tellUndecided(cmd.ErrOrStderr(), page)
	if o.output == "ansible" {
		return showInventory(cmd.OutOrStdout(), page.Nodes)
	}
	if page.Next != "" && o.output != "json" && o.output != "yaml" {
		fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --after %s\n", page.Next)
	}
	shown := any(page)
	if o.output == "name" {
		shown = page.Nodes
	}
	if err := o.show(cmd.OutOrStdout(), shown, func(w io.Writer) { nodesTable(w, page.Nodes, o.output == "wide") }); err != nil || !f.watch {
		return err
	}
	return watchNodes(cmd, o, c, f.q, page)
}

// tellUndecided says which nodes may belong to a list, and why nobody knows.
func tellUndecided(w io.Writer, page *broker.NodePage) {
	for _, u := range page.Undecided {
		fmt.Fprintf(w, "undecided on %s: %s\n", countOf(u.Count, u.Node), plain(u.Cause))
	}
}

func countOf(n int, first string) string {
	if n == 1 {
		return first
	}
	return fmt.Sprintf("%d nodes (%s, ...)", n, first)
}

func undecidedText(page *broker.NodePage) string {
	n := 0
	for _, u := range page.Undecided {
		n += u.Count
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("undecided on %d more", n)
}

func nodesTable(w io.Writer, nodes []broker.NodeSummary, wide bool) {
	head := []any{"NODE", "HOSTNAME", "STATE", "SINCE", "POLICY", "TAGS", "SEEN"}
	if wide {
		head = append(head, "MAC", "WAITS FOR", "ADDRESS", "UUID", "SERIAL", "UNDECIDED", "HARDWARE")
	}
	row(w, head...)
	for i := range nodes {
		row(w, nodeCells(&nodes[i], wide)...)
	}
}

func nodeCells(n *broker.NodeSummary, wide bool) []any {
	name := cmp.Or(n.Hostname, n.MAC, "-") // what has no name yet is known by its card
	cells := []any{n.ID, name, briefState(n), ago(n.Since), orDash(n.Policy), orDash(strings.Join(n.Tags, ",")), seenText(n.LastSeen)}
	if wide {
		cells = append(cells, orDash(n.MAC), orDash(n.Waiting), orDash(n.Addr), orDash(n.UUID), orDash(n.Serial), orDash(strings.Join(n.Undecided, ",")), orDash(n.Hardware))
	}
	return cells
}

// seenText is how long ago a machine was seen.
func seenText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return ago(t)
}

func briefState(n *broker.NodeSummary) string {
	return stateText(&broker.Node{State: n.State, Hold: n.Hold, Conflict: n.Conflict, Protected: n.Protected})
}

func stateText(n *broker.Node) string {
	switch {
	case n.Hold != "":
		return string(n.State) + " (hold)"
	case n.Conflict != "":
		return string(n.State) + " (conflict)"
	case n.Protected:
		return string(n.State) + " (protected)"
	}
	return string(n.State)
}

// getObject prints one object with its revision, so that what is changed and applied again is known to be of that.
func getObject(cmd *cobra.Command, o *options, c *api.Client, kind, name string) error {
	doc, err := c.Object(cmd.Context(), kind, name)
	if err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), doc, func(w io.Writer) { documentTable(w, doc) })
}

func getObjects(cmd *cobra.Command, o *options, c *api.Client, args []string) error {
	kind, err := kindOf(args[0])
	if err != nil {
		return err
	}
	if len(args) == 2 {
		return getObject(cmd, o, c, kind, args[1])
	}
	if kind == broker.KindHook {
		return getHooks(cmd, o, c)
	}
	var docs []json.RawMessage
	if err := c.Get(cmd.Context(), "/api/v1/objects/"+kind, &docs); err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), docs, func(w io.Writer) { objectTable(w, kind, docs) })
}

// objectTable prints objects of one kind; what does not decode is shown as it is.
func objectTable(w io.Writer, kind string, docs []json.RawMessage) {
	heads := map[string][]any{
		broker.KindTag:     {"TAG", "RULE"},
		broker.KindPolicy:  {"POLICY", "ORDER", "TAGS", "TASK", "REPO", "MAX", "APPROVAL", "WIPE"},
		broker.KindRepo:    {"REPO", "FORM", "OS", "ARCH", "SIZE", "SHA256 OR URL"},
		broker.KindHandoff: {"HANDOFF", "TYPE", "CONFIG"},
		broker.KindRamdisk: {"RAMDISK", "ARCH", "KERNEL", "ORDER", "TAGS", "SIZE", "SIGNED", "IMPORTED"},
	}
	row(w, heads[kind]...)
	for _, d := range docs {
		var t broker.Tag
		var p broker.Policy
		switch {
		case kind == broker.KindTag && json.Unmarshal(d, &t) == nil:
			row(w, t.Name, t.Rule)
		case kind == broker.KindPolicy && json.Unmarshal(d, &p) == nil:
			row(w, p.Name, cmp.Or(p.Order, 100), orDash(strings.Join(p.Tags, ",")+p.Match), p.Task, orDash(p.Repo), p.Max, cmp.Or(p.Approval, "required"), p.Wipe)
		case kind == broker.KindRepo && repoRow(w, d):
		case kind == broker.KindHandoff && handoffRow(w, d):
		case kind == broker.KindRamdisk && ramdiskRow(w, d):
		default:
			row(w, string(d))
		}
	}
}
