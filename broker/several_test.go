package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/store"
	"muster/broker/store/storetest"
)

// onPostgres: go test ./broker -postgres
var onPostgres = flag.Bool("postgres", false, "give each test's broker a PostgreSQL")

// several makes n brokers on one PostgreSQL, each with connections of its own. They know of each other only once they
// run.
func several(t *testing.T, server *storetest.Postgres, n int, cfg broker.Config) (list []*broker.Broker, stores []broker.Store) {
	t.Helper()
	url := server.URL(t)
	for range n {
		s, err := store.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		b := brokerOn(t, s, cfg)
		list, stores = append(list, b), append(stores, s)
	}
	return list, stores
}

func brokerOn(t *testing.T, s broker.Store, cfg broker.Config) *broker.Broker {
	t.Helper()
	cfg.Store, cfg.Key, cfg.BaseURL, cfg.Log = s, broker.Key{1}, "http://192.0.2.10:8080", slog.New(slog.DiscardHandler)
	b, err := broker.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a broker until stop is called, or the test ends.
func run(t *testing.T, b *broker.Broker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// patience bounds a wait that ends at once when all is well.
const patience = 3 * time.Minute

const tenOfAll = `
kind: Policy
name: ten
match: all
max: 10
approval: automatic
task: discover-only
`

// machine is the i-th of many, and the key of the agent in it.
func machine(t *testing.T, i int) (m boot.MAC, f *facts.Facts, key string) {
	t.Helper()
	m = mac(t, fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255))
	return m, machineWith(fmt.Sprintf("c9d8b4f7-e8cc-8c41-9a3b-%012x", i), m.String()), fmt.Sprintf("%032d", i)
}

// A policy for ten nodes binds ten, however many arrive at once and at whichever broker.
func TestMaxBindsAsManyOfAThousandAtOnce(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { thousand(t, newBroker(t)) })
	t.Run("three brokers on PostgreSQL", func(t *testing.T) {
		list, _ := several(t, storetest.StartPostgres(t), 3, broker.Config{})
		thousand(t, list...)
	})
}

