package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"muster/boot"
)

// hookAnswer is what a program outside asks for: metadata of the node. What else it says is warned of.
type hookAnswer struct {
	update map[string]any
	remove []string
	warn   []string
}

// readHookAnswer takes {"node": {"metadata": {"update": {"rack": "b7"}, "remove": ["old"]}}}. It never fails: the
// message was taken, whatever is wrong with the answer.
func readHookAnswer(body []byte) hookAnswer {
	var a hookAnswer
	if len(bytes.TrimSpace(body)) == 0 {
		return a
	}
	if !json.Valid(body) {
		a.warnf("the answer is no JSON: %s", boot.Printable(string(body[:min(len(body), 80)])))
		return a
	}
	a.object(body, "", map[string]func(json.RawMessage){"node": func(node json.RawMessage) {
		a.object(node, "node.", map[string]func(json.RawMessage){"metadata": func(meta json.RawMessage) {
			a.object(meta, "node.metadata.", map[string]func(json.RawMessage){"update": a.readUpdate, "remove": a.readRemove})
		}})
	}})
	return a
}

func (a *hookAnswer) warnf(format string, args ...any) {
	if len(a.warn) < 8 {
		a.warn = append(a.warn, fmt.Sprintf(format, args...))
	}
}

// object gives each member to its reader, and warns of the others.
func (a *hookAnswer) object(raw json.RawMessage, path string, readers map[string]func(json.RawMessage)) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		a.warnf("%q: want an object", strings.TrimSuffix(path, "."))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(members)) {
		if read, ok := readers[k]; ok {
			read(members[k])
			continue
		}
		a.warnf("%q is not understood", boot.Printable(path+k))
	}
}

func (a *hookAnswer) readUpdate(raw json.RawMessage) {
	a.update = map[string]any{}
	var values map[string]any
	if json.Unmarshal(raw, &values) != nil || values == nil {
		a.warnf("%q: want an object", "node.metadata.update")
		return
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		err := checkMeta(map[string]any{k: values[k]})
		if err == nil && !oneLined(values[k]) {
			err = invalid("meta.%s: want text of one line, without control characters", k)
		}
		if err != nil {
			a.warnf("%q: %s", boot.Printable("node.metadata.update."+k), err)
			continue
		}
		a.update[k] = values[k]
	}
}

// oneLined says that a value holds nothing that a terminal obeys.
func oneLined(v any) bool {
	switch v := v.(type) {
	case string:
		return boot.Printable(v) == v
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !oneLined(e) })
	}
	return true
}

func (a *hookAnswer) readRemove(raw json.RawMessage) {
	if json.Unmarshal(raw, &a.remove) != nil {
		a.remove = nil
		a.warnf("%q: want a list of names", "node.metadata.remove")
	}
}

// applyTo changes the node's metadata, as far as its bounds allow, and says what changed, "" when nothing did. What is
// both set and removed is set.
func (a *hookAnswer) applyTo(n *Node) string {
	var words, remove []string
	for _, k := range slices.Compact(slices.Sorted(slices.Values(a.remove))) {
		_, has := n.Meta[k]
		if _, stays := a.update[k]; has && !stays {
			remove = append(remove, k)
			words = append(words, "removed "+k)
		}
	}
	set, room := map[string]any{}, maxMetaKeys-len(n.Meta)+len(remove)
	for _, k := range slices.Sorted(maps.Keys(a.update)) {
		was, has := n.Meta[k]
		switch {
		case has && reflect.DeepEqual(was, a.update[k]):
			continue
		case !has && room <= 0:
			a.warnf("%q: the node has %d values of metadata, no more are taken", k, maxMetaKeys)
			continue
		case !has:
			room--
		}
		set[k] = a.update[k]
		words = append(words, "set "+k)
	}
	if err := n.note(set, remove); err != nil {
		a.warnf("the node's metadata stays as it is: %s", err)
		return ""
	}
	return strings.Join(words, ", ")
}

// answered does what a hook's answer asks for, in the transaction that settles the message.
func (b *Broker) answered(tx Tx, hook string, e Event, a hookAnswer) (touched []string, err error) {
	who := "hook " + hook
	n, err := nodeOf(tx, e)
	if err != nil {
		return nil, err
	}
	switch {
	case n == nil && len(a.update)+len(a.remove) > 0:
		a.warnf("there is no node %s any more to have metadata", e.Node)
	case n != nil:
		if changed := a.applyTo(n); changed != "" {
			if err := b.remeta(tx, n, Event{Kind: EventMetadata, Who: who, Text: changed}); err != nil {
				return nil, err
			}
			touched = []string{n.ID}
		}
	}
	if len(a.warn) == 0 {
		return touched, nil
	}
	return touched, tx.Append(&Event{Time: b.now(), Node: e.Node, Kind: EventHookWarning, Who: who, Text: strings.Join(a.warn, "; ")})
}

// remeta writes a node whose metadata changed: its tags may be others, and a policy may take it.
func (b *Broker) remeta(tx Tx, n *Node, e Event) error {
	events, err := b.ask(tx, n)
	if err != nil {
		return err
	}
	return b.change(tx, n, append([]Event{e}, events...)...)
}
