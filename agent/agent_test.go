package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// live runs an agent for some time and gives when it is over.
func live(t *testing.T, a *Agent, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := a.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run ended with %v", err)
	}
}

func TestCheckIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		b.reply = facts.CheckInReply{Node: "n1", Name: "osd001", Tags: []string{"big", "rack-b"}, Policy: "ceph",
			Order: facts.Order{ID: 1, Kind: facts.OrderWait, Because: "policy ceph is full"}}
		live(t, a, 5*time.Minute)
		if len(b.checkIns) != 1 {
			t.Fatalf("%d check-ins; want 1", len(b.checkIns))
		}
		c := b.checkIns[0]
		if c.Token != "once" || c.Seq != 1 || c.BootID == "" || c.Facts == nil || c.FactsHash == "" {
			t.Errorf("check-in %+v lacks something", c)
		}
		for _, want := range []string{
			"Dell Inc. R640",
			"checked in as node n1 (osd001); tags big rack-b; policy ceph",
			"waiting for an order: policy ceph is full",
		} {
			if !strings.Contains(s.String(), want) {
				t.Errorf("the console lacks %q:\n%s", want, s)
			}
		}
		if polls := len(b.calls) - 1; polls < 4 || polls > 6 {
			t.Errorf("%d polls in 5 minutes; want one each minute", polls)
		}
	})
}

// F25, P39: the broker is away; the console says the address, the error, the attempt and the next try, and the agent
// comes back with what it has.
func TestF25BrokerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		began := time.Now()
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if time.Since(began) > 10*time.Minute {
				return false
			}
			http.Error(w, "store is away", http.StatusBadGateway)
			return true
		}
		live(t, a, 13*time.Minute)
		if len(b.checkIns) != 1 {
			t.Fatalf("%d check-ins; want 1", len(b.checkIns))
		}
		tries := strings.Count(s.String(), "http://broker.test:8080/node/v1/checkin: 502 Bad Gateway: store is away; attempt ")
		if tries < 10 || tries > 20 {
			t.Errorf("%d tries in 10 minutes; want 10 to 20 with back-off from 1 s to 60 s:\n%s", tries, s)
		}
		if !strings.Contains(s.String(), "attempt 3, next try in ") {
			t.Errorf("the console does not say when it tries again:\n%s", s)
		}
	})
}

func TestBusyBrokerSaysWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		var tries []time.Time
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != routeCheckIn {
				return false
			}
			tries = append(tries, time.Now())
			if len(tries) > 1 {
				return false
			}
			w.Header().Set("Retry-After", "40")
			http.Error(w, "", http.StatusServiceUnavailable)
			return true
		}
		live(t, a, 2*time.Minute)
		if len(tries) != 2 || tries[1].Sub(tries[0]) < 40*time.Second {
			t.Errorf("tries at %v; want two, 40 s or more apart", tries)
		}
	})
}

func TestWantedFactsAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		changed := make(chan struct{}, 1)
		a.Changed = changed
		go func() {
			time.Sleep(30 * time.Second)
			changed <- struct{}{} // the same facts: only their hash goes out
			time.Sleep(30 * time.Second)
			b.mu.Lock()
			b.reply.WantFacts = true // a broker that lost them
			b.mu.Unlock()
			changed <- struct{}{}
		}()
		live(t, a, 2*time.Minute)
		var got []string
		for _, c := range b.checkIns {
			got = append(got, fmt.Sprintf("%d facts=%t token=%s", c.Seq, c.Facts != nil, c.Token))
		}
		want := []string{"1 facts=true token=once", "2 facts=false token=once", "3 facts=false token=once", "4 facts=true token=once"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("check-ins (-want +got):\n%s", diff)
		}
	})
}

// A change that comes in the moment in which a poll ends is told by the next one.
func TestNoChangeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != routeOrder {
				return false
			}
			if sleep(r.Context(), time.Second) == nil {
				w.WriteHeader(http.StatusNoContent)
			}
			return true
		}
		changed := make(chan struct{}, 1)
		a.Changed = changed
		const changes = 100
		go func() {
			for range changes {
				time.Sleep(10 * time.Second)
				changed <- struct{}{}
			}
		}()
		live(t, a, changes*10*time.Second+5*time.Second)
		if len(b.checkIns) != 1+changes {
			t.Errorf("%d check-ins after %d changes; want one for each, and the first", len(b.checkIns), changes)
		}
	})
}

