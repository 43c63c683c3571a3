package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/agent/facts"
	"muster/broker"
	"muster/broker/api"
)

func getCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "get nodes|tags|policies|repos|ramdisks|hooks|handoffs|events [NAME]", Short: "list what the server knows",
		Example: "  muster get nodes\n  muster get policies -o yaml",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			switch {
			case strings.TrimSuffix(args[0], "s") == "node" && len(args) == 2:
				return describeNode(cmd, o, c, args[1])
			case strings.TrimSuffix(args[0], "s") == "node":
				return getNodes(cmd, o, c)
			case strings.TrimSuffix(args[0], "s") == "event":
				return printTimeline(cmd, o, c, "", false)
			case strings.TrimSuffix(args[0], "s") == "hook":
				return getHooks(cmd, o, c, append(args, "")[1])
			}
			return getObjects(cmd, o, c, args)
		},
	}
}

func getNodes(cmd *cobra.Command, o *options, c *api.Client) error {
	var nodes []*broker.Node
	if err := c.Get(cmd.Context(), "/api/v1/nodes", &nodes); err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), nodes, func(w io.Writer) {
		row(w, "NODE", "HOSTNAME", "STATE", "SINCE", "POLICY", "TAGS", "MAC", "SEEN")
		for _, n := range nodes {
			row(w, n.ID, orDash(n.Hostname), stateText(n), ago(n.Since), orDash(n.Policy), orDash(strings.Join(n.CarriedTags(), ",")),
				orDash(first(n.Keys.MACs)), ago(n.LastSeen))
		}
	})
}

func stateText(n *broker.Node) string {
	switch {
	case n.Hold != "":
		return string(n.State) + " (hold)"
	case n.Protected:
		return string(n.State) + " (protected)"
	}
	return string(n.State)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func getObjects(cmd *cobra.Command, o *options, c *api.Client, args []string) error {
	kind, err := kindOf(args[0])
	if err != nil {
		return err
	}
	var docs []json.RawMessage
	if err := c.Get(cmd.Context(), "/api/v1/objects/"+kind, &docs); err != nil {
		return err
	}
	if len(args) == 2 {
		for _, d := range docs {
			var named struct{ Name string }
			if json.Unmarshal(d, &named) == nil && named.Name == args[1] {
				return o.show(cmd.OutOrStdout(), d, func(w io.Writer) { row(w, string(d)) })
			}
		}
		return fmt.Errorf("there is no %s %q", strings.ToLower(kind), args[1])
	}
	return o.show(cmd.OutOrStdout(), docs, func(w io.Writer) { objectTable(w, kind, docs) })
}

// objectTable prints objects of one kind; what does not decode is shown as it is.
func objectTable(w io.Writer, kind string, docs []json.RawMessage) {
	heads := map[string][]any{
		broker.KindTag:     {"TAG", "RULE"},
		broker.KindPolicy:  {"POLICY", "ORDER", "TAGS", "TASK", "REPO", "MAX", "APPROVAL", "WIPE"},
		broker.KindRepo:    {"REPO", "SIZE", "UNPACKED", "SHA256"},
		broker.KindHandoff: {"HANDOFF", "TYPE", "CONFIG"},
		broker.KindRamdisk: {"RAMDISK", "ARCH", "KERNEL", "ORDER", "TAGS", "SIZE", "SIGNED", "IMPORTED"},
	}
	row(w, heads[kind]...)
	for _, d := range docs {
		var t broker.Tag
		var p broker.Policy
		var r broker.Repo
		switch {
		case kind == broker.KindTag && json.Unmarshal(d, &t) == nil:
			row(w, t.Name, t.Rule)
		case kind == broker.KindPolicy && json.Unmarshal(d, &p) == nil:
			row(w, p.Name, p.Order, orDash(strings.Join(p.Tags, ",")+p.Match), p.Task, orDash(p.Repo), p.Max, orDash(p.Approval), p.Wipe)
		case kind == broker.KindRepo && json.Unmarshal(d, &r) == nil:
			row(w, r.Name, bytesText(r.SizeBytes), bytesText(r.RawBytes), r.SHA256)
		case kind == broker.KindHandoff && handoffRow(w, d):
		case kind == broker.KindRamdisk && ramdiskRow(w, d):
		default:
			row(w, string(d))
		}
	}
}

func describeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "describe node|ramdisk|hook|handoff NAME", Short: "all about one node (hardware, errors of collectors, state), ramdisk, hook or handoff",
		Example: "  muster describe node node1\n  muster describe node 52:54:00:12:34:56 -o json\n  muster describe ramdisk standard", Args: exactly(2, "a kind and a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch strings.TrimSuffix(args[0], "s") {
			case "node":
			case "hook":
				return describeHook(cmd, o, args[1])
			case "handoff":
				return describeHandoff(cmd, o, args[1])
			case "ramdisk":
				return describeRamdisk(cmd, o, args[1])
			default:
				return usageError{fmt.Errorf("kind %q: want node, ramdisk, hook or handoff", args[0])}
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			return describeNode(cmd, o, c, args[1])
		},
	}
}

