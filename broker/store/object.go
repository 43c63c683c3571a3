package store

import (
	"fmt"

	"muster/broker"
)

func (x *tx) Object(kind, name string) (broker.Object, error) {
	o := broker.Object{Kind: kind, Name: name}
	if err := x.row("SELECT doc FROM objects WHERE kind = $1 AND name = $2", kind, name).Scan(&o.Doc); err != nil {
		return o, missing(kind+" "+name, err)
	}
	return o, nil
}

func (x *tx) Objects(kind string) ([]broker.Object, error) {
	rows, err := x.query("SELECT name, doc FROM objects WHERE kind = $1 ORDER BY name", kind)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	defer rows.Close()
	var list []broker.Object
	for rows.Next() {
		o := broker.Object{Kind: kind}
		if err := rows.Scan(&o.Name, &o.Doc); err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		list = append(list, o)
	}
	return list, rows.Err()
}

func (x *tx) PutObject(o broker.Object) error {
	_, err := x.exec("INSERT INTO objects(kind, name, doc) VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO UPDATE SET doc = excluded.doc",
		o.Kind, o.Name, o.Doc)
	if err == nil {
		err = x.revise(o.Kind)
	}
	if err != nil {
		return fmt.Errorf("write %s %s: %w", o.Kind, o.Name, err)
	}
	return nil
}

func (x *tx) DeleteObject(kind, name string) (err error) {
	if err = x.deleteOne(kind+" "+name, "DELETE FROM objects WHERE kind = $1 AND name = $2", kind, name); err == nil {
		err = x.revise(kind)
	}
	return err
}

// revise gives the objects another revision, when one of a kind that counts has changed.
func (x *tx) revise(kind string) (err error) {
	if broker.IsKind(kind) {
		x.revision, err = x.Counter(objects)
	}
	return err
}

// objects is the counter of what changed in them. Its row is the one that writers lock.
const objects = "objects"

func (x *tx) Revision() (int64, error) {
	if x.revision < 0 {
		if err := x.row("SELECT value FROM counters WHERE name = $1", objects).Scan(&x.revision); err != nil {
			return 0, fmt.Errorf("read the revision of the objects: %w", err)
		}
	}
	return x.revision, nil
}
