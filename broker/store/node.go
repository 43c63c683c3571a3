package store

import (
	"errors"
	"fmt"
	"maps"

	"muster/broker"
)

// kept is what the store has of a node beside its document. It is written when it changes, which most check-ins do not.
type kept struct {
	columns
	keys map[key]bool // own and shared
}

// columns are what nodes are found and sorted by. That they were last seen is not among them: it changes always.
type columns struct {
	state                            broker.State
	policy, hostname, created, since string
	tags                             string
}

func keptOf(n *broker.Node) kept {
	keys := keysOf(n.Indexed())
	maps.Copy(keys, keysOf(n.Shared()))
	s := broker.NodeSummary{Created: n.Created, Since: n.Since}
	return kept{columns{n.State, n.Policy, n.Hostname, s.SortedBy("created"), s.SortedBy("since"), column(wordsOf(n.Tags))}, keys}
}

func (x *tx) scanNode(row interface{ Scan(...any) error }, what string) (*broker.Node, error) {
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return nil, missing(what, err)
	}
	n, err := decodeNode(doc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if x.kept != nil {
		x.kept[n.ID] = keptOf(n)
	}
	if n.Facts.Known() {
		n.Facts.ReadBy(func() ([]byte, error) { return x.facts(n) })
	}
	return n, nil
}

// facts are those that the node was read with: another copy of it may have got others in the same transaction.
func (x *tx) facts(n *broker.Node) (doc []byte, err error) {
	if err = x.row("SELECT doc FROM facts WHERE node = $1 AND hash = $2", n.ID, n.Facts.Hash).Scan(&doc); err != nil {
		return nil, missing("facts of node "+n.ID, err)
	}
	return doc, nil
}

func (x *tx) Node(id string) (*broker.Node, error) {
	return x.scanNode(x.row("SELECT doc FROM nodes WHERE id = $1", id), "node "+id)
}

func (x *tx) NodeByKey(kind broker.KeyKind, v string) (*broker.Node, error) {
	return x.scanNode(x.row("SELECT doc FROM nodes JOIN keys ON node = id WHERE kind = $1 AND value = $2", string(kind), v), "node by "+string(kind))
}

func (x *tx) NodesSharing(kind broker.KeyKind, v string) ([]*broker.Node, error) {
	return x.nodes("SELECT doc FROM shared_keys JOIN nodes ON node = id WHERE kind = $1 AND value = $2 ORDER BY num", string(kind), v)
}

func (x *tx) nodes(query string, args ...any) ([]*broker.Node, error) {
	rows, err := x.query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer rows.Close()
	var nodes []*broker.Node
	for rows.Next() {
		n, err := x.scanNode(rows, "node")
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, rows.Err()
}

func (x *tx) NodeIDs() (ids []string, err error) {
	rows, err := x.query("SELECT id FROM nodes ORDER BY num")
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (x *tx) Count(f broker.NodeFilter) (n int, err error) {
	where, args := filtered(f)
	if err = x.row("SELECT count(*)"+where, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return n, nil
}

func (x *tx) PutNode(n *broker.Node) error {
	doc, err := encodeNode(n)
	brief, err2 := encodeBrief(broker.InList(n))
	if err = errors.Join(err, err2); err == nil {
		err = x.putNode(n, brief, doc)
	}
	if err != nil {
		delete(x.kept, n.ID) // who knows how far it came
		return fmt.Errorf("write node %s: %w", n.ID, err)
	}
	return nil
}

func (x *tx) putNode(n *broker.Node, brief, doc []byte) (err error) {
	was, known := x.kept[n.ID]
	is := keptOf(n)
	seen := (&broker.NodeSummary{LastSeen: n.LastSeen}).SortedBy("seen")
	if known && was.columns == is.columns {
		_, err = x.exec("UPDATE nodes SET seen = $2, brief = $3, doc = $4 WHERE id = $1", n.ID, seen, brief, doc)
	} else {
		err = x.putRow(n.ID, is.columns, seen, brief, doc)
	}
	if err == nil && !(known && maps.Equal(was.keys, is.keys)) {
		err = x.putKeys(n)
	}
	if fresh := n.Facts.Fresh(); err == nil && fresh != nil {
		_, err = x.exec("INSERT INTO facts(node, hash, doc) VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE SET hash = excluded.hash, doc = excluded.doc",
			n.ID, n.Facts.Hash, fresh)
	}
	if err == nil && x.kept != nil {
		x.kept[n.ID] = is
	}
	return err
}

// putRow writes a node that is new, or is to be found or sorted by something else.
func (x *tx) putRow(id string, c columns, seen string, brief, doc []byte) error {
	args := []any{id, string(c.state), c.policy, c.hostname, c.created, c.since, c.tags, seen, brief, doc}
	r, err := x.exec("UPDATE nodes SET state = $2, policy = $3, hostname = $4, created = $5, since = $6, tags = $7, seen = $8, brief = $9, doc = $10 WHERE id = $1", args...)
	if err != nil {
		return err
	}
	if old, err := r.RowsAffected(); err != nil || old > 0 {
		return err
	}
	_, err = x.exec(`INSERT INTO nodes(id, num, state, policy, hostname, created, since, tags, seen, brief, doc)
		VALUES ($1, (SELECT coalesce(max(num), 0) + 1 FROM nodes), $2, $3, $4, $5, $6, $7, $8, $9, $10)`, args...)
	return err
}

func (x *tx) DeleteNode(id string) error {
	delete(x.kept, id)
	err := x.dropKeys(id)
	if err == nil {
		_, err = x.exec("DELETE FROM facts WHERE node = $1", id)
	}
	if err != nil {
		return fmt.Errorf("delete node %s: %w", id, err)
	}
	return x.deleteOne("node "+id, "DELETE FROM nodes WHERE id = $1", id)
}
