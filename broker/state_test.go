package broker

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// transition is a line of testdata/ironic-states.jsonl.
type transition struct {
	ID, Event, By string
	From, To      State
	Subset        bool
}

func transitions(t *testing.T) []transition {
	t.Helper()
	f, err := os.Open("testdata/ironic-states.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []transition
	lines := bufio.NewScanner(f)
	lines.Scan() // describes the file
	for lines.Scan() {
		var tr transition
		if err := json.Unmarshal(lines.Bytes(), &tr); err != nil {
			t.Fatal(err)
		}
		if tr.Subset {
			list = append(list, tr)
		}
	}
	if len(list) != 37 {
		t.Fatalf("read %d transitions; want 37", len(list))
	}
	return list
}

func TestTableIsIronicsSubset(t *testing.T) {
	want := map[edge]string{}
	for _, tr := range transitions(t) {
		want[edge{tr.From, Verb(tr.Event), tr.To, tr.By == "user"}] = tr.ID
	}
	for _, e := range table {
		if _, ok := want[e]; !ok {
			t.Errorf("%s --%s--> %s (operator %t) is not Ironic's", e.from, e.on, e.to, e.operator)
		}
		delete(want, e)
	}
	for e, id := range want {
		t.Errorf("%s: %s --%s--> %s (operator %t) is missing", id, e.from, e.on, e.to, e.operator)
	}
}

func TestEveryOtherVerbIsRefusedWithTheLegalOnes(t *testing.T) {
	verbs := []Verb{Abort, Clean, Delete, Deploy, Inspect, Manage, Provide, Rebuild}
	b := &Broker{cfg: Config{Now: testNow}}
	legal, refused := 0, 0
	for _, s := range []State{Enroll, Verifying, Manageable, Inspecting, InspectWait, InspectFailed, Cleaning, CleanFailed,
		Available, Deploying, WaitCallBack, DeployFailed, Active, Deleting, Error} {
		for _, v := range verbs {
			n := &Node{ID: "node1", State: s}
			_, err := b.asked(n, v, "test", "")
			possible := slices.Contains(s.Legal(), string(v))
			switch {
			case possible && err != nil:
				t.Errorf("%s %s: %v; want it done", s, v, err)
			case !possible && (err == nil || n.State != s):
				t.Errorf("%s %s went to %s, err %v; want it refused", s, v, n.State, err)
			case possible:
				legal++
			default:
				refused++
			}
		}
	}
	if legal != 19 || refused != 101 {
		t.Errorf("%d legal, %d refused; want 19 and 101", legal, refused)
	}
}
