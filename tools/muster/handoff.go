package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/broker"
)

func handoffRow(w io.Writer, doc json.RawMessage) bool {
	var h broker.Handoff
	if json.Unmarshal(doc, &h) != nil {
		return false
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(h.Config)) {
		words = append(words, k+"="+firstLine(h.Config[k]))
	}
	row(w, h.Name, cmp.Or(h.Type, "(own template)"), orDash(strings.Join(words, " ")))
	return true
}

// firstLine is as much of a text as a table has room for.
func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more || len(line) > 40 {
		return line[:min(len(line), 40)] + "..."
	}
	return line
}

func describeHandoff(cmd *cobra.Command, o *options, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	doc, err := c.Object(cmd.Context(), broker.KindHandoff, name)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	var h broker.Handoff
	if err := json.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("read handoff %s: %w", name, err)
	}
	return o.show(cmd.OutOrStdout(), doc, func(w io.Writer) {
		row(w, "handoff", h.Name)
		row(w, "type", cmp.Or(h.Type, "(own template)"))
		for _, k := range slices.Sorted(maps.Keys(h.Config)) {
			row(w, k, firstLine(h.Config[k]))
		}
		for _, line := range strings.Split(strings.TrimSpace(h.Template), "\n") {
			row(w, "", line)
		}
	})
}
