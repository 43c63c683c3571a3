package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/agent/facts"
	"muster/broker"
	"muster/broker/api"
)

func describeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "describe KIND NAME", Short: "all about nodes (hardware, errors of collectors, state), or one tag, policy, repo, ramdisk, hook or handoff",
		Example: "  muster describe node node1\n  muster describe node 52:54:00:12:34:56 -o json\n  muster describe node r12n[01-04]\n  muster describe policy ceph-osd\n  muster describe ramdisk standard",
		Args:    exactly(2, "KIND NAME"), ValidArgsFunction: o.completeKindName(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if isNodes(args[0]) {
				return describeNodes(cmd, o, args[1])
			}
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			switch kind {
			case broker.KindRamdisk:
				return describeRamdisk(cmd, o, args[1])
			case broker.KindHook:
				return describeHook(cmd, o, args[1])
			case broker.KindHandoff:
				return describeHandoff(cmd, o, args[1])
			}
			return describeObject(cmd, o, kind, args[1])
		},
	}
}

// isNodes reads node, nodes, Node.
func isNodes(s string) bool { return strings.TrimSuffix(strings.ToLower(s), "s") == "node" }

func describeNodes(cmd *cobra.Command, o *options, arg string) error {
	return o.eachNode(cmd, arg, func(c *api.Client, id string) (any, func(io.Writer), error) {
		n, err := c.Node(cmd.Context(), id)
		return n, func(w io.Writer) { nodeTable(w, n) }, err
	})
}

// describeObject prints an object line by line, and the nodes that it concerns now.
func describeObject(cmd *cobra.Command, o *options, kind, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	doc, err := c.Object(cmd.Context(), kind, name)
	if err != nil {
		return err
	}
	q := broker.NodeQuery{Policy: name}
	switch kind {
	case broker.KindTag:
		q = broker.NodeQuery{Tags: []string{name}}
	case broker.KindPolicy:
	default:
		return o.show(cmd.OutOrStdout(), doc, func(w io.Writer) { documentTable(w, doc) })
	}
	page, err := c.Nodes(cmd.Context(), q)
	if err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), doc, func(w io.Writer) {
		documentTable(w, doc)
		row(w, "nodes", fmt.Sprintf("%d", len(page.Nodes)), undecidedText(page))
	})
}

// documentTable has a line for each field, in the order of their names, kind and name first.
func documentTable(w io.Writer, doc map[string]any) {
	row(w, strings.ToLower(fmt.Sprint(doc["kind"])), doc["name"])
	for _, k := range slices.Sorted(maps.Keys(doc)) {
		if k == "kind" || k == "name" {
			continue
		}
		text, ok := doc[k].(string)
		if !ok {
			raw, err := json.Marshal(doc[k])
			if err != nil {
				continue // it came as JSON
			}
			text = string(raw)
		}
		row(w, k, text)
	}
}

func nodeTable(w io.Writer, n *broker.Record) {
	row(w, "node", n.ID)
	row(w, "hostname", orDash(n.Hostname))
	row(w, "state", stateText(&n.Node)+", since "+ago(n.Since))
	if n.LastError != "" {
		row(w, "last error", n.LastError)
	}
	if n.Hold != "" {
		row(w, "hold", n.Hold)
	}
	if n.Conflict != "" {
		row(w, "conflict", n.Conflict)
	}
	if n.LastSeen.IsZero() {
		row(w, "seen", "never; registered "+ago(n.Created)+" ago")
	}
	if n.Pin != "" {
		row(w, "pinned to", n.Pin)
	}
	row(w, "policy", orDash(n.Policy))
	row(w, "installed", orDash(n.Installed))
	row(w, "order", fmt.Sprintf("%s %s", n.Order.Kind, n.Order.Status))
	row(w, "macs", orDash(strings.Join(n.Keys.MACs, " ")))
	row(w, "uuid", orDash(n.Keys.UUID))
	row(w, "serial", orDash(n.Keys.Serial))
	if b := n.Boot; b.Arch != "" {
		row(w, "boots by", orDash(b.Kind), b.Arch, b.NIC)
	}
	if b := n.Boot; len(b.Features) > 0 {
		row(w, "ipxe", b.IPXE, strings.Join(b.Features, " "))
	}
	for _, t := range n.Tags {
		row(w, "tag "+t.Name, t.Verdict, t.Cause)
	}
	if n.Facts == nil {
		row(w, "facts", "none yet")
		return
	}
	row(w, "hardware", broker.Summary(n.Facts))
	state := cmp.Or(n.FactsState, &facts.State{})
	for _, d := range n.Facts.Disks {
		row(w, "disk "+d.Name, bytesText(d.SizeBytes), d.Transport, d.ID, state.Disks[d.ID])
	}
	if len(state.Temps) > 0 {
		hot := slices.MaxFunc(state.Temps, func(a, b facts.Temperature) int { return cmp.Compare(a.TempC, b.TempC) })
		row(w, "temperature", fmt.Sprintf("%d C, %s %s, the hottest of %d sensors", hot.TempC, hot.Sensor, hot.Label, len(state.Temps)))
	}
	if len(state.Disks)+len(state.Temps) > 0 {
		row(w, "health told", ago(n.FactsStateAt)+" ago")
	}
	for _, i := range n.Facts.NICs {
		row(w, "nic "+i.Name, i.MAC, i.Driver, strings.Join(i.IPv4, " "))
	}
	name := pciNames()
	for _, c := range n.Facts.Controllers {
		row(w, "controller", c.PCI, orDash(c.Driver), name(c.VendorID, c.DeviceID))
	}
	for _, g := range n.Facts.GPUs {
		row(w, "gpu", g.PCI, orDash(g.Driver), name(g.VendorID, g.DeviceID))
	}
	for _, e := range n.Errors {
		row(w, "not read: "+e.Collector, e.Code, e.Msg)
	}
}

func explainCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "explain NODE", Short: "why a node carries its tags, which policy and ramdisk won, and what it boots next",
		Example: "  muster explain node1\n  muster explain r12n[01-04] -o json", Args: exactly(1, "NODE"), ValidArgsFunction: o.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.eachNode(cmd, args[0], func(c *api.Client, id string) (any, func(io.Writer), error) {
				x, err := c.Explain(cmd.Context(), id)
				return x, func(w io.Writer) { explanationTable(w, x) }, err
			})
		},
	}
}

func explanationTable(w io.Writer, x *broker.Explanation) {
	row(w, "node", x.Node, string(x.State)+" since "+x.Since)
	if x.Waiting != "" {
		row(w, "waits for", x.Waiting)
	}
	for _, t := range x.Tags {
		row(w, "tag", t.Name, t.Verdict, t.Rule)
		for _, p := range t.Parts {
			row(w, "", "", "", "  "+p.Expr+" is "+p.Value)
		}
		if t.Cause != "" {
			row(w, "", "", "", "  "+t.Cause)
		}
	}
	for _, p := range x.Policies {
		row(w, "policy", p.Policy, yesNo(p.Wins), p.Why)
	}
	for _, r := range x.Ramdisks {
		row(w, "ramdisk", r.Ramdisk, yesNo(r.Wins), r.Why)
	}
	row(w, "next boot", string(x.Next.Step), "", x.Next.Because)
}

func renderCommand(o *options) *cobra.Command {
	var dialect, template, policy string
	var handoff bool
	c := &cobra.Command{
		Use: "render NODE", Short: "the boot script that a node would get, its token hidden; or a recipe of its installer, or the script of its handoff",
		Example: "  muster render node1\n  muster render node1 --dialect grub\n  muster render node1 --template preseed.cfg\n  muster render node1 --template preseed.cfg --policy web   # before any policy has it\n  muster render node1 --handoff", Args: exactly(1, "NODE"), ValidArgsFunction: o.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.eachNode(cmd, args[0], func(c *api.Client, id string) (any, func(io.Writer), error) {
				var s api.Script
				what := "/render?dialect=" + url.QueryEscape(dialect)
				switch {
				case handoff:
					what = "/handoff"
				case template != "":
					what = "/recipes/" + url.PathEscape(template) + "?policy=" + url.QueryEscape(policy)
				case policy != "":
					return nil, nil, usageError{errors.New("--policy is for --template: a boot script is that of the node as it is")}
				}
				err := c.Get(cmd.Context(), "/api/v1/nodes/"+url.PathEscape(id)+what, &s)
				return s, func(w io.Writer) { verbatim(w, s.Text) }, err
			})
		},
	}
	c.Flags().StringVar(&dialect, "dialect", "ipxe", "ipxe, grub or pxelinux")
	c.Flags().StringVar(&template, "template", "", "a recipe of the node's task as its installer would get it, secrets and tokens hidden")
	c.Flags().StringVar(&policy, "policy", "", "with --template: as if this policy had just taken the node")
	o.completeFlag(c, "policy", broker.KindPolicy)
	c.Flags().BoolVar(&handoff, "handoff", false, "the script that takes over after the install, its secrets hidden")
	c.MarkFlagsMutuallyExclusive("template", "handoff")
	complete(c, "dialect", "ipxe", "grub", "pxelinux")
	return c
}
