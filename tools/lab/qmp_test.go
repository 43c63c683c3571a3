package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeQEMU answers each command by a function; "" hangs up.
func fakeQEMU(t *testing.T, answer func(command string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		defer theirs.Close()
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			var m struct{ Execute string }
			json.Unmarshal(lines.Bytes(), &m)
			said := `{"return": {}}`
			if m.Execute != "qmp_capabilities" {
				said = answer(lines.Text())
			}
			if said == "" {
				return
			}
			fmt.Fprintln(theirs, said)
		}
	}()
	return ours
}

func TestQMPKeepsEventsApartFromAnswers(t *testing.T) {
	var events []string
	var asked string
	q, err := newQMP(t.Context(), fakeQEMU(t, func(command string) string {
		asked = command
		return "{\"event\": \"RESET\", \"data\": {\"guest\": true}}\n{\"return\": {\"running\": true}}"
	}), func(name string, data json.RawMessage) { events = append(events, name+" "+string(data)) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.run(t.Context(), "set_link", map[string]any{"name": "net0"})
	if string(got) != `{"running": true}` || err != nil {
		t.Errorf("run() = %s, %v; want the answer", got, err)
	}
	if want := `{"execute":"set_link","arguments":{"name":"net0"}}`; asked != want {
		t.Errorf("asked %s; want %s", asked, want)
	}
	q.close()
	if diff := cmp.Diff([]string{`RESET {"guest": true}`}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestQMPSaysWhatQEMURefused(t *testing.T) {
	q, err := newQMP(t.Context(), fakeQEMU(t, func(string) string {
		return `{"error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}`
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	if _, err := q.run(t.Context(), "nope", nil); err == nil || !strings.Contains(err.Error(), "has not been found") {
		t.Errorf("run() = %v; want QEMU's words", err)
	}
}

func TestQMPGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		t.Cleanup(func() { close(hold) })
		q, err := newQMP(t.Context(), fakeQEMU(t, func(command string) string {
			if strings.Contains(command, "slow") {
				<-hold
			}
			return ""
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := q.run(ctx, "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run() of what is not answered = %v; want that time is over", err)
		}
		if _, err := q.run(t.Context(), "next", nil); err == nil {
			t.Error("run() on a lost connection = nil; want an error")
		}

		q, err = newQMP(t.Context(), fakeQEMU(t, func(string) string { return "" }), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.run(t.Context(), "quit", nil); !errors.Is(err, errHungUp) {
			t.Errorf("run() = %v; want that qemu hung up", err)
		}
		dead, theirs := net.Pipe()
		theirs.Close()
		if _, err := newQMP(t.Context(), dead, nil); !errors.Is(err, errHungUp) {
			t.Errorf("newQMP() without QEMU = %v; want that it hung up", err)
		}
	})
}
