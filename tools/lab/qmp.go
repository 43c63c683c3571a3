package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpMessageLimit bounds one message of QEMU; the longest of those used here is a few kilobytes.
const qmpMessageLimit = 1 << 20

// A qmp speaks QEMU's monitor protocol (docs/interop/qmp-spec.txt): one JSON object per line, one answer per command, and
// events between them.
type qmp struct {
	conn    net.Conn
	answers chan qmpMessage // closed when QEMU hangs up
	event   func(name string, data json.RawMessage)

	mu sync.Mutex // one command at a time
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"` // the greeting
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

var errHungUp = errors.New("qemu hung up")

// newQMP takes over the connection and leaves the negotiation mode. event is called from one goroutine.
func newQMP(ctx context.Context, conn net.Conn, event func(string, json.RawMessage)) (*qmp, error) {
	q := &qmp{conn: conn, answers: make(chan qmpMessage, 1), event: event}
	go q.read()
	select {
	case _, ok := <-q.answers: // the greeting
		if !ok {
			return nil, errHungUp
		}
	case <-ctx.Done():
		conn.Close()
		return nil, fmt.Errorf("await qemu's greeting: %w", ctx.Err())
	}
	if _, err := q.run(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// read sorts what arrives. The channel holds one answer, and there is one command at a time, so that it never blocks on a
// command that was given up.
func (q *qmp) read() {
	defer close(q.answers)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, qmpMessageLimit)
	for lines.Scan() {
		var m qmpMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // nothing but QEMU is at the other end; run's deadline tells of what is lost
		}
		if m.Event != "" {
			q.event(m.Event, m.Data)
			continue
		}
		q.answers <- m
	}
}

// run carries out one command and gives its answer. A command that was given up leaves the connection unusable.
func (q *qmp) run(ctx context.Context, command string, args any) (json.RawMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return nil, fmt.Errorf("encode qemu command %q: %w", command, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	if err := q.conn.SetWriteDeadline(deadline); err != nil {
		return nil, fmt.Errorf("send qemu command %q: %w", command, err)
	}
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("send qemu command %q: %w", command, err)
	}
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	select {
	case m, ok := <-q.answers:
		if !ok {
			return nil, fmt.Errorf("run qemu command %q: %w", command, errHungUp)
		}
		if m.Error != nil {
			return nil, fmt.Errorf("run qemu command %q: %s", command, m.Error.Desc)
		}
		return m.Return, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = context.DeadlineExceeded
	}
	q.conn.Close()
	return nil, fmt.Errorf("run qemu command %q: %w", command, err)
}

// close hangs up and waits until no more events come.
func (q *qmp) close() {
	q.conn.Close()
	for range q.answers {
	}
}
