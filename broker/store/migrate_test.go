package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
	"muster/broker/store/storetest"
)

// What a broker of each version had written: its tables as they were released, and a node, an object and events in them.
const oldRows = `
INSERT INTO nodes VALUES ('node1', 1, 'active', 'web', CAST('{"id":"node1","state":"active","policy":"web","keys":{"macs":["52:54:00:00:00:01"],"serial":"abc1234"}}' AS BLOB));
INSERT INTO nodes VALUES ('node2', 2, 'enroll', '', CAST('{"id":"node2","state":"enroll"}' AS BLOB));
INSERT INTO keys VALUES ('mac', '52:54:00:00:00:01', 'node1');
INSERT INTO objects VALUES ('Tag', 'a', CAST('{"name":"a"}' AS BLOB));
INSERT INTO events(seq, node, doc) VALUES (7, 'node1', CAST('{"seq":0,"time":"2026-01-02T03:04:05.678Z","node":"node1","kind":"node.active","text":"x"}' AS BLOB));
INSERT INTO counters VALUES ('node', 2);
`

var oldShared = map[int]string{2: `INSERT INTO shared_keys VALUES ('serial', 'abc1234', 'node1');`}

func TestAFileOfEachReleasedVersionIsBroughtForward(t *testing.T) {
	for version := 1; version < len(sqliteSchema.steps); version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			dir := t.TempDir()
			ddl, err := os.ReadFile(fmt.Sprintf("testdata/sqlite-%d.sql", version))
			if err != nil {
				t.Fatal(err)
			}
			oldFile(t, dir, string(ddl)+oldRows+oldShared[version]+fmt.Sprintf("PRAGMA user_version = %d", version))
			s := opened(t)(Open(dir))
			defer s.Close()
			broughtForward(t, s)
			if diff := cmp.Diff(sqliteTables(t, opened(t)(Open(t.TempDir()))), sqliteTables(t, s)); diff != "" {
				t.Errorf("a new file has other tables (-new +old):\n%s", diff)
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
	var kind string
	var at int64
	if err := s.read.QueryRow("SELECT kind, at FROM events WHERE seq = 7").Scan(&kind, &at); kind != "node.active" || at != 1767323045000 || err != nil {
		t.Errorf("the event has kind %q and time %d (%v); want those of its document", kind, at, err)
	}
}

// sqliteTables are the columns and indexes of a file.
func sqliteTables(t *testing.T, s *Store) (list []string) {
	t.Helper()
	rows, err := s.read.Query(`SELECT m.type || ' ' || m.name || ' ' || coalesce((SELECT group_concat(c.name || ' ' || c.type || ' ' || c."notnull" || c.pk) FROM pragma_table_info(m.name) c), '')
		FROM sqlite_schema m ORDER BY 1`)
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
