package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

// rangeHelp is what a NODE argument may be; package broker/noderange is the whole of it.
const rangeHelp = "NODE is an id, hostname or MAC, or a range of nodes:\n" +
	"  r12n[01-36]        every one of them          @gpu           those that carry the tag\n" +
	"  /r12n.*/           with such a name           r12n[1-9]@gpu  those of both\n" +
	"  a,b,-c             a and b but not c          all            every node, said aloud\n" +
	"A name that no node has is an error."

// verbs is the table of what can be said to nodes.
var verbs = []struct {
	verb, short string
	asks        bool // before it is said to several at once: it can lose data or work
}{
	{"protect", "let no policy take the node that asks for approval", false},
	{"unprotect", "approve the node: policies may take it", true},
	{"hold", "install the node no more until it is released", false},
	{"release", "end a hold; loop counts start anew", true},
	{"reinstall", "start the node's task from its first stage", true},
	{"abort", "end the install under way", true},
	{"resolve", "end a conflict of ids: learn UUID and serial anew", true},
	{"pin", "leave the node to one policy, whatever its tags say", true},
	{"unpin", "end a pin", true},
	{"manage", "make the node known", false},
	{"provide", "make the node available to policies", false},
	{"clean", "clean the node, back to where it was", true},
	{"inspect", "have the machine boot the ramdisk and report anew", true},
	{"deploy", "have the policies take the node now, or start a failed install again", true},
	{"undeploy", "take the node from its policy; its disk stays as it is", true},
	{"delete", "forget the node", true},
}

// needs is what a verb can not be said without.
var needs = map[string]string{"pin": " --policy ceph-osd"}

func nodeCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "act on nodes", Long: "node acts on nodes. What can lose data asks before it does so to several.\n\n" + rangeHelp,
		Example: "  muster node unprotect node1\n  muster node reinstall r12n[01-36],-r12n07 --wipe"}
	for _, v := range verbs {
		a := act{o: o, asks: v.asks}
		sub := &cobra.Command{
			Use: v.verb + " NODE", Short: v.short, Long: v.verb + ": " + v.short + ".\n\n" + rangeHelp,
			Example: "  muster node " + v.verb + " node1" + needs[v.verb] + "\n  muster node " + v.verb + " r12n[01-36],-r12n07" + needs[v.verb] + " --why 'new rack'",
			Args:    exactly(1, "NODE"), ValidArgsFunction: o.completeNode,
			RunE: func(cmd *cobra.Command, args []string) error {
				a.Verb, a.asks = v.verb, a.asks || a.Wipe
				return a.run(cmd, args[0])
			},
		}
		sub.Flags().StringVar(&a.Why, "why", "", "a few words for the journal")
		if v.asks || v.verb == "provide" { // with --wipe
			sub.Flags().BoolVar(&a.yes, "yes", false, "do not ask, whatever nodes they are")
		}
		switch v.verb {
		case "reinstall", "deploy":
			sub.Flags().BoolVar(&a.Wipe, "wipe", false, "the disk may lose what it holds, this once")
		case "clean", "provide":
			sub.Flags().BoolVar(&a.Wipe, "wipe", false, "wipe its disks, this once: they may lose what they hold")
			sub.Flags().StringVar(&a.Method, "method", "", "how: auto (the default), signatures, discard, secure or overwrite")
			sub.Flags().StringSliceVar(&a.Disks, "disk", nil, "id, serial or WWN of a disk to wipe, whatever it is; without, all but removable, USB and shared disks")
		case "pin":
			sub.Flags().StringVar(&a.Policy, "policy", "", "the policy that alone may take the node")
		}
		c.AddCommand(sub)
	}
	c.AddCommand(metaCommand(o), registerCommand(o))
	return c
}

// metaCommand notes what operators know of nodes, for tags to read as meta.KEY.
func metaCommand(o *options) *cobra.Command {
	a := act{o: o, asks: true}
	c := &cobra.Command{
		Use: "meta NODE KEY=VALUE|KEY- ...", Short: "note what is known of the node, for tags to read", Args: cobra.MinimumNArgs(2), ValidArgsFunction: o.completeNode,
		Long: "meta notes what is known of nodes, for tags to read as meta.KEY. A value that is JSON is kept as that, anything else as text;\n" +
			"KEY- forgets.\n\n" + rangeHelp,
		Example: "  muster node meta node1 env=prod cores=32\n  muster node meta r12n[01-36] roles='[\"osd\",\"mon\"]' owner-",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Verb, a.Meta = "meta", map[string]any{}
			for _, word := range args[1:] {
				key, value, set := strings.Cut(word, "=")
				switch {
				case set:
					a.Meta[key] = metaValue(value)
				case strings.HasSuffix(word, "-"):
					a.Remove = append(a.Remove, strings.TrimSuffix(word, "-"))
				default:
					return usageError{fmt.Errorf("%q: want KEY=VALUE to set, or KEY- to forget", word)}
				}
			}
			return a.run(cmd, args[0])
		},
	}
	c.Flags().StringVar(&a.Why, "why", "", "a few words for the journal")
	c.Flags().BoolVar(&a.yes, "yes", false, "do not ask, whatever nodes they are")
	return c
}