// What the switches say comes after the first check-in, and at once.
func TestHeardNeighborsAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		heard := make(chan struct{}, 1)
		a.Heard = heard
		first := a.Probe
		a.Probe = func(ctx context.Context, only ...string) Probed {
			p := first(ctx, only...)
			if len(b.checkIns) > 0 {
				p.Facts.NICs, p.Hash = []facts.NIC{{Name: "eth0", LLDP: []facts.Neighbor{{ChassisID: "tor", PortID: "7"}}}}, "" // the broker makes its own
			}
			return p
		}
		go func() {
			time.Sleep(12*time.Second + time.Millisecond)
			heard <- struct{}{}
		}()
		live(t, a, 12*time.Second+500*time.Millisecond)
		if len(b.checkIns) != 2 || b.checkIns[1].Facts == nil || b.checkIns[1].Facts.NICs[0].LLDP[0].ChassisID != "tor" {
			t.Errorf("%d check-ins; want a second one with the neighbour within half a second:\n%s", len(b.checkIns), s)
		}
	})
}

func TestLostBootChecksInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		lost := true
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == routeOrder && lost {
				lost = false
				http.Error(w, "no such boot", http.StatusUnauthorized)
				return true
			}
			return false
		}
		live(t, a, time.Minute)
		if len(b.checkIns) != 2 {
			t.Errorf("%d check-ins; want 2:\n%s", len(b.checkIns), s)
		}
	})
}

func TestOrders(t *testing.T) {
	for _, row := range []struct {
		name     string
		orders   []facts.Order
		deeds    string // in order
		statuses string
		message  string
	}{
		{"a reboot is reported before it happens", []facts.Order{{ID: 2, Kind: "reboot"}},
			"reboot after done", "2 started, 2 done", ""},
		{"power off too", []facts.Order{{ID: 2, Kind: "poweroff"}},
			"poweroff after done", "2 started, 2 done", ""},
		{"the same order again is obeyed once", []facts.Order{{ID: 2, Kind: "reboot"}, {ID: 2, Kind: "reboot"}, {ID: 1, Kind: "poweroff"}},
			"reboot after done", "2 started, 2 done", ""},
		{"T53: an order of a kind that is not known is refused and reported", []facts.Order{{ID: 3, Kind: "/bin/sh"}},
			"", "3 failed", `order kind "/bin/sh" is not known to agent test; refused`},
		{"T53: kinds are not paths nor prefixes", []facts.Order{{ID: 3, Kind: "reboot "}},
			"", "3 failed", `order kind "reboot " is not known to agent test; refused`},
		{"after a refused order the next one is obeyed", []facts.Order{{ID: 3, Kind: "destroy"}, {ID: 4, Kind: "poweroff"}},
			"poweroff after done", "3 failed, 4 started, 4 done", ""},
		{"an image order without an image fails", []facts.Order{{ID: 5, Kind: "write_image"}},
			"", "5 started, 5 failed", "the order to write an image has no image"},
		{"F39: a kernel that cannot be fetched is not started", []facts.Order{{ID: 6, Kind: "kexec", Kexec: &facts.Kexec{Kernel: "/boot/none"}}},
			"", "6 started, 6 failed", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, s := newAgent(t)
				var deeds []string
				did := func(what string) func() error {
					return func() error {
						deeds = append(deeds, what+" after "+b.last().Status)
						return nil
					}
				}
				a.Reboot, a.Poweroff, a.Kexec = did("reboot"), did("poweroff"), did("kexec")
				b.orders = row.orders
				live(t, a, 3*time.Minute)
				if got := strings.Join(deeds, ", "); got != row.deeds {
					t.Errorf("did %q; want %q\n%s", got, row.deeds, s)
				}
				if got := b.statuses(); got != row.statuses {
					t.Errorf("reported %q; want %q\n%s", got, row.statuses, s)
				}
				if row.message != "" && b.last().Message != row.message {
					t.Errorf("message %q; want %q", b.last().Message, row.message)
				}
			})
		})
	}
}

// A broker that repeats an order without end is not asked in a tight loop.
func TestRepeatedOrderIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		polls := 0
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != routeOrder {
				return false
			}
			polls++
			json.NewEncoder(w).Encode(facts.Order{ID: 2, Kind: "none"})
			return true
		}
		live(t, a, time.Minute)
		if polls < 30 || polls > 61 || b.statuses() != "2 failed" {
			t.Errorf("%d polls in a minute, reported %q; want at most one in a second, one report", polls, b.statuses())
		}
	})
}

func TestKexec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		b.files["/f/vmlinuz"], b.files["/f/a"], b.files["/f/b"] = []byte("kernel"), []byte("first"), []byte("second!!")
		var loaded, started string
		a.Load = func(kernel, initrd, cmdline string) error {
			k, i := read(t, kernel), read(t, initrd)
			loaded = fmt.Sprintf("%q %q %q", k, i, cmdline)
			return nil
		}
		a.Kexec = func() error { started = b.last().Status; return nil }
		b.orders = []facts.Order{{ID: 2, Kind: "kexec", Kexec: &facts.Kexec{Kernel: "/f/vmlinuz", Initrds: []string{"/f/a", "/f/b"}, Cmdline: "quiet"}}}
		live(t, a, time.Minute)
		if want := `"kernel\x00\x00" "first\x00\x00\x00second!!" "quiet"`; loaded != want || started != facts.StatusDone {
			t.Errorf("loaded %s and started after %q; want %s after done\n%s", loaded, started, want, s)
		}
	})
}

