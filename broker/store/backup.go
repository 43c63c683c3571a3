package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"muster/broker"
)

// A backup is lines of JSON, each one record: a head, objects, nodes in the order they came, the journal, counters, and
// an end with the sum of all bytes before it. Both engines write and read the same, so that it also takes a broker from
// SQLite to PostgreSQL. It holds what the store holds, and that is no secret in clear: tokens are derived from server.key, and what
// hooks and handoffs have is sealed with it (T12).
type record struct {
	Head    *head           `json:"backup,omitempty"`
	Object  *object         `json:"object,omitempty"`
	Node    json.RawMessage `json:"node,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"`
	Seq     int64           `json:"seq,omitempty"` // of the event
	Counter *counter        `json:"counter,omitempty"`
	End     *end            `json:"end,omitempty"`
}

type head struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
}

type object struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Doc  json.RawMessage `json:"doc"`
}

type counter struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

type end struct {
	Lines  int64  `json:"lines"` // before it
	SHA256 string `json:"sha256"`
}

// backupVersion is the form of the lines; a newer one is refused.
const backupVersion = 1

// maxLine bounds a line of a backup; the longest is a node with its facts.
const maxLine = 16 << 20

// Backup writes everything as it was at one moment, while updates go on.
func (s *Store) Backup(ctx context.Context, w io.Writer, now time.Time) error {
	t, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer t.Rollback()
	out := &lineWriter{w: bufio.NewWriter(w), sum: sha256.New()}
	err = out.write(record{Head: &head{backupVersion, now.UTC()}})
	if err == nil {
		err = out.rows(&tx{ctx: ctx, t: t})
	}
	if err == nil {
		err = out.write(record{End: &end{out.lines, hex.EncodeToString(out.sum.Sum(nil))}})
	}
	if err = errors.Join(err, out.w.Flush()); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// saved is what a backup has of the tables, in the order it has it, and how a row becomes a record.
var saved = []struct {
	query string
	read  func(*sql.Rows) (record, error)
}{
	{"SELECT kind, name, doc FROM objects ORDER BY kind, name", func(rows *sql.Rows) (record, error) {
		var o object
		err := rows.Scan(&o.Kind, &o.Name, (*[]byte)(&o.Doc))
		return record{Object: &o}, err
	}},
	{"SELECT nodes.doc, facts.doc FROM nodes LEFT JOIN facts ON node = id ORDER BY num", func(rows *sql.Rows) (r record, err error) {
		var doc, facts []byte
		if err = rows.Scan(&doc, &facts); err == nil {
			r.Node, err = whole(doc, facts)
		}
		return r, err
	}},
	{"SELECT seq, doc FROM events ORDER BY seq", func(rows *sql.Rows) (r record, err error) {
		err = rows.Scan(&r.Seq, (*[]byte)(&r.Event))
		return r, err
	}},
	{"SELECT name, value FROM counters ORDER BY name", func(rows *sql.Rows) (record, error) {
		var c counter
		err := rows.Scan(&c.Name, &c.Value)
		return record{Counter: &c}, err
	}},
}

// whole is the document of a node with all of its facts, as broker.Record has it.
func whole(doc, facts []byte) ([]byte, error) {
	n, err := decodeNode(doc)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		*broker.Node
		Facts json.RawMessage `json:"facts,omitempty"`
	}{n, facts})
}

// A lineWriter writes records and sums them up.
type lineWriter struct {
	w     *bufio.Writer
	sum   hash.Hash
	lines int64
}

func (o *lineWriter) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	o.sum.Write(line)
	o.lines++
	_, err = o.w.Write(line)
	return err
}

func (o *lineWriter) rows(x *tx) error {
	for _, s := range saved {
		if err := o.table(x, s.query, s.read); err != nil {
			return err
		}
	}
	return nil
}

func (o *lineWriter) table(x *tx, query string, read func(*sql.Rows) (record, error)) error {
	rows, err := x.query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := read(rows)
		if err != nil {
			return err
		}
		if err := o.write(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Restore fills an empty store from a backup: all of it, or nothing when the backup is cut, changed or of a newer form.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	err := inTransaction(ctx, s.write, func(ctx context.Context, t *sql.Tx) error {
		if _, err := s.lock(ctx, t); err != nil {
			return err
		}
		x := &tx{ctx: ctx, t: t}
		if err := x.empty(); err != nil {
			return err
		}
		if err := x.restore(r); err != nil {
			return err
		}
		return s.advance(ctx, t)
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// empty refuses a store that a broker has used.
func (x *tx) empty() error {
	var rows int
	err := x.row("SELECT (SELECT count(*) FROM nodes) + (SELECT count(*) FROM objects) + (SELECT count(*) FROM events)").Scan(&rows)
	if err == nil && rows > 0 {
		err = errors.New("the store is not empty: restore into a new one, before a broker is started on it")
	}
	return err
}

// restore reads lines up to the end, which must fit.
func (x *tx) restore(from io.Reader) error {
	in, sum := bufio.NewReaderSize(from, 64<<10), sha256.New()
	for n := int64(1); ; n++ {
		line, err := readLine(in)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		var r record
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if r.End != nil {
			return r.End.check(n-1, sum, in)
		}
		sum.Write(line)
		if err := x.take(n, r); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxLine {
			return nil, fmt.Errorf("it has more than %d bytes: this is no backup", maxLine)
		}
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("the backup ends here, without its end: it is not whole")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func (e *end) check(lines int64, sum hash.Hash, rest *bufio.Reader) error {
	if got := hex.EncodeToString(sum.Sum(nil)); e.Lines != lines || e.SHA256 != got {
		return fmt.Errorf("%d lines with sha256 %s, and the end says %d with %s: the backup was changed", lines, got, e.Lines, e.SHA256)
	}
	if _, err := rest.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the end of the backup")
	}
	return nil
}

// take writes the record of line n.
func (x *tx) take(n int64, r record) error {
	switch {
	case (r.Head != nil) != (n == 1):
		return errors.New("no backup of muster: its first line, and no other, begins one")
	case r.Head != nil && (r.Head.Version < 1 || r.Head.Version > backupVersion):
		return fmt.Errorf("a backup of version %d, this muster reads up to %d: use a newer muster", r.Head.Version, backupVersion)
	case r.Head != nil:
		return nil
	case r.Object != nil:
		return x.PutObject(broker.Object{Kind: r.Object.Kind, Name: r.Object.Name, Doc: r.Object.Doc})
	case r.Node != nil:
		var node struct{ ID string }
		if err := json.Unmarshal(r.Node, &node); err != nil || node.ID == "" {
			return errors.Join(errors.New("no node"), err)
		}
		if _, err := x.Node(node.ID); !errors.Is(err, broker.ErrNotFound) {
			return errors.Join(fmt.Errorf("node %q is in it twice", node.ID), err)
		}
		return x.takeNode(r.Node, nil)
	case r.Event != nil:
		return x.takeEvent(r.Seq, r.Event)
	case r.Counter != nil:
		_, err := x.exec("INSERT INTO counters(name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", r.Counter.Name, r.Counter.Value)
		return err
	}
	return errors.New("an empty record")
}

func (x *tx) takeEvent(seq int64, doc []byte) error {
	var e broker.Event
	if err := json.Unmarshal(doc, &e); err != nil || seq <= 0 {
		return errors.Join(fmt.Errorf("no event with seq %d", seq), err)
	}
	_, err := x.exec("INSERT INTO events(seq, node, kind, at, doc) VALUES ($1, $2, $3, $4, $5)", seq, e.Node, e.Kind, e.Time.UnixMilli(), doc)
	return err
}
