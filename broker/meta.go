package broker

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
)

// Bounds of what operators, policies and hooks may note on one node.
const (
	maxMetaKeys  = 200
	maxMetaBytes = 4096 // of one value, as JSON
)

var metaKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// checkMeta takes values as rules read them: strings, numbers, booleans, and lists of these.
func checkMeta(meta map[string]any) error {
	if len(meta) > maxMetaKeys {
		return invalid("meta has %d keys; at most %d", len(meta), maxMetaKeys)
	}
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if !metaKey.MatchString(key) {
			return invalid("meta key %q: want a letter first, then letters, digits, dash and underscore, at most 64", key)
		}
		if !plainValue(meta[key], true) {
			return invalid("meta.%s: want a string, a number, a boolean, or a list of these", key)
		}
		if doc, err := json.Marshal(meta[key]); err != nil || len(doc) > maxMetaBytes {
			return invalid("meta.%s is longer than %d bytes", key, maxMetaBytes)
		}
	}
	return nil
}

func plainValue(v any, lists bool) bool {
	switch v := v.(type) {
	case string, bool, float64, json.Number, int, int64, uint64:
		return true
	case []any:
		return lists && !slices.ContainsFunc(v, func(e any) bool { return !plainValue(e, false) })
	}
	return false
}

// note sets and removes metadata of a node; whether that leaves it within its bounds is checked.
func (n *Node) note(set map[string]any, remove []string) error {
	meta := maps.Clone(n.Meta)
	if meta == nil {
		meta = map[string]any{}
	}
	maps.Copy(meta, set)
	for _, key := range remove {
		delete(meta, key)
	}
	if err := checkMeta(meta); err != nil {
		return err
	}
	n.Meta = meta
	return nil
}

// inherit gives a node what it does not have yet.
func (n *Node) inherit(meta map[string]any) error {
	missing := maps.Clone(meta)
	maps.DeleteFunc(missing, func(key string, _ any) bool { _, has := n.Meta[key]; return has })
	return n.note(missing, nil)
}
