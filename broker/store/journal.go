package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"muster/broker"
)

func (x *tx) Append(e *broker.Event) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := x.row("INSERT INTO events(node, kind, at, doc) VALUES ($1, $2, $3, $4) RETURNING seq", e.Node, e.Kind, e.Time.UnixMilli(), doc).Scan(&e.Seq); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	x.appended.add(e.Seq)
	return nil
}

func (x *tx) Events(f broker.EventFilter) ([]broker.Event, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	query, args := "SELECT seq, doc FROM events WHERE seq > $1 ORDER BY seq LIMIT $2", []any{f.After, f.Limit}
	if f.Node != "" {
		query, args = "SELECT seq, doc FROM events WHERE node = $1 AND seq > $2 ORDER BY seq LIMIT $3", []any{f.Node, f.After, f.Limit}
	}
	rows, err := x.query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	var events []broker.Event
	for rows.Next() {
		var seq int64
		var doc []byte
		if err := rows.Scan(&seq, &doc); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		var e broker.Event
		if err := json.Unmarshal(doc, &e); err != nil {
			return nil, fmt.Errorf("read event %d: %w", seq, err)
		}
		e.Seq = seq
		events = append(events, e)
	}
	return events, rows.Err()
}

func (x *tx) Forget(after int64, limit int, before time.Time) (next int64, gone int, err error) {
	var oldest sql.NullInt64
	err = x.row("SELECT coalesce(max(seq), 0), min(at) FROM (SELECT seq, at FROM events WHERE seq > $1 ORDER BY seq LIMIT $2) AS part", after, limit).Scan(&next, &oldest)
	if err != nil {
		return 0, 0, fmt.Errorf("forget events: %w", err)
	}
	if !oldest.Valid || oldest.Int64 >= before.UnixMilli() {
		return 0, 0, nil
	}
	r, err := x.exec(`DELETE FROM events WHERE seq > $1 AND seq <= $2 AND at < $3 AND (
		EXISTS (SELECT 1 FROM events later WHERE later.node = events.node AND later.kind = events.kind AND later.seq > events.seq)
		OR node != '' AND NOT EXISTS (SELECT 1 FROM nodes WHERE id = events.node))`, after, next, before.UnixMilli())
	if err != nil {
		return 0, 0, fmt.Errorf("forget events: %w", err)
	}
	n, err := r.RowsAffected()
	return next, int(n), err
}
