package lab

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/broker"
)

const (
	noted = "kind: Hook\nname: note\non: [node.registered, node.bound, node.unbound]\ncommand: [note]\n"
	wrote = "kind: Policy\nname: lab\nmatch: all\ntask: image\nrepo: debian-12\nhostname: lab{{.Seq}}.example.net\napproval: automatic\n"
)

// An operator's words reach a machine that waits in the ramdisk, by its agent's long poll: nobody restarts it.
func TestLabOperator(t *testing.T) {
	hooks := t.TempDir()
	notes := filepath.Join(hooks, "notes")
	if err := os.WriteFile(filepath.Join(hooks, "note"), []byte("#!/bin/sh\ncat >> "+notes+"\necho >> "+notes+"\necho '{}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := labStage(t, BIOS, noted, blankDisk, "--dhcp", "server", "--pool", "10.77.0.100-10.77.0.199", "--kernel-args", kernelArgs, "--hooks", hooks)
	t.Parallel()
	ctx := deadline(t)
	if err := s.life.On(); err != nil {
		t.Fatal(err)
	}
	s.await(ctx, t, broker.EventOrder, "order wait")

	// A node on hold is no policy's; released, it is written within the same boot.
	s.act(t, broker.Act{Verb: "hold", Why: "its rack is moved"})
	if _, err := s.server.Apply(ctx, []byte(wrote)); err != nil {
		t.Fatal(err)
	}
	x, err := s.server.Explain(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	if x.Bound != "" || x.Waiting != "an operator's release" {
		t.Errorf("on hold: bound to %q, waits for %q", x.Bound, x.Waiting)
	}
	s.act(t, broker.Act{Verb: "release"})
	s.told(ctx, t, "release", broker.EventReport, "write_image started")

	// What is not possible now is refused with what is.
	_, err = s.server.Act(ctx, s.life.MAC(), broker.Act{Verb: "provide"})
	if err == nil || !strings.Contains(err.Error(), "possible: abort") {
		t.Errorf("provide while the image is written: %v", err)
	}
	s.act(t, broker.Act{Verb: "abort", Why: "the wrong rack"})
	s.await(ctx, t, broker.EventOrder, "order wait")
	if n := s.node(ctx, t); n.State != broker.DeployFailed {
		t.Errorf("after the abort it is %s", n.State)
	}

	// Inspected, it restarts, reports anew and is where it was.
	s.act(t, broker.Act{Verb: "undeploy"})
	if err := s.server.Do(ctx, http.MethodDelete, "/api/v1/objects/Policy/lab", nil, "", nil); err != nil {
		t.Fatal(err)
	}
	s.act(t, broker.Act{Verb: "manage"})
	s.act(t, broker.Act{Verb: "inspect"})
	s.told(ctx, t, "inspect", broker.EventReport, "reboot started")
	s.await(ctx, t, broker.EventState, "inspecting -> manageable")
	if n := s.node(ctx, t); n.Policy != "" || !n.Protected {
		t.Errorf("after all this it is policy %q's, protected %t; want none's, and protected", n.Policy, n.Protected)
	}
	checkNotes(t, notes, "node.registered node.bound node.unbound")
}

func (s *stage) await(ctx context.Context, t *testing.T, kind, part string) {
	t.Helper()
	if _, err := s.life.Until(ctx, part, Kind(kind, part)); err != nil {
		t.Fatal(err)
	}
}

// told waits for the agent to do what it was told, and says how long that took.
func (s *stage) told(ctx context.Context, t *testing.T, word, kind, part string) {
	t.Helper()
	began := time.Now()
	s.await(ctx, t, kind, part)
	t.Logf("%s: the agent answered %.2f s later", word, time.Since(began).Seconds())
}

func (s *stage) node(ctx context.Context, t *testing.T) *broker.Record {
	t.Helper()
	n, err := s.server.Node(ctx, s.life.MAC())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkNotes compares the events that the hook's command was told with those that it is for, in their order.
func checkNotes(t *testing.T, path, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var told struct{ Event string }
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, told.Event)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("the hook was told of %v; want %s", got, want)
	}
}
