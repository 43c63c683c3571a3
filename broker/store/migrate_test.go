package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
	"muster/broker/store/storetest"
)

// What a broker of each version had written: its tables as they were released, and nodes, an object and events in them.
const oldRows = `
INSERT INTO keys VALUES ('mac', '52:54:00:00:00:01', 'node1');
INSERT INTO objects VALUES ('Tag', 'a', '{"name":"a"}');
INSERT INTO events(seq, node, doc) VALUES (7, 'node1', '{"seq":0,"time":"2026-01-02T03:04:05.678Z","node":"node1","kind":"node.active","text":"x"}');
INSERT INTO counters VALUES ('node', 2);
`

const (
	oldFacts = `{"schema":1,"arch":"x86_64","system":{"product":"R640"},"disks":[{"id":"d","name":"sda","size_bytes":5,"table":"gpt"}]}`
	oldNode  = `{"id":"node1","state":"active","policy":"web","keys":{"macs":["52:54:00:00:00:01"],"serial":"abc1234"},"facts_hash":"told",
		"tags":[{"name":"big","verdict":"yes"},{"name":"odd","verdict":"undecided","cause":"unread"}],"facts":`
	// oldNodes have their facts in their documents, and partedNodes in rows of their own.
	oldNodes = `
INSERT INTO nodes VALUES ('node1', 1, 'active', 'web', '` + oldNode + oldFacts + `}');
INSERT INTO nodes VALUES ('node2', 2, 'enroll', '', '{"id":"node2","state":"enroll"}');
`
	partedNodes = `
INSERT INTO nodes(id, num, state, policy, hostname, created, since, seen, brief, doc)
	VALUES ('node1', 1, 'active', 'web', '', '', '', '', '{}', '` + oldNode + `{"hash":"h","arch":"x86_64"}}');
INSERT INTO facts VALUES ('node1', 'h', '` + oldFacts + `');
INSERT INTO nodes(id, num, state, policy, hostname, created, since, seen, brief, doc)
	VALUES ('node2', 2, 'enroll', '', '', '', '', '', '{}', '{"id":"node2","state":"enroll"}');
`
)

const (
	oldShared = `INSERT INTO shared_keys VALUES ('serial', 'abc1234', 'node1');`
	oldEvents = `UPDATE events SET kind = 'node.active', at = 1767323045000;`
)

// later is what each version has beside those rows.
var later = map[int]string{
	1: oldNodes,
	2: oldNodes + oldShared,
	3: oldNodes + oldShared + oldEvents,
	4: partedNodes + oldShared + oldEvents,
}

// postgresLater is the same of PostgreSQL, which came when shared keys and the times of events were there.
var postgresLater = map[int]string{1: oldNodes + oldShared, 2: partedNodes + oldShared}

// asBytes writes documents as SQLite's STRICT tables want them; PostgreSQL reads them out of the text.
func asBytes(rows string) string {
	return regexp.MustCompile(`'{[^']*}'`).ReplaceAllString(rows, "CAST($0 AS BLOB)")
}

func released(t *testing.T, name string) string {
	t.Helper()
	ddl, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(ddl)
}

func TestAFileOfEachReleasedVersionIsBroughtForward(t *testing.T) {
	for version := 1; version < len(sqliteSchema.steps); version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			dir := t.TempDir()
			oldFile(t, dir, released(t, fmt.Sprintf("sqlite-%d.sql", version))+asBytes(oldRows+later[version])+fmt.Sprintf("PRAGMA user_version = %d", version))
			s := opened(t)(Open(dir))
			defer s.Close()
			broughtForward(t, s)
			if diff := cmp.Diff(sqliteTables(t, opened(t)(Open(t.TempDir()))), sqliteTables(t, s)); diff != "" {
				t.Errorf("a new file has other tables (-new +old):\n%s", diff)
			}
		})
	}
}

func TestADatabaseOfEachReleasedVersionIsBroughtForward(t *testing.T) {
	server := storetest.StartPostgres(t)
	for version := 1; version < len(postgresSchema.steps); version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			url := server.URL(t)
			db, err := sql.Open("pgx", url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			rows := strings.Replace(oldRows, "events(seq, node, doc) VALUES (7, 'node1',", "events(seq, node, kind, at, doc) VALUES (7, 'node1', 'node.active', 1767323045000,", 1)
			_, err = db.Exec(released(t, fmt.Sprintf("postgres-%d.sql", version)) + rows + postgresLater[version] + "SELECT setval(pg_get_serial_sequence('events', 'seq'), 7)")
			if err != nil {
				t.Fatal(err)
			}
			s := opened(t)(Connect(t.Context(), url))
			defer s.Close()
			broughtForward(t, s)
			fresh := opened(t)(Connect(t.Context(), server.URL(t)))
			defer fresh.Close()
			if diff := cmp.Diff(postgresTables(t, fresh), postgresTables(t, s)); diff != "" {
				t.Errorf("a new database has other tables (-new +old):\n%s", diff)
			}
		})
	}
}

