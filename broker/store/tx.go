package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/broker"
)

// tx is a broker.Tx in one SQL transaction. Its statements are of the SQL that both engines speak.
type tx struct {
	ctx      context.Context
	t        *sql.Tx
	prepared *prepared
	revision int64 // of the objects, in an update
	appended span
	kept     map[string]kept // in an update: the nodes that were read or put in it
}

// kept is what the store has of a node beside its document. It is written when it changes, which most check-ins do not.
type kept struct {
	columns
	keys map[key]bool // own and shared
}

// columns are what nodes are found and sorted by. That they were last seen is not among them: it changes always.
type columns struct {
	state                            broker.State
	policy, hostname, created, since string
}

func keptOf(n *broker.Node) kept {
	keys := keysOf(n.Indexed())
	maps.Copy(keys, keysOf(n.Shared()))
	s := broker.NodeSummary{Created: n.Created, Since: n.Since}
	return kept{columns{n.State, n.Policy, n.Hostname, s.SortedBy("created"), s.SortedBy("since")}, keys}
}

var _ broker.Tx = (*tx)(nil)

func (x *tx) exec(query string, args ...any) (sql.Result, error) {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.ExecContext(x.ctx, args...)
	}
	return x.t.ExecContext(x.ctx, query, args...)
}

func (x *tx) query(query string, args ...any) (*sql.Rows, error) {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.QueryContext(x.ctx, args...)
	}
	return x.t.QueryContext(x.ctx, query, args...)
}

func (x *tx) row(query string, args ...any) *sql.Row {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.QueryRowContext(x.ctx, args...)
	}
	return x.t.QueryRowContext(x.ctx, query, args...)
}

func missing(what string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, broker.ErrNotFound)
	}
	return fmt.Errorf("read %s: %w", what, err)
}

