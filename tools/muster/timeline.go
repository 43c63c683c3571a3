package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

func timelineCommand(o *options) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use: "timeline NODE", Short: "what happened to a node, from its first packet on",
		Example: "  muster timeline node1 --follow\n  muster timeline node1 -o json", Args: exactly(1, "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			return printTimeline(cmd, o, c, args[0], follow)
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "go on with what happens next")
	return c
}

// printTimeline prints events as they come: JSON lines, or one line each with the time since the first.
func printTimeline(cmd *cobra.Command, o *options, c *api.Client, node string, follow bool) error {
	t := timeline{out: cmd.OutOrStdout(), json: o.output == "json"}
	var last int64
	for wait := false; ; {
		events, err := c.Events(cmd.Context(), node, last, wait)
		if err != nil {
			return err
		}
		for _, e := range events {
			last = e.Seq
			if err := t.print(e); err != nil {
				return err
			}
		}
		switch {
		case len(events) == 0 && !follow:
			return nil
		case len(events) == 0:
			wait = true
		}
	}
}

// A timeline writes events one by one.
type timeline struct {
	out   io.Writer
	json  bool
	start time.Time
}

func (t *timeline) print(e broker.Event) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(e)
	}
	if t.start.IsZero() {
		t.start = e.Time
	}
	_, err := fmt.Fprintf(t.out, "%7.1fs  %-15s  %s\n", e.Time.Sub(t.start).Seconds(), e.Kind, plain(e.Text))
	return err
}
