package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/broker"
	"muster/broker/store/storetest"
)

var backupTime = time.Unix(1, 0)

func backup(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Backup(t.Context(), &b, backupTime); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func told(t testing.TB, f *facts.Facts) broker.Facts {
	t.Helper()
	known, err := broker.Found(f)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// fill writes one of everything: a node with facts and all its keys, an object, events, a counter.
func fill(t testing.TB, s *Store) {
	t.Helper()
	n := &broker.Node{ID: "node1", State: broker.Active, Policy: "web", Hold: "<&>\x00\u2028", Created: time.Unix(5, 0).UTC(),
		Keys: broker.Keys{MACs: []string{"52:54:00:00:00:01"}, UUID: "u", Serial: "abc1234", SharedUUID: "batch"},
		Boot: broker.BootKeys{KeyHash: "hash"}, Facts: told(t, &facts.Facts{Schema: 1})}
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		return errors.Join(tx.PutNode(&broker.Node{ID: "node2", State: broker.Enroll}), tx.PutNode(n),
			tx.PutObject(broker.Object{Kind: "Tag", Name: "a", Doc: []byte(`{"rule":"1 \u003c 2"}`)}),
			tx.Append(&broker.Event{Node: "node1", Kind: "x", Time: time.Unix(5, 0).UTC(), Data: map[string]string{"a": "<\x00>"}}),
			tx.Append(&broker.Event{Kind: "y"}))
	})
	if err == nil {
		err = s.Update(t.Context(), func(tx broker.Tx) error { _, err := tx.Counter("node"); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What was backed up from one engine is there in the other, and what is backed up from that is the same.
func TestABackupGoesFromEngineToEngine(t *testing.T) {
	server := storetest.StartPostgres(t)
	first, second, third := opened(t)(Open(t.TempDir())), opened(t)(Connect(t.Context(), server.URL(t))), opened(t)(Open(t.TempDir()))
	fill(t, first)
	want := backup(t, first)
	for _, next := range []*Store{second, third} {
		if err := next.Restore(t.Context(), bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(backup(t, next))); diff != "" {
			t.Errorf("backup of the restored (-want +got):\n%s", diff)
		}
		goesOn(t, next)
		if err := next.Restore(t.Context(), bytes.NewReader(want)); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("restored over what is there: %v", err)
		}
	}
	for _, s := range []*Store{first, second, third} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// goesOn proves that a restored store finds nodes by all their keys, and counts on.
func goesOn(t *testing.T, s *Store) {
	t.Helper()
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		for kind, v := range map[broker.KeyKind]string{broker.KeyMAC: "52:54:00:00:00:01", broker.KeyUUID: "u", broker.KeyBoot: "hash"} {
			if n, err := tx.NodeByKey(kind, v); err != nil || n.ID != "node1" {
				t.Errorf("by %s: %v %v; want node1", kind, n, err)
			}
		}
		serial, err := tx.NodesSharing(broker.KeySerial, "abc1234")
		e := broker.Event{Kind: "z"}
		err2 := tx.Append(&e)
		count, err3 := tx.Counter("node")
		all, err4 := tx.Nodes(broker.NodeFilter{})
		if len(serial) != 1 || e.Seq != 3 || count != 2 || len(all) != 2 || all[0].ID != "node2" {
			t.Errorf("%d with the serial, event %d, counted to %d, %d nodes; want 1, 3, 2, 2 and node2 first", len(serial), e.Seq, count, len(all))
		}
		return errors.Join(err, err2, err3, err4)
	})
	if err != nil {
		t.Error(err)
	}
}

// A backup that is taken while updates go on is of one moment: each update is in it whole or not at all.
func TestABackupIsOfOneMoment(t *testing.T) {
	server := storetest.StartPostgres(t)
	for name, open := range map[string]func() (writing, reading *Store){
		"SQLite": func() (*Store, *Store) {
			dir := t.TempDir()
			return opened(t)(Open(dir)), opened(t)(OpenToRead(dir)) // the server's, and another process's
		},
		"PostgreSQL": func() (*Store, *Store) {
			to := server.URL(t)
			return opened(t)(Connect(t.Context(), to)), opened(t)(ConnectToRead(t.Context(), to))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, reading := open()
			defer s.Close()
			defer reading.Close()
			var stop atomic.Bool
			var wg sync.WaitGroup
			made := make(chan struct{}, 1)
			for range 4 {
				wg.Go(func() { arriveUntil(t, s, &stop, made) })
			}
			<-made
			var last int
			for range 5 {
				b := backup(t, reading)
				n := moment(t, b)
				if n < last {
					t.Errorf("%d nodes after %d", n, last)
				}
				last = n
				<-made
			}
			stop.Store(true)
			wg.Wait()
		})
	}
}

// arriveUntil makes nodes: each is a node, an event and a count.
func arriveUntil(t *testing.T, s *Store, stop *atomic.Bool, made chan<- struct{}) {
	for !stop.Load() {
		err := s.Update(t.Context(), func(tx broker.Tx) error {
			n, err := tx.Counter("node")
			id := fmt.Sprintf("node%d", n)
			return errors.Join(err, tx.PutNode(&broker.Node{ID: id}), tx.Append(&broker.Event{Node: id, Kind: "x"}))
		})
		if err != nil {
			t.Error(err)
			return
		}
		select {
		case made <- struct{}{}:
		default:
		}
	}
}

// moment counts the nodes of a backup; as many events must be in it, and the counter say so.
func moment(t *testing.T, b []byte) (nodes int) {
	t.Helper()
	var events, counted int
	for _, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Node != nil:
			nodes++
		case r.Event != nil:
			events++
		case r.Counter != nil && r.Counter.Name == "node":
			counted = int(r.Counter.Value)
		}
	}
	if nodes == 0 || events != nodes || counted != nodes {
		t.Errorf("%d nodes, %d events, counted to %d; want the same", nodes, events, counted)
	}
	return nodes
}

