package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/broker"
	"muster/broker/api"
)

// journalFlags choose events.
type journalFlags struct {
	who   string
	since string
	kinds []string
}

func (f *journalFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.who, "who", "", "events: only what this operator did")
	fl.StringVar(&f.since, "since", "", "events: not before: 90m, 24h, 7d, or a time such as 2026-11-27T08:00:00Z")
	fl.StringSliceVar(&f.kinds, "kind", nil, "events: only of these kinds, by comma, such as node.state,node.failed")
}

func (f *journalFlags) query(nodes string, now time.Time) (broker.JournalQuery, error) {
	since, err := moment(f.since, now, -1)
	return broker.JournalQuery{Range: nodes, Who: f.who, Kinds: f.kinds, Since: since}, err
}

// moment reads a time, or a duration before (-1) or after (1) now.
func moment(text string, now time.Time, way time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); n == 1 && err == nil && fmt.Sprintf("%dd", days) == text && days >= 0 && days < 100_000 {
		return now.AddDate(0, 0, days*int(way)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, usageError{fmt.Errorf("time %q: want 90m, 24h, 7d, 2026-11-27 or 2026-11-27T08:00:00Z", text)}
	}
	return now.Add(way * d), nil
}

func timelineCommand(o *options) *cobra.Command {
	var follow bool
	f := &journalFlags{}
	c := &cobra.Command{
		Use: "timeline NODE", Short: "what happened to a node, from its first packet on, and what it waits for",
		Long: "timeline prints the events of a node, or of a range, and for one node how long each phase of its newest boot or\n" +
			"install took and where it is now. -o jsonl prints each event as a line of JSON.\n\n" + rangeHelp,
		Example: "  muster timeline node1 --follow\n  muster timeline node1 --since 2h\n  muster timeline r12n[01-36] -o jsonl", Args: exactly(1, "NODE"),
		ValidArgsFunction: o.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			q, err := f.query(args[0], time.Now())
			if err != nil {
				return err
			}
			if follow {
				return followJournal(cmd, o, c, q)
			}
			return printTimeline(cmd, o, c, q)
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "go on with what happens next")
	f.add(c.Flags())
	return c
}

func eventsCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "events", Short: "the journal as a file", Example: "  muster events export > journal.jsonl"}
	f := &journalFlags{}
	export := &cobra.Command{
		Use: "export [NODE]", Short: "every event as a line of JSON, oldest first",
		Example: "  muster events export --since 7d > week.jsonl\n  muster events export @gpu --kind node.failed",
		Args:    between(0, 1, "at most one NODE"), ValidArgsFunction: o.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			q, err := f.query(first(args), time.Now())
			if err != nil {
				return err
			}
			_, err = c.Journal(cmd.Context(), q, eventLines(cmd.OutOrStdout()))
			return err
		},
	}
	f.add(export.Flags())
	c.AddCommand(export)
	return c
}

func eventLines(w io.Writer) func(broker.Event) error {
	return func(e broker.Event) error { return json.NewEncoder(w).Encode(e) }
}

// printJournal prints the journal: lines of JSON, one document, or one line each.
func printJournal(cmd *cobra.Command, o *options, c *api.Client, nodes string, f *journalFlags) error {
	q, err := f.query(nodes, time.Now())
	if err != nil {
		return err
	}
	if o.output == "jsonl" {
		_, err := c.Journal(cmd.Context(), q, eventLines(cmd.OutOrStdout()))
		return err
	}
	events, err := readJournal(cmd.Context(), c, q)
	if err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), events, func(w io.Writer) {
		row(w, "TIME", "NODE", "KIND", "WHO", "TEXT")
		for _, e := range events {
			row(w, e.Time.Local().Format("01-02 15:04:05"), orDash(e.Node), e.Kind, orDash(e.Who), e.Text)
		}
	})
}

func readJournal(ctx context.Context, c *api.Client, q broker.JournalQuery) ([]broker.Event, error) {
	events := []broker.Event{}
	_, err := c.Journal(ctx, q, func(e broker.Event) error { events = append(events, e); return nil })
	return events, err
}

