package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/broker"
	"muster/broker/store/storetest"
)

func TestSQLiteKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) broker.Store {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// F12
func TestASecondBrokerIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "in use by the muster with pid") {
		t.Errorf("Open = %v; want the pid of the first", err)
	}
}

// F13
func TestANewerFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "muster.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "use a newer muster") {
		t.Errorf("Open = %v; want a refusal", err)
	}
}

// T12
func TestTheFileIsItsOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	st, err := os.Stat(filepath.Join(dir, "muster.db"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
}

func TestAfterCloseNothingIsAccepted(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(broker.Tx) error { return nil }); err == nil {
		t.Error("an update after Close was accepted")
	}
}

// A file of version 1 has no table of serials: they are found in its nodes.
func TestSerialsOfAnOlderFileAreFound(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(context.Background(), func(tx broker.Tx) error {
		return errors.Join(tx.PutNode(&broker.Node{ID: "node1", Keys: broker.Keys{Serial: "abc1234"}}), tx.PutNode(&broker.Node{ID: "node2"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DROP TABLE shared_keys", "PRAGMA user_version = 1"} {
		if _, err := s.write.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if s, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.View(context.Background(), func(tx broker.Tx) error {
		nodes, err := tx.NodesSharing(broker.KeySerial, "abc1234")
		if len(nodes) != 1 || nodes[0].ID != "node1" {
			t.Errorf("%d nodes have the serial; want node1", len(nodes))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