func (x *tx) scanNode(row interface{ Scan(...any) error }, what string) (*broker.Node, error) {
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return nil, missing(what, err)
	}
	n := &broker.Node{}
	if err := json.Unmarshal(doc, n); err != nil {
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

// filtered says only what is asked for, so that indexes are used. That of policies leaves out nodes without one, which
// the planner must be told.
func filtered(f broker.NodeFilter) (where string, args []any) {
	where = " FROM nodes WHERE true"
	if f.State != "" {
		args = append(args, string(f.State))
		where += fmt.Sprintf(" AND state = $%d", len(args))
	}
	if f.Policy != "" {
		args = append(args, f.Policy)
		where += fmt.Sprintf(" AND policy = $%d AND policy != ''", len(args))
	}
	if f.Hostname != "" { // the sign after the dot is the slash
		args = append(args, f.Hostname, f.Hostname+".", f.Hostname+"/")
		where += fmt.Sprintf(" AND hostname != '' AND (hostname = $%d OR hostname >= $%d AND hostname < $%d)", len(args)-2, len(args)-1, len(args))
	}
	return where, args
}

// paged adds the order, and where in it to begin and to end. Ids rise with num: node9, node10. The place of an id stays
// where it was when its node is gone.
func paged(f broker.ListFilter) (where string, args []any) {
	where, args = filtered(f.NodeFilter)
	column, way, beyond := strings.TrimPrefix(f.Sort, "-"), "", ">"
	if column != f.Sort {
		way, beyond = " DESC", "<"
	}
	if f.After != "" {
		behind := fmt.Sprintf(`num > (SELECT coalesce(max(num), 0) FROM nodes
			WHERE length(id) < length($%[1]d) OR length(id) = length($%[1]d) AND id <= $%[1]d)`, len(args)+1)
		args = append(args, f.After)
		if column != "" {
			behind = fmt.Sprintf("(%[1]s %[2]s $%[3]d OR %[1]s = $%[3]d AND %[4]s)", column, beyond, len(args)+1, behind)
			args = append(args, f.Key)
		}
		where += " AND " + behind
	}
	where += " ORDER BY "
	if column != "" {
		where += column + way + ", "
	}
	where += "num"
	if f.Limit > 0 {
		where += fmt.Sprintf(" LIMIT $%d", len(args)+1)
		args = append(args, f.Limit)
	}
	return where, args
}

func (x *tx) Nodes(f broker.NodeFilter) ([]*broker.Node, error) {
	where, args := paged(broker.ListFilter{NodeFilter: f})
	return x.nodes("SELECT doc"+where, args...)
}

func (x *tx) List(f broker.ListFilter) (list []broker.Listed, err error) {
	if f.Sort != "" && !slices.Contains(broker.SortKeys(), strings.TrimPrefix(f.Sort, "-")) {
		return nil, fmt.Errorf("list nodes: no column is called %q", f.Sort)
	}
	where, args := paged(f)
	rows, err := x.query("SELECT brief"+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer rows.Close()
	var brief sql.RawBytes
	for rows.Next() {
		var l broker.Listed
		if err = rows.Scan(&brief); err == nil {
			err = json.Unmarshal(brief, &l)
		}
		if err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		list = append(list, l)
	}
	return list, rows.Err()
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
	doc, err := json.Marshal(n)
	brief, err2 := json.Marshal(broker.InList(n))
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
	args := []any{id, string(c.state), c.policy, c.hostname, c.created, c.since, seen, brief, doc}
	r, err := x.exec("UPDATE nodes SET state = $2, policy = $3, hostname = $4, created = $5, since = $6, seen = $7, brief = $8, doc = $9 WHERE id = $1", args...)
	if err != nil {
		return err
	}
	if old, err := r.RowsAffected(); err != nil || old > 0 {
		return err
	}
	_, err = x.exec(`INSERT INTO nodes(id, num, state, policy, hostname, created, since, seen, brief, doc)
		VALUES ($1, (SELECT coalesce(max(num), 0) + 1 FROM nodes), $2, $3, $4, $5, $6, $7, $8, $9)`, args...)
	return err
}

// A key is one value that a node is found by.
type key struct {
	kind  broker.KeyKind
	value string
}

func keysOf(of map[broker.KeyKind][]string) map[key]bool {
	all := map[key]bool{}
	for kind, values := range of {
		for _, v := range values {
			all[key{kind, v}] = true
		}
	}
	return all
}

// putKeys writes the keys that changed: most check-ins change none.
func (x *tx) putKeys(n *broker.Node) error {
	own, shared := keysOf(n.Indexed()), keysOf(n.Shared())
	had, err := x.keys(n.ID)
	if err != nil {
		return err
	}
	for k := range had {
		if own[k] || shared[k] {
			continue
		}
		if err := x.dropKey(k, n.ID); err != nil {
			return err
		}
	}
	for k := range shared {
		if had[k] {
			continue
		}
		if _, err := x.exec("INSERT INTO shared_keys(kind, value, node) VALUES ($1, $2, $3)", string(k.kind), k.value, n.ID); err != nil {
			return err
		}
	}
	for k := range own {
		if had[k] {
			continue
		}
		if err := x.own(k, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// own makes a key the node's, unless it is another's.
func (x *tx) own(k key, id string) error {
	var owner string
	err := x.row("INSERT INTO keys(kind, value, node) VALUES ($1, $2, $3) ON CONFLICT (kind, value) DO UPDATE SET node = keys.node RETURNING node",
		string(k.kind), k.value, id).Scan(&owner)
	if err != nil {
		return err
	}
	if owner != id {
		return fmt.Errorf("%s %s belongs to node %s: %w", k.kind, k.value, owner, broker.ErrConflict)
	}
	return nil
}

func (x *tx) keys(id string) (map[key]bool, error) {
	rows, err := x.query("SELECT kind, value FROM keys WHERE node = $1 UNION ALL SELECT kind, value FROM shared_keys WHERE node = $1", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[key]bool{}
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.kind, &k.value); err != nil {
			return nil, err
		}
		all[k] = true
	}
	return all, rows.Err()
}

func (x *tx) dropKey(k key, id string) error {
	for _, table := range []string{"keys", "shared_keys"} {
		if _, err := x.exec("DELETE FROM "+table+" WHERE kind = $1 AND value = $2 AND node = $3", string(k.kind), k.value, id); err != nil {
			return err
		}
	}
	return nil
}

func (x *tx) dropKeys(id string) error {
	_, err := x.exec("DELETE FROM keys WHERE node = $1", id)
	if err == nil {
		_, err = x.exec("DELETE FROM shared_keys WHERE node = $1", id)
	}
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

func (x *tx) deleteOne(what, query string, args ...any) error {
	r, err := x.exec(query, args...)
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
	if err := x.row("SELECT doc FROM objects WHERE kind = $1 AND name = $2", kind, name).Scan(&o.Doc); err != nil {
		return o, missing(kind+" "+name, err)
	}
	return o, nil
}

func (x *tx) Objects(kind string) ([]broker.Object, error) {
	rows, err := x.query("SELECT name, doc FROM objects WHERE kind = $1 ORDER BY name", kind)
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
	_, err := x.exec("INSERT INTO objects(kind, name, doc) VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO UPDATE SET doc = excluded.doc",
		o.Kind, o.Name, o.Doc)
	if err == nil {
		err = x.revise(o.Kind)
	}
	if err != nil {
		return fmt.Errorf("write %s %s: %w", o.Kind, o.Name, err)
	}
	return nil
}

func (x *tx) DeleteObject(kind, name string) (err error) {
	if err = x.deleteOne(kind+" "+name, "DELETE FROM objects WHERE kind = $1 AND name = $2", kind, name); err == nil {
		err = x.revise(kind)
	}
	return err
}

// revise gives the objects another revision, when one of a kind that counts has changed.
func (x *tx) revise(kind string) (err error) {
	if broker.IsKind(kind) {
		x.revision, err = x.Counter(objects)
	}
	return err
}

// objects is the counter of what changed in them. Its row is the one that writers lock.
const objects = "objects"

func (x *tx) Revision() (int64, error) {
	if x.revision < 0 {
		if err := x.row("SELECT value FROM counters WHERE name = $1", objects).Scan(&x.revision); err != nil {
			return 0, fmt.Errorf("read the revision of the objects: %w", err)
		}
	}
	return x.revision, nil
}

func (x *tx) Append(e *broker.Event) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := x.row("INSERT INTO events(node, kind, at, doc) VALUES ($1, $2, $3, $4) RETURNING seq", e.Node, e.Kind, e.Time.UnixMilli(), doc).Scan(&e.Seq); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	x.appended.add(e.Seq)
	return nil
}

func (x *tx) Events(f broker.EventFilter) ([]broker.Event, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	query, args := "SELECT seq, doc FROM events WHERE seq > $1 ORDER BY seq LIMIT $2", []any{f.After, f.Limit}
	if f.Node != "" {
		query, args = "SELECT seq, doc FROM events WHERE node = $1 AND seq > $2 ORDER BY seq LIMIT $3", []any{f.Node, f.After, f.Limit}
	}
	rows, err := x.query(query, args...)
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

func (x *tx) Forget(after int64, limit int, before time.Time) (next int64, gone int, err error) {
	var oldest sql.NullInt64
	err = x.row("SELECT coalesce(max(seq), 0), min(at) FROM (SELECT seq, at FROM events WHERE seq > $1 ORDER BY seq LIMIT $2) AS part", after, limit).Scan(&next, &oldest)
	if err != nil {
		return 0, 0, fmt.Errorf("forget events: %w", err)
	}
	if !oldest.Valid || oldest.Int64 >= before.UnixMilli() {
		return 0, 0, nil
	}
	r, err := x.exec(`DELETE FROM events WHERE seq > $1 AND seq <= $2 AND at < $3 AND (
		EXISTS (SELECT 1 FROM events later WHERE later.node = events.node AND later.kind = events.kind AND later.seq > events.seq)
		OR node != '' AND NOT EXISTS (SELECT 1 FROM nodes WHERE id = events.node))`, after, next, before.UnixMilli())
	if err != nil {
		return 0, 0, fmt.Errorf("forget events: %w", err)
	}
	n, err := r.RowsAffected()
	return next, int(n), err
}

func (x *tx) Counter(name string) (n int64, err error) {
	err = x.row("INSERT INTO counters(name, value) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value", name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", name, err)
	}
	return n, nil
}