// printTimeline prints the events of a range, and of one node the phases.
func printTimeline(cmd *cobra.Command, o *options, c *api.Client, q broker.JournalQuery) error {
	if o.output == "jsonl" {
		_, err := c.Journal(cmd.Context(), q, eventLines(cmd.OutOrStdout()))
		return err
	}
	events, err := readJournal(cmd.Context(), c, q)
	if err != nil {
		return err
	}
	if isRange(q.Range) {
		return o.show(cmd.OutOrStdout(), events, func(w io.Writer) { eventTable(w, events, true) })
	}
	t, err := c.Timeline(cmd.Context(), q.Range)
	if err != nil {
		return err
	}
	all := struct {
		*broker.Timeline
		Events []broker.Event `json:"events"`
	}{t, events}
	if o.asData() {
		return o.show(cmd.OutOrStdout(), all, nil)
	}
	if err := o.show(cmd.OutOrStdout(), nil, func(w io.Writer) { eventTable(w, events, false) }); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return o.show(cmd.OutOrStdout(), nil, func(w io.Writer) { phaseTable(w, t) })
}

// eventTable has a line for each event, with the time since the first.
func eventTable(w io.Writer, events []broker.Event, nodes bool) {
	for _, e := range events {
		cells := []any{fmt.Sprintf("%8.1fs", e.Time.Sub(events[0].Time).Seconds()), e.Kind, e.Text}
		if nodes {
			cells = append([]any{orDash(e.Node)}, cells...)
		}
		row(w, cells...)
	}
}

func phaseTable(w io.Writer, t *broker.Timeline) {
	row(w, "PHASE", "TOOK", "BEGAN", "")
	for _, p := range t.Phases {
		row(w, p.Name, duration(p.MS), p.Begin.Local().Format("01-02 15:04:05"), "")
	}
	if s := t.Now; s != nil {
		row(w, s.Phase, duration(s.MS)+" so far", s.Since.Local().Format("01-02 15:04:05"), "waits for "+s.WaitsFor)
	}
	if t.Boots > 2 {
		row(w, "", "", "", fmt.Sprintf("%d boot scripts were given in this run", t.Boots))
	}
}

func duration(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// followJournal prints what there is, and then each event as it happens.
func followJournal(cmd *cobra.Command, o *options, c *api.Client, q broker.JournalQuery) error {
	p := &printer{out: cmd.OutOrStdout(), o: o, nodes: isRange(q.Range)}
	last, err := c.Journal(cmd.Context(), q, p.print)
	if err != nil {
		return err
	}
	q.After = last
	return c.Watch(cmd.Context(), q, p.print)
}

// A printer writes events one by one, as they come.
type printer struct {
	out   io.Writer
	o     *options
	nodes bool
	start time.Time
}

func (p *printer) print(e broker.Event) error {
	if p.o.asData() {
		return json.NewEncoder(p.out).Encode(e)
	}
	if p.start.IsZero() {
		p.start = e.Time
	}
	line := fmt.Sprintf("%8.1fs  %-15s  %s", e.Time.Sub(p.start).Seconds(), e.Kind, plain(e.Text))
	if p.nodes {
		line = fmt.Sprintf("%-10s %s", orDash(e.Node), line)
	}
	g := newGrid(p.out, p.o)
	row(g, line)
	return g.flush()
}

// watchNodes prints a line for each node that changed so that its line is another, as long as the list has it.
func watchNodes(cmd *cobra.Command, o *options, c *api.Client, q broker.NodeQuery, page *broker.NodePage) error {
	shown := map[string]string{}
	line := func(n *broker.NodeSummary) string { return fmt.Sprint(briefState(n), n.Hostname, n.Policy, n.Tags) }
	for i := range page.Nodes {
		shown[page.Nodes[i].ID] = line(&page.Nodes[i])
	}
	within := q.Range
	return c.Watch(cmd.Context(), broker.JournalQuery{Range: within, After: page.Seq}, func(e broker.Event) error {
		if e.Node == "" {
			return nil
		}
		q.Range, q.Sort, q.After = e.Node, "", ""
		now, err := c.Page(cmd.Context(), q)
		if err != nil || len(now.Nodes) == 0 {
			if _, was := shown[e.Node]; !was {
				return nil
			}
			delete(shown, e.Node)
			return o.showLine(cmd, map[string]string{"id": e.Node, "gone": plain(e.Text)}, e.Node, "-", "gone from the list: "+e.Text)
		}
		n := &now.Nodes[0]
		if shown[n.ID] == line(n) {
			return nil
		}
		shown[n.ID] = line(n)
		return o.showLine(cmd, n, nodeCells(n, o.output == "wide")...)
	})
}

// showLine prints one line of a list that goes on.
func (o *options) showLine(cmd *cobra.Command, v any, cells ...any) error {
	if o.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	return o.show(cmd.OutOrStdout(), v, func(w io.Writer) { row(w, cells...) })
}