func metaValue(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		return v
	}
	return text
}

// An act is one word said to one node, or to a range of them.
type act struct {
	broker.Act
	o         *options
	asks, yes bool
}

// An acted is what became of an act on one node.
type acted struct {
	Node     string `json:"node"`
	Hostname string `json:"hostname,omitempty"`
	Verb     string `json:"verb"`
	Result   string `json:"result"` // done, failed
	State    string `json:"state,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (a *act) run(cmd *cobra.Command, arg string) error {
	c, err := a.o.connect()
	if err != nil {
		return err
	}
	if !isRange(arg) {
		n, err := c.Act(cmd.Context(), arg, a.Act)
		if err != nil {
			return err
		}
		return a.o.show(cmd.OutOrStdout(), n, func(w io.Writer) { row(w, "node/"+n.ID, a.Verb, stateText(&n.Node)) })
	}
	page, err := c.Nodes(cmd.Context(), broker.NodeQuery{Range: arg})
	if err != nil {
		return err
	}
	tellUndecided(cmd.ErrOrStderr(), page)
	if a.asks && !a.yes && len(page.Nodes) > 1 {
		if err := a.confirm(cmd, page.Nodes); err != nil {
			return err
		}
	}
	outcomes := a.all(cmd.Context(), c, page.Nodes)
	err = a.o.show(cmd.OutOrStdout(), outcomes, func(w io.Writer) { outcomeTable(w, outcomes) })
	failed := 0
	for _, x := range outcomes {
		if x.Result != "done" {
			failed++
		}
	}
	if err == nil && failed > 0 {
		return fmt.Errorf("%s failed on %d of %d nodes", a.Verb, failed, len(outcomes))
	}
	return err
}

// confirm shows which nodes are meant, and asks on a terminal.
func (a *act) confirm(cmd *cobra.Command, nodes []broker.NodeSummary) error {
	t := newGrid(cmd.ErrOrStderr(), a.o)
	nodesTable(t, nodes, false)
	if err := t.flush(); err != nil {
		return err
	}
	if !isTerminal(cmd.InOrStdin()) {
		return usageError{fmt.Errorf("%s would be said to these %d nodes: say --yes if that is meant", a.Verb, len(nodes))}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s these %d nodes? Type their number: ", a.Verb, len(nodes))
	answer, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 100)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != fmt.Sprint(len(nodes)) {
		return fmt.Errorf("nothing was done")
	}
	return nil
}

// atOnce is how many acts are under way at one time; the server commits what comes together with one fsync.
const atOnce = 16

// all says the word to each node by its id: those that were shown, whatever changed since.
func (a *act) all(ctx context.Context, c *api.Client, nodes []broker.NodeSummary) []acted {
	outcomes := make([]acted, len(nodes))
	room := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, n := range nodes {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			x := acted{Node: n.ID, Hostname: n.Hostname, Verb: a.Verb, Result: "done"}
			after, err := c.Act(ctx, n.ID, a.Act)
			if err != nil {
				x.Result, x.Error = "failed", err.Error()
			} else {
				x.State = stateText(&after.Node)
			}
			outcomes[i] = x
		})
	}
	wg.Wait()
	return outcomes
}

func outcomeTable(w io.Writer, outcomes []acted) {
	row(w, "NODE", "HOSTNAME", "RESULT", "STATE", "WHY")
	for _, x := range outcomes {
		row(w, x.Node, orDash(x.Hostname), x.Result, orDash(x.State), x.Error)
	}
}

// isRange says that a NODE argument may mean several, even when it comes to one: scripts get one form for it.
func isRange(arg string) bool { return arg == "all" || strings.ContainsAny(arg, "[],/@ ") }

// eachNode shows something of every node of a range, one by one; JSON is a list then.
func (o *options) eachNode(cmd *cobra.Command, arg string, read func(c *api.Client, id string) (any, func(io.Writer), error)) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	if !isRange(arg) {
		v, table, err := read(c, arg)
		if err != nil {
			return err
		}
		return o.show(cmd.OutOrStdout(), v, table)
	}
	page, err := c.Nodes(cmd.Context(), broker.NodeQuery{Range: arg})
	if err != nil {
		return err
	}
	tellUndecided(cmd.ErrOrStderr(), page)
	list := []json.RawMessage{}
	for i, n := range page.Nodes {
		v, table, err := read(c, n.ID)
		if err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
		if o.asData() {
			raw, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("encode: %w", err)
			}
			list = append(list, raw)
			continue
		}
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace("# "+n.ID+" "+n.Hostname))
		if err := o.show(cmd.OutOrStdout(), v, table); err != nil {
			return err
		}
	}
	if o.asData() {
		return o.show(cmd.OutOrStdout(), list, nil)
	}
	return nil
}
