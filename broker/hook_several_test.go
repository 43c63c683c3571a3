package broker_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"muster/broker"
	"muster/broker/store/storetest"
)

// hooksOfSeveral are brokers on one PostgreSQL, of which only the first runs yet, and a hook that is told of machines.
func hooksOfSeveral(t *testing.T, n int, pause time.Duration, answer func(http.ResponseWriter, int)) ([]*broker.Broker, *receiver, func()) {
	t.Helper()
	list, _ := several(t, storetest.StartPostgres(t), n, broker.Config{HookAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		HookPause: func(int) time.Duration { return pause }})
	x := newReceiver(t, answer)
	mustApply(t, list[0], ramdiskDoc("default", "amd64", "")+"---\n"+hookDoc("cmdb", x.url, ""))
	return list, x, run(t, list[0])
}

// Of several brokers the one that leads calls the hooks, wherever a thing happens; when it ends another goes on. A
// message may come again where the lead changes, and nowhere else.
func TestTheBrokerThatLeadsCallsTheHooks(t *testing.T) {
	list, x, stop := hooksOfSeveral(t, 2, time.Millisecond, nil)
	heard, again := map[string]bool{}, 0
	tell := func(i int, at *broker.Broker) {
		t.Helper()
		_, m, _ := arrive(t, at, i)
		got := <-x.told
		for ; heard[got.ID]; got = <-x.told {
			again++
		}
		heard[got.ID] = true
		if got.Node.MACs[0] != m.String() {
			t.Errorf("told of %v; want machine %d, %s", got.Node.MACs, i, m)
		}
	}
	tell(1, list[0]) // so the first leads
	run(t, list[1])
	for i := 2; i < 12; i++ {
		tell(i, list[i%2])
	}
	stop()
	tell(12, list[1])
	if again > 3 {
		t.Errorf("%d of 12 messages came again: both brokers call", again)
	}
}

// Dead letters that an operator asks for at any broker have the one that leads try at once.
func TestARetryIsHeardByTheBrokerThatLeads(t *testing.T) {
	list, x, _ := hooksOfSeveral(t, 2, time.Hour, func(w http.ResponseWriter, n int) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	arrive(t, list[0], 1)
	first := <-x.told
	run(t, list[1])
	if _, err := list[1].RetryHook(t.Context(), "cmdb", 0, "tester"); err != nil {
		t.Fatal(err)
	}
	if got := <-x.told; got.ID != first.ID {
		t.Errorf("told %s; want %s again", got.ID, first.ID)
	}
}

// What is told is what operators did, from where and in which role (T49).
func TestT49ARetrySaysWho(t *testing.T) {
	r := newHookRig(t, broker.Config{})
	x := newReceiver(t, nil)
	mustApply(t, r.Broker, hookDoc("cmdb", x.url, ""))
	ctx := broker.WithCaller(t.Context(), broker.Caller{Name: "alice", Role: broker.Operator, From: "192.0.2.7:1"})
	if _, err := r.RetryHook(ctx, "cmdb", 0, "alice"); err != nil {
		t.Fatal(err)
	}
	e := waitEvent(t, r, func(e broker.Event) bool { return e.Who == "alice" })
	if got := fmt.Sprint(e.Text, e.Data); got != "hook cmdb: 0 dead letters to be tried againmap[from:192.0.2.7:1 hook:cmdb role:operator]" {
		t.Errorf("the journal says %s", got)
	}
}
