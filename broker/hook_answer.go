package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"muster/boot"
)

// hookAnswer is what a program outside asks for: metadata of the node. What else it says is warned of.
type hookAnswer struct {
	update map[string]string
	remove []string
	warn   []string
}

// Bounds of metadata.
const (
	maxMeta      = 256  // keys of one node
	maxMetaValue = 1024 // bytes
)

var metaKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,62}$`)

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
	a.update = map[string]string{}
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // 20261127001 is no 2.0261127001e+10
	if d.Decode(&values) != nil || values == nil {
		a.warnf("%q: want an object", "node.metadata.update")
		return
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		text, err := metaText(k, values[k])
		if err != nil {
			a.warnf("%q: %s", boot.Printable("node.metadata.update."+k), err)
			continue
		}
		a.update[k] = text
	}
}

// metaText is a value of metadata as text.
func metaText(k string, v any) (string, error) {
	if !metaKey.MatchString(k) {
		return "", errors.New("want a letter first, then letters, digits, dot, dash, underscore, at most 63")
	}
	switch v.(type) {
	case string, json.Number, bool:
	default:
		return "", errors.New("want a string, number or boolean")
	}
	text := fmt.Sprint(v)
	if len(text) > maxMetaValue || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", fmt.Errorf("want one line of at most %d bytes", maxMetaValue)
	}
	return text, nil
}

func (a *hookAnswer) readRemove(raw json.RawMessage) {
	if json.Unmarshal(raw, &a.remove) != nil {
		a.remove = nil
		a.warnf("%q: want a list of names", "node.metadata.remove")
	}
}

// applyTo changes the node's metadata and says what changed, "" when nothing did.
func (a *hookAnswer) applyTo(n *Node) string {
	var words []string
	meta := maps.Clone(n.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	for _, k := range slices.Compact(slices.Sorted(slices.Values(a.remove))) {
		if _, ok := meta[k]; ok {
			delete(meta, k)
			words = append(words, "removed "+k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(a.update)) {
		was, ok := meta[k]
		switch {
		case ok && was == a.update[k]:
			continue
		case !ok && len(meta) >= maxMeta:
			a.warnf("%q: the node has %d values of metadata, no more are taken", k, maxMeta)
			continue
		}
		meta[k] = a.update[k]
		words = append(words, "set "+k)
	}
	n.Meta = meta
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
	events := []Event{e}
	if n.Facts != nil {
		if err := b.retag(tx, n, &events); err != nil {
			return err
		}
	}
	bound, err := b.bind(tx, n)
	if err != nil {
		return err
	}
	return b.change(tx, n, append(events, bound...)...)
}