// F9: a backup with any byte changed is refused, and leaves the store empty.
func TestAChangedBackupIsRefused(t *testing.T) {
	from, to := opened(t)(Open(t.TempDir())), opened(t)(Open(t.TempDir()))
	defer from.Close()
	defer to.Close()
	fill(t, from)
	whole := backup(t, from)
	for i := 0; i < len(whole); i += 7 {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if err := to.Restore(t.Context(), bytes.NewReader(changed)); err == nil {
			t.Fatalf("byte %d of %d was changed, and the backup restored", i, len(whole))
		}
		if err := to.Restore(t.Context(), bytes.NewReader(whole[:i])); err == nil {
			t.Fatalf("cut at byte %d of %d, the backup was restored", i, len(whole))
		}
	}
	if err := to.Restore(t.Context(), bytes.NewReader(append(bytes.Clone(whole), '\n'))); err == nil {
		t.Error("with more after its end the backup was restored")
	}
	if err := to.Restore(t.Context(), bytes.NewReader(whole)); err != nil {
		t.Errorf("after all these: %v; want an empty store", err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	const begin = `{"backup":{"version":1,"time":"2026-01-01T00:00:00Z"}}` + "\n"
	s := opened(t)(Open(t.TempDir()))
	defer s.Close()
	for _, tt := range []struct{ name, body, says string }{
		{"a newer form", `{"backup":{"version":2,"time":"2026-01-01T00:00:00Z"}}` + "\n", "line 1: a backup of version 2, this muster reads up to 1"},
		{"what is none", `{"node":{"id":"node1"}}` + "\n", "line 1: no backup of muster"},
		{"two in a row", begin + begin, "line 2: no backup of muster"},
		{"an unknown record", begin + `{"wish":1}` + "\n", `line 2: json: unknown field "wish"`},
		{"a record of nothing", begin + "{}\n", "line 2: an empty record"},
		{"a node without a name", begin + `{"node":{"state":"enroll"}}` + "\n", "line 2: no node"},
		{"a node twice", begin + strings.Repeat(`{"node":{"id":"node1"}}`+"\n", 2), `line 3: node "node1" is in it twice`},
		{"a key of two nodes", begin + `{"node":{"id":"node1","keys":{"uuid":"u"}}}` + "\n" + `{"node":{"id":"node2","keys":{"uuid":"u"}}}` + "\n", "uuid u belongs to node node1"},
		{"an event without a place", begin + `{"event":{"kind":"x"}}` + "\n", "line 2: no event with seq 0"},
		{"an event twice", begin + strings.Repeat(`{"event":{"kind":"x"},"seq":1}`+"\n", 2), "line 3: "},
		{"a line without an end", begin + strings.Repeat(" ", maxLine+1), "line 2: it has more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Restore(t.Context(), strings.NewReader(ended(tt.body))); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Restore = %v; want %q", err, tt.says)
			}
		})
	}
}

// ended gives lines the end that fits them.
func ended(body string) string {
	return fmt.Sprintf(`%s{"end":{"lines":%d,"sha256":"%x"}}`+"\n", body, strings.Count(body, "\n"), sha256.Sum256([]byte(body)))
}

// Z28: of any lines a store takes all or nothing, and what it took it gives back, always the same.
func FuzzRestore(f *testing.F) {
	from := opened(f)(Open(f.TempDir()))
	defer from.Close()
	fill(f, from)
	whole := string(backup(f, from))
	f.Add(whole[:strings.LastIndex(whole, `{"end"`)])
	f.Add(`{"backup":{"version":1,"time":"2026-01-01T00:00:00Z"}}` + "\n" + `{"counter":{"name":"objects","value":-1}}` + "\n")
	f.Fuzz(func(t *testing.T, body string) {
		s, again := opened(t)(Open(t.TempDir())), opened(t)(Open(t.TempDir()))
		defer s.Close()
		defer again.Close()
		err := s.Restore(t.Context(), strings.NewReader(ended(body)))
		if err != nil {
			if n := bytes.Count(backup(t, s), []byte("\n")); n != 3 { // head, the counter of objects, end
				t.Fatalf("%d lines are left of a refused backup: %v", n, err)
			}
			return
		}
		once := backup(t, s)
		if err := again.Restore(t.Context(), bytes.NewReader(once)); err != nil {
			t.Fatalf("its own backup is refused: %v", err)
		}
		if diff := cmp.Diff(string(once), string(backup(t, again))); diff != "" {
			t.Fatalf("another backup (-want +got):\n%s", diff)
		}
	})
}