// F48: an agent that dies in the middle of an order does not obey it again, and says so.
func TestF48OrderOfADeadAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		a.Memory = t.TempDir() + "/run/agent.json"
		a.Cause = "panic: index out of range\n\x1b[2J"
		first := *a
		first.start()
		first.seq, first.order, first.open = 7, 3, true
		first.remember()
		b.reply.Order = facts.Order{ID: 3, Kind: facts.OrderReboot}
		a.Reboot = func() error { t.Error("rebooted"); return nil }
		live(t, a, time.Minute)
		if b.statuses() != "3 failed" {
			t.Errorf("reported %q; want 3 failed", b.statuses())
		}
		if c := b.checkIns[0]; c.Seq != 8 || len(c.Errors) != 1 || c.Errors[0].Msg != "panic: index out of range ?[2J" {
			t.Errorf("check-in %+v; want seq 8 and the cause", c)
		}
	})
}

// F27: answers are lost but requests arrive; the report is sent until it is acknowledged, and the machine reboots
// only then.
func TestF27ReportUntilAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newAgent(t)
		dropped := 0
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == routeReport && dropped < 4 {
				dropped++
				w.WriteHeader(http.StatusGatewayTimeout)
				return true
			}
			return false
		}
		rebooted := false
		a.Reboot = func() error { rebooted = true; return nil }
		b.orders = []facts.Order{{ID: 2, Kind: facts.OrderReboot}}
		live(t, a, 5*time.Minute)
		if b.statuses() != "2 done" || !rebooted {
			t.Errorf("reported %q, rebooted %t; want 2 done, then a reboot", b.statuses(), rebooted)
		}
	})
}

// F44: clocks that are far off are set, and the broker learns how far.
func TestF44Clock(t *testing.T) {
	for _, row := range []struct {
		name  string
		ahead time.Duration // the broker's clock
		set   bool
	}{
		{"a clock that is a little off is left alone", 20 * time.Second, false},
		{"a clock that is a year behind is set", 365 * 24 * time.Hour, true},
		{"a clock that is a day ahead is set", -24 * time.Hour, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, s := newAgent(t)
				b.date = row.ahead
				var shift time.Duration
				a.Now = func() time.Time { return time.Now().Add(shift) }
				a.SetClock = func(to time.Time) error { shift = time.Until(to); return nil }
				live(t, a, time.Minute)
				if set := shift != 0; set != row.set {
					t.Errorf("set the clock: %t; want %t\n%s", set, row.set, s)
				}
				if !row.set {
					return
				}
				last := b.checkIns[len(b.checkIns)-1]
				if len(b.checkIns) != 2 || last.State.ClockSkewMS == nil || *last.State.ClockSkewMS != -row.ahead.Milliseconds() {
					t.Errorf("%d check-ins, the last with state %+v; want 2, skew %d ms", len(b.checkIns), last.State, -row.ahead.Milliseconds())
				}
			})
		})
	}
}

func TestClockBeforeTheBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := newAgent(t)
		a.Built = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC) // synctest begins in 2000
		var set time.Time
		a.SetClock = func(to time.Time) error { set = to; return nil }
		a.start()
		if !set.Equal(a.Built) {
			t.Errorf("the clock was set to %v; want %v", set, a.Built)
		}
	})
}

func TestNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		a.Args.Server = ""
		live(t, a, 3*time.Minute)
		if len(b.calls) != 0 || strings.Count(s.String(), "has no muster.server=URL") < 2 {
			t.Errorf("calls %v; the console should repeat what is missing:\n%s", b.calls, s)
		}
	})
}

// An answer may be as long as it likes; what is read of it is not.
func TestAnswerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, s := newAgent(t)
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			json.NewEncoder(w).Encode(map[string]string{"node": strings.Repeat("x", 3*maxAnswer)})
			return true
		}
		live(t, a, 10*time.Second)
		if !strings.Contains(s.String(), "more than 1048576 bytes") {
			t.Errorf("a long answer was taken:\n%.500s", s)
		}
	})
}

// T23, T55: what comes from hardware or the broker cannot move the cursor of the console.
func TestT55ConsoleIsPlain(t *testing.T) {
	s := &screen{}
	c := &Console{W: s, Uptime: func() time.Duration { return 5400 * time.Millisecond }}
	c.Printf("node %s", "a\x1b[2J\nb\x00\u2028"+strings.Repeat("z", 1000))
	got := s.String()
	if !strings.HasPrefix(got, "muster [  5.40s] node a?[2J b??zz") || strings.Count(got, "\n") != 1 || len(got) > maxLine+1 {
		t.Errorf("printed %q", got)
	}
}
