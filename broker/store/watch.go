package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"muster/broker"
)

// channel is where brokers tell each other of their commits.
const channel = "muster"

// A notice says who appended which events.
type notice struct {
	broker string
	span
}

func (n notice) String() string { return fmt.Sprintf("%s %d %d", n.broker, n.first, n.last) }

// parseNotice takes any text: whoever may connect may notify.
func parseNotice(text string) (n notice, ok bool) {
	words := strings.Fields(text)
	if len(words) != 3 {
		return n, false
	}
	first, err := strconv.ParseInt(words[1], 10, 64)
	last, err2 := strconv.ParseInt(words[2], 10, 64)
	return notice{words[0], span{first, last}}, err == nil && err2 == nil && first <= last
}

// quiet is how long a connection that only listens may be silent before it is asked whether it lives.
const quiet = 5 * time.Second

// follow reads the journal whenever another broker says that it has grown. The notices are no more than a bell: what
// was missed while the connection was down is in the journal.
func (p *postgres) follow(ctx context.Context, s *Store, after int64, f func([]broker.Event) error) error {
	err := p.session(ctx, func(c *pgx.Conn) error {
		if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
		for {
			var err error
			if after, err = s.tell(ctx, after, f); err != nil {
				return err
			}
			if after, err = p.news(ctx, c, after); err != nil {
				return err
			}
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("follow other brokers: %w", err)
}

// tell gives f all events after one.
func (s *Store) tell(ctx context.Context, after int64, f func([]broker.Event) error) (int64, error) {
	for {
		var events []broker.Event
		err := s.View(ctx, func(tx broker.Tx) (err error) {
			events, err = tx.Events(broker.EventFilter{After: after})
			return err
		})
		if err != nil || len(events) == 0 {
			return after, err
		}
		if err := f(events); err != nil {
			return after, err
		}
		after = events[len(events)-1].Seq
	}
}

// news waits for a notice of events that this broker did not append itself.
func (p *postgres) news(ctx context.Context, c *pgx.Conn, after int64) (int64, error) {
	for {
		heard, err := hear(ctx, c)
		if err != nil {
			return after, err
		}
		n, ok := parseNotice(heard.Payload)
		switch {
		case !ok || n.last <= after: // told with those before
		case n.broker == p.self && n.first == after+1:
			after = n.last
		default:
			return after, nil
		}
	}
}

// hear waits for the next notice.
func hear(ctx context.Context, c *pgx.Conn) (*pgconn.Notification, error) {
	for {
		short, cancel := context.WithTimeout(ctx, quiet)
		n, err := c.WaitForNotification(short)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return n, err
		}
		if err := alive(ctx, c); err != nil {
			return nil, err
		}
	}
}

// alive asks a silent server whether it is there.
func alive(ctx context.Context, c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	return c.Ping(ctx)
}

// session runs f with a connection of its own.
func (p *postgres) session(ctx context.Context, f func(*pgx.Conn) error) error {
	c, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		c.Close(bye) // a server that is gone has nothing to be told
	}()
	return f(c)
}

// Lead holds a lock of the session: the server lets go of it when the connection ends, however it ends.
func (p *postgres) Lead(ctx context.Context, f func(context.Context)) error {
	err := p.session(ctx, func(c *pgx.Conn) error {
		if err := elected(ctx, c); err != nil {
			return err
		}
		leading, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f(leading)
		}()
		err := hold(ctx, c, done)
		stop()
		<-done
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lead: %w", err)
	}
	return nil
}

// beat is how often a broker tries to lead, and how often the one that leads asks whether it still does.
const beat = time.Second

// leadership takes the lock of those who share these tables, unless another has it.
const leadership = "pg_try_advisory_lock(hashtextextended('muster leads ' || current_schema(), 0))"

// elected waits until no other broker leads. Waiting in the server would keep its vacuum from all rows that die meanwhile.
func elected(ctx context.Context, c *pgx.Conn) error {
	for {
		ok, err := take(ctx, c)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(beat):
		}
	}
}

func take(ctx context.Context, c *pgx.Conn) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	err = c.QueryRow(ctx, "SELECT "+leadership).Scan(&ok)
	return ok, err
}

// hold returns when done is closed, or the connection and with it the lock is lost.
func hold(ctx context.Context, c *pgx.Conn, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-time.After(beat):
			if err := alive(ctx, c); err != nil {
				return err
			}
		}
	}
}
