package store

import (
	"sync"
	"testing"
	"time"

	"muster/broker"
)

// TestPreparingKeepsNobodyWaiting has one who prepares wait for a connection while all are held by readers that go on to
// ask for statements: they must end, and so must it.
func TestPreparingKeepsNobodyWaiting(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var held, done sync.WaitGroup
	held.Add(readers)
	first, rest := make(chan struct{}), make(chan struct{})
	read := func(wait <-chan struct{}, after func()) {
		done.Add(1)
		go func() {
			defer done.Done()
			if err := s.View(t.Context(), func(tx broker.Tx) error {
				held.Done()
				<-wait
				_, err := tx.NodeIDs()
				after()
				<-rest
				if err == nil {
					_, err = tx.Revision()
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}()
	}
	asked := make(chan struct{})
	read(first, func() { close(asked) })
	for range readers - 1 {
		read(rest, func() {})
	}
	held.Wait()
	close(first)
	<-asked // a statement is to be prepared, and no connection is free
	done.Add(1)
	go func() {
		defer done.Done()
		if err := s.View(t.Context(), func(broker.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
	}()
	for taken := false; !taken; {
		s.reading.mu.RLock()
		taken = len(s.reading.asked) == 0
		s.reading.mu.RUnlock()
	}
	close(rest)
	ended := make(chan struct{})
	go func() { done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("readers and who prepares wait for each other")
	}
}