func describeNode(cmd *cobra.Command, o *options, c *api.Client, name string) error {
	n, err := c.Node(cmd.Context(), name)
	if err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), n, func(w io.Writer) { nodeTable(w, n) })
}

func nodeTable(w io.Writer, n *broker.Node) {
	row(w, "node", n.ID)
	row(w, "hostname", orDash(n.Hostname))
	row(w, "state", stateText(n)+", since "+ago(n.Since))
	if n.LastError != "" {
		row(w, "last error", n.LastError)
	}
	if n.Hold != "" {
		row(w, "hold", n.Hold)
	}
	if n.Conflict != "" {
		row(w, "conflict", n.Conflict)
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
		Example: "  muster explain node1", Args: exactly(1, "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			x, err := c.Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), x, func(w io.Writer) { explanationTable(w, x) })
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
	var dialect string
	var handoff bool
	c := &cobra.Command{
		Use: "render NODE", Short: "the boot script that a node would get, its token hidden; or the script of its handoff",
		Example: "  muster render node1\n  muster render node1 --dialect grub\n  muster render node1 --handoff", Args: exactly(1, "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			var s api.Script
			what := "/render?dialect=" + url.QueryEscape(dialect)
			if handoff {
				what = "/handoff"
			}
			if err := c.Get(cmd.Context(), "/api/v1/nodes/"+url.PathEscape(args[0])+what, &s); err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), s, func(w io.Writer) { fmt.Fprint(w, s.Text) })
		},
	}
	c.Flags().StringVar(&dialect, "dialect", "ipxe", "ipxe, grub or pxelinux")
	c.Flags().BoolVar(&handoff, "handoff", false, "the script that takes over after the install, its secrets hidden")
	return c
}

func nodeCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "act on a node"}
	for verb, short := range map[string]string{
		"protect":   "let no policy take the node that asks for approval",
		"unprotect": "approve the node: policies may take it",
		"hold":      "install the node no more until it is released",
		"release":   "end a hold; loop counts start anew",
		"reinstall": "start the node's task from its first stage",
		"abort":     "end the install under way",
		"resolve":   "end a conflict of ids: learn UUID and serial anew",
		"delete":    "forget the node",
	} {
		var wipe bool
		var why string
		sub := &cobra.Command{
			Use: verb + " NODE", Short: short, Example: "  muster node " + verb + " node1", Args: exactly(1, "NODE"),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := o.connect()
				if err != nil {
					return err
				}
				n, err := c.Act(cmd.Context(), args[0], broker.Act{Verb: verb, Wipe: wipe, Why: why})
				if err != nil {
					return err
				}
				return o.show(cmd.OutOrStdout(), n, func(w io.Writer) { row(w, "node/"+n.ID, verb, stateText(n)) })
			},
		}
		sub.Flags().StringVar(&why, "why", "", "a few words for the journal")
		if verb == "reinstall" {
			sub.Flags().BoolVar(&wipe, "wipe", false, "the disk may lose what it holds, this once")
		}
		c.AddCommand(sub)
	}
	return c
}
