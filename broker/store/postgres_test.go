package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"muster/broker"
	"muster/broker/store/storetest"
)

// A relay stands between a broker and its server, and cuts one connection in or after a transaction.
type relay struct {
	listen net.Listener
	server string
	cut    atomic.Int32 // what to do next: one of the words below
}

const (
	passOn    = iota
	cutInside // before the end of an update
	cutBefore // the commit
	cutAfter  // the server has committed, and its answer is lost
)

// cutAt is the message at which a connection is cut; it comes in one piece.
var cutAt = map[int32][]byte{cutInside: []byte("RELEASE one\x00"), cutBefore: []byte("commit\x00"), cutAfter: []byte("commit\x00")}

// between gives a URL that leads to a server's by a relay.
func between(t *testing.T, to string) (*relay, string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const name = ".s.PGSQL.5432"
	q := u.Query()
	r := &relay{server: filepath.Join(q.Get("host"), name)}
	if r.listen, err = net.Listen("unix", filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.listen.Close() })
	go r.accept()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return r, u.String()
}

func (r *relay) accept() {
	for {
		client, err := r.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", r.server)
		if err != nil {
			client.Close()
			continue
		}
		go r.carry(client, server)
	}
}

// carry takes each message of a broker to the server, and the answers back.
func (r *relay) carry(client, server net.Conn) {
	defer server.Close()
	var lost atomic.Bool
	var answers sync.WaitGroup
	answers.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || lost.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if at, ok := cutAt[r.cut.Load()]; ok && bytes.Contains(buf[:n], at) {
			if r.cut.Swap(passOn) == cutAfter {
				lost.Store(true)
				server.Write(buf[:n])
				answers.Wait() // it has answered
			}
			return
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// A commit whose answer is lost is done once, and so is one that never reached the server.
func TestALostCommitIsDoneOnce(t *testing.T) {
	server := storetest.StartPostgres(t)
	r, to := between(t, server.URL(t))
	s := opened(t)(Connect(t.Context(), to))
	defer s.Close()
	for i, tt := range []struct {
		name string
		cut  int32
		runs int
	}{
		{"nothing happens", passOn, 1},
		{"the connection is cut in the middle", cutInside, 2},
		{"the connection is cut before the commit", cutBefore, 2},
		{"the connection is cut after the commit", cutAfter, 1},
		{"nothing happens again", passOn, 1},
	} {
		r.cut.Store(tt.cut)
		var got int64
		runs := 0
		err := s.Update(t.Context(), func(tx broker.Tx) (err error) {
			runs++
			got, err = tx.Counter("c")
			return err
		})
		if r.cut.Load() != passOn {
			t.Errorf("%s: the relay saw no such message", tt.name)
		}
		if want := int64(i + 1); err != nil || got != want || runs != tt.runs {
			t.Errorf("%s: %v, counted to %d in %d runs; want %d in %d", tt.name, err, got, runs, want, tt.runs)
		}
	}
}

// When the server is away too, nobody knows, and the caller hears that.
func TestALostCommitOfALostServerIsBusy(t *testing.T) {
	server := storetest.StartPostgres(t)
	r, to := between(t, server.URL(t))
	s := opened(t)(Connect(t.Context(), to))
	defer s.Close()
	r.cut.Store(cutAfter)
	runs := 0
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		runs++
		r.listen.Close() // no new connection
		_, err := tx.Counter("c")
		return err
	})
	if !errors.Is(err, broker.ErrBusy) || !strings.Contains(err.Error(), "not answered") || runs != 1 {
		t.Errorf("Update = %v after %d runs; want ErrBusy that says so after one", err, runs)
	}
}

// leadEnv makes this test's program a broker that leads until it is killed.
const leadEnv = "MUSTER_TEST_LEAD"

func TestMain(m *testing.M) {
	if to := os.Getenv(leadEnv); to != "" {
		leadUntilKilled(to)
		return
	}
	os.Exit(m.Run())
}

func leadUntilKilled(to string) {
	s, err := Connect(context.Background(), to)
	if err == nil {
		err = s.Lead(context.Background(), func(context.Context) {
			fmt.Println("leads")
			io.Copy(io.Discard, os.Stdin) // for ever
		})
	}
	fmt.Println("ended:", err)
}

