package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"muster/broker"
)

// A schema is the tables of one engine as the steps that lead there: step n makes version n+1 of version n. A step that
// was released is never changed.
type schema struct {
	steps []step
	read  string // a query of the version
	write string // %d is the version
}

// A step is statements. One that changes what is kept of nodes has them all written anew, after the last step.
type step struct {
	sql     string
	rewrite bool
}

// migrate takes the tables to the newest version; the transaction is the caller's, so that all of it happens or
// nothing.
func (s schema) migrate(ctx context.Context, t *sql.Tx) error {
	var version int
	if err := t.QueryRowContext(ctx, s.read).Scan(&version); err != nil {
		return err
	}
	if version > len(s.steps) {
		return fmt.Errorf("it has schema version %d, this muster knows up to %d: use a newer muster", version, len(s.steps))
	}
	for n, step := range s.steps[version:] {
		if _, err := t.ExecContext(ctx, step.sql); err != nil {
			return fmt.Errorf("make schema version %d: %w", version+n+1, err)
		}
	}
	if version == len(s.steps) {
		return nil
	}
	if slices.ContainsFunc(s.steps[version:], func(s step) bool { return s.rewrite }) {
		if err := (&tx{ctx: ctx, t: t}).rewrite(); err != nil {
			return fmt.Errorf("rewrite nodes for schema version %d: %w", len(s.steps), err)
		}
	}
	_, err := t.ExecContext(ctx, fmt.Sprintf(s.write, len(s.steps)))
	return err
}

// same refuses tables of another version than this muster's.
func (s schema) same(ctx context.Context, t *sql.Tx) error {
	var version int
	err := t.QueryRowContext(ctx, s.read).Scan(&version)
	if err == nil && version != len(s.steps) {
		err = fmt.Errorf("it has schema version %d and this muster reads version %d: use the muster that runs on it", version, len(s.steps))
	}
	return err
}

// inTransaction runs f, and commits unless it fails.
func inTransaction(ctx context.Context, db *sql.DB, f func(context.Context, *sql.Tx) error) error {
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := f(ctx, t); err != nil {
		return err
	}
	return t.Commit()
}

var sqliteSchema = schema{read: "PRAGMA user_version", write: "PRAGMA user_version = %d", steps: []step{{sql: `
CREATE TABLE nodes (
	id TEXT PRIMARY KEY, num INTEGER NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, doc BLOB NOT NULL
) STRICT;
CREATE INDEX nodes_state ON nodes(state);
CREATE INDEX nodes_policy ON nodes(policy) WHERE policy != '';
CREATE TABLE keys (
	kind TEXT NOT NULL, value TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_node ON keys(node);
CREATE TABLE objects (
	kind TEXT NOT NULL, name TEXT NOT NULL, doc BLOB NOT NULL, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
	seq INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, doc BLOB NOT NULL
) STRICT;
CREATE INDEX events_node ON events(node, seq);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`}, {sql: `
CREATE TABLE shared_keys (
	kind TEXT NOT NULL, value TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (kind, value, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX shared_keys_node ON shared_keys(node);
INSERT INTO shared_keys
	SELECT 'serial', json_extract(CAST(doc AS TEXT), '$.keys.serial'), id FROM nodes
	WHERE coalesce(json_extract(CAST(doc AS TEXT), '$.keys.serial'), '') != '';
`}, {sql: `
CREATE UNIQUE INDEX nodes_num ON nodes(num);
ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE events SET kind = coalesce(json_extract(CAST(doc AS TEXT), '$.kind'), ''),
	at = coalesce(unixepoch(json_extract(CAST(doc AS TEXT), '$.time')) * 1000, 0);
INSERT INTO counters(name, value) VALUES ('objects', 0);
`}, {sql: `
CREATE TABLE facts (node TEXT PRIMARY KEY, hash TEXT NOT NULL, doc BLOB NOT NULL) STRICT;
ALTER TABLE nodes RENAME TO old;
CREATE TABLE nodes (
	id TEXT PRIMARY KEY, num INTEGER NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, hostname TEXT NOT NULL,
	created TEXT NOT NULL, since TEXT NOT NULL, seen TEXT NOT NULL, brief BLOB NOT NULL, doc BLOB NOT NULL
) STRICT;
INSERT INTO nodes SELECT id, num, state, policy, '', '', '', '', x'', doc FROM old;
DROP TABLE old;
CREATE UNIQUE INDEX nodes_num ON nodes(num);
CREATE INDEX nodes_state ON nodes(state);
CREATE INDEX nodes_policy ON nodes(policy) WHERE policy != '';
CREATE INDEX nodes_hostname ON nodes(hostname) WHERE hostname != '';
`, rewrite: true}, {sql: `
ALTER TABLE nodes RENAME TO old;
CREATE TABLE nodes (
	id TEXT PRIMARY KEY, num INTEGER NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, hostname TEXT NOT NULL,
	created TEXT NOT NULL, since TEXT NOT NULL, tags TEXT NOT NULL, seen TEXT NOT NULL, brief BLOB NOT NULL, doc BLOB NOT NULL
) STRICT;
INSERT INTO nodes SELECT id, num, state, policy, hostname, created, since, '', seen, brief, doc FROM old;
DROP TABLE old;
CREATE UNIQUE INDEX nodes_num ON nodes(num);
CREATE INDEX nodes_state ON nodes(state, num);
CREATE INDEX nodes_policy ON nodes(policy, num) WHERE policy != '';
CREATE INDEX nodes_hostname ON nodes(hostname) WHERE hostname != '';
`, rewrite: true}}}

