package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"muster/broker"
)

// tx is a broker.Tx in one SQL transaction.
type tx struct{ t *sql.Tx }

var _ broker.Tx = (*tx)(nil)

func missing(what string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, broker.ErrNotFound)
	}
	return fmt.Errorf("read %s: %w", what, err)
}

func scanNode(row interface{ Scan(...any) error }, what string) (*broker.Node, error) {
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return nil, missing(what, err)
	}
	n := &broker.Node{}
	if err := json.Unmarshal(doc, n); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return n, nil
}

func (x *tx) Node(id string) (*broker.Node, error) {
	return scanNode(x.t.QueryRow("SELECT doc FROM nodes WHERE id = ?", id), "node "+id)
}

func (x *tx) NodeByKey(kind broker.KeyKind, v string) (*broker.Node, error) {
	return scanNode(x.t.QueryRow("SELECT doc FROM nodes JOIN keys ON node = id WHERE kind = ? AND value = ?", string(kind), v), "node by "+string(kind))
}

const filtered = " FROM nodes WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR policy = ?2)"

func (x *tx) Nodes(f broker.NodeFilter) ([]*broker.Node, error) {
	if f.After == "" && f.Limit <= 0 {
		return x.nodes("SELECT doc"+filtered+" ORDER BY num", string(f.State), f.Policy)
	}
	// Ids rise with num: node9, node10. The place of an id stays where it was when its node is gone.
	return x.nodes("SELECT doc"+filtered+` AND num > (SELECT coalesce(max(num), 0) FROM nodes
		WHERE length(id) < length(?3) OR length(id) = length(?3) AND id <= ?3) ORDER BY num LIMIT ?4`,
		string(f.State), f.Policy, f.After, cmp.Or(f.Limit, -1))
}

func (x *tx) NodesSharing(kind broker.KeyKind, v string) ([]*broker.Node, error) {
	return x.nodes("SELECT doc FROM shared_keys JOIN nodes ON node = id WHERE kind = ? AND value = ? ORDER BY num", string(kind), v)
}

func (x *tx) nodes(query string, args ...any) ([]*broker.Node, error) {
	rows, err := x.t.Query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer rows.Close()
	var nodes []*broker.Node
	for rows.Next() {
		n, err := scanNode(rows, "node")
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, rows.Err()
}

func (x *tx) Count(f broker.NodeFilter) (n int, err error) {
	if err = x.t.QueryRow("SELECT count(*)"+filtered, string(f.State), f.Policy).Scan(&n); err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return n, nil
}

func (x *tx) PutNode(n *broker.Node) error {
	doc, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write node %s: %w", n.ID, err)
	}
	_, err = x.t.Exec(`INSERT INTO nodes(id, num, state, policy, doc) VALUES (?, (SELECT coalesce(max(num), 0) + 1 FROM nodes), ?, ?, ?)
		ON CONFLICT(id) DO UPDATE SET state = excluded.state, policy = excluded.policy, doc = excluded.doc`,
		n.ID, string(n.State), n.Policy, doc)
	if err != nil {
		return fmt.Errorf("write node %s: %w", n.ID, err)
	}
	return x.putKeys(n)
}

func (x *tx) putKeys(n *broker.Node) error {
	if err := x.dropKeys(n.ID); err != nil {
		return fmt.Errorf("write keys of node %s: %w", n.ID, err)
	}
	for kind, values := range n.Shared() {
		for _, v := range values {
			if _, err := x.t.Exec("INSERT INTO shared_keys(kind, value, node) VALUES (?, ?, ?)", string(kind), v, n.ID); err != nil {
				return fmt.Errorf("write keys of node %s: %w", n.ID, err)
			}
		}
	}
	for kind, values := range n.Indexed() {
		for _, v := range values {
			var owner string
			err := x.t.QueryRow("INSERT INTO keys(kind, value, node) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET node = node RETURNING node",
				string(kind), v, n.ID).Scan(&owner)
			if err != nil {
				return fmt.Errorf("write keys of node %s: %w", n.ID, err)
			}
			if owner != n.ID {
				return fmt.Errorf("%s %s of node %s belongs to node %s: %w", kind, v, n.ID, owner, broker.ErrConflict)
			}
		}
	}
	return nil
}

func (x *tx) dropKeys(id string) error {
	_, err := x.t.Exec("DELETE FROM keys WHERE node = ?", id)
	if err == nil {
		_, err = x.t.Exec("DELETE FROM shared_keys WHERE node = ?", id)
	}
	return err
}

func (x *tx) DeleteNode(id string) error {
	if err := x.dropKeys(id); err != nil {
		return fmt.Errorf("delete node %s: %w", id, err)
	}
	return x.deleteOne("node "+id, "DELETE FROM nodes WHERE id = ?", id)
}

func (x *tx) deleteOne(what, query string, args ...any) error {
	r, err := x.t.Exec(query, args...)
	if err != nil {
		return fmt.Errorf("delete %s: %w", what, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("%s: %w", what, broker.ErrNotFound))
	}
	return nil
}

func (x *tx) Object(kind, name string) (broker.Object, error) {
	o := broker.Object{Kind: kind, Name: name}
	if err := x.t.QueryRow("SELECT doc FROM objects WHERE kind = ? AND name = ?", kind, name).Scan(&o.Doc); err != nil {
		return o, missing(kind+" "+name, err)
	}
	return o, nil
}

func (x *tx) Objects(kind string) ([]broker.Object, error) {
	rows, err := x.t.Query("SELECT name, doc FROM objects WHERE kind = ? ORDER BY name", kind)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	defer rows.Close()
	var list []broker.Object
	for rows.Next() {
		o := broker.Object{Kind: kind}
		if err := rows.Scan(&o.Name, &o.Doc); err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		list = append(list, o)
	}
	return list, rows.Err()
}

func (x *tx) PutObject(o broker.Object) error {
	_, err := x.t.Exec("INSERT INTO objects(kind, name, doc) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET doc = excluded.doc", o.Kind, o.Name, o.Doc)
	if err != nil {
		return fmt.Errorf("write %s %s: %w", o.Kind, o.Name, err)
	}
	return nil
}

func (x *tx) DeleteObject(kind, name string) error {
	return x.deleteOne(kind+" "+name, "DELETE FROM objects WHERE kind = ? AND name = ?", kind, name)
}

func (x *tx) Append(e *broker.Event) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := x.t.QueryRow("INSERT INTO events(node, doc) VALUES (?, ?) RETURNING seq", e.Node, doc).Scan(&e.Seq); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

func (x *tx) Events(f broker.EventFilter) ([]broker.Event, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	query, args := "SELECT seq, doc FROM events WHERE seq > ? ORDER BY seq LIMIT ?", []any{f.After, f.Limit}
	if f.Node != "" {
		query, args = "SELECT seq, doc FROM events WHERE node = ? AND seq > ? ORDER BY seq LIMIT ?", []any{f.Node, f.After, f.Limit}
	}
	rows, err := x.t.Query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	var events []broker.Event
	for rows.Next() {
		var seq int64
		var doc []byte
		if err := rows.Scan(&seq, &doc); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		var e broker.Event
		if err := json.Unmarshal(doc, &e); err != nil {
			return nil, fmt.Errorf("read event %d: %w", seq, err)
		}
		e.Seq = seq
		events = append(events, e)
	}
	return events, rows.Err()
}

func (x *tx) Counter(name string) (n int64, err error) {
	err = x.t.QueryRow("INSERT INTO counters(name, value) VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value", name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", name, err)
	}
	return n, nil
}
