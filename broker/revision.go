package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
)

// Kinds lists the kinds of objects.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// IsKind says that operators write objects of a kind. What the broker keeps for itself, such as how far a hook has come,
// is an object too, and changes without another catalog.
func IsKind(kind string) bool {
	_, ok := kinds[kind]
	return ok
}

func kindWords() string { return strings.Join(Kinds(), ", ") }

// Rev names the form that an object has: another form has another name. The letter keeps YAML from seeing a number.
func (o Object) Rev() string {
	sum := sha256.Sum256(o.Doc)
	return "r" + hex.EncodeToString(sum[:6])
}

// takeRev takes the field rev out of a document as an operator wrote it: the form that he read, and means to change.
func takeRev(doc map[string]any) (string, error) {
	v, said := doc["rev"]
	rev, ok := v.(string)
	if said && (!ok || rev == "") {
		return "", errors.New("field rev: want the text that the server gave")
	}
	delete(doc, "rev")
	return rev, nil
}

// outdated says that the object was changed by somebody else since it was read.
func (o Object) outdated(now Object) error {
	if now.Doc == nil {
		return conflict("%s %s: you changed revision %s, and it was deleted since: leave rev out to make it anew", o.Kind, o.Name, o.Was)
	}
	return conflict("%s %s: you changed revision %s, and the server has revision %s by now: get it again, and put your change into that", o.Kind, o.Name, o.Was, now.Rev())
}

// shipped says where to look for what comes with muster and is no object.
var shipped = map[string]string{KindTask: " of your own (muster task show NAME knows those that come with muster)"}

// Object gives one object.
func (b *Broker) Object(ctx context.Context, kind, name string) (o Object, err error) {
	if !IsKind(kind) {
		return o, invalid("kind %q: want one of %s", kind, kindWords())
	}
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		if o, err = tx.Object(kind, name); errors.Is(err, ErrNotFound) {
			return notFound("there is no %s %q%s", kind, name, shipped[kind])
		}
		return err
	})
	return o, err
}

// maxTold is the most of an object's form that an event tells.
const maxTold = 1000

// toldKinds are the kinds whose forms events tell: those that have no secrets.
var toldKinds = []string{KindTag, KindPolicy, KindRepo}

// changed is said, with what an object was and what it is, where that is short.
func (b *Broker) changed(ctx context.Context, who, text string, old, now Object) Event {
	e := b.said(ctx, who, text)
	if !slices.Contains(toldKinds, now.Kind) {
		return e
	}
	for name, doc := range map[string][]byte{"old": old.Doc, "new": now.Doc} {
		if len(doc) == 0 || len(doc) > maxTold {
			continue
		}
		if e.Data == nil {
			e.Data = map[string]string{}
		}
		e.Data[name] = string(doc)
	}
	return e
}
