package store

import (
	"fmt"

	"muster/broker"
)

// A key is one value that a node is found by.
type key struct {
	kind  broker.KeyKind
	value string
}

func keysOf(of map[broker.KeyKind][]string) map[key]bool {
	all := map[key]bool{}
	for kind, values := range of {
		for _, v := range values {
			all[key{kind, v}] = true
		}
	}
	return all
}

// putKeys writes the keys that changed: most check-ins change none.
func (x *tx) putKeys(n *broker.Node) error {
	own, shared := keysOf(n.Indexed()), keysOf(n.Shared())
	had, err := x.keys(n.ID)
	if err != nil {
		return err
	}
	for k := range had {
		if own[k] || shared[k] {
			continue
		}
		if err := x.dropKey(k, n.ID); err != nil {
			return err
		}
	}
	for k := range shared {
		if had[k] {
			continue
		}
		if _, err := x.exec("INSERT INTO shared_keys(kind, value, node) VALUES ($1, $2, $3)", string(k.kind), k.value, n.ID); err != nil {
			return err
		}
	}
	for k := range own {
		if had[k] {
			continue
		}
		if err := x.own(k, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// own makes a key the node's, unless it is another's.
func (x *tx) own(k key, id string) error {
	var owner string
	err := x.row("INSERT INTO keys(kind, value, node) VALUES ($1, $2, $3) ON CONFLICT (kind, value) DO UPDATE SET node = keys.node RETURNING node",
		string(k.kind), k.value, id).Scan(&owner)
	if err != nil {
		return err
	}
	if owner != id {
		return fmt.Errorf("%s %s belongs to node %s: %w", k.kind, k.value, owner, broker.ErrConflict)
	}
	return nil
}

func (x *tx) keys(id string) (map[key]bool, error) {
	rows, err := x.query("SELECT kind, value FROM keys WHERE node = $1 UNION ALL SELECT kind, value FROM shared_keys WHERE node = $1", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[key]bool{}
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.kind, &k.value); err != nil {
			return nil, err
		}
		all[k] = true
	}
	return all, rows.Err()
}

func (x *tx) dropKey(k key, id string) error {
	for _, table := range []string{"keys", "shared_keys"} {
		if _, err := x.exec("DELETE FROM "+table+" WHERE kind = $1 AND value = $2 AND node = $3", string(k.kind), k.value, id); err != nil {
			return err
		}
	}
	return nil
}

func (x *tx) dropKeys(id string) error {
	_, err := x.exec("DELETE FROM keys WHERE node = $1", id)
	if err == nil {
		_, err = x.exec("DELETE FROM shared_keys WHERE node = $1", id)
	}
	return err
}