func thousand(t *testing.T, brokers ...*broker.Broker) {
	mustApply(t, brokers[0], ramdiskDoc("default", "amd64", "")+tenOfAll)
	n := 1000
	if testing.Short() {
		n = 100
	}
	tokens, bound := make([]string, n), make([]string, n)
	each := func(f func(i int, b *broker.Broker) error) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if err := f(i, brokers[i%len(brokers)]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(func(i int, b *broker.Broker) error {
		m, _, _ := machine(t, i)
		step, err := b.Next(t.Context(), boot.Client{MAC: m})
		tokens[i], _ = step.Args.Lookup("muster.token")
		return err
	})
	each(func(i int, b *broker.Broker) error { // all at once: of what follows, nothing but the store keeps them apart
		_, f, key := machine(t, i)
		reply, err := report(t.Context(), b, key, tokens[i], f)
		if err == nil {
			bound[i] = reply.Policy
		}
		return err
	})
	told := 0
	for _, policy := range bound {
		if policy == "ten" {
			told++
		}
	}
	nodes, err := brokers[0].Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, n := range nodes {
		if n.Policy == "ten" {
			kept++
		}
	}
	if told != 10 || kept != 10 || len(nodes) != n {
		t.Errorf("%d agents were told, %d nodes are bound, of %d; want 10, 10, %d", told, kept, len(nodes), n)
	}
}

// arrive boots and checks in a machine.
func arrive(t *testing.T, b *broker.Broker, i int) (*facts.CheckInReply, boot.MAC, string) {
	t.Helper()
	m, f, key := machine(t, i)
	reply, err := report(t.Context(), b, key, token(t, b, boot.Client{MAC: m}), f)
	if err != nil {
		t.Fatal(err)
	}
	return reply, m, key
}

// An agent that waits at one broker hears of the policy that an operator applies at another.
func TestOneBrokerWakesTheAgentsOfAnother(t *testing.T) {
	list, _ := several(t, storetest.StartPostgres(t), 3, broker.Config{})
	mustApply(t, list[0], ramdiskDoc("default", "amd64", ""))
	for _, b := range list {
		run(t, b)
	}
	reply, m, key := arrive(t, list[1], 1)
	heard := hears(t, list[1], key, reply.Order.ID)
	mustApply(t, list[2], tenOfAll)
	if got := <-heard; got != "order" {
		t.Errorf("the agent heard %q of the new policy; want an order", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, b := range list {
		if !b.Learned(ctx, m) {
			t.Errorf("broker %d does not know the MAC of a machine that checked in at another", i)
		}
	}
}

// hears tells what an agent's long poll gives.
func hears(t *testing.T, b *broker.Broker, key string, after int64) <-chan string {
	heard := make(chan string, 1)
	go func() {
		switch o, err := b.WaitOrder(t.Context(), key, after, patience); {
		case err != nil:
			heard <- err.Error()
		case o == nil:
			heard <- "nothing"
		default:
			heard <- "order"
		}
	}()
	return heard
}

// A broker that has not heard of a change yet decides by it all the same.
func TestACheckInIsDecidedByTheObjectsOfItsTransaction(t *testing.T) {
	list, _ := several(t, storetest.StartPostgres(t), 2, broker.Config{})
	mustApply(t, list[0], ramdiskDoc("default", "amd64", ""))
	arrive(t, list[1], 1) // has a catalog
	mustApply(t, list[0], tenOfAll)
	if reply, _, _ := arrive(t, list[1], 2); reply.Policy != "ten" {
		t.Errorf("policy %q; want the one that the other broker was told", reply.Policy)
	}
	if err := list[0].DeleteObject(t.Context(), broker.KindRamdisk, "default", "tester"); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(t, list[1], "kind: Policy\nname: p\nmatch: all\ntask: discover-only\nramdisk: default\n"); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("a policy with a ramdisk that the other broker deleted: %v; want ErrInvalid", err)
	}
}

// One broker keeps the deadlines; when it ends, another does.
func TestAnotherBrokerKeepsTheDeadlines(t *testing.T) {
	list, stores := several(t, storetest.StartPostgres(t), 2, broker.Config{})
	for i, b := range list {
		id := fmt.Sprintf("late%d", i)
		late := &broker.Node{ID: id, State: broker.WaitCallBack, Deadline: time.Unix(1, 0)}
		if err := stores[0].Update(t.Context(), func(tx broker.Tx) error { return tx.PutNode(late) }); err != nil {
			t.Fatal(err)
		}
		stop := run(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		events, err := b.Events(ctx, broker.EventFilter{Node: id}, true)
		for err == nil && len(events) > 0 && events[len(events)-1].Kind != broker.EventOrder {
			events, err = b.Events(ctx, broker.EventFilter{Node: id, After: events[len(events)-1].Seq}, true)
		}
		if err != nil || len(events) == 0 {
			t.Fatalf("broker %d: no deadline was kept: %v", i, err)
		}
		if n := node(t, list[0], id); n.State != broker.DeployFailed {
			t.Errorf("broker %d: the node is %s; want deploy failed", i, n.State)
		}
		stop()
	}
}

// F11: PostgreSQL goes and returns under running brokers.
func TestPostgresIsRestarted(t *testing.T) {
	server := storetest.StartPostgres(t)
	list, _ := several(t, server, 2, broker.Config{})
	mustApply(t, list[0], ramdiskDoc("default", "amd64", ""))
	for _, b := range list {
		run(t, b)
	}
	reply, m, key := arrive(t, list[0], 1)
	server.Stop(t)
	if _, err := list[0].Next(t.Context(), boot.Client{MAC: m}); !errors.Is(err, broker.ErrBusy) {
		t.Errorf("a boot without the database: %v; want ErrBusy", err)
	}
	_, f, _ := machine(t, 1)
	if _, err := report(t.Context(), list[0], key, "", f); !errors.Is(err, broker.ErrBusy) {
		t.Errorf("a check-in without the database: %v; want ErrBusy", err)
	}
	server.Start(t)
	if step, err := list[0].Next(t.Context(), boot.Client{MAC: m}); err != nil || step.Kind != boot.StepRamdisk {
		t.Errorf("a boot with the database: %v %v; want the ramdisk", step, err)
	}
	heard := hears(t, list[0], key, reply.Order.ID)
	mustApply(t, list[1], tenOfAll)
	if got := <-heard; got != "order" {
		t.Errorf("after the database returned an agent heard %q of the other broker's policy; want an order", got)
	}
}

// Brokers on one store need one key: the one that was started without it says so, once.
func TestABrokerWithAnotherKeyIsTold(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	told := func(key byte) (n int) {
		t.Helper()
		b, err := broker.New(t.Context(), broker.Config{Store: s, Key: broker.Key{key}, BaseURL: "http://192.0.2.10:8080", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		events, err := b.Events(t.Context(), broker.EventFilter{}, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind == broker.EventKey {
				n++
			}
		}
		return n
	}
	for i, tt := range []struct {
		key  byte
		want int
	}{{1, 0}, {1, 0}, {2, 1}, {2, 1}} {
		if got := told(tt.key); got != tt.want {
			t.Errorf("start %d with key %d: told %d times; want %d", i, tt.key, got, tt.want)
		}
	}
}