// postgresSchema sorts text as bytes, as SQLite does. Documents are bytes: JSON may say \u0000, which no text of
// PostgreSQL holds.
var postgresSchema = schema{read: "SELECT version FROM schema_version", write: "UPDATE schema_version SET version = %d", steps: []step{{sql: `
CREATE TABLE nodes (
	id TEXT COLLATE "C" PRIMARY KEY, num BIGINT NOT NULL, state TEXT COLLATE "C" NOT NULL,
	policy TEXT COLLATE "C" NOT NULL, doc BYTEA NOT NULL
);
CREATE UNIQUE INDEX nodes_num ON nodes(num);
CREATE INDEX nodes_state ON nodes(state);
CREATE INDEX nodes_policy ON nodes(policy) WHERE policy != '';
CREATE TABLE keys (
	kind TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL, node TEXT COLLATE "C" NOT NULL, PRIMARY KEY (kind, value)
);
CREATE INDEX keys_node ON keys(node);
CREATE TABLE shared_keys (
	kind TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL, node TEXT COLLATE "C" NOT NULL, PRIMARY KEY (kind, value, node)
);
CREATE INDEX shared_keys_node ON shared_keys(node);
CREATE TABLE objects (
	kind TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, doc BYTEA NOT NULL, PRIMARY KEY (kind, name)
);
CREATE TABLE events (
	seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, node TEXT COLLATE "C" NOT NULL,
	kind TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, doc BYTEA NOT NULL
);
CREATE INDEX events_node ON events(node, seq);
CREATE TABLE counters (name TEXT COLLATE "C" PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counters(name, value) VALUES ('objects', 0);
`}, {sql: `
CREATE TABLE facts (node TEXT COLLATE "C" PRIMARY KEY, hash TEXT COLLATE "C" NOT NULL, doc BYTEA NOT NULL);
ALTER TABLE nodes ADD COLUMN hostname TEXT COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN created TEXT COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN since TEXT COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN seen TEXT COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN brief BYTEA NOT NULL DEFAULT '';
CREATE INDEX nodes_hostname ON nodes(hostname) WHERE hostname != '';
`, rewrite: true}, {sql: `
ALTER TABLE nodes ADD COLUMN tags TEXT COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX nodes_state, nodes_policy;
CREATE INDEX nodes_state ON nodes(state, num);
CREATE INDEX nodes_policy ON nodes(policy, num) WHERE policy != '';
`, rewrite: true}}}

// rewrite puts every node anew, in the form that this muster keeps. Facts were in the document up to version 3 (of
// PostgreSQL, 1), and are a row of their own since.
func (x *tx) rewrite() error {
	ids, err := x.NodeIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		var doc, facts []byte
		if err := x.row("SELECT nodes.doc, facts.doc FROM nodes LEFT JOIN facts ON node = id WHERE id = $1", id).Scan(&doc, &facts); err != nil {
			return missing("node "+id, err)
		}
		if err := x.takeNode(doc, facts); err != nil {
			return err
		}
	}
	return nil
}

// takeNode writes a node from its document, with its facts where they are not in that.
func (x *tx) takeNode(doc, facts []byte) error {
	r := struct {
		broker.Record
		Tags tagWords `json:"tags"`
	}{}
	err := json.Unmarshal(doc, &r)
	if err == nil && facts != nil {
		r.Facts = nil // it was the gist
		err = json.Unmarshal(facts, &r.Facts)
	}
	if err != nil || r.ID == "" {
		return errors.Join(errors.New("no node"), err)
	}
	r.Record.Tags = r.Tags
	n, err := r.Parted()
	if err != nil {
		return err
	}
	return x.PutNode(n)
}