func oldFile(t *testing.T, dir, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "muster.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

func broughtForward(t *testing.T, s *Store) {
	t.Helper()
	err := s.Update(context.Background(), func(tx broker.Tx) error {
		nodes, err := tx.NodesSharing(broker.KeySerial, "abc1234")
		if len(nodes) != 1 || nodes[0].ID != "node1" {
			t.Errorf("%d nodes have the serial; want node1", len(nodes))
		}
		_, err2 := tx.NodeByKey(broker.KeyMAC, "52:54:00:00:00:01")
		_, err3 := tx.Object("Tag", "a")
		e := broker.Event{Kind: "x", Time: time.Unix(0, 0)}
		err4 := tx.Append(&e)
		if n, err := tx.Counter("node"); n != 3 || err != nil || e.Seq != 8 {
			t.Errorf("counted to %d (%v), next event %d; want 3 and 8", n, err, e.Seq)
		}
		return errors.Join(err, err2, err3, err4)
	})
	if err != nil {
		t.Error(err)
	}
	movedFacts(t, s)
	var kind string
	var at int64
	if err := s.read.QueryRow("SELECT kind, at FROM events WHERE seq = 7").Scan(&kind, &at); kind != "node.active" || at != 1767323045000 || err != nil {
		t.Errorf("the event has kind %q and time %d (%v); want those of its document", kind, at, err)
	}
}

// movedFacts looks at a node whose facts were in its document.
func movedFacts(t *testing.T, s *Store) {
	t.Helper()
	var doc []byte
	if err := s.read.QueryRow("SELECT doc FROM nodes WHERE id = 'node1'").Scan(&doc); err != nil || bytes.Contains(doc, []byte("sda\"")) {
		t.Errorf("the document is %s, %v; want it without the facts", doc, err)
	}
	err := s.View(t.Context(), func(tx broker.Tx) error {
		n, err := tx.Node("node1")
		if err != nil {
			return err
		}
		whole, err := n.Facts.Whole()
		want := &facts.Facts{Schema: 1, Arch: "x86_64", System: &facts.System{Product: "R640"}, Disks: []facts.Disk{{ID: "d", Name: "sda", SizeBytes: 5, Table: "gpt"}}}
		if diff := cmp.Diff(want, whole); diff != "" {
			t.Errorf("facts (-want +got):\n%s", diff)
		}
		hash, err2 := want.Hash()
		gist := &broker.Gist{Hash: hash, Arch: "x86_64", Product: "R640", Hardware: broker.Summary(want), InUse: "disk sda holds a partition table (gpt)"}
		if diff := cmp.Diff(gist, n.Facts.Gist); diff != "" || n.FactsHash != "told" {
			t.Errorf("facts_hash %q; gist (-want +got):\n%s", n.FactsHash, diff)
		}
		tags := []broker.TagResult{{Name: "big", Verdict: "yes"}, {Name: "odd", Verdict: "undecided", Cause: "unread"}}
		if diff := cmp.Diff(tags, n.Tags); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		list, err3 := tx.List(broker.ListFilter{Tags: []string{"odd", "big"}})
		if diff := cmp.Diff([]broker.Listed{broker.InList(n)}, list); diff != "" {
			t.Errorf("in lists of its tags (-want +got):\n%s", diff)
		}
		if n, err := tx.Node("node2"); err != nil || n.Facts.Known() {
			t.Errorf("node2 without facts: %v, %v", n, err)
		}
		return errors.Join(err, err2, err3)
	})
	if err != nil {
		t.Error(err)
	}
}

// sqliteTables are the columns and indexes of a file.
func sqliteTables(t *testing.T, s *Store) []string {
	t.Helper()
	return listed(t, s, `SELECT m.type || ' ' || m.name || ' ' || coalesce((SELECT group_concat(c.name || ' ' || c.type || ' ' || c."notnull" || c.pk) FROM pragma_table_info(m.name) c), '')
		FROM sqlite_schema m ORDER BY 1`)
}

// postgresTables are those of a database.
func postgresTables(t *testing.T, s *Store) []string {
	t.Helper()
	return listed(t, s, `SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, collation_name, is_identity) FROM information_schema.columns
		WHERE table_schema = current_schema() UNION ALL SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1`)
}

func listed(t *testing.T, s *Store, query string) (list []string) {
	t.Helper()
	rows, err := s.read.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	if len(list) < 10 {
		t.Errorf("%d tables and indexes; want all", len(list))
	}
	return list
}

// F13
func TestANewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	oldFile(t, dir, "PRAGMA user_version = 99")
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "use a newer muster") {
		t.Errorf("Open = %v; want a refusal", err)
	}
	server := storetest.StartPostgres(t)
	url := server.URL(t)
	s := opened(t)(Connect(t.Context(), url))
	defer s.Close()
	if _, err := s.read.Exec("UPDATE schema_version SET version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), url); err == nil || !strings.Contains(err.Error(), "use a newer muster") {
		t.Errorf("Connect = %v; want a refusal", err)
	}
	// A broker that ran while a newer one changed the tables writes no more into them.
	err := s.Update(t.Context(), func(tx broker.Tx) error { return tx.PutNode(&broker.Node{ID: "node1"}) })
	if !errors.Is(err, broker.ErrBusy) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("Update = %v; want a refusal that names the version", err)
	}
}

// F13: what is cut off in the middle of a step leaves the version before it.
func TestAStepThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	ddl, err := os.ReadFile("testdata/sqlite-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	// The table of the second step is there already, so that step fails; the first would have to run before it.
	oldFile(t, dir, string(ddl)+"CREATE INDEX nodes_num ON nodes(num); PRAGMA user_version = 1")
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "make schema version 3") {
		t.Fatalf("Open = %v; want the step that failed", err)
	}
	oldFile(t, dir, "DROP INDEX nodes_num; INSERT INTO counters VALUES ('node', 1)") // what was there is there still
	s := opened(t)(Open(dir))
	defer s.Close()
}
