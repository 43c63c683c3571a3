package broker

import (
	"context"
	"strings"

	"muster/broker/noderange"
)

// selectNodes says which nodes a range means.
func (b *Broker) selectNodes(tx Tx, text string) (noderange.Selection, error) {
	r, err := noderange.Parse(text)
	if err != nil {
		return noderange.Selection{}, invalid("%s", err)
	}
	if name, ok := r.Name(); ok {
		n, err := lookup(tx, name)
		if err != nil {
			return noderange.Selection{}, err
		}
		return noderange.Selection{IDs: []string{n.ID}}, nil
	}
	var all []noderange.Node
	_, err = eachListed(context.Background(), tx, ListFilter{}, func(n *Listed) (bool, error) {
		all = append(all, rangeNode(n))
		return true, nil
	})
	if err != nil {
		return noderange.Selection{}, err
	}
	s, err := r.Select(all, b.cat.Load().tagNames())
	if err != nil {
		return s, notFound("%s: %s", text, err)
	}
	return s, nil
}

// rangeNode is what a range may call a node.
func rangeNode(n *Listed) noderange.Node {
	x := noderange.Node{ID: n.ID, Carries: n.Tags, Undecided: n.Undecided}
	for _, m := range n.MACs {
		x.Names = append(x.Names, m, strings.ReplaceAll(m, ":", "-"))
	}
	if n.Hostname != "" {
		x.Names = append(x.Names, n.Hostname)
		if label, _, dotted := strings.Cut(n.Hostname, "."); dotted {
			x.Short = label
		}
	}
	return x
}
