CREATE TABLE facts (node TEXT PRIMARY KEY, hash TEXT NOT NULL, doc BLOB NOT NULL) STRICT;
CREATE TABLE nodes (
	id TEXT PRIMARY KEY, num INTEGER NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, hostname TEXT NOT NULL,
	created TEXT NOT NULL, since TEXT NOT NULL, seen TEXT NOT NULL, brief BLOB NOT NULL, doc BLOB NOT NULL
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
, kind TEXT NOT NULL DEFAULT '', at INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX events_node ON events(node, seq);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE shared_keys (
	kind TEXT NOT NULL, value TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (kind, value, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX shared_keys_node ON shared_keys(node);
CREATE UNIQUE INDEX nodes_num ON nodes(num);
CREATE INDEX nodes_hostname ON nodes(hostname) WHERE hostname != '';
INSERT INTO counters VALUES ('objects', 0);
