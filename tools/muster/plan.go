package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

func planCommand(o *options) *cobra.Command {
	var file string
	var prune bool
	c := &cobra.Command{
		Use: "plan -f FILE|DIR|-", Short: "say what an apply would change, before it does",
		Long: "plan judges the stored facts of every node by the tags and policies of the files, and changes nothing: which tags\n" +
			"would come and go, which policy would take the node, what its disk would lose, and what it would boot next.",
		Example: "  muster plan -f rack.yaml\n  muster plan -f policies/ --prune -o json",
		Args:    exactly(0, "-f FILE only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := readDocuments(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			return plan(cmd, o, c, data, prune)
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file, directory, or - for standard input")
	c.Flags().BoolVar(&prune, "prune", false, "as apply --prune: delete what is not in the files")
	return c
}

func plan(cmd *cobra.Command, o *options, c *api.Client, data []byte, prune bool) error {
	p, err := c.Plan(cmd.Context(), data, prune)
	if err != nil {
		return err
	}
	return o.show(cmd.OutOrStdout(), p, func(w io.Writer) {
		appliedRows(w, p.Objects)
		row(w)
		if len(p.Nodes) > 0 {
			row(w, "NODE", "TAGS", "POLICY", "DISK", "THEN")
		}
		for _, n := range p.Nodes {
			row(w, n.Title, orDash(tagChanges(n)), orDash(n.Policy), orDash(diskText(n)), string(n.Then.Step)+": "+n.Then.Because)
		}
		row(w, fmt.Sprintf("%d of %d nodes would change", p.Changed, p.Changed+p.Same))
		if more := p.Changed - len(p.Nodes); more > 0 {
			row(w, fmt.Sprintf("%d of them are not shown", more))
		}
		if p.Protected > 0 {
			row(w, fmt.Sprintf("%d protected nodes would be taken at an operator's word (muster node unprotect), and %d of them lose data", p.Protected, p.Loses))
		}
	})
}

func tagChanges(n broker.NodePlan) string {
	var words []string
	for _, t := range n.Gains {
		words = append(words, "+"+t)
	}
	for _, t := range n.Loses {
		words = append(words, "-"+t)
	}
	for _, t := range n.Undecided {
		words = append(words, "?"+t)
	}
	return strings.Join(words, " ")
}

func diskText(n broker.NodePlan) string {
	if n.Disk == "" {
		return ""
	}
	if n.Loss == "" {
		return n.Disk + ", blank"
	}
	return n.Disk + ", loses " + n.Loss
}
