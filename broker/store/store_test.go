package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/broker"
	"muster/broker/store/storetest"
)

func TestSQLiteKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() broker.Store {
		dir := t.TempDir()
		return func() broker.Store { return opened(t)(Open(dir)) }
	})
}

func TestPostgresKeepsTheContract(t *testing.T) {
	server := storetest.StartPostgres(t)
	storetest.Run(t, func(t *testing.T) func() broker.Store {
		url := server.URL(t)
		return func() broker.Store { return opened(t)(Connect(t.Context(), url)) }
	})
}

func opened(t testing.TB) func(*Store, error) *Store {
	return func(s *Store, err error) *Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
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