// The leader is a process of its own and is killed: another leads.
func TestAnotherLeadsWhenTheLeaderIsKilled(t *testing.T) {
	to := storetest.StartPostgres(t).URL(t)
	s := opened(t)(Connect(t.Context(), to))
	defer s.Close()
	leader := exec.Command(os.Args[0])
	leader.Env = append(os.Environ(), leadEnv+"="+to)
	in, err := leader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := leader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 6)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "leads\n" {
		t.Fatalf("the leader says %q, %v", said, err)
	}
	var killed atomic.Bool
	done := make(chan error)
	go func() {
		done <- s.Lead(t.Context(), func(context.Context) {
			if !killed.Load() {
				t.Error("two lead")
			}
		})
	}()
	// A third asks and is told no, so that the second had its chance to be wrong.
	refused(t, s)
	killed.Store(true)
	leader.Process.Kill()
	leader.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// refused returns when the lock was asked for and another had it.
func refused(t *testing.T, s *Store) {
	t.Helper()
	var ok bool
	if err := s.read.QueryRow("SELECT " + leadership).Scan(&ok); err != nil || ok {
		t.Fatalf("a third got the lock: %t %v", ok, err)
	}
}

// Whoever leads hears when it may have lost that, and may lead again.
func TestTheLeaderHearsThatItsConnectionIsLost(t *testing.T) {
	server := storetest.StartPostgres(t)
	s := opened(t)(Connect(t.Context(), server.URL(t)))
	defer s.Close()
	err := s.Lead(t.Context(), func(ctx context.Context) {
		server.Stop(t)
		<-ctx.Done()
	})
	if err == nil {
		t.Error("Lead = nil after the connection was lost")
	}
	server.Start(t)
	led := false
	if err := s.Lead(t.Context(), func(context.Context) { led = true }); err != nil || !led {
		t.Errorf("Lead = %v, led %t after the server returned", err, led)
	}
}

// What one broker appends another follows, in order and all of it, also what it missed while it was away.
func TestFollowMissesNothing(t *testing.T) {
	server := storetest.StartPostgres(t)
	to := server.URL(t)
	a, b := opened(t)(Connect(t.Context(), to)), opened(t)(Connect(t.Context(), to))
	defer a.Close()
	defer b.Close()
	say := func(s *Store, n int) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				err := s.Update(t.Context(), func(tx broker.Tx) error { return tx.Append(&broker.Event{Kind: "x", Text: fmt.Sprint(i)}) })
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	say(b, 10)
	heard := make(chan int64, 1000)
	var last int64
	take := func(events []broker.Event) error {
		for _, e := range events {
			if e.Seq <= last {
				t.Errorf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
			heard <- e.Seq
		}
		return nil
	}
	until := func(n int) {
		t.Helper()
		for range n {
			<-heard
		}
	}
	ended := make(chan error)
	go func() { ended <- a.Follow(t.Context(), 0, take) }()
	until(10)
	say(b, 90)
	until(90)
	server.Stop(t)
	if err := <-ended; err == nil {
		t.Error("Follow = nil after the connection was lost")
	}
	server.Start(t)
	say(b, 100) // missed
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- a.Follow(ctx, last, take) }()
	until(100)
	say(b, 1)
	until(1)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Follow = %v after its context ended", err)
	}
}

func TestNotices(t *testing.T) {
	for text, want := range map[string]bool{
		notice{"a", span{3, 9}}.String(): true, "a 9 9": true, "": false, "a 9": false, "a 9 3": false, "a b c": false,
		"a 1 99999999999999999999": false, "a 1 2 3": false,
	} {
		if n, ok := parseNotice(text); ok != want || ok && n.String() != text {
			t.Errorf("parseNotice(%q) = %v, %t; want %t", text, n, ok, want)
		}
	}
}

// T11: a password is in no error, however the URL is broken, and whether or not there is a server.
func TestAPasswordIsInNoError(t *testing.T) {
	for _, to := range []string{
		"postgres://muster:Canary1@127.0.0.1:1/muster",
		"postgres://muster:Canary1@127.0.0.1:port/muster",
		"postgres://muster:Canary1@127.0.0.1:1/muster?sslmode=perhaps",
		"postgres://muster@127.0.0.1:1/muster?password=Canary1",
		"postgres://muster:Canary1%zz@127.0.0.1:1/muster",
		"mysql://muster:Canary1@127.0.0.1/muster",
		"host=127.0.0.1 password=Canary1",
		"postgres://muster:Canary1@[::1/muster",
	} {
		s, err := Connect(t.Context(), to)
		if err == nil {
			s.Close()
		}
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), "Canary1") {
			t.Errorf("Connect = %v; want an error without the password", err)
		}
	}
}

// A server that may lose what it acknowledged is refused.
func TestAServerThatForgetsIsRefused(t *testing.T) {
	server := storetest.StartPostgres(t)
	to := server.URL(t)
	server.Stop(t)
	server.Start(t, "fsync=off")
	if _, err := Connect(t.Context(), to); err == nil || !strings.Contains(err.Error(), "fsync = off") {
		t.Errorf("Connect = %v; want a refusal", err)
	}
}
